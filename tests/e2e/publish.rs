//! From each encoder to each rung: every picture arrives once, in order, in step with the sound.

use crate::common::{LIMIT, assert_whole, assert_whole_within};
use crate::support::hls::{PARTS, Recording};
use crate::support::ledger::{Codec, Source};
use crate::support::program::Program;
use crate::support::publish::{Publisher, ffmpeg_copy, ffmpeg9_copy, gstreamer};
use crate::support::server::{Server, Setup, key_of};

fn clip() -> Source {
    crate::common::clip(10)
}

/// Publishes to its end and watches to the end of that.
async fn watch(server: &Server, mut encoder: Program) -> Recording {
    let player = server.play("room", PARTS);
    encoder.wait(LIMIT).await;
    player.ended(LIMIT).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ffmpeg_without_b_frames() {
    let server = Setup::default().start().await;
    let source = clip();
    let encoder = Program::start(&mut ffmpeg_copy(
        &source.flv(),
        &[],
        &server.publish_url("room"),
    ));
    assert_whole(&watch(&server, encoder).await, &source, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ffmpeg_with_two_b_frames() {
    let server = Setup::default().start().await;
    let source = Source {
        codec: Codec::H264 { b_frames: 2 },
        ..clip()
    };
    let encoder = Program::start(&mut ffmpeg_copy(
        &source.flv(),
        &[],
        &server.publish_url("room"),
    ));
    assert_whole(&watch(&server, encoder).await, &source, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn gstreamer_by_rtmp2sink() {
    let server = Setup::default().start().await;
    let source = clip();
    let encoder = Program::start(&mut gstreamer(
        &source.file("mp4"),
        &server.publish_url("room"),
    ));
    // GStreamer sends the priming of the sound, a frame of 21 ms, at the time of the frame after it.
    assert_whole_within(&watch(&server, encoder).await, &source, 2, 20.0 + 21.4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ffmpeg_9_with_hevc() {
    let server = Setup::default().start().await;
    let source = Source {
        codec: Codec::H265,
        ..clip()
    };
    let encoder = Program::start(&mut ffmpeg9_copy(
        &source.flv(),
        &[],
        &server.publish_url("room"),
    ));
    assert_whole(&watch(&server, encoder).await, &source, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ffmpeg_9_with_av1_and_opus() {
    let server = Setup::default().start().await;
    let sound = &["-c:a", "libopus", "-b:a", "96k"];
    let source = Source {
        codec: Codec::Av1,
        sound,
        ..clip()
    };
    let encoder = Program::start(&mut ffmpeg9_copy(
        &source.flv(),
        &[],
        &server.publish_url("room"),
    ));
    assert_whole(&watch(&server, encoder).await, &source, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rtmps_with_the_certificate_verified() {
    let server = Setup::default().tls().start().await;
    let source = clip();
    let url = server.secure_publish_url("room");
    let ca = server.ca_file().display().to_string();
    let verified = ["-tls_verify", "1", "-ca_file", &ca];
    let encoder = Program::start(&mut ffmpeg_copy(&source.flv(), &verified, &url));
    assert_whole(&watch(&server, encoder).await, &source, 2);
    // The same encoder must be able to tell a stranger.
    let other = Setup::default().tls().start().await;
    let mut encoder = Program::start(&mut ffmpeg_copy(
        &source.flv(),
        &verified,
        &other.secure_publish_url("room"),
    ));
    assert!(
        !encoder.wait(LIMIT).await.success(),
        "ffmpeg took a certificate that nobody vouched for"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wrong_key_and_an_unknown_stream_look_the_same() {
    let server = Setup::default().start().await;
    let wrong = Publisher::connect(server.rtmp, &format!("{}x", key_of("room")))
        .await
        .unwrap_err();
    let unknown = Publisher::connect(server.rtmp, "never-heard-of-this-stream-1234")
        .await
        .unwrap_err();
    assert_eq!(wrong, unknown);
    assert!(
        !wrong.code.is_empty() && !wrong.description.is_empty(),
        "the encoder has nothing to show: {wrong:?}"
    );
    let mut encoder = Program::start(&mut ffmpeg_copy(
        &clip().flv(),
        &[],
        &format!("rtmp://{}/live/not-the-key-at-all", server.rtmp),
    ));
    assert!(!encoder.wait(LIMIT).await.success());
    assert_eq!(server.stream("room").await["state"], "idle");
}

/// B3: the second publisher of a key is told so, and the first does not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_second_publisher_of_a_key_is_refused() {
    let server = Setup::default().start().await;
    let source = clip();
    let encoder = Program::start(&mut ffmpeg_copy(
        &source.flv(),
        &[],
        &server.publish_url("room"),
    ));
    let player = server.play("room", PARTS);
    player.playing(LIMIT).await;
    let refused = Publisher::connect(server.rtmp, &key_of("room"))
        .await
        .unwrap_err();
    assert!(
        refused.code.contains("BadName") || !refused.description.is_empty(),
        "{refused:?}"
    );
    let mut encoder = encoder;
    encoder.wait(LIMIT).await;
    assert_whole(&player.ended(LIMIT).await, &source, 2);
}
