//! Broken, hostile and excessive media from a publisher that has a key (faults B19, B20).

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::common::{LIMIT, clip};
use crate::support::faults;
use crate::support::hls::PARTS;
use crate::support::net::Random;
use crate::support::publish::{Flv, Kind, Publisher, Tag};
use crate::support::server::{Setup, key_of};

/// What changes between the third and the sixth second; nothing before and after may suffer, nor the room beside.
async fn damaged(change: impl Fn(&mut Tag, &mut Random)) {
    let server = Setup::default().streams(&["room", "beside"]).start().await;
    let source = clip(12);
    let good = Flv::read(&source.flv());
    let mut bad = good.clone();
    let mut random = Random::new(7);
    let spoilt = Duration::from_secs(3)..Duration::from_secs(6);
    for tag in bad
        .tags
        .iter_mut()
        .filter(|tag| spoilt.contains(&tag.due) && !tag.is_config())
    {
        change(tag, &mut random);
    }
    let mut room = Publisher::connect(server.rtmp, &key_of("room"))
        .await
        .unwrap();
    let mut beside = Publisher::connect(server.rtmp, &key_of("beside"))
        .await
        .unwrap();
    let (room_player, beside_player) = (server.play("room", PARTS), server.play("beside", PARTS));
    let (room_sent, beside_sent) = tokio::join!(room.play(&bad), beside.play(&good));
    beside_sent.unwrap();
    assert_eq!(room_sent, Ok(()), "damaged media is no reason to hang up");
    room.close().await;
    beside.close().await;
    let recording = room_player.ended(LIMIT).await;
    let low = recording.named("240p");
    let view = recording.view(low);
    let seen = |from: u32, to: u32| {
        (from..to)
            .filter(|number| view.picture(*number).is_some())
            .count()
    };
    assert_eq!(seen(0, 80), 80, "before the damage: {}", view.report(1));
    // The rest of the GOP that the damage ended in, and the next one.
    assert!(
        seen(240, 360) >= 118,
        "after the damage: {}",
        view.report(1)
    );
    let recording = beside_player.ended(LIMIT).await;
    for rendition in recording.of_kind(crate::support::hls::Kind::Video) {
        recording
            .view(rendition)
            .report(1)
            .assert_clean(&rendition.path, 360);
    }
}

fn edit(tag: &mut Tag, change: impl FnOnce(&mut BytesMut)) {
    let mut data = BytesMut::from(&tag.data[..]);
    change(&mut data);
    tag.data = data.freeze();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bit_errors() {
    damaged(|tag, random| {
        edit(tag, |data| {
            // One byte in five hundred, behind the tag's own header.
            let hits = data.len() / 500 + 1;
            for _ in 0..hits.min(data.len().saturating_sub(16)) {
                let place = 16 + usize::try_from(random.next()).unwrap() % (data.len() - 16);
                data[place] ^= 1 << (random.next() % 8);
            }
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn units_that_are_cut() {
    damaged(|tag, random| {
        let keep = 6 + usize::try_from(random.next()).unwrap() % tag.data.len();
        tag.data.truncate(keep);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn junk_instead_of_pictures() {
    damaged(|tag, random| {
        if tag.kind == Kind::Video {
            edit(tag, |data| {
                data.iter_mut()
                    .skip(5)
                    .for_each(|byte| *byte = random.next().to_le_bytes()[0])
            });
        }
    })
    .await;
}

/// Without its configuration the sound cannot be decoded; the pictures can.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sound_without_its_configuration() {
    let mut flv = Flv::read(&clip(8).flv());
    flv.tags
        .retain(|tag| !(tag.kind == Kind::Audio && tag.is_config()));
    let (_server, recording) = crate::common::publish(&flv).await;
    for rendition in recording.of_kind(crate::support::hls::Kind::Video) {
        recording
            .view(rendition)
            .report(1)
            .assert_clean(&rendition.path, 230);
    }
}

/// B20: ten times real time for twenty seconds of media. Pictures may be left out to catch up; memory stays bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_burst_of_ten_times_real_time() {
    let server = Setup::default().start().await;
    let before = faults::used(server.id()).resident_kib;
    let mut publisher = Publisher::connect(server.rtmp, &key_of("room"))
        .await
        .unwrap();
    let player = server.play("room", PARTS);
    let clip = Flv::read(&clip(20).flv());
    publisher.play_at(&clip, 10).await.unwrap();
    publisher.close().await;
    let recording = player.ended(LIMIT).await;
    let grown = faults::used(server.id())
        .resident_kib
        .saturating_sub(before);
    assert!(
        grown < 128 << 10,
        "{grown} KiB more after a burst of a few megabytes"
    );
    let low = recording.named("240p");
    let report = recording.view(low).report(1);
    assert!(
        report.repeated.is_empty() && report.reordered.is_empty(),
        "{report}"
    );
    // The end is there, whatever was left out to get to it.
    assert!(report.last >= 570, "{report}");
}

/// B20: pictures of eight megabytes, over the size that a message may have.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_picture_too_large_for_any_message() {
    let server = Setup::default().start().await;
    let before = faults::used(server.id()).resident_kib;
    let mut publisher = Publisher::connect(server.rtmp, &key_of("room"))
        .await
        .unwrap();
    let clip = Flv::read(&clip(4).flv());
    publisher.play_at(&clip, 2).await.unwrap();
    let keyframe = clip
        .tags
        .iter()
        .find(|tag| tag.is_keyframe())
        .expect("a keyframe");
    let data = Bytes::from([&keyframe.data[..5], &vec![0; 12 << 20]].concat());
    let huge = Tag {
        timestamp: 4_000,
        data,
        ..keyframe.clone()
    };
    let sent = publisher.send(&huge).await;
    assert!(
        sent.is_err() || publisher.ended(Duration::from_secs(10)).await.is_some(),
        "twelve megabytes were taken"
    );
    let grown = faults::used(server.id())
        .resident_kib
        .saturating_sub(before);
    assert!(grown < 96 << 10, "{grown} KiB more");
    // The next one is welcome at once.
    let next = crate::common::publish_to(&server, "room", &clip).await;
    next.view(next.named("240p"))
        .report(1)
        .assert_clean("the next", 110);
}
