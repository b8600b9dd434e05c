use bytes::Bytes;
use media::{AccessUnit, Audio, Codec, Timescale, Timestamp, Track, bitstream::aac};
use tokio::time::Instant;

use super::*;

const VIDEO: TrackId = TrackId(0);
const SOUND: TrackId = TrackId(1);
const PLACES: usize = 16;

/// Only the format matters here, so both tracks say AAC.
fn tracks() -> Event {
    let config = aac::Config::lc(48_000, 2).unwrap();
    let video = media::Video {
        width: 16,
        height: 16,
        sample_aspect: media::Rational::ONE,
        frame_rate: None,
    };
    let audio = Audio {
        sample_rate: 48_000,
        channels: 2,
    };
    let track = |id, name: &str, format| Track {
        id,
        name: name.parse().unwrap(),
        codec: Codec::Aac(config.clone()),
        format,
        timescale: Timescale::VIDEO,
        bandwidth: None,
    };
    let both = [
        track(VIDEO, "video", Format::Video(video)),
        track(SOUND, "audio", Format::Audio(audio)),
    ];
    Event::Tracks(Tracks::from(both))
}

fn unit(track: TrackId, n: i64, keyframe: bool, bytes: usize) -> Event {
    let at = Timestamp::new(n, Timescale::VIDEO);
    let data = Bytes::from(vec![0; bytes]);
    Event::Unit(AccessUnit {
        track,
        dts: at,
        pts: at,
        duration: 0,
        keyframe,
        data,
    })
}

fn numbers(receiver: &mut mpsc::Receiver<Event>) -> Vec<String> {
    let mut seen = Vec::new();
    while let Ok(event) = receiver.try_recv() {
        seen.push(match event {
            Event::Unit(unit) => unit.dts.ticks().to_string(),
            Event::Tracks(_) => "tracks".to_owned(),
            Event::Gap(gap) => gap.as_str().to_owned(),
            Event::End => "end".to_owned(),
            Event::Segment(_) => "segment".to_owned(),
        });
    }
    seen
}

fn queue() -> (Queue, mpsc::Receiver<Event>) {
    let (sender, receiver) = mpsc::channel(PLACES);
    (Queue::new(sender), receiver)
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_makes_the_encoder_wait() {
    let (mut queue, mut receiver) = queue();
    queue.push(tracks()).await.unwrap();
    for n in 1..PLACES {
        queue
            .push(unit(VIDEO, i64::try_from(n).unwrap(), true, 1))
            .await
            .unwrap();
    }
    let reader = async {
        tokio::time::sleep(STALL_MAX - Duration::from_millis(1)).await;
        receiver.recv().await
    };
    let (pushed, _) = tokio::join!(queue.push(unit(VIDEO, 99, false, 1)), reader);
    pushed.unwrap();
    assert_eq!(queue.dropped(), 0);
    assert_eq!(numbers(&mut receiver).last().unwrap(), "99");
}

#[tokio::test(start_paused = true)]
async fn after_two_seconds_whole_groups_of_pictures_are_dropped() {
    let (mut queue, mut receiver) = queue();
    queue.push(tracks()).await.unwrap();
    for n in 1..PLACES {
        queue
            .push(unit(VIDEO, i64::try_from(n).unwrap(), n == 1, 1))
            .await
            .unwrap();
    }
    let start = Instant::now();
    queue.push(unit(VIDEO, 100, false, 1)).await.unwrap();
    assert_eq!(start.elapsed(), STALL_MAX);
    // From now on nothing waits: keyframes too are dropped while the reader stands still.
    for (n, track, keyframe) in [(101, SOUND, true), (102, VIDEO, true), (103, VIDEO, false)] {
        queue.push(unit(track, n, keyframe, 1)).await.unwrap();
    }
    queue.push(Event::Gap(Gap::Jump)).await.unwrap();
    assert_eq!(start.elapsed(), STALL_MAX);
    let before = numbers(&mut receiver);
    assert_eq!(before.len(), PLACES);
    // The reader is back, but the pictures that follow lean on what was dropped.
    for (n, track, keyframe) in [
        (104, VIDEO, false),
        (105, SOUND, true),
        (106, VIDEO, true),
        (107, SOUND, true),
    ] {
        queue.push(unit(track, n, keyframe, 1)).await.unwrap();
    }
    assert_eq!(numbers(&mut receiver), ["dropped", "106", "107"]);
    assert_eq!(queue.dropped(), 6);
}

#[tokio::test(start_paused = true)]
async fn tracks_that_change_meanwhile_come_before_the_media_goes_on() {
    let (mut queue, mut receiver) = queue();
    queue.push(tracks()).await.unwrap();
    for n in 1..=PLACES {
        queue
            .push(unit(VIDEO, i64::try_from(n).unwrap(), true, 1))
            .await
            .unwrap();
    }
    queue.push(tracks()).await.unwrap();
    numbers(&mut receiver);
    queue.push(unit(VIDEO, 50, true, 1)).await.unwrap();
    assert_eq!(numbers(&mut receiver), ["tracks", "dropped", "50"]);
}

#[tokio::test(start_paused = true)]
async fn bytes_are_bounded_as_places_are() {
    let (mut queue, mut receiver) = queue();
    let megabytes = |n: usize| n * 1024 * 1024;
    queue.push(tracks()).await.unwrap();
    queue
        .push(unit(VIDEO, 1, true, megabytes(8)))
        .await
        .unwrap();
    queue
        .push(unit(VIDEO, 2, false, megabytes(4)))
        .await
        .unwrap();
    // Full to the byte. One more waits until the reader has taken the first.
    let reader = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        (receiver.recv().await, receiver.recv().await)
    };
    let (pushed, _) = tokio::join!(queue.push(unit(VIDEO, 3, false, megabytes(8))), reader);
    pushed.unwrap();
    assert_eq!(queue.dropped(), 0);
    let start = Instant::now();
    queue.push(unit(VIDEO, 4, false, 1)).await.unwrap();
    assert_eq!((start.elapsed(), queue.dropped()), (STALL_MAX, 1));
    assert_eq!(numbers(&mut receiver), ["2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_unit_larger_than_the_bound_waits_alone() {
    let (mut queue, mut receiver) = queue();
    queue.push(tracks()).await.unwrap();
    queue.push(unit(VIDEO, 1, true, 1)).await.unwrap();
    let large = unit(VIDEO, 2, true, BYTES_MAX + 1);
    let reader = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        (receiver.recv().await, receiver.recv().await)
    };
    let (pushed, _) = tokio::join!(queue.push(large), reader);
    pushed.unwrap();
    assert_eq!(
        (numbers(&mut receiver), queue.dropped()),
        (vec!["2".to_owned()], 0)
    );
}

#[tokio::test(start_paused = true)]
async fn sound_alone_goes_on_with_any_unit() {
    let (mut queue, mut receiver) = queue();
    let Event::Tracks(both) = tracks() else {
        unreachable!()
    };
    queue
        .push(Event::Tracks(Tracks::from(&both[1..])))
        .await
        .unwrap();
    for n in 1..=PLACES {
        queue
            .push(unit(SOUND, i64::try_from(n).unwrap(), true, 1))
            .await
            .unwrap();
    }
    numbers(&mut receiver);
    queue.push(unit(SOUND, 50, true, 1)).await.unwrap();
    assert_eq!(numbers(&mut receiver), ["dropped", "50"]);
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_its_two_seconds_and_no_longer() {
    let (mut queue, mut receiver) = queue();
    for n in 0..PLACES {
        queue
            .push(unit(SOUND, i64::try_from(n).unwrap(), true, 1))
            .await
            .unwrap();
    }
    let start = Instant::now();
    queue.push(Event::End).await.unwrap();
    assert_eq!(start.elapsed(), STALL_MAX);
    receiver.recv().await.unwrap();
    queue.push(Event::End).await.unwrap();
    assert_eq!(numbers(&mut receiver).last().unwrap(), "end");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_gone_is_noticed() {
    let (mut queue, receiver) = queue();
    drop(receiver);
    queue.abandoned().await;
    assert!(queue.push(tracks()).await.is_err());
}
