//! Events that no segmenter should send: refused or turned into gaps, never a panic, never without bound.

use std::time::Duration;

use bytes::Bytes;
use media::{AccessUnit, Event, Gap, Segment, Timescale, Timestamp, Track, TrackId, Utc};
use packager::{Bounds, Chunk, Config, Delta, Error, Packager, Window};
use proptest::prelude::*;

use crate::stream::{self, EPOCH, Stream};
use crate::{boxes, playlist};

const VIDEO: Timescale = Timescale::VIDEO;

fn mark(number: u64, ticks: i64) -> Event {
    Event::Segment(Segment {
        number,
        discontinuity: 0,
        start: Timestamp::new(ticks, VIDEO),
        utc: EPOCH,
    })
}

fn picture(ticks: i64, keyframe: bool) -> AccessUnit {
    AccessUnit {
        track: TrackId(0),
        dts: Timestamp::new(ticks, VIDEO),
        pts: Timestamp::new(ticks, VIDEO),
        duration: 3_000,
        keyframe,
        data: Bytes::from_static(b"picture"),
    }
}

fn tracks(tracks: Vec<Track>) -> Event {
    Event::Tracks(tracks.into())
}

fn one_video() -> Event {
    tracks(vec![stream::video(0, "v", Some((30, 1)))])
}

/// A packager with one video track, whose first segment began a second ago.
fn begun() -> Packager {
    let mut packager = Packager::new(stream::config());
    packager.push(one_video()).unwrap();
    packager.push(mark(1, 90_000)).unwrap();
    for i in 0..30 {
        packager
            .push(Event::Unit(picture(90_000 + 3_000 * i, i == 0)))
            .unwrap();
    }
    packager
}

fn segments(chunks: &[Chunk]) -> Vec<(u64, u64, bool)> {
    let segments = chunks.iter().filter_map(|chunk| match chunk {
        Chunk::Segment(segment) => Some((segment.number, segment.duration, segment.gap)),
        _ => None,
    });
    segments.collect()
}

#[test]
fn units_that_contradict_their_track_are_refused_and_nothing_else_is() {
    let id = TrackId(0);
    let good = picture(180_000, false);
    let at = |ticks, hz| Timestamp::new(ticks, Timescale::new(hz).unwrap());
    for (bad, error) in [
        (
            AccessUnit {
                track: TrackId(9),
                ..good.clone()
            },
            Error::UnknownTrack(TrackId(9)),
        ),
        (picture(177_000, false), Error::Order(id)),
        (picture(90_000, false), Error::Order(id)),
        (picture(-5, false), Error::Time(id)),
        (picture(i64::MAX, false), Error::Time(id)),
        (picture(i64::MIN, false), Error::Time(id)),
        (
            AccessUnit {
                dts: at(96_000, 48_000),
                ..good.clone()
            },
            Error::Time(id),
        ),
        (
            AccessUnit {
                pts: at(96_000, 48_000),
                ..good.clone()
            },
            Error::Time(id),
        ),
        (
            AccessUnit {
                pts: at(1 << 40, 90_000),
                ..good.clone()
            },
            Error::Time(id),
        ),
    ] {
        let mut packager = begun();
        assert_eq!(
            packager.push(Event::Unit(bad.clone())),
            Err(error),
            "{bad:?}"
        );
        // As if it had not been there.
        packager.push(Event::Unit(good.clone())).unwrap();
        let chunks = packager.push(Event::End).unwrap();
        assert_eq!(segments(&chunks), [(1, 93_000, false)], "{bad:?}");
    }
}

#[test]
fn marks_follow_one_another() {
    let mut packager = begun();
    for (bad, number) in [
        (mark(1, 270_000), 1),
        (mark(3, 270_000), 3),
        (mark(0, 270_000), 0),
        (mark(u64::MAX, 270_000), u64::MAX),
        (mark(2, 90_000), 2),
        (mark(2, i64::MIN), 2),
    ] {
        assert_eq!(packager.push(bad), Err(Error::Mark(number)));
    }
    packager.push(mark(2, 270_000)).unwrap();
    for first in [0, u64::MAX, 1 << 60] {
        let mut packager = Packager::new(stream::config());
        assert_eq!(packager.push(mark(first, 0)), Err(Error::Mark(first)));
    }
}

#[test]
fn tracks_that_cannot_be_packaged_are_refused() {
    let video = stream::video(0, "v", Some((30, 1)));
    let audio = stream::aac(1, "a", 48_000);
    let swapped = Track {
        format: audio.format,
        ..video.clone()
    };
    let fast = Track {
        timescale: Timescale::new(u32::MAX).unwrap(),
        ..video.clone()
    };
    let same_id = Track {
        id: TrackId(0),
        ..audio.clone()
    };
    let same_name = Track {
        name: "v".parse().unwrap(),
        ..audio
    };
    let many = (0..65)
        .map(|i| stream::aac(i, &format!("a{i}"), 48_000))
        .collect();
    for bad in [
        vec![swapped],
        vec![fast],
        vec![video.clone(), same_id],
        vec![video, same_name],
        many,
    ] {
        let mut packager = begun();
        assert_eq!(packager.push(tracks(bad)), Err(Error::Tracks));
        packager.push(Event::Unit(picture(180_000, false))).unwrap();
    }
}

#[test]
fn a_jump_within_a_segment_is_not_a_long_frame() {
    let mut packager = begun();
    // An hour later, without a word.
    let later = 90_000 * 3_600;
    packager
        .push(Event::Unit(picture(later, false)))
        .unwrap_err();
    let mut packager = begun();
    let mut chunks = packager
        .push(Event::Unit(picture(90_000 * 14, false)))
        .unwrap();
    chunks.extend(
        packager
            .push(Event::Unit(picture(90_000 * 14 + 3_000, false)))
            .unwrap(),
    );
    chunks.extend(packager.push(Event::End).unwrap());
    // Thirty pictures, and two more that say when they are.
    assert_eq!(segments(&chunks), [(1, 96_000, false)]);
    let starts: Vec<i64> = chunks
        .iter()
        .filter_map(|chunk| match chunk {
            Chunk::Part(part) => Some(part.start.ticks()),
            _ => None,
        })
        .collect();
    assert_eq!(starts.last(), Some(&(90_000 * 14)));
}

/// Two pictures a long time apart, the second a keyframe, then pictures that follow fast and are reordered: the delay
/// of the encoder shrinks within the segment.
#[test]
fn a_delay_that_shrinks_within_a_segment_moves_no_boundary() {
    let mut packager = Packager::new(stream::config());
    packager.push(one_video()).unwrap();
    packager.push(mark(1, 90_000)).unwrap();
    let shown = |place: i64| 90_000 + 3_000 * place;
    let mut chunks = Vec::new();
    // In decode order; the first is decoded when the one long before it is shown.
    let mut decoded = shown(-4);
    for place in [0, 2, 1, 4, 3, 6, 5] {
        chunks.extend(
            packager
                .push(Event::Unit(AccessUnit {
                    dts: Timestamp::new(decoded, VIDEO),
                    ..picture(shown(place), place == 0)
                }))
                .unwrap(),
        );
        decoded = if place == 0 {
            shown(0)
        } else {
            decoded + 3_000
        };
    }
    chunks.extend(packager.push(mark(2, shown(7))).unwrap());
    let next = AccessUnit {
        dts: Timestamp::new(decoded, VIDEO),
        ..picture(shown(7), true)
    };
    chunks.extend(packager.push(Event::Unit(next)).unwrap());
    assert_eq!(segments(&chunks), [(1, 7 * 3_000, false)]);
}

#[test]
fn a_gap_ends_a_picture_where_its_source_says() {
    let mut packager = begun();
    packager.push(Event::Gap(Gap::Dropped)).unwrap();
    packager.push(mark(2, 450_000)).unwrap();
    let mut chunks = packager.push(Event::Unit(picture(450_000, true))).unwrap();
    chunks.extend(packager.push(Event::End).unwrap());
    assert_eq!(segments(&chunks), [(1, 90_000, false), (2, 3_000, false)]);
}

/// 19: a picture longer than a part fills one, and gaps for the rest of its time.
#[test]
fn a_frozen_picture_fills_parts_with_gaps() {
    let mut packager = begun();
    let mut window = Window::new(stream::config(), stream::bounds());
    let mut again = Packager::new(stream::config());
    let mut events = vec![one_video(), mark(1, 90_000)];
    events.extend((0..30).map(|i| Event::Unit(picture(90_000 + 3_000 * i, i == 0))));
    // Nothing for 0.9 s, then three more.
    events.extend((0..3).map(|i| Event::Unit(picture(258_000 + 3_000 * i, false))));
    events.push(mark(2, 270_000));
    events.push(Event::Unit(picture(270_000, true)));
    for event in events {
        for chunk in again.push(event).unwrap() {
            window.push(chunk);
        }
    }
    packager.push(Event::Unit(picture(258_000, false))).unwrap();
    let text = window.playlist("v", Delta::Full).unwrap().to_bytes();
    let list = playlist::parse(std::str::from_utf8(&text).unwrap());
    let first = &list.segments[0];
    assert!(first.parts.iter().all(|part| part.duration <= 0.25));
    assert!(first.parts.iter().any(|part| part.gap));
    let sum: f64 = first.parts.iter().map(|part| part.duration).sum();
    assert!((sum - 2.0).abs() < 1e-5 && (first.duration - 2.0).abs() < 1e-5);
    for part in &first.parts {
        let there = window.object(&format!("e1/v/{}", part.uri)) != packager::Object::Unknown;
        assert_eq!(there, !part.gap, "{part:?}");
    }
    let bytes = |name: &str| match window.object(&format!("e1/v/{name}")) {
        packager::Object::Ready(bytes) => bytes.to_bytes(),
        other => panic!("{other:?}"),
    };
    let chunks = boxes::chunks(&bytes(&first.map), &bytes(first.uri.as_ref().unwrap()));
    assert_eq!(chunks.last().unwrap().end(), 270_000);
    let count: usize = chunks.iter().map(|chunk| chunk.samples.len()).sum();
    assert_eq!(count, 33);
}

/// 18: a keyframe that does not come may not stretch a segment beyond TARGETDURATION.
#[test]
fn a_missing_keyframe_ends_the_segment_in_time() {
    let mut packager = begun();
    let mut chunks = packager.push(mark(2, 270_000)).unwrap();
    let mut refused = 0;
    for i in 30..150 {
        let unit = picture(90_000 + 3_000 * i, false);
        match packager.push(Event::Unit(unit)) {
            Ok(more) => chunks.extend(more),
            Err(error) => {
                assert_eq!(error, Error::NoKeyframe(TrackId(0)));
                refused += 1;
            }
        }
    }
    assert!(refused > 70);
    chunks.extend(packager.push(mark(3, 540_000)).unwrap());
    chunks.extend(packager.push(Event::Unit(picture(540_000, true))).unwrap());
    chunks.extend(packager.push(Event::End).unwrap());
    let segments = segments(&chunks);
    assert_eq!(segments.len(), 3);
    let (number, duration, gap) = segments[0];
    assert!(
        number == 1 && duration > 180_000 && duration < 225_000 && !gap,
        "{segments:?}"
    );
    // The number goes on, and the time up to the keyframe is a gap.
    assert_eq!(segments[1], (2, 540_000 - 90_000 - duration, true));
    assert_eq!(segments[2], (3, 3_000, false));
}

#[test]
fn without_marks_memory_stays_bounded() {
    let mut packager = begun();
    let data = Bytes::from(vec![0; 1 << 20]);
    let mut kept = 0;
    for i in 30..400 {
        let unit = AccessUnit {
            data: data.clone(),
            ..picture(90_000 + 3_000 * i, false)
        };
        match packager.push(Event::Unit(unit)) {
            Ok(_) => kept += 1,
            Err(error) => {
                let expected = [Error::Overlong(TrackId(0)), Error::NoKeyframe(TrackId(0))];
                assert!(expected.contains(&error));
            }
        }
    }
    assert!(kept <= 64, "{kept} MiB");
    // The next mark mends it.
    packager.push(mark(2, 90_000 + 3_000 * 400)).unwrap();
    let chunks = packager
        .push(Event::Unit(picture(90_000 + 3_000 * 400, true)))
        .unwrap();
    assert_eq!(segments(&chunks).len(), 1);
    // Small units are bounded by time.
    let last = (31_i64..10_000)
        .take_while(|i| {
            let unit = picture(90_000 + 3_000 * (400 + i), false);
            packager.push(Event::Unit(unit)).is_ok()
        })
        .last();
    assert!(
        last.is_some_and(|last| (1_700..1_900).contains(&last)),
        "{last:?}"
    );
}

#[test]
fn marks_without_units_are_gaps_and_bounded() {
    let mut packager = Packager::new(stream::config());
    let mut window = Window::new(
        stream::config(),
        Bounds {
            duration: Duration::from_secs(60),
            ..stream::bounds()
        },
    );
    packager.push(one_video()).unwrap();
    for i in 0..100_000 {
        for chunk in packager.push(mark(1 + i, 1 + i as i64)).unwrap() {
            window.push(chunk);
        }
    }
    let text = window.playlist("v", Delta::Full).unwrap();
    assert!(text.len() < 4 << 20, "{}", text.len());
}

#[test]
fn extreme_instants_print() {
    for micros in [i64::MIN, -1, 0, i64::MAX] {
        let mut packager = Packager::new(stream::config());
        let mut window = Window::new(stream::config(), stream::bounds());
        let mut events = Stream::new(vec![stream::video(0, "v", Some((30, 1)))], 2).events();
        for event in &mut events {
            if let Event::Segment(mark) = event {
                mark.utc = Utc::from_unix_micros(micros);
            }
        }
        for event in events {
            for chunk in packager.push(event).unwrap() {
                window.push(chunk);
            }
        }
        let text = window.playlist("v", Delta::Full).unwrap().to_bytes();
        playlist::parse(std::str::from_utf8(&text).unwrap());
    }
}

#[test]
fn strange_configurations_do_no_harm() {
    for (segment, part) in [
        (Duration::ZERO, Duration::ZERO),
        (Duration::MAX, Duration::MAX),
        (Duration::from_nanos(1), Duration::from_secs(100)),
        (Duration::from_secs(2), Duration::from_nanos(1)),
    ] {
        let config = Config {
            segment,
            part,
            ..stream::config()
        };
        let chunks = stream::package(&config, &Stream::new(stream::ladder(), 3).events());
        let window = stream::window(&config, stream::bounds(), &chunks);
        let text = window.playlist("720p", Delta::Full).unwrap().to_bytes();
        playlist::parse(std::str::from_utf8(&text).unwrap());
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let ticks = prop_oneof![
        8 => 0_i64..2_000_000,
        1 => any::<i64>(),
    ];
    let unit = (
        0_u8..4,
        ticks.clone(),
        -10_000_i64..10_000,
        any::<u32>(),
        any::<bool>(),
        0_usize..3_000,
    )
        .prop_map(|(track, dts, composition, duration, keyframe, len)| {
            let scale = if track < 2 {
                VIDEO
            } else {
                Timescale::new(48_000).unwrap()
            };
            Event::Unit(AccessUnit {
                track: TrackId(track),
                dts: Timestamp::new(dts, scale),
                pts: Timestamp::new(dts.saturating_add(composition), scale),
                duration,
                keyframe,
                data: vec![0; len].into(),
            })
        });
    let mark = (0_u64..40, 0_u64..3, ticks, any::<i64>()).prop_map(
        |(number, discontinuity, start, utc)| {
            Event::Segment(Segment {
                number,
                discontinuity,
                start: Timestamp::new(start, VIDEO),
                utc: Utc::from_unix_micros(utc),
            })
        },
    );
    let some_tracks = prop::collection::vec(0_usize..5, 0..4).prop_map(|which| {
        let all = [
            stream::video(0, "a", Some((30, 1))),
            stream::changed(&stream::video(0, "a", None)),
            stream::video(1, "b", Some((1, 1))),
            stream::aac(2, "c", 48_000),
            stream::opus(3, "d"),
        ];
        tracks(which.into_iter().map(|i| all[i].clone()).collect())
    });
    prop_oneof![
        20 => unit,
        4 => mark,
        2 => some_tracks,
        1 => Just(Event::Gap(Gap::Jump)),
    ]
}

/// Events of any kind, in a plausible order half of the time: marks and units that go on from each other.
fn any_events() -> impl Strategy<Value = Vec<Event>> {
    let steady = prop::collection::vec((any_event(), any::<bool>()), 1..300).prop_map(|events| {
        let (mut number, mut now) = (1, 90_000_i64);
        let mut out = vec![tracks(stream::ladder())];
        for (event, mend) in events {
            now += 1_500;
            out.push(match event {
                Event::Segment(mark) if mend => {
                    number += 1;
                    Event::Segment(Segment {
                        number: number - 1,
                        discontinuity: number / 3,
                        start: Timestamp::new(now, VIDEO),
                        ..mark
                    })
                }
                Event::Unit(unit) if mend => {
                    let at =
                        Timestamp::new(now, VIDEO).rescale(unit.dts.scale(), media::Rounding::Up);
                    Event::Unit(AccessUnit {
                        dts: at,
                        pts: at,
                        ..unit
                    })
                }
                other => other,
            });
        }
        out.push(Event::End);
        out
    });
    prop_oneof![prop::collection::vec(any_event(), 1..300), steady]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever comes: no panic, and whatever is listed can be read by a player and is there.
    #[test]
    fn any_events_make_readable_playlists(events in any_events()) {
        let mut packager = Packager::new(stream::config());
        let mut window = Window::new(stream::config(), stream::bounds());
        for event in events {
            for chunk in packager.push(event).unwrap_or_default() {
                window.push(chunk);
            }
        }
        for name in ["a", "b", "c", "d", "720p", "360p", "audio"] {
            let Some(text) = window.playlist(name, Delta::Full) else { continue };
            let text = String::from_utf8(text.to_bytes().to_vec()).unwrap();
            let list = playlist::parse(&text);
            let mut numbers = list.sequence..;
            for segment in &list.segments {
                let number = numbers.next().unwrap();
                let expected = format!("{number}.m4s");
                prop_assert!(segment.uri.as_ref().is_none_or(|uri| *uri == expected), "{text}");
                let there = |uri: &str| match window.object(&format!("e1/{name}/{uri}")) {
                    packager::Object::Ready(bytes) => Some(bytes.to_bytes()),
                    _ => None,
                };
                prop_assert!(there(&segment.map).is_some());
                if let Some(uri) = &segment.uri {
                    prop_assert_eq!(there(uri).is_some(), !segment.gap, "{}", text);
                }
                for part in &segment.parts {
                    prop_assert!(part.duration <= list.part_target.unwrap());
                    prop_assert_eq!(there(&part.uri).is_some(), !part.gap, "{}", text);
                    if let Some(bytes) = there(&part.uri) {
                        let init = there(&segment.map).unwrap();
                        let chunks = boxes::chunks(&init, &bytes);
                        prop_assert_eq!(chunks[0].samples[0].sync(), part.independent);
                    }
                }
            }
        }
    }
}
