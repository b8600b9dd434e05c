//! Weeks of publishing in milliseconds of test.

use proptest::prelude::*;

use super::*;

const VIDEO: TrackId = TrackId(0);
const AUDIO: TrackId = TrackId(1);

fn hz(hz: u32) -> Timescale {
    Timescale::new(hz).expect("tests use scales above zero")
}

fn video(wrap: Wrap) -> Source {
    Source {
        scale: Timescale::MILLIS,
        wrap,
        output: Timescale::VIDEO,
        frame: None,
    }
}

fn audio(wrap: Wrap, rate: u32) -> Source {
    Source {
        scale: Timescale::MILLIS,
        wrap,
        output: hz(rate),
        frame: Some(1024),
    }
}

fn rtmp() -> Timeline {
    let mut timeline = Timeline::new();
    timeline.track(VIDEO, video(Wrap::Rtmp));
    timeline.track(AUDIO, audio(Wrap::Rtmp, 48_000));
    timeline
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Out {
    dts: i64,
    pts: i64,
    gap: bool,
}

/// Pushes and checks what must always hold of a unit.
fn push(timeline: &mut Timeline, id: TrackId, raw: i64, composition: i32) -> Option<Out> {
    push_at(timeline, id, raw, composition, Duration::ZERO)
}

fn push_at(t: &mut Timeline, id: TrackId, raw: i64, cts: i32, arrival: Duration) -> Option<Out> {
    let before = t
        .tracks
        .get(&id)
        .and_then(|track| track.last.as_ref())
        .map(|last| last.dts);
    match t.push(id, raw, cts, arrival) {
        Verdict::Unit { dts, pts, gap, .. } => {
            assert!(
                before.is_none_or(|before| dts.ticks() > before),
                "{before:?} then {dts:?}"
            );
            assert!(dts.ticks() >= 0 && pts.ticks() >= 0, "{dts:?} {pts:?}");
            assert_eq!(dts.scale(), pts.scale());
            assert!(t.anchors.len() <= t.tracks.len() + 2);
            Some(Out {
                dts: dts.ticks(),
                pts: pts.ticks(),
                gap: gap.is_some(),
            })
        }
        Verdict::Drop => None,
    }
}

/// One publish: 25 pictures a second and 48 kHz AAC, in the order of their times, as an encoder sends them.
struct Encoder {
    timeline: Timeline,
    pictures: i64,
    frames: i64,
    units: u64,
    gaps: u64,
    /// Picture time less sound time at the output, against the same at the source, in 90 kHz ticks: the extremes.
    skew: (i64, i64),
    last: [Option<(i64, i64)>; 2],
}

impl Encoder {
    fn new() -> Self {
        Self {
            timeline: rtmp(),
            pictures: 0,
            frames: 0,
            units: 0,
            gaps: 0,
            skew: (i64::MAX, i64::MIN),
            last: [None; 2],
        }
    }

    /// Sends until `until` milliseconds of media, writing each time as `raw` says.
    fn run(&mut self, until: i64, raw: impl Fn(i64) -> i64) {
        loop {
            let (picture, frame) = (self.pictures * 40, self.frames * 1024 / 48);
            if picture.min(frame) >= until {
                return;
            }
            let (id, at) = if picture <= frame {
                (VIDEO, picture)
            } else {
                (AUDIO, frame)
            };
            // Two B-pictures.
            let b_pictures = [80, 120, 40];
            let phase = usize::try_from(self.pictures % 3).expect("0 to 2");
            let composition = if id == VIDEO { b_pictures[phase] } else { 0 };
            let out = push(&mut self.timeline, id, raw(at), composition);
            let out = out.expect("nothing of this is dropped");
            if id == VIDEO {
                self.pictures += 1;
                assert_eq!(out.pts - out.dts, i64::from(composition) * 90);
                self.last[0] = Some((out.dts, at * 90));
            } else {
                self.frames += 1;
                self.last[1] = Some((out.dts * 90_000 / 48_000, at * 90));
            }
            self.units += 1;
            self.gaps += u64::from(out.gap);
            if let [Some((video, video_source)), Some((audio, audio_source))] = self.last {
                let skew = (video - audio) - (video_source - audio_source);
                self.skew = (self.skew.0.min(skew), self.skew.1.max(skew));
            }
        }
    }

    fn check(&self, gaps: u64) {
        assert_eq!(self.gaps, gaps, "gaps");
        // Within a millisecond (90 ticks), which the source's rounding takes; anchoring anew rounds once more.
        let allowed = if gaps == 0 { 90 } else { 180 };
        assert!(
            self.skew.1 - self.skew.0 <= allowed + 1,
            "skew {:?}",
            self.skew
        );
    }
}

#[test]
fn every_rtmp_wrap_passes_unseen() {
    for bits in [24, 31, 32] {
        let mut encoder = Encoder::new();
        let start = (1_i64 << bits) - 10_000;
        encoder.run(20_000, |at| (start + at) & ((1 << bits) - 1));
        encoder.check(0);
        assert_eq!(
            encoder.timeline.repairs().count(Repair::Wrap),
            2,
            "{bits} bits"
        );
        let others = encoder
            .timeline
            .repairs()
            .iter()
            .map(|(_, count)| count)
            .sum::<u64>()
            - 2;
        assert_eq!(others, 0, "{:?}", encoder.timeline.repairs());
        // Sample-exact: the last frame is where counting puts it.
        let (last, _) = encoder.last[1].expect("there was sound");
        let frames = encoder.frames - 1;
        assert_eq!(last, 10 * 90_000 + (frames * 1024 * 90_000 / 48_000));
    }
}

#[test]
fn seven_weeks_wrap_everywhere_and_lose_nothing() {
    // Only around the wraps, and one picture in between each second, so that it takes no weeks.
    let mut timeline = rtmp();
    let mask = (1_i64 << 32) - 1;
    let mut last = None;
    for second in 0..7 * 7 * 86_400_i64 {
        let raw = (second * 1_000) & mask;
        let out = push(&mut timeline, VIDEO, raw, 0).expect("a picture");
        assert_eq!(out.dts, 900_000 + second * 90_000);
        assert!(!out.gap);
        last = Some(out);
    }
    assert_eq!(
        last.map(|out| out.dts),
        Some(900_000 + (7 * 7 * 86_400 - 1) * 90_000)
    );
}

#[test]
fn mpegts_and_rtp_wrap_at_their_own_bits() {
    for (scale, bits) in [(90_000, 33), (90_000, 32), (48_000, 32)] {
        let mut timeline = Timeline::new();
        let source = Source {
            scale: hz(scale),
            wrap: Wrap::Bits(bits),
            output: hz(scale),
            frame: None,
        };
        timeline.track(VIDEO, source);
        let step = i64::from(scale) / 50;
        let start = (1_i64 << bits) - 500 * step;
        for n in 0..1_000 {
            let raw = (start + n * step) & ((1 << bits) - 1);
            let out = push(&mut timeline, VIDEO, raw, 0).expect("a unit");
            assert_eq!(
                (out.dts, out.gap),
                (10 * i64::from(scale) + n * step, false)
            );
        }
    }
}

#[test]
fn a_jump_of_the_source_clock_is_one_gap_and_the_output_goes_on() {
    let hour = 3_600_000;
    let jumps: [(&str, i64, Repair); 6] = [
        ("forward", 2 * hour + hour, Repair::JumpForward),
        ("back", 2 * hour - hour, Repair::JumpBack),
        ("reset", -10_000, Repair::Reset),
        ("just over", 2 * hour + 1_100, Repair::JumpForward),
        ("just over back", 2 * hour - 1_100, Repair::JumpBack),
        ("three hours", 2 * hour + 3 * hour, Repair::JumpBack), // modulo 2^24 ms
    ];
    for (name, base, kind) in jumps {
        let mut encoder = Encoder::new();
        encoder.run(10_000, |at| 2 * hour + at);
        encoder.run(20_000, |at| {
            if at < 10_000 {
                2 * hour + at
            } else {
                base + at
            }
        });
        assert_eq!(encoder.gaps, 1, "{name}");
        assert_eq!(encoder.timeline.repairs().count(kind), 1, "{name}");
        encoder.check(1);
        let (last, _) = encoder.last[0].expect("pictures");
        assert_eq!(
            last,
            900_000 + (encoder.pictures - 1) * 3_600,
            "{name}: continuous"
        );
    }
}

#[test]
fn jumps_again_and_again_are_a_gap_each() {
    let mut encoder = Encoder::new();
    // The file starts again each five seconds, as a looping source does.
    for round in 1..=10 {
        encoder.run(round * 5_000, |at| at % 5_000);
    }
    encoder.check(9);
    assert_eq!(encoder.timeline.repairs().count(Repair::Reset), 9);
}

#[test]
fn sound_in_milliseconds_becomes_exact() {
    for rate in [44_100_u32, 48_000, 22_050] {
        let mut timeline = Timeline::new();
        timeline.track(AUDIO, audio(Wrap::Rtmp, rate));
        for frame in 0..200_000_i64 {
            let millis = frame * 1_024_000 / i64::from(rate);
            let out = push(&mut timeline, AUDIO, millis, 0).expect("a frame");
            assert_eq!(out.dts, 10 * i64::from(rate) + frame * 1024);
        }
        assert_eq!(timeline.repairs(), &Repairs::default());
    }
}

#[test]
fn sound_survives_jitter_without_a_hole() {
    let mut timeline = rtmp();
    for frame in 0..10_000_i64 {
        let jitter = if frame % 2 == 0 {
            frame % 5
        } else {
            -(frame % 5)
        };
        let out =
            push(&mut timeline, AUDIO, 1_000 + frame * 1024 / 48 + jitter, 0).expect("a frame");
        assert_eq!(out.dts, 480_000 + frame * 1024);
    }
}

#[test]
fn a_lost_frame_of_sound_leaves_its_place_empty() {
    let mut timeline = rtmp();
    for frame in (0..1_000_i64).filter(|frame| !(500..505).contains(frame)) {
        let out = push(&mut timeline, AUDIO, frame * 1024 / 48, 0).expect("a frame");
        assert_eq!(out.dts, 480_000 + frame * 1024, "frame {frame}");
        assert!(!out.gap);
    }
    assert_eq!(timeline.repairs().count(Repair::Hole), 1);
}

#[test]
fn frames_of_sound_too_many_are_dropped() {
    let mut timeline = rtmp();
    let mut emitted = 0;
    for frame in 0..1_000_i64 {
        // Each frame of ten is sent twice.
        for _ in 0..if frame % 10 == 0 { 2 } else { 1 } {
            emitted += i64::from(push(&mut timeline, AUDIO, frame * 1024 / 48, 0).is_some());
        }
    }
    assert!((1_000..=1_006).contains(&emitted), "{emitted}");
    let dropped = timeline.repairs().count(Repair::Overlap);
    assert_eq!(emitted + i64::try_from(dropped).expect("few"), 1_100);
}

/// FAULTS B21: six hours of a source clock that is off by 200 ppm against its own sample clock.
#[test]
fn a_clock_off_by_200_ppm_is_followed_without_gaps_or_drops() {
    for ppm in [200_i64, -200] {
        let mut timeline = rtmp();
        let mut before = 0;
        for frame in 0..6 * 3_600 * 48_000 / 1024_i64 {
            let millis = frame * 1024 * (1_000_000 + ppm) / 48_000_000;
            let out = push(&mut timeline, AUDIO, millis, 0).expect("a frame");
            assert!(!out.gap);
            let step = out.dts - before;
            assert!(frame == 0 || (1020..=1028).contains(&step), "step {step}");
            before = out.dts;
            let error = out.dts - 480_000 - millis * 48;
            assert!(error.abs() <= 6 * 48, "{} samples from the clock", error);
        }
        assert_eq!(timeline.repairs().count(Repair::Hole), 0);
        assert_eq!(timeline.repairs().count(Repair::Overlap), 0);
    }
}

/// Found by fuzzing: slewing back by a whole frame repeated a time.
#[test]
fn the_shortest_frames_still_go_forward() {
    let mut timeline = Timeline::new();
    let source = Source {
        frame: Some(1),
        ..audio(Wrap::Rtmp, 44_056)
    };
    timeline.track(AUDIO, source);
    for raw in [100, 80, 80, 80, 79, 100] {
        push(&mut timeline, AUDIO, raw, 0);
    }
}

/// Found by fuzzing: a track adopted the clock of one that lagged far behind it, and stood still until that caught up.
#[test]
fn a_track_ahead_does_not_join_one_far_behind() {
    let mut timeline = rtmp();
    push(&mut timeline, AUDIO, 0, 0);
    for picture in 0..500 {
        push(&mut timeline, VIDEO, picture * 40, 0);
    }
    // The sound's clock jumps after twenty seconds of silence: it comes back beside the pictures.
    let out = push(&mut timeline, AUDIO, 3_600_000, 0).expect("a frame");
    assert_eq!((out.dts, out.gap), (480_000 + 499 * 40 * 48, true));
    // So does a picture that jumps to where that clock is.
    let before = push(&mut timeline, VIDEO, 500 * 40, 0)
        .expect("a picture")
        .dts;
    let out = push(&mut timeline, VIDEO, 3_600_000, 0).expect("a picture");
    assert!(
        !out.gap && (out.dts - before).abs() <= 3_600,
        "{out:?} after {before}"
    );
}

/// Nor does a track that has gone on adopt the clock of one that jumped and fell silent.
#[test]
fn a_track_does_not_follow_a_clock_that_stands() {
    let mut timeline = rtmp();
    push(&mut timeline, AUDIO, 0, 0);
    push(&mut timeline, VIDEO, 0, 0);
    let out = push(&mut timeline, AUDIO, 3_600_000, 0).expect("a frame");
    assert!(out.gap);
    let mut before = 0;
    for picture in 1..500 {
        let out = push(&mut timeline, VIDEO, picture * 40, 0);
        before = out.expect("a picture").dts;
    }
    let out = push(&mut timeline, VIDEO, 3_600_000, 0).expect("a picture");
    assert_eq!((out.dts, out.gap), (before + 3_600, true));
}

/// Pictures miss a second; the sound, which comes three seconds later on the wire, does not. Whether the clock jumped
/// cannot be known when the pictures come, but sound and picture stay together.
#[test]
fn a_hole_in_the_pictures_alone_does_not_part_them_from_late_sound() {
    let mut timeline = rtmp();
    let source = Source {
        frame: Some(1_920),
        ..audio(Wrap::Rtmp, 48_000)
    };
    timeline.track(AUDIO, source);
    let (mut picture, mut sound) = (None, None);
    for at in (0..40_000).step_by(40) {
        if !(10_000..11_200).contains(&at)
            && let Some(out) = push(&mut timeline, VIDEO, at, 0)
        {
            picture = Some(out.dts - at * 90);
        }
        if at >= 3_000
            && let Some(out) = push(&mut timeline, AUDIO, at - 3_000, 0)
        {
            sound = Some(out.dts - (at - 3_000) * 48);
        }
    }
    let (picture, sound) = (picture.expect("pictures"), sound.expect("sound"));
    let apart = picture / 90 - sound / 48;
    assert!(apart.abs() <= 6, "{apart} ms");
}

#[test]
fn drift_is_measured_against_arrivals() {
    for (ppm, word) in [
        (0_i64, "steady"),
        (200, "steady"),
        (1_000, "fast"),
        (-1_000, "slow"),
    ] {
        let mut timeline = rtmp();
        for picture in 0..25 * 600_i64 {
            // Late by up to 120 ms, as networks are.
            let late = (picture * 7_919) % 120;
            let arrival =
                Duration::from_millis(u64::try_from(picture * 40 + late).expect("positive"));
            let raw = picture * 40 * (1_000_000 + ppm) / 1_000_000;
            push_at(&mut timeline, VIDEO, raw, 0, arrival);
        }
        let drift = timeline.drift().expect("ten minutes show it");
        assert_eq!(drift.as_str(), word, "{drift:?}");
        assert!(
            (i64::from(drift.ppm) - ppm).abs() <= 10,
            "{drift:?} for {ppm}"
        );
    }
}

#[test]
fn late_sound_joins_on_the_same_clock() {
    let mut timeline = rtmp();
    for picture in 0..500 {
        push(&mut timeline, VIDEO, 5_000 + picture * 40, 0);
    }
    let out = push(&mut timeline, AUDIO, 5_000 + 20_000, 0).expect("a frame");
    assert_eq!((out.dts, out.gap), (480_000 + 20 * 48_000, false));
    // And sound that lags the pictures when it joins.
    let mut timeline = rtmp();
    push(&mut timeline, VIDEO, 10_000, 0);
    let out = push(&mut timeline, AUDIO, 7_000, 0).expect("a frame");
    assert_eq!(out.dts, 7 * 48_000);
}

#[test]
fn a_track_that_pauses_alone_comes_back_in_its_place() {
    let mut timeline = rtmp();
    for n in 0..500 {
        push(&mut timeline, VIDEO, n * 40, 0);
        if !(100..400).contains(&n) {
            let out = push(&mut timeline, AUDIO, n * 40, 0);
            assert!(out.is_none_or(|out| !out.gap), "at {n}");
        }
    }
    let out = push(&mut timeline, AUDIO, 500 * 40, 0).expect("a frame");
    let off = out.dts - (480_000 + 500 * 40 * 48);
    assert!(off.abs() <= 32 * 48, "{off} samples off");
}

#[test]
fn a_pause_of_everything_is_closed_with_a_gap() {
    let mut encoder = Encoder::new();
    encoder.run(10_000, |at| at);
    encoder.run(20_000, |at| if at < 10_000 { at } else { at + 5_000 });
    encoder.check(1);
}

/// Sound lies up to five seconds behind the pictures on the wire; its jump comes when the pictures' is long over.
#[test]
fn widely_interleaved_tracks_jump_once() {
    for jump in [3_600_000_i64, -3_600_000, 4_000, -4_000] {
        let mut timeline = rtmp();
        let base = 7_200_000;
        let raw = |at: i64| {
            if at < 20_000 {
                base + at
            } else {
                base + at + jump
            }
        };
        let mut gaps = 0;
        for picture in 0..1_000_i64 {
            let at = picture * 40;
            gaps += i64::from(
                push(&mut timeline, VIDEO, raw(at), 0)
                    .expect("a picture")
                    .gap,
            );
            // Three seconds of sound behind.
            if at >= 3_000 {
                let frame = at - 3_000;
                let source = Source {
                    frame: Some(1_920),
                    ..audio(Wrap::Rtmp, 48_000)
                };
                timeline.track(AUDIO, source);
                let out = push(&mut timeline, AUDIO, raw(frame), 0).expect("a frame");
                gaps += i64::from(out.gap);
                assert_eq!(out.dts, 480_000 + frame * 48, "jump {jump} at {frame}");
            }
        }
        assert_eq!(gaps, 1, "jump {jump}");
    }
}

#[test]
fn equal_and_earlier_pictures_are_kept_in_order() {
    let mut timeline = rtmp();
    let raw = [0, 40, 40, 80, 60, 120];
    let dts: Vec<i64> = raw
        .iter()
        .filter_map(|&raw| push(&mut timeline, VIDEO, raw, 0))
        .map(|out| out.dts)
        .collect();
    assert_eq!(
        dts,
        [0, 3_600, 3_601, 7_200, 7_201, 10_800].map(|ticks| 900_000 + ticks)
    );
    assert_eq!(timeline.repairs().count(Repair::Duplicate), 1);
    assert_eq!(timeline.repairs().count(Repair::Late), 1);
}

#[test]
fn a_picture_moved_back_is_not_shown_before_it_is_decoded() {
    let mut timeline = rtmp();
    push(&mut timeline, VIDEO, 0, 80);
    push(&mut timeline, VIDEO, 100, 80);
    let out = push(&mut timeline, VIDEO, 60, 10).expect("a picture");
    assert_eq!((out.dts, out.pts), (909_001, 909_001));
}

#[test]
fn many_small_steps_back_are_a_jump_in_the_end() {
    let mut timeline = rtmp();
    let gaps = (0..20_i64)
        .filter_map(|n| push(&mut timeline, VIDEO, 100_000 - n * 300, -2_000))
        .filter(|out| out.gap)
        .count();
    assert!(gaps >= 4, "{gaps}");
}

#[test]
fn negative_and_wild_compositions() {
    let mut timeline = rtmp();
    let out = push(&mut timeline, VIDEO, 0, -80).expect("a picture");
    assert_eq!(out.pts, 900_000 - 7_200);
    let out = push(&mut timeline, VIDEO, 40, i32::MIN).expect("a picture");
    assert_eq!(out.pts, out.dts);
    let out = push(&mut timeline, VIDEO, 80, i32::MAX).expect("a picture");
    assert_eq!(out.pts, out.dts);
    assert_eq!(timeline.repairs().count(Repair::Composition), 2);
}

#[test]
fn a_negative_start_is_no_jump() {
    let mut timeline = rtmp();
    // -40 ms as RTMP writes it.
    assert_eq!(
        push(&mut timeline, VIDEO, (1 << 32) - 40, 0).map(|out| out.dts),
        Some(900_000)
    );
    let out = push(&mut timeline, VIDEO, 0, 0).expect("a picture");
    assert_eq!((out.dts, out.gap), (903_600, false));
}

#[test]
fn tracks_with_clocks_of_their_own_start_together() {
    let mut timeline = rtmp();
    for n in 0..100 {
        assert_eq!(
            push(&mut timeline, VIDEO, 5_000_000 + n * 40, 0).map(|out| out.gap),
            Some(false)
        );
    }
    let out = push(&mut timeline, AUDIO, 0, 0).expect("a frame");
    assert_eq!((out.dts, out.gap), (480_000 + 99 * 40 * 48, false));
    let out = push(&mut timeline, AUDIO, 21, 0).expect("a frame");
    assert!(!out.gap);
}

#[test]
fn one_and_120_pictures_a_second_keep_their_times() {
    for fps in [1, 120_i64] {
        let mut timeline = rtmp();
        for n in 0..fps * 3_600 {
            let out = push(&mut timeline, VIDEO, n * 1_000 / fps, 0).expect("a picture");
            assert_eq!((out.dts, out.gap), (900_000 + n * 1_000 / fps * 90, false));
        }
    }
}

#[test]
fn a_new_sample_rate_keeps_the_clock() {
    let mut timeline = rtmp();
    push(&mut timeline, AUDIO, 0, 0);
    let before = push(&mut timeline, AUDIO, 21, 0).expect("a frame");
    timeline.track(AUDIO, audio(Wrap::Rtmp, 44_100));
    let after = timeline.push(AUDIO, 43, 0, Duration::ZERO);
    let Verdict::Unit { dts, gap: None, .. } = after else {
        panic!("{after:?}")
    };
    let expected = before.dts * 44_100 / 48_000 + 1024;
    assert!(
        (dts.ticks() - expected).abs() <= 1,
        "{dts:?}, expected {expected}"
    );
}

#[test]
fn a_track_that_was_never_added_is_dropped() {
    assert_eq!(
        Timeline::new().push(VIDEO, 0, 0, Duration::ZERO),
        Verdict::Drop
    );
}

proptest! {
    /// Whatever comes, times go forward, nothing is negative and nothing panics (`push` checks).
    #[test]
    fn any_times_at_all(
        units in prop::collection::vec((0..3_u8, any::<i64>(), any::<i32>(), any::<u64>()), 0..300),
        small in any::<bool>(),
    ) {
        let mut timeline = Timeline::new();
        timeline.track(TrackId(0), video(Wrap::Rtmp));
        timeline.track(TrackId(1), audio(Wrap::Bits(33), 44_100));
        timeline.track(TrackId(2), video(Wrap::None));
        for (id, raw, composition, arrival) in units {
            let raw = if small { raw % 5_000 } else { raw };
            push_at(&mut timeline, TrackId(id), raw, composition, Duration::from_micros(arrival));
        }
    }

    /// A wrap anywhere in a publish, whatever the phase of sound and picture: nothing lost, no gap, no skew.
    #[test]
    fn a_wrap_at_any_phase(before in 0..5_000_i64, bits in prop::sample::select(vec![24, 31, 32])) {
        let mut encoder = Encoder::new();
        let start = (1_i64 << bits) - before;
        encoder.run(6_000, |at| (start + at) & ((1 << bits) - 1));
        encoder.check(0);
    }

    /// A jump of any size over the threshold, at any phase, is one gap; sound and picture keep their distance.
    #[test]
    fn a_jump_at_any_phase(at_ms in 1_000..5_000_i64, jump in 1_100..8_000_000_i64, back in any::<bool>()) {
        let mut encoder = Encoder::new();
        let base = 20_000_000;
        let jump = if back { -jump } else { jump };
        encoder.run(8_000, |at| base + at + if at < at_ms { 0 } else { jump });
        encoder.check(1);
    }
}
