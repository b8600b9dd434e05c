//! RTMP over tokio: sockets, TLS, time and the bounds on who may come in. All protocol is in [`super::proto`].

mod connection;
mod gate;
mod queue;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::proto::Limits;
use crate::Publish;
use gate::Gate;

/// Where the listener finds its certificate: the sender replaces the value, and the next connection sees it.
pub type Tls = watch::Receiver<Arc<ServerConfig>>;

/// Connections that the kernel holds until they are taken.
const BACKLOG: u32 = 1024;
/// Publishes that wait for [`Listener::accept`]; further ones wait in their connection, ten seconds at most.
const PUBLISHES_MAX: usize = 64;
/// Out of file descriptors or memory, the listener rests this long: until those who were told to have given up
/// theirs, or, with no one to tell, until something else has ended.
const SHED_PAUSE: Duration = Duration::from_millis(10);
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(500);
/// A peer that acknowledges nothing for this long is gone.
const PEER_GONE: Duration = Duration::from_secs(10);

/// What a listener allows.
#[derive(Clone, Debug)]
pub struct Config {
    /// What each connection may cost.
    pub limits: Limits,
    /// Connections of one address (of IPv6, one /64).
    pub connections_per_address: usize,
    /// Connections that have not published yet, of all addresses; the oldest makes room.
    pub unauthenticated: usize,
    /// Connections in all.
    pub connections: usize,
    /// Wrong keys that an address may send in a minute; then every key is refused for a minute.
    pub wrong_keys_per_minute: u32,
    /// From the first byte to the end of the TLS handshake.
    pub tls_handshake: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            connections_per_address: 100,
            unauthenticated: 1000,
            connections: 8000,
            wrong_keys_per_minute: 10,
            tls_handshake: Duration::from_secs(5),
        }
    }
}

/// What a listener counts. All counts only grow.
#[derive(Debug, Default)]
pub struct Counters {
    connections: AtomicU64,
    refused: AtomicU64,
    shed: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    exhausted: AtomicU64,
    panics: AtomicU64,
}

impl Counters {
    /// Every count under its name: `connections` taken; `refused` at once for a bound; `shed` to make room before
    /// their publish; `rejected` publishes; `failed` before their publish, by the peer's doing; `exhausted`: times
    /// that the process had no file descriptors left; `panics` of a session, which end only that session.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = [
            ("connections", &self.connections),
            ("refused", &self.refused),
            ("shed", &self.shed),
            ("rejected", &self.rejected),
            ("failed", &self.failed),
            ("exhausted", &self.exhausted),
            ("panics", &self.panics),
        ];
        all.into_iter()
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }

    /// The count named `name`; 0 for no such name.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.iter()
            .find(|(other, _)| *other == name)
            .map_or(0, |(_, count)| count)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A port that encoders publish to. Dropping it closes the port and the connections that have not published; sessions
/// go on until they end by themselves, are kicked, or their receiver is dropped.
#[derive(Debug)]
pub struct Listener {
    local: SocketAddr,
    publishes: mpsc::Receiver<Publish>,
    shared: Arc<Shared>,
    stop: DropGuard,
}

/// What all connections of a listener share.
#[derive(Debug)]
struct Shared {
    config: Config,
    tls: Option<Tls>,
    gate: Arc<Gate>,
    counters: Arc<Counters>,
    publishes: mpsc::Sender<Publish>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Listener {
    /// Opens the port; with `tls` it speaks RTMPS only.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind(address: SocketAddr, config: Config, tls: Option<Tls>) -> io::Result<Self> {
        let socket = if address.is_ipv6() {
            TcpSocket::new_v6()?
        } else {
            TcpSocket::new_v4()?
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?;
        let local = socket.local_addr()?;
        let (sender, publishes) = mpsc::channel(PUBLISHES_MAX);
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            gate: Arc::new(Gate::new(&config)),
            config,
            tls,
            counters: Arc::default(),
            publishes: sender,
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        });
        shared.tasks.spawn(Arc::clone(&shared).run(socket));
        Ok(Self {
            local,
            publishes,
            shared,
            stop: stop.drop_guard(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The next encoder that wants to publish; `None` after [`close`](Self::close). Cancel safe.
    pub async fn accept(&mut self) -> Option<Publish> {
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => None,
            publish = self.publishes.recv() => publish,
        }
    }

    /// What it counts.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// Closes the port and the connections that have not published, and waits for the sessions to end.
    pub async fn close(self) {
        drop(self.stop);
        drop(self.publishes);
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Shared {
    async fn run(self: Arc<Self>, socket: TcpListener) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer),
                // The peer went before it was taken.
                Err(error) if is_peers(&error) => {
                    debug!(%error, "connection lost before it was taken")
                }
                Err(error) => self.exhausted(&error).await,
            }
        }
    }

    /// Out of descriptors or memory. The sessions keep theirs; of those who have not published the older half gives
    /// theirs up.
    async fn exhausted(&self, error: &io::Error) {
        count(&self.counters.exhausted);
        let shed = self.gate.shed_half();
        if shed > 0 {
            debug!(%error, shed, "connections make room");
            tokio::time::sleep(SHED_PAUSE).await;
        } else {
            warn!(%error, "no room for connections");
            tokio::time::sleep(EXHAUSTED_PAUSE).await;
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let Some(pass) = self.gate.enter(peer.ip(), &self.stop) else {
            count(&self.counters.refused);
            return;
        };
        count(&self.counters.connections);
        if let Err(error) = prepare(&stream) {
            debug!(%peer, %error, "socket options");
            return;
        }
        self.tasks
            .spawn(connection::run(Arc::clone(self), stream, peer, pass));
    }
}

/// Small messages go at once; a peer that vanishes without a word is noticed in ten seconds, whether it owes us
/// acknowledgements or is only silent.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(PEER_GONE / 2)
            .with_interval(PEER_GONE / 10),
    )?;
    socket.set_tcp_user_timeout(Some(PEER_GONE))
}

fn is_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests;
