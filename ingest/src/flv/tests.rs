use media::{Gap, Timestamp};

use super::*;
use crate::rtmp::proto::message::{self, Message};
use crate::rtmp::proto::testing::{Random, fixture_messages};

const FFMPEG: &str = "ffmpeg-5.1-h264-aac.bin";
const GSTREAMER: &str = "gstreamer-1.22-h264-aac.bin";
const HEVC: &str = "ffmpeg-9.0-hevc-aac.bin";

/// Audio and video messages of a recording: configurations and frames.
struct Tags {
    video_config: Bytes,
    audio_config: Bytes,
    pictures: Vec<Message>,
    sounds: Vec<Message>,
}

fn tags(name: &str) -> Tags {
    let messages = fixture_messages(name);
    let of = |kind| messages.iter().filter(move |message| message.kind == kind);
    let is_config = |message: &&Message| match message.kind {
        message::VIDEO => matches!(parsed(&message.payload), Ok(Payload::Configuration(..))),
        _ => message.payload[1] == 0,
    };
    let is_frame = |message: &&Message| match message.kind {
        message::VIDEO => matches!(parsed(&message.payload), Ok(Payload::Frame(..))),
        _ => message.payload[1] != 0,
    };
    let config = |kind| of(kind).find(is_config).unwrap().payload.clone();
    Tags {
        video_config: config(message::VIDEO),
        audio_config: config(message::AUDIO),
        pictures: of(message::VIDEO).filter(is_frame).cloned().collect(),
        sounds: of(message::AUDIO).filter(is_frame).cloned().collect(),
    }
}

fn millis(millis: u32) -> Duration {
    Duration::from_millis(millis.into())
}

fn demuxer() -> Demuxer {
    Demuxer::new(120)
}

fn drain(demuxer: &mut Demuxer) -> Vec<Event> {
    std::iter::from_fn(|| demuxer.poll()).collect()
}

/// `T2` for two tracks announced, `v` `V` `a` for units (keyframes large), `G` for gaps, `E` for the end.
fn outline(events: &[Event]) -> String {
    let letters = events.iter().map(|event| match event {
        Event::Tracks(tracks) => format!("T{}", tracks.len()),
        Event::Unit(unit) if unit.track == AUDIO => "a".to_owned(),
        Event::Unit(unit) if unit.keyframe => "V".to_owned(),
        Event::Unit(_) => "v".to_owned(),
        Event::Gap(_) => "G".to_owned(),
        Event::Segment(_) => "S".to_owned(),
        Event::End => "E".to_owned(),
    });
    letters.collect()
}

fn video(demuxer: &mut Demuxer, timestamp: u32, body: &[u8]) -> Result<(), Error> {
    demuxer.video(timestamp, Bytes::copy_from_slice(body), millis(timestamp))
}

fn audio(demuxer: &mut Demuxer, timestamp: u32, body: &[u8]) -> Result<(), Error> {
    demuxer.audio(timestamp, Bytes::copy_from_slice(body), millis(timestamp))
}

fn metadata(properties: &[(&str, f64)]) -> Vec<u8> {
    use crate::rtmp::proto::amf0::Value;
    let mut body = bytes::BytesMut::new();
    Value::from("@setDataFrame").encode(&mut body);
    Value::from("onMetaData").encode(&mut body);
    let properties = properties
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.into()));
    Value::EcmaArray(properties.collect()).encode(&mut body);
    body.to_vec()
}

#[test]
fn both_kinds_are_announced_with_the_first_keyframe() {
    let tags = tags(FFMPEG);
    let mut demuxer = demuxer();
    video(&mut demuxer, 0, &tags.video_config).unwrap();
    audio(&mut demuxer, 0, &tags.audio_config).unwrap();
    audio(&mut demuxer, 0, &tags.sounds[0].payload).unwrap();
    assert_eq!(
        outline(&drain(&mut demuxer)),
        "",
        "the keyframe may correct the configuration"
    );
    video(&mut demuxer, 0, &tags.pictures[0].payload).unwrap();
    assert_eq!(outline(&drain(&mut demuxer)), "T2aV");
}

#[test]
fn metadata_of_one_kind_announces_that_kind_at_once() {
    let tags = tags(FFMPEG);
    let mut silent = demuxer();
    silent.data(&metadata(&[
        ("width", 160.0),
        ("videocodecid", 7.0),
        ("audiocodecid", 0.0),
    ]));
    video(&mut silent, 0, &tags.video_config).unwrap();
    video(&mut silent, 0, &tags.pictures[0].payload).unwrap();
    assert_eq!(outline(&drain(&mut silent)), "T1V");
    let mut blind = demuxer();
    blind.data(&metadata(&[("audiocodecid", 10.0)]));
    audio(&mut blind, 0, &tags.audio_config).unwrap();
    assert_eq!(outline(&drain(&mut blind)), "T1");
}

#[test]
fn without_metadata_one_kind_is_announced_after_a_second_of_media_or_of_the_clock() {
    let tags = tags(FFMPEG);
    let by = |media: u32, clock: u32| {
        let mut demuxer = demuxer();
        let sound = tags.sounds[0].payload.clone();
        demuxer
            .audio(0, tags.audio_config.clone(), Duration::ZERO)
            .unwrap();
        demuxer.audio(0, sound.clone(), Duration::ZERO).unwrap();
        demuxer.audio(media, sound, millis(clock)).unwrap();
        outline(&drain(&mut demuxer))
    };
    assert_eq!(by(999, 999), "");
    assert_eq!(by(1000, 0), "T1aa");
    assert_eq!(by(21, 1000), "T1aa");
}

#[test]
fn a_track_that_joins_late_is_announced_with_the_others() {
    let tags = tags(FFMPEG);
    let mut demuxer = demuxer();
    audio(&mut demuxer, 0, &tags.audio_config).unwrap();
    for n in 0..100 {
        audio(&mut demuxer, n * 21, &tags.sounds[0].payload).unwrap();
    }
    let events = drain(&mut demuxer);
    assert_eq!(outline(&events), format!("T1{}", "a".repeat(100)));
    video(&mut demuxer, 20_000, &tags.video_config).unwrap();
    video(&mut demuxer, 20_000, &tags.pictures[0].payload).unwrap();
    assert_eq!(outline(&drain(&mut demuxer)).replace('G', ""), "T2V");
}

#[test]
fn media_held_for_the_announcement_is_bounded() {
    let tags = tags(FFMPEG);
    let mut demuxer = demuxer();
    audio(&mut demuxer, 0, &tags.audio_config).unwrap();
    let sound = [&[0xaf, 1][..], &vec![7; 1024 * 1024]].concat();
    for n in 0..4 {
        audio(&mut demuxer, n * 21, &sound).unwrap();
        assert_eq!(outline(&drain(&mut demuxer)), "");
    }
    audio(&mut demuxer, 4 * 21, &sound).unwrap();
    assert_eq!(outline(&drain(&mut demuxer)), "T1aaaaa");
}

#[test]
fn pictures_wait_for_a_keyframe_and_everything_for_its_configuration() {
    let tags = tags(FFMPEG);
    let mut demuxer = demuxer();
    audio(&mut demuxer, 0, &tags.sounds[0].payload).unwrap();
    audio(&mut demuxer, 0, &tags.audio_config).unwrap();
    video(&mut demuxer, 0, &tags.video_config).unwrap();
    for (n, picture) in tags.pictures[1..].iter().enumerate() {
        video(
            &mut demuxer,
            u32::try_from(n).unwrap() * 100,
            &picture.payload,
        )
        .unwrap();
    }
    assert_eq!(
        outline(&drain(&mut demuxer)),
        format!("T2V{}", "v".repeat(9))
    );
    assert_eq!(demuxer.drops().get(Reason::BeforeKeyframe), 9);
    assert_eq!(demuxer.drops().get(Reason::Unconfigured), 1);
    assert_eq!(demuxer.drops().total(), 10);
    assert_eq!(demuxer.units(), 10);
}

#[test]
fn a_configuration_that_repeats_is_no_event() {
    let tags = tags(FFMPEG);
    let mut demuxer = demuxer();
    for (n, picture) in tags.pictures.iter().enumerate() {
        let timestamp = u32::try_from(n).unwrap() * 100;
        video(&mut demuxer, timestamp, &tags.video_config).unwrap();
        audio(&mut demuxer, timestamp, &tags.audio_config).unwrap();
        video(&mut demuxer, timestamp, &picture.payload).unwrap();
    }
    assert_eq!(outline(&drain(&mut demuxer)), "T2VvvvvvvvvvVvvvvvvvvv");
}

#[test]
fn another_configuration_is_announced_before_its_first_keyframe() {
    let (first, second) = (tags(FFMPEG), tags(GSTREAMER));
    let mut demuxer = demuxer();
    video(&mut demuxer, 0, &first.video_config).unwrap();
    audio(&mut demuxer, 0, &first.audio_config).unwrap();
    video(&mut demuxer, 0, &first.pictures[0].payload).unwrap();
    let before = drain(&mut demuxer);
    video(&mut demuxer, 5000, &second.video_config).unwrap();
    video(&mut demuxer, 5000, &second.pictures[1].payload).unwrap();
    video(&mut demuxer, 5100, &second.pictures[0].payload).unwrap();
    let after = drain(&mut demuxer);
    assert_eq!(outline(&after).replace('G', ""), "T2V");
    let (Event::Tracks(old), Event::Tracks(new)) = (&before[0], &after[0]) else {
        panic!("tracks first")
    };
    assert_ne!(old[0].codec, new[0].codec);
    assert_eq!(
        (old[0].id, &old[0].name, &old[1]),
        (new[0].id, &new[0].name, &new[1])
    );
}

#[test]
fn another_codec_is_announced_too() {
    let (first, second) = (tags(FFMPEG), tags(HEVC));
    let mut demuxer = demuxer();
    video(&mut demuxer, 0, &first.video_config).unwrap();
    audio(&mut demuxer, 0, &first.audio_config).unwrap();
    video(&mut demuxer, 0, &first.pictures[0].payload).unwrap();
    drain(&mut demuxer);
    // A frame of a codec that is not configured is nothing.
    video(&mut demuxer, 100, &second.pictures[0].payload).unwrap();
    assert_eq!(demuxer.drops().get(Reason::Unconfigured), 1);
    video(&mut demuxer, 200, &second.video_config).unwrap();
    video(&mut demuxer, 200, &second.pictures[0].payload).unwrap();
    let events = drain(&mut demuxer);
    assert_eq!(outline(&events), "T2V");
    let Event::Tracks(tracks) = &events[0] else {
        panic!("tracks first")
    };
    assert_eq!(tracks[0].codec.name(), "h265");
}

#[test]
fn configurations_change_once_a_second() {
    let streams = [tags(FFMPEG), tags(GSTREAMER)];
    let mut demuxer = demuxer();
    audio(&mut demuxer, 0, &streams[0].audio_config).unwrap();
    let mut announced = 0;
    for n in 0..100 {
        // Ten changes a second, each with its keyframe, for ten seconds.
        let stream = &streams[usize::try_from(n % 2).unwrap()];
        video(&mut demuxer, n * 100, &stream.video_config).unwrap();
        video(&mut demuxer, n * 100, &stream.pictures[0].payload).unwrap();
        announced += outline(&drain(&mut demuxer)).matches('T').count();
    }
    // The first, two at once, and one a second for 9.9 seconds.
    assert!((10..=12).contains(&announced), "{announced}");
    assert!(
        demuxer.drops().get(Reason::Flapping) > 30,
        "{:?}",
        demuxer.drops()
    );
}

#[test]
fn sound_of_another_rate_is_announced_and_keeps_the_clock() {
    let sounds = |timestamp: u32, config: &[u8], demuxer: &mut Demuxer| {
        audio(demuxer, timestamp, config).unwrap();
        (0..50).for_each(|n| audio(demuxer, timestamp + n * 21, &[0xaf, 1, 1, 2, 3]).unwrap());
        drain(demuxer)
    };
    let mut demuxer = demuxer();
    let before = sounds(0, &[0xaf, 0, 0x11, 0x90], &mut demuxer);
    // 44.1 kHz, mono.
    let after = sounds(1050, &[0xaf, 0, 0x12, 0x08], &mut demuxer);
    let Event::Tracks(tracks) = &after[0] else {
        panic!("tracks first: {}", outline(&after))
    };
    assert_eq!(tracks[0].timescale.hz(), 44_100);
    let time = |event: &Event| match event {
        Event::Unit(unit) => unit.dts,
        other => panic!("{other:?}"),
    };
    let step = time(&after[1]).since(time(before.last().unwrap())).unwrap();
    assert!((15..30).contains(&step.as_millis()), "{step:?}");
}

#[test]
fn damage_is_dropped_and_counted() {
    let tags = tags(FFMPEG);
    let mut demuxer = demuxer();
    video(&mut demuxer, 0, &tags.video_config).unwrap();
    audio(&mut demuxer, 0, &tags.audio_config).unwrap();
    video(&mut demuxer, 0, &tags.pictures[0].payload).unwrap();
    drain(&mut demuxer);
    let picture = &tags.pictures[1].payload;
    let damaged: [&[u8]; 7] = [
        &[],
        &[0x27],
        &[0x27, 1, 0, 0],
        &picture[..picture.len() - 1],
        &[0x27, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x41],
        &[0x17, 0, 0, 0, 0, 1, 2, 3],
        &[0x90],
    ];
    for body in damaged {
        video(&mut demuxer, 100, body).unwrap();
    }
    let damaged: [&[u8]; 4] = [&[], &[0xaf], &[0xaf, 1], &[0xaf, 7, 1]];
    for body in damaged {
        audio(&mut demuxer, 100, body).unwrap();
    }
    assert_eq!(
        demuxer.drops().get(Reason::Damaged),
        11,
        "{:?}",
        demuxer.drops()
    );
    assert_eq!(demuxer.drops().total(), 11);
    assert_eq!(outline(&drain(&mut demuxer)), "");
    video(&mut demuxer, 200, picture).unwrap();
    assert_eq!(outline(&drain(&mut demuxer)), "v", "it goes on");
}

#[test]
fn codecs_that_are_not_taken_are_named() {
    let video_of = |body: &[u8]| video(&mut demuxer(), 0, body);
    let audio_of = |body: &[u8]| audio(&mut demuxer(), 0, body);
    let named = |name: &str| Err(Error::Codec(name.to_owned()));
    assert_eq!(video_of(&[0x12, 0]), named("Sorenson H.263"));
    assert_eq!(video_of(&[0x14, 0]), named("VP6"));
    assert_eq!(video_of(&[0x19, 0]), named("video codec 9"));
    assert_eq!(video_of(b"\x90vp09"), named("VP9"));
    assert_eq!(video_of(b"\x90\0\x01ab"), named("\\u{0}\\u{1}ab"));
    assert_eq!(audio_of(&[0x2f, 0]), named("MP3"));
    assert_eq!(audio_of(&[0xb6, 0]), named("Speex"));
    assert_eq!(audio_of(&[0x72]), named("G.711"));
    assert_eq!(audio_of(&[0x10]), named("ADPCM"));
    assert_eq!(audio_of(&[0x36]), named("PCM"));
    assert_eq!(audio_of(&[0x62]), named("Nellymoser"));
    assert_eq!(audio_of(b"\x90fLaC"), named("FLAC"));
    assert_eq!(audio_of(b"\x90ac-3"), named("AC-3"));
    let text = Error::Codec("MP3".to_owned()).to_string();
    assert_eq!(
        text,
        "MP3 is not supported here; send H.264, HEVC or AV1 with AAC or Opus"
    );
}

#[test]
fn a_configuration_beyond_us_ends_the_publish() {
    // AAC Main.
    let error = audio(&mut demuxer(), 0, &[0xaf, 0, 0x0a, 0x10]).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Configuration(bitstream::Error::Unsupported(_))
        ),
        "{error}"
    );
}

#[test]
fn media_that_can_never_be_used_ends_the_publish() {
    let mut demuxer = demuxer();
    for second in 0..10 {
        assert_eq!(
            audio(&mut demuxer, second * 1000, &[0xaf, 1, 1, 2, 3]),
            Ok(())
        );
    }
    assert_eq!(
        audio(&mut demuxer, 10_000, &[0xaf, 1, 1, 2, 3]),
        Err(Error::Unusable)
    );
}

#[test]
fn pictures_a_second_are_bounded() {
    let tags = tags(FFMPEG);
    let ends = |rate: u32| {
        let mut demuxer = demuxer();
        video(&mut demuxer, 0, &tags.video_config).unwrap();
        (0..rate * 30).find_map(|n| {
            let body = tags.pictures[1].payload.clone();
            let arrival = Duration::from_secs(1) * n / rate;
            demuxer
                .video(n * 1000 / rate, body, arrival)
                .err()
                .map(|error| (error, n / rate))
        })
    };
    assert_eq!(ends(120), None);
    let (error, second) = ends(240).unwrap();
    assert_eq!(error, Error::PictureRate(120));
    assert!((4..=5).contains(&second), "{second}");
}

#[test]
fn a_jump_of_the_clock_is_one_gap_before_its_unit() {
    let tags = tags(FFMPEG);
    let mut demuxer = demuxer();
    audio(&mut demuxer, 0, &tags.audio_config).unwrap();
    (0..50).for_each(|n| audio(&mut demuxer, n * 21, &tags.sounds[0].payload).unwrap());
    drain(&mut demuxer);
    (0..3).for_each(|n| audio(&mut demuxer, 3_600_000 + n * 21, &tags.sounds[0].payload).unwrap());
    let events = drain(&mut demuxer);
    assert_eq!(outline(&events), "Gaaa");
    assert_eq!(events[0], Event::Gap(Gap::Jump));
}

#[test]
fn a_publish_that_ends_before_its_announcement_is_not_lost() {
    let tags = tags(FFMPEG);
    let mut demuxer = demuxer();
    video(&mut demuxer, 0, &tags.video_config).unwrap();
    video(&mut demuxer, 0, &tags.pictures[0].payload).unwrap();
    demuxer.end();
    assert_eq!(outline(&drain(&mut demuxer)), "T1VE");
    // It ends once, and nothing follows.
    demuxer.end();
    video(&mut demuxer, 100, &tags.pictures[1].payload).unwrap();
    assert_eq!(outline(&drain(&mut demuxer)), "");
    let mut nothing = self::demuxer();
    nothing.end();
    assert_eq!(outline(&drain(&mut nothing)), "E");
}

#[test]
fn metadata_fills_what_the_bitstream_leaves_open() {
    let tags = tags(GSTREAMER);
    let mut demuxer = demuxer();
    let body = metadata(&[
        ("framerate", 29.97),
        ("videodatarate", 2500.0),
        ("audiodatarate", 128.0),
        ("width", 160.0),
    ]);
    demuxer.data(&body);
    audio(&mut demuxer, 0, &tags.audio_config).unwrap();
    demuxer.end();
    let events = drain(&mut demuxer);
    let Event::Tracks(tracks) = &events[0] else {
        panic!("tracks first")
    };
    assert_eq!(
        tracks[0].bandwidth,
        Some(Bandwidth {
            average_bps: 128_000,
            peak_bps: 128_000
        })
    );
    assert_eq!(
        demuxer.metadata().frame_rate,
        media::Rational::new(30_000, 1001)
    );
    assert_eq!(demuxer.metadata().video_bps, Some(2_500_000));
    // A description of something else, or of nothing readable, replaces nothing.
    demuxer.data(b"\x02\0\x0aonCuePoint\x05");
    demuxer.data(&[0xff; 100]);
    demuxer.data(&body[..20]);
    assert_eq!(demuxer.metadata().audio_bps, Some(128_000));
}

#[test]
fn frame_rates_and_bit_rates_that_make_no_sense_are_not_believed() {
    for (fps, expected) in [
        (30.0, Some((30, 1))),
        (59.94, Some((60_000, 1001))),
        (23.976, Some((24_000, 1001))),
        (12.5, Some((12_500, 1000))),
        (1000.0, None),
        (0.0, None),
        (-5.0, None),
        (f64::NAN, None),
        (f64::INFINITY, None),
    ] {
        let mut demuxer = demuxer();
        demuxer.data(&metadata(&[("framerate", fps)]));
        let rate = demuxer
            .metadata()
            .frame_rate
            .map(|rate| (rate.num(), rate.den()));
        assert_eq!(rate, expected, "{fps}");
    }
    let mut demuxer = demuxer();
    demuxer.data(&metadata(&[
        ("videodatarate", 1e300),
        ("audiodatarate", -1.0),
    ]));
    assert_eq!(
        (demuxer.metadata().video_bps, demuxer.metadata().audio_bps),
        (None, None)
    );
}

/// The header of an E-RTMP video packet of `kind` for `fourcc`.
fn enhanced(kind: u8, fourcc: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&[0x90 | kind][..], fourcc, body].concat()
}

fn parsed(body: &[u8]) -> Result<Payload<VideoCodec>, Wrong> {
    tag::video(Bytes::copy_from_slice(body)).map(|tag| tag.payload)
}

#[test]
fn enhanced_headers_are_read() {
    let frame =
        |codec, composition| Ok(Payload::Frame(codec, composition, Bytes::from_static(b"x")));
    assert_eq!(
        parsed(&enhanced(1, b"hvc1", b"\0\0\x28x")),
        frame(VideoCodec::H265, 40)
    );
    assert_eq!(
        parsed(&enhanced(1, b"avc1", b"\xff\xff\xd8x")),
        frame(VideoCodec::H264, -40)
    );
    assert_eq!(
        parsed(&enhanced(3, b"hvc1", b"x")),
        frame(VideoCodec::H265, 0)
    );
    assert_eq!(
        parsed(&enhanced(1, b"av01", b"x")),
        frame(VideoCodec::Av1, 0)
    );
    assert_eq!(
        parsed(&enhanced(2, b"av01", b"")),
        Ok(Payload::Nothing),
        "end of sequence"
    );
    assert_eq!(parsed(&enhanced(4, b"av01", b"meta")), Ok(Payload::Nothing));
    assert_eq!(parsed(&[0xd1, 0]), Ok(Payload::Nothing), "a seek mark");
    assert_eq!(parsed(&[0x57, 0]), Ok(Payload::Nothing), "an old seek mark");
    assert_eq!(parsed(b"\x1c\x01\0\0\x05x"), frame(VideoCodec::H265, 5));
}

#[test]
fn modifiers_are_skipped() {
    let modified =
        |size: &[u8], data: usize, rest: &[u8]| [&[0x97][..], size, &vec![0; data], rest].concat();
    let frame = Ok(Payload::Frame(VideoCodec::Av1, 0, Bytes::from_static(b"x")));
    assert_eq!(parsed(&modified(&[2], 3, b"\x01av01x")), frame);
    assert_eq!(parsed(&modified(&[0xff, 1, 0], 257, b"\x01av01x")), frame);
    let twice = modified(&[2], 3, &[&[0x07, 0, 9][..], b"\x01av01x"].concat());
    assert_eq!(parsed(&twice), frame);
    assert_eq!(parsed(&modified(&[9], 3, b"")), Err(Wrong::Damaged));
    let endless = [&[0x97][..], &[0, 0, 0x07].repeat(9)].concat();
    assert_eq!(parsed(&endless), Err(Wrong::Damaged));
}

#[test]
fn of_several_tracks_the_first_is_taken() {
    let sized =
        |track: u8, data: &[u8]| [&[track, 0, 0, data.len().to_le_bytes()[0]][..], data].concat();
    let tag = |body: &[u8]| tag::video(Bytes::copy_from_slice(body)).unwrap();
    let frame = Payload::Frame(VideoCodec::Av1, 0, Bytes::from_static(b"first"));
    let one = |track: u8| [&[0x96, 0x01][..], b"av01", &[track], b"first"].concat();
    assert_eq!(
        tag(&one(0)),
        tag::Tag {
            payload: frame.clone(),
            multitrack: true
        }
    );
    assert_eq!(
        tag(&one(1)),
        tag::Tag {
            payload: Payload::Nothing,
            multitrack: true
        }
    );
    let many = [
        &[0x96, 0x11][..],
        b"av01",
        &sized(1, b"second"),
        &sized(0, b"first"),
    ]
    .concat();
    assert_eq!(tag(&many).payload, frame);
    // An unknown codec on another track is that track's affair.
    let codecs = [
        &[0x96, 0x21][..],
        b"vp09",
        &sized(1, b"second"),
        b"av01",
        &sized(0, b"first"),
    ]
    .concat();
    assert_eq!(tag(&codecs).payload, frame);
    let cut = [&[0x96, 0x11][..], b"av01", &[0, 0, 0, 200], b"first"].concat();
    assert_eq!(parsed(&cut), Err(Wrong::Damaged));
    assert_eq!(parsed(b"\x96\x31av01\0x"), Err(Wrong::Damaged));
}

#[test]
fn a_multitrack_publish_is_marked() {
    let mut demuxer = demuxer();
    for message in fixture_messages("ffmpeg-9.0-multitrack.bin") {
        match message.kind {
            message::VIDEO => demuxer
                .video(message.timestamp, message.payload, Duration::ZERO)
                .unwrap(),
            message::AUDIO => demuxer
                .audio(message.timestamp, message.payload, Duration::ZERO)
                .unwrap(),
            _ => {}
        }
    }
    assert!(demuxer.multitrack());
    let mut plain = self::demuxer();
    video(&mut plain, 0, &tags(FFMPEG).video_config).unwrap();
    assert!(!plain.multitrack());
}

#[test]
fn opus_headers_and_packets() {
    let mut demuxer = demuxer();
    let head = [
        b"\x90Opus".as_slice(),
        b"OpusHead",
        &[1, 2, 0x38, 1, 0x80, 0xbb, 0, 0, 0, 0, 0],
    ]
    .concat();
    audio(&mut demuxer, 0, &head).unwrap();
    audio(&mut demuxer, 0, b"\x90OpusOpusTags????").unwrap();
    // A 20 ms packet (configuration 31, one frame), and one whose frame count is missing.
    audio(&mut demuxer, 0, b"\x91Opus\xfcsound").unwrap();
    audio(&mut demuxer, 20, b"\x91Opus\xff").unwrap();
    demuxer.end();
    let events = drain(&mut demuxer);
    assert_eq!(outline(&events), "T1aE");
    let Event::Unit(unit) = &events[1] else {
        panic!("a unit")
    };
    assert_eq!((unit.duration, unit.dts.scale().hz()), (960, 48_000));
    assert_eq!(demuxer.drops().get(Reason::Damaged), 1);
}

#[test]
fn times_across_every_wrap_are_whole() {
    // B-frames straddle the wrap: presentation runs ahead of decoding.
    let recording = tags(FFMPEG);
    for wrap in [1_u64 << 24, 1 << 31, 1 << 32] {
        let mut demuxer = demuxer();
        let start = wrap - 1000;
        let at = |millis: u64| u32::try_from((start + millis) % wrap.min(1 << 32)).unwrap();
        video(&mut demuxer, at(0), &recording.video_config).unwrap();
        audio(&mut demuxer, at(0), &recording.audio_config).unwrap();
        let (mut pictures, mut sounds) = (recording.pictures.iter(), recording.sounds.iter());
        for millis in 0..2000_u64 {
            let now = Duration::from_millis(millis);
            if millis % 100 == 0
                && let Some(picture) = pictures.next()
            {
                demuxer
                    .video(at(millis), picture.payload.clone(), now)
                    .unwrap();
            }
            if (millis * 48) / 1024 > (millis.saturating_sub(1) * 48) / 1024
                && let Some(sound) = sounds.next()
            {
                demuxer
                    .audio(at(millis), sound.payload.clone(), now)
                    .unwrap();
            }
        }
        let events = drain(&mut demuxer);
        assert_eq!(demuxer.drops().total(), 0);
        assert!(
            !outline(&events).contains('G'),
            "{wrap:#x}: {}",
            outline(&events)
        );
        let shown = |id| {
            let mut shown: Vec<Timestamp> = events
                .iter()
                .filter_map(|event| match event {
                    Event::Unit(unit) if unit.track == id => Some(unit.pts),
                    _ => None,
                })
                .collect();
            shown.sort();
            shown
        };
        assert_eq!(shown(VIDEO).len(), 20);
        assert!(
            shown(VIDEO)
                .windows(2)
                .all(|pair| pair[1].checked_sub(pair[0]) == Some(9000)),
            "{wrap:#x}"
        );
        assert!(
            shown(AUDIO)
                .windows(2)
                .all(|pair| pair[1].checked_sub(pair[0]) == Some(1024)),
            "{wrap:#x}"
        );
    }
}

#[test]
fn random_bodies_end_in_nothing_worse_than_an_error() {
    let tags = tags(FFMPEG);
    for seed in 0..3000 {
        let mut random = Random(seed);
        let mut demuxer = demuxer();
        video(&mut demuxer, 0, &tags.video_config).unwrap();
        let length = random.below(60);
        let mut body = random.bytes(length);
        if let Some(first) = body.first_mut()
            && random.below(2) == 0
        {
            *first |= 0x90;
        }
        // Any result will do.
        let _ = video(&mut demuxer, 0, &body);
        let _ = audio(&mut demuxer, 0, &body);
        demuxer.data(&body);
        demuxer.end();
        drain(&mut demuxer);
    }
}
