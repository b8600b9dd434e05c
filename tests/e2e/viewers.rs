//! Many viewers, and those that mean no good (faults A10, A13, D1 to D5, and the abuse mix of the security plan).

use std::net::IpAddr;
use std::time::Duration;

use hyper::Method;
use tokio::task::JoinSet;

use crate::common::{LIMIT, clip, discontinuities};
use crate::support::faults;
use crate::support::hls::{Kind, Media, PARTS, Player, Recording};
use crate::support::http::{Client, Exchange, Log, Purpose};
use crate::support::net::{Crowd, Link, Proxy, Slow, nested_amf, throw_random_bytes};
use crate::support::publish::{Flv, Publisher};
use crate::support::server::{Server, Setup, key_of, playlist};

/// One of the addresses that strangers come from.
fn stranger(number: usize) -> IpAddr {
    IpAddr::from([
        127,
        0,
        0,
        2 + u8::try_from(number % 8).expect("eight addresses"),
    ])
}

/// A publish of so many seconds under way, and somebody watching it.
async fn live(server: &Server, seconds: u32) -> (tokio::task::JoinHandle<()>, Player) {
    let mut publisher = Publisher::connect(server.rtmp, &key_of("room"))
        .await
        .unwrap();
    let player = server.play("room", PARTS);
    let flv = Flv::read(&clip(seconds).flv());
    let publishing = tokio::spawn(async move {
        publisher.play(&flv).await.unwrap();
        publisher.close().await;
    });
    player.playing(LIMIT).await;
    (publishing, player)
}

/// What the healthy viewer must have seen whatever went on beside.
fn assert_healthy(recording: &Recording, pictures: usize) {
    assert_eq!(discontinuities(recording), 0);
    for rendition in recording.of_kind(Kind::Video) {
        recording
            .view(rendition)
            .report(1)
            .assert_clean(&rendition.path, pictures);
    }
}

/// A rendition's path and what comes next in it.
async fn next_part(server: &Server, recording: &Recording) -> (String, u64, u64) {
    let path = recording
        .of_kind(Kind::Video)
        .next()
        .expect("a rendition")
        .path
        .clone();
    let (msn, part) = Media::parse(&server.get(&path).await.text()).unwrap().tip();
    (path, msn, part)
}

/// D1: four hundred viewers wait for one part; they get it together, and it is one rendering.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn four_hundred_held_reloads() {
    let server = Setup::default().start().await;
    let (publishing, player) = live(&server, 14).await;
    for _ in 0..3 {
        let (path, msn, part) = next_part(&server, &player.recording()).await;
        let target = format!("{path}?_HLS_msn={msn}&_HLS_part={}", part + 3);
        let log = Log::new();
        let mut waiting = JoinSet::new();
        for number in 0..400 {
            let mut client = Client::new(server.http, &log).from(stranger(number));
            let target = target.clone();
            waiting.spawn(async move { client.get(Purpose::Probe("held"), &target).await });
        }
        let answers = waiting.join_all().await;
        let wrong: Vec<u16> = answers
            .iter()
            .map(|answer| answer.status)
            .filter(|status| *status != 200)
            .collect();
        assert_eq!(wrong, [0_u16; 0]);
        // The part after those may be out already for the slowest of them.
        let bodies: std::collections::BTreeSet<_> =
            answers.iter().map(|answer| answer.body.clone()).collect();
        assert!(bodies.len() <= 3, "{} renderings", bodies.len());
        let last = answers
            .iter()
            .map(|answer| answer.done)
            .max()
            .unwrap_or_default();
        let first = answers
            .iter()
            .map(|answer| answer.head)
            .filter(|head| *head > Duration::from_millis(100))
            .min()
            .unwrap_or(last);
        assert!(
            last - first < Duration::from_secs(1),
            "the last answer came {:?} after the first",
            last - first
        );
    }
    publishing.await.unwrap();
    assert_healthy(&player.ended(LIMIT).await, 420);
}

/// D2: a thousand viewers join within a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_joins() {
    let server = Setup::default().start().await;
    let (publishing, player) = live(&server, 12).await;
    let log = Log::new();
    let mut joining = JoinSet::new();
    for number in 0..1000 {
        let mut client = Client::new(server.http, &log).from(stranger(number));
        joining.spawn(async move { client.get(Purpose::Probe("join"), &playlist("room")).await });
    }
    let answers: Vec<Exchange> = joining.join_all().await;
    let served = answers.iter().filter(|answer| answer.ok()).count();
    // What is too much is told so, or not let in; what is let in is served.
    let honest = answers
        .iter()
        .all(|answer| matches!(answer.status, 0 | 200 | 503));
    assert!(
        honest && served >= 600,
        "{served} served of {}",
        answers.len()
    );
    publishing.await.unwrap();
    assert_healthy(&player.ended(LIMIT).await, 360);
}

/// D3: a hundred readers take a hundred bytes a second of what they asked for; they are cut off in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_that_sip() {
    let server = Setup::default().start().await;
    let (publishing, player) = live(&server, 45).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let recording = player.recording();
    let top = recording.named("360p");
    let segment = top
        .timeline()
        .find_map(|segment| segment.uri.clone())
        .expect("a whole segment");
    let target = crate::support::hls::resolve(&top.path, &segment);
    let before = faults::used(server.id()).resident_kib;
    let mut sipping = JoinSet::new();
    for number in 0..100 {
        let slow = Slow::ask(stranger(number), server.http, &target)
            .await
            .expect("a connection");
        sipping.spawn(slow.sip(Duration::from_secs(38)));
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let grown = faults::used(server.id())
        .resident_kib
        .saturating_sub(before);
    assert!(grown < 100 * 256, "{grown} KiB for a hundred slow readers");
    let counted = "headwater_http_cut_connections_total{reason=\"slow_reader\"}";
    let early = server.metric(counted).await;
    assert!(early < 1.0, "{early} cut off before their time");
    let cut = sipping
        .join_all()
        .await
        .into_iter()
        .filter(|cut| *cut)
        .count();
    assert!(cut >= 95, "only {cut} of 100 were cut off");
    let counted = server.metric(counted).await;
    assert!(counted >= 95.0, "only {counted} of 100 were counted");
    publishing.await.unwrap();
    assert_healthy(&player.ended(LIMIT).await, 1350);
}

/// D5: viewers that go away while they wait leave nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn waiters_that_go_away() {
    let server = Setup::default().start().await;
    let (publishing, player) = live(&server, 16).await;
    let recording = player.recording();
    let before = faults::used(server.id());
    for round in 0..5 {
        let (path, msn, _) = next_part(&server, &recording).await;
        let mut waiting = JoinSet::new();
        for number in 0..200 {
            let mut client = Client::new(server.http, &Log::new()).from(stranger(number + round));
            let target = format!("{path}?_HLS_msn={}&_HLS_part=0", msn + 1);
            waiting.spawn(async move {
                tokio::time::timeout(
                    Duration::from_millis(100),
                    client.get(Purpose::Probe("gone"), &target),
                )
                .await
                .is_ok()
            });
        }
        waiting.join_all().await;
    }
    let back = || faults::used(server.id()).files <= before.files + 10;
    crate::support::wait_for(
        Duration::from_secs(10),
        || {
            format!(
                "descriptors to come back: {before:?}, now {:?}",
                faults::used(server.id())
            )
        },
        back,
    )
    .await;
    assert!(server.metric("headwater_http_held_requests").await < 20.0);
    publishing.await.unwrap();
    assert_healthy(&player.ended(LIMIT).await, 480);
}

/// D7: streams that nobody knows cost nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn polling_the_unknown() {
    let server = Setup::default().start().await;
    let mut client = Client::new(server.http, &Log::new());
    let before = faults::used(server.id()).resident_kib;
    for number in 0..3000 {
        let answer = client
            .get(
                Purpose::Probe("unknown"),
                &format!("/live/nobody-{number}/index.m3u8?_HLS_msn=3"),
            )
            .await;
        assert_eq!(answer.status, 404, "{number}: {}", answer.text());
        assert!(
            answer.header("cache-control").contains("no-store")
                || answer.max_age().is_some_and(|age| age <= 1),
            "{:?}",
            answer.headers
        );
    }
    let grown = faults::used(server.id())
        .resident_kib
        .saturating_sub(before);
    assert!(grown < 4 << 10, "{grown} KiB");
}

/// A13: when descriptors run out, what is live goes on, nothing spins, and it is over when the crowd goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn descriptors_that_run_out() {
    let server = Setup::default().open_files(200).start().await;
    let (publishing, player) = live(&server, 20).await;
    let crowd = Crowd::gather(
        server.http,
        400,
        b"GET /live/room/index.m3u8 HTTP/1.1\r\nhost: x\r\n",
    )
    .await;
    let busy = faults::cpu_share(server.id(), Duration::from_secs(3)).await;
    assert!(busy < 1.2, "{busy} cores");
    drop(crowd);
    let asked = std::time::Instant::now();
    crate::support::wait_for(
        Duration::from_secs(8),
        || "a new viewer to be let in".to_owned(),
        || std::net::TcpStream::connect(server.http).is_ok(),
    )
    .await;
    let answer = server.get(&playlist("room")).await;
    assert!(answer.ok(), "{} after {:?}", answer.status, asked.elapsed());
    publishing.await.unwrap();
    assert_healthy(&player.ended(LIMIT).await, 600);
}

/// D4 and the abuse mix: ten thousand half-open connections at both ports, random bytes at every port, an AMF bomb, slow
/// readers. The healthy stream loses no frame, and a new publisher gets in within three seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn abuse_of_every_kind_at_once() {
    let server = Setup::default().streams(&["room", "late"]).start().await;
    let (publishing, player) = live(&server, 40).await;
    let before = faults::used(server.id());
    let rtmp_hello: Vec<u8> = std::iter::once(3)
        .chain(std::iter::repeat_n(0, 1536))
        .collect();
    let amf = tokio::spawn(bomb(server.rtmp));
    let (to_rtmp, to_http, (), (), ()) = tokio::join!(
        Crowd::gather(server.rtmp, 5_000, &[3]),
        Crowd::gather(
            server.http,
            5_000,
            b"GET /live/room/index.m3u8 HTTP/1.1\r\n"
        ),
        throw_random_bytes(server.rtmp, 200, 60_000, &rtmp_hello, 1),
        throw_random_bytes(
            server.http,
            200,
            20_000,
            b"GET /live/room/index.m3u8 HTTP/1.1\r\nhost: x\r\n",
            2
        ),
        throw_random_bytes(server.ops, 200, 20_000, b"GET /metrics HTTP/1.1\r\n", 3),
    );
    amf.await.unwrap();
    // While they all hang there.
    let began = std::time::Instant::now();
    let mut late =
        Publisher::connect_from(([127, 0, 0, 1], 0).into(), server.rtmp, &key_of("late"))
            .await
            .expect("a new publisher is let in");
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(3),
        "a new publisher waited {took:?}"
    );
    late.play(&Flv::read(&clip(3).flv())).await.unwrap();
    late.close().await;
    assert!(
        server.get(&playlist("room")).await.ok(),
        "a new viewer is let in"
    );
    // Whoever does not speak is shown out.
    let reaped = || {
        to_rtmp.closed() + to_rtmp.refused >= 4_900 && to_http.closed() + to_http.refused >= 4_900
    };
    let left = || {
        format!(
            "silent connections to be closed: {} and {} of {}, {} are",
            to_rtmp.closed(),
            to_http.closed(),
            to_rtmp.len(),
            to_http.len()
        )
    };
    crate::support::wait_for(Duration::from_secs(20), left, reaped).await;
    drop((to_rtmp, to_http));
    publishing.await.unwrap();
    let recording = player.ended(LIMIT).await;
    assert_healthy(&recording, 1200);
    for rendition in recording.of_kind(Kind::Video) {
        let (pause, at) = rendition.longest_pause();
        assert!(
            pause < Duration::from_secs(3),
            "{} stood still for {pause:?} at {at:?}",
            rendition.path
        );
    }
    let after = faults::used(server.id());
    assert!(
        after.files <= before.files + 20,
        "{before:?}, then {after:?}"
    );
    assert!(
        after.resident_kib < before.resident_kib + (96 << 10),
        "{before:?}, then {after:?}"
    );
}

async fn bomb(to: std::net::SocketAddr) {
    use tokio::io::AsyncWriteExt as _;
    let bomb = nested_amf();
    for _ in 0..5 {
        if let Ok(mut stream) = tokio::net::TcpStream::connect(to).await {
            // The server may well hang up before it has all of it.
            let _ = stream.write_all(&bomb).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// A10 on one node: the whole server dies under its viewers. It is back in a second, under names never used before.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_killed_and_comes_back() {
    let server = Setup::default().start().await;
    let player = server.play("room", PARTS);
    let mut publisher = Publisher::connect(server.rtmp, &key_of("room"))
        .await
        .unwrap();
    let flv = Flv::read(&clip(4).flv());
    publisher.play(&flv).await.unwrap();
    player.playing(LIMIT).await;
    let before = player.stop().await;
    let workers = faults::workers(&server);
    assert!(!workers.is_empty());
    let server = server.killed_and_restarted().await;
    assert!(
        server.started_in < Duration::from_secs(2),
        "back after {:?}",
        server.started_in
    );
    let orphans = || {
        workers
            .iter()
            .all(|id| !std::path::Path::new(&format!("/proc/{id}")).exists())
    };
    crate::support::wait_for(
        Duration::from_secs(10),
        || "the workers of the dead server to end".to_owned(),
        orphans,
    )
    .await;
    assert_eq!(
        server.get(&playlist("room")).await.status,
        404,
        "nobody publishes yet"
    );
    let after = crate::common::publish_to(&server, "room", &flv).await;
    after
        .view(after.named("240p"))
        .report(1)
        .assert_clean("after", 110);
    let epoch = |recording: &Recording| {
        recording
            .played()
            .next()
            .map(|rendition| rendition.path.clone())
    };
    assert_ne!(
        epoch(&before),
        epoch(&after),
        "names of the first life came back"
    );
}

/// An encoder far away: delay, jitter, and a link that stalls for two seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_encoder_behind_a_bad_link() {
    let server = Setup::default().start().await;
    let link = Link {
        delay: Duration::from_millis(80),
        jitter: Duration::from_millis(60),
        ..Link::default()
    };
    let proxy = Proxy::start(server.rtmp, link, 11).await;
    let mut publisher = Publisher::connect(proxy.at, &key_of("room")).await.unwrap();
    let player = server.play("room", PARTS);
    let flv = Flv::read(&clip(14).flv());
    let stalling = async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        proxy.set(Link {
            black_hole: true,
            ..link
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        proxy.set(link);
    };
    let (sent, ()) = tokio::join!(publisher.play(&flv), stalling);
    sent.unwrap();
    publisher.close().await;
    assert_healthy(&player.ended(LIMIT).await, 420);
}

/// A connection that breaks without a goodbye ends the stream, and the next publish is welcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_encoder_whose_link_breaks() {
    let server = Setup::default().start().await;
    let proxy = Proxy::start(server.rtmp, Link::default(), 12).await;
    let mut publisher = Publisher::connect(proxy.at, &key_of("room")).await.unwrap();
    let player = server.play("room", PARTS);
    let flv = Flv::read(&clip(6).flv());
    publisher.play(&flv).await.unwrap();
    proxy.cut();
    assert_healthy(&player.ended(LIMIT).await, 170);
    let again = crate::common::publish_to(&server, "room", &flv).await;
    assert_healthy(&again, 170);
    assert_eq!(
        server.api(Method::GET, "streams/room", "").await.json()["state"],
        "idle"
    );
}
