//! A recording in which nothing is wrong: what a player would get from a perfect server that shows an ffmpeg encode.
//! The doctored recordings of the tests are this one with one thing spoilt.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use hyper::{HeaderMap, Method};

use super::Security;
use crate::support::hls::{Fragment, Init};
use crate::support::http::{Exchange, Purpose};
use crate::support::ledger::{Picture, Source};

const BASE: &str = "/live/room/index.m3u8";
const SEGMENT: f64 = 2.0;
const PART: f64 = 0.25;
/// Segments of the clip.
const SEGMENTS: u64 = 13;
/// Segments listed at most.
const LISTED: usize = 8;
/// The viewing begins when this segment does.
const FIRST_SEEN: u64 = 6;
const FIRST_NUMBER: u64 = 1;
/// 2026-11-21T08:00:00Z.
const EPOCH_DATE: u64 = 8 * 3600;

/// One track of the clip, cut as the requirements ask.
struct Track {
    name: &'static str,
    sound: bool,
    init: Bytes,
    codec: String,
    parts: Vec<Part>,
}

struct Part {
    segment: u64,
    index: usize,
    start: f64,
    duration: f64,
    data: Bytes,
    independent: bool,
}

impl Track {
    fn new(name: &'static str, picture: Option<Picture>) -> Self {
        let more = &[
            "-movflags",
            "+cmaf+empty_moov+default_base_moof+frag_every_frame",
            "-video_track_timescale",
            "90000",
        ];
        let seconds = u32::try_from(SEGMENTS).expect("few") * 2;
        let (size, sound) = (
            picture.unwrap_or(Picture::new(320, 180, 30)),
            picture.is_none(),
        );
        let mut source = Source {
            more,
            ..Source::new(size, seconds)
        };
        if sound {
            source.codec = crate::support::ledger::Codec::None;
        } else {
            source.sound = &[];
        }
        let file = Bytes::from(std::fs::read(source.file("mp4")).unwrap());
        let (init, chunks) = split(&file);
        let parsed = Init::parse(&init).unwrap();
        let scale = parsed.timescale();
        let mut track = Self {
            name,
            sound,
            init,
            codec: parsed.rfc6381(),
            parts: Vec::new(),
        };
        let mut open: Option<Part> = None;
        for data in chunks {
            let sample = Fragment::parse_all(&parsed, &data)
                .unwrap()
                .remove(0)
                .samples
                .remove(0);
            let start = super::media::ticks(sample.dts) / scale;
            let duration = f64::from(sample.duration) / scale;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count of a few segments"
            )]
            let segment = FIRST_NUMBER + ((start + 1e-9) / SEGMENT) as u64;
            let full = open.as_ref().is_some_and(|part| {
                part.segment != segment || part.duration + duration > PART + 1e-9
            });
            if full {
                track.parts.extend(open.take());
            }
            if let Some(part) = &mut open {
                part.data = [&part.data[..], &data].concat().into();
                part.duration += duration;
            } else {
                let index = track
                    .parts
                    .last()
                    .filter(|last| last.segment == segment)
                    .map_or(0, |last| last.index + 1);
                open = Some(Part {
                    segment,
                    index,
                    start,
                    duration,
                    data,
                    independent: sample.is_sync(),
                });
            }
        }
        track.parts.extend(open);
        track
            .parts
            .retain(|part| part.segment < FIRST_NUMBER + SEGMENTS);
        track
    }

    fn playlist_path(&self) -> String {
        format!("/live/room/e1/{}/index.m3u8", self.name)
    }

    fn of_segment(&self, segment: u64) -> impl Iterator<Item = &Part> {
        self.parts
            .iter()
            .filter(move |part| part.segment == segment)
    }

    fn whole(&self, segment: u64) -> Bytes {
        self.of_segment(segment)
            .flat_map(|part| part.data.to_vec())
            .collect::<Vec<_>>()
            .into()
    }

    /// The segment in progress, and how many of its parts are out, once `out` parts are.
    fn tip(&self, out: usize) -> (u64, usize) {
        match (self.parts.get(out.wrapping_sub(1)), self.parts.get(out)) {
            (Some(last), Some(next)) if next.segment == last.segment => {
                (last.segment, last.index + 1)
            }
            (Some(last), _) => (last.segment + 1, 0),
            (None, _) => (FIRST_NUMBER, 0),
        }
    }

    /// The playlist once `out` parts are published; `skip` makes it a delta update.
    fn playlist(&self, all: &[Self], out: usize, skip: bool) -> String {
        let (open, open_parts) = self.tip(out);
        let ended = out == self.parts.len();
        let whole = open - FIRST_NUMBER;
        let first = FIRST_NUMBER + whole.saturating_sub(LISTED as u64);
        let edge: f64 = self.parts[..out]
            .last()
            .map_or(0.0, |part| part.start + part.duration);
        let duration = |segment| {
            self.of_segment(segment)
                .map(|part| part.duration)
                .sum::<f64>()
        };
        let start = |segment| {
            self.of_segment(segment)
                .next()
                .map_or(0.0, |part| part.start)
        };
        let whole_end = start(open - 1) + duration(open - 1);
        let skipped = (first..open)
            .take_while(|segment| skip && whole_end - start(*segment) - duration(*segment) >= 12.0)
            .count();
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:{}\n#EXT-X-TARGETDURATION:2\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.75,HOLD-BACK=6.0,CAN-SKIP-UNTIL=12.0\n\
             #EXT-X-PART-INF:PART-TARGET={PART}\n#EXT-X-MEDIA-SEQUENCE:{first}\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n",
            if skipped > 0 { 9 } else { 6 }
        );
        if skipped > 0 {
            writeln!(text, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}").unwrap();
        } else {
            text += "#EXT-X-MAP:URI=\"init-1.mp4\"\n";
        }
        for segment in first + skipped as u64..=open {
            let listed = if segment == open {
                open_parts
            } else {
                usize::MAX
            };
            if listed == 0 {
                continue;
            }
            writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{}", date(start(segment))).unwrap();
            let end = start(segment) + duration(segment);
            if segment == open || edge - end < 6.0 {
                for part in self.of_segment(segment).take(listed) {
                    let flag = if part.independent {
                        ",INDEPENDENT=YES"
                    } else {
                        ""
                    };
                    writeln!(
                        text,
                        "#EXT-X-PART:DURATION={:.5},URI=\"{segment}.{}.m4s\"{flag}",
                        part.duration, part.index
                    )
                    .unwrap();
                }
            }
            if segment < open {
                writeln!(text, "#EXTINF:{:.5},\n{segment}.m4s", duration(segment)).unwrap();
            }
        }
        if ended {
            text += "#EXT-X-ENDLIST\n";
            return text;
        }
        writeln!(
            text,
            "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{open}.{open_parts}.m4s\""
        )
        .unwrap();
        for other in all.iter().filter(|other| other.name != self.name) {
            let last = other
                .parts
                .iter()
                .rfind(|part| part.start + part.duration <= edge + 0.03)
                .unwrap_or(&other.parts[0]);
            writeln!(
                text,
                "#EXT-X-RENDITION-REPORT:URI=\"../{}/index.m3u8\",LAST-MSN={},LAST-PART={}",
                other.name, last.segment, last.index
            )
            .unwrap();
        }
        text
    }

    fn i_frames(&self) -> String {
        let mut text =
            "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:2\n#EXT-X-I-FRAMES-ONLY\n".to_owned();
        writeln!(
            text,
            "#EXT-X-MEDIA-SEQUENCE:{FIRST_SEEN}\n#EXT-X-MAP:URI=\"init-1.mp4\""
        )
        .unwrap();
        for segment in FIRST_SEEN..FIRST_SEEN + 6 {
            writeln!(text, "#EXTINF:2.0,\n#EXT-X-BYTERANGE:3000@0\n{segment}.m4s").unwrap();
        }
        text
    }
}

/// The init, and each `moof` with its `mdat`.
fn split(file: &Bytes) -> (Bytes, Vec<Bytes>) {
    let (mut init, mut chunks, mut at, mut moof) = (0, Vec::new(), 0, 0);
    while let Some(header) = file.get(at..at + 8) {
        let end = at + u32::from_be_bytes(*header.first_chunk().expect("four bytes")) as usize;
        match &header[4..] {
            b"moov" => init = end,
            b"moof" => moof = at,
            b"mdat" => chunks.push(file.slice(moof..end)),
            _ => {}
        }
        at = end;
    }
    (file.slice(..init), chunks)
}

fn date(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "milliseconds of a short clip"
    )]
    let millis = EPOCH_DATE * 1000 + (seconds * 1000.0).round() as u64;
    let (hour, minute, second) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1000 % 60);
    format!(
        "2026-11-21T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        millis % 1000
    )
}

/// The exchanges of the viewing.
pub(super) fn exchanges() -> Vec<Exchange> {
    let tracks = [
        Track::new("360p", Some(Picture::new(640, 360, 30))),
        Track::new("180p", Some(Picture::new(320, 180, 30))),
        Track::new("audio", None),
    ];
    let mut log = Tape::default();
    log.add(
        Purpose::Multivariant,
        BASE,
        0.0,
        0.0,
        200,
        multivariant(&tracks).into(),
        1,
    );
    for track in &tracks {
        let folder = format!("/live/room/e1/{}", track.name);
        log.add(
            Purpose::Init,
            &format!("{folder}/init-1.mp4"),
            0.0,
            0.0,
            200,
            track.init.clone(),
            31_536_000,
        );
        let seen = track
            .parts
            .iter()
            .position(|part| part.segment == FIRST_SEEN)
            .expect("a long clip");
        let zero = f64::from(u32::try_from(FIRST_SEEN - FIRST_NUMBER).expect("few")) * SEGMENT;
        for segment in FIRST_NUMBER..FIRST_SEEN {
            log.add(
                Purpose::Segment,
                &format!("{folder}/{segment}.m4s"),
                0.0,
                0.0,
                200,
                track.whole(segment),
                31_536_000,
            );
        }
        for out in seen..=track.parts.len() {
            // A part is out when its last frame is; the first answer finds the viewing's beginning.
            let end = |out: usize| {
                out.checked_sub(1).map_or(0.0, |last| {
                    track.parts[last].start + track.parts[last].duration - zero
                })
            };
            let (asked, at) = (end(out - 1).max(0.0), end(out).max(0.0));
            let (msn, part) = track.tip(out - 1);
            let path = track.playlist_path();
            let query = if out == seen {
                String::new()
            } else {
                format!("?_HLS_msn={msn}&_HLS_part={part}")
            };
            let age = if out == seen { 1 } else { 12 };
            log.add(
                Purpose::Playlist,
                &format!("{path}{query}"),
                asked,
                at,
                200,
                track.playlist(&tracks, out, false).into(),
                age,
            );
            if out == seen {
                continue;
            }
            if out < track.parts.len() {
                log.add(
                    Purpose::Delta,
                    &format!("{path}{query}&_HLS_skip=YES"),
                    asked,
                    at,
                    200,
                    track.playlist(&tracks, out, true).into(),
                    12,
                );
            }
            let new = &track.parts[out - 1];
            let name = format!("{folder}/{}.{}.m4s", new.segment, new.index);
            log.add(
                Purpose::Hint,
                &name,
                asked,
                at,
                200,
                new.data.clone(),
                31_536_000,
            );
            log.add(
                Purpose::Part,
                &name,
                at,
                at,
                200,
                new.data.clone(),
                31_536_000,
            );
            if track.tip(out).1 == 0 {
                log.add(
                    Purpose::Segment,
                    &format!("{folder}/{}.m4s", new.segment),
                    at,
                    at,
                    200,
                    track.whole(new.segment),
                    31_536_000,
                );
            }
        }
        if !track.sound {
            log.add(
                Purpose::Playlist,
                &format!("{folder}/iframes.m3u8"),
                12.0,
                12.0,
                200,
                track.i_frames().into(),
                1,
            );
        }
        probes(&mut log, &tracks, track, &folder);
    }
    log.exchanges
}

pub(super) fn security() -> Security {
    Security {
        protocol: "TLSv1_3".to_owned(),
        alpn: "h2".to_owned(),
        max_streams: Some(100),
    }
}

fn multivariant(tracks: &[Track]) -> String {
    let sound = &tracks[2];
    let mut text = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Audio\",LANGUAGE=\"und\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"e1/audio/index.m3u8\"\n"
        .to_owned();
    for (track, size, rate) in [
        (&tracks[0], "640x360", 1_700_000),
        (&tracks[1], "320x180", 700_000),
    ] {
        let (name, codec) = (track.name, &track.codec);
        write!(
            text,
            "#EXT-X-STREAM-INF:BANDWIDTH={rate},AVERAGE-BANDWIDTH={},CODECS=\"{codec},{}\",RESOLUTION={size},FRAME-RATE=30.000,AUDIO=\"audio\",CLOSED-CAPTIONS=NONE\n\
             e1/{name}/index.m3u8\n\
             #EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=90000,CODECS=\"{codec}\",RESOLUTION={size},URI=\"e1/{name}/iframes.m3u8\"\n",
            rate - 100_000,
            sound.codec
        )
        .unwrap();
    }
    text
}

fn probes(log: &mut Tape, tracks: &[Track], track: &Track, folder: &str) {
    let path = track.playlist_path();
    let at = |segment: u64, part: usize| {
        track
            .parts
            .iter()
            .position(|one| one.segment == segment && one.index == part)
            .expect("a part")
            + 1
    };
    let text = |out: usize| Bytes::from(track.playlist(tracks, out, false));
    let mut ask = |name, query: &str, took: f64, status, body: Bytes| {
        log.add(
            Purpose::Probe(name),
            &format!("{path}?{query}"),
            5.0,
            5.0 + took,
            status,
            body,
            1,
        );
    };
    ask("segment-too-far", "_HLS_msn=15", 0.0, 400, Bytes::new());
    ask(
        "part-too-far",
        "_HLS_msn=10&_HLS_part=1000",
        0.0,
        400,
        Bytes::new(),
    );
    ask("part-alone", "_HLS_part=0", 0.0, 400, Bytes::new());
    ask("nonsense", "_HLS_msn=abc", 0.0, 400, Bytes::new());
    ask("past", "_HLS_msn=3&_HLS_part=0", 0.0, 200, text(at(10, 2)));
    ask(
        "part-past-the-end",
        "_HLS_msn=9&_HLS_part=9",
        0.0,
        200,
        text(at(10, 2)),
    );
    ask(
        "order",
        "_HLS_part=2&_HLS_msn=10",
        0.1,
        200,
        text(at(10, 2)),
    );
    ask(
        "segment-in-progress",
        "_HLS_msn=10",
        1.5,
        200,
        text(at(11, 0)),
    );
    ask(
        "two-segments-ahead",
        "_HLS_msn=11&_HLS_part=0",
        1.5,
        200,
        text(at(11, 0)),
    );
    ask("stalled", "_HLS_msn=11&_HLS_part=0", 6.1, 503, Bytes::new());
    ask(
        "after-the-end",
        "_HLS_msn=1000000&_HLS_part=3",
        0.0,
        200,
        text(track.parts.len()),
    );
    for _ in 0..5 {
        ask(
            "crowd",
            "_HLS_msn=10&_HLS_part=3",
            0.2,
            200,
            text(at(10, 3)),
        );
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &text(at(10, 2))).unwrap();
    ask("gzip", "", 0.0, 200, packed.finish().unwrap().into());
    let whole = track.whole(FIRST_SEEN);
    let segment = format!("{folder}/{FIRST_SEEN}.m4s");
    let length = whole.len();
    let mut file = |name, status, body: Bytes| {
        log.add(
            Purpose::Probe(name),
            &segment,
            6.0,
            6.0,
            status,
            body,
            31_536_000,
        )
    };
    file("head", 200, Bytes::new());
    file("range", 206, whole.slice(100..300));
    file("range-of-the-end", 206, whole.slice(length - 64..));
    file("range-outside", 416, Bytes::new());
    file("not-modified", 304, Bytes::new());
    file("gzip-media", 200, whole.clone());
    file("options", 204, Bytes::new());
    file("old-part", 200, whole.clone());
    file("old-segment", 200, whole);
    log.add(
        Purpose::Probe("missing"),
        &format!("{folder}/999999999.m4s"),
        6.0,
        6.0,
        404,
        Bytes::new(),
        1,
    );
    for exchange in &mut log.exchanges {
        match exchange.purpose {
            Purpose::Probe("head") if exchange.path() == segment => {
                set(exchange, "content-length", &length.to_string())
            }
            Purpose::Probe("range") if exchange.path() == segment => set(
                exchange,
                "content-range",
                &format!("bytes 100-299/{length}"),
            ),
            Purpose::Probe("gzip") => set(exchange, "content-encoding", "gzip"),
            Purpose::Probe("options") => {
                exchange.method = Method::OPTIONS;
                set(exchange, "access-control-allow-headers", "Range");
                set(
                    exchange,
                    "access-control-allow-methods",
                    "GET, HEAD, OPTIONS",
                );
            }
            _ => {}
        }
    }
}

/// Changes a header of an answer.
pub(super) fn set(exchange: &mut Exchange, name: &'static str, value: &str) {
    exchange.headers.insert(name, value.parse().unwrap());
}

#[derive(Default)]
struct Tape {
    exchanges: Vec<Exchange>,
}

impl Tape {
    #[expect(clippy::too_many_arguments, reason = "a row of a table")]
    fn add(
        &mut self,
        purpose: Purpose,
        target: &str,
        sent: f64,
        head: f64,
        status: u16,
        body: Bytes,
        age: u64,
    ) {
        let time = Duration::from_secs_f64;
        let mut exchange = Exchange {
            purpose,
            method: Method::GET,
            target: target.to_owned(),
            asked: HeaderMap::new(),
            sent: time(sent),
            status,
            headers: HeaderMap::new(),
            head: time(head),
            pieces: vec![(time(head), body.len())],
            done: time(head) + Duration::from_millis(1),
            body,
        };
        set(&mut exchange, "access-control-allow-origin", "*");
        set(
            &mut exchange,
            "access-control-expose-headers",
            "Date, Age, Content-Length, ETag",
        );
        set(&mut exchange, "vary", "Accept-Encoding");
        let media = matches!(
            purpose,
            Purpose::Init | Purpose::Part | Purpose::Segment | Purpose::Hint
        );
        let control = if media {
            format!("public, max-age={age}, immutable")
        } else {
            format!("max-age={age}")
        };
        set(&mut exchange, "cache-control", &control);
        set(
            &mut exchange,
            "content-type",
            if media {
                "video/mp4"
            } else {
                "application/vnd.apple.mpegurl"
            },
        );
        set(&mut exchange, "etag", "\"x\"");
        let length = exchange.body.len().to_string();
        set(&mut exchange, "content-length", &length);
        self.exchanges.push(exchange);
    }
}
