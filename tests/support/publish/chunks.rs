//! The RTMP chunk stream from the client's side (Adobe RTMP 1.0, section 5.3).

use std::collections::HashMap;

use bytes::{BufMut as _, Bytes, BytesMut};

/// A timestamp that stands in the extended field.
const EXTENDED: u32 = 0xff_ffff;

/// A message as the server sent it.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) kind: u8,
    pub(crate) data: Bytes,
}

/// Writes messages as chunks: the first of a chunk stream with a full header, then deltas as encoders do.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    /// Timestamp of the last message of each chunk stream.
    last: HashMap<u8, u32>,
    chunk: usize,
}

impl Writer {
    pub(crate) fn new(chunk: usize) -> Self {
        Self {
            last: HashMap::new(),
            chunk,
        }
    }

    pub(crate) fn write(
        &mut self,
        stream: u8,
        kind: u8,
        message_stream: u32,
        timestamp: u32,
        data: &[u8],
    ) -> BytesMut {
        let mut out = BytesMut::with_capacity(data.len() + 64);
        let delta = self
            .last
            .insert(stream, timestamp)
            .map(|last| timestamp.wrapping_sub(last));
        // Going back needs an absolute time again.
        let delta = delta.filter(|delta| *delta < u32::MAX / 2);
        let time = delta.unwrap_or(timestamp);
        out.put_u8(if delta.is_some() { 0x40 } else { 0 } | stream);
        out.put_uint(time.min(EXTENDED).into(), 3);
        out.put_uint(data.len() as u64, 3);
        out.put_u8(kind);
        if delta.is_none() {
            out.put_u32_le(message_stream);
        }
        for (index, piece) in data.chunks(self.chunk).enumerate() {
            if index > 0 {
                out.put_u8(0xc0 | stream);
            }
            if time >= EXTENDED {
                out.put_u32(time);
            }
            out.put_slice(piece);
        }
        out
    }
}

/// Puts the server's chunks together; control messages are followed, not reported.
#[derive(Debug)]
pub(crate) struct Reader {
    buffer: BytesMut,
    chunk: usize,
    streams: HashMap<u8, Partial>,
}

#[derive(Debug, Default)]
struct Partial {
    kind: u8,
    length: usize,
    extended: bool,
    data: BytesMut,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            chunk: 128,
            streams: HashMap::new(),
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message.
    pub(crate) fn next(&mut self) -> Option<Message> {
        loop {
            let Some(message) = self.chunk()? else {
                continue;
            };
            match message.kind {
                1 => {
                    self.chunk =
                        u32::from_be_bytes(*message.data.first_chunk().expect("a chunk size"))
                            as usize
                }
                _ => return Some(message),
            }
        }
    }

    /// `None` when more bytes are needed, `Some(None)` when a chunk did not end a message.
    fn chunk(&mut self) -> Option<Option<Message>> {
        let first = *self.buffer.first()?;
        let (format, stream) = (first >> 6, first & 0x3f);
        assert!(stream > 1, "servers use few chunk streams");
        let size = [11, 7, 3, 0][usize::from(format)];
        let header = self.buffer.get(1..1 + size)?;
        let partial = self.streams.entry(stream).or_default();
        let (mut kind, mut length, mut extended) = (partial.kind, partial.length, partial.extended);
        if format < 3 {
            extended = header[..3] == [0xff; 3];
        }
        if format < 2 {
            length = header[3..6]
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            kind = header[6];
        }
        let start = 1 + size + if extended { 4 } else { 0 };
        let piece = (length - partial.data.len()).min(self.chunk);
        if self.buffer.len() < start + piece {
            return None;
        }
        let mut taken = self.buffer.split_to(start + piece);
        *partial = Partial {
            kind,
            length,
            extended,
            data: std::mem::take(&mut partial.data),
        };
        partial.data.unsplit(taken.split_off(start));
        let whole = partial.data.len() == length;
        Some(whole.then(|| Message {
            kind,
            data: std::mem::take(&mut partial.data).freeze(),
        }))
    }
}
