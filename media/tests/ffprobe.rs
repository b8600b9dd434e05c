//! What the parsers read beside what ffprobe reads, over streams of real encoders.

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};

use bytes::Bytes;
use media::Video;
use media::bitstream::{Chroma, Color, Error, annexb, av1, h264, h265};

/// Encodes `frames` synthetic pictures and returns the bare stream.
fn encode(size: &str, rate: &str, frames: u32, arguments: &str, format: &str) -> Bytes {
    let source = format!("testsrc2=s={size}:r={rate}");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", &source])
        .args(["-frames:v", &frames.to_string()])
        .args(arguments.split_whitespace())
        .args(["-f", format, "-"])
        .stderr(Stdio::inherit())
        .env("SVT_LOG", "0")
        .output()
        .expect("ffmpeg is installed");
    assert!(output.status.success(), "ffmpeg {arguments}");
    output.stdout.into()
}

/// Runs ffprobe over a bare stream; one line of output each item of the result.
fn ffprobe(stream: &Bytes, format: &str, arguments: &[&str]) -> Vec<String> {
    let mut child = Command::new("ffprobe")
        .args(["-v", "error", "-f", format, "-select_streams", "v"])
        .args(arguments)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ffprobe is installed");
    let mut stdin = child.stdin.take().expect("piped");
    let stream = stream.clone();
    // ffprobe may stop reading before the end: that is no error of ours.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&stream)));
    let output = child.wait_with_output().expect("ffprobe ends");
    writer.join().expect("the writer ends");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(str::to_owned).collect()
}

fn probe(stream: &Bytes, format: &str) -> HashMap<String, String> {
    let lines = ffprobe(stream, format, &["-show_streams", "-of", "default=nw=1"]);
    let pairs = lines.iter().filter_map(|line| line.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Which packets ffprobe calls keyframes.
fn probe_keyframes(stream: &Bytes, format: &str) -> Vec<bool> {
    let arguments = ["-show_entries", "packet=flags", "-of", "csv=p=0"];
    let lines = ffprobe(stream, format, &arguments);
    lines.iter().map(|line| line.starts_with('K')).collect()
}

fn ratio(text: &str, separator: char) -> Option<(u64, u64)> {
    let (num, den) = text.split_once(separator)?;
    Some((num.parse().ok()?, den.parse().ok()?)).filter(|&(num, den)| num > 0 && den > 0)
}

fn same_ratio(a: (u64, u64), b: (u64, u64)) -> bool {
    a.0 * b.1 == a.1 * b.0
}

struct Read {
    video: Video,
    chroma: Chroma,
    bit_depth: u8,
    color: Color,
    level: u8,
}

fn compare(name: &str, read: &Read, probed: &HashMap<String, String>) {
    let get = |key: &str| probed.get(key).map_or("", String::as_str);
    let video = read.video;
    assert_eq!(video.width.to_string(), get("width"), "{name}");
    assert_eq!(video.height.to_string(), get("height"), "{name}");
    assert_eq!(read.level.to_string(), get("level"), "{name}");
    let aspect = ratio(get("sample_aspect_ratio"), ':').unwrap_or((1, 1));
    let ours = (
        video.sample_aspect.num().into(),
        video.sample_aspect.den().into(),
    );
    assert!(same_ratio(ours, aspect), "{name}: {ours:?} {aspect:?}");

    let chroma = match read.chroma {
        Chroma::Monochrome => "gray",
        Chroma::Yuv420 => "yuv420p",
        Chroma::Yuv422 => "yuv422p",
        Chroma::Yuv444 => "yuv444p",
    };
    let depth = match read.bit_depth {
        8 => String::new(),
        depth => format!("{depth}le"),
    };
    let pixels = format!("{chroma}{depth}");
    let probed_pixels = get("pix_fmt")
        .replace("yuvj", "yuv")
        .replace("gbrp", "yuv444p");
    assert_eq!(pixels, probed_pixels, "{name}");

    let known = |value: &str, names: &[(&str, u8)]| {
        names
            .iter()
            .find(|(name, _)| *name == value)
            .map_or(2, |(_, code)| *code)
    };
    let primaries = known(get("color_primaries"), &[("bt709", 1), ("bt2020", 9)]);
    let transfer = known(
        get("color_transfer"),
        &[
            ("bt709", 1),
            ("smpte2084", 16),
            ("arib-std-b67", 18),
            ("iec61966-2-1", 13),
        ],
    );
    let matrix = known(
        get("color_space"),
        &[("gbr", 0), ("bt709", 1), ("bt2020nc", 9)],
    );
    let color = Color {
        primaries,
        transfer,
        matrix,
        full_range: get("color_range") == "pc",
    };
    assert_eq!(read.color, color, "{name}");
}

fn compare_rate(name: &str, video: Video, probed: &HashMap<String, String>) {
    let rate = probed
        .get("r_frame_rate")
        .and_then(|rate| ratio(rate, '/'))
        .expect("a rate");
    let ours = video.frame_rate.expect("the encoder writes one");
    assert!(
        same_ratio((ours.num().into(), ours.den().into()), rate),
        "{name}: {ours:?} {rate:?}"
    );
}

/// Access units of a byte stream whose encoder begins each with a delimiter of type `aud`.
fn access_units(stream: &Bytes, aud: impl Fn(&[u8]) -> bool) -> Vec<Bytes> {
    let mut units: Vec<Vec<u8>> = Vec::new();
    for nal in annexb::split(stream) {
        if aud(&nal) {
            units.push(Vec::new());
        }
        let unit = units.last_mut().expect("a delimiter comes first");
        unit.extend(annexb::START_CODE);
        unit.extend(&nal);
    }
    units
        .into_iter()
        .map(|unit| annexb::to_length_prefixed(&unit.into()))
        .collect()
}

const PQ: &str = "-color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc";
const BT709: &str = "-color_primaries bt709 -color_trc bt709 -colorspace bt709";

#[test]
fn h264_as_x264_writes_it() {
    let pq = format!("-pix_fmt yuv420p10 {PQ}");
    let bt709_full = format!("-pix_fmt yuvj420p -color_range pc {BT709}");
    let cases: &[(&str, &str, &str)] = &[
        ("320x240", "25", "-pix_fmt yuv420p -profile:v baseline"),
        ("320x240", "25", "-pix_fmt yuv420p -profile:v main -bf 0"),
        (
            "320x240",
            "25",
            "-pix_fmt yuv420p -bf 3 -x264-params b-pyramid=normal",
        ),
        (
            "320x240",
            "25",
            "-pix_fmt yuv420p -bf 3 -x264-params ref=16:b-pyramid=strict",
        ),
        ("1918x1078", "30000/1001", "-pix_fmt yuv420p"),
        ("1920x1080", "60", "-pix_fmt yuv420p"),
        ("130x98", "24000/1001", "-pix_fmt yuv420p"),
        (
            "720x576",
            "25",
            "-pix_fmt yuv420p -flags +ilme+ildct -x264-params tff=1 -vf setsar=16/15",
        ),
        (
            "720x576",
            "25",
            "-pix_fmt yuv422p -flags +ilme+ildct -x264-params bff=1 -vf setsar=64/45",
        ),
        (
            "718x476",
            "30000/1001",
            "-pix_fmt yuv420p -flags +ilme+ildct -vf setsar=10/11",
        ),
        (
            "720x480",
            "30",
            "-pix_fmt yuv420p -x264-params fake-interlaced=1",
        ),
        ("640x360", "50", "-pix_fmt yuv420p10"),
        ("642x362", "50", "-pix_fmt yuv422p10"),
        ("642x361", "50", "-pix_fmt yuv422p"),
        ("321x241", "15", "-pix_fmt yuv444p"),
        ("321x241", "15", "-pix_fmt yuv444p -qp 0"),
        ("322x242", "15", "-pix_fmt gray"),
        ("640x360", "1", "-pix_fmt yuv420p"),
        ("640x360", "120", "-pix_fmt yuv420p"),
        ("640x360", "25", &pq),
        ("640x360", "25", &bt709_full),
        (
            "640x360",
            "25",
            "-pix_fmt yuv420p -b:v 500k -maxrate 500k -bufsize 500k -x264-params nal-hrd=cbr:filler=1",
        ),
        ("640x360", "25", "-pix_fmt yuv420p -x264-params cqm=jvt"),
        (
            "640x360",
            "25",
            "-pix_fmt yuv420p -x264-params overscan=show:chromaloc=2:videoformat=pal",
        ),
        (
            "360x640",
            "30",
            "-pix_fmt yuv420p -x264-params slices=4:keyint=4:open-gop=1",
        ),
        ("4096x2304", "30", "-pix_fmt yuv420p -preset ultrafast"),
        ("2304x4096", "30", "-pix_fmt yuv420p -preset ultrafast"),
    ];
    for (size, rate, arguments) in cases {
        let name = format!("{size} {rate} {arguments}");
        let frames = if size.len() > 8 { 1 } else { 9 };
        let arguments = format!("{arguments} -c:v libx264 -bsf:v h264_metadata=aud=insert");
        let stream = encode(size, rate, frames, &arguments, "h264");
        let find = |kind: u8| {
            annexb::split(&stream)
                .find(|nal| nal[0] & 0x1f == kind)
                .expect("x264 writes it")
        };
        let config = h264::Config::from_parameter_sets(&find(7), &find(8)).expect(&name);
        let mut probed = probe(&stream, "h264");
        if arguments.contains("gray") {
            // FFmpeg decodes 4:0:0 to 4:2:0 with empty colour.
            probed.insert("pix_fmt".to_owned(), "gray".to_owned());
        }
        let sps = config.sps();
        let read = Read {
            video: config.video(),
            chroma: sps.chroma,
            bit_depth: sps.bit_depth_luma,
            color: sps.color,
            level: sps.level_idc,
        };
        compare(&name, &read, &probed);
        compare_rate(&name, config.video(), &probed);
        assert_eq!(
            sps.max_reorder.to_string(),
            probed["has_b_frames"],
            "{name}"
        );
        assert_eq!(
            sps.interlaced,
            arguments.contains("ilme") || arguments.contains("fake"),
            "{name}"
        );
        assert_eq!(
            h264::Config::from_record(config.record().clone()),
            Ok(config.clone()),
            "{name}"
        );

        let units = access_units(&stream, |nal| nal[0] & 0x1f == 9);
        assert_eq!(units.len(), usize::try_from(frames).expect("few"), "{name}");
        let keyframes: Vec<bool> = units
            .iter()
            .map(|unit| {
                let normalized = h264::normalize(unit, 4).expect(&name);
                assert!(
                    normalized.parameter_sets.is_none_or(|sets| sets == config),
                    "{name}"
                );
                let again = h264::normalize(&normalized.data, 4).expect(&name);
                assert_eq!(again.data, normalized.data, "{name}");
                assert_eq!(again.parameter_sets, None);
                normalized.keyframe
            })
            .collect();
        // ffprobe calls recovery points keyframes too; we do not.
        if !arguments.contains("open-gop") {
            assert_eq!(keyframes, probe_keyframes(&stream, "h264"), "{name}");
        }
    }
}

#[test]
fn h265_as_x265_writes_it() {
    let pq = format!("-pix_fmt yuv420p10 {PQ} -x265-params hdr10=1");
    let bt709 = format!("-pix_fmt yuv420p {BT709}");
    let cases: &[(&str, &str, &str)] = &[
        ("320x240", "25", "-pix_fmt yuv420p"),
        ("320x240", "25", "-pix_fmt yuv420p -x265-params bframes=0"),
        (
            "320x240",
            "25",
            "-pix_fmt yuv420p -x265-params bframes=4:ref=6:b-pyramid=1",
        ),
        ("322x246", "30000/1001", "-pix_fmt yuv420p"),
        ("1918x1078", "60", "-pix_fmt yuv420p -preset ultrafast"),
        ("640x360", "50", "-pix_fmt yuv420p10"),
        ("642x362", "50", "-pix_fmt yuv422p10"),
        ("641x361", "15", "-pix_fmt yuv444p"),
        ("642x362", "15", "-pix_fmt gray"),
        ("720x576", "25", "-pix_fmt yuv420p -vf setsar=16/11"),
        ("720x576", "25", "-pix_fmt yuv420p -vf setsar=64/45"),
        (
            "640x360",
            "25",
            "-pix_fmt yuv420p -x265-params scaling-list=default",
        ),
        (
            "640x360",
            "25",
            "-pix_fmt yuv420p -x265-params hrd=1:vbv-bufsize=1000:vbv-maxrate=1000:bitrate=800",
        ),
        (
            "640x360",
            "25",
            "-pix_fmt yuv420p -x265-params temporal-layers=3:bframes=3:b-adapt=0",
        ),
        (
            "640x360",
            "25",
            "-pix_fmt yuv420p -x265-params level-idc=51:high-tier=1",
        ),
        (
            "640x360",
            "25",
            "-pix_fmt yuv420p -x265-params keyint=4:min-keyint=4:open-gop=0",
        ),
        (
            "640x360",
            "25",
            "-pix_fmt yuv420p -x265-params keyint=4:min-keyint=4:open-gop=1",
        ),
        (
            "640x360",
            "25",
            "-pix_fmt yuv420p -x265-params overscan=show:chromaloc=2:slices=3",
        ),
        ("640x360", "25", &pq),
        ("640x360", "25", &bt709),
        ("4096x2160", "30", "-pix_fmt yuv420p -preset ultrafast"),
        ("2160x4096", "30", "-pix_fmt yuv420p -preset ultrafast"),
    ];
    for (size, rate, arguments) in cases {
        let name = format!("{size} {rate} {arguments}");
        let frames = if size.len() > 8 { 1 } else { 9 };
        let mut arguments = format!("{arguments} -c:v libx265");
        if arguments.contains("-x265-params ") {
            arguments = arguments.replace("-x265-params ", "-x265-params log-level=none:aud=1:");
        } else {
            arguments.push_str(" -x265-params log-level=none:aud=1");
        }
        let stream = encode(size, rate, frames, &arguments, "hevc");
        let find = |kind: u8| {
            annexb::split(&stream)
                .find(|nal| nal[0] >> 1 == kind)
                .expect("x265 writes it")
        };
        let config =
            h265::Config::from_parameter_sets(&find(32), &find(33), &find(34)).expect(&name);
        let probed = probe(&stream, "hevc");
        let sps = config.sps();
        let read = Read {
            video: config.video(),
            chroma: sps.chroma,
            bit_depth: sps.bit_depth_luma,
            color: sps.color,
            level: sps.profile.level_idc,
        };
        compare(&name, &read, &probed);
        compare_rate(&name, config.video(), &probed);
        assert_eq!(
            sps.max_reorder.to_string(),
            probed["has_b_frames"],
            "{name}"
        );
        assert_eq!(
            h265::Config::from_record(config.record().clone()),
            Ok(config.clone()),
            "{name}"
        );

        let units = access_units(&stream, |nal| nal[0] >> 1 == 35);
        assert_eq!(units.len(), usize::try_from(frames).expect("few"), "{name}");
        let keyframes: Vec<bool> = units
            .iter()
            .map(|unit| {
                let normalized = h265::normalize(unit, 4).expect(&name);
                assert!(
                    normalized.parameter_sets.is_none_or(|sets| sets == config),
                    "{name}"
                );
                let again = h265::normalize(&normalized.data, 4).expect(&name);
                assert_eq!(again.data, normalized.data, "{name}");
                normalized.keyframe
            })
            .collect();
        assert_eq!(keyframes, probe_keyframes(&stream, "hevc"), "{name}");
    }
}

/// Temporal units of an OBU stream (AV1 section 5), each from its delimiter on.
fn temporal_units(stream: &Bytes) -> Vec<Bytes> {
    let mut starts = Vec::new();
    let mut at = 0;
    while at < stream.len() {
        let header = stream[at];
        if header >> 3 == 2 {
            starts.push(at);
        }
        at += if header & 4 == 0 { 1 } else { 2 };
        let (mut size, mut shift) = (0, 0);
        loop {
            let byte = stream[at];
            size |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        at += size;
    }
    starts.push(stream.len());
    starts
        .windows(2)
        .map(|pair| stream.slice(pair[0]..pair[1]))
        .collect()
}

#[test]
fn av1_as_its_encoders_write_it() {
    const AOM: &str = "-c:v libaom-av1 -cpu-used 8 -usage realtime -row-mt 1";
    const SVT: &str = "-c:v libsvtav1 -preset 12";
    let bt2020 = format!("-pix_fmt yuv420p10 {PQ}");
    let bt709_full = format!("-pix_fmt yuv420p -color_range pc {BT709}");
    let cases: &[(&str, &str, &str, &str)] = &[
        (AOM, "320x240", "25", "-pix_fmt yuv420p -g 4"),
        (AOM, "321x241", "30000/1001", "-pix_fmt yuv420p"),
        (AOM, "320x240", "25", "-pix_fmt yuv420p10"),
        (AOM, "320x240", "25", "-pix_fmt yuv444p"),
        (AOM, "320x240", "25", "-pix_fmt yuv422p10"),
        (AOM, "320x240", "25", "-pix_fmt gray"),
        (AOM, "320x240", "25", "-pix_fmt gbrp"),
        (AOM, "320x240", "25", &bt2020),
        (AOM, "320x240", "25", &bt709_full),
        (AOM, "4096x2160", "30", "-pix_fmt yuv420p"),
        (
            "-c:v libaom-av1 -cpu-used 8",
            "320x240",
            "25",
            "-pix_fmt yuv420p -lag-in-frames 9",
        ),
        (SVT, "320x240", "25", "-pix_fmt yuv420p -g 4"),
        (SVT, "640x360", "30000/1001", "-pix_fmt yuv420p10"),
        (SVT, "1920x1080", "60", "-pix_fmt yuv420p"),
        (
            "-c:v librav1e -speed 10",
            "320x240",
            "25",
            "-pix_fmt yuv420p -g 4",
        ),
    ];
    for (encoder, size, rate, arguments) in cases {
        let name = format!("{encoder} {size} {rate} {arguments}");
        let frames = if size.len() > 8 { 1 } else { 9 };
        let stream = encode(size, rate, frames, &format!("{arguments} {encoder}"), "obu");
        let units = temporal_units(&stream);
        let first = av1::normalize(&units[0]).expect(&name);
        let config = first.parameter_sets.expect("a sequence header comes first");
        let probed = probe(&stream, "obu");
        let header = config.sequence_header();
        let read = Read {
            video: config.video(),
            chroma: header.chroma,
            bit_depth: header.bit_depth,
            color: header.color,
            level: header.level_idx,
        };
        compare(&name, &read, &probed);
        assert_eq!(
            av1::Config::from_record(config.record().clone()),
            Ok(config.clone()),
            "{name}"
        );
        let obu = &config.record()[4..];
        assert_eq!(
            av1::Config::from_sequence_header(obu),
            Ok(config.clone()),
            "{name}"
        );

        let keyframes: Vec<bool> = units
            .iter()
            .map(|unit| {
                let normalized = av1::normalize(unit).expect(&name);
                assert!(
                    normalized.parameter_sets.is_none_or(|sets| sets == config),
                    "{name}"
                );
                assert_eq!(
                    normalized.data,
                    unit.slice(2..),
                    "only the delimiter goes: {name}"
                );
                normalized.keyframe
            })
            .collect();
        assert_eq!(keyframes, probe_keyframes(&stream, "obu"), "{name}");
    }
}

#[test]
fn pictures_beyond_the_limits_are_refused() {
    let preset = "-pix_fmt yuv420p -preset ultrafast";
    for (size, expected) in [
        ("4098x16", "picture size"),
        ("2320x2320", "picture size"),
        ("16x4098", "picture size"),
    ] {
        let stream = encode(size, "30", 1, &format!("{preset} -c:v libx264"), "h264");
        let nals: Vec<Bytes> = annexb::split(&stream).collect();
        let got = h264::Config::from_parameter_sets(&nals[0], &nals[1]);
        assert_eq!(got, Err(Error::Limit(expected)), "{size}");
    }
    let x265 = "-pix_fmt yuv420p12 -c:v libx265 -x265-params log-level=none";
    let stream = encode("320x240", "30", 1, x265, "hevc");
    let nals: Vec<Bytes> = annexb::split(&stream).collect();
    let got = h265::Config::from_parameter_sets(&nals[0], &nals[1], &nals[2]);
    assert_eq!(got, Err(Error::Limit("bit depth")));
}
