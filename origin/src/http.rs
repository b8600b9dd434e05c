//! The HTTP front: an accept loop of its own, so that every connection has limits on its time, its size and its
//! number; HTTP/1.1 and HTTP/2, in clear or over TLS.
//!
//! Requests below `/live/` are answered by the [`Origin`] itself, without a router in between; all others go to the
//! router that the caller brings.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Origin;
use crate::metrics::Metrics;

pub(crate) mod body;
mod connection;
pub(crate) mod gate;
mod pace;
mod service;

use connection::Shared;
use gate::Gate;
pub use gate::{InvalidNetwork, Network};

/// What one peer, and all of them, may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once. The default is four fifths of the open files that the process may have.
    pub connections: usize,
    /// Connections at once from one IPv4 address or IPv6 /64.
    pub connections_per_address: usize,
    /// Requests held at once (blocking reloads, preload hints).
    pub held: usize,
    /// Requests held at once for one IPv4 address or IPv6 /64.
    pub held_per_address: usize,
    /// Addresses that the two limits per address do not bind: a CDN's edges.
    pub trusted: Vec<Network>,
    /// From the first byte of a request head, or from the start of the connection, to the end of the head.
    pub head: Duration,
    /// The TLS handshake.
    pub handshake: Duration,
    /// From the head of a request that a router answers to the end of its body.
    pub body: Duration,
    /// Without any request.
    pub idle: Duration,
    /// The stretch over which a reader must keep up [`Self::stall_bytes_per_second`].
    pub stall: Duration,
    /// The slowest that a peer may read, on average over [`Self::stall`] and for each answer that waits.
    pub stall_bytes_per_second: u64,
    /// From shutdown until connections are cut.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile)
            .current
            .unwrap_or(u64::MAX);
        let files = usize::try_from(files).unwrap_or(usize::MAX).min(1 << 20);
        Self {
            connections: files / 5 * 4,
            connections_per_address: 100,
            held: 15_000,
            held_per_address: 64,
            trusted: Vec::new(),
            head: Duration::from_secs(5),
            handshake: Duration::from_secs(5),
            body: Duration::from_secs(30),
            idle: Duration::from_secs(65),
            stall: Duration::from_secs(30),
            stall_bytes_per_second: 1_000,
            grace: Duration::from_secs(5),
        }
    }
}

/// What answers requests. Cheap to clone; its limits count over all listeners that share it.
#[derive(Clone)]
pub struct Front {
    inner: Arc<Inner>,
}

struct Inner {
    origin: Origin,
    router: Router,
    limits: Limits,
    gate: Arc<Gate>,
}

impl Front {
    /// `origin` for `/live/`, `router` for the rest. A handler finds its peer's address in
    /// [`axum::extract::ConnectInfo`]`<SocketAddr>`.
    #[must_use]
    pub fn new(origin: Origin, router: Router, limits: Limits) -> Self {
        let gate = Arc::new(Gate::new(&limits, origin.metrics().held.clone()));
        Self {
            inner: Arc::new(Inner {
                origin,
                router,
                limits,
                gate,
            }),
        }
    }

    fn metrics(&self) -> &Metrics {
        self.inner.origin.metrics()
    }

    fn limits(&self) -> &Limits {
        &self.inner.limits
    }
}

/// How long accepting pauses when the process has no file left for a connection. Longer than a moment, so as not to
/// spin; short enough that a player's own retry finds the port open again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// Bytes of answers that wait in the kernel until the peer has room for them, beside those on the way to it. Left to
/// itself the kernel takes megabytes for each slow reader, and a third of them has to go before it tells of progress.
const UNSENT_BYTES: u32 = 32 * 1024;

/// Accepts on `listener` until `shutdown`; then finishes what is in flight, at most for [`Limits::grace`].
///
/// With `tls`, and no protocols named in it, HTTP/2 and HTTP/1.1 are offered by ALPN. Certificates are changed
/// through the configuration's own resolver.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    front: Front,
    shutdown: CancellationToken,
) {
    let limits = front.limits().clone();
    let shared = Arc::new(Shared::new(front, tls, shutdown.clone()));
    // Connections inherit it.
    if let Err(error) = SockRef::from(&listener).set_tcp_notsent_lowat(UNSENT_BYTES) {
        tracing::warn!(%error, "cannot set TCP_NOTSENT_LOWAT");
    }
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => match shared.front.inner.gate.admit(peer.ip()) {
                Ok(admitted) => {
                    // A part that waits for an acknowledgement is late.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
                    }
                    shared
                        .tasks
                        .spawn(shared.clone().serve(stream, peer, admitted));
                }
                Err(full) => shared.front.metrics().refused(full),
            },
            Err(error) if is_about_one_peer(&error) => {}
            Err(error) => {
                shared.front.metrics().accept_errors.inc();
                tracing::warn!(%error, "cannot accept connections, pausing");
                tokio::select! {
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    () = shutdown.cancelled() => break,
                }
            }
        }
    }
    drop(listener);
    shared.tasks.close();
    if tokio::time::timeout(limits.grace, shared.tasks.wait())
        .await
        .is_err()
    {
        tracing::info!(
            connections = shared.tasks.len(),
            "cutting connections that did not finish in time"
        );
        shared.cut.cancel();
        shared.tasks.wait().await;
    }
}

/// The peer went away before it was accepted: no reason to pause.
fn is_about_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}

#[cfg(test)]
mod tests;
