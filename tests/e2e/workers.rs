//! Workers that die, hang or run out of memory under a viewer, with another room beside (faults A1 to A3, A11).

use std::time::Duration;

use crate::common::{LIMIT, clip, discontinuities};
use crate::support::faults;
use crate::support::hls::{Kind, PARTS};
use crate::support::ledger::{Picture, Source};
use crate::support::publish::{Flv, Publisher};
use crate::support::server::{Server, Setup, key_of};

/// The longest that the playlist of the room may stand still.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The process that works for a stream now, by the server's log.
fn worker_of(server: &Server, stream: &str) -> Option<u32> {
    let log = server.log();
    let starts = log
        .lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut starts = starts
        .filter(|line| line["message"] == "worker starts" && line["span"]["stream"] == stream);
    let id = u32::try_from(starts.next()?["pid"].as_u64()?).ok()?;
    faults::children(server.id()).contains(&id).then_some(id)
}

/// Does `harm` to the worker of one room five seconds in. Both rooms must lose nothing.
async fn harmed(harm: impl Fn(u32), pause_max: Duration) {
    let server = Setup::default().streams(&["room", "beside"]).start().await;
    let flv = Flv::read(&clip(20).flv());
    let mut room = Publisher::connect(server.rtmp, &key_of("room"))
        .await
        .unwrap();
    let mut beside = Publisher::connect(server.rtmp, &key_of("beside"))
        .await
        .unwrap();
    let (room_player, beside_player) = (server.play("room", PARTS), server.play("beside", PARTS));
    let harming = async {
        room_player.playing(LIMIT).await;
        tokio::time::sleep(Duration::from_millis(5_300)).await;
        let worker = worker_of(&server, "room").expect("a worker");
        harm(worker);
        worker
    };
    let (room_sent, beside_sent, worker) =
        tokio::join!(room.play(&flv), beside.play(&flv), harming);
    room_sent.unwrap();
    beside_sent.unwrap();
    assert_ne!(
        worker_of(&server, "room"),
        Some(worker),
        "the worker was not replaced"
    );
    room.close().await;
    beside.close().await;
    let recording = room_player.ended(LIMIT).await;
    assert!(
        discontinuities(&recording) <= 1,
        "{}",
        discontinuities(&recording)
    );
    for rendition in recording.of_kind(Kind::Video) {
        recording
            .view(rendition)
            .report(1)
            .assert_clean(&rendition.path, 600);
        let (pause, at) = rendition.longest_pause();
        assert!(
            pause < pause_max,
            "{} stood still for {pause:?} at {at:?}",
            rendition.path
        );
    }
    let recording = beside_player.ended(LIMIT).await;
    assert_eq!(discontinuities(&recording), 0);
    for rendition in recording.of_kind(Kind::Video) {
        recording
            .view(rendition)
            .report(1)
            .assert_clean(&format!("beside: {}", rendition.path), 600);
    }
    assert!(
        server.metric("headwater_worker_restarts_total").await >= 1.0,
        "nothing was counted"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_that_is_killed() {
    harmed(faults::kill, PAUSE_MAX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_that_hangs() {
    harmed(faults::freeze, Duration::from_secs(7)).await;
}

/// A11: a worker that may have no more memory dies when the pictures grow. The room goes on at the new size, the room
/// beside does not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_that_gets_no_more_memory() {
    let server = Setup::default().streams(&["room", "beside"]).start().await;
    let small = Source {
        pictures: 240,
        ..clip(8)
    };
    let large = Source {
        first: 240,
        ..Source::new(Picture::new(960, 540, 30), 10)
    };
    let growing = Flv::read(&small.flv()).then(Flv::read(&large.flv()));
    let steady = Flv::read(&clip(16).flv());
    let mut room = Publisher::connect(server.rtmp, &key_of("room"))
        .await
        .unwrap();
    let mut beside = Publisher::connect(server.rtmp, &key_of("beside"))
        .await
        .unwrap();
    let (room_player, beside_player) = (server.play("room", PARTS), server.play("beside", PARTS));
    let harming = async {
        room_player.playing(LIMIT).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        faults::starve_of_memory(worker_of(&server, "room").expect("a worker"));
    };
    let (room_sent, beside_sent, ()) =
        tokio::join!(room.play(&growing), beside.play(&steady), harming);
    room_sent.unwrap();
    beside_sent.unwrap();
    assert!(
        server.metric("headwater_worker_restarts_total").await >= 1.0,
        "the worker lives on without memory"
    );
    room.close().await;
    beside.close().await;
    let recording = room_player.ended(LIMIT).await;
    let low = recording.named("240p");
    let report = recording.view(low).report(1);
    assert!(report.lost.len() <= 30 && report.last >= 538, "{report}");
    let recording = beside_player.ended(LIMIT).await;
    for rendition in recording.of_kind(Kind::Video) {
        recording
            .view(rendition)
            .report(1)
            .assert_clean(&format!("beside: {}", rendition.path), 480);
    }
}

/// A3: whatever replaces it dies, too, for ten seconds. The stream is reported as suffering, the machine is not burnt,
/// and when it is over the stream is whole again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_that_die_one_after_another() {
    let server = Setup::default().start().await;
    let flv = Flv::read(&clip(36).flv());
    let mut room = Publisher::connect(server.rtmp, &key_of("room"))
        .await
        .unwrap();
    let player = server.play("room", PARTS);
    let harming = async {
        player.playing(LIMIT).await;
        let mut killed = std::collections::BTreeSet::new();
        for _ in 0..100 {
            if let Some(worker) = worker_of(&server, "room").filter(|worker| killed.insert(*worker))
            {
                faults::kill(worker);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let warnings = server.stream("room").await["warnings"]
            .as_array()
            .map_or(0, Vec::len);
        (killed.len(), warnings)
    };
    let (sent, (killed, warnings)) = tokio::join!(room.play(&flv), harming);
    sent.unwrap();
    assert!(
        (3..=20).contains(&killed),
        "{killed} workers in ten seconds"
    );
    assert!(warnings > 0, "the API says that all is well");
    room.close().await;
    let recording = player.ended(LIMIT).await;
    let low = recording.named("240p");
    let view = recording.view(low);
    let late = (900..1080)
        .filter(|number| view.picture(*number).is_some())
        .count();
    assert!(
        late >= 88,
        "{late} of the last 180 pictures, of which a suffering stream may leave out every second"
    );
}
