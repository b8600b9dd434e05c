use media::{Event, TrackId};

use super::super::testing::{Client, Heard, KEY, Random, converse, fixture, read_answers};
use super::super::{amf0, chunk};
use super::*;

fn run(client: &Client) -> Heard {
    converse(&client.bytes, Limits::default(), || usize::MAX)
}

fn after(
    connection: &mut Connection,
    bytes: &[u8],
    now: Duration,
) -> Result<Option<Output>, Error> {
    connection.input().extend_from_slice(bytes);
    connection.poll(now)
}

/// A connection whose publish was accepted at time zero.
fn accepted(limits: Limits) -> Connection {
    let mut connection = Connection::new(limits, 1);
    let client = Client::publishing(KEY);
    assert!(matches!(
        after(&mut connection, &client.bytes, Duration::ZERO),
        Ok(Some(Output::Publish { key: Some(_), .. }))
    ));
    connection.accept(Duration::ZERO);
    connection
}

#[test]
fn every_recording_is_heard_the_same_however_it_is_split() {
    let all = [
        ("ffmpeg-5.1-h264-aac.bin", vec!["h264", "aac"]),
        ("ffmpeg-9.0-hevc-aac.bin", vec!["h265", "aac"]),
        ("ffmpeg-9.0-av1-opus.bin", vec!["av1", "opus"]),
        ("ffmpeg-9.0-multitrack.bin", vec!["h264", "aac"]),
        ("gstreamer-1.22-h264-aac.bin", vec!["h264", "aac"]),
    ];
    for (name, codecs) in all {
        let bytes = fixture(name);
        let whole = converse(&bytes, Limits::default(), || usize::MAX);
        assert_eq!(whole.error, None, "{name}");
        assert_eq!(
            whole.key.as_deref(),
            Some("fixture-key-0123456789"),
            "{name}"
        );
        let Some(Event::Tracks(tracks)) = whole.events.first() else {
            panic!("{name}: tracks come first")
        };
        assert_eq!(
            tracks
                .iter()
                .map(|track| track.codec.name())
                .collect::<Vec<_>>(),
            codecs,
            "{name}"
        );
        let tracks = whole
            .events
            .iter()
            .filter(|event| matches!(event, Event::Tracks(_)));
        assert_eq!(
            tracks.count(),
            1,
            "{name}: repeated configurations change nothing"
        );
        assert_eq!(whole.events.last(), Some(&Event::End), "{name}");
        let pictures = whole
            .events
            .iter()
            .filter(|event| matches!(event, Event::Unit(unit) if unit.track == TrackId(0)));
        assert_eq!(pictures.count(), 20, "{name}");
        assert!(
            whole
                .codes()
                .contains(&"NetStream.Publish.Start".to_owned()),
            "{name}"
        );

        for seed in 0..5 {
            let mut random = Random(seed);
            let split = converse(&bytes, Limits::default(), || 1 + random.below(5000));
            assert!(split.events == whole.events, "{name}, seed {seed}");
        }
        let mut single = converse(&bytes, Limits::default(), || 1);
        assert!(single.events == whole.events, "{name}, byte by byte");
        single
            .answers
            .retain(|message| message.kind != message::ACKNOWLEDGEMENT);
        assert_eq!(single.answers, whole.answers, "{name}");
    }
}

#[test]
fn a_recording_cut_anywhere_is_no_error() {
    let bytes = fixture("ffmpeg-9.0-av1-opus.bin");
    let mut random = Random(1);
    for _ in 0..100 {
        let length = random.below(bytes.len());
        let heard = converse(&bytes[..length], Limits::default(), || usize::MAX);
        assert_eq!(heard.error, None, "{length} bytes");
    }
}

#[test]
fn a_recording_with_damaged_bytes_ends_no_worse_than_in_an_error() {
    let bytes = fixture("gstreamer-1.22-h264-aac.bin");
    for seed in 0..100 {
        let mut random = Random(seed);
        let mut damaged = bytes.clone();
        for _ in 0..1 + random.below(20) {
            let at = 3073 + random.below(bytes.len() - 3073);
            damaged[at] ^= 1 << random.below(8);
        }
        converse(&damaged, Limits::default(), || 1 + random.below(5000));
    }
}

#[test]
fn a_publish_is_answered_as_encoders_expect() {
    let heard = run(&Client::publishing(KEY));
    assert_eq!(heard.key.as_deref(), Some(KEY));
    let names: Vec<_> = heard
        .commands()
        .into_iter()
        .map(|command| (command.name, command.transaction))
        .collect();
    let expected = [
        ("_result", 1.0),
        ("_result", 2.0),
        ("_result", 3.0),
        ("_result", 4.0),
        ("onStatus", 0.0),
    ];
    assert_eq!(
        names,
        expected.map(|(name, transaction)| (name.to_owned(), transaction))
    );
    let kinds: Vec<_> = heard.answers.iter().map(|message| message.kind).collect();
    assert_eq!(
        kinds[..2],
        [
            message::WINDOW_ACKNOWLEDGEMENT_SIZE,
            message::SET_PEER_BANDWIDTH
        ]
    );
    assert!(
        heard
            .answers
            .contains(&Message::user_control(message::STREAM_BEGIN, 1))
    );
    let created = &heard.commands()[3];
    assert_eq!(created.arguments[1], Value::Number(1.0));
}

#[test]
fn the_connect_answer_says_what_e_rtmp_can_be_sent() {
    let heard = run(&Client::publishing(KEY));
    let properties = &heard.commands()[0].arguments[0];
    for fourcc in ["avc1", "hvc1", "av01"] {
        assert_eq!(
            properties.get("videoFourCcInfoMap").unwrap().get(fourcc),
            Some(&Value::Number(1.0))
        );
    }
    for fourcc in ["mp4a", "Opus"] {
        assert_eq!(
            properties.get("audioFourCcInfoMap").unwrap().get(fourcc),
            Some(&Value::Number(1.0))
        );
    }
    assert_eq!(properties.get("capsEx"), Some(&Value::Number(12.0)));
    let Some(Value::StrictArray(list)) = properties.get("fourCcList") else {
        panic!("a list")
    };
    assert!(list.contains(&"av01".into()) && list.contains(&"Opus".into()));
}

#[test]
fn keys_are_found_where_encoders_put_them() {
    let long = "k".repeat(128);
    let good = [
        ("live", KEY.to_owned()),
        ("live/", KEY.to_owned()),
        ("/live", KEY.to_owned()),
        ("live?a=b", KEY.to_owned()),
        ("live", format!("{KEY}?token=1&x=/")),
        ("live", format!("/{KEY}")),
        ("live", format!("{KEY} \n")),
        ("live", long),
    ];
    for (application, name) in good {
        let mut client = Client::shaken();
        client.connect(application);
        client.publish(&name);
        let expected = name
            .trim()
            .trim_matches('/')
            .split('?')
            .next()
            .map(str::to_owned);
        assert_eq!(run(&client).key, expected, "{application} {name}");
    }
    for application in [format!("live/{KEY}"), format!("live/{KEY}/?a=b")] {
        let mut client = Client::shaken();
        client.connect(&application);
        client.publish("");
        assert_eq!(run(&client).key.as_deref(), Some(KEY), "{application}");
    }
    for name in [
        "",
        "short",
        "../../etc/passwd-0",
        "key with blanks 012345",
        "key-key-key-key%2e",
        &"k".repeat(129),
    ] {
        let mut client = Client::shaken();
        client.connect("live");
        client.publish(name);
        let mut connection = Connection::new(Limits::default(), 1);
        assert!(matches!(
            after(&mut connection, &client.bytes, Duration::ZERO),
            Ok(Some(Output::Publish { key: None, .. }))
        ));
    }
}

#[test]
fn another_application_is_refused() {
    for application in ["", "app", "livestream", "Live", KEY] {
        let mut client = Client::shaken();
        client.connect(application);
        let heard = run(&client);
        assert_eq!(heard.error, Some(Error::Application));
        let commands = heard.commands();
        assert_eq!(commands.len(), 1);
        assert_eq!(
            (commands[0].name.as_str(), commands[0].transaction),
            ("_error", 1.0)
        );
        assert_eq!(heard.codes(), ["NetConnection.Connect.InvalidApp"]);
    }
}

#[test]
fn a_refusal_says_why_and_nothing_is_heard_after_it() {
    let denied = "NetStream.Publish.Denied";
    let rejected = "NetStream.Publish.Rejected";
    let all = [
        (Reject::BadKey, denied, "the stream key is not valid"),
        (
            Reject::TooManyAttempts,
            denied,
            "too many attempts with a wrong stream key; wait a minute",
        ),
        (
            Reject::InUse,
            rejected,
            "another encoder is already publishing with this stream key",
        ),
        (
            Reject::Capacity("8 of 8 cores are busy".to_owned()),
            rejected,
            "this server has no capacity left for another stream: 8 of 8 cores are busy",
        ),
    ];
    for (reason, code, description) in all {
        let mut connection = Connection::new(Limits::default(), 1);
        let client = Client::publishing(KEY);
        after(&mut connection, &client.bytes, Duration::ZERO).unwrap();
        connection.reject(&reason);
        let answers = read_answers(connection.output().split());
        let last = answers.last().unwrap();
        assert_eq!(last.stream, 1, "on the stream of the publish");
        let status = Command::decode(last).unwrap();
        let expected = message::information("error", code, description);
        assert_eq!(status.arguments[1], expected);
        let mut more = Client::default();
        more.audio(0, &[0xaf, 0, 0x12, 0x10]);
        assert!(matches!(
            after(&mut connection, &more.bytes, Duration::ZERO),
            Ok(None)
        ));
        assert_eq!(connection.deadline(), None);
    }
}

#[test]
fn watching_is_refused() {
    let mut client = Client::shaken();
    client.connect("live");
    client.command("createStream", 2.0, [Value::Null]);
    client.command("play", 3.0, [Value::Null, KEY.into()]);
    let heard = run(&client);
    assert_eq!(heard.error, Some(Error::Play));
    assert_eq!(heard.codes().last().unwrap(), "NetStream.Play.Failed");
}

#[test]
fn commands_out_of_order_end_the_connection() {
    let mut client = Client::shaken();
    client.publish(KEY);
    assert_eq!(
        run(&client).error,
        Some(Error::OutOfOrder("command before connect"))
    );
    let mut client = Client::shaken();
    client.connect("live");
    client.connect("live");
    assert_eq!(
        run(&client).error,
        Some(Error::OutOfOrder("second connect"))
    );
    let mut client = Client::publishing(KEY);
    client.publish(KEY);
    assert_eq!(
        run(&client).error,
        Some(Error::OutOfOrder("second publish"))
    );
    let mut client = Client::shaken();
    client.connect("live");
    (0..8).for_each(|_| client.command("createStream", 4.0, [Value::Null]));
    assert_eq!(run(&client).error, None);
    client.command("createStream", 4.0, [Value::Null]);
    assert_eq!(
        run(&client).error,
        Some(Error::OutOfOrder("createStream once more"))
    );
}

#[test]
fn habits_of_encoders_are_suffered() {
    let mut client = Client::shaken();
    client.connect("live");
    client.command("_checkbw", 2.0, [Value::Null]);
    client.command("getStreamLength", 3.0, [Value::Null, KEY.into()]);
    client.command("FCUnpublish", 4.0, [Value::Null, KEY.into()]);
    client.command("deleteStream", 5.0, [Value::Null, 1.0.into()]);
    client.command("_result", 6.0, [Value::Null]);
    client.command("somethingNew", 7.0, [Value::Null]);
    client.send(
        2,
        &Message::control(message::ACKNOWLEDGEMENT, &[0, 0, 1, 0]),
    );
    client.send(
        2,
        &Message::control(message::WINDOW_ACKNOWLEDGEMENT_SIZE, &[0, 0, 0, 0]),
    );
    client.send(
        2,
        &Message::control(message::WINDOW_ACKNOWLEDGEMENT_SIZE, &[1]),
    );
    client.send(2, &Message::user_control(3, 1));
    client.send(2, &Message::control(message::USER_CONTROL, &[0]));
    client.send(3, &Message::control(99, b"what"));
    client.audio(0, b"early");
    client.publish(KEY);
    let heard = run(&client);
    assert_eq!(heard.error, None);
    assert_eq!(heard.key.as_deref(), Some(KEY));
}

#[test]
fn commands_in_the_envelope_of_amf3_are_read() {
    let mut client = Client::shaken();
    client.connect("live");
    let arguments = vec![Value::Null, KEY.into()];
    let mut message = Command {
        name: "publish".to_owned(),
        transaction: 2.0,
        arguments,
    }
    .encode(1);
    message.kind = message::COMMAND_AMF3;
    message.payload = [&[0][..], &message.payload].concat().into();
    client.send(3, &message);
    assert_eq!(run(&client).key.as_deref(), Some(KEY));
}

#[test]
fn an_amf_bomb_ends_its_own_connection() {
    for levels in [17, 10_000] {
        let mut client = Client::shaken();
        let mut payload = BytesMut::new();
        Value::from("connect").encode(&mut payload);
        Value::from(1.0).encode(&mut payload);
        (0..levels).for_each(|_| payload.extend_from_slice(&[3, 0, 1, b'a']));
        client.send(
            3,
            &Message {
                kind: message::COMMAND,
                stream: 0,
                timestamp: 0,
                payload: payload.freeze(),
            },
        );
        let error = run(&client).error;
        assert!(
            matches!(
                error,
                Some(Error::Command(amf0::Error {
                    kind: amf0::ErrorKind::Depth,
                    ..
                }))
            ),
            "{error:?}"
        );
    }
}

#[test]
fn pings_are_answered() {
    let mut client = Client::publishing(KEY);
    client.send(
        2,
        &Message::user_control(message::PING_REQUEST, 0x0102_0304),
    );
    let pong = Message::user_control(message::PING_RESPONSE, 0x0102_0304);
    assert_eq!(run(&client).answers.last(), Some(&pong));
}

#[test]
fn what_is_received_is_acknowledged_by_the_window() {
    let mut client = Client::publishing(KEY);
    client.send(
        2,
        &Message::control(
            message::WINDOW_ACKNOWLEDGEMENT_SIZE,
            &4000_u32.to_be_bytes(),
        ),
    );
    let start = client.bytes.len();
    (0..10).for_each(|n| client.audio(n, &[0xaf; 1000]));
    let heard = converse(&client.bytes, Limits::default(), || 100);
    let acknowledged: Vec<u32> = heard
        .answers
        .iter()
        .filter(|message| message.kind == message::ACKNOWLEDGEMENT)
        .map(|message| message.u32(0).unwrap())
        .collect();
    assert_eq!(
        acknowledged.len(),
        client.bytes.len() / 4000,
        "{acknowledged:?}"
    );
    assert!(usize::try_from(acknowledged[0]).unwrap() >= start.min(4000));
    assert!(
        acknowledged
            .windows(2)
            .all(|pair| pair[1] - pair[0] >= 4000)
    );
}

#[test]
fn answers_that_nobody_reads_end_the_connection() {
    let mut client = Client::publishing(KEY);
    for _ in 0..10_000 {
        client.send(2, &Message::user_control(message::PING_REQUEST, 1));
    }
    assert_eq!(run(&client).error, Some(Error::Unread));
}

#[test]
fn each_phase_has_its_time() {
    let limits = Limits::default();
    let seconds = Duration::from_secs;
    let nearly = |end: u64| seconds(end) - Duration::from_nanos(1);

    let mut connection = Connection::new(limits.clone(), 1);
    assert_eq!(connection.deadline(), Some(seconds(3)));
    assert_eq!(connection.check(nearly(3)), Ok(()));
    assert_eq!(
        connection.check(seconds(3)),
        Err(Error::HandshakeTimeout(seconds(3)))
    );

    after(&mut connection, &Client::shaken().bytes, seconds(1)).unwrap();
    assert_eq!(
        connection.check(nearly(5)),
        Ok(()),
        "five seconds from the start, not from the handshake"
    );
    assert_eq!(
        connection.check(seconds(5)),
        Err(Error::PublishTimeout(seconds(5)))
    );

    let mut connection = accepted(limits);
    assert_eq!(connection.check(nearly(10)), Ok(()));
    assert_eq!(
        connection.check(seconds(10)),
        Err(Error::FirstMediaTimeout(seconds(10)))
    );
    let mut client = Client::default();
    client.audio(0, &[0xaf, 0, 0x12, 0x10]);
    after(&mut connection, &client.bytes, seconds(9)).unwrap();
    assert_eq!(connection.check(nearly(39)), Ok(()));
    assert_eq!(
        connection.check(seconds(39)),
        Err(Error::Silence(seconds(30)))
    );
    // A drip of bytes, or a message that is no media, is not a publish.
    let ping = Message::user_control(message::PING_REQUEST, 1);
    let mut client = Client::default();
    client.send(2, &ping);
    after(&mut connection, &client.bytes, seconds(38)).unwrap();
    assert_eq!(
        connection.check(seconds(39)),
        Err(Error::Silence(seconds(30)))
    );
}

#[test]
fn a_caller_who_decides_has_no_deadline_here() {
    let mut connection = Connection::new(Limits::default(), 1);
    after(
        &mut connection,
        &Client::publishing(KEY).bytes,
        Duration::ZERO,
    )
    .unwrap();
    assert_eq!(connection.deadline(), None);
}

#[test]
fn bytes_before_the_publish_are_bounded() {
    let limits = Limits::default();
    let mut client = Client::shaken();
    client.connect("live");
    client.chunk_bytes(65_536);
    let filler = |client: &mut Client, end: usize| {
        // A full header and a payload, to end at the byte wanted.
        let length = end - client.bytes.len() - 12;
        let payload = vec![0; length].into();
        client.send(
            9,
            &Message {
                kind: 99,
                stream: 0,
                timestamp: 0,
                payload,
            },
        );
    };
    filler(&mut client, 64 * 1024);
    assert_eq!(client.bytes.len(), 64 * 1024);
    assert_eq!(run(&client).error, None);
    let mut connection = Connection::new(limits.clone(), 1);
    after(&mut connection, &client.bytes, Duration::ZERO).unwrap();
    let one_more = after(&mut connection, &[0xc9], Duration::ZERO);
    assert_eq!(
        one_more.unwrap_err(),
        Error::Talk(limits.bytes_before_publish)
    );
}

#[test]
fn messages_may_be_large_once_the_publish_is_accepted() {
    let header = |length: u32| {
        let [_, a, b, c] = length.to_be_bytes();
        [6, 0, 0, 0, a, b, c, message::VIDEO, 1, 0, 0, 0]
    };
    assert!(matches!(
        after(
            &mut accepted(Limits::default()),
            &header(8 << 20),
            Duration::ZERO
        ),
        Ok(None)
    ));
    let over = after(
        &mut accepted(Limits::default()),
        &header((8 << 20) + 1),
        Duration::ZERO,
    );
    assert!(matches!(
        over,
        Err(Error::Chunk(chunk::Error::MessageLength { .. }))
    ));
    let mut connection = Connection::new(Limits::default(), 1);
    after(&mut connection, &Client::shaken().bytes, Duration::ZERO).unwrap();
    let early = after(&mut connection, &header(65_537), Duration::ZERO);
    assert!(matches!(
        early,
        Err(Error::Chunk(chunk::Error::MessageLength { .. }))
    ));
}

#[test]
fn the_bit_rate_may_be_doubled_for_five_seconds() {
    let limits = Limits {
        bits_per_second: 80_000,
        ..Limits::default()
    };
    let rate = |bytes_per_second: usize, seconds: u64| {
        let mut connection = accepted(limits.clone());
        let mut client = Client::default();
        client.chunk_bytes(65_536);
        // Sound that can be used, so that nothing else ends it.
        client.audio(0, &[0xaf, 0, 0x11, 0x90]);
        for tenth in 0..seconds * 10 {
            client.audio(0, &vec![0xaf; bytes_per_second / 10 - 8]);
            let now = Duration::from_millis(tenth * 100);
            if let Err(error) = after(&mut connection, &client.bytes.split(), now) {
                return Err((error, tenth));
            }
        }
        Ok(())
    };
    assert_eq!(rate(10_000, 100), Ok(()));
    let doubled = rate(20_000, 60);
    assert!(
        matches!(doubled, Err((Error::BitRate(80_000), 48..=50))),
        "{doubled:?}"
    );
}

#[test]
fn unpublishing_ends_the_media_and_only_that_stream() {
    for (name, argument) in [
        ("FCUnpublish", Value::from(KEY)),
        ("deleteStream", 1.0.into()),
        ("closeStream", Value::Null),
    ] {
        let mut client = Client::publishing(KEY);
        client.command("deleteStream", 0.0, [Value::Null, 7.0.into()]);
        client.send(2, &Message::user_control(message::PING_REQUEST, 1));
        client.command(name, 0.0, [Value::Null, argument]);
        let heard = run(&client);
        assert_eq!(heard.events, [Event::End], "{name}");
        assert_eq!(heard.codes().last().unwrap(), "NetStream.Unpublish.Success");
        assert!(
            heard
                .answers
                .contains(&Message::user_control(message::PING_RESPONSE, 1)),
            "lived on till then"
        );
    }
}

#[test]
fn an_aggregate_message_is_its_tags() {
    let tag = |kind: u8, timestamp: u32, body: &[u8]| {
        let [t0, t1, t2, t3] = timestamp.to_be_bytes();
        let [.., a, b, c] = body.len().to_be_bytes();
        [&[kind, a, b, c, t1, t2, t3, t0, 0, 0, 0][..], body, &[0; 4]].concat()
    };
    let config = [0xaf, 0, 0x11, 0x90];
    let payload = [
        tag(message::AUDIO, 0x0100_0000, &config),
        tag(message::AUDIO, 0x0100_0000, &[0xaf, 1, 1, 2, 3]),
        tag(message::AUDIO, 0x0100_0015, &[0xaf, 1, 4, 5, 6]),
    ]
    .concat();
    for cut in [0, 4, 5, 40] {
        let mut client = Client::publishing(KEY);
        client.audio(4979, &config);
        client.audio(4979, &[0xaf, 1, 0]);
        let payload = Bytes::copy_from_slice(&payload[..payload.len() - cut]);
        client.send(
            6,
            &Message {
                kind: message::AGGREGATE,
                stream: 1,
                timestamp: 5000,
                payload,
            },
        );
        client.command("closeStream", 0.0, [Value::Null]);
        let heard = run(&client);
        let units: Vec<_> = heard
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Unit(unit) => Some(unit.data.to_vec()),
                _ => None,
            })
            .collect();
        let expected = [vec![0], vec![1, 2, 3], vec![4, 5, 6]];
        let whole = if cut <= 4 {
            2
        } else if cut == 5 {
            1
        } else {
            0
        };
        assert!(
            !heard
                .events
                .iter()
                .any(|event| matches!(event, Event::Gap(_))),
            "one clock"
        );
        assert_eq!(units, expected[..=whole], "cut by {cut}");
    }
}

#[test]
fn what_an_encoder_calls_itself_is_made_printable() {
    let mut client = Client::shaken();
    let object = amf0::object([("app", "live".into()), ("flashVer", "evil\n\x1b[2J".into())]);
    client.command("connect", 1.0, [object]);
    client.publish(KEY);
    let mut connection = Connection::new(Limits::default(), 1);
    let output = after(&mut connection, &client.bytes, Duration::ZERO).unwrap();
    let Some(Output::Publish { encoder, .. }) = output else {
        panic!("a publish")
    };
    assert_eq!(encoder.unwrap(), "evil\\u{a}\\u{1b}[2J");
}

#[test]
fn random_bytes_behind_a_handshake_end_in_an_error_or_in_nothing() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut client = if seed % 2 == 0 {
            Client::shaken()
        } else {
            Client::publishing(KEY)
        };
        client.bytes.extend_from_slice(&random.bytes(3000));
        converse(&client.bytes, Limits::default(), || 1 + random.below(1000));
    }
}
