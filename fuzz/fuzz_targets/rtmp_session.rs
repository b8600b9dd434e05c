//! A whole RTMP connection: the same events and answers however the bytes come.
//!
//! The first byte is the size of the pieces, in tens; the second chooses what goes before the bytes: nothing, a
//! handshake, a connect command, or all up to the publish command.
#![no_main]

use std::time::Duration;

use bytes::{Buf, BytesMut};
use ingest::rtmp::proto::amf0::{self, Value};
use ingest::rtmp::proto::chunk::{Reader, Writer};
use ingest::rtmp::proto::handshake::PACKET_BYTES;
use ingest::rtmp::proto::message::{ACKNOWLEDGEMENT, Command, Message};
use ingest::rtmp::proto::{Connection, Error, Limits, Output};
use libfuzzer_sys::fuzz_target;
use media::Event;

fn before(choice: u8) -> BytesMut {
    let mut bytes = BytesMut::new();
    let mut writer = Writer::new();
    if choice > 0 {
        bytes.extend_from_slice(&[3]);
        bytes.extend_from_slice(&[0; 2 * PACKET_BYTES]);
    }
    let command = |name: &str, arguments| Command { name: name.to_owned(), transaction: 1.0, arguments }.encode(0);
    if choice > 1 {
        let connect = command("connect", vec![amf0::object([("app", "live".into())])]);
        writer.write(3, &connect, &mut bytes);
    }
    if choice > 2 {
        let publish = command("publish", vec![Value::Null, "fuzz-key-0123456789".into()]);
        writer.write(3, &publish, &mut bytes);
    }
    bytes
}

fn converse(bytes: &[u8], piece: usize) -> (Vec<Event>, BytesMut, Option<Error>) {
    let mut connection = Connection::new(Limits::default(), 1);
    let mut events = Vec::new();
    let mut failed = None;
    'conversation: for piece in bytes.chunks(piece) {
        connection.input().extend_from_slice(piece);
        loop {
            match connection.poll(Duration::ZERO) {
                Ok(Some(Output::Event(event))) => events.push(event),
                Ok(Some(Output::Publish { .. })) => connection.accept(Duration::ZERO),
                Ok(None) => break,
                Err(error) => {
                    connection.fail(&error);
                    failed = Some(error);
                    break 'conversation;
                }
            }
        }
    }
    connection.end();
    while let Ok(Some(Output::Event(event))) = connection.poll(Duration::ZERO) {
        events.push(event);
    }
    (events, connection.output().split(), failed)
}

/// What was answered, but for acknowledgements: how often they come hangs on how the bytes do.
fn answered(mut answers: BytesMut) -> Vec<Message> {
    if answers.len() <= 2 * PACKET_BYTES {
        return Vec::new();
    }
    answers.advance(1 + 2 * PACKET_BYTES);
    let mut reader = Reader::new(&Limits::default());
    let read = || reader.read(&mut answers, Duration::ZERO).expect("answers are well formed");
    std::iter::from_fn(read).filter(|message| message.kind != ACKNOWLEDGEMENT).collect()
}

fuzz_target!(|data: &[u8]| {
    let &[piece, choice, ref bytes @ ..] = data else { return };
    let mut all = before(choice % 4);
    all.extend_from_slice(bytes);
    let (events, answers, failed) = converse(&all, usize::MAX);
    assert!(answers.len() < 256 * 1024);
    let (split_events, split_answers, split_failed) = converse(&all, usize::from(piece).max(1) * 10);
    assert!(events == split_events);
    assert_eq!(failed, split_failed);
    assert_eq!(answered(answers), answered(split_answers));
});
