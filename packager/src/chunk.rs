//! What the packager makes, and every reader of it (window, archive) takes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::{Name, Timestamp, Track, Utc};

/// Packaged media, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// From the next segment on these are all the renditions alive, in the order playlists list them.
    Renditions(Arc<[Rendition]>),
    /// The initialization segment of a rendition, ahead of the first part that needs it.
    Init(Init),
    /// A partial segment: one CMAF chunk.
    Part(Part),
    /// A media segment is complete: it is the concatenation of its parts.
    Segment(Segment),
    /// The stream is over; nothing follows.
    End,
}

/// A track as it is packaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendition {
    /// The track.
    pub track: Track,
    /// PART-TARGET, whole milliseconds, the same for the life of the rendition.
    pub part_target: Duration,
    /// File name of the initialization segment that the next segments need: `init-HASH.mp4`.
    pub init: Arc<str>,
}

/// An initialization segment: `ftyp` and `moov`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    /// Whose it is.
    pub rendition: Name,
    /// Its file name, made from its bytes: `init-HASH.mp4`.
    pub name: Arc<str>,
    /// The bytes.
    pub data: Bytes,
}

/// A partial segment: `moof` and `mdat`. Its file name is `SEGMENT.INDEX.m4s`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Whose it is.
    pub rendition: Name,
    /// Media sequence number of the segment that it belongs to.
    pub segment: u64,
    /// Its place in the segment, from 0.
    pub index: u32,
    /// When its first sample is decoded (`tfdt`), in ticks of the track's timescale; equal to the presentation time of
    /// the segment's first picture in a segment's first part.
    pub start: Timestamp,
    /// Length in ticks of the track's timescale.
    pub duration: u64,
    /// Decoding may start with its first sample.
    pub independent: bool,
    /// Bytes up to the end of the first sample, when that is a keyframe: what an I-frame playlist lists.
    pub keyframe_bytes: Option<u32>,
    /// The bytes. Empty when the part holds no media and only fills the time of a frame longer than PART-TARGET; such a
    /// part is listed as a gap and has no file.
    pub data: Bytes,
    /// The segment, as far as it is known when its first part is.
    pub opens: Option<Opening>,
}

/// What stands before the first part of a segment in a playlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The discontinuity sequence number.
    pub discontinuity: u64,
    /// Time of the first sample in the outside world.
    pub utc: Utc,
    /// File name of the initialization segment.
    pub init: Arc<str>,
}

/// A complete media segment. Its file name is `NUMBER.m4s`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Whose it is.
    pub rendition: Name,
    /// Media sequence number.
    pub number: u64,
    /// Start and length of the media; of the time that it should fill for a gap.
    pub start: Timestamp,
    /// Length in ticks of the track's timescale.
    pub duration: u64,
    /// The track delivered nothing for this segment: there are no parts and no file (EXT-X-GAP).
    pub gap: bool,
    /// What stands before it in a playlist.
    pub opening: Opening,
}
