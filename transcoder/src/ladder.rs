//! Which rungs a source gets: pure arithmetic from the publisher's picture to sizes, rates and names.

use media::{Name, Rational, TrackId, Video};
use serde::{Deserialize, Serialize};

/// The rungs that a stream may have, highest first, and how its sound is encoded. As a value of a configuration
/// file it is a list of `rungs`, each with a `height` and a `bitrate_bps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Ladder {
    rungs: Vec<Rung>,
    passthrough: bool,
    audio_bps: u32,
}

/// One rung as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rung {
    /// The short side of the picture, in samples: the height of a landscape picture.
    pub height: u16,
    /// The average bit rate of the picture, in bits per second.
    pub bitrate_bps: u32,
    /// The most pictures a second; 30 below 720 lines and 60 from there up when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame_rate_max: Option<u32>,
}

/// A ladder that cannot be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More rungs than [`Ladder::RUNGS_MAX`].
    #[error("a ladder has at most {} rungs", Ladder::RUNGS_MAX)]
    Rungs,
    /// Rungs are not listed from the highest to the lowest, or two have one height.
    #[error("rungs are listed from the highest to the lowest, each height once")]
    Order,
    /// A height is odd or outside 64 to 2160.
    #[error("a rung's height is even and between 64 and 2160, not {0}")]
    Height(u16),
    /// A bit rate is outside 16 kbit/s to 50 Mbit/s.
    #[error("a bit rate is between 16000 and 50000000 bits per second, not {0}")]
    BitRate(u32),
    /// A frame rate is outside 1 to 120.
    #[error("a frame rate is between 1 and 120 pictures per second, not {0}")]
    FrameRate(u32),
}

/// One rung as it applies to a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The number of the track that carries it; the same for the life of the stream.
    pub track: u8,
    /// Its name in URLs, from the configured height: `720p`.
    pub name: String,
    /// Width in square samples; even.
    pub width: u16,
    /// Height in square samples; even.
    pub height: u16,
    /// The most pictures a second.
    pub frame_rate_max: u32,
    /// The average bit rate, in bits per second.
    pub bitrate_bps: u32,
}

impl Planned {
    /// The number of its track.
    #[must_use]
    pub const fn id(&self) -> TrackId {
        TrackId(self.track)
    }

    /// Whether one encoder could make both.
    pub(crate) fn is_encoded_like(&self, other: &Self) -> bool {
        let what = |rung: &Self| (rung.track, rung.width, rung.height, rung.bitrate_bps);
        what(self) == what(other)
    }

    /// The rate at which a player's modelled buffer fills, in bits per second, and its size in bits. The average rate
    /// fills it, so that none is wasted; seven tenths of a second leave room for a keyframe.
    pub(crate) fn buffer(&self) -> (u32, u32) {
        (self.bitrate_bps, self.bitrate_bps / 10 * 7)
    }

    /// The highest bit rate of any segment of two seconds or more, in bits per second: what comes in meanwhile, and
    /// all that a full buffer holds.
    pub(crate) fn peak_bps(&self) -> u32 {
        let (fill, buffer) = self.buffer();
        fill.saturating_add(buffer / 2)
    }

    /// The frame rate of the rung for a source of this frame rate: the source's, or the nearest whole part of it
    /// that the rung allows.
    #[must_use]
    pub fn frame_rate(&self, source: Rational) -> Rational {
        let mut every = 1;
        while u64::from(source.num())
            > u64::from(source.den()) * every * u64::from(self.frame_rate_max) * 51 / 50
            && every < 1_000
        {
            every += 1;
        }
        let den = u64::from(source.den()) * every;
        u32::try_from(den)
            .ok()
            .and_then(|den| Rational::new(source.num(), den))
            .unwrap_or(source)
    }
}

impl Ladder {
    /// The most rungs of a ladder.
    pub const RUNGS_MAX: usize = 8;

    /// A ladder of these rungs, highest first. Without rungs nothing is transcoded at all.
    ///
    /// # Errors
    /// When the rungs are not a ladder.
    pub fn new(rungs: Vec<Rung>, passthrough: bool, audio_bps: u32) -> Result<Self, Error> {
        if rungs.len() > Self::RUNGS_MAX {
            return Err(Error::Rungs);
        }
        if !rungs.is_sorted_by(|a, b| a.height > b.height) {
            return Err(Error::Order);
        }
        let rates = rungs.iter().map(|rung| rung.bitrate_bps).chain([audio_bps]);
        for rate in rates {
            if !(16_000..=50_000_000).contains(&rate) {
                return Err(Error::BitRate(rate));
            }
        }
        for rung in &rungs {
            if !(64..=2160).contains(&rung.height) || rung.height % 2 != 0 {
                return Err(Error::Height(rung.height));
            }
            if let Some(rate) = rung.frame_rate_max.filter(|rate| !(1..=120).contains(rate)) {
                return Err(Error::FrameRate(rate));
            }
        }
        Ok(Self {
            rungs,
            passthrough,
            audio_bps,
        })
    }

    /// A ladder by its name: `default` or `passthrough`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "default" => Some(Self::default()),
            "passthrough" => Some(Self {
                rungs: Vec::new(),
                ..Self::default()
            }),
            _ => None,
        }
    }

    /// Whether every track goes out as it came in.
    #[must_use]
    pub fn is_passthrough(&self) -> bool {
        self.rungs.is_empty()
    }

    /// Whether the top rung may be the publisher's own bitstream.
    #[must_use]
    pub const fn allows_passthrough(&self) -> bool {
        self.passthrough
    }

    /// The bit rate of encoded sound, in bits per second.
    #[must_use]
    pub const fn audio_bps(&self) -> u32 {
        self.audio_bps
    }

    /// The number of the sound's track.
    #[must_use]
    pub fn audio_track(&self) -> TrackId {
        TrackId(u8::try_from(self.rungs.len().max(1)).unwrap_or(u8::MAX))
    }

    /// The rungs for a source, highest first; never empty unless the ladder is.
    ///
    /// A rung above the source is left out, unless its name is in `keep`: a rung once published keeps its size when
    /// the publisher's picture shrinks. A source a little short of a rung (cropped, odd) is that rung in its own
    /// size. A source below the whole ladder gets one rung of its own size.
    #[must_use]
    pub fn plan(&self, source: &Video, keep: &[Name]) -> Vec<Planned> {
        let (width, height) = square(source);
        let short = width.min(height);
        let mut planned: Vec<Planned> = (0..)
            .zip(&self.rungs)
            .filter_map(|(track, rung)| {
                let name = format!("{}p", rung.height);
                let kept = keep.iter().any(|kept| kept.as_str() == name);
                let wanted = u32::from(rung.height);
                if !kept && short * 20 < wanted * 19 {
                    return None;
                }
                let side = if kept { wanted } else { wanted.min(short) };
                Some(rung.planned(track, name, (width, height), side))
            })
            .collect();
        if planned.is_empty()
            && let Some(lowest) = self.rungs.last()
        {
            let track = u8::try_from(self.rungs.len() - 1).unwrap_or(0);
            let name = format!("{}p", lowest.height);
            planned.push(lowest.planned(track, name, (width, height), short));
        }
        planned
    }
}

impl Default for Ladder {
    fn default() -> Self {
        let rungs = [
            (1080, 2_500_000),
            (720, 1_200_000),
            (480, 750_000),
            (360, 400_000),
            (240, 150_000),
        ];
        let rungs = rungs.map(|(height, bitrate_bps)| Rung {
            height,
            bitrate_bps,
            frame_rate_max: None,
        });
        Self {
            rungs: rungs.to_vec(),
            passthrough: true,
            audio_bps: 128_000,
        }
    }
}

impl Rung {
    fn planned(&self, track: u8, name: String, (width, height): (u32, u32), side: u32) -> Planned {
        let short = width.min(height);
        let along = |length: u32| -> u16 {
            // To the nearest even length, as 4:2:0 needs, but none above the source's own; beyond H.264's level 5.2
            // the long side gives way.
            if side == short {
                return u16::try_from((length & !1).clamp(2, 4096)).unwrap_or(4096);
            }
            let exact = u64::from(length) * u64::from(side);
            let half = (exact + u64::from(short)) / (2 * u64::from(short));
            u16::try_from((half * 2).clamp(2, 4096)).unwrap_or(4096)
        };
        let floor = |side: u32| u16::try_from((side & !1).max(2)).unwrap_or(4096);
        let (width, height) = match width <= height {
            true => (floor(side), along(height)),
            false => (along(width), floor(side)),
        };
        let usual = if self.height < 720 { 30 } else { 60 };
        let frame_rate_max = self.frame_rate_max.unwrap_or(usual);
        Planned {
            track,
            name,
            width,
            height,
            frame_rate_max,
            bitrate_bps: self.bitrate_bps,
        }
    }
}

/// The picture's size with square samples: as many lines as it has, and the width that they ask for. An aspect
/// beyond 4:1 is a mistake of the encoder and left alone.
fn square(source: &Video) -> (u32, u32) {
    let (num, den) = (
        u64::from(source.sample_aspect.num()),
        u64::from(source.sample_aspect.den()),
    );
    let (width, height) = (
        u32::from(source.width.max(2)),
        u32::from(source.height.max(2)),
    );
    if num == 0 || num > den * 4 || den > num * 4 {
        return (width, height);
    }
    let width = (u64::from(width) * num + den / 2) / den;
    (u32::try_from(width).unwrap_or(u32::MAX).max(2), height)
}

/// What a configuration file says, before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    rungs: Vec<Rung>,
    #[serde(default = "yes")]
    passthrough: bool,
    #[serde(default = "audio_bps")]
    audio_bps: u32,
}

const fn yes() -> bool {
    true
}

const fn audio_bps() -> u32 {
    128_000
}

impl TryFrom<Unchecked> for Ladder {
    type Error = Error;

    fn try_from(ladder: Unchecked) -> Result<Self, Error> {
        Self::new(ladder.rungs, ladder.passthrough, ladder.audio_bps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(width: u16, height: u16, aspect: (u32, u32)) -> Video {
        let sample_aspect = Rational::new(aspect.0, aspect.1).expect("tests use sane aspects");
        Video {
            width,
            height,
            sample_aspect,
            frame_rate: None,
        }
    }

    fn check(source: Video, keep: &[&str], expected: &str) {
        let keep: Vec<Name> = keep
            .iter()
            .map(|name| name.parse().expect("a name"))
            .collect();
        let rungs = Ladder::default().plan(&source, &keep);
        let text: Vec<String> = rungs
            .iter()
            .map(|r| format!("{}:{}x{}@{}", r.name, r.width, r.height, r.frame_rate_max))
            .collect();
        assert_eq!(text.join(" "), expected, "{source:?}");
    }

    #[test]
    fn the_default_ladder_for_many_sources() {
        let full =
            "1080p:1920x1080@60 720p:1280x720@60 480p:854x480@30 360p:640x360@30 240p:426x240@30";
        check(video(1920, 1080, (1, 1)), &[], full);
        check(video(3840, 2160, (1, 1)), &[], full);
        // Anamorphic: 1440 samples that are 4:3 each.
        check(video(1440, 1080, (4, 3)), &[], full);
        // Portrait: the short side counts.
        let portrait =
            "1080p:1080x1920@60 720p:720x1280@60 480p:480x854@30 360p:360x640@30 240p:240x426@30";
        check(video(1080, 1920, (1, 1)), &[], portrait);
        // A little short of a rung, and odd.
        check(
            video(1919, 1079, (1, 1)),
            &[],
            &full.replace("1920x1080", "1918x1078"),
        );
        check(
            video(1366, 768, (1, 1)),
            &[],
            "720p:1280x720@60 480p:854x480@30 360p:640x360@30 240p:426x240@30",
        );
        check(
            video(720, 576, (64, 45)),
            &[],
            "480p:854x480@30 360p:640x360@30 240p:426x240@30",
        );
        check(
            video(720, 480, (8, 9)),
            &[],
            "480p:640x480@30 360p:480x360@30 240p:320x240@30",
        );
        check(video(161, 91, (1, 1)), &[], "240p:160x90@30");
        check(video(2, 4096, (1, 1)), &[], "240p:2x4096@30");
        // Nonsense aspects are left alone.
        check(video(320, 240, (1, 1000)), &[], "240p:320x240@30");
    }

    #[test]
    fn a_published_rung_keeps_its_size_when_the_source_shrinks() {
        check(
            video(640, 360, (1, 1)),
            &["720p", "480p", "360p", "240p"],
            "720p:1280x720@60 480p:854x480@30 360p:640x360@30 240p:426x240@30",
        );
        // And grows a rung when the source grows.
        check(
            video(1920, 1080, (1, 1)),
            &["240p"],
            "1080p:1920x1080@60 720p:1280x720@60 480p:854x480@30 360p:640x360@30 240p:426x240@30",
        );
    }

    #[test]
    fn frame_rates_divide_evenly_into_what_a_rung_allows() {
        let rungs = Ladder::default().plan(&video(1920, 1080, (1, 1)), &[]);
        let check = |num, den, expected: [&str; 2]| {
            let source = Rational::new(num, den).expect("not zero");
            let rates = [&rungs[0], &rungs[2]].map(|rung| format!("{:?}", rung.frame_rate(source)));
            assert_eq!(rates, expected);
        };
        check(60, 1, ["60/1", "60/2"]);
        check(50, 1, ["50/1", "50/2"]);
        check(120, 1, ["120/2", "120/4"]);
        check(30, 1, ["30/1", "30/1"]);
        check(1, 1, ["1/1", "1/1"]);
        check(60_000, 1_001, ["60000/1001", "60000/2002"]);
    }

    #[test]
    fn only_a_ladder_is_a_ladder() {
        let rung = |height, bitrate_bps| Rung {
            height,
            bitrate_bps,
            frame_rate_max: None,
        };
        let check = |rungs: &[Rung], expected| {
            assert_eq!(Ladder::new(rungs.to_vec(), true, 128_000).err(), expected)
        };
        check(&[rung(720, 1_000_000), rung(480, 500_000)], None);
        check(&[], None);
        check(
            &[rung(480, 500_000), rung(720, 1_000_000)],
            Some(Error::Order),
        );
        check(
            &[rung(480, 500_000), rung(480, 400_000)],
            Some(Error::Order),
        );
        check(&[rung(481, 500_000)], Some(Error::Height(481)));
        check(&[rung(62, 500_000)], Some(Error::Height(62)));
        check(&[rung(480, 1)], Some(Error::BitRate(1)));
        check(
            &[Rung {
                frame_rate_max: Some(0),
                ..rung(480, 500_000)
            }],
            Some(Error::FrameRate(0)),
        );
        let many: Vec<Rung> = (0..9).map(|i| rung(480 - 2 * i, 500_000)).collect();
        check(&many, Some(Error::Rungs));
    }

    #[test]
    fn a_ladder_is_read_from_a_file() {
        let read = |text: &str| serde_json::from_str::<Ladder>(text);
        let ladder =
            read(r#"{"rungs":[{"height":720,"bitrate_bps":1200000,"frame_rate_max":30}]}"#);
        let ladder = ladder.expect("a ladder");
        assert_eq!(
            ladder.plan(&video(1280, 720, (1, 1)), &[])[0].frame_rate_max,
            30
        );
        assert!(ladder.allows_passthrough());
        assert!(
            read(r#"{"rungs":[],"rung":1}"#).is_err(),
            "unknown keys are refused"
        );
        assert!(read(r#"{"rungs":[{"height":1,"bitrate_bps":1200000}]}"#).is_err());
        assert!(Ladder::named("passthrough").is_some_and(|ladder| ladder.is_passthrough()));
        assert_eq!(Ladder::named("none"), None);
    }
}
