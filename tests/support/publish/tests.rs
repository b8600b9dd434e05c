//! Every publisher against a server that is not ours: ffmpeg, listening.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::support::ledger::{Codec, Picture, Source, View};
use crate::support::program::{Program, ffmpeg};
use crate::support::{free_port, listening, wait_for};

const PICTURE: Picture = Picture::new(320, 180, 30);
const LIMIT: Duration = Duration::from_secs(30);

/// An ffmpeg that takes one publish and writes it down.
struct Listener {
    program: Program,
    at: SocketAddr,
    dir: tempfile::TempDir,
}

impl Listener {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = ffmpeg();
        command.args([
            "-listen",
            "1",
            "-i",
            &format!("rtmp://{at}/live/key-of-the-test"),
            "-c",
            "copy",
        ]);
        let program = Program::start(command.arg(dir.path().join("out.flv")));
        wait_for(LIMIT, || "ffmpeg to listen".to_owned(), || listening(at)).await;
        Self { program, at, dir }
    }

    fn url(&self) -> String {
        format!("rtmp://{}/live/key-of-the-test", self.at)
    }

    async fn recorded(mut self) -> (PathBuf, tempfile::TempDir) {
        self.program.wait(LIMIT).await;
        (self.dir.path().join("out.flv"), self.dir)
    }
}

fn clip() -> Source {
    Source::new(PICTURE, 3)
}

#[test]
fn tags_of_a_clip_are_told_apart() {
    let flv = Flv::read(&clip().flv());
    let count = |wanted: fn(&Tag) -> bool| flv.tags.iter().filter(|tag| wanted(tag)).count();
    assert_eq!(count(Tag::is_config), 2);
    assert_eq!(count(Tag::is_keyframe), 3);
    assert_eq!(count(|tag| tag.kind == Kind::Video), 1 + 90);
    assert!(
        flv.tags.is_sorted_by_key(|tag| tag.timestamp),
        "interleaved"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_publisher_is_understood_on_both_sides_of_the_24_bit_wrap() {
    let listener = Listener::start().await;
    let mut publisher = Publisher::connect(listener.at, "key-of-the-test")
        .await
        .unwrap();
    let clip = Flv::read(&clip().flv()).starting_at(0xff_ffff - 1_500);
    publisher.play_at(&clip, 4).await.unwrap();
    publisher.close().await;
    let (file, _dir) = listener.recorded().await;
    let view = View::of(&file);
    view.report(1).assert_clean("through our publisher", 90);
    assert!(view.pace_error_ms(PICTURE) <= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gstreamer_publishes_the_clip() {
    let listener = Listener::start().await;
    let mut encoder = Program::start(&mut gstreamer(&clip().file("mp4"), &listener.url()));
    encoder.succeed(LIMIT).await;
    let (file, _dir) = listener.recorded().await;
    View::of(&file)
        .report(1)
        .assert_clean("through GStreamer", 90);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffmpeg_publishes_the_clip() {
    let listener = Listener::start().await;
    let source = Source {
        codec: Codec::H264 { b_frames: 2 },
        ..clip()
    };
    let mut encoder = Program::start(&mut ffmpeg_copy(&source.flv(), &[], &listener.url()));
    encoder.succeed(LIMIT).await;
    let (file, _dir) = listener.recorded().await;
    View::of(&file).report(1).assert_clean("through ffmpeg", 90);
}
