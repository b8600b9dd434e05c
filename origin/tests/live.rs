//! What players and CDNs are promised, over real sockets: RFC 8216bis sections 6.2.5 and 6.2.6, appendix B.1.

#![allow(clippy::unwrap_used, reason = "what goes wrong here is a failed test")]

mod support;

use std::io::Read as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use origin::http::Limits;
use origin::{Config, Origin};
use support::{ADVANCE, Answer, Client, PARTS, Server, config, spawn};
use tokio::net::TcpStream;

/// The answer to a request that is in flight.
struct Waiting {
    client: Client<TcpStream>,
}

impl Waiting {
    async fn for_path(server: &Server, path: &str) -> Self {
        let mut client = server.client().await;
        client.send("GET", path, "").await;
        Self { client }
    }

    async fn answer(mut self) -> Answer {
        self.client.answer("GET").await
    }
}

fn parts_of(playlist: &str, msn: u64) -> usize {
    let uri = format!("URI=\"{msn}.");
    playlist
        .lines()
        .filter(|line| line.starts_with("#EXT-X-PART:") && line.contains(&uri))
        .count()
}

#[tokio::test]
async fn a_request_without_directives_is_answered_at_once() {
    let server = Server::start().await;
    let feed = server.live().await;
    let answer = server.get(&feed.playlist()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(parts_of(answer.text(), 12), 3);
    assert_eq!(
        answer.field("content-type"),
        Some("application/vnd.apple.mpegurl")
    );
    answer.is_open_to_all();
}

#[tokio::test]
async fn a_part_that_is_not_there_is_waited_for() {
    let server = Server::start().await;
    let mut feed = server.live().await;
    let waiting = Waiting::for_path(
        &server,
        &format!("{}?_HLS_msn=12&_HLS_part=3", feed.playlist()),
    )
    .await;
    server.holds(1).await;
    feed.to(12, 4).await;
    let answer = waiting.answer().await;
    assert_eq!((answer.status, parts_of(answer.text(), 12)), (200, 4));
    answer.is_open_to_all();
    assert_eq!(server.held(), 0);
}

#[tokio::test]
async fn a_segment_that_is_not_there_is_waited_for_as_a_whole() {
    let server = Server::start().await;
    let mut feed = server.live().await;
    let waiting = Waiting::for_path(&server, &format!("{}?_HLS_msn=12", feed.playlist())).await;
    let part = Waiting::for_path(
        &server,
        &format!("{}?_HLS_msn=12&_HLS_part={}", feed.playlist(), PARTS - 2),
    )
    .await;
    server.holds(2).await;
    feed.to(12, PARTS - 1).await;
    assert_eq!(parts_of(part.answer().await.text(), 12), 7);
    assert_eq!(server.held(), 1, "parts of a segment are no segment");
    feed.to(13, 0).await;
    let answer = waiting.answer().await;
    assert!(answer.text().contains("\n12.m4s\n"), "{}", answer.text());
}

#[tokio::test]
async fn a_part_past_the_end_of_a_segment_is_the_first_of_the_next() {
    let server = Server::start().await;
    let mut feed = server.live().await;
    let past = format!("{}?_HLS_msn=12&_HLS_part={PARTS}", feed.playlist());
    let waiting = Waiting::for_path(&server, &past).await;
    server.holds(1).await;
    feed.to(13, 0).await;
    let whole = server
        .get(&format!("{}?_HLS_msn=12", feed.playlist()))
        .await;
    assert!(whole.text().contains("\n12.m4s\n"));
    assert_eq!(
        server.held(),
        1,
        "the segment is whole, and the next has no part"
    );
    feed.to(13, 1).await;
    assert_eq!(parts_of(waiting.answer().await.text(), 13), 1);
}

#[tokio::test]
async fn what_is_too_far_ahead_is_refused_at_once_and_what_is_near_is_held() {
    let server = Server::start().await;
    let feed = server.live().await;
    let mut client = server.client().await;
    let playlist = feed.playlist();
    // The last whole segment is 11; 12 has 3 parts.
    for refused in [
        "_HLS_msn=14".to_owned(),
        "_HLS_msn=14&_HLS_part=0".to_owned(),
        format!("_HLS_msn=12&_HLS_part={}", 3 + ADVANCE),
        format!("_HLS_msn=13&_HLS_part={ADVANCE}"),
        "_HLS_msn=18446744073709551615".to_owned(),
        "_HLS_msn=18446744073709551616".to_owned(),
        "_HLS_msn=12&_HLS_part=18446744073709551615".to_owned(),
        "_HLS_part=0".to_owned(),
        "_HLS_msn=-1".to_owned(),
        "_HLS_msn=NaN".to_owned(),
        "_HLS_msn=12&_HLS_msn=12".to_owned(),
        "_HLS_skip=NO".to_owned(),
        "start=0".to_owned(),
        "x=y".to_owned(),
    ] {
        let answer = client.get(&format!("{playlist}?{refused}")).await;
        assert_eq!(answer.status, 400, "{refused}: {answer:?}");
        assert_eq!(
            answer.field("cache-control"),
            Some("max-age=1"),
            "{refused}"
        );
        answer.is_open_to_all();
    }
    for held in [
        "_HLS_msn=12".to_owned(),
        "_HLS_msn=13".to_owned(),
        "_HLS_msn=12&_HLS_part=3".to_owned(),
        format!("_HLS_msn=12&_HLS_part={}", 2 + ADVANCE),
        format!("_HLS_part={}&_HLS_msn=13", ADVANCE - 1),
        "token=secret&_HLS_skip=YES&_HLS_msn=12".to_owned(),
    ] {
        let waiting = Waiting::for_path(&server, &format!("{playlist}?{held}")).await;
        server.holds(1).await;
        drop(waiting);
        // A player that hangs up frees its place.
        server.holds(0).await;
    }
    for now in [
        "_HLS_msn=0",
        "_HLS_msn=9&_HLS_part=70",
        "_HLS_msn=11",
        "_HLS_msn=12&_HLS_part=2",
        "token=x",
        "",
    ] {
        let answer = client.get(&format!("{playlist}?{now}")).await;
        assert_eq!(
            (answer.status, parts_of(answer.text(), 12)),
            (200, 3),
            "{now}"
        );
    }
}

#[tokio::test]
async fn a_wait_of_three_target_durations_fails() {
    let config = Config {
        segment: Duration::from_secs(1),
        ..config()
    };
    let server = Server::with(config, Limits::default()).await;
    let feed = server.live().await;
    let answer = server
        .get(&format!("{}?_HLS_msn=12", feed.playlist()))
        .await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert_eq!(answer.field("retry-after"), Some("1"));
    answer.is_open_to_all();
}

#[tokio::test]
async fn the_end_wakes_everyone_and_makes_directives_void() {
    let server = Server::start().await;
    let feed = server.live().await;
    let playlist = feed.playlist();
    let mut waiting = Vec::new();
    for query in [
        "_HLS_msn=12",
        "_HLS_msn=13&_HLS_part=5",
        "_HLS_msn=12&_HLS_part=3&_HLS_skip=YES",
    ] {
        waiting.push(Waiting::for_path(&server, &format!("{playlist}?{query}")).await);
    }
    let hint = Waiting::for_path(&server, &feed.path("720p/12.4.m4s")).await;
    let unhinted = server.get(&feed.path("720p/12.5.m4s")).await;
    assert_eq!(unhinted.status, 404);
    server.holds(3).await;
    assert_eq!(hint.answer().await.status, 404, "the hint is part 3");
    let hint = Waiting::for_path(&server, &feed.path("720p/13.0.m4s")).await;
    assert_eq!(hint.answer().await.status, 404);
    feed.end().await;
    for waiting in waiting {
        let answer = waiting.answer().await;
        assert_eq!(answer.status, 200);
        assert!(
            answer.text().ends_with("#EXT-X-ENDLIST\n"),
            "{}",
            answer.text()
        );
        assert!(!answer.text().contains("#EXT-X-SKIP"), "{}", answer.text());
    }
    for query in [
        "_HLS_msn=999",
        "_HLS_part=7",
        "_HLS_msn=12&_HLS_part=999",
        "_HLS_skip=v2",
        "",
    ] {
        let answer = server.get(&format!("{playlist}?{query}")).await;
        assert!(
            answer.text().ends_with("#EXT-X-ENDLIST\n"),
            "{query}: {answer:?}"
        );
    }
    assert_eq!(
        server.get(&format!("{playlist}?_HLS_msn=x")).await.status,
        400
    );
    let index = server.get(&feed.index()).await;
    assert_eq!(
        index.status, 200,
        "whoever has the address can still see the end"
    );
    assert_eq!(
        index.field("cache-control"),
        Some("max-age=1"),
        "the next publish has the same"
    );
}

#[tokio::test]
async fn a_hint_is_answered_with_the_whole_part_or_not_at_all() {
    let server = Server::start().await;
    let mut feed = server.live().await;
    let listed = server.get(&feed.playlist()).await;
    assert!(
        listed
            .text()
            .contains("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"12.3.m4s\""),
        "{}",
        listed.text()
    );
    let path = feed.path("720p/12.3.m4s");
    let waiting = Waiting::for_path(&server, &path).await;
    let mut ranged = server.client().await;
    ranged.send("GET", &path, "Range: bytes=0-3\r\n").await;
    server.holds(2).await;
    feed.to(12, 4).await;
    let answer = waiting.answer().await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.len() > 24_000);
    assert_eq!(server.get(&path).await.body, answer.body);
    let ranged = ranged.answer("GET").await;
    assert_eq!((ranged.status, ranged.body), (206, answer.body.slice(..4)));
    answer.is_open_to_all();

    // Its end takes the hint back.
    let waiting = Waiting::for_path(&server, &feed.path("720p/12.5.m4s")).await;
    assert_eq!(waiting.answer().await.status, 404);
    let waiting = Waiting::for_path(&server, &feed.path("audio/12.99.m4s")).await;
    assert_eq!(waiting.answer().await.status, 404);
    let held = Waiting::for_path(&server, &feed.path("720p/12.4.m4s")).await;
    server.holds(1).await;
    // What is in hand becomes the last part: the hint still comes true, or is taken back; it never hangs.
    feed.end().await;
    let answer = held.answer().await;
    assert!(matches!(answer.status, 200 | 404), "{answer:?}");
    assert_eq!(
        server.get(&feed.path("720p/12.4.m4s")).await.status,
        answer.status
    );
    assert_eq!(server.get(&feed.path("720p/12.5.m4s")).await.status, 404);
}

#[tokio::test]
async fn everyone_who_waits_gets_the_same_bytes() {
    let server = Server::start().await;
    let mut feed = server.live().await;
    let path = format!("{}?_HLS_msn=12&_HLS_part=3", feed.playlist());
    let mut waiting = Vec::new();
    for _ in 0..1000 {
        waiting.push(Waiting::for_path(&server, &path).await);
    }
    server.holds(1000).await;
    feed.to(12, 4).await;
    let first = server.get(&path).await;
    for waiting in waiting {
        let answer = waiting.answer().await;
        assert_eq!((answer.status, &answer.body), (200, &first.body));
        assert_eq!(answer.field("etag"), first.field("etag"));
    }
    assert_eq!(server.held(), 0);
}

#[tokio::test]
async fn waiters_who_hang_up_leave_nothing_behind() {
    let server = Server::start().await;
    let feed = server.live().await;
    for _ in 0..5 {
        let mut waiting = Vec::new();
        for _ in 0..100 {
            waiting.push(
                Waiting::for_path(&server, &format!("{}?_HLS_msn=12", feed.playlist())).await,
            );
        }
        server.holds(100).await;
        drop(waiting);
        server.holds(0).await;
    }
}

#[tokio::test]
async fn one_address_cannot_hold_every_place() {
    let server = Server::with(
        config(),
        Limits {
            held_per_address: 3,
            ..Limits::default()
        },
    )
    .await;
    let mut feed = server.live().await;
    let path = format!("{}?_HLS_msn=12&_HLS_part=3", feed.playlist());
    let mut waiting = Vec::new();
    for held in 1..=3 {
        waiting.push(Waiting::for_path(&server, &path).await);
        server.holds(held).await;
    }
    let refused = server.get(&path).await;
    assert_eq!(
        (refused.status, refused.field("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(refused.field("cache-control"), Some("no-store"));
    refused.is_open_to_all();
    assert_eq!(
        server.get(&feed.playlist()).await.status,
        200,
        "what needs no place is answered"
    );
    feed.to(12, 4).await;
    for waiting in waiting {
        assert_eq!(waiting.answer().await.status, 200);
    }
    assert_eq!(server.get(&path).await.status, 200);
}

#[tokio::test]
async fn parts_make_segments_and_media_never_changes() {
    let server = Server::start().await;
    let feed = server.live().await;
    let mut client = server.client().await;
    for rendition in ["720p", "360p", "audio"] {
        let list = client
            .get(&feed.path(&format!("{rendition}/index.m3u8")))
            .await;
        let mut parts = BytesMut::new();
        for index in 0..PARTS + 4 {
            let part = client
                .get(&feed.path(&format!("{rendition}/11.{index}.m4s")))
                .await;
            if part.status == 200 {
                assert!(list.text().contains(&format!("11.{index}.m4s")));
                parts.extend_from_slice(&part.body);
            }
        }
        let segment = client.get(&feed.path(&format!("{rendition}/11.m4s"))).await;
        assert_eq!(segment.body, parts.freeze(), "{rendition}");
        assert_eq!(
            segment.field("cache-control"),
            Some("max-age=86400, immutable")
        );
        let kind = if rendition == "audio" {
            "audio/mp4"
        } else {
            "video/mp4"
        };
        assert_eq!(segment.field("content-type"), Some(kind));
        assert_eq!(segment.field("content-encoding"), None);
        let map = list
            .text()
            .lines()
            .find_map(|line| line.strip_prefix("#EXT-X-MAP:URI=\""))
            .unwrap();
        let init = client
            .get(&feed.path(&format!("{rendition}/{}", map.trim_end_matches('"'))))
            .await;
        assert_eq!((init.status, &init.body[4..8]), (200, &b"ftyp"[..]));
    }
}

#[tokio::test]
async fn media_can_be_had_in_ranges_and_asked_about() {
    let server = Server::start().await;
    let feed = server.live().await;
    let mut client = server.client().await;
    let path = feed.path("720p/11.m4s");
    let whole = client.get(&path).await;
    let len = whole.body.len();
    let tag = whole.field("etag").unwrap().to_owned();
    whole.is_open_to_all();

    let mut ranged = async |range: &str, fields: &str| {
        let answer = client
            .ask("GET", &path, &format!("Range: {range}\r\n{fields}"))
            .await;
        answer.is_open_to_all();
        answer
    };
    // Ranges that start and end inside, at, and across the slices that a segment is made of.
    for (start, end) in [
        (0, 1),
        (1, 2),
        (0, len),
        (len - 1, len),
        (24_000, 30_000),
        (100, len - 100),
    ] {
        let answer = ranged(&format!("bytes={start}-{}", end - 1), "").await;
        assert_eq!(
            (answer.status, answer.body),
            (206, whole.body.slice(start..end))
        );
    }
    let answer = ranged(&format!("bytes=5-{}", len + 5), "").await;
    assert_eq!((answer.status, answer.body), (206, whole.body.slice(5..)));
    let answer = ranged("bytes=-7", "").await;
    assert_eq!(
        answer.field("content-range"),
        Some(&*format!("bytes {}-{}/{len}", len - 7, len - 1))
    );
    assert_eq!(answer.body, whole.body.slice(len - 7..));
    let answer = ranged(&format!("bytes={len}-"), "").await;
    assert_eq!(
        (answer.status, answer.field("content-range")),
        (416, Some(&*format!("bytes */{len}")))
    );
    for whole_instead in ["bytes=0-1,5-6", "bytes=9-5", "lines=1-2"] {
        let answer = ranged(whole_instead, "").await;
        assert_eq!(
            (answer.status, answer.body),
            (200, whole.body.clone()),
            "{whole_instead}"
        );
    }
    let answer = ranged("bytes=0-0", &format!("If-Range: {tag}\r\n")).await;
    assert_eq!(answer.status, 206);
    let answer = ranged("bytes=0-0", "If-Range: \"other\"\r\n").await;
    assert_eq!(answer.status, 200);

    let head = client.ask("HEAD", &path, "").await;
    assert_eq!(
        (head.status, head.field("content-length")),
        (200, Some(&*len.to_string()))
    );
    assert_eq!(head.field("etag"), Some(&*tag));
    let head = client.ask("HEAD", &path, "Range: bytes=0-0\r\n").await;
    assert_eq!(
        (head.status, head.field("content-length")),
        (200, Some(&*len.to_string()))
    );
    let same = client
        .ask("GET", &path, &format!("If-None-Match: \"x\", W/{tag}\r\n"))
        .await;
    assert_eq!((same.status, same.field("etag")), (304, Some(&*tag)));
    same.is_open_to_all();
    let other = client.ask("GET", &path, "If-None-Match: \"x\"\r\n").await;
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn playlists_say_how_long_they_stand() {
    let server = Server::start().await;
    let mut feed = server.live().await;
    let mut client = server.client().await;
    let playlist = feed.playlist();
    let plain = client.get(&playlist).await;
    assert_eq!(
        plain.field("cache-control"),
        Some("max-age=1"),
        "half a target duration"
    );
    let named = client
        .get(&format!("{playlist}?_HLS_msn=12&_HLS_part=2"))
        .await;
    assert_eq!(
        named.field("cache-control"),
        Some("max-age=12"),
        "six target durations"
    );
    assert_eq!(
        client.get(&feed.index()).await.field("cache-control"),
        Some("max-age=1")
    );
    let head = client.ask("HEAD", &playlist, "").await;
    assert_eq!(
        head.field("content-length"),
        Some(&*plain.body.len().to_string())
    );

    let tag = plain.field("etag").unwrap();
    let same = client
        .ask("GET", &playlist, &format!("If-None-Match: {tag}\r\n"))
        .await;
    assert_eq!(same.status, 304);
    same.is_open_to_all();
    feed.to(12, 4).await;
    client
        .get(&format!("{playlist}?_HLS_msn=12&_HLS_part=3"))
        .await;
    let newer = client
        .ask("GET", &playlist, &format!("If-None-Match: {tag}\r\n"))
        .await;
    assert_eq!(newer.status, 200);
}

#[tokio::test]
async fn playlists_are_compressed_for_those_who_ask() {
    let server = Server::start().await;
    let mut feed = server.live().await;
    feed.to(40, 3).await;
    let mut client = server.client().await;
    client
        .get(&format!("{}?_HLS_msn=40&_HLS_part=2", feed.playlist()))
        .await;
    for path in [
        feed.playlist(),
        feed.index(),
        feed.path("720p/iframes.m3u8"),
        feed.playlist() + "?_HLS_skip=YES",
    ] {
        let plain = client.get(&path).await;
        let packed = client.ask("GET", &path, "Accept-Encoding: gzip\r\n").await;
        assert_eq!((plain.status, packed.status), (200, 200), "{path}");
        assert_eq!(packed.field("content-encoding"), Some("gzip"));
        assert_eq!(plain.field("content-encoding"), None);
        assert_eq!(
            (plain.field("vary"), packed.field("vary")),
            (Some("Accept-Encoding"), Some("Accept-Encoding"))
        );
        assert_ne!(
            plain.field("etag"),
            packed.field("etag"),
            "two forms are two entities"
        );
        assert!(packed.body.len() < plain.body.len(), "{path}");
        let mut text = Vec::new();
        flate2::bufread::GzDecoder::new(&*packed.body)
            .read_to_end(&mut text)
            .unwrap();
        assert_eq!(Bytes::from(text), plain.body, "{path}");
    }
    let media = client
        .ask(
            "GET",
            &feed.path("720p/11.m4s"),
            "Accept-Encoding: gzip\r\n",
        )
        .await;
    assert_eq!(media.field("content-encoding"), None);
    let delta = client.get(&(feed.playlist() + "?_HLS_skip=YES")).await;
    assert!(
        delta.text().contains("#EXT-X-SKIP:SKIPPED-SEGMENTS="),
        "{}",
        delta.text()
    );
}

#[tokio::test]
async fn iframe_playlists_wait_for_whole_segments() {
    let server = Server::start().await;
    let mut feed = server.live().await;
    let path = feed.path("720p/iframes.m3u8");
    let waiting = Waiting::for_path(&server, &format!("{path}?_HLS_msn=12&_HLS_part=3")).await;
    server.holds(1).await;
    feed.to(12, 4).await;
    server
        .get(&format!("{}?_HLS_msn=12&_HLS_part=3", feed.playlist()))
        .await;
    assert_eq!(server.held(), 1);
    feed.to(13, 0).await;
    assert!(waiting.answer().await.text().contains("12.m4s"));
    assert_eq!(
        server.get(&feed.path("audio/iframes.m3u8")).await.status,
        404
    );
}

#[tokio::test]
async fn answers_of_every_kind_are_open_to_all() {
    let server = Server::start().await;
    let feed = server.live().await;
    let mut client = server.client().await;
    for path in [
        feed.index(),
        feed.playlist(),
        feed.path("720p/11.m4s"),
        "/live/nobody/index.m3u8".to_owned(),
    ] {
        let fields = "Origin: https://page.test\r\nAccess-Control-Request-Headers: range\r\n";
        let answer = client.ask("OPTIONS", &path, fields).await;
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(answer.field("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.field("access-control-allow-credentials"), None);
        assert!(
            answer
                .field("access-control-allow-headers")
                .unwrap()
                .contains("Range")
        );
        assert_eq!(
            answer.field("access-control-allow-methods"),
            Some("GET, HEAD, OPTIONS")
        );
    }
    for (method, path, status) in [
        ("GET", "/live/nobody/index.m3u8".to_owned(), 404),
        ("GET", "/live/s/other/720p/index.m3u8".to_owned(), 404),
        ("GET", feed.path("144p/index.m3u8"), 404),
        ("GET", feed.path("720p/5.m4s"), 404),
        ("GET", feed.path("720p/x.mp4"), 404),
        ("GET", "/live/s/../s/index.m3u8".to_owned(), 404),
        ("GET", "/live/s%2findex.m3u8".to_owned(), 404),
        ("GET", "/live/s/e/720p/12%00.m4s".to_owned(), 404),
        ("GET", "/live/s/e\\720p\\index.m3u8".to_owned(), 404),
        ("GET", feed.path("720p/11.m4s?x=1"), 400),
        ("GET", feed.path("720p/11.m4s?_HLS_msn=1"), 400),
        ("GET", feed.index() + "?_HLS_msn=1", 400),
        ("GET", "/live/none/index.m3u8?_HLS_msn=1".to_owned(), 404),
        ("GET", "/live/none/index.m3u8?x=1".to_owned(), 400),
        ("GET", feed.index() + "?token=abc", 200),
        ("GET", feed.path("720p/11.m4s?token=abc"), 200),
        ("GET", "/live/%73/index.m3u8".to_owned(), 200),
        ("POST", feed.index(), 405),
        ("DELETE", feed.playlist(), 405),
    ] {
        let answer = client.ask(method, &path, "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        answer.is_open_to_all();
        if status == 404 {
            assert_eq!(answer.field("cache-control"), Some("max-age=1"), "{path}");
        }
    }
}

#[tokio::test]
async fn a_player_may_wait_for_a_stream_that_has_just_begun() {
    let server = Server::start().await;
    assert_eq!(server.get("/live/s/index.m3u8").await.status, 404);
    let mut feed = server.feed("s", "e");
    let waiting = Waiting::for_path(&server, &feed.index()).await;
    server.holds(1).await;
    feed.begin().await;
    feed.to(10, 2).await;
    let answer = waiting.answer().await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.text().contains("e/720p/index.m3u8"),
        "{}",
        answer.text()
    );
    // One that ends before it has anything is none.
    let feed = server.feed("t", "e");
    let waiting = Waiting::for_path(&server, &feed.index()).await;
    server.holds(1).await;
    feed.end().await;
    assert_eq!(waiting.answer().await.status, 404);
}

#[tokio::test]
async fn a_new_publish_takes_the_name_over_and_the_old_one_ends() {
    let server = Server::start().await;
    let old = server.live().await;
    let waiting = Waiting::for_path(&server, &format!("{}?_HLS_msn=12", old.playlist())).await;
    server.holds(1).await;
    let mut new = server.feed("s", "f");
    assert!(
        waiting.answer().await.text().ends_with("#EXT-X-ENDLIST\n"),
        "whoever watched the old one learns its end"
    );
    new.begin().await;
    new.to(10, 1).await;
    let index = server.get(&new.index()).await;
    assert!(
        index.text().contains("f/720p/index.m3u8") && !index.text().contains("e/720p"),
        "{}",
        index.text()
    );
    assert_eq!(
        server.get(&old.path("720p/11.m4s")).await.status,
        200,
        "its media can still be had"
    );
    let id = "s".parse().unwrap();
    let live = server.origin.live(&id).unwrap();
    assert_eq!(
        (live.epoch.as_str(), live.playable, live.ended),
        ("f", true, false)
    );
}

#[tokio::test]
async fn a_sender_that_is_dropped_ends_its_stream() {
    let server = Server::start().await;
    let feed = server.live().await;
    let playlist = feed.playlist();
    let waiting = Waiting::for_path(&server, &format!("{playlist}?_HLS_msn=12")).await;
    server.holds(1).await;
    drop(feed);
    assert!(waiting.answer().await.text().ends_with("#EXT-X-ENDLIST\n"));
}

#[tokio::test]
async fn ended_streams_make_room_for_each_other() {
    let server = Server::with(
        Config {
            grace_bytes: 1,
            ..config()
        },
        Limits::default(),
    )
    .await;
    let first = server.live().await;
    first.end().await;
    let after = server
        .get(&format!("{}?_HLS_msn=12", first.playlist()))
        .await;
    assert_eq!(after.status, 200, "the one that ended last stays");
    let mut second = server.feed("t", "e");
    second.begin().await;
    second.to(10, 3).await;
    second.end().await;
    while server.origin.live(&"s".parse().unwrap()).is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.get(&first.playlist()).await.status, 404);
    assert_eq!(server.get(&first.index()).await.status, 404);
    assert_eq!(server.get(&second.playlist()).await.status, 200);
}

#[tokio::test]
async fn players_are_counted() {
    let server = Server::start().await;
    let feed = server.live().await;
    let id = "s".parse().unwrap();
    let viewers = |origin: &Origin| origin.viewers(&id);
    let before = viewers(&server.origin);
    for agent in 0..7 {
        let fields = format!("User-Agent: player {agent}\r\n");
        server
            .client()
            .await
            .ask("GET", &feed.playlist(), &fields)
            .await;
        server
            .client()
            .await
            .ask("GET", &feed.path("audio/index.m3u8"), &fields)
            .await;
    }
    let after = viewers(&server.origin);
    assert!((6..=8).contains(&(after - before)), "{before} and {after}");
    assert_eq!(server.origin.viewers(&"nobody".parse().unwrap()), 0);
}

#[tokio::test]
async fn shutdown_answers_those_who_wait() {
    let server = Server::start().await;
    let feed = server.live().await;
    let waiting = Waiting::for_path(&server, &format!("{}?_HLS_msn=12", feed.playlist())).await;
    server.holds(1).await;
    server.shutdown.cancel();
    let answer = waiting.answer().await;
    assert_eq!(
        (answer.status, answer.field("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(answer.field("connection"), Some("close"));
    server.serving.await.unwrap();
    assert!(
        TcpStream::connect(server.address).await.is_err(),
        "the port is free"
    );
    // The origin ends its streams by itself.
    server.origin.close().await;
    drop(feed);
}

#[tokio::test]
async fn unknown_streams_cost_nothing() {
    let server = Server::start().await;
    let tasks: Vec<_> = (0..20)
        .map(|connection| {
            let address = server.address;
            spawn(async move {
                let mut client = Client::new(TcpStream::connect(address).await.unwrap());
                for stream in 0..100 {
                    let path =
                        format!("/live/none-{connection}-{stream}/e/720p/index.m3u8?_HLS_msn=1");
                    assert_eq!(client.get(&path).await.status, 404);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(server.held(), 0);
    let series: usize = server
        .registry
        .gather()
        .iter()
        .map(|family| family.get_metric().len())
        .sum();
    assert!(series < 20, "{series} series");
}
