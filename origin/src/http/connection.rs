//! One connection from accept to close: TLS, the version of HTTP, and the watch over its pace.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Front;
use super::gate::Admitted;
use super::pace::{Link, Pace, Verdict};
use super::service::Service;

/// What every connection of a listener shares.
pub(super) struct Shared {
    pub(super) front: Front,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) tasks: TaskTracker,
    /// Finish in good order.
    pub(super) shutdown: CancellationToken,
    /// Finish now.
    pub(super) cut: CancellationToken,
    builder: auto::Builder<Executor>,
}

impl Shared {
    pub(super) fn new(
        front: Front,
        tls: Option<Arc<ServerConfig>>,
        shutdown: CancellationToken,
    ) -> Self {
        let tasks = TaskTracker::new();
        Self {
            front,
            tls: tls.map(acceptor),
            builder: builder(Executor(tasks.clone())),
            tasks,
            shutdown,
            cut: CancellationToken::new(),
        }
    }

    /// Serves one connection to its end.
    pub(super) async fn serve<S>(self: Arc<Self>, stream: S, peer: SocketAddr, admitted: Admitted)
    where
        S: Socket,
    {
        let link = Arc::new(Link::default());
        let io = Io {
            stream,
            link: link.clone(),
            bytes: self.front.metrics().bytes.clone(),
        };
        let many = admitted.is_trusted();
        let service = Service::new(
            self.front.clone(),
            link.clone(),
            peer,
            admitted,
            self.shutdown.clone(),
        );
        match &self.tls {
            None => drive(&self, io, service, &link, many).await,
            // In a box: connections in clear need not have room for it.
            Some(acceptor) => Box::pin(self.secure(acceptor, io, service, &link, many)).await,
        }
    }

    async fn secure<S>(
        &self,
        acceptor: &TlsAcceptor,
        io: Io<S>,
        service: Service,
        link: &Link,
        many: bool,
    ) where
        S: Socket,
    {
        let handshake = timeout(self.front.limits().handshake, acceptor.accept(io));
        match self.shutdown.run_until_cancelled(handshake).await {
            Some(Ok(Ok(io))) => drive(self, io, service, link, many).await,
            Some(Ok(Err(error))) => tracing::debug!(%error, "TLS handshake failed"),
            Some(Err(_)) => self.front.metrics().cut("slow_handshake"),
            None => {}
        }
    }
}

fn acceptor(config: Arc<ServerConfig>) -> TlsAcceptor {
    let mut config = ServerConfig::clone(&config);
    if config.alpn_protocols.is_empty() {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    TlsAcceptor::from(Arc::new(config))
}

/// `many`: the peer asks for many viewers.
async fn drive<I>(shared: &Shared, io: I, service: Service, link: &Link, many: bool)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = shared.front.limits();
    let connection = shared.builder.serve_connection(TokioIo::new(io), service);
    let mut connection = Box::pin(connection);
    let mut pace = Pace::new(limits, many, Instant::now());
    let mut alarm = pin!(sleep_until(Instant::now() + limits.head));
    let mut shutdown = pin!(shared.shutdown.cancelled());
    let mut cut = pin!(shared.cut.cancelled());
    let mut closing = false;
    std::future::poll_fn(|cx| {
        if !closing && shutdown.as_mut().poll(cx).is_ready() {
            closing = true;
            connection.as_mut().graceful_shutdown();
        }
        if closing && cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            // A bug in answering one request ends this connection, and is counted.
            match catch_unwind(AssertUnwindSafe(|| connection.as_mut().poll(cx))) {
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(Ok(()))) => return Poll::Ready(()),
                Ok(Poll::Ready(Err(error))) => {
                    tracing::debug!(%error, "connection ended");
                    return Poll::Ready(());
                }
                Err(_) => {
                    shared.front.metrics().panics.inc();
                    return Poll::Ready(());
                }
            }
            match pace.check(link, Instant::now()) {
                Verdict::GoOn => return Poll::Pending,
                Verdict::Until(deadline) => {
                    // An alarm that rings too early costs one look; it is only ever moved forward, so that a
                    // request costs no work on the timer.
                    if deadline < alarm.deadline() || alarm.is_elapsed() {
                        alarm.as_mut().reset(deadline);
                    }
                    if alarm.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
                Verdict::Retire => connection.as_mut().graceful_shutdown(),
                Verdict::Cut(reason) => {
                    shared.front.metrics().cut(reason.as_str());
                    link.cut();
                    return Poll::Ready(());
                }
            }
        }
    })
    .await;
}

/// The largest request head, in bytes: HTTP/1 line and fields, HTTP/2 decoded field list.
const HEAD_BYTES: u32 = 16 * 1024;
/// The most fields in a request head.
const HEAD_FIELDS: usize = 64;
/// Streams at once on one HTTP/2 connection.
const STREAMS: u32 = 100;
/// HTTP/2 flow control for what peers send us: little, since requests have small bodies.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Streams that a peer reset before we saw them, at once.
const PENDING_RESETS: usize = 20;

fn builder(executor: Executor) -> auto::Builder<Executor> {
    let mut builder = auto::Builder::new(executor);
    builder
        .http1()
        // `Pace` watches heads: hyper's timer also runs while a connection is merely unused, and is set anew for
        // every request.
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES as usize)
        .max_headers(HEAD_FIELDS)
        .writev(true);
    builder
        .http2()
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEAD_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS);
    builder
}

/// Runs the streams of HTTP/2 connections where shutdown can wait for them.
#[derive(Clone)]
struct Executor(TaskTracker);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// What a connection goes over.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// From here on closing also takes back what the kernel holds for the peer.
    fn abort(&self);
}

impl Socket for TcpStream {
    fn abort(&self) {
        if let Err(error) = self.set_zero_linger() {
            tracing::debug!(%error, "cannot set SO_LINGER");
        }
    }
}

/// The socket, telling the [`Link`] what goes through it.
struct Io<S: Socket> {
    stream: S,
    link: Arc<Link>,
    bytes: prometheus::IntCounter,
}

/// A reader that takes a hundred bytes a second would keep what the kernel holds for it long after the connection
/// counts no more.
impl<S: Socket> Drop for Io<S> {
    fn drop(&mut self) {
        if self.link.is_cut() {
            self.stream.abort();
        }
    }
}

impl<S: Socket> Io<S> {
    fn note(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Ready(Ok(count)) => {
                self.link.wrote(*count);
                self.bytes.inc_by(*count as u64);
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.link.blocked(),
        }
        result
    }
}

impl<S: Socket> AsyncRead for Io<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, into);
        if into.filled().len() > before {
            self.link.heard();
        }
        result
    }
}

impl<S: Socket> AsyncWrite for Io<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
