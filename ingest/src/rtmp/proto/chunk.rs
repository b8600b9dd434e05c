//! The RTMP chunk stream (Adobe RTMP 1.0 section 5.3): messages cut into chunks that may interleave.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Limits;
use super::message::{self, Message};
use crate::budget::Budget;

/// The chunk size until the peer sets another.
const DEFAULT_CHUNK_BYTES: u32 = 128;
/// A message cannot be longer than this, so neither can a chunk (section 5.4.1).
const CHUNK_BYTES_MAX: u32 = 0xff_ffff;
/// The 24-bit timestamp that says "the real one follows in 32 bits".
const EXTENDED: u32 = 0xff_ffff;
/// The first allocation for a message that comes in pieces.
const FIRST_BYTES: usize = 4096;

/// What a peer did wrong at the level of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A chunk that leans on an earlier one came first on its chunk stream.
    #[error("chunk of type {kind} opens chunk stream {id}")]
    Headless {
        /// The chunk type, 2 or 3.
        kind: u8,
        /// The chunk stream.
        id: u32,
    },
    /// A message is longer than allowed at this point.
    #[error("message of {length} bytes where {max} are allowed")]
    MessageLength {
        /// As announced.
        length: usize,
        /// As allowed.
        max: usize,
    },
    /// The chunk size was set to zero or to a negative number.
    #[error("chunk size {0:#x}")]
    ChunkSize(u32),
    /// More chunk streams than any encoder uses.
    #[error("more than {0} chunk streams")]
    ChunkStreams(usize),
    /// Unfinished messages would take more memory than allowed.
    #[error("more than {0} bytes of unfinished messages")]
    Unfinished(usize),
    /// More chunks a second than allowed: a chunk size of a few bytes costs more than it carries.
    #[error("more than {0} chunks a second")]
    ChunkRate(u64),
    /// A protocol control message that is too short.
    #[error("control message of type {0} too short")]
    Control(u8),
}

/// Turns chunks into messages. Applies Set Chunk Size and Abort itself.
#[derive(Debug)]
pub struct Reader {
    streams: Vec<Stream>,
    /// Set while the payload of a chunk is being read.
    open: Option<Open>,
    chunk_bytes: usize,
    message_bytes_max: usize,
    streams_max: usize,
    unfinished: usize,
    unfinished_max: usize,
    rate: Budget,
    rate_max: u64,
    discarded: u64,
}

#[derive(Debug)]
struct Stream {
    id: u32,
    timestamp: u32,
    /// Added to `timestamp` by a type 3 chunk that begins a message.
    delta: u32,
    /// The last timestamp field was extended and held this.
    extended: Option<u32>,
    length: usize,
    kind: u8,
    message_stream: u32,
    /// The bytes so far of a message in progress, and what was reserved for them.
    partial: Option<Vec<u8>>,
    reserved: usize,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    stream: usize,
    remaining: usize,
}

/// The header of one chunk, as far as it goes on the wire.
#[derive(Clone, Copy, Debug)]
struct Header {
    kind: u8,
    id: u32,
    /// Bytes up to the extended timestamp.
    bytes: usize,
    /// The timestamp field, 24 bits.
    time: u32,
    length: usize,
    message: u8,
    message_stream: u32,
}

impl Reader {
    /// A reader at the start of the chunk stream, with the bounds that hold before a publish is accepted.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            streams: Vec::new(),
            open: None,
            chunk_bytes: bytes_of(DEFAULT_CHUNK_BYTES),
            message_bytes_max: limits.message_bytes_before_publish,
            streams_max: limits.chunk_streams,
            unfinished: 0,
            unfinished_max: limits.unfinished_bytes,
            rate: Budget::new(limits.chunks_per_second, limits.chunks_per_second),
            rate_max: limits.chunks_per_second,
            discarded: 0,
        }
    }

    /// Allows messages of up to `bytes` from the next one on.
    pub const fn set_message_bytes_max(&mut self, bytes: usize) {
        self.message_bytes_max = bytes;
    }

    /// Messages that were begun and never finished.
    #[must_use]
    pub const fn discarded(&self) -> u64 {
        self.discarded
    }

    /// Consumes `input` up to the end of the next message; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the peer breaks the protocol or a bound; the connection is then of no use.
    pub fn read(&mut self, input: &mut BytesMut, now: Duration) -> Result<Option<Message>, Error> {
        loop {
            if self.open.is_none() && !self.read_header(input, now)? {
                return Ok(None);
            }
            let Some(message) = self.read_payload(input)? else {
                if self.open.is_some() {
                    return Ok(None);
                }
                continue;
            };
            if !self.apply(&message)? {
                return Ok(Some(message));
            }
        }
    }

    /// Reads the header of a chunk; `false` when it is not all there.
    fn read_header(&mut self, input: &mut BytesMut, now: Duration) -> Result<bool, Error> {
        let Some(header) = Header::parse(input) else {
            return Ok(false);
        };
        let index = match self
            .streams
            .iter()
            .position(|stream| stream.id == header.id)
        {
            Some(index) => index,
            None if header.kind >= 2 => {
                return Err(Error::Headless {
                    kind: header.kind,
                    id: header.id,
                });
            }
            None if self.streams.len() >= self.streams_max => {
                return Err(Error::ChunkStreams(self.streams_max));
            }
            None => {
                self.streams.push(Stream::new(header.id));
                self.streams.len() - 1
            }
        };
        let Some(stream) = self.streams.get_mut(index) else {
            return Ok(false);
        };
        let begins = stream.partial.is_none();
        let Some(extended) = stream.extended_of(
            &header,
            begins,
            input.get(header.bytes..).unwrap_or_default(),
        ) else {
            return Ok(false);
        };
        if !self.rate.spend(1, now) {
            return Err(Error::ChunkRate(self.rate_max));
        }
        if header.kind < 2 && header.length > self.message_bytes_max {
            return Err(Error::MessageLength {
                length: header.length,
                max: self.message_bytes_max,
            });
        }
        input.advance(header.bytes + if extended.is_some() { 4 } else { 0 });

        // A full header inside a message: encoders exist that repeat it with each chunk; if it describes another
        // message, the first is given up.
        let repeats = header.kind == 2
            || header.kind == 3
            || (header.length == stream.length && header.message == stream.kind);
        if !begins && !repeats {
            self.unfinished -= stream.abort();
            self.discarded += 1;
        }
        if stream.partial.is_none() {
            stream.begin(&header, extended);
        }
        let so_far = stream.partial.as_ref().map_or(0, Vec::len);
        let remaining = (stream.length - so_far).min(self.chunk_bytes);
        self.open = Some(Open {
            stream: index,
            remaining,
        });
        Ok(true)
    }

    /// Moves payload into its message; the message once it is whole. `open` stays set when more bytes are needed.
    fn read_payload(&mut self, input: &mut BytesMut) -> Result<Option<Message>, Error> {
        let Some(open) = self.open else {
            return Ok(None);
        };
        let Some(stream) = self.streams.get_mut(open.stream) else {
            return Ok(None);
        };
        let count = open.remaining.min(input.len());
        let partial = stream.partial.get_or_insert_default();
        let needed = partial.len() + count;
        if needed > stream.reserved {
            // Doubles, as far as the message goes: what is reserved follows what has come, not what was announced.
            let reserve = needed
                .max(2 * stream.reserved)
                .max(FIRST_BYTES)
                .min(stream.length);
            let unfinished = self.unfinished - stream.reserved + reserve;
            if unfinished > self.unfinished_max {
                return Err(Error::Unfinished(self.unfinished_max));
            }
            partial.reserve_exact(reserve - partial.len());
            (self.unfinished, stream.reserved) = (unfinished, reserve);
        }
        partial.extend_from_slice(input.get(..count).unwrap_or_default());
        input.advance(count);
        if count < open.remaining {
            self.open = Some(Open {
                remaining: open.remaining - count,
                ..open
            });
            return Ok(None);
        }
        self.open = None;
        if partial.len() < stream.length {
            return Ok(None);
        }
        let payload = stream.partial.take().unwrap_or_default();
        self.unfinished -= std::mem::take(&mut stream.reserved);
        Ok(Some(Message {
            kind: stream.kind,
            stream: stream.message_stream,
            timestamp: stream.timestamp,
            payload: Bytes::from(payload),
        }))
    }

    /// Acts on the messages that concern this layer; `false` for all others.
    fn apply(&mut self, message: &Message) -> Result<bool, Error> {
        if message.kind != message::SET_CHUNK_SIZE && message.kind != message::ABORT {
            return Ok(false);
        }
        let value = message.u32(0).ok_or(Error::Control(message.kind))?;
        if message.kind == message::SET_CHUNK_SIZE {
            // The top bit must be zero (section 5.4.1).
            if value == 0 || value > u32::MAX / 2 {
                return Err(Error::ChunkSize(value));
            }
            self.chunk_bytes = bytes_of(value.min(CHUNK_BYTES_MAX));
        } else if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == value)
            && stream.partial.is_some()
        {
            self.unfinished -= stream.abort();
            self.discarded += 1;
        }
        Ok(true)
    }
}

impl Stream {
    const fn new(id: u32) -> Self {
        Self {
            id,
            timestamp: 0,
            delta: 0,
            extended: None,
            length: 0,
            kind: 0,
            message_stream: 0,
            partial: None,
            reserved: 0,
        }
    }

    /// The extended timestamp that follows `header`, if any; the outer `None` when `rest` is too short to tell.
    fn extended_of(&self, header: &Header, begins: bool, rest: &[u8]) -> Option<Option<u32>> {
        if header.kind < 3 {
            if header.time < EXTENDED {
                return Some(None);
            }
            return rest
                .first_chunk()
                .map(|bytes| Some(u32::from_be_bytes(*bytes)));
        }
        let Some(last) = self.extended else {
            return Some(None);
        };
        if begins {
            return rest
                .first_chunk()
                .map(|bytes| Some(u32::from_be_bytes(*bytes)));
        }
        // Within a message the field repeats (section 5.3.1.3), but encoders exist that leave it out. The bytes
        // tell: they are the same field again, or already payload.
        let expected = last.to_be_bytes();
        let seen = rest.get(..4).unwrap_or(rest);
        if !expected.starts_with(seen) {
            return Some(None);
        }
        (seen.len() == 4).then_some(Some(last))
    }

    /// Begins a message.
    fn begin(&mut self, header: &Header, extended: Option<u32>) {
        if header.kind < 3 {
            self.extended = extended;
            self.delta = extended.unwrap_or(header.time);
        } else if let Some(extended) = extended {
            self.extended = Some(extended);
            self.delta = extended;
        }
        // Section 5.3.1.2.4: a type 3 chunk after a type 0 chunk adds that one's timestamp.
        self.timestamp = if header.kind == 0 {
            self.delta
        } else {
            self.timestamp.wrapping_add(self.delta)
        };
        if header.kind < 2 {
            self.length = header.length;
            self.kind = header.message;
        }
        if header.kind == 0 {
            self.message_stream = header.message_stream;
        }
        self.partial = Some(Vec::new());
    }

    /// Gives up the message in progress; what was reserved for it.
    fn abort(&mut self) -> usize {
        self.partial = None;
        std::mem::take(&mut self.reserved)
    }
}

impl Header {
    fn parse(input: &[u8]) -> Option<Self> {
        let (&first, rest) = input.split_first()?;
        let kind = first >> 6;
        let (id, basic) = match first & 0x3f {
            0 => (64 + u32::from(*rest.first()?), 2),
            1 => {
                let bytes: &[u8; 2] = rest.first_chunk()?;
                (64 + u32::from(u16::from_le_bytes(*bytes)), 3)
            }
            id => (u32::from(id), 1),
        };
        let fields = input.get(basic..)?;
        let size = match kind {
            0 => 11,
            1 => 7,
            2 => 3,
            _ => 0,
        };
        let fields = fields.get(..size)?;
        let uint24 = |at: usize| {
            fields.get(at..at + 3).map_or(0, |b| {
                b.iter()
                    .fold(0, |value, &byte| value << 8 | u32::from(byte))
            })
        };
        Some(Self {
            kind,
            id,
            bytes: basic + size,
            time: uint24(0),
            length: bytes_of(uint24(3)),
            message: fields.get(6).copied().unwrap_or(0),
            message_stream: fields
                .get(7..)
                .and_then(<[u8]>::first_chunk)
                .map_or(0, |b| u32::from_le_bytes(*b)),
        })
    }
}

/// Turns messages into chunks, with the shortest header that says enough.
#[derive(Debug)]
pub struct Writer {
    chunk_bytes: usize,
    streams: Vec<Written>,
}

/// The last message written on a chunk stream.
#[derive(Clone, Copy, Debug)]
struct Written {
    id: u32,
    timestamp: u32,
    delta: u32,
    length: usize,
    kind: u8,
    message_stream: u32,
}

impl Writer {
    /// A writer at the start of the chunk stream.
    #[must_use]
    pub fn new() -> Self {
        Self {
            chunk_bytes: bytes_of(DEFAULT_CHUNK_BYTES),
            streams: Vec::new(),
        }
    }

    /// Writes chunks of `bytes` from the next message on, and tells the peer.
    pub fn set_chunk_bytes(&mut self, bytes: u32, out: &mut BytesMut) {
        let bytes = bytes.clamp(1, CHUNK_BYTES_MAX);
        self.write(
            2,
            &Message::control(message::SET_CHUNK_SIZE, &bytes.to_be_bytes()),
            out,
        );
        self.chunk_bytes = bytes_of(bytes);
    }

    /// Appends `message` on chunk stream `id` (2 to 65 599). Payload beyond 16 777 215 bytes, which no message can
    /// have, is left out.
    pub fn write(&mut self, id: u32, message: &Message, out: &mut BytesMut) {
        let payload = message
            .payload
            .get(..bytes_of(CHUNK_BYTES_MAX))
            .unwrap_or(&message.payload);
        let mut now = Written {
            id,
            timestamp: message.timestamp,
            delta: message.timestamp,
            length: payload.len(),
            kind: message.kind,
            message_stream: message.stream,
        };
        let index = self.streams.iter().position(|stream| stream.id == id);
        let header = match index.and_then(|index| self.streams.get(index)) {
            Some(last)
                if last.message_stream == now.message_stream
                    && !is_before(now.timestamp, last.timestamp) =>
            {
                now.delta = now.timestamp.wrapping_sub(last.timestamp);
                if now.length != last.length || now.kind != last.kind {
                    1
                } else if now.delta != last.delta {
                    2
                } else {
                    3
                }
            }
            _ => 0,
        };
        let extended = (now.delta >= EXTENDED).then_some(now.delta);
        put_basic_header(header, id, out);
        if header < 3 {
            put_uint24(now.delta.min(EXTENDED), out);
        }
        if header < 2 {
            put_uint24(u32::try_from(payload.len()).unwrap_or(CHUNK_BYTES_MAX), out);
            out.put_u8(now.kind);
        }
        if header == 0 {
            out.put_u32_le(now.message_stream);
        }
        if let Some(extended) = extended {
            out.put_u32(extended);
        }
        for (n, piece) in payload.chunks(self.chunk_bytes).enumerate() {
            if n > 0 {
                put_basic_header(3, id, out);
                if let Some(extended) = extended {
                    out.put_u32(extended);
                }
            }
            out.put_slice(piece);
        }
        match index.and_then(|index| self.streams.get_mut(index)) {
            Some(last) => *last = now,
            None => self.streams.push(now),
        }
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether `a` is before `b` on the 32-bit circle.
const fn is_before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) > u32::MAX / 2
}

fn put_basic_header(kind: u8, id: u32, out: &mut BytesMut) {
    let kind = kind << 6;
    match u8::try_from(id) {
        Ok(id @ 2..=63) => out.put_u8(kind | id),
        _ => match u8::try_from(id.saturating_sub(64)) {
            Ok(rest) => out.put_slice(&[kind, rest]),
            Err(_) => {
                out.put_u8(kind | 1);
                out.put_u16_le(u16::try_from(id.saturating_sub(64)).unwrap_or(u16::MAX));
            }
        },
    }
}

fn put_uint24(value: u32, out: &mut BytesMut) {
    out.put_uint(u64::from(value), 3);
}

/// A length on the wire as one in memory; 32-bit lengths fit everywhere this runs.
fn bytes_of(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
