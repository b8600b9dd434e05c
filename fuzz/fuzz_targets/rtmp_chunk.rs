//! The RTMP chunk stream: the same messages however the bytes come, and again after they are written anew.
//!
//! The first byte is the size of the pieces, the second the chunk size to write with.
#![no_main]

use std::time::Duration;

use bytes::BytesMut;
use ingest::rtmp::proto::chunk::{Error, Reader, Writer};
use ingest::rtmp::proto::message::Message;
use ingest::rtmp::proto::Limits;
use libfuzzer_sys::fuzz_target;

fn read(bytes: &[u8], piece: usize) -> (Vec<Message>, Option<Error>) {
    let limits = Limits::default();
    let mut reader = Reader::new(&limits);
    let (mut input, mut messages) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        input.extend_from_slice(piece);
        loop {
            match reader.read(&mut input, Duration::ZERO) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

fuzz_target!(|data: &[u8]| {
    let &[piece, size, ref bytes @ ..] = data else { return };
    let whole = read(bytes, usize::MAX);
    assert_eq!(read(bytes, usize::from(piece).max(1)), whole);

    let (mut writer, mut again) = (Writer::new(), BytesMut::new());
    writer.set_chunk_bytes(u32::from(size) * 64, &mut again);
    for message in &whole.0 {
        writer.write(2 + u32::from(message.kind) % 16, message, &mut again);
    }
    let (messages, error) = read(&again, usize::MAX);
    assert!(matches!(error, None | Some(Error::ChunkRate(_))), "{error:?}");
    assert_eq!(messages, whole.0[..messages.len()]);
});
