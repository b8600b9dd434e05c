//! What a part costs: made, taken into the window and rendered, when the window holds a minute and when it holds two
//! hours.
//!
//! `cargo bench -p packager`.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a program for the terminal, with functions made by macros"
)]

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use media::bitstream::h264;
use media::{
    AccessUnit, Codec, Event, Format, Rational, Segment, Timescale, Timestamp, Track, TrackId, Utc,
    Video,
};
use packager::{Bounds, Chunk, Config, Delta, Packager, Window};

/// 320x240, High profile.
const SPS: [u8; 24] = [
    0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x41, 0xfa, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,
    0x00, 0x03, 0x03, 0x20, 0xf1, 0x42, 0x99, 0x60,
];
const PPS: [u8; 6] = [0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];
/// Pictures a segment, at 30 a second.
const PICTURES: i64 = 60;

fn config() -> Config {
    Config {
        epoch: "epoch".to_owned(),
        segment: Duration::from_secs(2),
        part: Duration::from_millis(250),
    }
}

fn tracks() -> Vec<Track> {
    let track = |id: u8| Track {
        id: TrackId(id),
        name: format!("rung{id}").parse().unwrap(),
        codec: Codec::H264(h264::Config::from_parameter_sets(&SPS, &PPS).unwrap()),
        format: Format::Video(Video {
            width: 320,
            height: 240,
            sample_aspect: Rational::ONE,
            frame_rate: Rational::new(30, 1),
        }),
        timescale: Timescale::VIDEO,
        bandwidth: None,
    };
    (0..5).map(track).collect()
}

/// Segment `number` of five rungs, with units of `bytes` each.
fn segment(number: u64, bytes: &Bytes) -> Vec<Event> {
    let first = i64::try_from(number).unwrap() * PICTURES;
    let at = |picture: i64| Timestamp::new(picture * 3_000, Timescale::VIDEO);
    let mark = Event::Segment(Segment {
        number,
        discontinuity: 0,
        start: at(first),
        utc: Utc::from_unix_micros(1_767_323_045_000_000 + first * 33_333),
    });
    let unit = |picture: i64, track: u8| {
        Event::Unit(AccessUnit {
            track: TrackId(track),
            dts: at(picture),
            pts: at(picture),
            duration: 3_000,
            keyframe: picture == first,
            data: bytes.clone(),
        })
    };
    let pictures = first..first + PICTURES;
    let units = pictures.flat_map(|picture| (0..5).map(move |track| unit(picture, track)));
    std::iter::once(mark).chain(units).collect()
}

/// Events to chunks, at about 2.5 Mbit/s a rung.
fn packaging(c: &mut Criterion) {
    let bytes = Bytes::from(vec![7; 10_000]);
    let mut group = c.benchmark_group("packager");
    group.throughput(Throughput::Bytes(5 * 60 * 10_000));
    group.bench_function("a segment of five rungs", |b| {
        let mut packager = Packager::new(config());
        packager.push(Event::Tracks(tracks().into())).unwrap();
        let mut number = 0;
        b.iter_batched(
            || {
                number += 1;
                segment(number, &bytes)
            },
            |events| {
                for event in events {
                    black_box(packager.push(event).unwrap());
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// Chunks as they come: those that one event completes, for ever.
struct Source {
    packager: Packager,
    number: u64,
    events: std::vec::IntoIter<Event>,
}

impl Source {
    fn new() -> Self {
        let mut packager = Packager::new(config());
        packager.push(Event::Tracks(tracks().into())).unwrap();
        Self {
            packager,
            number: 0,
            events: Vec::new().into_iter(),
        }
    }

    fn next(&mut self) -> Vec<Chunk> {
        loop {
            let Some(event) = self.events.next() else {
                self.number += 1;
                let bytes = Bytes::from_static(b"unit");
                self.events = segment(self.number, &bytes).into_iter();
                continue;
            };
            let chunks = self.packager.push(event).unwrap();
            if !chunks.is_empty() {
                return chunks;
            }
        }
    }
}

/// A window that is full with that many segments, and what comes next.
fn filled(segments: u64) -> (Window, Source) {
    let bounds = Bounds {
        duration: Duration::from_secs(2 * segments),
        bytes: usize::MAX,
    };
    let mut window = Window::new(config(), bounds);
    let mut source = Source::new();
    while source.number < 2 * segments + 10 {
        source
            .next()
            .into_iter()
            .for_each(|chunk| window.push(chunk));
    }
    (window, source)
}

/// A part (and what ends with it) into the window, and its playlists out.
fn rendering(c: &mut Criterion) {
    for (name, segments) in [("a minute", 30), ("two hours", 3_600)] {
        let mut group = c.benchmark_group(format!("window of {name}"));
        let (mut window, mut source) = filled(segments);
        group.bench_function("playlist", |b| {
            b.iter(|| black_box(window.playlist("rung0", Delta::Full)));
        });
        group.bench_function("delta", |b| {
            b.iter(|| black_box(window.playlist("rung0", Delta::Skip)));
        });
        group.bench_function("iframes", |b| b.iter(|| black_box(window.iframes("rung0"))));
        let newest = window.tip("rung3").unwrap().segment - 5;
        group.bench_function("object", |b| {
            let path = format!("epoch/rung3/{newest}.m4s");
            b.iter(|| black_box(window.object(&path)));
        });
        group.bench_function("a part in, its playlist and delta out", |b| {
            b.iter_batched(
                || source.next(),
                |chunks| {
                    chunks.into_iter().for_each(|chunk| window.push(chunk));
                    black_box(window.playlist("rung0", Delta::Full));
                    black_box(window.playlist("rung0", Delta::Skip));
                },
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, packaging, rendering);
criterion_main!(benches);
