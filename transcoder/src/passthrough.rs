//! Whether the publisher's own bitstream can be the top rung: judged from its configuration, and watched from its first
//! picture on.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use media::bitstream::Chroma;
use media::{AccessUnit, Codec, Rational, Timestamp, Track, Video};

use crate::ladder::Planned;

/// Why the publisher's bitstream cannot stand as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The ladder says that every rung is encoded.
    Configured,
    /// Not H.264, which every player decodes.
    Codec,
    /// More than 8 bits a sample.
    Depth,
    /// Colour is not sampled 4:2:0.
    Chroma,
    /// Made of fields.
    Interlaced,
    /// Samples are not square.
    Aspect,
    /// Much larger than the top rung.
    Size,
    /// More pictures a second than the rung allows.
    FrameRate,
    /// Keyframes further apart than a segment.
    Group,
    /// Pictures that need what came before the keyframe.
    Open,
    /// More than 2.5 times the rung's bit rate.
    BitRate,
    /// Pauses longer than a part.
    Pause,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configured => "the ladder asks for every rung to be encoded",
            Self::Codec => "the codec is not H.264",
            Self::Depth => "samples have more than 8 bits",
            Self::Chroma => "colour is not sampled 4:2:0",
            Self::Interlaced => "the picture is interlaced",
            Self::Aspect => "pixels are not square",
            Self::Size => "the picture is much larger than the top rung",
            Self::FrameRate => "there are more pictures a second than the top rung allows",
            Self::Group => "keyframes are further apart than a segment; set the keyframe interval of your encoder",
            Self::Open => "groups of pictures are open; set closed GOPs in your encoder",
            Self::BitRate => "the bit rate is more than 2.5 times that of the top rung",
            Self::Pause => "there are pauses between pictures longer than a part",
        })
    }
}

/// The limits that a passed-through bitstream keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) segment: Duration,
    pub(crate) part: Duration,
    frame_rate_max: u32,
    bitrate_max_bps: u64,
}

/// How much later than a segment a keyframe may come: what the segmenter can still round away.
const LATE: Duration = Duration::from_millis(300);
/// Bit and frame rates are means over this long.
const WINDOW: Duration = Duration::from_micros(WINDOW_MICROS);
const WINDOW_MICROS: u64 = 8_000_000;

/// The judge of one source configuration.
#[derive(Debug)]
pub(crate) struct Judge {
    limits: Limits,
    key: Option<Timestamp>,
    last: Option<Timestamp>,
    groups: VecDeque<Group>,
    open: Group,
}

#[derive(Clone, Copy, Debug, Default)]
struct Group {
    long: Duration,
    pictures: u32,
    bytes: usize,
}

impl Judge {
    /// A judge of a source whose configuration allows it to be the rung `top`.
    ///
    /// # Errors
    /// The reason when it does not.
    pub(crate) fn new(
        track: &Track,
        video: &Video,
        top: &Planned,
        segment: Duration,
        part: Duration,
    ) -> Result<Self, Reason> {
        let Codec::H264(config) = &track.codec else {
            return Err(Reason::Codec);
        };
        let sps = config.sps();
        if sps.bit_depth_luma != 8 || sps.bit_depth_chroma != 8 {
            return Err(Reason::Depth);
        }
        if sps.chroma != Chroma::Yuv420 {
            return Err(Reason::Chroma);
        }
        if sps.interlaced {
            return Err(Reason::Interlaced);
        }
        if video.sample_aspect != Rational::ONE {
            return Err(Reason::Aspect);
        }
        let short = |width: u16, height: u16| u32::from(width.min(height));
        if short(video.width, video.height) * 2 > short(top.width, top.height) * 3 {
            return Err(Reason::Size);
        }
        if video
            .frame_rate
            .is_some_and(|rate| top.frame_rate(rate) != rate)
        {
            return Err(Reason::FrameRate);
        }
        // A part's worth of pictures is less than one.
        let sparse = |rate: Rational| {
            u128::from(rate.num()) * part.as_millis() < 1_000 * u128::from(rate.den())
        };
        if video.frame_rate.is_some_and(sparse) {
            return Err(Reason::Pause);
        }
        let limits = Limits {
            segment,
            part,
            frame_rate_max: top.frame_rate_max,
            bitrate_max_bps: u64::from(top.bitrate_bps) * 5 / 2,
        };
        if track
            .bandwidth
            .is_some_and(|declared| u64::from(declared.average_bps) > limits.bitrate_max_bps)
        {
            return Err(Reason::BitRate);
        }
        Ok(Self {
            limits,
            key: None,
            last: None,
            groups: VecDeque::new(),
            open: Group::default(),
        })
    }

    /// Looks at the next picture in decode order.
    ///
    /// # Errors
    /// The reason when the bitstream cannot stand from here on.
    pub(crate) fn watch(&mut self, unit: &AccessUnit) -> Result<(), Reason> {
        let since = |earlier: Option<Timestamp>, at: Timestamp| {
            earlier.and_then(|earlier| at.since(earlier))
        };
        if since(self.last, unit.dts).is_some_and(|pause| pause > self.limits.part)
            || unit.data.is_empty()
        {
            return Err(Reason::Pause);
        }
        self.last = Some(unit.dts);
        if unit.keyframe {
            if let Some(long) = since(self.key, unit.pts) {
                self.close(long)?;
            }
            self.key = Some(unit.pts);
        } else if self.key.is_some_and(|key| unit.pts < key) {
            return Err(Reason::Open);
        }
        if since(self.key, unit.pts).is_some_and(|long| long > self.limits.segment + LATE) {
            return Err(Reason::Group);
        }
        self.open.pictures += 1;
        self.open.bytes += unit.data.len();
        Ok(())
    }

    /// The pictures that come next do not continue those before.
    pub(crate) fn forget(&mut self) {
        self.key = None;
        self.last = None;
        self.open = Group::default();
    }

    fn close(&mut self, long: Duration) -> Result<(), Reason> {
        self.groups.push_back(Group {
            long,
            ..std::mem::take(&mut self.open)
        });
        let whole =
            |groups: &VecDeque<Group>| groups.iter().map(|group| group.long).sum::<Duration>();
        while self.groups.len() > 1 && whole(&self.groups) > WINDOW {
            self.groups.pop_front();
        }
        let micros = u64::try_from(whole(&self.groups).as_micros()).unwrap_or(u64::MAX);
        let bits = self
            .groups
            .iter()
            .map(|group| group.bytes as u64 * 8)
            .sum::<u64>();
        // Encoders begin with a burst: what a buffer of a second holds, until that is little beside the rest.
        let buffered = if micros < WINDOW_MICROS * 3 / 4 {
            1_000_000
        } else {
            0
        };
        if bits.saturating_mul(1_000_000)
            > self
                .limits
                .bitrate_max_bps
                .saturating_mul(micros + buffered)
        {
            return Err(Reason::BitRate);
        }
        let pictures = self
            .groups
            .iter()
            .map(|group| u64::from(group.pictures))
            .sum::<u64>();
        // Five in a hundred for times rounded to milliseconds and groups cut by a hiccup.
        if pictures * 1_000_000 * 100 > u64::from(self.limits.frame_rate_max) * micros * 105 {
            return Err(Reason::FrameRate);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
