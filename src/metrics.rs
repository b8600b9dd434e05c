//! The metrics of publishes and their transcoders. Those of viewers are the origin's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ingest::Snapshot;
use media::StreamId;
use prometheus::{Counter, GaugeVec, IntCounterVec, IntGauge, Opts, Registry};

use crate::events::{Log, What};
use crate::sessions::Session;

/// Registered once; clones count into the same series.
#[derive(Clone)]
pub(crate) struct Metrics {
    streams: IntGauge,
    ingest_bytes: IntCounterVec,
    ingest_dropped: IntCounterVec,
    repairs: IntCounterVec,
    restarts: IntCounterVec,
    worker_cpu: Counter,
    realtime: GaugeVec,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok::<_, prometheus::Error>(metric)
        };
        let metrics = Self {
            streams: IntGauge::new("headwater_streams", "Streams that are live now")?,
            ingest_bytes: counters(
                "headwater_ingest_bytes_total",
                "Bytes received from encoders",
                &["protocol"],
            )?,
            ingest_dropped: counters(
                "headwater_ingest_dropped_units_total",
                "Access units received but not passed on",
                &["reason"],
            )?,
            repairs: counters(
                "headwater_timeline_repairs_total",
                "Repairs of encoders' timestamps",
                &["kind"],
            )?,
            restarts: counters(
                "headwater_worker_restarts_total",
                "Worker processes replaced",
                &["reason"],
            )?,
            worker_cpu: Counter::new(
                "headwater_worker_cpu_seconds_total",
                "CPU time of worker processes",
            )?,
            realtime: GaugeVec::new(
                Opts::new(
                    "headwater_encode_realtime_ratio",
                    "Media time encoded over the time it took; below 1 is late",
                ),
                &["stream"],
            )?,
        };
        registry.register(Box::new(metrics.streams.clone()))?;
        registry.register(Box::new(metrics.worker_cpu.clone()))?;
        registry.register(Box::new(metrics.realtime.clone()))?;
        Ok(metrics)
    }
}

/// Takes over one session's growing counts, and notes in the log what changed about its transcoder.
pub(crate) struct Sampler {
    metrics: Metrics,
    log: Arc<Log>,
    stream: StreamId,
    session: Arc<Session>,
    /// The counts at the last sample.
    bytes: u64,
    drops: BTreeMap<&'static str, u64>,
    repairs: BTreeMap<&'static str, u64>,
    restarts: BTreeMap<&'static str, u64>,
    cpu: Duration,
    rungs: Vec<String>,
}

impl Sampler {
    pub(crate) fn new(
        metrics: &Metrics,
        log: &Arc<Log>,
        stream: &StreamId,
        session: Arc<Session>,
    ) -> Self {
        metrics.streams.inc();
        Self {
            metrics: metrics.clone(),
            log: log.clone(),
            stream: stream.clone(),
            session,
            bytes: 0,
            drops: BTreeMap::new(),
            repairs: BTreeMap::new(),
            restarts: BTreeMap::new(),
            cpu: Duration::ZERO,
            rungs: Vec::new(),
        }
    }

    pub(crate) fn sample(&mut self, ingest: &Snapshot) {
        let metrics = &self.metrics;
        let bytes = metrics
            .ingest_bytes
            .with_label_values(&[self.session.protocol]);
        bytes.inc_by(ingest.bytes.saturating_sub(self.bytes));
        self.bytes = ingest.bytes;
        let drops = ingest
            .drops
            .iter()
            .map(|(reason, count)| (reason.as_str(), count));
        grow(&metrics.ingest_dropped, &mut self.drops, drops);
        let repairs = ingest
            .repairs
            .iter()
            .map(|(kind, count)| (kind.as_str(), count));
        grow(&metrics.repairs, &mut self.repairs, repairs);

        let status = self.session.transcoder.borrow().clone();
        let restarts = status
            .restarts
            .iter()
            .map(|(reason, count)| (reason.as_str(), *count));
        for reason in grow(&metrics.restarts, &mut self.restarts, restarts) {
            let what = What::WorkerRestarted {
                reason: reason.to_owned(),
            };
            self.log.append(&self.stream, Some(&self.session.id), what);
        }
        metrics
            .worker_cpu
            .inc_by(status.cpu.saturating_sub(self.cpu).as_secs_f64());
        self.cpu = self.cpu.max(status.cpu);
        if let Some(ratio) = status.realtime_ratio {
            metrics
                .realtime
                .with_label_values(&[self.stream.as_str()])
                .set(ratio);
        }
        let rungs: Vec<String> = status
            .rungs
            .iter()
            .map(|rung| rung.name.to_string())
            .collect();
        if rungs != self.rungs {
            self.rungs.clone_from(&rungs);
            self.log.append(
                &self.stream,
                Some(&self.session.id),
                What::RungsChanged { alive: rungs },
            );
        }

        let mut input = self.session.input();
        input.warnings.clear();
        if ingest.multitrack {
            let warning =
                "The encoder sends several tracks of a kind; only the first of each is used.";
            input.warnings.push(warning.to_owned());
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.metrics.streams.dec();
        // Removing a series that was never set is no error worth a word.
        let _ = self
            .metrics
            .realtime
            .remove_label_values(&[self.stream.as_str()]);
    }
}

/// Adds to `metric` what `now` counts beyond `before`, and returns the labels that grew.
fn grow(
    metric: &IntCounterVec,
    before: &mut BTreeMap<&'static str, u64>,
    now: impl Iterator<Item = (&'static str, u64)>,
) -> Vec<&'static str> {
    let mut grown = Vec::new();
    for (label, count) in now {
        let known = before.entry(label).or_insert(0);
        if count > *known {
            metric.with_label_values(&[label]).inc_by(count - *known);
            *known = count;
            grown.push(label);
        }
    }
    grown
}
