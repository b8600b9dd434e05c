//! A live run, looked at as players do after every single chunk. Numbers are lines of the requirements list.

use std::collections::HashMap;
use std::time::Duration;

use media::Track;
use packager::{Chunk, Config, Delta, Object, Packager, Rope, Tip, Window};

use crate::boxes;
use crate::playlist::{self, Playlist};
use crate::stream::{self, EPOCH, Stamp, Stream};

/// What may differ between sources.
#[derive(Clone, Copy)]
struct Expect {
    /// Every part but a segment's last is at least 85 % of PART-TARGET.
    full_parts: bool,
    /// PART-TARGET of the video.
    part_target: f64,
}

struct Viewer<'a> {
    config: &'a Config,
    window: Window,
    tracks: &'a [Track],
    expect: Expect,
    /// By rendition, as seen last.
    texts: HashMap<String, String>,
    last: HashMap<String, Playlist>,
    control: Option<String>,
    /// Every object ever seen, by path.
    objects: HashMap<String, Rope>,
    /// Where the media of a segment begins and ends, by path and parts listed, once it was looked at.
    seen: HashMap<(String, u64, usize, bool), (u64, u64)>,
    states: usize,
}

fn watch(config: &Config, stream: &Stream, expect: Expect) -> (Vec<Chunk>, Window) {
    let mut packager = Packager::new(config.clone());
    let mut viewer = Viewer {
        config,
        window: Window::new(config.clone(), stream::bounds()),
        tracks: &stream.tracks,
        expect,
        texts: HashMap::new(),
        last: HashMap::new(),
        control: None,
        objects: HashMap::new(),
        seen: HashMap::new(),
        states: 0,
    };
    let mut chunks = Vec::new();
    for event in stream.events() {
        let completed = packager.push(event).unwrap();
        viewer.push(&completed);
        chunks.extend(completed);
    }
    assert!(
        viewer.states > 50,
        "the run is long enough to mean something"
    );
    (chunks, viewer.window)
}

impl Viewer<'_> {
    fn push(&mut self, chunks: &[Chunk]) {
        self.check_hints(chunks);
        for chunk in chunks {
            self.window.push(chunk.clone());
        }
        let playable = self
            .tracks
            .iter()
            .all(|track| self.window.tip(track.name.as_str()).is_some());
        assert_eq!(self.window.multivariant().is_some(), playable);
        let mut changed = Vec::new();
        for track in self.tracks {
            let name = track.name.as_str();
            let Some(full) = self.window.playlist(name, Delta::Full) else {
                assert_eq!(self.window.tip(name), None);
                continue;
            };
            let text = String::from_utf8(full.to_bytes().to_vec()).unwrap();
            if self.texts.get(name) != Some(&text) {
                changed.push((track, playlist::parse(&text), text.clone()));
                self.texts.insert(name.to_owned(), text);
            }
        }
        for (track, list, text) in &changed {
            self.states += 1;
            self.check(track, list, text);
            // Reports alone change nothing that a delta update is about.
            let last = self.last.get(track.name.as_str());
            if last.is_none_or(|last| last.segments != list.segments || last.ended != list.ended) {
                self.check_delta(track.name.as_str(), list, text);
            }
        }
        for (track, list, _) in &changed {
            self.last.insert(track.name.to_string(), list.clone());
        }
        for (track, list, _) in changed.iter().filter(|(_, list, _)| !list.ended) {
            self.check_reports(track.name.as_str(), list);
        }
    }

    /// 39: what was hinted is what comes.
    fn check_hints(&mut self, chunks: &[Chunk]) {
        let parts = chunks.iter().filter_map(|chunk| match chunk {
            Chunk::Part(part) => Some(part),
            _ => None,
        });
        let mut seen = Vec::new();
        for part in parts {
            let name = part.rendition.as_str();
            let uri = format!("{}.{}.m4s", part.segment, part.index);
            if seen.contains(&name) {
                continue;
            }
            seen.push(name);
            if let Some(list) = self.last.get(name) {
                assert!(list.hints.iter().eq([&uri]), "the hint came true");
                let object = self.window.object(&self.path(name, &uri));
                assert_eq!(object, Object::Hinted);
            }
        }
    }

    fn path(&self, rendition: &str, uri: &str) -> String {
        format!("{}/{rendition}/{uri}", self.config.epoch)
    }

    /// 11, 29: there at once, whole, and the same for ever.
    fn object(&mut self, rendition: &str, uri: &str) -> Rope {
        let path = self.path(rendition, uri);
        let Object::Ready(bytes) = self.window.object(&path) else {
            panic!("{path} is listed and is not there");
        };
        let before = self.objects.entry(path).or_insert_with(|| bytes.clone());
        assert_eq!(*before, bytes, "one name, one byte string");
        bytes
    }

    fn check(&mut self, track: &Track, list: &Playlist, text: &str) {
        let name = track.name.as_str();
        let ended = self.window.ended();
        let target = list.target as f64;

        // 18, 27, 30.
        assert_eq!(list.version, 6, "{text}");
        assert_eq!(list.target, 2);
        assert!(list.independent_segments);
        assert!(list.discontinuity_sequence.is_some());
        assert_eq!(list.skipped, 0);
        assert_eq!(list.ended, ended);
        // 19.
        let part_target = list.part_target.expect("PART-INF");
        if matches!(track.format, media::Format::Video(_)) {
            assert_eq!(part_target, self.expect.part_target);
        }
        // 21.
        let control = self
            .control
            .get_or_insert_with(|| list.control.clone().unwrap());
        assert_eq!(
            Some(&*control),
            list.control.as_ref(),
            "the same everywhere, for ever"
        );
        assert!(list.can_block);
        assert!(list.part_hold_back >= 3.0 * part_target - 1e-9);
        assert!(list.part_hold_back >= 3.0 * self.expect.part_target - 1e-9);
        assert!(list.hold_back >= 3.0 * target);
        assert!(list.can_skip_until >= 6.0 * target);

        // What changed since the last look.
        if let Some(last) = self.last.get(name) {
            assert!(list.sequence >= last.sequence);
            assert!(list.discontinuity_sequence >= last.discontinuity_sequence);
            assert_eq!(list.part_target, last.part_target);
            self.check_monotonic(last, list);
        }

        let complete = list
            .segments
            .iter()
            .filter(|segment| segment.uri.is_some())
            .count();
        let lengths: Vec<f64> = list
            .segments
            .iter()
            .map(|segment| segment.duration)
            .collect();
        let init = self.object(name, &list.segments[0].map).to_bytes();
        let mut media_end = None;
        for (i, segment) in list.segments.iter().enumerate() {
            let number = list.sequence + i as u64;
            assert!(!segment.gap && !segment.discontinuity, "{text}");
            assert_eq!(segment.map, list.segments[0].map);
            // 18.
            assert!(segment.duration.round() <= target, "{text}");
            if i < complete {
                assert_eq!(
                    segment.uri,
                    Some(format!("{number}.m4s")),
                    "numbers without holes"
                );
            } else {
                assert_eq!(i + 1, list.segments.len(), "only the last is open");
                assert!(!ended);
            }

            // 25: parts of the last three target durations, and only of those.
            let after: f64 = lengths[i + 1..complete.max(i + 1)].iter().sum();
            let with_parts = after < 3.0 * target - 1e-4;
            assert_eq!(!segment.parts.is_empty(), with_parts, "{number}:\n{text}");

            let key = (name.to_owned(), number, segment.parts.len(), i < complete);
            if let Some((start, end)) = self.seen.get(&key) {
                assert!(media_end.is_none_or(|end| end == *start), "4: to the tick");
                media_end = Some(*end);
                continue;
            }
            let mut whole = Vec::new();
            for (index, part) in segment.parts.iter().enumerate() {
                assert_eq!(
                    part.uri,
                    format!("{number}.{index}.m4s"),
                    "22, no holes in names"
                );
                let last = index + 1 == segment.parts.len();
                // 19, 20.
                assert!(
                    part.duration <= part_target,
                    "{part:?} {part_target}\n{text}"
                );
                let full = part.duration >= 0.85 * part_target;
                let allowed = last && i < complete;
                assert!(
                    full || allowed || !self.expect.full_parts,
                    "{part:?} {part_target}\n{text}"
                );
                let bytes = self.object(name, &part.uri).to_bytes();
                let chunk = boxes::chunks(&init, &bytes);
                assert_eq!(chunk.len(), 1, "2: a part is one chunk");
                // 22.
                assert_eq!(part.independent, chunk[0].samples[0].sync());
                assert!(part.independent || index > 0);
                if matches!(track.format, media::Format::Audio(_)) {
                    assert!(part.independent);
                }
                let ticks = chunk[0].end() - chunk[0].tfdt;
                let seconds = ticks as f64 / f64::from(track.timescale.hz());
                assert!((part.duration - seconds).abs() < 2e-6);
                whole.extend_from_slice(&bytes);
            }
            let bytes = match &segment.uri {
                Some(uri) => self.object(name, uri).to_bytes(),
                None => whole.clone().into(),
            };
            // 3.
            assert!(
                whole.is_empty() || whole == bytes,
                "the parts are the segment"
            );
            let chunks = boxes::chunks(&init, &bytes);
            let start = chunks[0].tfdt;
            let end = chunks.last().unwrap().end();
            // 4.
            for pair in chunks.windows(2) {
                assert_eq!(pair[0].end(), pair[1].tfdt, "to the tick");
                assert_eq!(pair[0].sequence + 1, pair[1].sequence);
            }
            assert!(media_end.is_none_or(|end| end == start), "to the tick");
            media_end = Some(end);
            self.seen.insert(key, (start, end));
            let hz = f64::from(track.timescale.hz());
            if i < complete {
                let seconds = (end - start) as f64 / hz;
                assert!((segment.duration - seconds).abs() < 2e-6);
            }
            // 10, and 5: a keyframe presented first, at the decode time of the segment.
            let mut decode = start;
            let samples: Vec<_> = chunks.iter().flat_map(|chunk| &chunk.samples).collect();
            for (index, sample) in samples.iter().enumerate() {
                let presented = decode as i64 + sample.composition;
                assert!(presented >= start as i64);
                assert_eq!(presented == start as i64, index == 0);
                assert!(index > 0 || sample.sync());
                decode += u64::from(sample.duration);
            }
            // 23: one mapping of media time, in all renditions.
            let epoch = EPOCH.unix_micros() as f64 / 1_000.0;
            let expected = epoch + start as f64 * 1_000.0 / hz;
            assert!(
                (segment.date as f64 - expected).abs() <= 0.51,
                "{} {expected}",
                segment.date
            );
        }

        // 39.
        let Tip { segment, parts } = self.window.tip(name).unwrap();
        assert_eq!(segment, list.sequence + complete as u64);
        let open = list
            .segments
            .get(complete)
            .map_or(0, |open| open.parts.len());
        assert_eq!(parts as usize, open);
        if ended {
            assert!(list.hints.is_empty() && list.map_hints.is_empty());
            let path = self.path(name, &format!("{segment}.{parts}.m4s"));
            assert_eq!(self.window.object(&path), Object::Unknown, "41");
        } else {
            assert_eq!(list.hints, [format!("{segment}.{parts}.m4s")]);
            assert!(list.map_hints.is_empty());
        }
    }

    /// Nothing that was listed changes: only the front and the end of the list do, and parts go.
    fn check_monotonic(&self, last: &Playlist, list: &Playlist) {
        let gone = usize::try_from(list.sequence - last.sequence).unwrap();
        for (before, now) in last.segments[gone..].iter().zip(&list.segments) {
            if before.uri.is_some() {
                let mut stripped = before.clone();
                if now.parts.is_empty() {
                    stripped.parts.clear();
                }
                assert_eq!(stripped, *now);
            } else {
                assert_eq!(before.parts[..], now.parts[..before.parts.len()]);
                assert_eq!(before.date, now.date);
            }
        }
    }

    /// 43.
    fn check_reports(&self, name: &str, list: &Playlist) {
        let mut expected = Vec::new();
        for other in self.tracks.iter().map(|track| track.name.as_str()) {
            if other == name {
                continue;
            }
            let Some(other_list) = self.last.get(other) else {
                continue;
            };
            let parts = other_list
                .segments
                .iter()
                .enumerate()
                .filter(|(_, s)| !s.parts.is_empty());
            let mut parts = parts.rev();
            let (at, segment) = parts.next().expect("some segment has parts");
            expected.push((
                format!("../{other}/index.m3u8"),
                other_list.sequence + at as u64,
                segment.parts.len() as u64 - 1,
            ));
        }
        assert_eq!(list.reports, expected);
    }

    /// 37: a delta update, put onto what was there before, is the full playlist.
    fn check_delta(&self, name: &str, full: &Playlist, full_text: &str) {
        let text = |delta| {
            let rope = self.window.playlist(name, delta).unwrap();
            String::from_utf8(rope.to_bytes().to_vec()).unwrap()
        };
        let delta_text = text(Delta::Skip);
        assert_eq!(delta_text, text(Delta::SkipV2));
        let delta = match delta_text == full_text {
            true => full.clone(),
            false => playlist::parse(&delta_text),
        };
        let skipped = usize::try_from(delta.skipped).unwrap();
        let complete = full.segments.iter().filter(|segment| segment.uri.is_some());
        let lengths: Vec<f64> = complete.map(|segment| segment.duration).collect();
        let beyond = |i: usize| lengths[i + 1..].iter().sum::<f64>() >= full.can_skip_until - 1e-4;
        let skippable = (0..lengths.len()).take_while(|&i| beyond(i)).count();
        let expected = if self.window.ended() { 0 } else { skippable };
        assert_eq!(skipped, expected, "{delta_text}");
        if skipped == 0 {
            assert_eq!(delta, *full);
            return;
        }
        let mut merged = delta.clone();
        assert_eq!(delta.version, 9);
        merged.version = full.version;
        merged.skipped = 0;
        merged.segments = full.segments[..skipped].to_vec();
        merged.segments.extend(delta.segments);
        let map = &full.segments[0].map;
        merged
            .segments
            .iter_mut()
            .for_each(|segment| segment.map.clone_from(map));
        assert_eq!(merged, *full);
    }
}

fn with_rate(rate: (u32, u32), stamp: Stamp, reorder: usize) -> Stream {
    let tracks = vec![
        stream::video(0, "720p", Some(rate)),
        stream::video(1, "360p", Some(rate)),
        stream::aac(2, "audio", 48_000),
    ];
    Stream {
        rate,
        stamp,
        reorder,
        ..Stream::new(tracks, 15)
    }
}

fn thirty_seconds(rates: &[(u32, u32)], part_target: f64) {
    for &rate in rates {
        for (stamp, reorder) in [(Stamp::Exact, 0), (Stamp::Millis, 2)] {
            let expect = Expect {
                full_parts: true,
                part_target,
            };
            watch(&stream::config(), &with_rate(rate, stamp, reorder), expect);
        }
    }
}

#[test]
fn thirty_seconds_at_film_rates() {
    thirty_seconds(&[(24, 1), (24_000, 1_001)], 0.215);
}

#[test]
fn thirty_seconds_at_25_and_50() {
    thirty_seconds(&[(25, 1), (50, 1)], 0.25);
}

#[test]
fn thirty_seconds_at_30_and_60() {
    thirty_seconds(&[(30, 1), (30_000, 1_001), (60, 1)], 0.25);
}

#[test]
fn thirty_seconds_at_slow_rates() {
    for (rate, part_target) in [
        ((15, 1), 0.206),
        ((10, 1), 0.206),
        ((5, 1), 0.206),
        ((1, 1), 1.03),
    ] {
        for stamp in [Stamp::Exact, Stamp::Millis] {
            let expect = Expect {
                full_parts: true,
                part_target,
            };
            watch(&stream::config(), &with_rate(rate, stamp, 0), expect);
        }
    }
}

#[test]
fn a_source_with_uneven_pictures_never_exceeds_the_part_target() {
    // Half a picture either way, at a rate that is not announced.
    let mut stream = with_rate((30, 1), Stamp::Jitter(700), 0);
    for track in &mut stream.tracks {
        if let media::Format::Video(video) = &mut track.format {
            video.frame_rate = None;
        }
    }
    let expect = Expect {
        full_parts: true,
        part_target: 0.25,
    };
    watch(&stream::config(), &stream, expect);
    let stream = with_rate((25, 1), Stamp::Jitter(1_700), 0);
    let expect = Expect {
        full_parts: false,
        part_target: 0.25,
    };
    watch(&stream::config(), &stream, expect);
}

#[test]
fn every_kind_of_sound() {
    let config = stream::config();
    let expect = Expect {
        full_parts: true,
        part_target: 0.25,
    };
    for sound in [
        stream::aac(1, "audio", 48_000),
        stream::aac(1, "audio", 44_100),
        stream::aac(1, "audio", 32_000),
        stream::opus(1, "audio"),
    ] {
        // Beside video, and alone.
        let video = stream::video(0, "360p", Some((30, 1)));
        watch(
            &config,
            &Stream::new(vec![video, sound.clone()], 15),
            expect,
        );
        let (_, window) = watch(&config, &Stream::new(vec![sound], 15), expect);
        assert!(window.iframes("audio").is_none());
    }
}

#[test]
fn other_lengths_of_segments_and_parts() {
    for (segment, part, part_target) in
        [(1_000, 100, 0.086), (2_000, 500, 0.5), (1_500, 333, 0.333)]
    {
        let config = Config {
            segment: Duration::from_millis(segment),
            part: Duration::from_millis(part),
            // TARGETDURATION stays 2 in all of them.
            ..stream::config()
        };
        let config = match segment {
            1_000 => Config {
                segment: Duration::from_millis(1_001),
                ..config
            },
            _ => config,
        };
        let stream = Stream {
            segment: Duration::from_millis(segment),
            rate: (60, 1),
            ..with_rate((60, 1), Stamp::Millis, 0)
        };
        watch(
            &config,
            &stream,
            Expect {
                full_parts: true,
                part_target,
            },
        );
    }
}

/// 8, 9: the same start in every rendition, however long the stream.
#[test]
fn sound_stays_within_a_frame_of_the_marks() {
    let tracks = vec![
        stream::video(0, "360p", Some((30, 1))),
        stream::aac(1, "a", 44_100),
        stream::aac(2, "b", 48_000),
        stream::opus(3, "c"),
    ];
    let stream = Stream {
        start: Duration::from_secs(90_000),
        ..Stream::new(tracks, 900)
    };
    let chunks = stream::package(&stream::config(), &stream.events());
    for chunk in chunks {
        let Chunk::Segment(segment) = chunk else {
            continue;
        };
        let mark =
            Duration::from_secs(90_000) + Duration::from_secs(2) * (segment.number as u32 - 1);
        let ticks = segment.start.scale().ticks(mark);
        let late = segment.start.ticks() - ticks;
        let frame = match segment.rendition.as_str() {
            "360p" => 1,
            "c" => 960,
            _ => 1024,
        };
        assert!(
            (0..frame).contains(&late),
            "{segment:?} is {late} ticks late"
        );
    }
}
