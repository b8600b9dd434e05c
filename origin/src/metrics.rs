//! What the origin counts. Every label has a fixed set of values.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::StatusCode;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::http::gate::Full;

/// Which kind of resource a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Multivariant,
    Playlist,
    Iframes,
    Media,
    /// Below `/live/`, but nothing that could be there.
    Live,
    Api,
    Whip,
    Page,
    Other,
}

impl Route {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Multivariant, "multivariant"),
        (Self::Playlist, "playlist"),
        (Self::Iframes, "iframes"),
        (Self::Media, "media"),
        (Self::Live, "live"),
        (Self::Api, "api"),
        (Self::Whip, "whip"),
        (Self::Page, "page"),
        (Self::Other, "other"),
    ];

    /// The route of a path that a router answers.
    pub(crate) fn of(path: &str) -> Self {
        match path.split('/').nth(1) {
            Some("api") => Self::Api,
            Some("whip") => Self::Whip,
            Some("" | "watch" | "assets") => Self::Page,
            _ => Self::Other,
        }
    }
}

/// The codes that are told apart; all others count as `other`.
const CODES: [u16; 24] = [
    101, 200, 201, 202, 204, 206, 301, 302, 304, 400, 401, 403, 404, 405, 406, 409, 411, 413, 415,
    416, 422, 429, 500, 503,
];

/// The origin's metrics.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: IntCounterVec,
    // Looked up once: a request must not hash labels.
    cells: Arc<[[OnceLock<IntCounter>; CODES.len() + 1]; Route::ALL.len()]>,
    pub(crate) bytes: IntCounter,
    pub(crate) held: IntGauge,
    pub(crate) panics: IntCounter,
    pub(crate) stream_panics: IntCounter,
    pub(crate) accept_errors: IntCounter,
    refused: IntCounterVec,
    cut: IntCounterVec,
    part_delay: Histogram,
}

impl Metrics {
    /// # Panics
    /// When the registry already has a metric of one of these names: there is one origin per registry.
    pub(crate) fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("the name is valid");
            registry
                .register(Box::new(counter.clone()))
                .expect("one origin registers once");
            counter
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters =
                IntCounterVec::new(Opts::new(name, help), labels).expect("the names are valid");
            registry
                .register(Box::new(counters.clone()))
                .expect("one origin registers once");
            counters
        };
        let held = IntGauge::new(
            "headwater_http_held_requests",
            "Requests held until media is there",
        )
        .expect("the name is valid");
        registry
            .register(Box::new(held.clone()))
            .expect("one origin registers once");
        let buckets = [
            0.05, 0.1, 0.15, 0.2, 0.25, 0.265, 0.28, 0.31, 0.35, 0.4, 0.45, 0.5, 0.6, 0.8, 1.0,
            1.5, 2.0, 4.0, 8.0,
        ];
        let part_delay = HistogramOpts::new(
            "headwater_part_publish_delay_seconds",
            "From the arrival of a part's first access unit, by the stream's clock, to the listing of the part",
        );
        let part_delay =
            Histogram::with_opts(part_delay.buckets(buckets.into())).expect("the name is valid");
        registry
            .register(Box::new(part_delay.clone()))
            .expect("one origin registers once");
        Self {
            requests: counters(
                "headwater_http_requests_total",
                "Requests answered",
                &["route", "code"],
            ),
            cells: Arc::new(std::array::from_fn(|_| {
                std::array::from_fn(|_| OnceLock::new())
            })),
            bytes: counter(
                "headwater_http_bytes_total",
                "Bytes written to viewers' connections",
            ),
            held,
            panics: counter(
                "headwater_http_panics_total",
                "Connections ended by a bug in answering a request",
            ),
            stream_panics: counter(
                "headwater_origin_stream_panics_total",
                "Streams ended by a bug in packaging",
            ),
            accept_errors: counter(
                "headwater_http_accept_errors_total",
                "Failures to accept a connection",
            ),
            refused: counters(
                "headwater_http_refused_connections_total",
                "Connections closed at once since a limit was reached",
                &["limit"],
            ),
            cut: counters(
                "headwater_http_cut_connections_total",
                "Connections cut for taking too long or abandoning too much",
                &["reason"],
            ),
            part_delay,
        }
    }

    pub(crate) fn answered(&self, route: Route, status: StatusCode) {
        let code = CODES
            .iter()
            .position(|code| *code == status.as_u16())
            .unwrap_or(CODES.len());
        let counter = self.cells[route as usize][code].get_or_init(|| {
            let (_, name) = Route::ALL[route as usize];
            let label = CODES
                .get(code)
                .map_or_else(|| "other".to_owned(), u16::to_string);
            self.requests.with_label_values(&[name, &label])
        });
        counter.inc();
    }

    pub(crate) fn refused(&self, full: Full) {
        let limit = match full {
            Full::Address => "address",
            Full::Server => "server",
        };
        self.refused.with_label_values(&[limit]).inc();
    }

    pub(crate) fn cut(&self, reason: &str) {
        self.cut.with_label_values(&[reason]).inc();
    }

    pub(crate) fn part_listed(&self, delay: Duration) {
        self.part_delay.observe(delay.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_its_own_name() {
        for (place, (route, _)) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, place);
        }
    }

    #[test]
    fn labels_are_bounded_whatever_is_asked() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry);
        for path in [
            "/api/v1/streams",
            "/watch/x",
            "/",
            "/whip",
            "/../etc",
            "nonsense",
            "/%00",
        ] {
            for code in 100..1000 {
                metrics.answered(Route::of(path), StatusCode::from_u16(code).unwrap());
            }
        }
        let families = registry.gather();
        let family = families
            .iter()
            .find(|family| family.name() == "headwater_http_requests_total")
            .unwrap();
        assert_eq!(family.get_metric().len(), 4 * (CODES.len() + 1));
    }
}
