//! What an operator does: configure, watch, kick, reload, stop.

use std::time::Duration;

use hyper::Method;
use rustix::process::Signal;
use serde_json::Value;

use crate::common::{LIMIT, clip};
use crate::support::hls::{Kind, PARTS, get};
use crate::support::http::{Client, Log, Purpose};
use crate::support::program::{Program, outcome};
use crate::support::publish::{Flv, Publisher, ffmpeg_copy};
use crate::support::server::{Setup, headwater, key_of, playlist};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_api_tells_what_is_live_and_kicks_it() {
    let server = Setup::default().start().await;
    assert_eq!(server.stream("room").await["state"], "idle");
    let mut publisher = Publisher::connect(server.rtmp, &key_of("room"))
        .await
        .unwrap();
    let flv = Flv::read(&clip(20).flv());
    let player = server.play("room", PARTS);
    let publishing = tokio::spawn(async move {
        let sent = publisher.play(&flv).await;
        (sent, publisher.ended(Duration::from_secs(5)).await)
    });
    player.playing(LIMIT).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let stream = server.stream("room").await;
    assert_eq!(stream["state"], "live", "{stream}");
    let video = &stream["input"]["video"];
    assert_eq!(
        (
            video["codec"].as_str(),
            video["width"].as_u64(),
            video["height"].as_u64()
        ),
        (Some("h264"), Some(640), Some(360)),
        "{stream}"
    );
    assert!(
        video["fps"]
            .as_f64()
            .is_some_and(|fps| (29.0..31.0).contains(&fps)),
        "{stream}"
    );
    assert_eq!(stream["input"]["protocol"], "rtmp", "{stream}");
    let rungs: Vec<&str> = stream["rungs"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|rung| rung["name"].as_str())
        .collect();
    assert_eq!(rungs, ["360p", "240p"], "{stream}");
    assert!(stream["viewers"].as_u64() >= Some(1), "{stream}");
    let list = server.api(Method::GET, "streams", "").await.json();
    assert_eq!(list["items"][0]["id"], "room", "{list}");

    assert!(matches!(
        server
            .api(Method::POST, "streams/room/kick", "")
            .await
            .status,
        200..=204
    ));
    let (sent, said) = publishing.await.unwrap();
    assert!(sent.is_err() || said.is_some(), "the encoder goes on");
    player.ended(LIMIT).await;
    let events = server.api(Method::GET, "events?after=0", "").await.json();
    let items = events["items"].as_array().unwrap();
    let kinds: Vec<&str> = items
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect();
    let started = kinds.iter().position(|kind| *kind == "session.started");
    let ended = kinds.iter().position(|kind| *kind == "session.ended");
    assert!(started.is_some() && started < ended, "{kinds:?}");
    // A reader that comes back with its cursor sees only what is newer.
    let cursor = &items[started.unwrap()]["id"];
    let rest = server
        .api(Method::GET, &format!("events?after={cursor}"), "")
        .await
        .json();
    assert_eq!(
        rest["items"].as_array().map(Vec::len),
        Some(items.len() - 1 - started.unwrap())
    );
    assert_eq!(
        server
            .api(Method::POST, "streams/room/kick", "")
            .await
            .status,
        409,
        "nobody to kick"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn streams_come_and_go_over_the_api() {
    let server = Setup::default().start().await;
    let made = server
        .api(Method::POST, "streams", r#"{"id":"new-room"}"#)
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let key = made.json()["key"].as_str().unwrap().to_owned();
    assert!(key.len() >= 16, "a key of {} characters", key.len());
    assert_eq!(
        server
            .api(Method::POST, "streams", r#"{"id":"new-room"}"#)
            .await
            .status,
        409
    );
    assert_eq!(
        server
            .api(Method::POST, "streams", r#"{"id":"../etc"}"#)
            .await
            .status,
        422
    );
    let problem = server
        .api(Method::POST, "streams", r#"{"id":"x","extra":1}"#)
        .await;
    assert!(matches!(problem.status, 400 | 422), "{}", problem.status);
    assert_eq!(problem.header("content-type"), "application/problem+json");
    let publisher = Publisher::connect(server.rtmp, &key)
        .await
        .expect("the new key opens");
    publisher.close().await;
    assert_eq!(
        server
            .api(Method::DELETE, "streams/new-room", "")
            .await
            .status,
        204
    );
    assert!(
        Publisher::connect(server.rtmp, &key).await.is_err(),
        "a deleted key opens"
    );
    assert_eq!(
        server.api(Method::GET, "streams/new-room", "").await.status,
        404
    );
    assert!(!server.log().contains(&key), "a minted key is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_api_is_closed_without_the_token() {
    let server = Setup::default().start().await;
    let mut client = Client::new(server.http, &Log::new());
    for (method, path) in [
        (Method::GET, "streams"),
        (Method::POST, "streams"),
        (Method::GET, "events"),
        (Method::POST, "streams/room/kick"),
    ] {
        for token in ["", "Bearer ", "Bearer 0000000000000000", "Basic x"] {
            let headers = [("authorization", token)];
            let answer = client
                .ask(
                    Purpose::Probe("stranger"),
                    method.clone(),
                    &format!("/api/v1/{path}"),
                    &headers,
                    "",
                )
                .await;
            assert_eq!(answer.status, 401, "{method} {path} with {token:?}");
        }
    }
    for path in [
        "/api/v1/streams/..%2f..%2fetc",
        "/live/..%2f..%2fetc/passwd",
        "/live/room/%00",
        "/live/room/..\\x",
    ] {
        let answer = client.get(Purpose::Probe("path"), path).await;
        assert!(
            matches!(answer.status, 400 | 401 | 404),
            "{path}: {}",
            answer.status
        );
    }
}

/// What somebody without a token may see must hold no secret, whatever went on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_are_seen_nowhere() {
    let server = Setup::default().tls().start().await;
    let url = server.publish_url("room");
    let encoder = Program::start(&mut ffmpeg_copy(&clip(6).flv(), &[], &url));
    let player = server.play("room", PARTS);
    player.playing(LIMIT).await;
    // The key where it does not belong.
    let key = key_of("room");
    let mut shown = vec![server.get(&format!("/live/{key}/index.m3u8")).await.text()];
    shown.push(server.get(&format!("/whip/{key}")).await.text());
    let _ = Publisher::connect(server.rtmp, &format!("{key}?token=x")).await;
    for path in ["streams", "streams/room", "events?after=0", "server"] {
        shown.push(server.api(Method::GET, path, "").await.text());
    }
    shown.push(get(server.ops, "/metrics").await.text());
    shown.push(get(server.ops, "/readyz").await.text());
    drop(encoder);
    player.ended(LIMIT).await;
    for file in files(&server.data_dir()) {
        shown.push(String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned());
    }
    for worker in crate::support::faults::workers(&server) {
        for file in ["cmdline", "environ"] {
            shown.push(
                String::from_utf8_lossy(
                    &std::fs::read(format!("/proc/{worker}/{file}")).unwrap_or_default(),
                )
                .into_owned(),
            );
        }
    }
    shown.push(server.log());
    for text in shown {
        // The path that was asked for may come back in an error of ours only without the key.
        assert!(!text.contains(&key), "{}", text.replace(&key, "THE-KEY"));
    }
}

fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[test]
fn every_mistake_is_told_at_once_and_exits_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("headwater.toml");
    std::fs::write(
        &file,
        "htp = \"127.0.0.1:1\"\nsegment = \"soon\"\nrtmp = \"nowhere\"\n",
    )
    .unwrap();
    for command in ["check-config", "serve"] {
        let (code, _, said) = outcome(
            headwater()
                .arg(command)
                .arg("--config")
                .arg(&file)
                .args(["--part", "1"]),
        );
        assert_eq!(code, Some(2), "{said}");
        for mistake in ["htp", "segment", "rtmp", "part"] {
            assert!(said.contains(mistake), "{mistake} is not in: {said}");
        }
        assert!(
            said.contains("line 1") && said.contains("line 2"),
            "no places: {said}"
        );
    }
    let (code, _, said) = outcome(headwater().args(["serve", "--no-such-flag"]));
    assert_eq!(code, Some(2), "{said}");
    let (code, _, said) = outcome(headwater().args(["serve", "--stream", "room=too-short"]));
    assert_eq!(code, Some(2), "{said}");
    assert!(!said.contains("too-short"), "the key is repeated: {said}");
    std::fs::write(&file, "segment = 2000\nhttp = \"127.0.0.1:0\"\n").unwrap();
    let (code, _, said) = outcome(headwater().arg("check-config").arg("--config").arg(&file));
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_address_that_is_taken_exits_with_1() {
    let server = Setup::default().start().await;
    let dir = tempfile::tempdir().unwrap();
    let taken = server.http.to_string();
    let (code, _, said) = outcome(headwater().current_dir(dir.path()).args([
        "serve",
        "--rtmp",
        "127.0.0.1:0",
        "--ops",
        "127.0.0.1:0",
        "--http",
        &taken,
    ]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&taken), "which address? {said}");
}

/// The first SIGTERM ends every stream as if its encoder had gone: nobody's playlist stays open.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sigterm_drains() {
    let server = Setup::default().start().await;
    let mut publisher = Publisher::connect(server.rtmp, &key_of("room"))
        .await
        .unwrap();
    let flv = Flv::read(&clip(20).flv());
    let player = server.play("room", PARTS);
    let publishing = tokio::spawn(async move {
        let _ = publisher.play(&flv).await;
        publisher.ended(Duration::from_secs(5)).await
    });
    player.playing(LIMIT).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (status, recording) = tokio::join!(server.stop(), player.ended(LIMIT));
    assert!(status.success(), "{status}");
    assert!(
        publishing.await.unwrap().is_some(),
        "the encoder was not told"
    );
    for rendition in recording.of_kind(Kind::Video) {
        let media = rendition.last().expect("a playlist");
        assert!(media.ended, "{} has no end", rendition.path);
        recording
            .view(rendition)
            .report(1)
            .assert_clean(&rendition.path, 60);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sighup_takes_a_new_certificate_and_drops_nobody() {
    let server = Setup::default().tls().start().await;
    let mut publisher = Publisher::connect(server.rtmp, &key_of("room"))
        .await
        .unwrap();
    let flv = Flv::read(&clip(10).flv());
    let player = server.play("room", PARTS);
    let publishing = tokio::spawn(async move {
        publisher.play(&flv).await.unwrap();
        publisher.close().await;
    });
    player.playing(LIMIT).await;
    let https = server.https.unwrap();
    crate::support::conformance::security(https, server.certificate()).await;
    let renewed = server.renew_certificate();
    server.signal(Signal::HUP);
    crate::support::wait_for(
        Duration::from_secs(5),
        || "the new certificate".to_owned(),
        || server.log().contains("certificate reloaded"),
    )
    .await;
    crate::support::conformance::security(https, renewed).await;
    publishing.await.unwrap();
    let recording = player.ended(LIMIT).await;
    recording
        .view(recording.named("240p"))
        .report(1)
        .assert_clean("across the reload", 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_ops_port_tells_health_and_counts() {
    let server = Setup::default().start().await;
    assert!(get(server.ops, "/healthz").await.ok());
    let ready: Value = get(server.ops, "/readyz").await.json();
    assert_eq!(ready["ready"], true, "{ready}");
    let recording = crate::common::publish_to(&server, "room", &Flv::read(&clip(4).flv())).await;
    assert!(recording.played().count() > 0);
    for name in [
        "headwater_streams",
        "headwater_ingest_bytes_total",
        "headwater_worker_cpu_seconds_total",
        "headwater_part_publish_delay_seconds_count",
        "headwater_http_requests_total",
        "headwater_http_held_requests",
        "headwater_http_bytes_total",
    ] {
        let metrics = get(server.ops, "/metrics").await.text();
        assert!(
            metrics.lines().any(|line| line.starts_with(name)),
            "{name} is not told"
        );
    }
    assert!(server.metric("headwater_ingest_bytes_total").await > 100_000.0);
    assert!(
        server
            .metric("headwater_part_publish_delay_seconds_count")
            .await
            > 10.0
    );
    assert!(server.get(&playlist("room")).await.status != 0);
    assert_eq!(
        server.get("/metrics").await.status,
        404,
        "metrics are on the viewers' port"
    );
}
