//! A listener in a process with few file descriptors, under more connections than it has of them.

#![expect(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use ingest::rtmp::{Config, Listener};
use media::Event;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

/// A test that has not ended by now has hung.
const HANG: Duration = Duration::from_secs(60);
/// Descriptors of the listener's process; fewer than an address may have connections.
const DESCRIPTORS: usize = 48;

fn recording() -> Vec<u8> {
    std::fs::read("../fixtures/rtmp/gstreamer-1.22-h264-aac.bin").unwrap()
}

#[tokio::test]
async fn sessions_go_on_and_new_ones_come_in_without_descriptors() {
    let mut child = Command::new("prlimit")
        .arg(format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}"))
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "the_listener"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut find = async |word: &str| {
        while let Some(line) = timeout(HANG, lines.next_line())
            .await
            .expect("hung")
            .unwrap()
        {
            // The test runner writes its own words before ours.
            if let Some((_, rest)) = line.split_once(word) {
                return rest.trim().to_owned();
            }
        }
        panic!("it said no {word:?}");
    };
    let address: SocketAddr = find("listens at").await.parse().unwrap();

    let bytes = recording();
    let mut before = TcpStream::connect(address).await.unwrap();
    before.write_all(&bytes[..4000]).await.unwrap();
    find("published").await;
    let mut idle = Vec::new();
    for _ in 0..4 * DESCRIPTORS {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let mut after = TcpStream::connect(address).await.unwrap();
    after.write_all(&bytes).await.unwrap();
    find("published").await;
    before.write_all(&bytes[4000..]).await.unwrap();
    for mut stream in [before, after] {
        timeout(HANG, stream.read_to_end(&mut Vec::new()))
            .await
            .expect("hung")
            .unwrap();
    }
    assert_eq!(find("whole:").await, "2");
    let exhausted: u64 = find("exhausted:").await.parse().unwrap();
    assert!(
        exhausted > 0,
        "it must have run out for this test to say anything"
    );
    let busy: u64 = find("busy milliseconds:").await.parse().unwrap();
    assert!(
        exhausted < 1000 && busy < 3000,
        "{exhausted} times, {busy} ms: it must pause, not spin"
    );
    assert!(
        timeout(HANG, child.wait())
            .await
            .expect("hung")
            .unwrap()
            .success()
    );
}

#[tokio::test]
#[ignore = "runs as the child of the test above"]
async fn the_listener() {
    let say = |what: String| writeln!(std::io::stdout(), "\n{what}").unwrap();
    // There may be no descriptor left for it later.
    let mut stat = File::open("/proc/self/stat").unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut listener = Listener::bind(any, Config::default(), None).unwrap();
    say(format!("listens at {}", listener.local_addr()));
    let mut sessions = Vec::new();
    for _ in 0..2 {
        sessions.push(listener.accept().await.unwrap().accept());
        say("published".to_owned());
    }
    let mut whole = 0;
    for session in &mut sessions {
        let mut last = None;
        while let Some(event) = session.events.recv().await {
            last = Some(event);
        }
        let stats = session.stats.snapshot();
        whole +=
            u32::from(last == Some(Event::End) && stats.drops.total() == 0 && stats.units > 100);
    }
    say(format!("whole: {whole}"));
    say(format!(
        "exhausted: {}",
        listener.counters().get("exhausted")
    ));
    stat.rewind().unwrap();
    let mut line = String::new();
    stat.read_to_string(&mut line).unwrap();
    // Processor time of this process: fields 14 and 15, in hundredths of a second.
    let times = line
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(11)
        .take(2);
    let busy: u64 = times.map(|field| field.parse::<u64>().unwrap() * 10).sum();
    say(format!("busy milliseconds: {busy}"));
}
