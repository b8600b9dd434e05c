//! The ledger judges everything else, so it is judged first.

use std::path::PathBuf;

use super::*;
use crate::support::program::{ffmpeg, run};
use crate::support::tools;

const PICTURE: Picture = Picture::new(640, 360, 30);

fn clip() -> Source {
    Source::new(PICTURE, 6)
}

/// The clip run once more through ffmpeg.
fn changed(name: &str, arguments: &[&str]) -> PathBuf {
    let source = clip().flv();
    tools::kept(name, |path| {
        run(ffmpeg()
            .arg("-i")
            .arg(&source)
            .args(arguments)
            .args(["-f", "mp4"])
            .arg(path));
    })
}

fn filtered(name: &str, filter: &str) -> Report {
    let x264 = [
        "-fps_mode",
        "passthrough",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-bf",
        "0",
    ];
    let file = changed(name, &[&["-an", "-vf", filter][..], &x264].concat());
    View::of(&file).report(1)
}

#[test]
fn a_whole_clip_is_clean() {
    let view = View::of(&clip().flv());
    let report = view.report(1);
    report.assert_clean("as encoded", 180);
    assert_eq!((report.first, report.last, report.shown), (0, 179, 180));
    // FLV counts in milliseconds.
    assert!(
        view.pace_error_ms(PICTURE) <= 1.0,
        "{}",
        view.pace_error_ms(PICTURE)
    );
    let flashes = view
        .pictures
        .iter()
        .filter(|seen| seen.flash)
        .filter_map(|seen| seen.number);
    let expected =
        (0..6).flat_map(|second| (0..FLASH_PICTURES).map(move |picture| 30 * second + picture));
    assert!(flashes.eq(expected));
    assert_eq!(view.complaints, "");
}

#[test]
fn a_lost_picture_is_found() {
    let report = filtered("ledger-lost.mp4", "select='not(between(n,70,72))'");
    assert_eq!(
        (report.lost, report.repeated, report.reordered),
        (vec![70, 71, 72], vec![], vec![])
    );
}

#[test]
fn a_repeated_picture_is_found() {
    let report = filtered("ledger-repeated.mp4", "loop=loop=1:size=1:start=51");
    assert_eq!(
        (report.lost, report.repeated, report.reordered),
        (vec![], vec![50], vec![])
    );
}

#[test]
fn exchanged_pictures_are_found() {
    let report = filtered("ledger-reordered.mp4", "shuffleframes=0 1 2 4 3 5");
    assert_eq!(report.lost, Vec::<u32>::new());
    let expected: Vec<u32> = (0..30).map(|group| 6 * group + 3).collect();
    assert_eq!(report.reordered, expected);
}

#[test]
fn a_blend_of_two_pictures_is_unreadable_and_not_a_third() {
    let report = filtered("ledger-blend.mp4", "tblend=all_mode=average");
    assert!(report.unreadable.len() > 150, "{report}");
    assert_eq!((report.repeated, report.reordered), (vec![], vec![]));
}

#[test]
fn every_second_picture_is_a_clean_half_rate() {
    let half = [
        "-vf",
        "select='not(mod(n,2))'",
        "-fps_mode",
        "passthrough",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
    ];
    let view = View::of(&changed("ledger-half.mp4", &half));
    assert!(!view.report(1).is_clean());
    view.report(2).assert_clean("half the rate", 90);
}

#[test]
fn the_numbers_survive_240p_at_150_kbit_a_second() {
    let low = [
        "-s",
        "426x240",
        "-fps_mode",
        "passthrough",
        "-c:v",
        "libx264",
        "-preset",
        "superfast",
        "-g",
        "60",
    ];
    let rate = [
        "-b:v", "150k", "-maxrate", "150k", "-bufsize", "150k", "-bf", "0", "-c:a", "copy",
    ];
    let file = changed("ledger-240p.mp4", &[&low[..], &rate].concat());
    let view = View::of(&file);
    view.report(1).assert_clean("240p", 180);
    let found = offsets(&view, &Sound::of(&file), PICTURE);
    assert_eq!(found.len(), 6, "{found:?}");
}

#[test]
fn tones_are_heard_where_they_are() {
    let sound = Sound::of(&clip().flv());
    assert_eq!(
        sound
            .tones
            .iter()
            .map(|tone| tone.which)
            .collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5]
    );
    for (pair, second) in sound.tones.windows(2).zip(1..) {
        let step = pair[1].at - pair[0].at;
        assert!((step - 1.0).abs() < 0.002, "second {second}: {step}");
    }
    let found = offsets(&View::of(&clip().flv()), &sound, PICTURE);
    assert_eq!(found.len(), 6);
    // ffmpeg's FLV keeps pictures and sound together but for its millisecond clock.
    assert!(found.iter().all(|offset| offset.abs() < 5.0), "{found:?}");
}

/// Sound that is late by a known time, up to more than the tones' own distance.
#[test]
fn an_offset_is_measured_to_five_milliseconds() {
    for late_ms in [-120_i32, 40, 1_500, 3_000] {
        let source = clip().flv();
        let late = format!("{}", f64::from(late_ms) / 1000.0);
        let file = tools::kept(&format!("ledger-late-{late_ms}.mp4"), |path| {
            let mut command = ffmpeg();
            command
                .arg("-i")
                .arg(&source)
                .args(["-itsoffset", &late, "-i"])
                .arg(&source);
            run(command
                .args(["-map", "0:v", "-map", "1:a", "-c", "copy", "-f", "mp4"])
                .arg(path));
        });
        let found = offsets(&View::of(&file), &Sound::of(&file), PICTURE);
        assert!(found.len() >= 2, "{found:?}");
        let wrong = |offset: &&f64| (**offset - f64::from(late_ms)).abs() >= 5.0;
        assert_eq!(
            found.iter().find(wrong),
            None,
            "{late_ms} ms late: {found:?}"
        );
    }
}

#[test]
fn missing_sound_is_a_break() {
    let cut = [
        "-vn",
        "-af",
        "aselect='not(between(n,100,120))'",
        "-c:a",
        "aac",
    ];
    let sound = Sound::of(&changed("ledger-cut.mp4", &cut));
    assert!(
        sound.breaks.iter().any(|(_, jump)| *jump > 0.3),
        "{:?}",
        sound.breaks
    );
}

#[test]
fn b_frames_keep_their_order() {
    let source = Source {
        codec: Codec::H264 { b_frames: 2 },
        ..clip()
    };
    View::of(&source.flv())
        .report(1)
        .assert_clean("two B-frames", 180);
}

#[test]
fn hevc_and_av1_clips_can_be_read() {
    let picture = Picture::new(320, 180, 30);
    for codec in [Codec::H265, Codec::Av1] {
        let source = Source {
            codec,
            ..Source::new(picture, 2)
        };
        // Debian's ffmpeg does not know enhanced FLV.
        View::of(&source.file("mp4"))
            .report(1)
            .assert_clean(&format!("{codec:?}"), 60);
    }
}
