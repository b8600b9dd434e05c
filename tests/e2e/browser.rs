//! hls.js in a real browser.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::LIMIT;
use crate::support::browser::Browser;
use crate::support::ledger::{Picture, Source};
use crate::support::program::Program;
use crate::support::publish::ffmpeg_copy;
use crate::support::server::{Server, Setup};

/// A publish with a ladder that a browser can climb.
fn publish(server: &Server, seconds: u32) -> Program {
    let source = Source::new(Picture::new(854, 480, 30), seconds);
    Program::start(&mut ffmpeg_copy(
        &source.flv(),
        &[],
        &server.publish_url("room"),
    ))
}

fn number(stats: &Value, name: &str) -> f64 {
    stats[name].as_f64().unwrap_or(f64::NAN)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hls_js_plays_close_to_live() {
    let server = Setup::default().start().await;
    let _encoder = publish(&server, 50);
    let player = server.play("room", crate::support::hls::PARTS);
    player.playing(LIMIT).await;
    player.stop().await;
    let mut browser = Browser::start().await;
    browser.open(&server.playlist_url("room"), json!({})).await;
    browser
        .until(LIMIT, "the first picture", |stats| {
            stats["firstFrame"].is_number()
        })
        .await;
    let before = browser
        .until(LIMIT, "low latency", |stats| {
            number(stats, "latency") < 3.0 && number(stats, "time") > 0.0
        })
        .await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let after = browser.stats().await;
    let played = number(&after, "time") - number(&before, "time");
    assert!(
        (9.0..12.0).contains(&played),
        "ten seconds later: {before} then {after}"
    );
    assert!(
        number(&after, "latency") < 3.0 && number(&after, "parts") > 30.0,
        "{after}"
    );
    assert_eq!(after["fatal"], json!([]), "{after}");
    assert!(number(&after, "stalledMs") < 1000.0, "{after}");
    assert_eq!(after["complaints"], json!([]), "{after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hls_js_steps_down_on_a_narrow_link_and_up_again() {
    let server = Setup::default().start().await;
    let _encoder = publish(&server, 90);
    let player = server.play("room", crate::support::hls::PARTS);
    player.playing(LIMIT).await;
    player.stop().await;
    let mut browser = Browser::start().await;
    browser
        .open(
            &server.playlist_url("room"),
            json!({ "abrEwmaFastLive": 1, "abrEwmaSlowLive": 3 }),
        )
        .await;
    browser
        .until(LIMIT, "480 lines", |stats| {
            number(stats, "height") as u32 == 480
        })
        .await;
    // Enough for 240p with its sound, not for 480p.
    browser.throttle(70_000).await;
    let low = browser
        .until(LIMIT, "240 lines", |stats| {
            number(stats, "height") as u32 == 240
        })
        .await;
    assert_eq!(low["fatal"], json!([]), "{low}");
    browser.throttle(0).await;
    let high = browser
        .until(LIMIT, "480 lines again", |stats| {
            number(stats, "height") as u32 == 480
        })
        .await;
    assert_eq!(high["fatal"], json!([]), "{high}");
    let now = number(&high, "time");
    browser
        .until(LIMIT, "two seconds more", |stats| {
            number(stats, "time") > now + 2.0
        })
        .await;
}

/// The page that people open.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_watch_page_plays_and_the_dashboard_opens() {
    let server = Setup::default().start().await;
    let _encoder = publish(&server, 50);
    let player = server.play("room", crate::support::hls::PARTS);
    player.playing(LIMIT).await;
    player.stop().await;
    let mut browser = Browser::start().await;
    browser
        .visit(&format!("http://{}/watch/room", server.http))
        .await;
    let mut time = 0.0;
    let deadline = std::time::Instant::now() + LIMIT;
    while time < 3.0 {
        assert!(
            std::time::Instant::now() < deadline,
            "the page does not play"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
        let script = "(v => v ? v.getVideoPlaybackQuality().totalVideoFrames / 30 : 0)(document.querySelector('video'))";
        time = browser.eval(script).await.as_f64().unwrap_or(0.0);
    }
    browser.visit(&format!("http://{}/", server.http)).await;
    assert!(
        !browser
            .eval("document.title")
            .await
            .as_str()
            .unwrap_or_default()
            .is_empty()
    );
}
