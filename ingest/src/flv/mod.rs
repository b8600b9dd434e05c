//! FLV tags, as RTMP carries them, to [`media::Event`]s: legacy H.264 and AAC, and E-RTMP v2's HEVC, AV1 and Opus.

mod metadata;
mod tag;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use media::bitstream::{self, aac, av1, h264, h265, opus};
use media::timeline::{Source, Timeline, Verdict, Wrap};
use media::{AccessUnit, Bandwidth, Codec, Event, Format, Timescale, Track, TrackId, Video};

use crate::budget::Budget;
use crate::stats::{Drops, Reason};
use tag::{AudioCodec, Payload, VideoCodec, Wrong};

pub use metadata::Metadata;
pub use tag::{AUDIO_FOURCC, VIDEO_FOURCC};

/// The picture track.
pub const VIDEO: TrackId = TrackId(0);
/// The sound track.
pub const AUDIO: TrackId = TrackId(1);

/// How long a publish of one kind may wait for the other before the tracks are announced without it; in milliseconds
/// of media, and as long by the clock.
const ANNOUNCE_MS: u32 = 1_000;
const ANNOUNCE: Duration = Duration::from_millis(1_000);
/// Bytes of units that wait for the announcement; beyond, it is made at once.
const HELD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Changes of a track's configuration: one a second, two at once, since some encoders' first keyframe corrects what
/// they said before it. Units under one that comes sooner are dropped until its time has come.
const CHANGES_PER_SECOND: u64 = 1;
const CHANGES_AT_ONCE: u64 = 2;
/// Media without any configuration is taken this long.
const UNUSABLE_MAX: Duration = Duration::from_secs(10);
/// Pictures may come at twice the allowed rate for this many seconds.
const BURST_SECONDS: u64 = 5;

/// Why a publish cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A codec that is not taken.
    #[error("{0} is not supported here; send H.264, HEVC or AV1 with AAC or Opus")]
    Codec(String),
    /// A configuration beyond what is taken.
    #[error("{0}")]
    Configuration(bitstream::Error),
    /// More pictures a second than allowed.
    #[error("more than {0} pictures a second")]
    PictureRate(u64),
    /// Media, but never what a decoder needs to begin.
    #[error("no codec configuration came within {UNUSABLE_MAX:?}")]
    Unusable,
}

/// Turns the tags of one publish into events: [`Event::Tracks`], units and gaps.
///
/// Tracks are announced when both picture and sound are there, or when the metadata speaks of one only, or after a
/// second; a track that joins later, or changes, is announced again. Pictures begin with a keyframe, and are there
/// when it is: it may correct their configuration.
#[derive(Debug)]
pub struct Demuxer {
    video: Slot,
    audio: Slot,
    video_codec: Option<VideoCodec>,
    length_size: u8,
    /// Pictures are dropped until a keyframe.
    seeks: bool,
    timeline: Timeline,
    metadata: Metadata,
    /// Ready, or held until the tracks are announced.
    out: VecDeque<Event>,
    announced: bool,
    ended: bool,
    held_bytes: usize,
    /// Time and arrival of the first tag.
    first: Option<(u32, Duration)>,
    pictures: Budget,
    pictures_max: u64,
    units: u64,
    drops: Drops,
    multitrack: bool,
}

/// The configuration of one track.
#[derive(Debug)]
struct Slot {
    current: Option<Codec>,
    /// One that came too soon after the current one.
    next: Option<Codec>,
    changes: Budget,
}

impl Slot {
    fn new() -> Self {
        let changes = Budget::new(CHANGES_PER_SECOND, CHANGES_AT_ONCE);
        Self {
            current: None,
            next: None,
            changes,
        }
    }
}

impl Demuxer {
    /// A demuxer at the start of a publish that may have `pictures_per_second`.
    #[must_use]
    pub fn new(pictures_per_second: u64) -> Self {
        Self {
            video: Slot::new(),
            audio: Slot::new(),
            video_codec: None,
            length_size: 4,
            seeks: true,
            timeline: Timeline::new(),
            metadata: Metadata::default(),
            out: VecDeque::new(),
            announced: false,
            ended: false,
            held_bytes: 0,
            first: None,
            pictures: Budget::new(
                pictures_per_second,
                pictures_per_second.saturating_mul(BURST_SECONDS),
            ),
            pictures_max: pictures_per_second,
            units: 0,
            drops: Drops::default(),
            multitrack: false,
        }
    }

    /// The next event; `None` when it takes more tags.
    pub fn poll(&mut self) -> Option<Event> {
        if self.announced {
            self.out.pop_front()
        } else {
            None
        }
    }

    /// Takes the body of a video tag of time `timestamp` (milliseconds, modulo 2^32) that arrived `arrival` after the
    /// publish began.
    ///
    /// # Errors
    /// When the publish cannot go on. A damaged tag is no error: it is dropped and counted.
    pub fn video(&mut self, timestamp: u32, body: Bytes, arrival: Duration) -> Result<(), Error> {
        match self.parsed(tag::video(body))? {
            Some(Payload::Configuration(codec, record)) => {
                self.configure_video(codec, record, arrival)?
            }
            Some(Payload::Frame(codec, composition, data)) => {
                if !self.pictures.spend(1, arrival) {
                    return Err(Error::PictureRate(self.pictures_max));
                }
                self.picture(codec, timestamp, composition, &data, arrival)?;
            }
            Some(Payload::Nothing) | None => {}
        }
        self.consider(timestamp, arrival)
    }

    /// Takes the body of an audio tag, as [`video`](Self::video) does.
    ///
    /// # Errors
    /// As [`video`](Self::video).
    pub fn audio(&mut self, timestamp: u32, body: Bytes, arrival: Duration) -> Result<(), Error> {
        match self.parsed(tag::audio(body))? {
            Some(Payload::Configuration(codec, record)) => {
                self.configure_audio(codec, record, arrival)?
            }
            Some(Payload::Frame(codec, _, data)) => self.sound(codec, timestamp, data, arrival),
            Some(Payload::Nothing) | None => {}
        }
        self.consider(timestamp, arrival)
    }

    /// Takes the body of a script data tag, in AMF0.
    pub fn data(&mut self, body: &[u8]) {
        if let Some(metadata) = Metadata::read(body) {
            self.metadata = metadata;
        }
    }

    /// Nothing more comes: [`poll`](Self::poll) gives out what was held, and [`Event::End`]. Tags that come yet are
    /// nobody's.
    pub fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if !self.announced && (self.video.current.is_some() || self.audio.current.is_some()) {
            self.announce();
        }
        self.announced = true;
        self.out.push_back(Event::End);
    }

    /// Forgets what is held, if nothing was announced yet.
    pub fn discard(&mut self) {
        if !self.announced {
            self.out.clear();
            self.announced = true;
        }
    }

    /// What the encoder said of itself.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Units given out, or held.
    #[must_use]
    pub const fn units(&self) -> u64 {
        self.units
    }

    /// Units and tags dropped.
    #[must_use]
    pub const fn drops(&self) -> &Drops {
        &self.drops
    }

    /// Repairs of timestamps.
    #[must_use]
    pub fn repairs(&self) -> &media::timeline::Repairs {
        self.timeline.repairs()
    }

    /// Whether tracks beyond the first of their kind were sent, and left out.
    #[must_use]
    pub const fn multitrack(&self) -> bool {
        self.multitrack
    }

    fn parsed<C>(&mut self, tag: Result<tag::Tag<C>, Wrong>) -> Result<Option<Payload<C>>, Error> {
        match tag {
            _ if self.ended => Ok(None),
            Ok(tag) => {
                self.multitrack |= tag.multitrack;
                Ok(Some(tag.payload))
            }
            Err(Wrong::Codec(name)) => Err(Error::Codec(name)),
            Err(Wrong::Damaged) => {
                self.drops.count(Reason::Damaged);
                Ok(None)
            }
        }
    }

    fn configure_video(
        &mut self,
        codec: VideoCodec,
        record: Bytes,
        arrival: Duration,
    ) -> Result<(), Error> {
        let (config, length_size) = match codec {
            VideoCodec::H264 => {
                let length_size = h264::length_size(&record);
                (
                    h264::Config::from_record(record).map(Codec::H264),
                    length_size,
                )
            }
            VideoCodec::H265 => {
                let length_size = h265::length_size(&record);
                (
                    h265::Config::from_record(record).map(Codec::H265),
                    length_size,
                )
            }
            VideoCodec::Av1 => (av1::Config::from_record(record).map(Codec::Av1), Ok(4)),
        };
        // A record without parameter sets leaves them to the first keyframe.
        if self.video_codec != Some(codec) {
            self.seeks = true;
        }
        self.video_codec = Some(codec);
        self.length_size = length_size.unwrap_or(4);
        if let Some(config) = self.configuration(config)? {
            self.configured(VIDEO, config, arrival);
        }
        Ok(())
    }

    fn configure_audio(
        &mut self,
        codec: AudioCodec,
        record: Bytes,
        arrival: Duration,
    ) -> Result<(), Error> {
        let config = match codec {
            AudioCodec::Aac => aac::Config::from_record(record).map(Codec::Aac),
            // Ogg's comment header may follow the identification header, as a message of its own.
            AudioCodec::Opus if record.starts_with(b"OpusTags") => return Ok(()),
            AudioCodec::Opus => opus::Config::from_record(record).map(Codec::Opus),
        };
        if let Some(config) = self.configuration(config)? {
            self.configured(AUDIO, config, arrival);
        }
        Ok(())
    }

    /// A configuration that is damaged may be sent again; one that is beyond us will not change.
    fn configuration(
        &mut self,
        config: Result<Codec, bitstream::Error>,
    ) -> Result<Option<Codec>, Error> {
        match config {
            Ok(config) => Ok(Some(config)),
            Err(error @ (bitstream::Error::Limit(_) | bitstream::Error::Unsupported(_))) => {
                Err(Error::Configuration(error))
            }
            Err(_) => {
                self.drops.count(Reason::Damaged);
                Ok(None)
            }
        }
    }

    /// Puts a configuration in force, now or when the one in force has stood long enough.
    fn configured(&mut self, id: TrackId, config: Codec, arrival: Duration) {
        let announced = self.announced;
        let slot = self.slot(id);
        if slot.current.as_ref() == Some(&config) {
            // Encoders repeat it at each keyframe.
            let returned = slot.next.take().is_some();
            self.seeks |= returned && id == VIDEO;
            return;
        }
        if announced && slot.current.is_some() && !slot.changes.spend(1, arrival) {
            slot.next = Some(config);
            return;
        }
        self.change(id, config);
    }

    /// Puts a configuration in force.
    fn change(&mut self, id: TrackId, config: Codec) {
        let slot = self.slot(id);
        let source = source_of(&config);
        let rescaled = slot
            .current
            .as_ref()
            .is_none_or(|current| source_of(current) != source);
        (slot.current, slot.next) = (Some(config), None);
        self.seeks |= id == VIDEO;
        if rescaled {
            self.timeline.track(id, source);
        }
        if self.announced {
            self.out.push_back(Event::Tracks(self.tracks()));
        } else {
            let held = self.out.len();
            self.out
                .retain(|event| !matches!(event, Event::Unit(unit) if unit.track == id));
            for _ in self.out.len()..held {
                self.units -= 1;
                self.drops.count(Reason::Flapping);
            }
        }
    }

    /// Puts the configuration that waits in force, once it may be; `false` while it may not.
    fn settled(&mut self, id: TrackId, arrival: Duration) -> bool {
        let slot = self.slot(id);
        if slot.next.is_none() {
            return true;
        }
        if !slot.changes.spend(1, arrival) {
            return false;
        }
        if let Some(next) = slot.next.take() {
            self.change(id, next);
        }
        true
    }

    const fn slot(&mut self, id: TrackId) -> &mut Slot {
        if id.0 == VIDEO.0 {
            &mut self.video
        } else {
            &mut self.audio
        }
    }

    fn picture(
        &mut self,
        codec: VideoCodec,
        timestamp: u32,
        composition: i32,
        data: &Bytes,
        arrival: Duration,
    ) -> Result<(), Error> {
        if self.video_codec != Some(codec) {
            self.drops.count(Reason::Unconfigured);
            return Ok(());
        }
        let size = self.length_size;
        let unit = match self.video.next.as_ref().or(self.video.current.as_ref()) {
            Some(Codec::H264(config)) => config
                .normalize(data, size)
                .map(|unit| plain(unit, Codec::H264)),
            Some(Codec::H265(config)) => config
                .normalize(data, size)
                .map(|unit| plain(unit, Codec::H265)),
            Some(Codec::Av1(config)) => config.normalize(data).map(|unit| plain(unit, Codec::Av1)),
            _ => match codec {
                VideoCodec::H264 => {
                    h264::normalize(data, size).map(|unit| plain(unit, Codec::H264))
                }
                VideoCodec::H265 => {
                    h265::normalize(data, size).map(|unit| plain(unit, Codec::H265))
                }
                VideoCodec::Av1 => av1::normalize(data).map(|unit| plain(unit, Codec::Av1)),
            },
        };
        let unit = match unit {
            Ok(unit) => unit,
            Err(error @ (bitstream::Error::Limit(_) | bitstream::Error::Unsupported(_))) => {
                return Err(Error::Configuration(error));
            }
            Err(_) => {
                self.drops.count(Reason::Damaged);
                return Ok(());
            }
        };
        if let Some(config) = unit.parameter_sets {
            self.configured(VIDEO, config, arrival);
        }
        if unit.data.is_empty() {
            return Ok(());
        }
        if self.video.current.is_none() {
            self.drops.count(Reason::Unconfigured);
        } else if !self.settled(VIDEO, arrival) {
            self.seeks = true;
            self.drops.count(Reason::Flapping);
        } else if self.seeks && !unit.keyframe {
            self.drops.count(Reason::BeforeKeyframe);
        } else {
            self.seeks = false;
            let times = Times {
                timestamp,
                composition,
                duration: 0,
                arrival,
            };
            self.unit(VIDEO, &times, unit.keyframe, unit.data);
        }
        Ok(())
    }

    fn sound(&mut self, codec: AudioCodec, timestamp: u32, data: Bytes, arrival: Duration) {
        let fits = match &self.audio.current {
            Some(Codec::Aac(_)) => codec == AudioCodec::Aac,
            Some(Codec::Opus(_)) => codec == AudioCodec::Opus,
            _ => false,
        };
        // An Opus packet says how long it is; AAC frames are all alike, which the timeline knows.
        let duration = match codec {
            AudioCodec::Aac if data.is_empty() => None,
            AudioCodec::Aac => Some(0),
            AudioCodec::Opus => opus::packet_samples(&data).ok(),
        };
        if !fits {
            self.drops.count(Reason::Unconfigured);
        } else if !self.settled(AUDIO, arrival) {
            self.drops.count(Reason::Flapping);
        } else if let Some(duration) = duration {
            self.unit(
                AUDIO,
                &Times {
                    timestamp,
                    composition: 0,
                    duration,
                    arrival,
                },
                true,
                data,
            );
        } else {
            self.drops.count(Reason::Damaged);
        }
    }

    fn unit(&mut self, track: TrackId, times: &Times, keyframe: bool, data: Bytes) {
        match self.timeline.push(
            track,
            times.timestamp.into(),
            times.composition,
            times.arrival,
        ) {
            Verdict::Drop => self.drops.count(Reason::Time),
            Verdict::Unit {
                dts,
                pts,
                duration,
                gap,
            } => {
                let duration = if duration == 0 {
                    times.duration
                } else {
                    duration
                };
                self.out.extend(gap.map(Event::Gap));
                self.units += 1;
                if !self.announced {
                    self.held_bytes += data.len();
                }
                self.out.push_back(Event::Unit(AccessUnit {
                    track,
                    dts,
                    pts,
                    duration,
                    keyframe,
                    data,
                }));
            }
        }
    }

    /// Announces the tracks when it is time.
    fn consider(&mut self, timestamp: u32, arrival: Duration) -> Result<(), Error> {
        if self.announced || self.ended {
            return Ok(());
        }
        let &mut (first, began) = self.first.get_or_insert((timestamp, arrival));
        let (video, audio) = (self.video.current.is_some(), self.audio.current.is_some());
        let waited = arrival.saturating_sub(began);
        if !video && !audio {
            return if waited < UNUSABLE_MAX {
                Ok(())
            } else {
                Err(Error::Unusable)
            };
        }
        let picture = video && !self.seeks;
        let Metadata {
            video: says_video,
            audio: says_audio,
            ..
        } = self.metadata;
        let alone = picture && says_video && !says_audio || audio && says_audio && !says_video;
        let media = timestamp.wrapping_sub(first);
        let long = waited >= ANNOUNCE || (ANNOUNCE_MS..u32::MAX / 2).contains(&media);
        if picture && audio || alone || long || self.held_bytes > HELD_BYTES_MAX {
            self.announce();
        }
        Ok(())
    }

    fn announce(&mut self) {
        self.announced = true;
        self.out.push_front(Event::Tracks(self.tracks()));
    }

    fn tracks(&self) -> media::Tracks {
        let metadata = &self.metadata;
        let video = self
            .video
            .current
            .as_ref()
            .map(|codec| (VIDEO, "video", codec, metadata.video_bps));
        let audio = self
            .audio
            .current
            .as_ref()
            .map(|codec| (AUDIO, "audio", codec, metadata.audio_bps));
        let tracks = video
            .into_iter()
            .chain(audio)
            .map(|(id, name, codec, bps)| Track {
                id,
                name: name.parse().expect("both names are of the alphabet"),
                codec: codec.clone(),
                format: match format_of(codec) {
                    Format::Video(video) => Format::Video(Video {
                        frame_rate: video.frame_rate.or(metadata.frame_rate),
                        ..video
                    }),
                    audio @ Format::Audio(_) => audio,
                },
                timescale: source_of(codec).output,
                bandwidth: bps.map(|bps| Bandwidth {
                    average_bps: bps,
                    peak_bps: bps,
                }),
            });
        tracks.collect()
    }
}

/// When a unit came and what its tag says of its time.
struct Times {
    /// Milliseconds, modulo 2^32.
    timestamp: u32,
    /// Milliseconds from decoding to presentation.
    composition: i32,
    /// Ticks of the track, or 0 for "unknown".
    duration: u32,
    arrival: Duration,
}

/// A normalised unit of any codec.
fn plain<C>(
    unit: bitstream::Normalized<C>,
    wrap: impl Fn(C) -> Codec,
) -> bitstream::Normalized<Codec> {
    bitstream::Normalized {
        data: unit.data,
        keyframe: unit.keyframe,
        parameter_sets: unit.parameter_sets.map(wrap),
    }
}

fn format_of(codec: &Codec) -> Format {
    match codec {
        Codec::H264(config) => Format::Video(config.video()),
        Codec::H265(config) => Format::Video(config.video()),
        Codec::Av1(config) => Format::Video(config.video()),
        Codec::Aac(config) => Format::Audio(config.audio()),
        Codec::Opus(config) => Format::Audio(config.audio()),
        _ => unreachable!("this module makes no other codec"),
    }
}

/// How the timeline reads a track of this codec.
fn source_of(codec: &Codec) -> Source {
    let (hz, frame) = match (format_of(codec), codec) {
        (Format::Audio(audio), Codec::Aac(config)) => {
            (audio.sample_rate, Some(config.samples_per_frame()))
        }
        (Format::Audio(audio), _) => (audio.sample_rate, None),
        (Format::Video(_), _) => (Timescale::VIDEO.hz(), None),
    };
    Source {
        scale: Timescale::MILLIS,
        wrap: Wrap::Rtmp,
        output: Timescale::new(hz).unwrap_or(Timescale::MILLIS),
        frame,
    }
}

#[cfg(test)]
mod tests;
