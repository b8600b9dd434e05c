//! The multivariant playlist.
//!
//! Our own text: m3u8-rs writes frame rates without their three decimals, and further attributes in no fixed order.

use bytes::Bytes;
use media::{Audio, Codec, Format, Video};

use super::media::{Media, line};
use crate::{Config, boxes};

/// Transfer characteristics of ISO/IEC 23091-2.
const PQ: u8 = 16;
const HLG: u8 = 18;
/// Per part and per sample, bytes that CMAF adds to what an encoder promised.
const PART_BYTES: u64 = 128;
const SAMPLE_BYTES: u64 = 16;

/// Renders the renditions alive, in their order.
pub(crate) fn render(config: &Config, renditions: &[&Media]) -> Bytes {
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    let epoch = &config.epoch;
    let mut video: Vec<Rung<'_>> = renditions
        .iter()
        .filter_map(|m| Rung::new(config, m))
        .collect();
    let least: Vec<u64> = video.iter().map(|rung| rung.least_bps(&video)).collect();
    for (rung, least) in video.iter_mut().zip(least) {
        rung.rates.peak_bps = rung.rates.peak_bps.max(least);
    }
    let audio: Vec<Sound<'_>> = renditions
        .iter()
        .filter_map(|m| Sound::new(config, m))
        .collect();
    if video.is_empty() {
        for sound in &audio {
            let rates = sound.rates.attributes();
            let Sound { codec, name, .. } = sound;
            line(
                &mut text,
                format_args!("#EXT-X-STREAM-INF:{rates},CODECS=\"{codec}\",CLOSED-CAPTIONS=NONE"),
            );
            line(&mut text, format_args!("{epoch}/{name}/index.m3u8"));
        }
        return text.into();
    }

    // One group for each codec, so that CODECS of a variant tells what it needs and nothing else.
    let mut groups: Vec<&str> = Vec::new();
    for (i, sound) in audio.iter().enumerate() {
        if !groups.contains(&&*sound.codec) {
            groups.push(&sound.codec);
        }
        let first = audio[..i].iter().all(|other| other.codec != sound.codec);
        let default = if first { "YES" } else { "NO" };
        let group = group_id(&groups, &sound.codec);
        let Sound { name, audio, .. } = sound;
        let channels = audio.channels;
        line(
            &mut text,
            format_args!(
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{group}\",NAME=\"{name}\",LANGUAGE=\"und\",\
                 DEFAULT={default},AUTOSELECT=YES,CHANNELS=\"{channels}\",URI=\"{epoch}/{name}/index.m3u8\""
            ),
        );
    }
    let variants = if groups.is_empty() {
        vec![None]
    } else {
        groups.iter().map(Some).collect()
    };
    for codec in variants {
        for rung in &video {
            let in_group = audio
                .iter()
                .filter(|sound| codec.is_some_and(|codec| *codec == sound.codec));
            let loudest = in_group.map(|sound| sound.rates).reduce(Rates::max);
            let rates = rung.rates.with(loudest).attributes();
            let mut codecs = rung.codec.clone();
            let mut group = String::new();
            if let Some(codec) = codec {
                codecs = format!("{codecs},{codec}");
                group = format!(",AUDIO=\"{}\"", group_id(&groups, codec));
            }
            let shape = rung.shape();
            line(
                &mut text,
                format_args!(
                    "#EXT-X-STREAM-INF:{rates},CODECS=\"{codecs}\"{shape}{group},CLOSED-CAPTIONS=NONE"
                ),
            );
            line(
                &mut text,
                format_args!("{epoch}/{}/index.m3u8", rung.media.name()),
            );
        }
    }
    for rung in video.iter().filter(|rung| rung.media.has_segment()) {
        let bandwidth = round_up(rung.media.meter.keyframe_peak_bps() * 11 / 10);
        let Rung { codec, media, .. } = rung;
        let size = rung.resolution();
        let range = rung.range();
        line(
            &mut text,
            format_args!(
                "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH={bandwidth},CODECS=\"{codec}\"{size}{range},\
                 URI=\"{epoch}/{}/iframes.m3u8\"",
                media.name()
            ),
        );
    }
    text.into()
}

fn group_id(groups: &[&str], codec: &str) -> String {
    match groups.iter().position(|group| *group == codec) {
        Some(0) | None => "audio".to_owned(),
        Some(i) => format!("audio{}", i + 1),
    }
}

struct Rung<'a> {
    media: &'a Media,
    video: Video,
    codec: String,
    rates: Rates,
}

impl<'a> Rung<'a> {
    fn new(config: &Config, media: &'a Media) -> Option<Self> {
        let track = &media.rendition.track;
        let Format::Video(video) = track.format else {
            return None;
        };
        Some(Self {
            media,
            video,
            codec: track.codec.rfc6381(),
            rates: Rates::of(config, media),
        })
    }

    /// What is announced for it at least. Players take more bits for a better picture, so one that is passed through
    /// with few of them stands above the smaller ones that are promised more.
    fn least_bps(&self, all: &[Self]) -> u64 {
        if self.promise().is_some() {
            return 0;
        }
        let smaller = all
            .iter()
            .filter(|rung| rung.promise().is_some() && rung.pixels() < self.pixels());
        let most = smaller.map(|rung| rung.rates.peak_bps).max();
        round_up(most.unwrap_or(0) * 11 / 10)
    }

    fn promise(&self) -> Option<media::Bandwidth> {
        self.media.rendition.track.bandwidth
    }

    fn pixels(&self) -> u32 {
        u32::from(self.video.width) * u32::from(self.video.height)
    }

    fn resolution(&self) -> String {
        let width = boxes::display_width(self.video.width, self.video.sample_aspect);
        format!(",RESOLUTION={width}x{}", self.video.height)
    }

    fn range(&self) -> &'static str {
        match boxes::color(&self.media.rendition.track.codec).transfer {
            PQ => ",VIDEO-RANGE=PQ",
            HLG => ",VIDEO-RANGE=HLG",
            _ => "",
        }
    }

    fn shape(&self) -> String {
        let mut shape = self.resolution();
        if let Some(rate) = frame_millis(&self.video) {
            shape += &format!(",FRAME-RATE={}.{:03}", rate / 1_000, rate % 1_000);
        }
        shape + self.range()
    }
}

/// Pictures in 1000 seconds, if that can be a frame rate: players refuse variants with impossible ones.
fn frame_millis(video: &Video) -> Option<u64> {
    let rate = video.frame_rate?;
    let (num, den) = (u64::from(rate.num()), u64::from(rate.den()));
    let millis = (num * 1_000 + den / 2) / den;
    (1..=300_000).contains(&millis).then_some(millis)
}

struct Sound<'a> {
    name: &'a str,
    audio: Audio,
    codec: String,
    rates: Rates,
}

impl<'a> Sound<'a> {
    fn new(config: &Config, media: &'a Media) -> Option<Self> {
        let track = &media.rendition.track;
        let Format::Audio(audio) = track.format else {
            return None;
        };
        Some(Self {
            name: media.name(),
            audio,
            codec: track.codec.rfc6381(),
            rates: Rates::of(config, media),
        })
    }
}

/// Bit rates as announced.
#[derive(Clone, Copy)]
struct Rates {
    peak_bps: u64,
    average_bps: u64,
}

impl Rates {
    /// What the encoder promised and what the container adds, or more if more was seen. Without a promise what was
    /// seen, with a margin. Values are coarse, so that they stay when the stream does.
    fn of(config: &Config, media: &Media) -> Self {
        let track = &media.rendition.track;
        let meter = &media.meter;
        let Some(promised) = track.bandwidth else {
            return Self {
                peak_bps: round_up(meter.peak_bps().saturating_mul(11) / 10),
                average_bps: round_up(meter.average_bps()),
            };
        };
        let samples = match (&track.format, &track.codec) {
            (Format::Video(video), _) => frame_millis(video).unwrap_or(60_000).div_ceil(1_000),
            (_, Codec::Aac(config)) => {
                (config.sample_rate() / config.samples_per_frame().max(1)).into()
            }
            _ => 50,
        };
        let part_millis = u64::try_from(config.part().as_millis()).unwrap_or(u64::MAX);
        let added = 8 * (PART_BYTES * 1_000 / part_millis + SAMPLE_BYTES * samples);
        let promised_peak = u64::from(promised.peak_bps) + added;
        Self {
            peak_bps: match meter.peak_bps() {
                seen if meter.complete() && seen > promised_peak => round_up(seen),
                _ => promised_peak,
            },
            average_bps: u64::from(promised.average_bps) + added,
        }
    }

    fn with(self, other: Option<Self>) -> Self {
        let other = other.unwrap_or(Self {
            peak_bps: 0,
            average_bps: 0,
        });
        Self {
            peak_bps: self.peak_bps.saturating_add(other.peak_bps),
            average_bps: self.average_bps.saturating_add(other.average_bps),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            peak_bps: self.peak_bps.max(other.peak_bps),
            average_bps: self.average_bps.max(other.average_bps),
        }
    }

    fn attributes(self) -> String {
        let average = self.average_bps.min(self.peak_bps).max(1);
        format!(
            "BANDWIDTH={},AVERAGE-BANDWIDTH={average}",
            self.peak_bps.max(1)
        )
    }
}

/// Up to two significant digits.
fn round_up(bps: u64) -> u64 {
    let mut step: u64 = 1;
    while bps / step >= 100 {
        step *= 10;
    }
    bps.div_ceil(step).saturating_mul(step)
}
