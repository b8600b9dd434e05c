//! The front's limits, over pipes and with time that passes only when everyone waits for it.

use std::future::pending;
use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use bytes::Bytes;
use hyper::{Request, StatusCode};
use prometheus::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, sleep, timeout};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(10);
/// What a kernel's socket buffers hold, roughly.
const PIPE: usize = 64 * 1024;

impl connection::Socket for DuplexStream {
    /// A pipe is gone with its ends.
    fn abort(&self) {}
}

struct Server {
    shared: Arc<Shared>,
    registry: Registry,
}

impl Server {
    fn new(limits: Limits) -> Self {
        Self::over(limits, None)
    }

    fn over(limits: Limits, tls: Option<Arc<ServerConfig>>) -> Self {
        let registry = Registry::new();
        let origin = Origin::new(crate::Config::default(), &registry);
        let big = || async { Bytes::from(vec![b'x'; 1 << 20]) };
        let router = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/big", get(big))
            .route("/small", get(|| async { Bytes::from(vec![b'x'; 20_000]) }))
            .route("/never", get(|| async { pending::<&str>().await }))
            .route("/slow", get(|| async { sleep(2 * SECOND).await }))
            .route(
                "/panic",
                get(|| async { panic!("a bug, on purpose") as () }),
            )
            .route("/echo", post(|body: Bytes| async { body }))
            .route(
                "/peer",
                get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }),
            );
        let shared = Shared::new(
            Front::new(origin, router, limits),
            tls,
            CancellationToken::new(),
        );
        Self {
            shared: Arc::new(shared),
            registry,
        }
    }

    fn connect(&self) -> DuplexStream {
        self.connect_from("192.0.2.1:1234")
    }

    fn connect_from(&self, peer: &str) -> DuplexStream {
        self.accept(peer, PIPE)
    }

    /// Over a pipe that holds so many bytes.
    fn connect_through(&self, pipe: usize) -> DuplexStream {
        self.accept("192.0.2.1:1234", pipe)
    }

    fn accept(&self, peer: &str, pipe: usize) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(pipe);
        let peer: SocketAddr = peer.parse().unwrap();
        let admitted = self.shared.front.inner.gate.admit(peer.ip()).unwrap();
        self.shared
            .tasks
            .spawn(self.shared.clone().serve(theirs, peer, admitted));
        ours
    }

    /// The sum of a metric's values that have a label of this value, or of all.
    fn value(&self, metric: &str, label: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == metric);
        let metrics = family
            .map(prometheus::proto::MetricFamily::get_metric)
            .unwrap_or_default();
        let labelled = metrics.iter().filter(|metric| {
            label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label)
        });
        let values = labelled.map(|metric| metric.get_counter().get_value());
        format!("{:.0}", values.fold(0.0, |sum, value| sum + value))
            .parse()
            .unwrap()
    }
}

/// Reads one answer with a Content-Length; empty at the end of the connection.
async fn answer(io: &mut DuplexStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        if io.read(&mut byte).await.unwrap() == 0 {
            return String::from_utf8(text).unwrap();
        }
        text.push(byte[0]);
    }
    let head = String::from_utf8(text).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    io.read_exact(&mut body).await.unwrap();
    head + &String::from_utf8(body).unwrap()
}

async fn rest(io: &mut DuplexStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A connection that is cut may end with an error.
    let _ = io.read_to_end(&mut rest).await;
    rest
}

async fn ask(io: &mut DuplexStream, request: &str) -> String {
    io.write_all(request.as_bytes()).await.unwrap();
    answer(io).await
}

/// How long until the server ends the connection.
async fn closes_after(io: &mut DuplexStream) -> Duration {
    let before = Instant::now();
    rest(io).await;
    before.elapsed()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_cut_after_the_time_for_a_head() {
    let server = Server::new(Limits::default());
    let mut io = server.connect();
    assert_eq!(closes_after(&mut io).await.as_secs(), 5);
    assert_eq!(
        server.value("headwater_http_cut_connections_total", "slow_head"),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_is_cut_as_soon_as_one_that_never_starts() {
    let server = Server::new(Limits::default());
    let mut io = server.connect();
    for byte in GET.bytes().take(9) {
        io.write_all(&[byte]).await.unwrap();
        sleep(SECOND / 2).await;
    }
    let left = closes_after(&mut io).await;
    assert!(left <= SECOND / 2 + MOMENT, "{left:?}");
    assert_eq!(
        server.value("headwater_http_cut_connections_total", "slow_head"),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_head_has_its_own_five_seconds() {
    let server = Server::new(Limits::default());
    let mut io = server.connect();
    assert!(ask(&mut io, GET).await.ends_with("hello"));
    sleep(60 * SECOND).await;
    io.write_all(b"GET / HT").await.unwrap();
    sleep(5 * SECOND - MOMENT).await;
    assert!(
        ask(&mut io, "TP/1.1\r\nHost: a\r\n\r\n")
            .await
            .ends_with("hello")
    );
    io.write_all(b"GET / HT").await.unwrap();
    assert_eq!(closes_after(&mut io).await.as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_unused_connection_is_kept_for_its_time() {
    let server = Server::new(Limits::default());
    let mut io = server.connect();
    assert!(ask(&mut io, GET).await.ends_with("hello"));
    sleep(64 * SECOND).await;
    assert!(ask(&mut io, GET).await.ends_with("hello"));
    assert_eq!(closes_after(&mut io).await.as_secs(), 65);
    assert_eq!(
        server.value("headwater_http_cut_connections_total", ""),
        0,
        "that is no fault"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_is_cut_and_one_that_is_slow_is_not() {
    let server = Server::new(Limits::default());
    let mut stopped = server.connect();
    let mut slow = server.connect();
    let request = b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n";
    stopped.write_all(request).await.unwrap();
    slow.write_all(request).await.unwrap();
    let mut some = [0; 2_200];
    for second in 0..100 {
        sleep(SECOND).await;
        slow.read_exact(&mut some).await.unwrap();
        let cut = server.value("headwater_http_cut_connections_total", "slow_reader");
        // At thirty seconds sharp the two timers race.
        if second != 29 {
            assert_eq!(cut, u64::from(second > 29), "after {} s", second + 1);
        }
    }
    assert!(rest(&mut stopped).await.len() <= PIPE);
    assert!(rest(&mut slow).await.len() + 100 * some.len() > 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn our_own_delay_is_nobodys_fault() {
    let server = Server::new(Limits::default());
    let mut io = server.connect();
    io.write_all(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    assert!(
        timeout(1000 * SECOND, io.read_u8()).await.is_err(),
        "the request stays open"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_body_has_to_arrive() {
    let server = Server::new(Limits::default());
    let mut io = server.connect();
    let echoed = ask(
        &mut io,
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    )
    .await;
    assert!(echoed.ends_with("\r\n\r\nabc"));
    io.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabc")
        .await
        .unwrap();
    let before = Instant::now();
    assert!(answer(&mut io).await.starts_with("HTTP/1.1 400"));
    assert_eq!(before.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn heads_have_a_largest_size() {
    let server = Server::new(Limits::default());
    let check = async |fields: String, expected: &str| {
        let mut io = server.connect();
        io.write_all(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes())
            .await
            .unwrap();
        let got = answer(&mut io).await;
        assert!(
            got.starts_with(expected),
            "{} bytes: {got:.40}",
            fields.len()
        );
    };
    let fields = |count: usize| {
        (0..count)
            .map(|n| format!("x{n}: y\r\n"))
            .collect::<String>()
    };
    check(fields(63), "HTTP/1.1 200").await;
    check(fields(64), "HTTP/1.1 431").await;
    let long = |len: usize| format!("x: {}\r\n", "y".repeat(len));
    check(long(16 * 1024 - 60), "HTTP/1.1 200").await;
    check(long(16 * 1024), "HTTP/1.1 431").await;
}

#[tokio::test(start_paused = true)]
async fn what_a_proxy_could_read_in_another_way_is_refused() {
    let server = Server::new(Limits::default());
    let check = async |request: &str, expected: &str| {
        let mut io = server.connect();
        io.write_all(request.as_bytes()).await.unwrap();
        let got = String::from_utf8(rest(&mut io).await).unwrap();
        assert!(got.starts_with(expected), "{request:?}: {got}");
        assert_eq!(
            got.matches("HTTP/1.1").count(),
            1,
            "{request:?}: the connection ends there"
        );
    };
    let chunked = "Transfer-Encoding: chunked\r\n";
    let smuggled = "\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n";
    for route in ["/echo", "/live/a/index.m3u8"] {
        let post = format!("POST {route} HTTP/1.1\r\nHost: a\r\n");
        check(
            &format!("{post}Content-Length: 5\r\n{chunked}{smuggled}"),
            "HTTP/1.1 400",
        )
        .await;
        check(
            &format!("{post}{chunked}Content-Length: 5\r\n{smuggled}"),
            "HTTP/1.1 400",
        )
        .await;
        check(&format!("{post}{chunked}{smuggled}"), "HTTP/1.1 400").await;
        check(
            &format!("{post}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
            "HTTP/1.1 400",
        )
        .await;
        check(
            &format!("{post}Content-Length: +5\r\n\r\nhello"),
            "HTTP/1.1 400",
        )
        .await;
    }
    check("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400").await;
    check(
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "HTTP/1.1 400",
    )
    .await;
    check("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "HTTP/1.1 400").await;
    check(
        "GET /live/a/index.m3u8 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 400",
    )
    .await;
    check("nonsense\r\n\r\n", "HTTP/1.1 400").await;
}

#[tokio::test(start_paused = true)]
async fn handlers_learn_who_asks() {
    let server = Server::new(Limits::default());
    let mut io = server.connect_from("[2001:db8::7]:99");
    let told = ask(
        &mut io,
        "GET /peer HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n",
    )
    .await;
    assert!(told.ends_with("\r\n\r\n[2001:db8::7]:99"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_its_own_connection_and_is_counted() {
    let server = Server::new(Limits::default());
    let mut healthy = server.connect();
    assert!(ask(&mut healthy, GET).await.ends_with("hello"));
    let mut io = server.connect();
    assert_eq!(
        ask(&mut io, "GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await,
        ""
    );
    assert_eq!(server.value("headwater_http_panics_total", ""), 1);
    assert!(ask(&mut healthy, GET).await.ends_with("hello"));
}

#[tokio::test(start_paused = true)]
async fn a_full_server_says_so_and_closes() {
    let server = Server::new(Limits {
        connections: 16,
        ..Limits::default()
    });
    let mut all: Vec<_> = (0..17).map(|_| server.connect()).collect();
    let mut excess = all.pop().unwrap();
    let told = ask(&mut excess, GET).await;
    assert!(told.starts_with("HTTP/1.1 503"), "{told}");
    assert!(told.contains("\r\nretry-after: 1\r\n"), "{told}");
    assert_eq!(closes_after(&mut excess).await, Duration::ZERO);
    assert!(ask(&mut all[0], GET).await.ends_with("hello"));
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_answers_finish_and_ends_the_rest() {
    let server = Server::new(Limits::default());
    let mut unused = server.connect();
    assert!(ask(&mut unused, GET).await.ends_with("hello"));
    let mut busy = server.connect();
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    sleep(SECOND).await;
    server.shared.shutdown.cancel();
    assert_eq!(closes_after(&mut unused).await, Duration::ZERO);
    assert!(answer(&mut busy).await.starts_with("HTTP/1.1 200"));
    assert_eq!(closes_after(&mut busy).await, Duration::ZERO);
    server.shared.tasks.close();
    server.shared.tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_finish_can_be_cut() {
    let server = Server::new(Limits::default());
    let mut stuck = server.connect();
    stuck
        .write_all(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    sleep(SECOND).await;
    server.shared.shutdown.cancel();
    assert!(timeout(SECOND, stuck.read_u8()).await.is_err());
    server.shared.cut.cancel();
    assert_eq!(closes_after(&mut stuck).await, Duration::ZERO);
}

/// A server that speaks TLS, and what a client needs to trust it.
fn secure() -> (Server, tokio_rustls::TlsConnector) {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            key.signing_key.serialize_der().try_into().unwrap(),
        )
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(key.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (
        Server::over(Limits::default(), Some(Arc::new(config))),
        Arc::new(client).into(),
    )
}

#[tokio::test(start_paused = true)]
async fn a_tls_handshake_has_to_end() {
    let (server, _) = secure();
    let mut io = server.connect();
    io.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
    assert_eq!(closes_after(&mut io).await.as_secs(), 5);
    assert_eq!(
        server.value("headwater_http_cut_connections_total", "slow_handshake"),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn what_tls_has_taken_but_the_socket_has_not_is_still_owed() {
    let (server, connector) = secure();
    let name = "localhost".try_into().unwrap();
    let mut io = connector
        .connect(name, server.connect_through(2_000))
        .await
        .unwrap();
    io.write_all(b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    io.flush().await.unwrap();
    let cut = || server.value("headwater_http_cut_connections_total", "slow_reader");
    sleep(29 * SECOND).await;
    assert_eq!(cut(), 0);
    sleep(2 * SECOND).await;
    assert_eq!(cut(), 1);
}

/// Playlists of one rendition of sound: one part, and that is all there will be.
fn one_part(event: media::Event) -> Result<Vec<packager::Chunk>, packager::Error> {
    let aac = media::bitstream::aac::Config::lc(48_000, 2).unwrap();
    let scale = media::Timescale::new(48_000).unwrap();
    let track = media::Track {
        id: media::TrackId(0),
        name: "audio".parse().unwrap(),
        format: media::Format::Audio(aac.audio()),
        codec: media::Codec::Aac(aac),
        timescale: scale,
        bandwidth: None,
    };
    let (rendition, init): (_, Arc<str>) = (track.name.clone(), Arc::from("init-0.mp4"));
    let part_target = Duration::from_millis(250);
    let opens = packager::Opening {
        discontinuity: 0,
        utc: media::Utc::from_unix_micros(0),
        init: init.clone(),
    };
    let part = packager::Part {
        rendition,
        segment: 7,
        index: 0,
        start: media::Timestamp::new(0, scale),
        duration: 11_264,
        independent: true,
        keyframe_bytes: None,
        data: Bytes::from_static(b"moof and mdat"),
        opens: Some(opens),
    };
    Ok(match event {
        media::Event::End => vec![packager::Chunk::End],
        _ => vec![
            packager::Chunk::Renditions(
                [packager::Rendition {
                    track,
                    part_target,
                    init,
                }]
                .into(),
            ),
            packager::Chunk::Part(part),
        ],
    })
}

#[tokio::test(start_paused = true)]
async fn a_hint_that_does_not_come_true_is_taken_back_at_once() {
    let server = Server::new(Limits::default());
    let events = server
        .shared
        .front
        .inner
        .origin
        .start_with(&"s".parse().unwrap(), one_part);
    events
        .send(media::Event::Tracks(Arc::from([])))
        .await
        .unwrap();
    let mut io = server.connect();
    let get = |file: &str| format!("GET /live/s/e/audio/{file} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(
        ask(&mut io, &get("7.0.m4s"))
            .await
            .ends_with("moof and mdat")
    );
    io.write_all(get("7.1.m4s").as_bytes()).await.unwrap();
    assert!(timeout(SECOND, io.read_u8()).await.is_err(), "it is held");
    events.send(media::Event::End).await.unwrap();
    let before = Instant::now();
    assert!(answer(&mut io).await.starts_with("HTTP/1.1 404"));
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_held_for_longer_than_three_target_durations() {
    let server = Server::new(Limits::default());
    // It has begun, and nothing comes.
    let _events = server
        .shared
        .front
        .inner
        .origin
        .start("s".parse().unwrap(), "e".to_owned());
    let mut io = server.connect();
    let before = Instant::now();
    let told = ask(
        &mut io,
        "GET /live/s/index.m3u8 HTTP/1.1\r\nHost: a\r\n\r\n",
    )
    .await;
    assert!(told.starts_with("HTTP/1.1 503"), "{told}");
    assert_eq!(before.elapsed().as_secs(), 6);
}

fn h2_request(path: &str) -> Request<()> {
    Request::get(format!("http://a{path}")).body(()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn http2_comes_by_prior_knowledge_and_retires_too() {
    let server = Server::new(Limits::default());
    let (mut client, connection) = h2::client::handshake(server.connect()).await.unwrap();
    let connection = server.shared.tasks.spawn(connection);
    let (answer, _) = client.send_request(h2_request("/peer"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    let before = Instant::now();
    connection.await.unwrap().unwrap();
    assert_eq!(before.elapsed().as_secs(), 65);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_window_stays_shut_is_cut() {
    let server = Server::new(Limits::default());
    let mut builder = h2::client::Builder::new();
    let (mut client, connection) = builder
        .initial_window_size(10)
        .handshake::<_, Bytes>(server.connect())
        .await
        .unwrap();
    let connection = server.shared.tasks.spawn(connection);
    let (answer, _) = client.send_request(h2_request("/big"), true).unwrap();
    let before = Instant::now();
    let answer = answer.await.unwrap();
    let ended = connection.await.unwrap();
    assert_eq!(before.elapsed().as_secs(), 30, "{ended:?}");
    assert_eq!(
        server.value("headwater_http_cut_connections_total", "slow_reader"),
        1
    );
    drop(answer);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_requests_that_are_asked_and_dropped_are_enough() {
    let server = Server::new(Limits::default());
    let (mut client, connection) = h2::client::handshake(server.connect()).await.unwrap();
    let connection = server.shared.tasks.spawn(connection);
    let mut asked = 0;
    for _ in 0..1000 {
        client = match client.ready().await {
            Ok(client) => client,
            Err(_) => break,
        };
        let Ok((answer, mut stream)) = client.send_request(h2_request("/never"), true) else {
            break;
        };
        asked += 1;
        // The server has it in hand before it is dropped: the reset is not one that h2 itself counts.
        tokio::task::yield_now().await;
        sleep(MOMENT).await;
        stream.send_reset(h2::Reason::CANCEL);
        drop(answer);
    }
    assert!((101..=110).contains(&asked), "{asked}");
    let _ = connection.await.unwrap();
    assert_eq!(
        server.value("headwater_http_cut_connections_total", "abandons"),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn shutdown_tells_http2_peers_to_go_away() {
    let server = Server::new(Limits::default());
    let (mut client, connection) = h2::client::handshake(server.connect()).await.unwrap();
    let connection = server.shared.tasks.spawn(connection);
    let (slow, _) = client.send_request(h2_request("/slow"), true).unwrap();
    sleep(SECOND).await;
    server.shared.shutdown.cancel();
    assert_eq!(slow.await.unwrap().status(), StatusCode::OK);
    connection.await.unwrap().unwrap();
    assert!(client.ready().await.is_err());
}
