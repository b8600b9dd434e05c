//! The source becomes another one in the middle (faults B8 to B12).

use std::time::Duration;

use crate::common::{PICTURE, assert_durations, assert_whole, clip, discontinuities, publish};
use crate::support::hls::{Kind, Recording};
use crate::support::ledger::{Codec, Picture, Source};
use crate::support::publish::{Flv, Kind as TagKind};

/// One source after another on one connection: one discontinuity each, at most a GOP lost, the rung goes on.
async fn follow(sources: &[Source]) -> Recording {
    let clips = sources.iter().map(|source| Flv::read(&source.flv()));
    let flv = clips.reduce(Flv::then).expect("a source");
    let (_server, recording) = publish(&flv).await;
    assert_durations(&recording);
    let low = recording.named("240p");
    let report = recording.view(low).report(1);
    assert!(
        report.repeated.is_empty() && report.reordered.is_empty() && report.unreadable.is_empty(),
        "{report}"
    );
    let changes = sources.len() - 1;
    assert!(
        report.lost.len() <= changes * 30,
        "more than a GOP at a change: {report}"
    );
    let last = sources
        .last()
        .map_or(0, |source| source.first + source.pictures - 1);
    assert_eq!((report.first, report.last), (0, last), "{report}");
    let (pause, at) = low.longest_pause();
    assert!(
        pause < Duration::from_secs(4),
        "stood still for {pause:?} at {at:?}"
    );
    recording
}

fn part(number: u32, source: Source) -> Source {
    let every = source.picture.flash_every();
    Source {
        first: number * 5 * every,
        pictures: 5 * every,
        ..source
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn another_size_and_back() {
    let sources = [
        part(0, clip(5)),
        part(1, Source::new(Picture::new(960, 540, 30), 5)),
        part(2, clip(5)),
    ];
    let recording = follow(&sources).await;
    assert_eq!(discontinuities(&recording), 2);
    for rendition in recording.of_kind(Kind::Video) {
        let sizes: Vec<_> = rendition
            .inits
            .values()
            .filter_map(|init| init.size())
            .collect();
        assert!(
            sizes.windows(2).all(|pair| pair[0] == pair[1]) || rendition.inits.len() > 1,
            "{sizes:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn h264_becomes_hevc() {
    let sources = [
        part(0, clip(5)),
        part(
            1,
            Source {
                codec: Codec::H265,
                ..clip(5)
            },
        ),
    ];
    assert_eq!(discontinuities(&follow(&sources).await), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stereo_becomes_mono_of_another_rate() {
    let mono = &["-c:a", "aac", "-b:a", "64k", "-ac", "1", "-ar", "44100"];
    let recording = follow(&[
        part(0, clip(5)),
        part(
            1,
            Source {
                sound: mono,
                ..clip(5)
            },
        ),
    ])
    .await;
    assert!(discontinuities(&recording) <= 1);
    let sound = recording.sound(recording.of_kind(Kind::Sound).next().expect("sound"));
    assert!(sound.tones.len() >= 8, "{:?}", sound.tones);
}

/// B10: parameter sets that come again and again change nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_configuration_again_and_again() {
    let source = clip(10);
    let flv = Flv::read(&source.flv());
    let config = flv
        .tags
        .iter()
        .find(|tag| tag.kind == TagKind::Video && tag.is_config())
        .expect("a configuration")
        .clone();
    let mut tags = Vec::new();
    for tag in flv.tags {
        if tag.is_keyframe() {
            let (due, timestamp) = (tag.due, tag.timestamp);
            tags.push(crate::support::publish::Tag {
                due,
                timestamp,
                ..config.clone()
            });
        }
        tags.push(tag);
    }
    let (_server, recording) = publish(&Flv { tags }).await;
    assert_whole(&recording, &source, 2);
    assert_eq!(discontinuities(&recording), 0);
    for rendition in recording.played() {
        assert_eq!(rendition.inits.len(), 1, "{}", rendition.path);
    }
}

/// B11: the ladder has keyframes where it wants them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_keyframe_and_no_more() {
    let source = Source {
        gop: 9999,
        ..clip(12)
    };
    let (_server, recording) = publish(&Flv::read(&source.flv())).await;
    assert_durations(&recording);
    let low = recording.named("240p");
    recording.view(low).report(1).assert_clean(&low.path, 360);
}

/// B12.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn open_gops_with_three_b_frames() {
    let more = &["-x264-params", "open-gop=1:b-adapt=0"];
    let source = Source {
        codec: Codec::H264 { b_frames: 3 },
        more,
        ..Source::new(PICTURE, 10)
    };
    let (_server, recording) = publish(&Flv::read(&source.flv())).await;
    assert_durations(&recording);
    assert_whole(&recording, &source, 2);
}
