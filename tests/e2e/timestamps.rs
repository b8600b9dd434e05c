//! Clocks that wrap, jump, stand still or run apart (faults B6, B7, B13 to B15).

use std::time::Duration;

use crate::common::{
    LIMIT, OFFSET_MS, PICTURE, assert_durations, assert_whole, clip, discontinuities, publish,
};
use crate::support::hls::{Kind, PARTS, Recording};
use crate::support::ledger::{Codec, Picture, Source, offsets};
use crate::support::publish::{Flv, Kind as TagKind, Publisher};
use crate::support::server::{Setup, key_of};

const SECONDS: u32 = 8;

/// A wrap four seconds in: nothing is lost and nobody notices.
async fn wraps(source: Source, start: u32, mask: u32) {
    let mut flv = Flv::read(&source.flv()).starting_at(start);
    for tag in &mut flv.tags {
        tag.timestamp &= mask;
    }
    let (_server, recording) = publish(&flv).await;
    assert_whole(&recording, &source, 2);
    assert_eq!(discontinuities(&recording), 0);
    let sound = recording.sound(recording.of_kind(Kind::Sound).next().expect("sound"));
    let video = recording.of_kind(Kind::Video).next().expect("pictures");
    let offsets = offsets(&recording.view(video), &sound, source.picture);
    // The first second may still find its place.
    let (least, most) = offsets[1..]
        .iter()
        .fold((f64::MAX, f64::MIN), |(least, most), offset| {
            (least.min(*offset), most.max(*offset))
        });
    // The tones are heard to a millisecond, FLV counts in milliseconds.
    assert!(
        most - least <= 2.5,
        "the sound moved against the pictures: {offsets:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_24_bit_wrap() {
    wraps(clip(SECONDS), 0x00ff_ffff - 4000, u32::MAX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_31_bit_wrap_of_ffmpeg() {
    wraps(
        Source {
            codec: Codec::H264 { b_frames: 2 },
            ..clip(SECONDS)
        },
        0x7fff_ffff - 4000,
        0x7fff_ffff,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_32_bit_wrap() {
    wraps(
        Source {
            codec: Codec::H264 { b_frames: 2 },
            ..clip(SECONDS)
        },
        u32::MAX - 4000,
        u32::MAX,
    )
    .await;
}

/// The clock jumps by this many milliseconds after four seconds.
async fn jumps(by: i32) -> Recording {
    let source = clip(10);
    let mut flv = Flv::read(&source.flv()).starting_at(7_200_000);
    for tag in flv
        .tags
        .iter_mut()
        .filter(|tag| tag.due >= Duration::from_secs(4))
    {
        tag.timestamp = tag.timestamp.wrapping_add_signed(by);
    }
    let (server, recording) = publish(&flv).await;
    assert_durations(&recording);
    for rendition in recording.of_kind(Kind::Video) {
        let view = recording.view(rendition);
        let report = view.report(1);
        assert!(
            report.repeated.is_empty()
                && report.reordered.is_empty()
                && report.unreadable.is_empty(),
            "{report}"
        );
        assert!(
            report.lost.len() <= 2 * 30,
            "{}: more than two GOPs: {report}",
            rendition.path
        );
        assert_eq!((report.first, report.last), (0, 299), "{report}");
        let span = view
            .pictures
            .last()
            .zip(view.pictures.first())
            .map_or(0.0, |(last, first)| last.at - first.at);
        assert!((span - 9.97).abs() < 1.0, "ten seconds became {span} s");
    }
    assert!(
        server.metric("headwater_timeline_repairs_total").await > 0.0,
        "nothing was counted"
    );
    recording
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_hour_forward() {
    assert_eq!(discontinuities(&jumps(3_600_000).await), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_hour_back() {
    assert_eq!(discontinuities(&jumps(-3_600_000).await), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_seconds_back() {
    assert_eq!(discontinuities(&jumps(-10_000).await), 1);
}

/// A little jitter is no jump.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn repeated_and_trembling_times() {
    let source = clip(SECONDS);
    let mut flv = Flv::read(&source.flv());
    let pictures = flv
        .tags
        .iter_mut()
        .filter(|tag| tag.kind == TagKind::Video && !tag.is_config());
    for (number, tag) in pictures.enumerate() {
        tag.timestamp = tag
            .timestamp
            .saturating_sub(u32::try_from(number % 4).unwrap());
    }
    let (_server, recording) = publish(&flv).await;
    assert_eq!(discontinuities(&recording), 0);
    for rendition in recording.of_kind(Kind::Video) {
        recording
            .view(rendition)
            .report(1)
            .assert_clean(&rendition.path, 230);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_varying_frame_rate() {
    // Four of five pictures in one second, one of three in the next.
    let filter = ",select='if(mod(floor(t),2),not(mod(n,3)),mod(n,5))'";
    let source = Source {
        filter,
        more: &["-fps_mode", "passthrough", "-enc_time_base", "-1"],
        ..clip(SECONDS)
    };
    let (_server, recording) = publish(&Flv::read(&source.flv())).await;
    assert_durations(&recording);
    let expected = crate::support::ledger::View::of(&source.flv());
    for rendition in recording.of_kind(Kind::Video) {
        let view = recording.view(rendition);
        let numbers = |view: &crate::support::ledger::View| {
            view.pictures
                .iter()
                .map(|seen| seen.number)
                .collect::<Vec<_>>()
        };
        assert_eq!(numbers(&view), numbers(&expected), "{}", rendition.path);
        assert!(
            view.pace_error_ms(PICTURE) <= 1.5,
            "{}",
            view.pace_error_ms(PICTURE)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_picture_a_second() {
    let source = Source::new(Picture::new(640, 360, 1), 14);
    let (_server, recording) = publish(&Flv::read(&source.flv())).await;
    assert_durations(&recording);
    for rendition in recording.of_kind(Kind::Video) {
        // A picture may be shown again to fill a part, but none is lost.
        let report = recording.view(rendition).report(1);
        let whole =
            report.lost.is_empty() && report.reordered.is_empty() && report.unreadable.is_empty();
        assert!(
            whole && report.first == 0 && report.last >= 12,
            "{}: {report}",
            rendition.path
        );
    }
}

/// Below 720p the rungs have half the pictures of a source of 60 a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_pictures_a_second_are_halved_below_720p() {
    let source = Source::new(Picture::new(640, 360, 60), SECONDS);
    let (_server, recording) = publish(&Flv::read(&source.flv())).await;
    let low = recording.named("240p");
    recording.view(low).report(2).assert_clean(&low.path, 230);
}

/// One kind alone plays.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pictures_without_sound() {
    let source = Source {
        sound: &[],
        ..clip(SECONDS)
    };
    let (_server, recording) = publish(&Flv::read(&source.flv())).await;
    assert_eq!(recording.of_kind(Kind::Sound).count(), 0);
    assert_whole(&recording, &source, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sound_without_pictures() {
    let (_server, recording) =
        publish(&Flv::read(&clip(SECONDS).flv()).without(TagKind::Video)).await;
    assert_durations(&recording);
    let rendition = recording.played().next().expect("a rendition");
    let sound = recording.sound(rendition);
    assert_eq!((sound.tones.len(), sound.breaks.len()), (8, 0), "{sound:?}");
}

/// B14: the sound vanishes for three seconds, or comes late: the pictures do not wait and nothing breaks.
async fn sound_of(keep: impl Fn(Duration) -> bool) -> Recording {
    let source = clip(12);
    let mut flv = Flv::read(&source.flv());
    flv.tags
        .retain(|tag| tag.kind != TagKind::Audio || tag.is_config() || keep(tag.due));
    let (_server, recording) = publish(&flv).await;
    assert_durations(&recording);
    assert!(discontinuities(&recording) <= 1);
    for rendition in recording.of_kind(Kind::Video) {
        recording
            .view(rendition)
            .report(1)
            .assert_clean(&rendition.path, 360);
    }
    recording
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sound_that_pauses() {
    let away = Duration::from_secs(4)..Duration::from_secs(7);
    let recording = sound_of(|due| !away.contains(&due)).await;
    let sound = recording.sound(recording.of_kind(Kind::Sound).next().expect("sound"));
    let video = recording.of_kind(Kind::Video).next().expect("pictures");
    let offsets = offsets(&recording.view(video), &sound, PICTURE);
    assert!(
        offsets.len() >= 8 && offsets.iter().all(|offset| offset.abs() <= OFFSET_MS),
        "{offsets:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sound_that_comes_late() {
    let recording = sound_of(|due| due > Duration::from_secs(5)).await;
    let sound = recording
        .of_kind(Kind::Sound)
        .next()
        .expect("sound, in the end");
    assert!(recording.sound(sound).tones.len() >= 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sound_that_ends() {
    sound_of(|due| due < Duration::from_secs(5)).await;
}

/// B15: the encoder sends the sound of each moment seconds after its picture; both arrive in step.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_interleave_of_three_seconds() {
    let source = clip(12);
    let mut flv = Flv::read(&source.flv());
    for tag in flv
        .tags
        .iter_mut()
        .filter(|tag| tag.kind == TagKind::Audio && !tag.is_config())
    {
        tag.due += Duration::from_secs(3);
    }
    flv.tags.sort_by_key(|tag| tag.due);
    let (_server, recording) = publish(&flv).await;
    assert_durations(&recording);
    for rendition in recording.of_kind(Kind::Video) {
        recording
            .view(rendition)
            .report(1)
            .assert_clean(&rendition.path, 350);
    }
    let sound = recording.sound(recording.of_kind(Kind::Sound).next().expect("sound"));
    let video = recording.of_kind(Kind::Video).next().expect("pictures");
    let offsets = offsets(&recording.view(video), &sound, PICTURE);
    assert!(
        offsets.len() >= 6 && offsets.iter().all(|offset| offset.abs() <= OFFSET_MS),
        "{offsets:?}"
    );
}

/// B15: sound whose clock is three seconds ahead of the pictures'.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_offset_of_three_seconds_stalls_nobody() {
    let source = clip(12);
    let mut flv = Flv::read(&source.flv());
    for tag in flv
        .tags
        .iter_mut()
        .filter(|tag| tag.kind == TagKind::Audio && !tag.is_config())
    {
        tag.timestamp += 3_000;
    }
    let server = Setup::default().start().await;
    let mut publisher = Publisher::connect(server.rtmp, &key_of("room"))
        .await
        .unwrap();
    let player = server.play("room", PARTS);
    publisher.play(&flv).await.unwrap();
    publisher.close().await;
    let recording = player.ended(LIMIT).await;
    assert_durations(&recording);
    for rendition in recording.of_kind(Kind::Video) {
        recording
            .view(rendition)
            .report(1)
            .assert_clean(&rendition.path, 350);
        let (pause, _) = rendition.longest_pause();
        assert!(
            pause < Duration::from_secs(3),
            "{} stood still for {pause:?}",
            rendition.path
        );
    }
}
