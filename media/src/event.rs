//! The one value that crosses crates, processes and machines.

use crate::{AccessUnit, Timestamp, Tracks, Utc};

/// What happens on a stream, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// From here on these are all the tracks. A track that keeps its id, name and codec goes on undisturbed; one
    /// that is new, gone or changed begins, ends or gets a new initialization with the next [`Segment`].
    Tracks(Tracks),
    /// "Cut here." Present only after the segmenter.
    Segment(Segment),
    /// One coded picture or audio frame.
    Unit(AccessUnit),
    /// Media is missing between what came before and what comes next.
    Gap(Gap),
    /// The publish is over; nothing follows.
    End,
}

/// A segment mark: every track starts a new media segment at its first unit presented at or after `start` (video:
/// its first keyframe there).
///
/// Names and playlist numbers come from the mark alone, never from counting, so that everyone downstream computes
/// the same names and the same bytes. A mark precedes every unit that belongs to the segment it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The media sequence number; the next mark's is one more. Starts at 1 or above.
    pub number: u64,
    /// The discontinuity sequence number: it grows by one at each mark before which the media does not continue
    /// what came before (a gap, a new codec configuration, a new encoder).
    pub discontinuity: u64,
    /// Presentation time of the first unit of the segment.
    pub start: Timestamp,
    /// `start` in the outside world, for EXT-X-PROGRAM-DATE-TIME.
    pub utc: Utc,
}

/// Why media is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Gap {
    /// The source's timestamps jumped forward or back; the timeline goes on from where it was.
    Jump,
    /// Units were dropped because the reader was too slow or a limit was reached.
    Dropped,
    /// The encoder's connection was lost and it came back.
    Reconnect,
}

impl Gap {
    /// The reason as a metric label and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jump => "jump",
            Self::Dropped => "dropped",
            Self::Reconnect => "reconnect",
        }
    }
}
