use bytes::Bytes;
use media::bitstream::aac;
use media::{Audio, Codec, Name, Track as Line, Video};

use super::*;
use crate::fixtures;

const VIDEO: TrackId = TrackId(0);
const AUDIO: TrackId = TrackId(1);
const T: Duration = Duration::from_secs(2);

fn video_line(height: u16) -> Line {
    let config = fixtures::h264(height);
    let format = Format::Video(Video {
        width: height / 9 * 16,
        height,
        sample_aspect: Rational::ONE,
        frame_rate: None,
    });
    line(
        VIDEO,
        "video",
        Codec::H264(config),
        format,
        Timescale::VIDEO,
    )
}

fn audio_line(rate: u32) -> Line {
    let config = aac::Config::lc(rate, 2).expect("a usual rate");
    let scale = Timescale::new(rate).expect("not zero");
    line(
        AUDIO,
        "audio",
        Codec::Aac(config),
        Format::Audio(Audio {
            sample_rate: rate,
            channels: 2,
        }),
        scale,
    )
}

fn line(id: TrackId, name: &str, codec: Codec, format: Format, timescale: Timescale) -> Line {
    let name: Name = name.parse().expect("a name");
    Line {
        id,
        name,
        codec,
        format,
        timescale,
        bandwidth: None,
    }
}

fn tracks(lines: &[Line]) -> Event {
    Event::Tracks(lines.to_vec().into())
}

/// A picture at `pts` milliseconds, decoded `early` before.
fn picture(pts: i64, early: i64, keyframe: bool) -> Event {
    unit(
        VIDEO,
        Timescale::VIDEO,
        pts * 90,
        early * 90,
        3_000,
        keyframe,
    )
}

/// The `n`th frame of sound at 48 kHz.
fn sound(n: i64) -> Event {
    unit(
        AUDIO,
        Timescale::new(48_000).expect("not zero"),
        n * 1_024,
        0,
        1_024,
        true,
    )
}

fn unit(
    track: TrackId,
    scale: Timescale,
    pts: i64,
    early: i64,
    duration: u32,
    keyframe: bool,
) -> Event {
    let at = |ticks| Timestamp::new(ticks, scale);
    let data = Bytes::from_static(&[0; 100]);
    Event::Unit(AccessUnit {
        track,
        dts: at(pts - early),
        pts: at(pts),
        duration,
        keyframe,
        data,
    })
}

/// A segmenter, the clock of its arrivals, and what it gave, checked for what always holds.
struct Run {
    segmenter: Segmenter,
    now: i64,
    out: Vec<Event>,
}

impl Run {
    fn new(cut: Cut) -> Self {
        let config = Config {
            segment: T,
            part: Duration::from_millis(250),
            first: First::default(),
        };
        Self {
            segmenter: Segmenter::new(config, cut),
            now: 1_000_000,
            out: Vec::new(),
        }
    }

    /// Pushes an event that arrives at the time of its media.
    fn push(&mut self, event: Event) {
        if let Event::Unit(unit) = &event {
            let millis = unit.dts.rescale(Timescale::MILLIS, Rounding::Down).ticks();
            self.now = self.now.max(1_000_000 + millis);
        }
        self.push_now(event);
    }

    fn push_now(&mut self, event: Event) {
        self.segmenter.push(
            event,
            Utc::from_unix_micros(self.now * 1_000),
            &mut self.out,
        );
    }

    /// Thirty pictures a second and sound, `from..to` milliseconds, a keyframe every `group` pictures.
    fn both(&mut self, from: i64, to: i64, group: i64) {
        let mut frame = from * 48 / 1_024;
        for n in from * 30 / 1_000..to * 30 / 1_000 {
            let at = n * 1_000 / 30;
            while frame * 1_024 / 48 <= at {
                self.push(sound(frame));
                frame += 1;
            }
            self.push(picture(at, 0, n % group == 0));
        }
    }

    /// The marks as `number/discontinuity@start in ms`.
    fn marks(&self) -> Vec<String> {
        let text = |mark: &Segment| {
            let start = mark
                .start
                .rescale(Timescale::MILLIS, Rounding::Nearest)
                .ticks();
            format!("{}/{}@{start}", mark.number, mark.discontinuity)
        };
        self.segments().iter().map(text).collect()
    }

    fn segments(&self) -> Vec<Segment> {
        let mark = |event: &Event| {
            if let Event::Segment(mark) = event {
                Some(*mark)
            } else {
                None
            }
        };
        self.out.iter().filter_map(mark).collect()
    }

    fn units(&self, track: TrackId) -> Vec<&AccessUnit> {
        let unit = |event: &'_ Event| matches!(event, Event::Unit(unit) if unit.track == track);
        self.out
            .iter()
            .filter(|event| unit(event))
            .filter_map(|event| match event {
                Event::Unit(unit) => Some(unit),
                _ => None,
            })
            .collect()
    }

    /// What holds of any output, whatever went in.
    fn check(&self) {
        let marks = self.segments();
        for pair in marks.windows(2) {
            assert_eq!(pair[1].number, pair[0].number + 1);
            assert!(pair[1].discontinuity - pair[0].discontinuity <= 1);
            assert!(pair[1].utc >= pair[0].utc);
            let long = pair[1].start.since(pair[0].start).expect("starts grow");
            assert!(
                long < T + Duration::from_millis(500),
                "{long:?} at {:?}",
                pair[1]
            );
            assert!(!long.is_zero());
        }
        let mut open: Option<Timestamp> = None;
        let mut later = marks.iter().map(|mark| mark.start).peekable();
        for event in &self.out {
            match event {
                Event::Segment(mark) => {
                    open = Some(mark.start);
                    later.next();
                }
                Event::Unit(unit) => {
                    assert!(open.is_some(), "no unit before the first mark: {unit:?}");
                    let next = later.peek();
                    assert!(
                        next.is_none_or(|next| unit.pts < *next),
                        "{unit:?} before its mark at {next:?}"
                    );
                }
                _ => {}
            }
        }
        for track in [VIDEO, AUDIO] {
            assert!(
                self.units(track).is_sorted_by(|a, b| a.dts < b.dts),
                "decode order of {track:?}"
            );
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check();
        }
    }
}

fn started(cut: Cut) -> Run {
    let mut run = Run::new(cut);
    run.push_now(tracks(&[video_line(720), audio_line(48_000)]));
    run
}

#[test]
fn groups_as_long_as_the_segment_are_cut_each() {
    let mut run = started(Cut::Keyframes);
    run.both(0, 8_100, 60);
    assert_eq!(
        run.marks(),
        ["1/0@0", "2/0@2000", "3/0@4000", "4/0@6000", "5/0@8000"]
    );
}

#[test]
fn short_groups_share_a_segment_once_their_length_is_known() {
    let mut run = started(Cut::Keyframes);
    run.both(0, 20_100, 15);
    let marks = run.marks();
    // Any keyframe may be followed by a group of a whole segment, until none has been for a while.
    assert_eq!(marks[..3], ["1/0@0", "2/0@500", "3/0@1000"]);
    let (before, last) = (&marks[marks.len() - 2], &marks[marks.len() - 1]);
    let start = |mark: &str| {
        mark.rsplit('@')
            .next()
            .and_then(|at| at.parse::<i64>().ok())
            .expect("a start")
    };
    assert_eq!(start(last) - start(before), 2_000);
}

#[test]
fn the_clock_cuts_where_keyframes_do_not() {
    let mut run = started(Cut::Clock);
    run.both(0, 8_100, 1_000);
    assert_eq!(
        run.marks(),
        ["1/0@0", "2/0@2000", "3/0@4000", "4/0@6000", "5/0@8000"]
    );
}

#[test]
fn the_clock_does_not_drift_with_odd_frame_rates() {
    let mut run = started(Cut::Clock);
    for n in 0..3_000 {
        // 23.976 pictures a second.
        let pts = n * 1_001 * 90 / 24;
        run.push(unit(VIDEO, Timescale::VIDEO, pts, 0, 3_753, n == 0));
    }
    let marks = run.segments();
    let last = marks.last().expect("marks");
    let planned = Timestamp::new(
        i64::try_from(last.number - 1).expect("small") * 180_000,
        Timescale::VIDEO,
    );
    assert!(last.start.since(planned).expect("not before the plan") < Duration::from_millis(42));
}

#[test]
fn reordered_pictures_do_not_fall_behind_their_mark() {
    let mut run = started(Cut::Clock);
    run.push(sound(0));
    // I0 P3 B1 B2 P6 B4 B5 ..., 30 a second.
    let order = (0..100).flat_map(|group| {
        let base = group * 3;
        match group {
            0 => vec![0],
            _ => vec![base, base - 2, base - 1],
        }
    });
    for (n, picture_number) in (0..).zip(order) {
        let dts = (n - 2) * 3_000;
        run.push(unit(
            VIDEO,
            Timescale::VIDEO,
            picture_number * 3_000,
            picture_number * 3_000 - dts,
            3_000,
            n == 0,
        ));
    }
    assert_eq!(
        run.marks(),
        ["1/0@0", "2/0@2000", "3/0@4000", "4/0@6000", "5/0@8000"]
    );
}

#[test]
fn a_still_source_is_cut_at_the_planned_time() {
    let mut run = started(Cut::Clock);
    run.push_now(tracks(&[video_line(720)]));
    run.push(picture(0, 0, true));
    run.push(picture(1_000, 0, false));
    run.push(picture(9_000, 0, false));
    assert_eq!(
        run.marks(),
        ["1/0@0", "2/0@2000", "3/0@4000", "4/0@6000", "5/0@8000"]
    );
}

#[test]
fn one_picture_a_second() {
    let mut run = started(Cut::Clock);
    run.push_now(tracks(&[video_line(720)]));
    for n in 0..7 {
        run.push(picture(n * 1_000, 0, n == 0));
    }
    assert_eq!(run.marks(), ["1/0@0", "2/0@2000", "3/0@4000", "4/0@6000"]);
}

#[test]
fn nothing_goes_on_before_the_first_keyframe() {
    let mut run = started(Cut::Clock);
    run.push(sound(0));
    for n in 1..12 {
        run.push(picture(n * 33, 0, n == 10));
    }
    assert_eq!(run.marks(), ["1/0@330"]);
    assert_eq!(run.units(VIDEO).len(), 2);
    assert_eq!(
        run.segmenter.counts().dropped,
        9 + 1,
        "nine pictures, and the sound before the first"
    );
}

#[test]
fn the_start_waits_for_the_other_track_but_not_long() {
    let mut run = started(Cut::Clock);
    for n in 0..30 {
        run.push(picture(n * 33, 0, n == 0));
        assert!(run.segments().is_empty(), "still waiting at {n}");
    }
    run.push(picture(1_000, 0, false));
    assert_eq!(run.marks(), ["1/0@0"]);
    assert_eq!(run.units(VIDEO).len(), 31);
}

#[test]
fn the_start_does_not_wait_for_what_is_not_promised() {
    let mut run = Run::new(Cut::Clock);
    run.push_now(tracks(&[audio_line(48_000)]));
    for n in 0..200 {
        run.push(sound(n));
    }
    assert_eq!(run.marks(), ["1/0@0", "2/0@2005", "3/0@4011"]);
}

#[test]
fn sound_is_held_behind_the_picture() {
    let mut run = started(Cut::Clock);
    run.push(sound(0));
    run.push(picture(0, 0, true));
    for n in 1..90 {
        run.push_now(sound(n));
    }
    // No picture after 0 yet: only the sound at 0 went on.
    assert_eq!(run.units(AUDIO).len(), 1);
    run.push(picture(1_000, 0, false));
    assert_eq!(run.units(AUDIO).len(), 47, "frames up to 1000 ms");
}

#[test]
fn held_sound_is_bounded() {
    let mut run = started(Cut::Clock);
    run.push_now(sound(0));
    run.push_now(picture(0, 0, true));
    for n in 1..1_000 {
        run.push_now(sound(n));
    }
    let held = 1_000 - run.units(AUDIO).len();
    assert!(held <= 236, "{held} frames are more than five seconds");
}

#[test]
fn a_picture_that_vanishes_is_repeated_and_the_sound_goes_on() {
    let mut run = started(Cut::Clock);
    run.both(0, 3_000, 60);
    for n in 141..500 {
        run.push(sound(n));
    }
    assert_eq!(run.marks().len(), 5);
    let last = run.units(AUDIO).last().expect("sound").pts;
    assert!(
        last > Timestamp::new(9_500, Timescale::MILLIS),
        "{last:?}: no more than a second behind 10.6 s"
    );
    assert!(
        run.units(VIDEO)
            .iter()
            .rev()
            .take(30)
            .all(|unit| unit.data.is_empty())
    );
    // It comes back, and what was made up stands.
    run.both(10_666, 12_000, 10);
    assert!(!run.units(VIDEO).last().expect("pictures").data.is_empty());
}

#[test]
fn sound_that_vanishes_becomes_silence() {
    let mut run = started(Cut::Clock);
    run.both(0, 3_000, 60);
    for n in 90..300 {
        run.push(picture(n * 1_000 / 30, 0, n % 60 == 0));
    }
    let audio = run.units(AUDIO);
    let last = audio.last().expect("sound");
    assert!(last.data.is_empty());
    assert!(
        last.pts > Timestamp::new(8_900, Timescale::MILLIS),
        "{last:?}"
    );
    // Whole frames on the source's own grid.
    assert!(
        audio
            .windows(2)
            .all(|pair| pair[1].pts.checked_sub(pair[0].pts) == Some(1_024))
    );
}

#[test]
fn interleaving_by_whole_seconds_is_not_silence() {
    let mut run = started(Cut::Clock);
    let mut frame = 0;
    for second in 0..10 {
        while frame * 1_024 < (second + 1) * 3 * 48_000 {
            run.push_now(sound(frame));
            frame += 1;
        }
        for n in second * 90..(second + 1) * 90 {
            run.push_now(picture(n * 1_000 / 30, 0, n % 60 == 0));
        }
        run.now += 3_000;
    }
    assert_eq!(run.segmenter.counts(), Counts::default());
    assert_eq!(run.units(VIDEO).len(), 900);
}

#[test]
fn a_jump_is_one_discontinuity() {
    let mut run = started(Cut::Clock);
    run.both(0, 3_000, 60);
    run.push_now(Event::Gap(Gap::Jump));
    run.both(3_000, 6_000, 60);
    assert_eq!(run.marks(), ["1/0@0", "2/0@2000", "3/1@3000", "4/1@5000"]);
    assert_eq!(run.units(VIDEO).len(), 180, "no picture is lost");
}

#[test]
fn passed_through_a_jump_waits_for_a_keyframe() {
    let mut run = started(Cut::Keyframes);
    run.both(0, 3_000, 60);
    run.push_now(Event::Gap(Gap::Dropped));
    run.both(3_000, 6_000, 60);
    assert_eq!(run.marks(), ["1/0@0", "2/0@2000", "3/1@4000"]);
}

#[test]
fn a_new_size_is_one_discontinuity_and_repeated_parameters_none() {
    let mut run = started(Cut::Keyframes);
    run.both(0, 4_000, 60);
    run.push_now(tracks(&[video_line(720), audio_line(48_000)]));
    run.both(4_000, 8_000, 60);
    run.push_now(tracks(&[video_line(360), audio_line(48_000)]));
    run.both(8_000, 9_000, 60);
    assert_eq!(
        run.marks(),
        ["1/0@0", "2/0@2000", "3/0@4000", "4/0@6000", "5/1@8000"]
    );
}

#[test]
fn new_sound_begins_with_the_mark() {
    let mut run = started(Cut::Keyframes);
    run.both(0, 3_000, 60);
    run.push_now(tracks(&[video_line(720), audio_line(44_100)]));
    let scale = Timescale::new(44_100).expect("not zero");
    let mut frame = 3 * 44_100 / 1_024;
    for n in 90..180 {
        let at = n * 1_000 / 30;
        while frame * 10_240 / 441 <= at {
            run.push(unit(AUDIO, scale, frame * 1_024, 0, 1_024, true));
            frame += 1;
        }
        run.push(picture(at, 0, n % 60 == 0));
    }
    assert_eq!(run.marks(), ["1/0@0", "2/0@2000", "3/1@4000"]);
    let new: Vec<_> = run
        .units(AUDIO)
        .into_iter()
        .filter(|unit| unit.pts.scale() == scale)
        .collect();
    assert!(new.first().expect("new sound").pts >= Timestamp::new(4_000, Timescale::MILLIS));
}

#[test]
fn a_track_may_join_late() {
    let mut run = Run::new(Cut::Clock);
    run.push_now(tracks(&[video_line(720)]));
    for n in 0..150 {
        run.push(picture(n * 1_000 / 30, 0, n % 60 == 0));
    }
    run.push_now(tracks(&[video_line(720), audio_line(48_000)]));
    run.both(5_000, 7_000, 60);
    assert_eq!(run.marks(), ["1/0@0", "2/0@2000", "3/0@4000", "4/0@6000"]);
    assert!(!run.units(AUDIO).is_empty());
}

#[test]
fn revoking_passthrough_is_one_discontinuity_at_the_next_picture() {
    let mut run = started(Cut::Keyframes);
    run.both(0, 4_300, 60);
    assert!(
        !run.segmenter
            .overdue(Timestamp::new(4_300, Timescale::MILLIS))
    );
    assert!(
        run.segmenter
            .overdue(Timestamp::new(6_500, Timescale::MILLIS))
    );
    run.segmenter.set_cut(Cut::Clock);
    run.both(4_300, 8_600, 10_000);
    assert_eq!(
        run.marks(),
        [
            "1/0@0", "2/0@2000", "3/0@4000", "4/1@4300", "5/1@6300", "6/1@8300"
        ]
    );
}

#[test]
fn what_begins_again_begins_with_the_earliest_picture_not_the_first_to_come() {
    let mut run = Run::new(Cut::Keyframes);
    run.push(tracks(&[video_line(720)]));
    // Three pictures between each two that are referred to: 0 4 1 2 3 8 5 6 7 and so on.
    let send = |run: &mut Run, number: i64, place: i64| {
        let (at, decoded) = (number * 33, place * 33 - 132);
        run.push(picture(at, at - decoded, number == 0));
    };
    send(&mut run, 0, 0);
    for group in 0..40 {
        if group == 18 {
            run.segmenter.set_cut(Cut::Clock);
        }
        for (place, number) in [4, 1, 2, 3].into_iter().enumerate() {
            let place = group * 4 + 1 + i64::try_from(place).expect("small");
            send(&mut run, group * 4 + number, place);
        }
    }
    assert_eq!(run.marks()[..2], ["1/0@0", "2/1@2409"], "73 times 33");
    assert_eq!(run.segmenter.counts().dropped, 0);
    let shown = run.units(VIDEO).into_iter().map(|unit| unit.pts.ticks());
    let mut shown: Vec<i64> = shown.collect();
    shown.sort_unstable();
    assert!(shown.windows(2).all(|pair| pair[1] - pair[0] == 33 * 90));
    assert_eq!(shown.len(), 161);
}

#[test]
fn sound_that_is_late_all_the_time_is_not_made_up_for_ever() {
    let mut run = started(Cut::Clock);
    let mut frame = 0;
    for n in 0..300 {
        run.push(picture(n * 1_000 / 30, 0, n % 60 == 0));
        while frame * 1_024 / 48 <= n * 1_000 / 30 - 3_000 {
            run.push_now(sound(frame));
            frame += 1;
        }
    }
    let audio = run.units(AUDIO);
    let real = audio.iter().filter(|unit| !unit.data.is_empty()).count();
    assert!(real > 220, "{real} of 328");
    assert_eq!(
        audio.last().map(|unit| unit.pts.ticks()),
        Some((frame - 1) * 1_024)
    );
}

#[test]
fn sound_beyond_the_last_picture_does_not_stretch_the_last_segment() {
    let mut run = started(Cut::Clock);
    for n in 0..120 {
        run.push(picture(n * 1_000 / 30, 0, n % 60 == 0));
        for frame in [n * 3 / 2, (n * 3 + 1) / 2] {
            run.push_now(sound(frame + 141));
        }
    }
    run.push_now(Event::End);
    let mark = run
        .segments()
        .last()
        .map(|mark| mark.start)
        .expect("a mark");
    let end = run.units(AUDIO).last().map(|unit| unit.pts).expect("sound");
    let long = end.since(mark).expect("later");
    assert!(long < T + Duration::from_millis(500), "{long:?}");
}

#[test]
fn the_end_lets_go_of_everything() {
    let mut run = started(Cut::Clock);
    run.push(picture(0, 0, true));
    run.push_now(Event::End);
    assert_eq!(run.marks(), ["1/0@0"]);
    assert_eq!(run.units(VIDEO).len(), 1);
    assert_eq!(run.out.last(), Some(&Event::End));
}

#[test]
fn numbers_begin_where_they_are_told_to() {
    let first = First {
        number: 700,
        discontinuity: 3,
    };
    let config = Config {
        segment: T,
        part: Duration::from_millis(250),
        first,
    };
    let mut run = Run {
        segmenter: Segmenter::new(config, Cut::Clock),
        now: 0,
        out: Vec::new(),
    };
    run.push_now(tracks(&[video_line(720), audio_line(48_000)]));
    run.both(0, 2_100, 60);
    assert_eq!(run.marks(), ["700/3@0", "701/3@2000"]);
}

#[test]
fn outside_time_follows_a_drifting_source_and_is_tied_anew_after_a_gap() {
    let mut run = started(Cut::Clock);
    // The source's clock is 200 ppm slow: its hour takes 0.72 s more of ours.
    for n in 0..30 * 3_600 {
        run.now = 1_000_000 + n * 1_000 / 30 * 5_001 / 5_000;
        run.push_now(picture(n * 1_000 / 30, 0, n % 60 == 0));
    }
    let last = *run.segments().last().expect("marks");
    let media = last
        .start
        .rescale(Timescale::MILLIS, Rounding::Down)
        .ticks();
    let truth = (1_000_000 + media * 5_001 / 5_000) * 1_000;
    let off = (last.utc.unix_micros() - truth).abs();
    assert!(off < 250_000, "{off} us off after an hour");

    run.now += 60_000;
    run.push_now(Event::Gap(Gap::Reconnect));
    run.push_now(picture(3_600_000, 0, true));
    let tied = run.segments().last().expect("marks").utc;
    assert_eq!(tied.unix_micros(), run.now * 1_000);
}
