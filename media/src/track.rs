//! Tracks: what is encoded, how, and under which name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::bitstream::{aac, av1, h264, h265, opus};
use crate::{InvalidId, StreamId, Timescale};

/// All the tracks of a stream at one time, in the order playlists list them (video from the top rung down, then
/// audio). Shared, since every queue and waiter holds it.
pub type Tracks = Arc<[Track]>;

/// The number of a track within its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub u8);

/// One elementary stream: a rung of the ladder, or a rendition of the sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Its number, unique within the stream.
    pub id: TrackId,
    /// Its name in URLs: `1080p`, `audio`.
    pub name: Name,
    /// The codec and its configuration.
    pub codec: Codec,
    /// Picture or sound, as decoded.
    pub format: Format,
    /// Ticks of every time in this track's units.
    pub timescale: Timescale,
    /// What the encoder was told, where there is one of ours or the publisher said so.
    pub bandwidth: Option<Bandwidth>,
}

/// A rendition's name in URLs: the alphabet and the length of a [`StreamId`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(StreamId);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for Name {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A codec with the configuration that a decoder needs before the first unit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// H.264/AVC, sample entry `avc1`.
    H264(h264::Config),
    /// H.265/HEVC, sample entry `hvc1`.
    H265(h265::Config),
    /// AV1, sample entry `av01`.
    Av1(av1::Config),
    /// AAC, sample entry `mp4a`.
    Aac(aac::Config),
    /// Opus, sample entry `Opus`.
    Opus(opus::Config),
}

impl Codec {
    /// The RFC 6381 string for CODECS attributes, read from the configuration itself.
    #[must_use]
    pub fn rfc6381(&self) -> String {
        match self {
            Self::H264(config) => config.rfc6381(),
            Self::H265(config) => config.rfc6381(),
            Self::Av1(config) => config.rfc6381(),
            Self::Aac(config) => config.rfc6381(),
            Self::Opus(config) => config.rfc6381(),
        }
    }

    /// The codec's common name, for people and metric labels: `h264`, `aac`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::H264(_) => "h264",
            Self::H265(_) => "h265",
            Self::Av1(_) => "av1",
            Self::Aac(_) => "aac",
            Self::Opus(_) => "opus",
        }
    }
}

/// Picture or sound, as decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Pictures.
    Video(Video),
    /// Sound.
    Audio(Audio),
}

/// A picture track's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Video {
    /// Width in samples, after cropping.
    pub width: u16,
    /// Height in samples, after cropping.
    pub height: u16,
    /// Width of a sample over its height.
    pub sample_aspect: Rational,
    /// Pictures a second where the source says so, or as measured.
    pub frame_rate: Option<Rational>,
}

/// A sound track's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audio {
    /// Samples a second of each channel.
    pub sample_rate: u32,
    /// How many channels.
    pub channels: u8,
}

/// A ratio of two counts; the denominator is never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rational {
    num: u32,
    den: std::num::NonZeroU32,
}

impl Rational {
    /// 1:1.
    pub const ONE: Self = Self {
        num: 1,
        den: std::num::NonZeroU32::MIN,
    };

    /// `num / den`, or `None` when `den` is zero.
    #[must_use]
    pub const fn new(num: u32, den: u32) -> Option<Self> {
        match std::num::NonZeroU32::new(den) {
            Some(den) => Some(Self { num, den }),
            None => None,
        }
    }

    /// The numerator.
    #[must_use]
    pub const fn num(self) -> u32 {
        self.num
    }

    /// The denominator.
    #[must_use]
    pub const fn den(self) -> u32 {
        self.den.get()
    }

    /// The ratio as a number, for printing.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.num) / f64::from(self.den())
    }
}

impl fmt::Debug for Rational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.num, self.den)
    }
}

/// Bit rates that an encoder promised, in bits per second of media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    /// The long-term average.
    pub average_bps: u32,
    /// The highest rate of any one segment.
    pub peak_bps: u32,
}
