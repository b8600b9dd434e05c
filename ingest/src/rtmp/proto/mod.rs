//! RTMP without sockets: bytes and the time in, bytes, media and the next deadline out.

pub mod amf0;
pub mod chunk;
pub mod handshake;
pub mod message;
mod session;
#[cfg(test)]
pub(crate) mod testing;

use std::time::Duration;

use crate::flv;

pub use session::{Connection, Output};

/// What a peer may cost. The defaults suit the open internet.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the first byte to the end of the handshake.
    pub handshake: Duration,
    /// From the first byte to the publish command.
    pub publish: Duration,
    /// From the accepted publish to the first audio or video.
    pub first_media: Duration,
    /// From one audio or video message to the next.
    pub silence: Duration,
    /// Bytes of all that comes before the publish command.
    pub bytes_before_publish: u64,
    /// Bytes of one message before the publish is accepted.
    pub message_bytes_before_publish: usize,
    /// Bytes of one message afterwards.
    pub message_bytes: usize,
    /// Chunk streams of a connection.
    pub chunk_streams: usize,
    /// Bytes of messages that have begun and not ended.
    pub unfinished_bytes: usize,
    /// Chunks a second; as many may come at once.
    pub chunks_per_second: u64,
    /// Bits a second of a publish; at twice as many it ends after five seconds.
    pub bits_per_second: u64,
    /// Pictures a second of a publish; at twice as many it ends after five seconds.
    pub pictures_per_second: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(3),
            publish: Duration::from_secs(5),
            first_media: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            bytes_before_publish: 64 * 1024,
            message_bytes_before_publish: 64 * 1024,
            message_bytes: 8 * 1024 * 1024,
            chunk_streams: 32,
            unfinished_bytes: 16 * 1024 * 1024,
            chunks_per_second: 50_000,
            bits_per_second: 25_000_000,
            pictures_per_second: 120,
        }
    }
}

/// Why a connection ends. All of these are the peer's doing; trying again as it is will not help, except after a
/// timeout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It does not begin like RTMP.
    #[error(transparent)]
    Handshake(#[from] handshake::Unsupported),
    /// It breaks the chunk stream's rules or bounds.
    #[error(transparent)]
    Chunk(#[from] chunk::Error),
    /// A command cannot be read.
    #[error(transparent)]
    Command(#[from] amf0::Error),
    /// The media cannot be taken.
    #[error(transparent)]
    Media(#[from] flv::Error),
    /// The application is not the one there is.
    #[error("there is no such application; publish to rtmp://…/live")]
    Application,
    /// It wants to watch.
    #[error("streams are not played over RTMP here")]
    Play,
    /// A command came where it makes no sense.
    #[error("{0} out of order")]
    OutOfOrder(&'static str),
    /// Too much came before the publish command.
    #[error("more than {0} bytes before the publish command")]
    Talk(u64),
    /// The handshake took too long.
    #[error("no handshake within {0:?}")]
    HandshakeTimeout(Duration),
    /// The publish command took too long.
    #[error("no publish command within {0:?}")]
    PublishTimeout(Duration),
    /// Nothing was published.
    #[error("no audio or video within {0:?} of the publish command")]
    FirstMediaTimeout(Duration),
    /// Publishing stopped without a word.
    #[error("no audio or video for {0:?}")]
    Silence(Duration),
    /// The bit rate is too high.
    #[error("more than {0} bits a second")]
    BitRate(u64),
    /// The peer does not read what it asks for.
    #[error("the answers are not read")]
    Unread,
}

impl Error {
    /// The reason as a metric label.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Handshake(_) => "handshake",
            Self::Chunk(_) => "chunk",
            Self::Command(_) => "command",
            Self::Media(_) => "media",
            Self::Application => "application",
            Self::Play => "play",
            Self::OutOfOrder(_) => "out_of_order",
            Self::Talk(_) => "talk",
            Self::HandshakeTimeout(_)
            | Self::PublishTimeout(_)
            | Self::FirstMediaTimeout(_)
            | Self::Silence(_) => "timeout",
            Self::BitRate(_) => "bit_rate",
            Self::Unread => "unread",
        }
    }
}
