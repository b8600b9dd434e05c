//! Clients, levers and judges that the stories share. Nothing here knows how the server works inside.

pub(crate) mod browser;
pub(crate) mod conformance;
pub(crate) mod faults;
pub(crate) mod hls;
pub(crate) mod http;
pub(crate) mod ledger;
pub(crate) mod net;
pub(crate) mod program;
pub(crate) mod publish;
pub(crate) mod server;
pub(crate) mod shelf;
pub(crate) mod tools;

use std::time::{Duration, Instant};

/// Looks every few milliseconds whether `done`; fails the test with `what` after `limit`.
pub(crate) async fn wait_for(
    limit: Duration,
    what: impl Fn() -> String,
    mut done: impl FnMut() -> bool,
) {
    let deadline = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < deadline, "waited {limit:?} for {}", what());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Whether somebody on this machine listens on this address, without connecting to it.
pub(crate) fn listening(at: std::net::SocketAddr) -> bool {
    // Columns of /proc/net/tcp: number, local address, remote address, state; 0A is LISTEN.
    let port = format!(":{:04X}", at.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    table.lines().any(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let local = columns.next().is_some_and(|local| local.ends_with(&port));
        local && columns.nth(1) == Some("0A")
    })
}
