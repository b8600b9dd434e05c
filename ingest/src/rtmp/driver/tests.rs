use std::sync::Mutex;

use bytes::BytesMut;
use media::Event;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::super::proto::message::{self, Command};
use super::super::proto::testing::{Client, KEY, Random, fixture, fixture_messages, read_answers};
use super::*;
use crate::{Protocol, Reject};

/// A test that has not ended by now has hung.
const HANG: Duration = Duration::from_secs(20);

fn listen(config: Config) -> Listener {
    Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), config, None).unwrap()
}

async fn connect(listener: &Listener, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(listener.local_addr()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

async fn accept(listener: &mut Listener) -> Publish {
    timeout(HANG, listener.accept())
        .await
        .expect("hung")
        .expect("open")
}

/// Everything the server says until it closes, and the status in it.
async fn answers(stream: &mut TcpStream) -> (Vec<message::Message>, Option<(String, String)>) {
    let mut bytes = Vec::new();
    // A reset after the last word is no matter.
    let _ = timeout(HANG, stream.read_to_end(&mut bytes))
        .await
        .expect("hung");
    let answers = read_answers(BytesMut::from(bytes.as_slice()));
    let last = answers
        .iter()
        .rfind(|message| message.kind == message::COMMAND);
    let status = last.and_then(|message| {
        let information = Command::decode(message).unwrap().arguments.pop()?;
        let text = |key| Some(information.get(key)?.as_str()?.to_owned());
        Some((text("code")?, text("description")?))
    });
    (answers, status)
}

async fn status(stream: &mut TcpStream) -> (String, String) {
    answers(stream).await.1.expect("a status")
}

/// Reads until the server has said `needle`.
async fn wait_for(stream: &mut TcpStream, needle: &[u8]) {
    let mut bytes = Vec::new();
    while !bytes.windows(needle.len()).any(|window| window == needle) {
        assert_ne!(
            timeout(HANG, stream.read_buf(&mut bytes))
                .await
                .expect("hung")
                .unwrap(),
            0,
            "closed"
        );
    }
}

async fn drain(session: &mut crate::Session) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(event) = timeout(HANG, session.events.recv()).await.expect("hung") {
        events.push(event);
    }
    events
}

#[tokio::test]
async fn a_recording_is_published_whole() {
    let mut listener = listen(Config::default());
    let recording = fixture("ffmpeg-5.1-h264-aac.bin");
    let mut stream = connect(&listener, &recording).await;
    let publish = accept(&mut listener).await;
    assert_eq!(publish.protocol(), Protocol::Rtmp);
    assert_eq!(publish.peer(), stream.local_addr().unwrap());
    assert_eq!(publish.key().expose(), "fixture-key-0123456789");
    assert!(publish.encoder().unwrap().contains("Lavf"));
    assert!(!format!("{publish:?}").contains("fixture-key"));
    let mut session = publish.accept();
    let mut events = Vec::new();
    while events.last() != Some(&Event::End) {
        events.extend(timeout(HANG, session.events.recv()).await.expect("hung"));
    }
    let stats = session.stats.snapshot();
    assert_eq!(
        stats.ended.unwrap().label,
        "unpublished",
        "known with the end"
    );
    assert_eq!(drain(&mut session).await, [], "nothing after the end");
    let units = events
        .iter()
        .filter(|event| matches!(event, Event::Unit(_)))
        .count();
    let stats = session.stats.snapshot();
    assert_eq!(stats.units, u64::try_from(units).unwrap());
    assert_eq!(stats.drops.total(), 0);
    assert!(stats.bytes > 20_000 && stats.bytes <= u64::try_from(recording.len()).unwrap());
    assert_eq!(status(&mut stream).await.0, "NetStream.Unpublish.Success");
}

#[tokio::test]
async fn a_refusal_reaches_the_encoder_before_the_close() {
    let mut listener = listen(Config::default());
    for (reason, code) in [
        (Some(Reject::BadKey), "NetStream.Publish.Denied"),
        (Some(Reject::InUse), "NetStream.Publish.Rejected"),
        (
            Some(Reject::Capacity("full".to_owned())),
            "NetStream.Publish.Rejected",
        ),
        (None, "NetStream.Publish.Rejected"),
    ] {
        let mut stream = connect(&listener, &Client::publishing(KEY).bytes).await;
        let publish = accept(&mut listener).await;
        let expected = reason.clone().unwrap_or(Reject::Unavailable).to_string();
        match reason {
            Some(reason) => publish.reject(reason),
            None => drop(publish),
        }
        // The encoder goes on sending, as encoders do: the answer must survive that.
        let _ = stream.write_all(&[0; 200_000]).await;
        assert_eq!(status(&mut stream).await, (code.to_owned(), expected));
    }
    assert_eq!(listener.counters().get("rejected"), 4);
}

#[tokio::test]
async fn a_key_that_cannot_be_one_is_refused_as_a_wrong_one() {
    let mut listener = listen(Config::default());
    let mut malformed = connect(&listener, &Client::publishing("bad key").bytes).await;
    let malformed = answers(&mut malformed).await;
    let mut wrong = connect(&listener, &Client::publishing(KEY).bytes).await;
    accept(&mut listener).await.reject(Reject::BadKey);
    assert_eq!(malformed, answers(&mut wrong).await);
}

#[tokio::test]
async fn ten_wrong_keys_block_the_address_even_for_the_right_one() {
    let mut listener = listen(Config::default());
    for n in 0..10 {
        let name = if n % 2 == 0 { KEY } else { "malformed" };
        let mut stream = connect(&listener, &Client::publishing(name).bytes).await;
        if n % 2 == 0 {
            accept(&mut listener).await.reject(Reject::BadKey);
        }
        assert_eq!(status(&mut stream).await.1, Reject::BadKey.to_string());
    }
    let mut stream = connect(&listener, &Client::publishing(KEY).bytes).await;
    assert_eq!(
        status(&mut stream).await.1,
        Reject::TooManyAttempts.to_string()
    );
}

#[tokio::test]
async fn a_kick_reaches_the_encoder_and_ends_the_session() {
    let mut listener = listen(Config::default());
    let mut stream = connect(&listener, &Client::publishing(KEY).bytes).await;
    let mut session = accept(&mut listener).await.accept();
    session.kick.kick(Reject::Kicked);
    session.kick.kick(Reject::TakenOver);
    assert_eq!(drain(&mut session).await, [Event::End]);
    assert_eq!(session.stats.snapshot().ended.unwrap().label, "kicked");
    assert_eq!(status(&mut stream).await.1, Reject::Kicked.to_string());
}

#[tokio::test]
async fn a_session_that_is_dropped_ends_the_publish() {
    let mut listener = listen(Config::default());
    let mut stream = connect(&listener, &Client::publishing(KEY).bytes).await;
    let stats = Arc::clone(&accept(&mut listener).await.accept().stats);
    status(&mut stream).await;
    assert_eq!(stats.snapshot().ended.unwrap().label, "abandoned");
}

#[tokio::test]
async fn an_encoder_that_vanishes_ends_its_session() {
    let mut listener = listen(Config::default());
    let stream = connect(&listener, &Client::publishing(KEY).bytes).await;
    let mut session = accept(&mut listener).await.accept();
    drop(stream);
    assert_eq!(drain(&mut session).await, [Event::End]);
    assert_eq!(
        session.stats.snapshot().ended.unwrap().label,
        "disconnected"
    );
}

#[tokio::test]
async fn an_unknown_codec_is_refused_by_name() {
    let mut listener = listen(Config::default());
    // The pictures before it are good.
    let recording = fixture_messages("ffmpeg-5.1-h264-aac.bin");
    let mut client = Client::publishing(KEY);
    for message in recording
        .into_iter()
        .filter(|message| message.kind == message::VIDEO)
        .take(2)
    {
        client.send(6, &message);
    }
    client.audio(0, &[0x2f, 0xff, 0xfb]);
    let mut stream = connect(&listener, &client.bytes).await;
    let mut session = accept(&mut listener).await.accept();
    assert_eq!(
        drain(&mut session).await,
        [Event::End],
        "no half of a stream"
    );
    let (code, description) = status(&mut stream).await;
    assert_eq!(code, "NetStream.Publish.Rejected");
    assert!(
        description.starts_with("MP3 is not supported"),
        "{description}"
    );
    assert_eq!(session.stats.snapshot().ended.unwrap().reason, description);
}

#[tokio::test]
async fn a_panic_ends_its_session_and_no_other() {
    let mut listener = listen(Config::default());
    let recording = fixture("ffmpeg-5.1-h264-aac.bin");
    let healthy = connect(&listener, &recording[..recording.len() / 2]).await;
    let mut other = accept(&mut listener).await.accept();
    let mut doomed = connect(&listener, &Client::publishing(connection::PANIC_KEY).bytes).await;
    let mut session = accept(&mut listener).await.accept();
    assert_eq!(drain(&mut session).await, []);
    let mut rest = Vec::new();
    let _ = timeout(HANG, doomed.read_to_end(&mut rest))
        .await
        .expect("hung");
    assert_eq!(listener.counters().get("panics"), 1);
    let mut healthy = healthy;
    healthy
        .write_all(&recording[recording.len() / 2..])
        .await
        .unwrap();
    assert_eq!(drain(&mut other).await.last(), Some(&Event::End));
    assert_eq!(other.stats.snapshot().ended.unwrap().label, "unpublished");
}

#[tokio::test]
async fn half_open_connections_make_room_for_a_publisher() {
    let config = Config {
        unauthenticated: 50,
        connections_per_address: 40,
        ..Config::default()
    };
    let mut listener = listen(config);
    let mut idle = Vec::new();
    for n in 0..300 {
        // Some say nothing, some stop in the handshake, some after it.
        let bytes = &Client::shaken().bytes[..[0, 1, 1000, 3073][n % 4]];
        idle.push(connect(&listener, bytes).await);
    }
    let recording = fixture("gstreamer-1.22-h264-aac.bin");
    let started = Instant::now();
    let _stream = connect(&listener, &recording).await;
    let mut session = accept(&mut listener).await.accept();
    assert_eq!(drain(&mut session).await.last(), Some(&Event::End));
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "no waiting for the idle ones to time out"
    );
    assert!(
        listener.counters().get("shed") >= 260,
        "{:?}",
        listener.counters()
    );
    assert_eq!(listener.counters().get("refused"), 0);
}

#[tokio::test]
async fn publishers_of_one_address_are_bounded() {
    let mut listener = listen(Config {
        connections_per_address: 2,
        ..Config::default()
    });
    let mut publishers = Vec::new();
    for _ in 0..2 {
        let stream = connect(&listener, &Client::publishing(KEY).bytes).await;
        publishers.push((stream, accept(&mut listener).await.accept()));
    }
    for (stream, _) in &mut publishers {
        wait_for(stream, b"NetStream.Publish.Start").await;
    }
    let mut third = TcpStream::connect(listener.local_addr()).await.unwrap();
    assert!(matches!(
        timeout(HANG, third.read(&mut [0; 16])).await.expect("hung"),
        Ok(0) | Err(_)
    ));
    assert_eq!(listener.counters().get("refused"), 1);
}

/// How long a connection lives that sends `bytes`, with a pause after every ten, and then nothing. Over a pipe, since
/// paused time and real sockets do not mix.
async fn life(bytes: &[u8], pause: Duration) -> Duration {
    let shared = shared(Config::default());
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let pass = shared
        .gate
        .enter([127, 0, 0, 1].into(), &shared.stop)
        .unwrap();
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let started = Instant::now();
    let drip = async {
        for piece in bytes.chunks(10) {
            // Once the server has closed, nothing more arrives.
            let _ = client.write_all(piece).await;
            tokio::time::sleep(pause).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = drip => unreachable!("it waits for ever"),
        () = connection::serve(&shared, server, Protocol::Rtmp, peer, pass) => started.elapsed(),
    }
}

#[tokio::test(start_paused = true)]
async fn slow_connections_end_in_time_however_they_drip() {
    let mut connected = Client::shaken();
    connected.connect("live");
    let (shaken, connected) = (Client::shaken().bytes, connected.bytes);
    let at_once = Duration::ZERO;
    // After the deadline the server waits a second for the peer to read its last word.
    let cases = [
        (life(&[], at_once).await, 3),
        (life(&shaken[..100], Duration::from_millis(100)).await, 3),
        (life(&shaken[..2000], at_once).await, 3),
        (life(&shaken, at_once).await, 5),
        (life(&connected, at_once).await, 5),
        (life(&connected, Duration::from_millis(5)).await, 5),
    ];
    for (n, (life, seconds)) in cases.into_iter().enumerate() {
        assert_eq!(
            life,
            Duration::from_secs(seconds) + Duration::from_secs(1),
            "case {n}"
        );
    }
}

/// A listener's inside without its socket; publishes are forgotten.
fn shared(config: Config) -> Shared {
    static KEEP: Mutex<Vec<mpsc::Receiver<Publish>>> = Mutex::new(Vec::new());
    let (publishes, receiver) = mpsc::channel(1);
    KEEP.lock().unwrap().push(receiver);
    Shared {
        gate: Arc::new(Gate::new(&config)),
        config,
        tls: None,
        counters: Arc::default(),
        publishes,
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    }
}

#[tokio::test]
async fn random_bytes_at_the_port_disturb_no_one() {
    let mut listener = listen(Config::default());
    let recording = fixture("gstreamer-1.22-h264-aac.bin");
    let mut healthy = connect(&listener, &recording[..4000]).await;
    let mut session = accept(&mut listener).await.accept();
    for seed in 0..50 {
        let mut random = Random(seed);
        let mut bytes = random.bytes(5000);
        if seed % 2 == 0 {
            bytes[0] = 3;
        }
        // The server may close at any byte.
        if let Ok(mut stream) = TcpStream::connect(listener.local_addr()).await {
            let _ = stream.write_all(&bytes).await;
        }
    }
    healthy.write_all(&recording[4000..]).await.unwrap();
    assert_eq!(drain(&mut session).await.last(), Some(&Event::End));
    assert_eq!(session.stats.snapshot().drops.total(), 0);
    assert_eq!(listener.counters().get("panics"), 0);
}

#[tokio::test]
async fn closing_ends_who_waits_and_waits_for_who_publishes() {
    let mut listener = listen(Config::default());
    let mut waiting = connect(&listener, &Client::shaken().bytes).await;
    let mut publishing = connect(&listener, &Client::publishing(KEY).bytes).await;
    let session = accept(&mut listener).await.accept();
    wait_for(&mut publishing, b"NetStream.Publish.Start").await;
    let address = listener.local_addr();
    let closing = timeout(HANG, listener.close());
    let (closed, ()) = tokio::join!(closing, async {
        answers(&mut waiting).await;
        assert!(TcpStream::connect(address).await.is_err());
        session.kick.kick(Reject::Unavailable);
        answers(&mut publishing).await;
    });
    closed.expect("hung");
}

#[tokio::test(start_paused = true)]
async fn running_out_of_descriptors_pauses_and_recovers() {
    let shared = Arc::new(shared(Config::default()));
    let pass = shared
        .gate
        .enter([127, 0, 0, 1].into(), &shared.stop)
        .unwrap();
    let started = Instant::now();
    shared.exhausted(&io::Error::from_raw_os_error(24)).await;
    assert_eq!(started.elapsed(), SHED_PAUSE);
    assert!(
        pass.shed.is_cancelled(),
        "one that has not published gives its descriptor up"
    );
    shared.exhausted(&io::Error::from_raw_os_error(24)).await;
    let both = SHED_PAUSE + EXHAUSTED_PAUSE;
    assert_eq!(started.elapsed(), both, "nobody is left to give one up");
    assert_eq!(shared.counters.get("exhausted"), 2);
    for (number, peers) in [
        (24, false),
        (23, false),
        (12, false),
        (103, true),
        (104, true),
    ] {
        assert_eq!(
            is_peers(&io::Error::from_raw_os_error(number)),
            peers,
            "errno {number}"
        );
    }
}
