//! The `headwater` binary: command line, configuration, the control API, the ops port, and the wiring between the
//! crates that do the work. It knows everyone and owns no media logic.

#![forbid(unsafe_code)]

mod api;
mod app;
mod auth;
mod cli;
mod clock;
mod config;
mod demo;
mod doctor;
mod events;
mod meter;
mod metrics;
mod ops;
mod pages;
mod roles;
mod sessions;
mod telemetry;
mod tls;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::cli::{Cli, Command, Settings};
use crate::config::Mistakes;

/// Exit code for a wrong command line or configuration.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // clap prints its own errors and exits with 2, as documented.
    let cli = Cli::parse();
    // The worker talks over an inherited socket and must not start threads before its sandbox stands.
    if let Command::Worker = cli.command {
        return transcoder::worker::main();
    }
    match run(cli.command) {
        Ok(code) => code,
        Err(error) if error.is::<Mistakes>() => {
            report(&format!("{error}"));
            ExitCode::from(USAGE)
        }
        Err(error) => {
            report(&format!("headwater: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    telemetry::start()?;
    match command {
        Command::Serve(settings) => serve(settings, false),
        Command::Demo(settings) => serve(settings, true),
        Command::CheckConfig(settings) => {
            let config = config::load(&settings)?;
            say(&format!(
                "the configuration is good: {} declared streams",
                config.streams.len()
            ));
            Ok(ExitCode::SUCCESS)
        }
        Command::Key { id, settings } => key(&id, &settings),
        Command::Doctor(settings) => doctor::run(&config::load(&settings)?),
        Command::TestPublisher { to } => demo::test_publisher(&to),
        Command::Worker => unreachable!("handled before anything was started"),
    }
}

fn serve(settings: Settings, demo: bool) -> anyhow::Result<ExitCode> {
    let mut config = config::load(&settings)?;
    config.demo = demo.then(demo::stream);
    let demo = config.demo.clone();
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(async {
        let app = App::build(config).await?;
        report(&app.greet());
        let stop = CancellationToken::new();
        let signals = watch_signals(stop.clone(), app.reloader(settings))?;
        let rtmp = app.addresses().rtmp;
        let encoder = async {
            match (demo, rtmp) {
                (Some((_, key)), Some(rtmp)) => demo::keep_publishing(rtmp, key, stop.clone()).await,
                (Some(_), None) => tracing::warn!("the demo needs the RTMP listener; nothing is published"),
                (None, _) => {}
            }
        };
        tokio::select! {
            (ended, ()) = async { tokio::join!(app.run(stop.clone()), encoder) } => ended.map(|()| ExitCode::SUCCESS),
            // Only a second SIGTERM or SIGINT ends the watch: stop at once.
            () = signals => Ok(ExitCode::FAILURE),
        }
    })
}

/// The first SIGTERM or SIGINT drains, the second returns; SIGHUP reloads certificates and streams.
fn watch_signals(
    stop: CancellationToken,
    reload: impl Fn() + Send + 'static,
) -> anyhow::Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).context("listening for signals");
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {
                    reload();
                    continue;
                }
            }
            if stop.is_cancelled() {
                tracing::warn!("stopping at once");
                return;
            }
            tracing::info!("draining; a second signal stops at once");
            stop.cancel();
        }
    })
}

fn key(id: &str, settings: &Settings) -> anyhow::Result<ExitCode> {
    let config = config::load(settings)?;
    let id = id.parse::<media::StreamId>()?;
    let keys = app::open_keys(&config)?;
    let key = keys.rotate(id.clone())?;
    say(&format!("stream {id}\nkey    {}", key.expose()));
    eprintln!("A running server takes it on SIGHUP; the key it had before stops working then.");
    Ok(ExitCode::SUCCESS)
}

/// Prints a result for whoever typed the command. A closed pipe is their choice, not an error.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn report(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
