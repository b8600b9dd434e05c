//! Logs: to stderr, for people on a terminal and as JSON elsewhere. `HEADWATER_LOG` filters, as `info,ingest=debug`.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// Starts logging; called once, before anything else runs.
pub(crate) fn start() -> anyhow::Result<()> {
    let filter = match std::env::var("HEADWATER_LOG") {
        Ok(text) => text
            .parse::<EnvFilter>()
            .with_context(|| format!("HEADWATER_LOG={text:?}"))?,
        Err(_) => EnvFilter::new("info"),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = if std::io::stderr().is_terminal() {
        log.with_target(false).try_init()
    } else {
        log.json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init()
    };
    started.map_err(|error| anyhow::anyhow!("starting the log: {error}"))
}
