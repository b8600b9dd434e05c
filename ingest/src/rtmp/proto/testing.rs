//! An encoder for tests: builds what a client sends, and reads what a server answers.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use media::Event;

use super::amf0::{self, Value};
use super::chunk::{Reader, Writer};
use super::handshake::PACKET_BYTES;
use super::message::{self, Command, Message};
use super::{Connection, Error, Limits, Output};

pub(crate) const KEY: &str = "unit-test-key-0123456789";

/// SplitMix64: the same seed, the same test.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count)
            .map(|_| self.below(256).to_le_bytes()[0])
            .collect()
    }
}

/// What an encoder writes.
#[derive(Default)]
pub(crate) struct Client {
    writer: Writer,
    pub(crate) bytes: BytesMut,
}

impl Client {
    /// One that has sent its handshake.
    pub(crate) fn shaken() -> Self {
        let mut client = Self::default();
        client.bytes.extend_from_slice(&[3]);
        client.bytes.extend_from_slice(&[0xc1; PACKET_BYTES]);
        client.bytes.extend_from_slice(&[0xc2; PACKET_BYTES]);
        client
    }

    /// One that has done all up to the publish command, as encoders do.
    pub(crate) fn publishing(key: &str) -> Self {
        let mut client = Self::shaken();
        client.connect("live");
        client.command("releaseStream", 2.0, [Value::Null, key.into()]);
        client.command("FCPublish", 3.0, [Value::Null, key.into()]);
        client.command("createStream", 4.0, [Value::Null]);
        client.publish(key);
        client
    }

    pub(crate) fn connect(&mut self, application: &str) {
        let object = amf0::object([
            ("app", application.into()),
            ("flashVer", "FMLE/3.0 (unit test)".into()),
            ("tcUrl", "rtmp://host/live".into()),
        ]);
        self.command("connect", 1.0, [object]);
    }

    pub(crate) fn publish(&mut self, name: &str) {
        let arguments = vec![Value::Null, name.into(), "live".into()];
        let command = Command {
            name: "publish".to_owned(),
            transaction: 5.0,
            arguments,
        };
        self.send(8, &command.encode(1));
    }

    pub(crate) fn command<const N: usize>(
        &mut self,
        name: &str,
        transaction: f64,
        arguments: [Value; N],
    ) {
        let command = Command {
            name: name.to_owned(),
            transaction,
            arguments: arguments.into(),
        };
        self.send(3, &command.encode(0));
    }

    pub(crate) fn audio(&mut self, timestamp: u32, body: &[u8]) {
        self.media(4, message::AUDIO, timestamp, body);
    }

    fn media(&mut self, id: u32, kind: u8, timestamp: u32, body: &[u8]) {
        self.send(
            id,
            &Message {
                kind,
                stream: 1,
                timestamp,
                payload: Bytes::copy_from_slice(body),
            },
        );
    }

    pub(crate) fn chunk_bytes(&mut self, bytes: u32) {
        self.writer.set_chunk_bytes(bytes, &mut self.bytes);
    }

    pub(crate) fn send(&mut self, id: u32, message: &Message) {
        self.writer.write(id, message, &mut self.bytes);
    }
}

/// What a conversation came to.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) events: Vec<Event>,
    pub(crate) key: Option<String>,
    pub(crate) answers: Vec<Message>,
    pub(crate) error: Option<Error>,
}

impl Heard {
    pub(crate) fn commands(&self) -> Vec<Command> {
        let commands = self
            .answers
            .iter()
            .filter(|message| message.kind == message::COMMAND);
        commands
            .map(|message| Command::decode(message).unwrap())
            .collect()
    }

    /// Codes of all status answers.
    pub(crate) fn codes(&self) -> Vec<String> {
        let codes = self.commands().into_iter().filter_map(|command| {
            let information = command.arguments.get(1)?.clone();
            Some(information.get("code")?.as_str()?.to_owned())
        });
        codes.collect()
    }
}

/// Feeds `bytes` to a connection in pieces, all at time zero, and accepts what it wants to publish.
pub(crate) fn converse(bytes: &[u8], limits: Limits, mut piece: impl FnMut() -> usize) -> Heard {
    let mut connection = Connection::new(limits, 1);
    let mut heard = Heard::default();
    let mut answers = BytesMut::new();
    let mut rest = bytes;
    'conversation: while !rest.is_empty() {
        let (head, tail) = rest.split_at(piece().clamp(1, rest.len()));
        rest = tail;
        connection.input().extend_from_slice(head);
        loop {
            match connection.poll(Duration::ZERO) {
                Ok(Some(Output::Event(event))) => heard.events.push(event),
                Ok(Some(Output::Publish { key, .. })) => {
                    heard.key = key.map(|key| key.expose().to_owned());
                    connection.accept(Duration::ZERO);
                }
                Ok(None) => break,
                Err(error) => {
                    connection.fail(&error);
                    heard.error = Some(error);
                    break 'conversation;
                }
            }
        }
        answers.unsplit(connection.output().split());
    }
    answers.unsplit(connection.output().split());
    heard.answers = read_answers(answers);
    heard
}

/// The messages behind the server's handshake.
pub(crate) fn read_answers(mut bytes: BytesMut) -> Vec<Message> {
    if bytes.len() < 1 + 2 * PACKET_BYTES {
        return Vec::new();
    }
    bytes.advance(1 + 2 * PACKET_BYTES);
    read_messages(bytes)
}

pub(crate) fn read_messages(mut bytes: BytesMut) -> Vec<Message> {
    let limits = Limits {
        message_bytes_before_publish: usize::MAX,
        ..Limits::default()
    };
    let mut reader = Reader::new(&limits);
    std::iter::from_fn(|| reader.read(&mut bytes, Duration::ZERO).unwrap()).collect()
}

/// A recording of an encoder.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/../fixtures/rtmp/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The messages in a recording.
pub(crate) fn fixture_messages(name: &str) -> Vec<Message> {
    let mut bytes = BytesMut::from(fixture(name).as_slice());
    bytes.advance(1 + 2 * PACKET_BYTES);
    read_messages(bytes)
}
