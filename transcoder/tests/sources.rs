//! Every kind of source through a real worker.

mod support;

use std::time::Duration;

use media::{Codec, Format, Timescale, Timestamp};
use support::{Output, Source, X264, counted, samples, small};

const AAC: &[&str] = &["-c:a", "aac", "-ac", "2", "-ar", "48000"];
const SINE: &str = "sine=r=48000:d=3";

/// Runs a source of pictures alone through two encoded rungs and compares the numbers burnt into them.
async fn ledger(filter: &str, encoder: &[&str], expected: impl IntoIterator<Item = u32>) -> Output {
    let source = Source::make(&[filter], encoder);
    let output = Output::of(small(false), source.events()).await;
    let expected: Vec<u32> = expected.into_iter().collect();
    assert_eq!(output.numbers("180p"), expected);
    assert_eq!(output.numbers("90p"), expected);
    assert_eq!(
        output.times("180p"),
        source.times(),
        "times are the source's, to the tick"
    );
    assert_eq!(output.times("90p"), source.times());
    assert_eq!(output.status.damaged_units, 0);
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn passed_through_and_encoded_rungs_agree_on_every_picture() {
    let source = Source::make(
        &[&counted("320x180", "30", 5.0), SINE],
        &[X264, AAC].concat(),
    );
    let output = Output::of(small(true), source.events()).await;
    assert_eq!(output.lists(), ["180p:320x180 90p:160x90 audio:48000x2"]);
    assert_eq!(output.times("180p"), source.times());
    assert_eq!(output.times("90p"), source.times());
    let all: Vec<u32> = (0..150).collect();
    assert_eq!(output.numbers("90p"), all);
    assert_eq!(output.numbers("180p"), all);
    assert!(output.status.passthrough);
    let bytes = |units: Vec<&media::AccessUnit>| -> usize {
        units.iter().map(|unit| unit.data.len()).sum()
    };
    let sent: usize = source.units.iter().map(|unit| unit.data.len()).sum();
    assert!(
        bytes(output.units("180p")) + bytes(output.units("audio")) >= sent - 2_000,
        "not a byte is re-encoded"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn b_frames() {
    let encoder = [X264, &["-preset", "veryfast", "-bf", "2"]].concat();
    ledger(&counted("320x180", "30", 2.5), &encoder, 0..75).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hevc_in_ten_bits() {
    let filter = counted("320x180", "25", 2.5) + ",format=yuv420p10le";
    ledger(
        &filter,
        &[
            "-c:v",
            "libx265",
            "-preset",
            "ultrafast",
            "-x265-params",
            "log-level=none:bframes=2",
        ],
        0..63,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn av1() {
    let encoder = [
        "-c:v",
        "libsvtav1",
        "-preset",
        "12",
        "-g",
        "60",
        "-svtav1-params",
        "lookahead=0",
    ];
    ledger(&counted("320x180", "30", 2.5), &encoder, 0..75).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_two_two_in_ten_bits() {
    let filter = counted("320x180", "30", 2.5) + ",format=yuv422p10le";
    ledger(&filter, X264, 0..75).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_frame_rates() {
    ledger(&counted("320x180", "30000/1001", 2.5), X264, 0..75).await;
    ledger(&counted("320x180", "24000/1001", 2.5), X264, 0..60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_pictures_a_second_are_thirty_on_small_rungs() {
    let source = Source::make(&[&counted("320x180", "60", 5.0)], X264);
    let output = Output::of(small(false), source.events()).await;
    let halved: Vec<i64> = source.times().into_iter().step_by(2).collect();
    assert_eq!(output.times("180p"), halved);
    assert_eq!(output.times("90p"), halved);
    assert_eq!(
        output.numbers("90p"),
        (0..300).step_by(2).collect::<Vec<_>>()
    );
}

/// Four of five pictures in one second, one of three in the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_varying_frame_rate_keeps_every_picture_and_its_time() {
    let varying = format!(
        "{},select='if(mod(floor(t),2),not(mod(n,3)),mod(n,5))'",
        counted("320x180", "30", 8.0)
    );
    let source = Source::make(
        &[&varying],
        &[X264, &["-fps_mode", "passthrough", "-enc_time_base", "-1"]].concat(),
    );
    let output = Output::of(small(true), source.events()).await;
    assert_eq!(output.times("180p"), source.times());
    assert_eq!(output.times("90p"), source.times());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_picture_a_second_is_repeated_within_a_part() {
    let source = Source::make(
        &[&counted("320x180", "1", 8.0)],
        &[X264, &["-g", "2"]].concat(),
    );
    let output = Output::of(small(true), source.events()).await;
    let times = output.times("90p");
    let apart = times.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(apart <= Some(22_500), "{apart:?} ticks");
    assert!(
        source.times().iter().all(|time| times.contains(time)),
        "every picture of the source has its time"
    );
    let mut numbers = output.numbers("90p");
    numbers.dedup();
    assert_eq!(numbers, (0..8).collect::<Vec<_>>());
    assert!(!output.status.passthrough);
    assert!(
        output.status.warnings[0].contains("pauses"),
        "{:?}",
        output.status.warnings
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_frame_rate_is_kept() {
    let filter = counted("320x180", "30", 6.0) + ",select='lt(mod(n\\,60)\\,20)+not(mod(n\\,7))'";
    let source = Source::make(&[&filter], &[X264, &["-fps_mode", "vfr"]].concat());
    let output = Output::of(small(false), source.events()).await;
    let times = output.times("90p");
    assert!(source.times().iter().all(|time| times.contains(time)));
    assert_eq!(output.times("180p"), times);
    // A repeated picture stands only where a segment begins between two of the source's.
    assert!(
        times.len() <= source.times().len() + 3,
        "{} of {}",
        times.len(),
        source.times().len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn interlaced_pictures_become_whole() {
    let filter = counted("320x180", "50", 3.0) + ",tinterlace=interleave_top,setfield=tff";
    let source = Source::make(
        &[&filter],
        &[X264, &["-flags", "+ildct+ilme", "-x264-params", "tff=1"]].concat(),
    );
    let output = Output::of(small(true), source.events()).await;
    assert!(!output.status.passthrough);
    assert!(
        output.status.warnings[0].contains("interlaced"),
        "{:?}",
        output.status.warnings
    );
    assert_eq!(output.times("90p"), source.times());
    assert_eq!(output.times("180p"), source.times());
}

#[tokio::test(flavor = "multi_thread")]
async fn portrait_odd_and_anamorphic_sizes() {
    for (size, extra, expected) in [
        ("180x320", "", "180p:180x320 90p:90x160"),
        (
            "324x182",
            ",crop=321:181:0:0:exact=1,format=yuv444p",
            "180p:320x180 90p:160x90",
        ),
        ("240x180", ",setsar=4/3", "180p:320x180 90p:160x90"),
        ("128x72", "", "90p:128x72"),
    ] {
        let filter = counted(size, "30", 1.0) + extra;
        let output = Output::of(small(false), Source::make(&[&filter], X264).events()).await;
        assert_eq!(output.lists(), [expected], "{size}{extra}");
        assert_eq!(
            output.numbers("90p"),
            (0..30).collect::<Vec<_>>(),
            "{size}{extra}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_alone() {
    for (sine, encoder) in [
        ("sine=r=44100:d=5", ["-c:a", "aac", "-ac", "1"]),
        ("sine=r=48000:d=5", ["-c:a", "libopus", "-ac", "2"]),
        ("sine=r=48000:d=5", ["-c:a", "aac", "-ac", "6"]),
    ] {
        let source = Source::make(&[sine], &encoder);
        let output = Output::of(small(true), source.events()).await;
        assert_eq!(output.lists(), ["audio:48000x2"], "{encoder:?}");
        let times = output.times("audio");
        assert!(
            times.windows(2).all(|pair| pair[1] - pair[0] == 1_024),
            "whole frames without a gap"
        );
        assert!(
            times.len() > 5 * 48_000 / 1_024 - 3,
            "{} frames",
            times.len()
        );
        assert!(output.marks().len() >= 3);
        let Codec::Aac(config) = &output.track("audio").codec else {
            panic!("AAC")
        };
        assert!(config.is_lc());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_that_stands_goes_on_as_it_is() {
    let source = Source::make(&["sine=r=48000:d=3"], AAC);
    let output = Output::of(small(true), source.events()).await;
    let sent: Vec<_> = source
        .units
        .iter()
        .map(|unit| (unit.pts, unit.data.clone()))
        .collect();
    let got: Vec<_> = output
        .units("audio")
        .iter()
        .map(|unit| (unit.pts, unit.data.clone()))
        .collect();
    assert_eq!(got, sent);
    assert_eq!(output.status.cpu, Duration::ZERO, "no worker was needed");
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_that_comes_late_joins() {
    let pictures = Source::make(&[&counted("320x180", "30", 8.0)], X264);
    let mut sound = Source::make(&["sine=r=44100:d=5"], &["-c:a", "aac"]).later(2_500);
    sound.tracks[0].id = media::TrackId(1);
    sound.tracks[0].name = "sound".parse().expect("a name");
    for unit in &mut sound.units {
        unit.track = media::TrackId(1);
    }
    let mut events = pictures.events();
    let both: Vec<_> = pictures
        .tracks
        .iter()
        .chain(&sound.tracks)
        .cloned()
        .collect();
    let mut units: Vec<_> = pictures.units.iter().chain(&sound.units).cloned().collect();
    units.sort_by_key(|unit| unit.dts);
    let joins = units
        .iter()
        .position(|unit| unit.track == media::TrackId(1))
        .expect("sound");
    events.truncate(1);
    events.extend(units[..joins].iter().cloned().map(media::Event::Unit));
    events.push(media::Event::Tracks(both.into()));
    events.extend(units[joins..].iter().cloned().map(media::Event::Unit));
    // Which mark tells of the sound depends on when its encoder has begun.
    let output = Output::paced(small(true), events).await;
    assert_eq!(
        output.lists(),
        [
            "180p:320x180 90p:160x90",
            "180p:320x180 90p:160x90 audio:48000x2"
        ]
    );
    assert_eq!(
        output.marks().last().map(|mark| mark.discontinuity),
        Some(0)
    );
    assert_eq!(output.times("90p"), pictures.times());
    assert!(output.units("audio").len() > 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_resolution_is_one_discontinuity_and_rungs_keep_their_size() {
    let first = Source::make(
        &[&counted("320x180", "30", 3.0), SINE],
        &[X264, AAC].concat(),
    );
    let second = Source::make(
        &[&counted("640x360", "30", 3.0), SINE],
        &[X264, AAC].concat(),
    )
    .later(3_000);
    let third = Source::make(
        &[&counted("160x90", "30", 3.0), SINE],
        &[X264, AAC].concat(),
    )
    .later(6_000);
    let events = [first.events(), second.events(), third.events()].concat();
    let output = Output::of(small(true), events).await;
    let jumps: Vec<_> = output
        .marks()
        .windows(2)
        .filter(|pair| pair[0].discontinuity != pair[1].discontinuity)
        .map(|pair| pair[1].start.ticks())
        .collect();
    let starts = [second.times()[0], third.times()[0]];
    assert_eq!(jumps, starts);
    assert!(
        output
            .lists()
            .iter()
            .all(|list| list == "180p:320x180 90p:160x90 audio:48000x2"),
        "{:?}",
        output.lists()
    );
    let all = [first.times(), second.times(), third.times()].concat();
    assert_eq!(output.times("180p"), all);
    assert_eq!(output.times("90p"), all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_codec_is_one_discontinuity() {
    let first = Source::make(&[&counted("320x180", "30", 3.0)], X264);
    let hevc = [
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "log-level=none",
    ];
    let second = Source::make(&[&counted("320x180", "30", 3.0)], &hevc).later(3_000);
    let output = Output::of(small(true), [first.events(), second.events()].concat()).await;
    let discontinuities = output.marks().last().map(|mark| mark.discontinuity);
    assert_eq!(discontinuities, Some(1));
    assert_eq!(
        output.times("90p"),
        [first.times(), second.times()].concat()
    );
    assert_eq!(
        output.numbers("90p"),
        (0..90).chain(0..90).collect::<Vec<_>>()
    );
    assert!(!output.status.passthrough);
}

#[tokio::test(flavor = "multi_thread")]
async fn keyframes_too_far_apart_end_passthrough_with_one_discontinuity() {
    let near = Source::make(&[&counted("320x180", "30", 4.0)], X264);
    // The same parameter sets, then nothing but the first keyframe.
    let far = Source::make(
        &[&counted("320x180", "30", 6.0)],
        &[X264, &["-g", "1000", "-keyint_min", "1000"]].concat(),
    )
    .later(4_000);
    let mut events = near.events();
    let same = matches!((&near.tracks[0].codec, &far.tracks[0].codec), (Codec::H264(a), Codec::H264(b)) if a == b);
    events.extend(far.events().into_iter().skip(usize::from(same)));
    let output = Output::of(small(true), events).await;
    assert_eq!(
        output.marks().last().map(|mark| mark.discontinuity),
        Some(1),
        "same parameter sets: {same}"
    );
    assert!(!output.status.passthrough);
    let all = [near.times(), far.times()].concat();
    assert_eq!(output.times("90p"), all);
    assert_eq!(
        output.times("180p"),
        all,
        "not a picture is lost where it is taken over"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_transcoded_when_told_so() {
    let source = Source::make(
        &[&counted("320x180", "30", 4.0), SINE],
        &[X264, AAC].concat(),
    );
    let mut config = small(true);
    config.ladder = transcoder::Ladder::named("passthrough").expect("a name");
    config.worker = "/nonexistent".into();
    let output = Output::of(config, source.events()).await;
    assert_eq!(output.lists(), ["180p:320x180 audio:48000x2"]);
    assert_eq!(output.times("180p"), source.times());
    assert!(matches!(output.track("180p").format, Format::Video(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_costs_pictures_and_nothing_else() {
    let source = Source::make(
        &[&counted("320x180", "30", 6.0), "sine=r=44100:d=6"],
        &[X264, &["-c:a", "aac"]].concat(),
    );
    // One byte in some hundreds is another, a unit in forty is cut short, and one in fifty is noise.
    let mut seed = 1_u32;
    let mut random = |below: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) % below
    };
    let mut damaged = source.clone();
    for (index, unit) in damaged.units.iter_mut().enumerate().skip(20) {
        let mut data = unit.data.to_vec();
        for byte in &mut data {
            if random(400) == 0 {
                *byte = u8::try_from(random(256)).expect("a byte");
            }
        }
        if index % 40 == 0 {
            data.truncate(data.len() / 2 + 1);
        }
        if index % 50 == 0 {
            data.fill_with(|| u8::try_from(random(256)).expect("a byte"));
        }
        unit.data = data.into();
    }
    let output = Output::of(small(false), damaged.events()).await;
    assert!(
        output.status.restarts.is_empty(),
        "{:?}",
        output.status.restarts
    );
    assert!(output.status.damaged_units > 0);
    let (times, sent) = (output.times("90p"), source.times());
    assert_eq!(output.times("180p"), times);
    let apart = times.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(
        apart <= Some(22_500),
        "what is missing is filled: {apart:?}"
    );
    assert!(
        times.last() >= sent.iter().rev().nth(40),
        "it goes on to the end"
    );
    let sound = output.times("audio");
    assert!(sound.windows(2).all(|pair| pair[1] - pair[0] == 1_024));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_vanishes_stands_still_while_the_sound_goes_on() {
    let mut source = Source::make(
        &[&counted("320x180", "30", 9.0), "sine=r=48000:d=9"],
        &[X264, AAC].concat(),
    );
    let video = source.tracks[0].id;
    let gone =
        Timestamp::new(3 * 90_000, Timescale::VIDEO)..Timestamp::new(7 * 90_000, Timescale::VIDEO);
    source
        .units
        .retain(|unit| unit.track != video || !gone.contains(&unit.pts));
    let output = Output::paced(small(true), source.events()).await;
    let times = output.times("90p");
    let apart = times.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(apart <= Some(22_500), "{apart:?}");
    assert!(times.last() >= Some(&(8 * 90_000)));
    let sound = output.times("audio");
    assert!(sound.windows(2).all(|pair| pair[1] - pair[0] == 1_024));
    assert!(
        output.status.warnings[0].contains("pauses"),
        "{:?}",
        output.status.warnings
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_that_vanishes_becomes_silence() {
    for arguments in [AAC, &["-c:a", "aac", "-ac", "1", "-ar", "44100"]] {
        let mut source = Source::make(
            &[&counted("320x180", "30", 8.0), "sine=r=48000:d=8"],
            &[X264, arguments].concat(),
        );
        let audio = source.tracks[1].id;
        source.units.retain(|unit| {
            unit.track != audio || unit.pts < Timestamp::new(3, Timescale::new(1).expect("one"))
        });
        let output = Output::paced(small(true), source.events()).await;
        let sound = output.times("audio");
        assert!(
            sound.windows(2).all(|pair| pair[1] - pair[0] == 1_024),
            "{arguments:?}"
        );
        assert!(sound.last() >= Some(&(6 * 48_000)), "{:?}", sound.last());
        assert_eq!(output.times("90p"), source.times());
    }
}

/// Where beeps begin in a track of sound, in seconds of its media time.
fn beeps(samples: &[f32], start: f64) -> Vec<f64> {
    let mut quiet = 4_800;
    let mut found = Vec::new();
    for (index, sample) in samples.iter().enumerate() {
        if sample.abs() < 0.05 {
            quiet += 1;
        } else {
            if quiet > 2_400 {
                found.push(start + f64::from(u32::try_from(index).expect("short")) / 48_000.0);
            }
            quiet = 0;
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn converted_sound_keeps_its_place() {
    let beep =
        "aevalsrc=if(lt(mod(t\\,1)\\,0.1)*gt(t\\,0.5)\\,0.5*sin(880*2*PI*t)\\,0):s=44100:d=5";
    for arguments in [
        ["-ac", "1", "-ar", "44100"],
        ["-ac", "6", "-ar", "48000"],
        ["-ac", "2", "-ar", "32000"],
    ] {
        let arguments = [X264, &["-c:a", "aac"], &arguments].concat();
        let source = Source::make(&[&counted("320x180", "30", 5.0), beep], &arguments);
        let output = Output::of(small(true), source.events()).await;
        let audio = &source.tracks[1];
        let sent: Vec<_> = source
            .units
            .iter()
            .filter(|unit| unit.track == audio.id)
            .collect();
        let got = output.units("audio");
        let start =
            |unit: &media::AccessUnit| unit.pts.ticks() as f64 / f64::from(unit.pts.scale().hz());
        let expected = beeps(&samples(audio, sent.iter().copied()), start(sent[0]));
        let found = beeps(
            &samples(output.track("audio"), got.iter().copied()),
            start(got[0]),
        );
        assert_eq!(found.len(), 4, "{arguments:?}: {found:?}");
        for (found, expected) in found.iter().zip(&expected) {
            assert!(
                (found - expected).abs() < 0.004,
                "{arguments:?}: {found} for {expected}"
            );
        }
    }
}
