//! One coded picture or audio frame.

use bytes::Bytes;

use crate::{Timestamp, TrackId};

/// One coded picture (all its slices) or one coded audio frame, in decode order within its track.
///
/// The same value stands before and after the transcoder, so passing a rung through and encoding it are one path.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessUnit {
    /// The track of the newest [`crate::Event::Tracks`] that this unit belongs to.
    pub track: TrackId,
    /// When to decode, in ticks of the track's timescale; strictly increasing within a track.
    pub dts: Timestamp,
    /// When to present, in ticks of the track's timescale.
    pub pts: Timestamp,
    /// Ticks to the next unit in decode order as far as the source says; 0 when it does not. The time of the next
    /// unit, once known, overrules it.
    pub duration: u32,
    /// Decoding may start here: an IDR picture (H.264), an IDR, BLA or CRA picture (HEVC; see
    /// [`crate::bitstream::h265::is_cra`] for what follows a CRA), an AV1 key frame with its sequence header, any audio
    /// frame.
    pub keyframe: bool,
    /// H.264 and HEVC: NAL units each behind a four-byte length, without parameter sets, delimiters or filler
    /// (ISO/IEC 14496-15 5.3.3). AV1: the OBUs of one temporal unit, without temporal delimiters or padding. AAC:
    /// one raw_data_block without ADTS. Opus: one packet.
    pub data: Bytes,
}

impl std::fmt::Debug for AccessUnit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessUnit")
            .field("track", &self.track)
            .field("dts", &self.dts)
            .field("pts", &self.pts)
            .field("duration", &self.duration)
            .field("keyframe", &self.keyframe)
            .field("bytes", &self.data.len())
            .finish()
    }
}
