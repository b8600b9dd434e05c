//! One connection, from the accepted socket to its end.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use media::Event;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tracing::{Instrument, debug, info, info_span, warn};

use super::super::proto::{self, Connection, Output};
use super::gate::Pass;
use super::queue::Queue;
use super::{Shared, count};
use crate::publish::{Accepted, Decision};
use crate::{Ended, Protocol, Publish, Reject, Stats, StreamKey};

/// How long the caller may take to accept or reject.
const DECISION_MAX: Duration = Duration::from_secs(10);
/// How long the peer may take to read an answer.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// Bytes read at once, before and after the publish is accepted.
const READ_BYTES_BEFORE: usize = 4 * 1024;
const READ_BYTES: usize = 64 * 1024;
/// After the last word the peer's bytes are read and thrown away for so long, and so many, since closing a socket
/// with unread bytes resets it, and the peer would never see the last word.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// Why a connection is over.
#[derive(Debug)]
enum Over {
    /// The encoder said so.
    Unpublished,
    /// The socket closed.
    Disconnected(Option<std::io::Error>),
    /// The peer broke a rule.
    Failed(proto::Error),
    /// We sent it away.
    Rejected(Reject),
    /// The session's reader is gone.
    Abandoned,
    /// It had to make room, or the listener closed.
    Shed,
}

impl From<proto::Error> for Over {
    fn from(error: proto::Error) -> Self {
        Self::Failed(error)
    }
}

impl Over {
    fn ended(&self) -> Ended {
        let (label, reason) = match self {
            Self::Unpublished => ("unpublished", "the encoder ended the stream".to_owned()),
            Self::Disconnected(None) => ("disconnected", "the encoder disconnected".to_owned()),
            Self::Disconnected(Some(error)) => {
                ("disconnected", format!("the connection was lost: {error}"))
            }
            Self::Failed(error) => (error.as_str(), error.to_string()),
            Self::Rejected(reason) => ("kicked", reason.to_string()),
            Self::Abandoned => ("abandoned", "the server has ended the stream".to_owned()),
            Self::Shed => ("shed", "the connection made room for others".to_owned()),
        };
        Ended { label, reason }
    }
}

/// A test publishes with this key to see what a panic does.
#[cfg(test)]
pub(super) const PANIC_KEY: &str = "panic-panic-panic-panic";

/// Counts a panic that passes through: the task dies, and the session with it, and nothing else.
struct Panics<'a>(&'a Shared);

impl Drop for Panics<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            count(&self.0.counters.panics);
        }
    }
}

/// Serves a connection to its end.
pub(super) async fn run(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr, pass: Pass) {
    let _panics = Panics(&shared);
    let span = info_span!("rtmp", %peer);
    secure(&shared, stream, peer, pass).instrument(span).await;
}

/// Shakes hands for TLS, where that is spoken.
async fn secure(shared: &Shared, stream: TcpStream, peer: SocketAddr, pass: Pass) {
    let Some(tls) = &shared.tls else {
        return serve(shared, stream, Protocol::Rtmp, peer, pass).await;
    };
    let acceptor = TlsAcceptor::from(Arc::clone(&tls.borrow()));
    let handshake = timeout(shared.config.tls_handshake, acceptor.accept(stream));
    let handshake = tokio::select! {
        biased;
        () = pass.shed.cancelled() => return count(&shared.counters.shed),
        handshake = handshake => handshake,
    };
    match handshake {
        Ok(Ok(stream)) => Box::pin(serve(shared, stream, Protocol::Rtmps, peer, pass)).await,
        Ok(Err(error)) => {
            count(&shared.counters.failed);
            debug!(%error, "TLS handshake failed");
        }
        Err(_) => {
            count(&shared.counters.failed);
            debug!("no TLS handshake in time");
        }
    }
}

/// Serves a connection whose bytes are in the clear here.
pub(super) async fn serve<S>(
    shared: &Shared,
    stream: S,
    protocol: Protocol,
    peer: SocketAddr,
    mut pass: Pass,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let seed = RandomState::new().hash_one(peer);
    let connection = Connection::new(shared.config.limits.clone(), seed);
    let mut link = Link {
        stream,
        connection,
        start: Instant::now(),
        stats: None,
    };
    let shed = pass.shed.clone();
    let admitted = tokio::select! {
        biased;
        () = shed.cancelled() => Err(Over::Shed),
        admitted = admit(shared, &mut link, protocol, peer, &mut pass) => admitted,
    };
    let over = match admitted {
        Ok(accepted) => {
            let over = publish(&mut link, accepted).await;
            let ended = over.ended();
            info!(label = ended.label, reason = ended.reason, "publish over");
            over
        }
        Err(over) => {
            let counter = match &over {
                Over::Shed => &shared.counters.shed,
                Over::Rejected(_) => &shared.counters.rejected,
                _ => &shared.counters.failed,
            };
            count(counter);
            if pass.may_log(Instant::now()) {
                info!(reason = over.ended().reason, "no publish");
            }
            match &over {
                Over::Failed(error) => link.connection.fail(error),
                Over::Rejected(reason) => link.connection.reject(reason),
                _ => {}
            }
            over
        }
    };
    // One that had to make room does so at once.
    if !matches!(over, Over::Disconnected(_) | Over::Shed) {
        link.part(matches!(over, Over::Unpublished)).await;
    }
}

/// Takes the connection as far as an accepted publish.
async fn admit<S>(
    shared: &Shared,
    link: &mut Link<S>,
    protocol: Protocol,
    peer: SocketAddr,
    pass: &mut Pass,
) -> Result<Accepted, Over>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (key, encoder): (Option<StreamKey>, _) = loop {
        if let Output::Publish { key, encoder } = link.turn().await? {
            break (key, encoder);
        }
    };
    link.flush().await?;
    #[cfg(test)]
    let panics = key.as_ref().is_some_and(|key| key.expose() == PANIC_KEY);
    let decision = if pass.blocked(Instant::now()) {
        Decision::Reject(Reject::TooManyAttempts)
    } else if let Some(key) = key {
        let question = ask(shared, key, encoder, protocol, peer);
        timeout(DECISION_MAX, question)
            .await
            .ok()
            .flatten()
            .unwrap_or(Decision::Reject(Reject::Unavailable))
    } else {
        Decision::Reject(Reject::BadKey)
    };
    #[cfg(test)]
    assert!(!panics, "as the test wants");
    match decision {
        Decision::Accept(accepted) if pass.accept() => Ok(accepted),
        Decision::Accept(accepted) => {
            accepted
                .stats
                .update(|stats| stats.ended = Some(Over::Shed.ended()));
            Err(Over::Shed)
        }
        Decision::Reject(reason) => {
            if reason == Reject::BadKey {
                pass.failed(Instant::now());
            }
            Err(Over::Rejected(reason))
        }
    }
}

/// Asks the caller; `None` when there is none.
async fn ask(
    shared: &Shared,
    key: StreamKey,
    encoder: Option<String>,
    protocol: Protocol,
    peer: SocketAddr,
) -> Option<Decision> {
    let (decision, decided) = oneshot::channel();
    let publish = Publish {
        protocol,
        peer,
        key,
        encoder,
        decision,
    };
    shared.publishes.send(publish).await.ok()?;
    decided.await.ok()
}

/// Carries an accepted publish to its end.
async fn publish<S>(link: &mut Link<S>, accepted: Accepted) -> Over
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Accepted {
        events,
        stats,
        mut kicked,
    } = accepted;
    link.stats = Some(Arc::clone(&stats));
    link.connection.accept(link.now());
    let mut queue = Queue::new(events);
    let mut warned = false;
    let over = loop {
        // `turn` may be dropped at any await: what was read is in the connection, what was not yet written too.
        let output = tokio::select! {
            biased;
            Some(reason) = kicked.recv() => break Over::Rejected(reason),
            () = queue.abandoned() => break Over::Abandoned,
            output = link.turn() => output,
        };
        let event = match output {
            Ok(Output::Event(event)) => event,
            Ok(Output::Publish { .. }) => continue,
            Err(over) => break over,
        };
        if !warned
            && link
                .connection
                .demuxer()
                .is_some_and(|demuxer| demuxer.multitrack())
        {
            warned = true;
            warn!("the encoder sends several tracks of a kind; only the first of each is taken");
        }
        if event == Event::End {
            break Over::Unpublished;
        }
        if queue.push(event).await.is_err() {
            break Over::Abandoned;
        }
        if queue.dropped() > 0 {
            stats.update(|stats| stats.overflowed(queue.dropped()));
        }
    };
    match &over {
        Over::Failed(error) => link.connection.fail(error),
        Over::Rejected(reason) => link.connection.reject(reason),
        Over::Abandoned => link.connection.reject(&Reject::Unavailable),
        _ => link.connection.end(),
    }
    link.count();
    // Whoever sees the end finds its reason.
    stats.update(|stats| stats.ended = Some(over.ended()));
    let mut rest = Ok(());
    while let Ok(Some(Output::Event(event))) = link.connection.poll(link.now())
        && event != Event::End
        && rest.is_ok()
    {
        rest = queue.push(event).await;
    }
    if rest.is_ok() {
        // Abandoned or full: the closed channel says the same.
        let _ = queue.push(Event::End).await;
    }
    over
}

/// A connection with its socket and its clock.
struct Link<S> {
    stream: S,
    connection: Connection,
    start: Instant,
    stats: Option<Arc<Stats>>,
}

impl<S> Link<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Reads and writes until something comes out. Cancel safe.
    async fn turn(&mut self) -> Result<Output, Over> {
        loop {
            if let Some(output) = self.connection.poll(self.now())? {
                return Ok(output);
            }
            self.count();
            self.flush().await?;
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), Over> {
        let input_bytes = if self.stats.is_some() {
            READ_BYTES
        } else {
            READ_BYTES_BEFORE
        };
        let deadline = self
            .connection
            .deadline()
            .map(|deadline| self.start + deadline);
        let input = self.connection.input();
        input.reserve(input_bytes);
        let read = self.stream.read_buf(input);
        let read = match deadline {
            Some(deadline) => timeout_at(deadline, read).await,
            None => Ok(read.await),
        };
        match read {
            Ok(Ok(0)) => Err(Over::Disconnected(None)),
            Ok(Err(error)) => Err(Over::Disconnected(Some(error))),
            Ok(Ok(_)) => Ok(()),
            Err(_) => Ok(self.connection.check(self.now())?),
        }
    }

    /// Writes all there is to write. Cancel safe: what is written leaves the buffer at once.
    async fn flush(&mut self) -> Result<(), Over> {
        let deadline = Instant::now() + WRITE_MAX;
        while !self.connection.output().is_empty() {
            let write = async {
                let written = self.stream.write_buf(self.connection.output()).await?;
                self.stream.flush().await?;
                Ok(written)
            };
            match timeout_at(deadline, write).await {
                Ok(Ok(0)) => return Err(Over::Disconnected(None)),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(Over::Disconnected(Some(error))),
                Err(_) => return Err(Over::Failed(proto::Error::Unread)),
            }
        }
        Ok(())
    }

    /// Says the last word and sees to it that it arrives. One that has `unpublished` closes by itself, and takes it
    /// amiss when we do so first.
    async fn part(&mut self, unpublished: bool) {
        let farewell = async {
            self.flush().await.ok()?;
            if !unpublished {
                self.stream.shutdown().await.ok()?;
            }
            let mut left = LINGER_BYTES;
            let input = self.connection.input();
            while left > 0 {
                input.clear();
                input.reserve(READ_BYTES_BEFORE);
                let count = self
                    .stream
                    .read_buf(input)
                    .await
                    .ok()
                    .filter(|&count| count > 0)?;
                left = left.saturating_sub(count);
            }
            Some(())
        };
        // A peer that neither reads nor closes is cut off.
        let _ = timeout(LINGER, farewell).await;
        let _ = timeout(LINGER, self.stream.shutdown()).await;
    }

    /// Copies the counts to where they are seen.
    fn count(&self) {
        if let (Some(stats), Some(demuxer)) = (&self.stats, self.connection.demuxer()) {
            stats.update(|stats| stats.demuxed(self.connection.received(), demuxer));
        }
    }
}
