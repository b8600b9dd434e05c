//! Every line of the requirements for LL-HLS, over the real server.

use std::time::Duration;

use crate::support::conformance::{
    Evidence, ask_hints, judge, probe, probe_ended, probe_old, probe_stalled, security,
};
use crate::support::hls::{EVERYTHING, Kind};
use crate::support::ledger::{Codec, Picture, Source};
use crate::support::publish::{Flv, Publisher};
use crate::support::server::{Setup, key_of};

const LIMIT: Duration = Duration::from_secs(30);

/// Watches from the first part to the end. The window is short, so that segments leave it while we look.
async fn watch(source: Source) -> Evidence {
    let server = Setup::default()
        .tls()
        .with(&["--dvr", "16000"])
        .start()
        .await;
    let security = security(server.https.expect("TLS"), server.certificate()).await;
    let clip = Flv::read(&source.flv());
    let (mut publisher, player) = (
        Publisher::connect(server.rtmp, &key_of("room"))
            .await
            .unwrap(),
        server.play("room", EVERYTHING),
    );
    let publishing = tokio::spawn(async move {
        publisher.play(&clip).await.unwrap();
        publisher
    });
    player.playing(LIMIT).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    probe(&player).await;
    let publisher = publishing.await.unwrap();
    probe_old(&player).await;
    // The encoder has nothing more to say, but has not said goodbye.
    probe_stalled(&player).await;
    // The player's own hints have waited too long by now. The end finds these waiting.
    let hints = ask_hints(&player);
    tokio::time::sleep(Duration::from_millis(500)).await;
    publisher.close().await;
    hints.join_all().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    probe_ended(&player).await;
    let recording = player.ended(LIMIT).await;
    for rendition in recording.of_kind(Kind::Video) {
        recording
            .view(rendition)
            .report(1)
            .assert_clean(&rendition.path, source.pictures as usize);
    }
    Evidence::new(recording, Some(security))
}

/// What an encoder sends that is set to the rate of the rung which its pictures become, in kbit/s. They may have 2.5
/// times that rate and go out as they are; the step below them is the encoder's then, not the ladder's.
fn source(picture: Picture, rate: u32) -> Source {
    Source {
        rate,
        ..Source::new(picture, 32)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_ladder_keeps_every_line() {
    let source = source(Picture::new(854, 480, 30), 750);
    judge(&watch(source).await, &[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn b_frames_keep_every_line() {
    let source = Source {
        codec: Codec::H264 { b_frames: 2 },
        ..source(Picture::new(640, 360, 30), 400)
    };
    judge(&watch(source).await, &[]);
}
