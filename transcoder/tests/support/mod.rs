//! Real sources from the ffmpeg program, and what a ladder made of them.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use media::bitstream::{aac, av1, h264, h265, opus};
use media::{
    AccessUnit, Audio, Bandwidth, Codec, Event, Format, Rational, Segment, Timescale, Timestamp,
    Track, TrackId, Tracks, Video,
};
use serde_json::Value;
use tokio::sync::mpsc;
use transcoder::{Config, First, Pool, Running, Status};

/// The worker program.
pub(crate) const WORKER: &str = env!("CARGO_BIN_EXE_transcoder-worker");

/// A moving picture with its number burnt into the top: sixteen fields, black or white, lowest bit first.
pub(crate) fn counted(size: &str, rate: &str, seconds: f64) -> String {
    format!(
        "testsrc2=size={size}:rate={rate}:duration={seconds},format=yuv420p,\
         geq=lum='if(lt(Y\\,H/4)\\,16+219*mod(floor(N/pow(2\\,floor(X*16/W)))\\,2)\\,lum(X\\,Y))':cb='if(lt(Y\\,H/8)\\,128\\,cb(X\\,Y))':cr='if(lt(Y\\,H/8)\\,128\\,cr(X\\,Y))'"
    )
}

/// What the encoder of a source is usually told.
pub(crate) const X264: &[&str] = &[
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    "-b:v",
    "600k",
    "-g",
    "60",
    "-sc_threshold",
    "0",
];

/// A publisher's events as ingest gives them.
#[derive(Clone, Default)]
pub(crate) struct Source {
    pub(crate) tracks: Vec<Track>,
    pub(crate) units: Vec<AccessUnit>,
}

impl Source {
    /// Has ffmpeg make a source: filters of lavfi, one an input, and arguments for the encoders.
    pub(crate) fn make(inputs: &[&str], arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("source.mp4");
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-nostdin"]);
        for input in inputs {
            command.args(["-f", "lavfi", "-i", input]);
        }
        command.args(["-threads", "2"]).args(arguments);
        command
            .args([
                "-video_track_timescale",
                "90000",
                "-use_editlist",
                "0",
                "-strict",
                "-2",
            ])
            .arg(&file);
        let status = command.status().expect("ffmpeg is installed");
        assert!(status.success(), "{command:?}");
        Self::read(&file)
    }

    /// Reads an MP4 file without edit lists.
    pub(crate) fn read(file: &Path) -> Self {
        let probe = Command::new("ffprobe")
            .args(["-v", "error", "-of", "json", "-show_data", "-show_streams"])
            .args([
                "-show_entries",
                "packet=stream_index,pts,dts,duration,size,pos,flags",
            ])
            .arg(file)
            .stderr(Stdio::inherit())
            .output()
            .expect("ffprobe is installed");
        let probe: Value = serde_json::from_slice(&probe.stdout).expect("ffprobe prints JSON");
        let bytes = Bytes::from(std::fs::read(file).expect("the source"));
        let tracks: Vec<Track> = probe["streams"]
            .as_array()
            .expect("streams")
            .iter()
            .map(track)
            .collect();
        let mut units: Vec<AccessUnit> = Vec::new();
        for packet in probe["packets"].as_array().expect("packets") {
            let field = |name: &str| match &packet[name] {
                Value::String(text) => text.parse::<i64>().expect("a number"),
                value => value.as_i64().unwrap_or(0),
            };
            let index = usize::try_from(field("stream_index")).expect("an index");
            let track = &tracks[index];
            let start = usize::try_from(field("pos")).expect("a place");
            let data = bytes.slice(start..start + usize::try_from(field("size")).expect("a size"));
            let key = packet["flags"]
                .as_str()
                .is_some_and(|flags| flags.starts_with('K'));
            let (data, keyframe) = match &track.codec {
                Codec::H264(_) => h264::normalize(&data, 4)
                    .map(|unit| (unit.data, unit.keyframe))
                    .expect("a picture"),
                Codec::H265(_) => h265::normalize(&data, 4)
                    .map(|unit| (unit.data, unit.keyframe))
                    .expect("a picture"),
                Codec::Av1(_) => av1::normalize(&data)
                    .map(|unit| (unit.data, unit.keyframe))
                    .expect("a picture"),
                _ => (data, key),
            };
            let at = |ticks| Timestamp::new(ticks, track.timescale);
            units.push(AccessUnit {
                track: track.id,
                dts: at(field("dts")),
                pts: at(field("pts")),
                duration: u32::try_from(field("duration")).expect("a duration"),
                keyframe,
                data,
            });
        }
        units.sort_by_key(|unit| unit.dts);
        Self { tracks, units }
    }

    /// The same, `by` milliseconds later.
    pub(crate) fn later(mut self, by: i64) -> Self {
        for unit in &mut self.units {
            let ticks = unit
                .dts
                .scale()
                .ticks(Duration::from_millis(by.unsigned_abs()))
                * by.signum();
            unit.dts = unit.dts.checked_add(ticks).expect("a small shift");
            unit.pts = unit.pts.checked_add(ticks).expect("a small shift");
        }
        self
    }

    /// Everything in the order of arrival.
    pub(crate) fn events(&self) -> Vec<Event> {
        let tracks: Tracks = self.tracks.clone().into();
        let units = self.units.iter().cloned().map(Event::Unit);
        std::iter::once(Event::Tracks(tracks))
            .chain(units)
            .collect()
    }

    /// Presentation times of the pictures, in order.
    pub(crate) fn times(&self) -> Vec<i64> {
        let id = self
            .tracks
            .iter()
            .find(|track| matches!(track.format, Format::Video(_)))
            .map(|track| track.id);
        let mut times: Vec<i64> = self
            .units
            .iter()
            .filter(|unit| Some(unit.track) == id)
            .map(|unit| unit.pts.ticks())
            .collect();
        times.sort_unstable();
        times
    }
}

fn track(stream: &Value) -> Track {
    let text = |name: &str| stream[name].as_str().unwrap_or_default();
    let record = hex(text("extradata"));
    let index = stream["index"]
        .as_u64()
        .and_then(|index| u8::try_from(index).ok())
        .expect("an index");
    let codec = match text("codec_name") {
        "h264" => Codec::H264(h264::Config::from_record(record).expect("avcC")),
        "hevc" => Codec::H265(h265::Config::from_record(record).expect("hvcC")),
        "av1" => Codec::Av1(av1::Config::from_record(record).expect("av1C")),
        "aac" => Codec::Aac(aac::Config::from_record(record).expect("AudioSpecificConfig")),
        "opus" => Codec::Opus(opus::Config::from_record(record).expect("OpusHead")),
        other => panic!("no test uses {other}"),
    };
    let ratio = |name: &str, separator| {
        let (num, den) = text(name).split_once(separator)?;
        Rational::new(num.parse().ok()?, den.parse().ok()?).filter(|ratio| ratio.num() > 0)
    };
    let number = |name: &str| stream[name].as_u64().unwrap_or(0);
    let (format, scale) = if text("codec_type") == "video" {
        let side = |name| u16::try_from(number(name)).expect("a side");
        let video = Video {
            width: side("width"),
            height: side("height"),
            sample_aspect: ratio("sample_aspect_ratio", ':').unwrap_or(Rational::ONE),
            frame_rate: ratio("r_frame_rate", '/'),
        };
        (Format::Video(video), 90_000)
    } else {
        let rate = text("sample_rate").parse().expect("a rate");
        let channels = u8::try_from(number("channels")).expect("a count");
        (
            Format::Audio(Audio {
                sample_rate: rate,
                channels,
            }),
            rate,
        )
    };
    Track {
        id: TrackId(index),
        name: format!("track{index}").parse().expect("a name"),
        codec,
        format,
        timescale: Timescale::new(scale).expect("not zero"),
        // What the metadata of a publish says.
        bandwidth: text("bit_rate").parse().ok().map(|average_bps| Bandwidth {
            average_bps,
            peak_bps: average_bps,
        }),
    }
}

/// The bytes of a hex dump as ffprobe prints it.
fn hex(dump: &str) -> Bytes {
    let mut bytes = Vec::new();
    for line in dump.lines() {
        let Some((_, rest)) = line.split_once(": ") else {
            continue;
        };
        let columns = rest.split("  ").next().unwrap_or_default();
        let digits: String = columns.chars().filter(char::is_ascii_hexdigit).collect();
        for pair in digits.as_bytes().chunks_exact(2) {
            let pair = std::str::from_utf8(pair).expect("digits");
            bytes.push(u8::from_str_radix(pair, 16).expect("digits"));
        }
    }
    bytes.into()
}

/// Everything that a stream gave.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) events: Vec<Event>,
    pub(crate) status: Status,
}

impl Output {
    /// Runs `events` through a pool of its own.
    pub(crate) async fn of(config: Config, events: Vec<Event>) -> Self {
        let pool = Pool::new(config);
        let output = Self::within(&pool, events).await;
        pool.shutdown().await;
        output
    }

    /// Runs `events` through a pool of its own in the time that their media takes, as a publisher sends them.
    pub(crate) async fn paced(config: Config, events: Vec<Event>) -> Self {
        let pool = Pool::new(config);
        let output = Self::drive(&pool, events, &[], || {}, true).await;
        pool.shutdown().await;
        output
    }

    /// Runs `events` through a stream of `pool`.
    pub(crate) async fn within(pool: &Pool, events: Vec<Event>) -> Self {
        Self::drive(pool, events, &[], || {}, false).await
    }

    /// Runs `events` through a stream of `pool`. The publisher pauses at each of `pauses` (in 90 kHz ticks of its
    /// pictures); when all but the last half second before that has come out on every track, `fault` is called and
    /// the publisher goes on.
    pub(crate) async fn faulted(
        pool: &Pool,
        events: Vec<Event>,
        pauses: &[i64],
        fault: impl FnMut(),
    ) -> Self {
        Self::drive(pool, events, pauses, fault, false).await
    }

    async fn drive(
        pool: &Pool,
        events: Vec<Event>,
        pauses: &[i64],
        mut fault: impl FnMut(),
        paced: bool,
    ) -> Self {
        let (to, input) = mpsc::channel(64);
        let (output, mut from) = mpsc::channel(64);
        let (go, mut gone) = mpsc::channel::<()>(1);
        let id = "test".parse().expect("an id");
        let Running { status, join } =
            pool.admit()
                .expect("room")
                .start(id, First::default(), input, output);
        let start = tokio::time::Instant::now();
        let mut stops: VecDeque<i64> = pauses.iter().copied().collect();
        #[expect(clippy::disallowed_methods, reason = "joined below")]
        let publisher = tokio::spawn(async move {
            for event in events.into_iter().chain([Event::End]) {
                if let (Event::Unit(unit), Some(stop)) = (&event, stops.front())
                    && unit.dts >= Timestamp::new(*stop, Timescale::VIDEO)
                {
                    stops.pop_front();
                    gone.recv().await.expect("the test says when to go on");
                }
                if let Event::Unit(unit) = &event
                    && paced
                {
                    let due = start + unit.dts.scale().duration(unit.dts.ticks());
                    tokio::time::sleep_until(due).await;
                }
                if to.send(event).await.is_err() {
                    return;
                }
            }
        });
        let mut all = Self::default();
        let mut waits: VecDeque<i64> = pauses.iter().copied().collect();
        let mut newest: BTreeMap<TrackId, Timestamp> = BTreeMap::new();
        let patience = Duration::from_secs(120);
        while let Some(event) = tokio::time::timeout(patience, from.recv())
            .await
            .expect("the stream goes on")
        {
            if let Event::Tracks(tracks) = &event {
                newest = tracks
                    .iter()
                    .map(|track| (track.id, Timestamp::new(-1, track.timescale)))
                    .collect();
            }
            if let Event::Unit(unit) = &event {
                newest.insert(unit.track, unit.pts);
            }
            all.events.push(event);
            if let Some(wait) = waits.front()
                && newest
                    .values()
                    .all(|pts| *pts >= Timestamp::new(wait - 45_000, Timescale::VIDEO))
            {
                waits.pop_front();
                fault();
                go.send(()).await.expect("the publisher waits");
            }
        }
        assert!(
            waits.is_empty(),
            "the source is as long as its faults ask for"
        );
        publisher.await.expect("the publisher is a simple loop");
        join.await.expect("the supervisor does not panic");
        all.status = status.borrow().clone();
        assert_eq!(all.events.last(), Some(&Event::End));
        all.check();
        all
    }

    pub(crate) fn marks(&self) -> Vec<Segment> {
        self.events
            .iter()
            .filter_map(|event| {
                if let Event::Segment(mark) = event {
                    Some(*mark)
                } else {
                    None
                }
            })
            .collect()
    }

    /// The lists of tracks, each as names and shapes.
    pub(crate) fn lists(&self) -> Vec<String> {
        let describe = |track: &Track| match track.format {
            Format::Video(video) => format!("{}:{}x{}", track.name, video.width, video.height),
            Format::Audio(audio) => {
                format!("{}:{}x{}", track.name, audio.sample_rate, audio.channels)
            }
        };
        let list = |event: &Event| match event {
            Event::Tracks(tracks) => {
                Some(tracks.iter().map(describe).collect::<Vec<_>>().join(" "))
            }
            _ => None,
        };
        self.events.iter().filter_map(list).collect()
    }

    /// The newest track of a name.
    pub(crate) fn track(&self, name: &str) -> &Track {
        let lists = self.events.iter().rev().filter_map(|event| match event {
            Event::Tracks(tracks) => Some(tracks),
            _ => None,
        });
        lists
            .flat_map(|tracks| tracks.iter())
            .find(|track| track.name.as_str() == name)
            .expect("a track of that name")
    }

    pub(crate) fn units(&self, name: &str) -> Vec<&AccessUnit> {
        let id = self.track(name).id;
        let unit = |event: &'_ Event| match event {
            Event::Unit(unit) => unit.track == id,
            _ => false,
        };
        self.events
            .iter()
            .filter(|event| unit(event))
            .filter_map(|event| match event {
                Event::Unit(unit) => Some(unit),
                _ => None,
            })
            .collect()
    }

    /// Presentation times of a track, in order.
    pub(crate) fn times(&self, name: &str) -> Vec<i64> {
        let mut times: Vec<i64> = self
            .units(name)
            .iter()
            .map(|unit| unit.pts.ticks())
            .collect();
        times.sort_unstable();
        times
    }

    /// What holds of every output.
    fn check(&self) {
        let mut tracks: BTreeMap<TrackId, Track> = BTreeMap::new();
        let mut newest: BTreeMap<TrackId, Timestamp> = BTreeMap::new();
        let mut marks: Vec<Segment> = Vec::new();
        let mut cuts: BTreeMap<TrackId, usize> = BTreeMap::new();
        let starts = self.marks();
        for event in &self.events {
            match event {
                Event::Tracks(list) => {
                    tracks = list.iter().map(|track| (track.id, track.clone())).collect();
                }
                Event::Segment(mark) => {
                    assert!(!tracks.is_empty(), "tracks before the first mark");
                    if let Some(last) = marks.last() {
                        assert_eq!(mark.number, last.number + 1);
                        assert!(mark.start > last.start);
                    }
                    marks.push(*mark);
                }
                Event::Unit(unit) => {
                    let track = tracks
                        .get(&unit.track)
                        .unwrap_or_else(|| panic!("{unit:?} of a track not listed"));
                    assert_eq!(unit.dts.scale(), track.timescale);
                    assert!(!unit.data.is_empty());
                    if let Some(last) = newest.insert(unit.track, unit.dts) {
                        assert!(
                            unit.dts > last,
                            "{} goes back: {unit:?} after {last:?}",
                            track.name
                        );
                    }
                    // No unit comes before the mark of its segment.
                    let next = starts.get(marks.len());
                    assert!(
                        next.is_none_or(|next| unit.pts < next.start),
                        "{unit:?} before its mark {next:?}"
                    );
                    if matches!(track.format, Format::Video(_)) {
                        // Each segment begins with a keyframe at its start, to the tick.
                        let cut = cuts.entry(unit.track).or_insert(0);
                        let at = starts.iter().filter(|mark| mark.start <= unit.pts).count();
                        if at > *cut {
                            assert!(
                                unit.keyframe,
                                "{} segment {at} begins with {unit:?}",
                                track.name
                            );
                            assert_eq!(
                                unit.pts,
                                starts[at - 1].start,
                                "{} segment {at}",
                                track.name
                            );
                            *cut = at;
                        }
                    }
                }
                Event::Gap(_) | Event::End => {}
            }
        }
    }

    /// The newest tracks.
    pub(crate) fn tracks(&self) -> Vec<Track> {
        let lists = self.events.iter().rev().find_map(|event| match event {
            Event::Tracks(tracks) => Some(tracks.to_vec()),
            _ => None,
        });
        lists.unwrap_or_default()
    }

    /// A rung as an Annex B stream.
    pub(crate) fn stream(&self, name: &str) -> Vec<u8> {
        let track = self.track(name);
        let Codec::H264(config) = &track.codec else {
            panic!("rungs are H.264")
        };
        let mut stream = Vec::new();
        for unit in self.units(name) {
            if unit.keyframe {
                stream.extend_from_slice(&config.annexb());
            }
            let data =
                media::bitstream::annexb::from_length_prefixed(&unit.data, 4).expect("lengths");
            stream.extend_from_slice(&data);
        }
        stream
    }

    /// The numbers burnt into the pictures of a rung, in order of presentation, as ffmpeg decodes them.
    pub(crate) fn numbers(&self, name: &str) -> Vec<u32> {
        let track = self.track(name);
        let stream = self.stream(name);
        let Format::Video(video) = track.format else {
            panic!("a picture")
        };
        let (width, height) = (usize::from(video.width), usize::from(video.height));
        decode(stream, width, height)
            .iter()
            .map(|picture| {
                // The middle of each field, away from its edges.
                let bit = |field: usize| {
                    let (x, y) = ((2 * field + 1) * width / 32, height / 8);
                    u32::from(picture[y * width + x] > 128) << field
                };
                (0..16).map(bit).sum()
            })
            .collect()
    }
}

/// Sound in raw AAC frames as samples of one channel at 48 kHz, from the first frame's priming on.
pub(crate) fn samples<'a>(
    track: &Track,
    units: impl IntoIterator<Item = &'a AccessUnit>,
) -> Vec<f32> {
    let Codec::Aac(config) = &track.codec else {
        panic!("AAC")
    };
    let rates = [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000];
    let rate = rates
        .iter()
        .position(|rate| *rate == config.sample_rate())
        .and_then(|rate| u8::try_from(rate).ok());
    let rate = rate.expect("a usual rate");
    let mut stream = Vec::new();
    for unit in units {
        // ADTS (ISO/IEC 14496-3 1.A.2.2): AAC-LC, no CRC.
        let length = u16::try_from(unit.data.len() + 7).expect("a small frame");
        let channels = config.channels();
        let bits = u64::from(length) << 13 | 0x7ff << 2;
        let head =
            0xfff1 << 40 | 0x40 << 32 | u64::from(rate) << 34 | u64::from(channels) << 30 | bits;
        stream.extend_from_slice(&head.to_be_bytes()[1..]);
        stream.extend_from_slice(&unit.data);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("sound.aac");
    std::fs::write(&file, stream).expect("space");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "aac", "-i"])
        .arg(&file)
        .args(["-ac", "1", "-ar", "48000", "-f", "f32le", "-"])
        .output()
        .expect("ffmpeg is installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
        .stdout
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect()
}

/// Pictures of an Annex B stream, as grey; fails on any damage.
fn decode(stream: Vec<u8>, width: usize, height: usize) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("rung.264");
    std::fs::write(&file, stream).expect("space");
    let output = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-nostdin",
            "-xerror",
            "-err_detect",
            "explode",
            "-f",
            "h264",
            "-i",
        ])
        .arg(&file)
        .args([
            "-fps_mode",
            "drop",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "gray",
            "-",
        ])
        .output()
        .expect("ffmpeg is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    output
        .stdout
        .chunks_exact(width * height)
        .map(<[u8]>::to_vec)
        .collect()
}

/// A pool with a small ladder: two rungs that are quick to encode.
pub(crate) fn small(passthrough: bool) -> Config {
    let mut config = Config::new(PathBuf::from(WORKER));
    // Sources come here as fast as they are taken, which is no reason to give rungs up.
    config.lag_max = Duration::from_secs(3_600);
    let rung = |height, bitrate_bps| transcoder::ladder::Rung {
        height,
        bitrate_bps,
        frame_rate_max: None,
    };
    // Rates at which every number burnt in can be read again.
    config.ladder = transcoder::Ladder::new(
        vec![rung(180, 300_000), rung(90, 200_000)],
        passthrough,
        128_000,
    )
    .expect("a ladder");
    config
}
