//! Lines 44 to 48: HTTP.

use hyper::Method;

use super::{Evidence, Verdict};
use crate::support::http::{Exchange, Purpose};

/// Draft B.1.
pub(super) fn line_44_http2_over_tls13(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let Some(security) = verdict.some(evidence.security.as_ref(), "a secure connection") else {
        return verdict;
    };
    verdict.require(security.protocol == "TLSv1_3", || security.protocol.clone());
    verdict.require(security.alpn == "h2", || {
        format!("ALPN {:?}", security.alpn)
    });
    verdict.require(
        security.max_streams.is_none_or(|streams| streams >= 100),
        || format!("{:?} streams", security.max_streams),
    );
    verdict
}

/// Apple 10.1.
pub(super) fn line_45_gzip_for_playlists_only(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let recording = &evidence.recording;
    for probe in some_probe(&mut verdict, evidence, "gzip") {
        verdict.require(
            probe.ok() && probe.header("content-encoding") == "gzip",
            || format!("{}: {:?}", probe.target, probe.header("content-encoding")),
        );
        verdict.require(probe.text().starts_with("#EXTM3U"), || {
            format!("{}: unpacks to something else", probe.target)
        });
    }
    for exchange in recording
        .exchanges
        .iter()
        .filter(|exchange| is_playlist(exchange) && exchange.ok())
    {
        let varies = exchange
            .header("vary")
            .to_lowercase()
            .contains("accept-encoding");
        verdict.require(varies, || {
            format!("{}: Vary {:?}", exchange.target, exchange.header("vary"))
        });
    }
    for probe in some_probe(&mut verdict, evidence, "gzip-media") {
        verdict.require(
            probe.ok() && probe.header("content-encoding").is_empty(),
            || format!("{}: {:?}", probe.target, probe.header("content-encoding")),
        );
    }
    verdict
}

/// Draft B.1.
pub(super) fn line_46_cache_control(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let recording = &evidence.recording;
    let target = recording
        .played()
        .find_map(|rendition| Some(rendition.last()?.target))
        .unwrap_or(0);
    for exchange in &recording.exchanges {
        let (control, age) = (exchange.header("cache-control"), exchange.max_age());
        let fault = || {
            format!(
                "{}: {} Cache-Control {control:?}",
                exchange.target, exchange.status
            )
        };
        let never = control.contains("no-store");
        let blocking = exchange.query("_HLS_msn").is_some();
        match exchange.purpose {
            Purpose::Playlist | Purpose::Delta if blocking && exchange.ok() => {
                verdict.require(age == Some(6 * target), fault)
            }
            Purpose::Playlist
                if !blocking && exchange.ok() && !exchange.text().contains("#EXT-X-ENDLIST") =>
            {
                verdict.require(age.is_some_and(|age| age <= target.div_ceil(2)), fault)
            }
            Purpose::Probe("segment-too-far" | "part-too-far" | "stalled") => {
                verdict.require(never || age.is_some_and(|age| age <= 4 * target), fault)
            }
            Purpose::Init | Purpose::Part | Purpose::Segment | Purpose::Hint if exchange.ok() => {
                let long = age.is_some_and(|age| age >= 6 * target)
                    && control.contains("immutable")
                    && !control.contains("private");
                verdict.require(long, fault);
            }
            Purpose::Hint | Purpose::Probe("missing") => {
                verdict.require(never || age.is_some_and(|age| age <= target), fault)
            }
            _ => {}
        }
    }
    some_probe(&mut verdict, evidence, "missing");
    some_probe(&mut verdict, evidence, "segment-too-far");
    verdict
}

/// Every response, errors too.
pub(super) fn line_47_cors_everywhere(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for exchange in evidence
        .recording
        .exchanges
        .iter()
        .filter(|exchange| exchange.status != 0)
    {
        let header = |name: &str| exchange.header(name).to_lowercase();
        verdict.require(header("access-control-allow-origin") == "*", || {
            format!("{}: {} without CORS", exchange.target, exchange.status)
        });
        if exchange.method != Method::OPTIONS {
            let exposed = header("access-control-expose-headers");
            let all = ["date", "age", "content-length", "etag"]
                .iter()
                .all(|name| exposed.split(',').any(|one| one.trim() == *name));
            verdict.require(all || exposed == "*", || {
                format!("{}: exposes {exposed:?}", exchange.target)
            });
        }
    }
    for probe in some_probe(&mut verdict, evidence, "options") {
        let allowed = probe.header("access-control-allow-headers").to_lowercase();
        verdict.require(
            matches!(probe.status, 200 | 204) && (allowed.contains("range") || allowed == "*"),
            || format!("{}: {} allows {allowed:?}", probe.target, probe.status),
        );
        let methods = probe.header("access-control-allow-methods").to_uppercase();
        verdict.require(methods.contains("GET") && methods.contains("HEAD"), || {
            format!("{}: methods {methods:?}", probe.target)
        });
    }
    verdict
}

/// Apple 8.18, draft B.1, RFC 9110.
pub(super) fn line_48_finished_media_is_a_good_file(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for exchange in &evidence.recording.exchanges {
        verdict.require(!matches!(exchange.status, 300..=303 | 305..=399), || {
            format!("{} redirects", exchange.target)
        });
        let type_of = exchange.header("content-type").to_lowercase();
        match exchange.purpose {
            Purpose::Init | Purpose::Part | Purpose::Segment if exchange.ok() => {
                verdict.require(!exchange.header("etag").is_empty(), || {
                    format!("{} has no ETag", exchange.target)
                });
                verdict.require(
                    type_of.starts_with("video/mp4") || type_of.starts_with("audio/mp4"),
                    || format!("{} is {type_of:?}", exchange.target),
                );
            }
            Purpose::Playlist | Purpose::Multivariant if exchange.ok() => {
                verdict.require(type_of.starts_with("application/vnd.apple.mpegurl"), || {
                    format!("{} is {type_of:?}", exchange.target)
                });
            }
            _ => {}
        }
    }
    let whole = |probe: &Exchange| {
        evidence
            .recording
            .object(probe.path())
            .cloned()
            .unwrap_or_default()
    };
    for probe in some_probe(&mut verdict, evidence, "head") {
        let length = probe.header("content-length") == whole(probe).len().to_string();
        verdict.require(probe.ok() && probe.body.is_empty() && length, || {
            format!("HEAD {}: {}", probe.target, probe.status)
        });
    }
    for probe in some_probe(&mut verdict, evidence, "range") {
        let whole = whole(probe);
        let said = probe.header("content-range") == format!("bytes 100-299/{}", whole.len());
        verdict.require(
            probe.status == 206 && said && whole.get(100..300) == Some(&probe.body[..]),
            || {
                format!(
                    "a range of {}: {} {:?}",
                    probe.target,
                    probe.status,
                    probe.header("content-range")
                )
            },
        );
    }
    for probe in some_probe(&mut verdict, evidence, "range-of-the-end") {
        let whole = whole(probe);
        let good = whole
            .len()
            .checked_sub(64)
            .and_then(|start| whole.get(start..))
            == Some(&probe.body[..]);
        verdict.require(probe.status == 206 && good, || {
            format!("the last bytes of {}: {}", probe.target, probe.status)
        });
    }
    for probe in some_probe(&mut verdict, evidence, "range-outside") {
        verdict.require(probe.status == 416, || {
            format!("a range outside {}: {}", probe.target, probe.status)
        });
    }
    for probe in some_probe(&mut verdict, evidence, "not-modified") {
        verdict.require(probe.status == 304 && probe.body.is_empty(), || {
            format!("{} with its ETag: {}", probe.target, probe.status)
        });
    }
    verdict
}

fn is_playlist(exchange: &Exchange) -> bool {
    matches!(
        exchange.purpose,
        Purpose::Playlist | Purpose::Delta | Purpose::Multivariant
    )
}

fn some_probe<'a>(
    verdict: &mut Verdict,
    evidence: &'a Evidence,
    name: &'static str,
) -> Vec<&'a Exchange> {
    let found: Vec<_> = evidence.recording.probes(name).collect();
    verdict.require(!found.is_empty(), || format!("nobody asked: {name}"));
    found
}
