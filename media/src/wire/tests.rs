use proptest::prelude::*;

use super::*;
use crate::bitstream::fixtures;

fn encoded(events: &[Event]) -> BytesMut {
    let mut out = BytesMut::from(&HEADER[..]);
    for event in events {
        encode(event, &mut out);
    }
    out
}

fn decoded(bytes: &[u8]) -> Result<Vec<Event>, Error> {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    drain(&mut decoder)
}

fn drain(decoder: &mut Decoder) -> Result<Vec<Event>, Error> {
    let mut events = Vec::new();
    while let Some(event) = decoder.next()? {
        events.push(event);
    }
    Ok(events)
}

fn name(text: &str) -> Name {
    text.parse().expect("tests use good names")
}

fn tracks() -> Tracks {
    let audio_scale = Timescale::new(48_000).expect("not zero");
    let video = |id: u8, text: &str, codec: Codec, video: Video| Track {
        id: TrackId(id),
        name: name(text),
        codec,
        format: Format::Video(video),
        timescale: Timescale::VIDEO,
        bandwidth: Some(Bandwidth {
            average_bps: 2_000_000 + u32::from(id),
            peak_bps: 2_500_000,
        }),
    };
    let (h264, h265, av1) = (fixtures::h264(), fixtures::h265(), fixtures::av1());
    let aac = aac::Config::lc(48_000, 2).expect("AAC has that");
    let opus = fixtures::opus();
    [
        video(0, "1080p", Codec::H264(h264.clone()), h264.video()),
        video(1, "hevc", Codec::H265(h265.clone()), h265.video()),
        video(
            2,
            "av1",
            Codec::Av1(av1.clone()),
            Video {
                frame_rate: None,
                ..av1.video()
            },
        ),
        Track {
            id: TrackId(7),
            name: name("audio"),
            format: Format::Audio(aac.audio()),
            codec: Codec::Aac(aac),
            timescale: audio_scale,
            bandwidth: None,
        },
        Track {
            id: TrackId(255),
            name: name("audio-opus"),
            format: Format::Audio(opus.audio()),
            codec: Codec::Opus(opus),
            timescale: audio_scale,
            bandwidth: None,
        },
    ]
    .into()
}

fn unit(id: u8, hz: u32, dts: i64, pts: i64, data: Bytes) -> Event {
    let scale = Timescale::new(hz).expect("not zero");
    Event::Unit(AccessUnit {
        track: TrackId(id),
        dts: Timestamp::new(dts, scale),
        pts: Timestamp::new(pts, scale),
        duration: 3_600,
        keyframe: dts % 2 == 0,
        data,
    })
}

fn segment(number: u64) -> Event {
    Event::Segment(Segment {
        number,
        discontinuity: 3,
        start: Timestamp::new(900_000, Timescale::VIDEO),
        utc: Utc::from_unix_micros(1_800_000_000_000_000),
    })
}

fn story() -> Vec<Event> {
    vec![
        Event::Tracks(tracks()),
        segment(1),
        unit(
            0,
            90_000,
            900_000,
            907_200,
            Bytes::from_static(&[0, 0, 0, 1, 5]),
        ),
        unit(7, 48_000, -1, -1, Bytes::from_static(b"sound")),
        Event::Gap(Gap::Jump),
        Event::Gap(Gap::Dropped),
        Event::Gap(Gap::Reconnect),
        Event::Tracks([].into()),
        Event::End,
    ]
}

#[test]
fn every_event_comes_back() {
    assert_eq!(decoded(&encoded(&story())), Ok(story()));
}

#[test]
fn any_split_gives_the_same_events() {
    let bytes = encoded(&story());
    for at in 0..=bytes.len() {
        let mut decoder = Decoder::new();
        decoder.push(&bytes[..at]);
        let mut events = drain(&mut decoder).expect("a prefix is no error");
        decoder.push(&bytes[at..]);
        events.extend(drain(&mut decoder).expect("nor is the rest"));
        assert_eq!(events, story(), "split at {at}");
    }
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    for byte in &bytes {
        assert!(!decoder.is_ended());
        decoder.push(&[*byte]);
        events.extend(drain(&mut decoder).expect("no error anywhere"));
    }
    assert_eq!(events, story());
    assert!(decoder.is_ended());
}

#[test]
fn a_unit_shares_the_memory_it_was_read_into() {
    let payload = Bytes::from(vec![7; 100_000]);
    let events = [
        Event::Tracks(tracks()),
        unit(0, 90_000, 0, 0, payload.clone()),
    ];
    let bytes = encoded(&events);
    let mut decoder = Decoder::new();
    decoder.push(&bytes);
    decoder.next().expect("tracks");
    let start = decoder.buffer().as_ptr().addr();
    let Ok(Some(Event::Unit(unit))) = decoder.next() else {
        panic!("a unit")
    };
    assert_eq!(unit.data, payload);
    assert_eq!(
        unit.data.as_ptr().addr() - start,
        bytes.len() - encoded(&events[..1]).len() - 100_000
    );
}

/// The frame of one event after the tracks, with a change.
fn changed(event: &Event, change: impl Fn(&mut Vec<u8>)) -> Result<Vec<Event>, Error> {
    let mut bytes = encoded(&[Event::Tracks(tracks())]).to_vec();
    let mut frame = BytesMut::new();
    encode(event, &mut frame);
    let mut frame = frame.to_vec();
    change(&mut frame);
    bytes.extend(frame);
    decoded(&bytes)
}

#[test]
fn every_field_is_checked() {
    let picture = unit(0, 90_000, 0, 0, Bytes::from_static(b"x"));
    // Unit: 4 length, 1 kind, 1 track, 1 keyframe, 4 scale, 8 dts, 8 pts, 4 duration, data.
    let set = |event: &Event, at: usize, value: &[u8]| {
        changed(event, |frame| {
            frame[at..at + value.len()].copy_from_slice(value)
        })
    };
    assert!(set(&picture, 5, &[1]).is_ok(), "track 1 has the same scale");
    assert_eq!(set(&picture, 4, &[0]), Err(Error::Kind(0)));
    assert_eq!(set(&picture, 4, &[6]), Err(Error::Kind(6)));
    assert_eq!(set(&picture, 5, &[9]), Err(Error::Track(9)));
    assert_eq!(
        set(&picture, 5, &[7]),
        Err(Error::Track(7)),
        "another scale"
    );
    assert_eq!(set(&picture, 6, &[2]), Err(Error::Field("flag")));
    assert_eq!(set(&picture, 7, &[0; 4]), Err(Error::Field("timescale")));
    assert_eq!(set(&picture, 7, &[255; 4]), Err(Error::Field("timescale")));
    assert_eq!(set(&picture, 11, &[0x7f; 8]), Err(Error::Field("time")));
    assert_eq!(
        set(&picture, 19, &[0, 0, 0, 1]),
        Err(Error::Field("composition offset"))
    );
    assert_eq!(set(&picture, 3, &[27]), Err(Error::Field("unit size")));
    assert_eq!(set(&picture, 3, &[26]), Err(Error::Length));
    let mark = segment(1);
    assert_eq!(set(&mark, 5, &[0; 8]), Err(Error::Field("segment number")));
    assert_eq!(
        set(&mark, 5, &[255; 8]),
        Err(Error::Field("segment number"))
    );
    assert_eq!(
        set(&mark, 13, &[255; 8]),
        Err(Error::Field("segment number"))
    );
    assert_eq!(set(&mark, 33, &[255; 8]), Err(Error::Field("UTC")));
    assert_eq!(
        set(&Event::Gap(Gap::Jump), 5, &[3]),
        Err(Error::Field("gap"))
    );
    let longer = |frame: &mut Vec<u8>| {
        frame[3] += 1;
        frame.push(0);
    };
    assert_eq!(changed(&Event::End, longer), Err(Error::Length));
    assert_eq!(changed(&mark, longer), Err(Error::Length));
    assert_eq!(
        changed(&Event::End, |frame| frame.push(0)),
        Err(Error::AfterEnd)
    );
}

#[test]
fn tracks_are_checked() {
    let audio = tracks()[3].clone();
    let check = |tracks: Vec<Track>| decoded(&encoded(&[Event::Tracks(tracks.into())])).map(drop);
    let numbered = |n: u8| Track {
        id: TrackId(n),
        name: name(&format!("t{n}")),
        ..audio.clone()
    };
    assert_eq!(check((0..16).map(numbered).collect()), Ok(()));
    assert_eq!(
        check((0..17).map(numbered).collect()),
        Err(Error::Field("track count"))
    );
    let same_id = Track {
        name: name("other"),
        ..audio.clone()
    };
    assert_eq!(
        check(vec![audio.clone(), same_id]),
        Err(Error::Field("track id or name"))
    );
    let same_name = Track {
        id: TrackId(1),
        ..audio.clone()
    };
    assert_eq!(
        check(vec![audio.clone(), same_name]),
        Err(Error::Field("track id or name"))
    );
    let video = Format::Video(fixtures::h264().video());
    assert_eq!(
        check(vec![Track {
            format: video,
            ..audio.clone()
        }]),
        Err(Error::Field("format"))
    );
    let format = |sample_rate, channels| {
        Format::Audio(Audio {
            sample_rate,
            channels,
        })
    };
    for bad in [
        format(0, 2),
        format(48_000, 0),
        format(96_001, 2),
        format(48_000, 9),
    ] {
        let track = Track {
            format: bad,
            ..audio.clone()
        };
        assert_eq!(check(vec![track]), Err(Error::Field("audio format")));
    }
    let picture = tracks()[0].clone();
    let bad_size = Video {
        width: 4_097,
        ..fixtures::h264().video()
    };
    let track = Track {
        format: Format::Video(bad_size),
        ..picture
    };
    assert_eq!(
        check(vec![track]),
        Err(Error::Codec(bitstream::Error::Limit("picture size")))
    );

    let mut bytes = encoded(&[Event::Tracks([audio].into())]);
    let name_at = HEADER.len() + 4 + 1 + 2;
    bytes[name_at] = b'/';
    assert_eq!(decoded(&bytes), Err(Error::Field("track name")));
    bytes[name_at] = 0xff;
    assert_eq!(decoded(&bytes), Err(Error::Field("track name")));
}

#[test]
fn a_length_beyond_any_event_is_refused_before_its_bytes_come() {
    let check = |len: usize| {
        let mut bytes = HEADER.to_vec();
        bytes.extend(u32::try_from(len).expect("a length").to_be_bytes());
        decoded(&bytes)
    };
    assert_eq!(check(FRAME_BYTES_MAX), Ok(vec![]));
    let over = FRAME_BYTES_MAX + 1;
    assert_eq!(
        check(over),
        Err(Error::FrameLength(u32::try_from(over).expect("fits")))
    );
    assert_eq!(check(0), Err(Error::Length));
    let largest = |len| changed(&unit(0, 90_000, 0, 0, Bytes::from(vec![1; len])), |_| {});
    assert!(largest(UNIT_BYTES_MAX).is_ok());
    assert_eq!(largest(UNIT_BYTES_MAX + 1), Err(Error::Field("unit size")));
}

#[test]
fn another_version_is_refused_at_its_first_byte() {
    assert_eq!(decoded(b"GET / HTTP"), Err(Error::Version));
    assert_eq!(decoded(b"HWEVENT\x02"), Err(Error::Version));
    assert_eq!(decoded(b"HWX"), Err(Error::Version));
    assert_eq!(decoded(b"HWEVENT"), Ok(vec![]));
}

#[test]
fn an_error_stays() {
    let mut decoder = Decoder::new();
    decoder.push(b"no");
    assert_eq!(decoder.next(), Err(Error::Version));
    decoder.push(&encoded(&story()));
    assert_eq!(decoder.next(), Err(Error::Version));
}

prop_compose! {
    fn any_unit()(
        track in prop::sample::select(vec![(0_u8, 90_000), (1, 90_000), (2, 90_000), (7, 48_000), (255, 48_000)]),
        dts in -(1_i64 << 50)..(1 << 50),
        composition in any::<i32>(),
        duration in any::<u32>(),
        keyframe in any::<bool>(),
        data in prop::collection::vec(any::<u8>(), 1..300),
    ) -> Event {
        let scale = Timescale::new(track.1).expect("not zero");
        Event::Unit(AccessUnit {
            track: TrackId(track.0),
            dts: Timestamp::new(dts, scale),
            pts: Timestamp::new(dts + i64::from(composition), scale),
            duration,
            keyframe,
            data: data.into(),
        })
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let segment = (1..TICKS_MAX, 0..TICKS_MAX, any::<i32>(), 0..UTC_MAX);
    prop_oneof![
        any_unit(),
        Just(Event::Tracks(tracks())),
        segment.prop_map(
            |(number, discontinuity, start, utc)| Event::Segment(Segment {
                number,
                discontinuity,
                start: Timestamp::new(start.into(), Timescale::VIDEO),
                utc: Utc::from_unix_micros(utc),
            })
        ),
        prop::sample::select(vec![Gap::Jump, Gap::Dropped, Gap::Reconnect]).prop_map(Event::Gap),
    ]
}

proptest! {
    #[test]
    fn events_survive_any_chunking(
        events in prop::collection::vec(any_event(), 0..12),
        cuts in prop::collection::vec(1..700_usize, 1..20),
    ) {
        let mut sent = vec![Event::Tracks(tracks())];
        sent.extend(events);
        let bytes = encoded(&sent);
        let (mut decoder, mut got, mut rest) = (Decoder::new(), Vec::new(), &bytes[..]);
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*cut));
            decoder.push(now);
            got.extend(drain(&mut decoder).expect("valid"));
            rest = later;
            if rest.is_empty() { break; }
        }
        prop_assert_eq!(got, sent);
    }

    /// A changed byte is refused or makes other events, which then survive the trip themselves.
    #[test]
    fn mutated_bytes_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = encoded(&story());
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let mut decoder = Decoder::new();
        decoder.push(&bytes);
        let mut events = Vec::new();
        while let Ok(Some(event)) = decoder.next() {
            events.push(event);
        }
        prop_assert_eq!(decoded(&encoded(&events)), Ok(events));
    }
}
