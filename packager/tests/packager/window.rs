//! What a window holds, forgets and renders.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use media::{Bandwidth, Event, Format, Rational, Track, Video};
use packager::{Bounds, Config, Delta, Object, Packager, Rope, Tip, Window};

use crate::playlist::{self, Playlist};
use crate::stream::{self, Stream};

fn text(window: &Window, rendition: &str) -> String {
    let rope = window.playlist(rendition, Delta::Full).expect("a playlist");
    String::from_utf8(rope.to_bytes().to_vec()).unwrap()
}

fn list(window: &Window, rendition: &str) -> Playlist {
    playlist::parse(&text(window, rendition))
}

fn whole(tracks: Vec<Track>, segments: u64, bounds: Bounds) -> Window {
    let config = stream::config();
    let mut events = Stream::new(tracks, segments).events();
    events.pop();
    stream::window(&config, bounds, &stream::package(&config, &events))
}

/// 27, 57: the same range in all, within the bound, and never too few.
#[test]
fn playlists_are_bounded_by_duration() {
    let bounds = Bounds {
        duration: Duration::from_secs(20),
        ..stream::bounds()
    };
    let window = whole(stream::ladder(), 40, bounds);
    for name in ["720p", "360p", "audio"] {
        let list = list(&window, name);
        let complete = list
            .segments
            .iter()
            .filter(|segment| segment.uri.is_some())
            .count();
        assert_eq!(complete, 9);
        // Ten of sound are a little longer than twenty seconds.
        assert_eq!(list.sequence, 31);
        assert_eq!(
            list.segments[0].map,
            "init-".to_owned() + &list.segments[0].map[5..]
        );
    }
    let bounds = Bounds {
        duration: Duration::ZERO,
        ..stream::bounds()
    };
    let window = whole(stream::ladder(), 40, bounds);
    let complete = list(&window, "720p")
        .segments
        .iter()
        .filter(|s| s.uri.is_some())
        .count();
    assert_eq!(complete, 6);
}

#[test]
fn memory_is_bounded_by_bytes() {
    let bounds = Bounds {
        duration: Duration::from_secs(3_600),
        bytes: 4 << 20,
    };
    let mut window = Window::new(stream::config(), bounds);
    let mut packager = Packager::new(stream::config());
    // Each second is about 120 kB.
    for event in Stream::new(stream::ladder(), 60).events() {
        for chunk in packager.push(event).unwrap() {
            window.push(chunk);
        }
    }
    let mut held = 0;
    for name in ["720p", "360p", "audio"] {
        for number in 0..60 {
            if let Object::Ready(bytes) = window.object(&format!("e1/{name}/{number}.m4s")) {
                held += bytes.len();
            }
        }
    }
    assert!(held <= 4 << 20, "{held}");
    assert!(held > 3 << 20, "{held} is less than it may be");
    assert!(list(&window, "720p").segments.len() > 10);
}

/// 25, 26: what left the playlist can be had for its own length and the playlist's, then no longer.
#[test]
fn objects_outlive_their_listing() {
    let bounds = Bounds {
        duration: Duration::from_secs(20),
        ..stream::bounds()
    };
    let mut window = Window::new(stream::config(), bounds);
    let mut packager = Packager::new(stream::config());
    let mut gone_at = None;
    let mut unlisted_at = None;
    let mut parts_unlisted_at = None;
    for event in Stream::new(stream::ladder(), 40).events() {
        for chunk in packager.push(event).unwrap() {
            window.push(chunk);
        }
        let Some(tip) = window.tip("720p") else {
            continue;
        };
        if tip.segment < 5 {
            continue;
        }
        let text = text(&window, "720p");
        let ready = |path| matches!(window.object(path), Object::Ready(_));
        if !text.contains("\n4.m4s") {
            unlisted_at.get_or_insert(tip.segment);
        }
        if !text.contains("\"4.0.m4s\"") {
            parts_unlisted_at.get_or_insert(tip.segment);
        }
        assert_eq!(ready("e1/720p/4.m4s"), ready("e1/720p/4.0.m4s"));
        if !ready("e1/720p/4.m4s") {
            gone_at.get_or_insert(tip.segment);
        }
    }
    let (parts_unlisted, unlisted, gone) = (
        parts_unlisted_at.unwrap(),
        unlisted_at.unwrap(),
        gone_at.unwrap(),
    );
    // Segment 5 is in progress when 4 is complete, and three more complete are three target durations.
    assert_eq!(parts_unlisted, 8);
    assert_eq!(unlisted, 15);
    // Its own two seconds and the twenty-two of the longest playlist that listed it.
    assert_eq!(gone, 27);
}

#[test]
fn names_are_exact() {
    let window = whole(stream::ladder(), 4, stream::bounds());
    let map = list(&window, "720p").segments[0].map.clone();
    for good in [
        "e1/720p/1.m4s",
        "e1/audio/2.m4s",
        "e1/360p/3.0.m4s",
        &format!("e1/720p/{map}"),
    ] {
        assert!(matches!(window.object(good), Object::Ready(_)), "{good}");
    }
    let Tip { segment, parts } = window.tip("720p").unwrap();
    assert_eq!(
        window.object(&format!("e1/720p/{segment}.{parts}.m4s")),
        Object::Hinted
    );
    for bad in [
        "",
        "e1",
        "e1/",
        "e1/720p",
        "e1/720p/",
        "e2/720p/1.m4s",
        "720p/1.m4s",
        "/e1/720p/1.m4s",
        "e1//720p/1.m4s",
        "e1/720p/01.m4s",
        "e1/720p/+1.m4s",
        "e1/720p/1.00.m4s",
        "e1/720p/1.0.0.m4s",
        "e1/720p/1.mp4",
        "e1/720p/.m4s",
        "e1/720p/0.m4s",
        "e1/720p/-1.m4s",
        "e1/720p/99.m4s",
        "e1/720p/1.99.m4s",
        "e1/720p/1.4294967296.m4s",
        "e1/720p/99999999999999999999999.m4s",
        "e1/1080p/1.m4s",
        "e1/audio/../720p/1.m4s",
        "e1/720p/init-0000000000000000.mp4",
        &format!("e1/audio/{map}"),
        &format!("e1/720p/{segment}.m4s"),
        &format!("e1/720p/{segment}.{}.m4s", parts + 1),
        &format!("e1/720p/{}.0.m4s", segment + 1),
    ] {
        assert_eq!(window.object(bad), Object::Unknown, "{bad}");
    }
}

/// A new part costs the same, however long the playlist: text that was not in the last rendering is bounded, and so is
/// the number of pieces.
#[test]
fn rendering_writes_only_what_changed() {
    /// Over the parts of the last 260 segments, in bytes that the rendering before did not have.
    #[derive(Debug, Default)]
    struct Fresh {
        /// The most for a part within a segment.
        part_max: usize,
        /// The most for one that began a segment: the text of the last one settles, and may complete a page.
        segment_max: usize,
        average: usize,
        pieces_max: usize,
        playlist: usize,
    }
    let measure = |segments: u64| {
        let bounds = Bounds {
            duration: Duration::from_secs(7_200),
            bytes: usize::MAX,
        };
        let config = stream::config();
        let mut window = Window::new(config.clone(), bounds);
        let mut packager = Packager::new(config);
        // The rendering before: kept, so that no memory of it is used again.
        let mut last = Rope::default();
        let mut last_tip = Tip::default();
        let mut result = Fresh::default();
        let (mut sum, mut count) = (0, 0);
        let tracks = vec![stream::video(0, "360p", Some((5, 1)))];
        let stream = Stream {
            rate: (5, 1),
            ..Stream::new(tracks, segments)
        };
        for event in stream.events() {
            for chunk in packager.push(event).unwrap() {
                window.push(chunk);
            }
            let Some(tip) = window.tip("360p").filter(|tip| *tip != last_tip) else {
                continue;
            };
            let rope = window.playlist("360p", Delta::Full).unwrap();
            let place = |slice: &Bytes| (slice.as_ptr(), slice.len());
            let known: HashSet<_> = last.slices().iter().map(place).collect();
            let pieces = rope.slices().iter();
            let fresh = pieces.filter(|slice| !known.contains(&place(slice)));
            let fresh: usize = fresh.map(Bytes::len).sum();
            if tip.segment + 260 > segments {
                let max = match tip.segment == last_tip.segment {
                    true => &mut result.part_max,
                    false => &mut result.segment_max,
                };
                *max = fresh.max(*max);
                result.pieces_max = result.pieces_max.max(rope.slices().len());
                (sum, count) = (sum + fresh, count + 1);
            }
            result.playlist = rope.len();
            (last, last_tip) = (rope, tip);
        }
        result.average = sum / count;
        result
    };
    let minute = measure(30);
    let two_hours = measure(3_590);
    let evicting = measure(3_700);
    assert!(two_hours.playlist > 250_000 && evicting.playlist > 250_000);
    for long in [&two_hours, &evicting] {
        assert!(long.part_max < minute.part_max + 40, "{minute:?} {long:?}");
        assert!(long.segment_max < 25_000, "{long:?}");
        assert!(long.average < 1_500, "{minute:?} {long:?}");
        assert!(long.pieces_max < 64, "{long:?}");
    }
}

#[test]
fn a_stream_ends_in_all_playlists_at_once() {
    let config = stream::config();
    let mut packager = Packager::new(config.clone());
    let mut window = Window::new(config, stream::bounds());
    let mut events = Stream::new(stream::ladder(), 4).events();
    // In the middle of the last segment.
    events.truncate(events.len() - 60);
    for event in &events {
        for chunk in packager.push(event.clone()).unwrap() {
            window.push(chunk);
        }
    }
    let hinted = |window: &Window| {
        let Tip { segment, parts } = window.tip("720p").unwrap();
        window.object(&format!("e1/720p/{segment}.{parts}.m4s"))
    };
    assert_eq!(hinted(&window), Object::Hinted);
    for chunk in packager.push(Event::End).unwrap() {
        window.push(chunk);
    }
    assert!(window.ended());
    assert_eq!(hinted(&window), Object::Unknown);
    assert!(window.multivariant().is_some());
    for name in ["720p", "360p", "audio"] {
        let list = list(&window, name);
        assert!(list.ended && list.hints.is_empty() && list.reports.is_empty());
        assert_eq!(list.segments.len(), 4);
        let last = &list.segments[3];
        assert!(
            last.uri.is_some() && last.duration > 0.5 && last.duration < 1.9,
            "{last:?}"
        );
        assert_eq!(
            window.playlist(name, Delta::Skip),
            window.playlist(name, Delta::Full)
        );
        let iframes = window.iframes(name).map(|rope| rope.to_bytes());
        assert_eq!(iframes.is_some(), name != "audio");
        assert!(iframes.is_none_or(|text| text.ends_with(b"#EXT-X-ENDLIST\n")));
    }
    // Nothing follows.
    let before = text(&window, "720p");
    for event in events {
        assert!(packager.push(event).is_err());
    }
    assert_eq!(text(&window, "720p"), before);
}

/// 7, 12, 24, 42: a change of codec at a mark, in all renditions at the same number.
#[test]
fn a_change_of_codec_is_hinted_mapped_and_discontinuous() {
    let config = stream::config();
    let mut packager = Packager::new(config.clone());
    let mut window = Window::new(config, stream::bounds());
    let mut hinted = None;
    for event in stream::with_change() {
        for chunk in packager.push(event).unwrap() {
            window.push(chunk);
        }
        if window.tip("720p").is_some() && !window.ended() {
            let list = list(&window, "720p");
            assert_eq!(list.hints.len(), 1);
            if let [map] = &list.map_hints[..] {
                let path = format!("e1/720p/{map}");
                assert!(matches!(window.object(&path), Object::Ready(_)));
                hinted = Some(map.clone());
            }
        }
    }
    let video = list(&window, "720p");
    let maps: Vec<&str> = video.segments.iter().map(|segment| &*segment.map).collect();
    assert_eq!(maps[0], maps[2]);
    assert_ne!(maps[2], maps[3]);
    assert_eq!(maps[3], maps[5]);
    assert_eq!(hinted.as_deref(), Some(maps[3]));
    for name in ["720p", "360p", "audio"] {
        let list = list(&window, name);
        let breaks: Vec<bool> = list
            .segments
            .iter()
            .map(|segment| segment.discontinuity)
            .collect();
        assert_eq!(breaks, [false, false, false, true, false, false]);
        assert_eq!(list.discontinuity_sequence, Some(0));
        // The lost seconds are in the dates, and in no length.
        assert!(
            list.segments.iter().all(|segment| segment.duration < 2.1),
            "{name}"
        );
        let step = list.segments[3].date - list.segments[2].date;
        assert!((step - 12_000).abs() <= 22, "{name} {step}");
    }
    let audio = list(&window, "audio");
    assert_eq!(audio.segments[0].map, audio.segments[5].map);
}

/// The segmenter counts a discontinuity with each new configuration; a player gets its EXT-X-MAP even if not.
#[test]
fn a_change_of_codec_is_mapped_by_itself() {
    let config = stream::config();
    let track = stream::video(0, "v", Some((30, 1)));
    let mut events = Stream::new(vec![track.clone()], 2).events();
    events.pop();
    let more = Stream {
        first_number: 3,
        start: Duration::from_secs(5),
        ..Stream::new(vec![stream::changed(&track)], 2)
    };
    events.extend(more.events());
    let chunks = stream::package(&config, &events);
    let list = list(&stream::window(&config, stream::bounds(), &chunks), "v");
    assert_eq!(list.segments.len(), 4);
    assert!(list.segments.iter().all(|segment| !segment.discontinuity));
    assert_eq!(list.segments[0].map, list.segments[1].map);
    assert_ne!(list.segments[1].map, list.segments[2].map);
    assert_eq!(list.segments[2].map, list.segments[3].map);
}

/// 27: when the discontinuity leaves the list, its number counts it.
#[test]
fn discontinuities_are_counted_when_they_leave() {
    let config = stream::config();
    let mut events = stream::with_change();
    events.pop();
    let tail = Stream {
        first_number: 7,
        start: Duration::from_secs(23),
        ..Stream::new(stream::ladder(), 9)
    };
    events.extend(tail.events().into_iter().skip(1).map(|event| match event {
        Event::Segment(mark) => Event::Segment(media::Segment {
            discontinuity: 1,
            ..mark
        }),
        other => other,
    }));
    let bounds = Bounds {
        duration: Duration::ZERO,
        ..stream::bounds()
    };
    let mut window = Window::new(config.clone(), bounds);
    let mut packager = Packager::new(config);
    let mut numbers = Vec::new();
    for event in events {
        for chunk in packager.push(event).unwrap() {
            window.push(chunk);
        }
        if window.tip("audio").is_none() {
            continue;
        }
        let list = list(&window, "audio");
        // The number of each segment never changes, however it is reckoned.
        let mut number = list.discontinuity_sequence.unwrap();
        assert!(!list.segments[0].discontinuity, "counted and listed");
        for (i, segment) in list.segments.iter().enumerate() {
            number += u64::from(segment.discontinuity);
            let expected = u64::from(list.sequence + i as u64 >= 4);
            assert_eq!(number, expected);
        }
        numbers.push(list.discontinuity_sequence.unwrap());
        let iframes = window.iframes("720p").map(|rope| rope.to_bytes().to_vec());
        if let Some(iframes) = iframes {
            let iframes = playlist::parse(&String::from_utf8(iframes).unwrap());
            assert!(!iframes.segments[0].discontinuity);
        }
    }
    assert!(numbers.is_sorted() && numbers.first() != numbers.last());
}

#[test]
fn a_rung_that_goes_and_comes_back_keeps_its_numbers() {
    let config = stream::config();
    let mut window = Window::new(config.clone(), stream::bounds());
    let mut packager = Packager::new(config);
    let all = stream::ladder();
    let fewer: Vec<Track> = all
        .iter()
        .filter(|track| track.name.as_str() != "720p")
        .cloned()
        .collect();
    let mut names = Vec::new();
    let mut hint_while_gone = None;
    for (i, tracks) in [&all, &fewer, &all].into_iter().enumerate() {
        let stream = Stream {
            first_number: 1 + 3 * i as u64,
            start: Duration::from_secs(1 + 6 * i as u64),
            ..Stream::new(tracks.clone(), 3)
        };
        let mut events = stream.events();
        events.pop();
        for event in events {
            for chunk in packager.push(event).unwrap() {
                window.push(chunk);
            }
        }
        let index = String::from_utf8(window.multivariant().unwrap().to_vec()).unwrap();
        names.push(index.contains("720p"));
        if i == 1 {
            let list = list(&window, "720p");
            hint_while_gone = Some(list.hints.len());
            let others = playlist::parse(&text(&window, "audio"));
            assert!(
                others
                    .reports
                    .iter()
                    .all(|(uri, _, _)| !uri.contains("720p"))
            );
        }
    }
    assert_eq!(names, [true, false, true]);
    assert_eq!(hint_while_gone, Some(0));
    for chunk in packager.push(Event::End).unwrap() {
        window.push(chunk);
    }
    let list = list(&window, "720p");
    let gaps: Vec<bool> = list.segments.iter().map(|segment| segment.gap).collect();
    assert_eq!(
        gaps,
        [false, false, false, true, true, true, false, false, false]
    );
    assert_eq!(list.sequence, 1);
    for pair in list.segments.windows(2) {
        let step = (pair[1].date - pair[0].date) as f64 / 1_000.0;
        assert!((step - pair[0].duration).abs() < 0.002, "{pair:?}");
    }
    assert_eq!(window.object("e1/720p/4.m4s"), Object::Unknown);
    assert_eq!(window.object("e1/720p/4.0.m4s"), Object::Unknown);
}

/// A track that comes late is not waited for longer than a playlist may stand still, and joins at its segment.
#[test]
fn a_late_track_gets_gaps_and_then_joins() {
    let config = stream::config();
    let events = Stream::new(stream::ladder(), 12).events();
    let mut window = Window::new(config.clone(), stream::bounds());
    let mut packager = Packager::new(config);
    let mut playable_at = None;
    for event in events {
        if let Event::Unit(unit) = &event
            && unit.track.0 == 2
            && unit.pts.ticks() < 48_000 * 16
        {
            continue;
        }
        for chunk in packager.push(event).unwrap() {
            window.push(chunk);
        }
        if window.multivariant().is_some() {
            playable_at = playable_at.or(window.tip("720p"));
        }
    }
    // Marks 1 to 4 are six seconds; with the fourth the first is given up.
    assert_eq!(playable_at.map(|tip| tip.segment), Some(3));
    let list = list(&window, "audio");
    let gaps: Vec<bool> = list.segments.iter().map(|segment| segment.gap).collect();
    assert_eq!(gaps[..7], [true; 7]);
    assert_eq!(gaps[8..], [false; 4]);
    assert_eq!(list.segments.len(), 12);
}

#[test]
fn advance_part_limits() {
    for (rate, limit) in [((30, 1), 12), ((24, 1), 14), ((1, 1), 3)] {
        let stream = Stream {
            rate,
            ..Stream::new(vec![stream::video(0, "v", Some(rate))], 3)
        };
        let config = stream::config();
        let mut window = Window::new(config.clone(), stream::bounds());
        assert_eq!(window.advance_part_limit("v"), None);
        for chunk in stream::package(&config, &stream.events()) {
            window.push(chunk);
        }
        assert_eq!(window.advance_part_limit("v"), Some(limit));
        assert_eq!(window.target_duration(), Duration::from_secs(2));
    }
    // 18: rounded up, not down.
    let config = Config {
        segment: Duration::from_millis(4_800),
        ..stream::config()
    };
    assert_eq!(
        Window::new(config, stream::bounds()).target_duration(),
        Duration::from_secs(5)
    );
}

/// 13: the announced peak is at least the measured one, and does not move while the stream does not.
#[test]
fn bandwidth_is_the_true_peak() {
    let measured = |track: Track| {
        let name = track.name.to_string();
        let window = whole(vec![track], 20, stream::bounds());
        let list = list(&window, &name);
        let rates = list.segments.iter().enumerate().filter_map(|(i, segment)| {
            segment.uri.as_ref()?;
            let number = list.sequence + i as u64;
            let Object::Ready(bytes) = window.object(&format!("e1/{name}/{number}.m4s")) else {
                panic!("listed");
            };
            Some(bytes.len() as f64 * 8.0 / segment.duration)
        });
        let peak = rates.fold(0.0, f64::max);
        let index = String::from_utf8(window.multivariant().unwrap().to_vec()).unwrap();
        let line = index
            .lines()
            .find(|line| line.contains("STREAM-INF"))
            .unwrap();
        let value = |key: &str| -> f64 {
            let at = line.find(key).unwrap() + key.len();
            line[at..].split(',').next().unwrap().parse().unwrap()
        };
        (peak, value(":BANDWIDTH="), value("AVERAGE-BANDWIDTH="))
    };
    let track = stream::video(0, "v", Some((30, 1)));
    let (peak, bandwidth, average) = measured(track.clone());
    assert!(
        bandwidth >= peak && bandwidth < peak * 1.25,
        "{bandwidth} {peak}"
    );
    assert!(average <= bandwidth && average > peak * 0.8);
    let promise = |average_bps, peak_bps| Track {
        bandwidth: Some(Bandwidth {
            average_bps,
            peak_bps,
        }),
        ..track.clone()
    };
    let (_, bandwidth, average) = measured(promise(1_000_000, 1_500_000));
    assert!(
        (1_500_000.0..1_520_000.0).contains(&bandwidth),
        "{bandwidth}"
    );
    assert!((1_000_000.0..1_020_000.0).contains(&average), "{average}");
    // A promise that was not kept is corrected.
    let (peak, bandwidth, _) = measured(promise(50_000, 60_000));
    assert!(
        bandwidth >= peak && bandwidth < peak * 1.1,
        "{bandwidth} {peak}"
    );
}

/// Players order variants by their bit rates.
#[test]
fn a_large_picture_of_few_bits_is_announced_above_smaller_ones() {
    let large = stream::video(0, "large", Some((30, 1)));
    let small = Track {
        format: Format::Video(Video {
            width: 160,
            height: 120,
            sample_aspect: Rational::ONE,
            frame_rate: None,
        }),
        bandwidth: Some(Bandwidth {
            average_bps: 2_000_000,
            peak_bps: 3_000_000,
        }),
        ..stream::video(1, "small", Some((30, 1)))
    };
    let window = whole(vec![large, small], 4, stream::bounds());
    let index = String::from_utf8(window.multivariant().unwrap().to_vec()).unwrap();
    let rates = index.lines().filter_map(|line| {
        let rest = line.strip_prefix("#EXT-X-STREAM-INF:BANDWIDTH=")?;
        rest.split(',').next()?.parse::<u64>().ok()
    });
    let rates: Vec<u64> = rates.collect();
    assert!(
        rates[0] > rates[1] && rates[0] < rates[1] * 5 / 4,
        "{rates:?}"
    );
}

#[test]
fn frame_rates_that_players_refuse_are_left_out() {
    for (rate, expected) in [
        (Some((30_000, 1_001)), Some("FRAME-RATE=29.970")),
        (Some((60, 1)), Some("FRAME-RATE=60.000")),
        (Some((90_000, 1)), None),
        (Some((0, 1)), None),
        (None, None),
    ] {
        let mut track = stream::video(0, "v", rate);
        if let Format::Video(video) = &mut track.format {
            video.sample_aspect = Rational::new(4, 3).unwrap();
        }
        let index = whole(vec![track], 2, stream::bounds())
            .multivariant()
            .unwrap();
        let index = String::from_utf8(index.to_vec()).unwrap();
        match expected {
            Some(expected) => assert!(index.contains(expected), "{index}"),
            None => assert!(!index.contains("FRAME-RATE"), "{index}"),
        }
        assert!(index.contains("RESOLUTION=427x240"), "{index}");
    }
}
