//! A track as it is packaged: its initialization segment, and how long its parts are.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::{Codec, Format, Name, Track};

use crate::{Config, Rendition, boxes};

/// What does not change while a track keeps its codec.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) track: Track,
    pub(crate) init_name: Arc<str>,
    pub(crate) init: Bytes,
    pub(crate) part_target: Duration,
    /// PART-TARGET in ticks, rounded down: no part is longer.
    pub(crate) target_ticks: u64,
    /// A part this long is closed.
    pub(crate) close_ticks: u64,
    /// How far a segment may go past its end mark: TARGETDURATION still holds, rounded (RFC 8216bis 4.4.3.1).
    pub(crate) reach_ticks: i64,
    /// Length of a unit that says none and is followed by none, in ticks.
    pub(crate) nominal: u32,
}

impl Setup {
    /// # Errors
    /// When no initialization segment can be made of the track.
    pub(crate) fn new(
        track: Track,
        part_target: Duration,
        target_seconds: u64,
    ) -> Result<Self, mp4_atom::Error> {
        let is_video = matches!(track.codec, Codec::H264(_) | Codec::H265(_) | Codec::Av1(_));
        if is_video != matches!(track.format, Format::Video(_)) {
            return Err(mp4_atom::Error::Unsupported("codec of the other kind"));
        }
        if track.timescale.hz() > TIMESCALE_MAX {
            return Err(mp4_atom::Error::Unsupported("timescale"));
        }
        let init = boxes::init(&track)?;
        let scale = track.timescale;
        let to_ticks =
            |length: Duration| u64::try_from(scale.ticks(length)).expect("a length has no sign");
        let frame = frame(&track).unwrap_or(UNKNOWN_FRAME);
        let target_ticks = to_ticks(part_target).max(1);
        let full = frame * count(part_target, frame);
        // Half a frame early, so that a part with the usual number of frames is full even if they came a little close
        // together; never below what RFC 8216bis 4.4.4.9 asks of a part.
        let close_ticks = to_ticks(full.saturating_sub(frame / 2))
            .max((target_ticks * 85).div_ceil(100))
            .min(target_ticks);
        Ok(Self {
            init_name: boxes::init_name(&init).into(),
            init,
            part_target,
            target_ticks,
            close_ticks,
            reach_ticks: scale.ticks(Duration::from_secs(target_seconds) + ROUNDED_OFF),
            nominal: u32::try_from(to_ticks(frame)).unwrap_or(u32::MAX).max(1),
            track,
        })
    }

    pub(crate) const fn name(&self) -> &Name {
        &self.track.name
    }

    pub(crate) const fn is_video(&self) -> bool {
        matches!(self.track.format, Format::Video(_))
    }

    pub(crate) fn rendition(&self) -> Rendition {
        Rendition {
            track: self.track.clone(),
            part_target: self.part_target,
            init: self.init_name.clone(),
        }
    }
}

/// Ticks a second beyond which seconds of them leave 32 bits.
const TIMESCALE_MAX: u32 = 100_000_000;
/// What rounding takes off a segment's length.
const ROUNDED_OFF: Duration = Duration::from_millis(499);
/// Assumed where the source does not say: 30 pictures a second.
const UNKNOWN_FRAME: Duration = Duration::from_nanos(33_333_333);

/// PART-TARGET of a track, in whole milliseconds.
///
/// It is the configured length wherever whole frames fill 88 to 98 percent of that: the common rates of pictures and
/// sound all share one value then, and a change between them needs no other. The two percent are for time stamps in
/// milliseconds and frames that come a little late. Other tracks get the length of their own frames, and three percent
/// (at least two milliseconds).
pub(crate) fn part_target(config: &Config, track: &Track) -> Duration {
    let part = config.part();
    let Some(frame) = frame(track) else {
        return part;
    };
    let full = frame * count(part, frame);
    let target = if full <= part * 98 / 100 && full >= part * 88 / 100 {
        part
    } else {
        let target = (full * 103 / 100).max(full + Duration::from_millis(2));
        let millis = target.as_nanos().div_ceil(1_000_000);
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    };
    target.min(Duration::from_secs(config.target_seconds()))
}

/// How many frames make a part.
fn count(part: Duration, frame: Duration) -> u32 {
    let count = (part * 98 / 100).as_nanos() / frame.as_nanos().max(1);
    u32::try_from(count).unwrap_or(u32::MAX).max(1)
}

/// How long one unit of the track usually is.
fn frame(track: &Track) -> Option<Duration> {
    let (units, seconds) = match (&track.format, &track.codec) {
        (Format::Video(video), _) => {
            let rate = video.frame_rate?;
            (rate.num(), rate.den())
        }
        (_, Codec::Aac(config)) => (config.sample_rate(), config.samples_per_frame()),
        // RFC 6716 2.1.4: 20 ms is what encoders use unless told otherwise.
        _ => (50, 1),
    };
    let nanos = (u64::from(seconds) * 1_000_000_000).checked_div(u64::from(units))?;
    // Faster than 1000 or slower than once in ten seconds is a clock that was not meant as a frame rate.
    (1_000_000..=10_000_000_000)
        .contains(&nanos)
        .then(|| Duration::from_nanos(nanos))
}
