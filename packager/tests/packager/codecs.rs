//! Streams of real encoders, packaged, concatenated, and read back by ffprobe and ffmpeg.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use media::bitstream::{aac, av1, h264, h265, opus};
use media::{AccessUnit, Codec, Event, Format, Segment, Timescale, Timestamp, Track, TrackId};
use mp4_atom::Encode;
use packager::{Chunk, Delta, Object};

use crate::stream::{self, EPOCH};
use crate::{boxes, playlist};

/// A file of this test alone, removed with it.
struct File(PathBuf);

impl File {
    fn new(bytes: &[u8]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("packager-{}-{count}.mp4", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::File::create_new(&path)
            .unwrap()
            .write_all(bytes)
            .unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn run(program: &str, arguments: &[&str], path: Option<&Path>, rest: &str) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(["-v", "error"]).args(arguments);
    if let Some(path) = path {
        command.arg("-i").arg(path);
    }
    let output = command
        .args(rest.split_whitespace())
        .env("SVT_LOG", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .expect("ffmpeg is installed");
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint: Vec<&str> = complaint
        .lines()
        // The byte range of an I-frame ends within its mdat, as it should.
        .filter(|line| !line.contains("Svt") && !line.contains("partial file"))
        .collect();
    assert!(
        output.status.success() && complaint.is_empty(),
        "{program}: {complaint:?}"
    );
    output.stdout
}

/// Five seconds of an encoder's output in a fragmented file, one fragment a frame.
fn encode(source: &str, arguments: &str) -> Bytes {
    let rest = format!(
        "-t 5 {arguments} -f mp4 -movflags empty_moov+frag_every_frame+default_base_moof -video_track_timescale 90000 -"
    );
    run("ffmpeg", &["-f", "lavfi", "-i", source], None, &rest).into()
}

/// A file's only track as a track and units.
fn read(name: &str, file: &Bytes) -> (Track, Vec<AccessUnit>) {
    let mut boxes: &[u8] = file;
    let mut units: Vec<AccessUnit> = Vec::new();
    let mut track = None;
    let mut pending: Option<mp4_atom::Moof> = None;
    while !boxes.is_empty() {
        match mp4_atom::Decode::decode(&mut boxes).expect("a box") {
            mp4_atom::Any::Moov(moov) => track = Some(read_track(name, &moov)),
            mp4_atom::Any::Moof(moof) => pending = Some(moof),
            mp4_atom::Any::Mdat(mdat) => {
                let track = track.as_ref().expect("moov comes first");
                units.extend(read_samples(
                    track,
                    &pending.take().expect("a moof"),
                    &mdat.data,
                ));
            }
            _ => {}
        }
    }
    (track.expect("a moov"), units)
}

fn read_track(name: &str, moov: &mp4_atom::Moov) -> Track {
    let trak = &moov.trak[0];
    let record = |atom: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        atom(&mut bytes);
        Bytes::from(bytes).slice(8..)
    };
    let (codec, format) = match &trak.mdia.minf.stbl.stsd.codecs[0] {
        mp4_atom::Codec::Avc1(entry) => {
            let config = h264::Config::from_record(record(&|b| entry.avcc.encode(b).unwrap()));
            let config = config.unwrap();
            (Codec::H264(config.clone()), Format::Video(config.video()))
        }
        mp4_atom::Codec::Hvc1(entry) => {
            let config = h265::Config::from_record(record(&|b| entry.hvcc.encode(b).unwrap()));
            let config = config.unwrap();
            (Codec::H265(config.clone()), Format::Video(config.video()))
        }
        mp4_atom::Codec::Av01(entry) => {
            let config = av1::Config::from_record(record(&|b| entry.av1c.encode(b).unwrap()));
            let config = config.unwrap();
            (Codec::Av1(config.clone()), Format::Video(config.video()))
        }
        mp4_atom::Codec::Mp4a(entry) => {
            let specific = entry.esds.es_desc.dec_config.dec_specific.as_ref().unwrap();
            let config = aac::Config::from_record(specific.raw.clone().into()).unwrap();
            (Codec::Aac(config.clone()), Format::Audio(config.audio()))
        }
        mp4_atom::Codec::Opus(entry) => {
            let dops = record(&|b| entry.dops.encode(b).unwrap());
            let config = opus::Config::from_dops(&dops).unwrap();
            (Codec::Opus(config.clone()), Format::Audio(config.audio()))
        }
        other => panic!("{other:?}"),
    };
    Track {
        id: TrackId(0),
        name: name.parse().unwrap(),
        codec,
        format,
        timescale: Timescale::new(trak.mdia.mdhd.timescale).unwrap(),
        bandwidth: None,
    }
}

fn read_samples(track: &Track, moof: &mp4_atom::Moof, data: &[u8]) -> Vec<AccessUnit> {
    let traf = &moof.traf[0];
    let mut dts = traf.tfdt.as_ref().unwrap().base_media_decode_time as i64;
    let mut at = 0;
    let mut units = Vec::new();
    for entry in traf.trun[0].samples.iter() {
        let size = entry.size.or(traf.tfhd.default_sample_size).unwrap() as usize;
        let duration = entry
            .duration
            .or(traf.tfhd.default_sample_duration)
            .unwrap();
        let data = Bytes::copy_from_slice(&data[at..at + size]);
        let (data, keyframe) = match &track.codec {
            Codec::H264(config) => {
                let unit = config.normalize(&data, 4).unwrap();
                (unit.data, unit.keyframe)
            }
            Codec::H265(config) => {
                let unit = config.normalize(&data, 4).unwrap();
                (unit.data, unit.keyframe)
            }
            Codec::Av1(config) => {
                let unit = config.normalize(&data).unwrap();
                (unit.data, unit.keyframe)
            }
            _ => (data, true),
        };
        let time = |ticks| Timestamp::new(ticks, track.timescale);
        units.push(AccessUnit {
            track: track.id,
            dts: time(dts),
            pts: time(dts + entry.cts.unwrap_or(0)),
            duration,
            keyframe,
            data,
        });
        dts += i64::from(duration);
        at += size;
    }
    units
}

/// Marks at each keyframe (sound: each two seconds), the whole an hour and a half into the stream.
fn events(track: &Track, units: &[AccessUnit]) -> Vec<Event> {
    let hz = i64::from(track.timescale.hz());
    let offset = 5_400 * hz;
    let mut events = vec![Event::Tracks(vec![track.clone()].into())];
    let mut number = 41;
    let mut next = i64::MIN;
    for unit in units {
        let pts = unit.pts.checked_add(offset).unwrap();
        let due = matches!(track.format, Format::Video(_)) || pts.ticks() >= next;
        if unit.keyframe && due {
            next = pts.ticks() + 2 * hz;
            let utc = EPOCH.saturating_add(pts.since(Timestamp::new(0, pts.scale())).unwrap());
            let start = pts;
            events.push(Event::Segment(Segment {
                number,
                discontinuity: 3,
                start,
                utc,
            }));
            number += 1;
        }
        let dts = unit.dts.checked_add(offset).unwrap();
        events.push(Event::Unit(AccessUnit {
            dts,
            pts,
            ..unit.clone()
        }));
    }
    events.push(Event::End);
    events
}

/// The initialization segment and all segments, and how many segments.
fn file(chunks: &[Chunk]) -> (Vec<u8>, usize) {
    let window = stream::window(&stream::config(), stream::bounds(), chunks);
    let rope = window.playlist("t", Delta::Full).unwrap();
    let list = playlist::parse(std::str::from_utf8(&rope.to_bytes()).unwrap());
    let object = |name: &str| match window.object(&format!("e1/t/{name}")) {
        Object::Ready(bytes) => bytes.to_bytes(),
        other => panic!("{name}: {other:?}"),
    };
    let mut file = object(&list.segments[0].map).to_vec();
    for segment in &list.segments {
        assert_eq!(segment.map, list.segments[0].map);
        file.extend_from_slice(&object(segment.uri.as_ref().unwrap()));
    }
    (file, list.segments.len())
}

/// Where `ftyp` and `moov` end.
fn init_len(file: &[u8]) -> usize {
    let len = |at: usize| u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let ftyp = len(0);
    ftyp + len(ftyp)
}

/// Packets as ffprobe sees them: presentation time, size, keyframe.
fn packets(file: &File) -> Vec<(i64, usize, bool)> {
    let text = run(
        "ffprobe",
        &["-show_entries", "packet=pts,size,flags", "-of", "csv=p=0"],
        Some(&file.0),
        "",
    );
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        (
            fields[0].parse().unwrap(),
            fields[1].parse().unwrap(),
            fields[2].starts_with('K'),
        )
    };
    String::from_utf8(text)
        .unwrap()
        .lines()
        .map(parse)
        .collect()
}

/// A checksum of each decoded frame.
fn frames(path: &Path) -> Vec<String> {
    let text = run(
        "ffmpeg",
        &[],
        Some(path),
        "-fps_mode passthrough -f framemd5 -",
    );
    let text = String::from_utf8(text).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit(',').next().unwrap().trim().to_owned())
        .collect()
}

fn stream_info(file: &File) -> HashMap<String, String> {
    let text = run(
        "ffprobe",
        &["-show_streams", "-of", "default=nw=1"],
        Some(&file.0),
        "",
    );
    let text = String::from_utf8(text).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Packages an encoder's output and compares what a demultiplexer and a decoder make of it with what they make of the
/// original.
fn check(source: &str, arguments: &str, count: usize, tag: &str) -> HashMap<String, String> {
    let original = encode(source, arguments);
    let (track, units) = read("t", &original);
    assert_eq!(units.len(), count, "{arguments}");
    let chunks = stream::package(&stream::config(), &events(&track, &units));
    let (bytes, segments) = file(&chunks);
    assert!(segments >= 3, "{segments} segments");
    let file = File::new(&bytes);

    let offset = 5_400 * i64::from(track.timescale.hz());
    // To the tick, by the letter of ISO/IEC 14496-12.
    let (init, media) = bytes.split_at(init_len(&bytes));
    let mut samples = Vec::new();
    for chunk in boxes::chunks(init, media) {
        let mut decode = chunk.tfdt as i64;
        for sample in chunk.samples {
            let sync = sample.sync();
            samples.push((decode + sample.composition, sample.data, sync));
            decode += i64::from(sample.duration);
        }
    }
    let expected = |unit: &AccessUnit| {
        let pts = unit.pts.ticks() + offset;
        (pts, unit.data.to_vec(), unit.keyframe)
    };
    let expected: Vec<_> = units.iter().map(expected).collect();
    assert!(samples == expected, "{arguments}");

    // libavformat adds the largest negative composition offset to all times of a fragmented file (`dts_shift`).
    let packets = packets(&file);
    let shift = packets[0].0 - expected[0].0;
    assert!(shift == 0 || arguments.contains("b_strategy") || arguments.contains("bframes=2"));
    let expected = expected
        .iter()
        .map(|(pts, data, key)| (pts + shift, data.len(), *key));
    assert_eq!(packets, expected.collect::<Vec<_>>(), "{arguments}");

    let info = stream_info(&file);
    assert_eq!(info["codec_tag_string"], tag);
    assert_eq!(info["time_base"], format!("1/{}", track.timescale.hz()));
    assert_eq!(
        frames(&file.0),
        frames(&File::new(&original).0),
        "{arguments}"
    );

    // The records come through byte by byte.
    let record = match &track.codec {
        Codec::H264(config) => config.record().clone(),
        Codec::H265(config) => config.record().clone(),
        Codec::Av1(config) => config.record().clone(),
        Codec::Aac(config) => config.record().clone(),
        Codec::Opus(config) => config.dops(),
        _ => unreachable!(),
    };
    assert!(
        init.windows(record.len())
            .any(|window| window == &record[..])
    );
    info
}

const PICTURE: &str = "testsrc2=s=320x240:r=30";
const TONE: &str = "sine=f=440:r=48000";

#[test]
fn h264() {
    for b_frames in ["-bf 0", "-bf 2 -b_strategy 0", "-bf 3 -b_strategy 1"] {
        let arguments =
            format!("-c:v libx264 -preset veryfast -g 30 -sc_threshold 0 {b_frames} -flags +cgop");
        let info = check(PICTURE, &arguments, 150, "avc1");
        assert_eq!((&*info["width"], &*info["height"]), ("320", "240"));
    }
}

#[test]
fn h264_with_colours_and_wide_samples() {
    let arguments = "-c:v libx264 -preset veryfast -g 30 -bf 0 -vf setsar=4/3 -colorspace bt709 -color_primaries bt709 -color_trc bt709";
    let info = check(PICTURE, arguments, 150, "avc1");
    assert_eq!(info["sample_aspect_ratio"], "4:3");
    assert_eq!(info["color_primaries"], "bt709");
    assert_eq!(info["color_transfer"], "bt709");
}

#[test]
fn h264_at_29_97() {
    let arguments = "-c:v libx264 -preset veryfast -g 30 -bf 2 -b_strategy 0 -flags +cgop";
    check("testsrc2=s=320x240:r=30000/1001", arguments, 150, "avc1");
}

#[test]
fn h265() {
    for b_frames in ["bframes=0", "bframes=2:b-adapt=0"] {
        let arguments = format!(
            "-c:v libx265 -preset ultrafast -tag:v hvc1 -x265-params log-level=none:keyint=30:min-keyint=30:scenecut=0:open-gop=0:{b_frames}"
        );
        check(PICTURE, &arguments, 150, "hvc1");
    }
}

#[test]
fn av1() {
    let arguments = "-c:v libsvtav1 -preset 12 -g 30";
    check(PICTURE, arguments, 150, "av01");
}

#[test]
fn aac() {
    // 5 s are 234.4 frames; the encoder adds its delay.
    check(TONE, "-c:a aac -ac 2", 236, "mp4a");
    check("sine=f=440:r=44100", "-c:a aac", 217, "mp4a");
}

#[test]
fn opus() {
    let info = check(TONE, "-c:a libopus -ac 2", 251, "Opus");
    assert_eq!(info["channels"], "2");
}

/// The I-frame playlist's byte ranges hold what a decoder needs for one picture.
#[test]
fn an_iframe_playlist_lists_whole_pictures() {
    let arguments = "-c:v libx264 -preset veryfast -g 30 -bf 2 -b_strategy 0 -flags +cgop";
    let (track, units) = read("t", &encode(PICTURE, arguments));
    let chunks = stream::package(&stream::config(), &events(&track, &units));
    let window = stream::window(&stream::config(), stream::bounds(), &chunks);
    let text = window.iframes("t").unwrap().to_bytes();
    let list = playlist::parse(std::str::from_utf8(&text).unwrap());
    assert!(list.iframes_only && list.ended && list.version == 5);
    assert_eq!(list.segments.len(), 5);
    for segment in &list.segments {
        let object = |name: &str| match window.object(&format!("e1/t/{name}")) {
            Object::Ready(bytes) => bytes.to_bytes(),
            other => panic!("{name}: {other:?}"),
        };
        let (len, start) = segment.byterange.unwrap();
        let (len, start) = (
            usize::try_from(len).unwrap(),
            usize::try_from(start).unwrap(),
        );
        let bytes = object(segment.uri.as_ref().unwrap());
        let init = object(&segment.map);
        let chunk = &boxes::chunks(&init, &bytes)[0];
        assert!(bytes[start..start + len].ends_with(&chunk.samples[0].data));
        let file = File::new(&[&init[..], &bytes[start..start + len]].concat());
        let decoded = run("ffmpeg", &[], Some(&file.0), "-frames:v 1 -f framemd5 -");
        let decoded = String::from_utf8(decoded).unwrap();
        assert_eq!(
            decoded
                .lines()
                .filter(|line| !line.starts_with('#'))
                .count(),
            1
        );
    }
}
