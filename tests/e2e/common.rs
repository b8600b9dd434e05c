//! What several stories do.

use std::time::Duration;

use crate::support::hls::{Kind, PARTS, Recording, Rendition};
use crate::support::ledger::{Picture, Source, offsets};
use crate::support::publish::{Flv, Publisher};
use crate::support::server::{Server, Setup, key_of};

/// For whatever should be over long before.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// A source of two rungs that costs little: the encoder's own pictures, and 240p.
pub(crate) const PICTURE: Picture = Picture::new(640, 360, 30);
/// The most that sound and picture may be apart.
pub(crate) const OFFSET_MS: f64 = 20.0;
/// What the millisecond clock of RTMP may do to the distance of two pictures.
const PACE_MS: f64 = 1.5;

/// The clip of most stories.
pub(crate) fn clip(seconds: u32) -> Source {
    Source::new(PICTURE, seconds)
}

/// Publishes tags to a fresh server as they are due, and watches to the end.
pub(crate) async fn publish(flv: &Flv) -> (Server, Recording) {
    let server = Setup::default().start().await;
    let recording = publish_to(&server, "room", flv).await;
    (server, recording)
}

/// The same to a server that runs.
pub(crate) async fn publish_to(server: &Server, stream: &str, flv: &Flv) -> Recording {
    // Whoever published before may still be on the way out.
    let soon = Duration::from_millis(2_500);
    let mut publisher = Publisher::connect_again(server.rtmp, &key_of(stream), soon)
        .await
        .unwrap();
    let player = server.play(stream, PARTS);
    publisher.play(flv).await.unwrap();
    publisher.close().await;
    player.ended(LIMIT).await
}

/// Every rung shows every picture that was sent, and the sound is in step with them.
pub(crate) fn assert_whole(recording: &Recording, source: &Source, rungs: usize) {
    assert_whole_within(recording, source, rungs, OFFSET_MS);
}

/// The same for an encoder that is itself out of step.
pub(crate) fn assert_whole_within(
    recording: &Recording,
    source: &Source,
    rungs: usize,
    offset_ms: f64,
) {
    assert_eq!(
        recording.of_kind(Kind::Video).count(),
        rungs,
        "{:?}",
        recording.renditions.keys()
    );
    let seconds = (source.pictures / source.picture.flash_every()) as usize;
    let sound = recording
        .of_kind(Kind::Sound)
        .next()
        .map(|rendition| recording.sound(rendition));
    let mut wrong = Vec::new();
    for rendition in recording.of_kind(Kind::Video) {
        let view = recording.view(rendition);
        let (report, pace) = (view.report(1), view.pace_error_ms(source.picture));
        let whole = report.is_clean()
            && (report.first, report.last) == (source.first, source.first + source.pictures - 1);
        if !whole || pace > PACE_MS {
            wrong.push(format!(
                "{}: {report}; {pace} ms out of pace",
                rendition.path
            ));
        }
        if let Some(sound) = &sound {
            let offsets = offsets(&view, sound, source.picture);
            // The last tone may lie behind the last whole frame of sound.
            if offsets.len() + 1 < seconds || offsets.iter().any(|offset| offset.abs() > offset_ms)
            {
                wrong.push(format!(
                    "{}: sound is later by {offsets:?} ms",
                    rendition.path
                ));
            }
        }
    }
    let breaks = sound.map_or_else(Vec::new, |sound| sound.breaks);
    if !breaks.is_empty() {
        wrong.push(format!("the sound breaks at {breaks:?}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How many discontinuities the renditions show: in the same places, as far as they are all there.
pub(crate) fn discontinuities(recording: &Recording) -> usize {
    let places = |rendition: &Rendition| -> Vec<u64> {
        let marked = rendition.timeline().filter(|segment| segment.discontinuity);
        marked.map(|segment| segment.number).collect()
    };
    let first = |rendition: &Rendition| rendition.timeline().next().map(|segment| segment.number);
    let all: Vec<Vec<u64>> = recording.played().map(places).collect();
    // A rendition that joins has no discontinuity before its first segment.
    let together = recording.played().filter_map(first).max().unwrap_or(0);
    let common = |places: &Vec<u64>| -> Vec<u64> {
        let later = places.iter().filter(|number| **number > together);
        later.copied().collect()
    };
    assert!(
        all.windows(2)
            .all(|pair| common(&pair[0]) == common(&pair[1])),
        "discontinuities by rendition: {all:?}"
    );
    all.iter().map(Vec::len).max().unwrap_or(0)
}

/// No segment is longer than the target allows, and none has a part that is.
pub(crate) fn assert_durations(recording: &Recording) {
    for rendition in recording.played() {
        for segment in rendition.timeline() {
            assert!(
                segment.duration <= 2.5,
                "{} segment {} lasts {} s",
                rendition.path,
                segment.number,
                segment.duration
            );
            let part = segment
                .parts
                .iter()
                .map(|part| part.duration)
                .fold(0.0, f64::max);
            assert!(
                part <= 1.1,
                "{} segment {} has a part of {part} s",
                rendition.path,
                segment.number
            );
        }
    }
}
