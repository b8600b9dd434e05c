//! Streams made up for tests: events as a segmenter would send them.

use std::time::Duration;

use bytes::Bytes;
use media::bitstream::{aac, h264, opus};
use media::{
    AccessUnit, Audio, Codec, Event, Format, Rational, Rounding, Segment, Timescale, Timestamp,
    Track, TrackId, Utc, Video,
};
use packager::{Bounds, Chunk, Config, Packager, Window};

/// 320x240, High profile, level 1.3, one reorder frame.
const SPS: [u8; 24] = [
    0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x41, 0xfa, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,
    0x00, 0x03, 0x03, 0x20, 0xf1, 0x42, 0x99, 0x60,
];
const PPS: [u8; 6] = [0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];
const OTHER_PPS: [u8; 6] = [0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xd0];

/// The instant that media time zero is in all tests: 2026-01-02T03:04:05.678Z.
pub(crate) const EPOCH: Utc = Utc::from_unix_micros(1_767_323_045_678_000);

pub(crate) fn config() -> Config {
    Config {
        epoch: "e1".to_owned(),
        segment: Duration::from_secs(2),
        part: Duration::from_millis(250),
    }
}

pub(crate) fn bounds() -> Bounds {
    Bounds {
        duration: Duration::from_secs(60),
        bytes: 256 << 20,
    }
}

pub(crate) fn video(id: u8, name: &str, rate: Option<(u32, u32)>) -> Track {
    let rate = rate.and_then(|(num, den)| Rational::new(num, den));
    Track {
        id: TrackId(id),
        name: name.parse().unwrap(),
        codec: Codec::H264(h264::Config::from_parameter_sets(&SPS, &PPS).unwrap()),
        format: Format::Video(Video {
            width: 320,
            height: 240,
            sample_aspect: Rational::ONE,
            frame_rate: rate,
        }),
        timescale: Timescale::VIDEO,
        bandwidth: None,
    }
}

/// The same with other parameter sets.
pub(crate) fn changed(track: &Track) -> Track {
    let config = h264::Config::from_parameter_sets(&SPS, &OTHER_PPS).unwrap();
    Track {
        codec: Codec::H264(config),
        ..track.clone()
    }
}

pub(crate) fn aac(id: u8, name: &str, sample_rate: u32) -> Track {
    let config = aac::Config::lc(sample_rate, 2).unwrap();
    Track {
        id: TrackId(id),
        name: name.parse().unwrap(),
        format: Format::Audio(config.audio()),
        codec: Codec::Aac(config),
        timescale: Timescale::new(sample_rate).unwrap(),
        bandwidth: None,
    }
}

pub(crate) fn opus(id: u8, name: &str) -> Track {
    let head = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";
    let config = opus::Config::from_record(Bytes::from_static(head)).unwrap();
    Track {
        id: TrackId(id),
        name: name.parse().unwrap(),
        format: Format::Audio(Audio {
            sample_rate: 48_000,
            channels: 2,
        }),
        codec: Codec::Opus(config),
        timescale: Timescale::new(48_000).unwrap(),
        bandwidth: None,
    }
}

/// How a source stamps its pictures.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stamp {
    /// To the tick.
    Exact,
    /// Rounded to milliseconds, as RTMP does.
    Millis,
    /// Off by up to this many ticks either way, as cameras do.
    Jitter(i64),
}

/// A stream of constant rates: pictures of every video track at the same instants, a keyframe at each mark.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) tracks: Vec<Track>,
    /// Of the video.
    pub(crate) rate: (u32, u32),
    pub(crate) stamp: Stamp,
    /// Pictures decoded before their turn: the delay of B-frames.
    pub(crate) reorder: usize,
    /// In marks.
    pub(crate) segments: u64,
    pub(crate) segment: Duration,
    pub(crate) first_number: u64,
    /// Media time of the first mark.
    pub(crate) start: Duration,
}

impl Stream {
    pub(crate) fn new(tracks: Vec<Track>, segments: u64) -> Self {
        Self {
            tracks,
            rate: (30, 1),
            stamp: Stamp::Exact,
            reorder: 0,
            segments,
            segment: Duration::from_secs(2),
            first_number: 1,
            start: Duration::from_secs(1),
        }
    }

    /// Presentation times of all pictures, and the index of each mark's.
    fn pictures(&self) -> (Vec<i64>, Vec<usize>) {
        let (num, den) = (u64::from(self.rate.0), u64::from(self.rate.1));
        let a_mark = self.segment.as_micros() as u64 * num / (den * 1_000_000);
        let count = a_mark.max(1) * self.segments;
        let start = Timescale::VIDEO.ticks(self.start);
        let mut seed = 7_u64;
        let times = (0..count).map(|i| {
            let exact = start + (i * 90_000 * den / num) as i64;
            match self.stamp {
                Stamp::Exact => exact,
                Stamp::Millis => (exact + 45) / 90 * 90,
                Stamp::Jitter(by) => {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    exact + (seed >> 33) as i64 % (2 * by + 1) - by
                }
            }
        });
        let marks = (0..self.segments).map(|i| (i * a_mark.max(1)) as usize);
        (times.collect(), marks.collect())
    }

    /// Everything, ending in [`Event::End`].
    pub(crate) fn events(&self) -> Vec<Event> {
        let (times, marks) = self.pictures();
        // What is sent when: by decode time, marks first, then tracks in their order.
        let mut sent: Vec<(i64, usize, Event)> = Vec::new();
        for (i, &mark) in marks.iter().enumerate() {
            let ticks = times[mark];
            let start = Timestamp::new(ticks, Timescale::VIDEO);
            let event = Event::Segment(Segment {
                number: self.first_number + i as u64,
                discontinuity: 0,
                start,
                utc: EPOCH.saturating_add(Timescale::VIDEO.duration(ticks)),
            });
            // Before the first picture of the segment in decode order.
            sent.push((self.decode_time(&times, mark), 0, event));
        }
        let end = times.last().copied().unwrap_or(0) + self.frame();
        for (place, track) in self.tracks.iter().enumerate() {
            let units = match track.format {
                Format::Video(_) => self.video(track, &times, &marks),
                Format::Audio(_) => sound(track, times[0], end),
            };
            for unit in units {
                let at = unit.dts.rescale(Timescale::VIDEO, Rounding::Down).ticks();
                sent.push((at, place + 1, Event::Unit(unit)));
            }
        }
        sent.sort_by_key(|(at, order, _)| (*at, *order));
        let tracks = Event::Tracks(self.tracks.clone().into());
        let middle = sent.into_iter().map(|(_, _, event)| event);
        std::iter::once(tracks)
            .chain(middle)
            .chain([Event::End])
            .collect()
    }

    fn frame(&self) -> i64 {
        (90_000 * u64::from(self.rate.1) / u64::from(self.rate.0)) as i64
    }

    /// Of the unit at `index` in decode order.
    fn decode_time(&self, times: &[i64], index: usize) -> i64 {
        match index.checked_sub(self.reorder) {
            Some(earlier) => times[earlier],
            None => times[0] - (self.reorder - index) as i64 * self.frame(),
        }
    }

    fn video(&self, track: &Track, times: &[i64], marks: &[usize]) -> Vec<AccessUnit> {
        let mut units = Vec::new();
        for (i, &mark) in marks.iter().enumerate() {
            let next = marks.get(i + 1).copied().unwrap_or(times.len());
            for (place, decoded) in decode_order(mark, next, self.reorder).enumerate() {
                let dts = self.decode_time(times, mark + place);
                let keyframe = place == 0;
                units.push(AccessUnit {
                    track: track.id,
                    dts: Timestamp::new(dts, Timescale::VIDEO),
                    pts: Timestamp::new(times[decoded], Timescale::VIDEO),
                    duration: u32::try_from(self.frame()).unwrap(),
                    keyframe,
                    data: payload(track.id, decoded, if keyframe { 6_000 } else { 900 }),
                });
            }
        }
        units
    }
}

/// The pictures `first..end` in decode order: each run of `reorder` pictures comes after the one that follows them.
fn decode_order(first: usize, end: usize, reorder: usize) -> impl Iterator<Item = usize> {
    let runs = (first + 1..end).step_by(reorder + 1);
    let run = move |start: usize| {
        let anchor = (start + reorder).min(end - 1);
        std::iter::once(anchor).chain(start..anchor)
    };
    std::iter::once(first).chain(runs.flat_map(run))
}

fn sound(track: &Track, start: i64, end: i64) -> Vec<AccessUnit> {
    let samples = match &track.codec {
        Codec::Aac(config) => config.samples_per_frame(),
        _ => 960,
    };
    let rescaled =
        |ticks| Timestamp::new(ticks, Timescale::VIDEO).rescale(track.timescale, Rounding::Up);
    // On the grid of frames, as an encoder's clock is.
    let first = (rescaled(start).ticks() + i64::from(samples) - 1) / i64::from(samples);
    let frames = first..rescaled(end).ticks() / i64::from(samples);
    let unit = |frame: i64| {
        let at = Timestamp::new(frame * i64::from(samples), track.timescale);
        AccessUnit {
            track: track.id,
            dts: at,
            pts: at,
            duration: samples,
            keyframe: true,
            data: payload(track.id, frame as usize, 300),
        }
    };
    frames.map(unit).collect()
}

/// Bytes that tell which unit they are.
fn payload(track: TrackId, index: usize, len: usize) -> Bytes {
    let mut data = format!("<track {} unit {index}>", track.0).into_bytes();
    data.resize(len + index % 7 * 10, b'.');
    data.into()
}

/// Everything that the events complete; every one of them must be taken.
pub(crate) fn package(config: &Config, events: &[Event]) -> Vec<Chunk> {
    let mut packager = Packager::new(config.clone());
    let mut chunks = Vec::new();
    for event in events {
        chunks.extend(packager.push(event.clone()).unwrap());
    }
    chunks
}

/// A window with all of it.
pub(crate) fn window(config: &Config, bounds: Bounds, chunks: &[Chunk]) -> Window {
    let mut window = Window::new(config.clone(), bounds);
    for chunk in chunks {
        window.push(chunk.clone());
    }
    window
}

/// Two rungs and sound.
pub(crate) fn ladder() -> Vec<Track> {
    vec![
        video(0, "720p", Some((30, 1))),
        video(1, "360p", Some((30, 1))),
        aac(2, "audio", 48_000),
    ]
}

/// Three segments, then other parameter sets in the video with a discontinuity, then three more.
pub(crate) fn with_change() -> Vec<Event> {
    let before = Stream::new(ladder(), 3);
    let tracks = ladder();
    let tracks = tracks.iter().map(|track| match track.format {
        Format::Video(_) => changed(track),
        Format::Audio(_) => track.clone(),
    });
    let after = Stream {
        first_number: 4,
        // Ten seconds were lost.
        start: Duration::from_secs(17),
        ..Stream::new(tracks.collect(), 3)
    };
    let mut events = before.events();
    events.pop();
    events.push(Event::Gap(media::Gap::Reconnect));
    events.extend(after.events().into_iter().map(|event| match event {
        Event::Segment(mark) => Event::Segment(Segment {
            discontinuity: 1,
            ..mark
        }),
        other => other,
    }));
    events
}
