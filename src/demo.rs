//! `headwater demo`: the whole server, and an encoder that publishes a test picture to it through the real RTMP port.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use ingest::StreamKey;
use media::{StreamId, Utc};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::auth::random_hex;
use crate::clock;

mod publisher;

/// The demo's stream.
pub(crate) const STREAM: &str = "demo";
/// The test picture.
const SIZE: (u16, u16) = (1920, 1080);
const PICTURES_PER_SECOND: u32 = 30;
/// Between attempts to publish.
const RETRY: Duration = Duration::from_secs(1);

/// A stream for the test publisher, with a key that nobody else has.
pub(crate) fn stream() -> (StreamId, StreamKey) {
    let id = STREAM.parse().expect("a plain word is a stream id");
    let key =
        StreamKey::parse(&random_hex::<16>()).expect("32 hexadecimal digits make a stream key");
    (id, key)
}

/// Keeps the test publisher running as a process of its own, as an encoder would be, until `stop`.
pub(crate) async fn keep_publishing(to: SocketAddr, key: StreamKey, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let ended = async {
            let mut encoder = start_encoder(to, &key)?;
            let status = tokio::select! {
                status = encoder.wait() => status.context("waiting for the test publisher")?,
                () = stop.cancelled() => return encoder.kill().await.context("ending the test publisher"),
            };
            tracing::warn!(%status, "the test publisher ended; starting it again");
            anyhow::Ok(())
        };
        if let Err(error) = ended.await {
            tracing::error!(error = format!("{error:#}"), "no test publisher");
        }
        stop.run_until_cancelled(tokio::time::sleep(RETRY)).await;
    }
}

fn start_encoder(to: SocketAddr, key: &StreamKey) -> anyhow::Result<Child> {
    let program = std::env::current_exe()
        .context("finding this program, to start it as the test publisher")?;
    let (reader, mut writer) = std::io::pipe().context("making a pipe")?;
    // The key goes through a pipe: arguments and the environment of a process can be read by others.
    writer
        .write_all(key.expose().as_bytes())
        .context("handing over the key")?;
    drop(writer);
    Command::new(program)
        .arg("test-publisher")
        .args(["--to", &to.to_string()])
        .stdin(Stdio::from(reader))
        .kill_on_drop(true)
        .spawn()
        .context("starting the test publisher")
}

/// The test publisher's process: draws, encodes and publishes in real time until the server goes.
pub(crate) fn test_publisher(to: &str) -> anyhow::Result<ExitCode> {
    let mut key = String::new();
    std::io::stdin()
        .read_to_string(&mut key)
        .context("reading the key from standard input")?;
    let key = StreamKey::parse(key.trim()).context("standard input holds no stream key")?;
    let mut source = transcoder::TestSource::new(SIZE.0, SIZE.1, PICTURES_PER_SECOND)?;
    let mut publisher = publisher::Publisher::connect(to, &key)?;
    publisher.tracks(&source.tracks())?;
    let start = clock::now();
    for picture in 0_u64.. {
        let due = Duration::from_secs(picture) / PICTURES_PER_SECOND;
        sleep_until(start.saturating_add(due));
        for unit in source.next(clock::now())? {
            publisher.unit(&unit)?;
        }
        publisher.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn sleep_until(due: Utc) {
    std::thread::sleep(due.saturating_since(clock::now()));
}
