//! An encoder at the door, and what becomes of it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use media::Event;
use tokio::sync::{mpsc, oneshot};

use crate::{Stats, StreamKey};

/// Events that wait for the reader of a session: some three seconds of pictures and sound. When they are too many,
/// or too large, the encoder is not read any further; see [`Session::events`].
pub(crate) const EVENTS_MAX: usize = 256;

/// How an encoder came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// RTMP over TCP.
    Rtmp,
    /// RTMP over TLS.
    Rtmps,
}

impl Protocol {
    /// The protocol as a metric label and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rtmp => "rtmp",
            Self::Rtmps => "rtmps",
        }
    }
}

/// Why a publish is refused, or ended. What it prints is shown to the person at the encoder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// The key opens no stream. Says no more: an unknown stream and a wrong key look the same.
    #[error("the stream key is not valid")]
    BadKey,
    /// Too many wrong keys came from this address.
    #[error("too many attempts with a wrong stream key; wait a minute")]
    TooManyAttempts,
    /// Another encoder publishes with this key.
    #[error("another encoder is already publishing with this stream key")]
    InUse,
    /// There is no room for another stream.
    #[error("this server has no capacity left for another stream: {0}")]
    Capacity(String),
    /// An operator ended it.
    #[error("the stream was ended by the operator")]
    Kicked,
    /// Another encoder took over.
    #[error("another encoder has taken over this stream")]
    TakenOver,
    /// The server shuts down, or nobody answered for it.
    #[error("the server is not taking streams now; try again")]
    Unavailable,
}

/// An encoder that has shown its key and waits: [`accept`](Self::accept) or [`reject`](Self::reject). One that is
/// dropped is told that the server is unavailable.
pub struct Publish {
    pub(crate) protocol: Protocol,
    pub(crate) peer: SocketAddr,
    pub(crate) key: StreamKey,
    pub(crate) encoder: Option<String>,
    pub(crate) decision: oneshot::Sender<Decision>,
}

/// The answer to a publish.
pub(crate) enum Decision {
    Accept(Accepted),
    Reject(Reject),
}

/// The driver's ends of a session.
pub(crate) struct Accepted {
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) kicked: mpsc::Receiver<Reject>,
}

impl Publish {
    /// How it came in.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Where it comes from.
    #[must_use]
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The key it has shown.
    #[must_use]
    pub const fn key(&self) -> &StreamKey {
        &self.key
    }

    /// What the encoder calls itself in the handshake, printable and cut. Its metadata may say more, later.
    #[must_use]
    pub fn encoder(&self) -> Option<&str> {
        self.encoder.as_deref()
    }

    /// Lets it in. When it is gone by now, the session has no events.
    #[must_use]
    pub fn accept(self) -> Session {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let (kick, kicked) = mpsc::channel(1);
        let stats = Arc::<Stats>::default();
        let accepted = Accepted {
            events,
            stats: Arc::clone(&stats),
            kicked,
        };
        // An encoder that has left drops its end, and with it the sender of the events.
        let _ = self.decision.send(Decision::Accept(accepted));
        Session {
            events: receiver,
            stats,
            kick: Kick(kick),
        }
    }

    /// Sends it away and shows it the reason. [`Reject::BadKey`] counts towards the block of its address.
    pub fn reject(self, reason: Reject) {
        // Gone is as good as rejected.
        let _ = self.decision.send(Decision::Reject(reason));
    }
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            peer,
            encoder,
            ..
        } = self;
        write!(f, "Publish({protocol:?} {peer} {encoder:?})")
    }
}

/// A running publish.
#[derive(Debug)]
pub struct Session {
    /// The media. When they are not taken the encoder is not read, so that it feels the back-pressure; after two
    /// seconds whole groups of pictures are dropped, and a [`media::Gap::Dropped`] stands in their place.
    ///
    /// Ends with [`Event::End`], or without when the reader did not take it or the session crashed. Dropping the
    /// receiver ends the publish.
    pub events: mpsc::Receiver<Event>,
    /// What the session counts.
    pub stats: Arc<Stats>,
    /// Ends the publish.
    pub kick: Kick,
}

/// Ends a publish from outside.
#[derive(Clone, Debug)]
pub struct Kick(mpsc::Sender<Reject>);

impl Kick {
    /// Ends the publish and shows the encoder the reason; the first call counts.
    pub fn kick(&self, reason: Reject) {
        // Full: already kicked. Closed: already over.
        let _ = self.0.try_send(reason);
    }
}
