//! RTMP messages: protocol control, user control and commands (Adobe RTMP 1.0 sections 5.4, 6 and 7).

use bytes::{BufMut, Bytes, BytesMut};

use super::amf0::{self, Value};

/// Message type: Set Chunk Size.
pub const SET_CHUNK_SIZE: u8 = 1;
/// Message type: Abort.
pub const ABORT: u8 = 2;
/// Message type: Acknowledgement.
pub const ACKNOWLEDGEMENT: u8 = 3;
/// Message type: User Control.
pub const USER_CONTROL: u8 = 4;
/// Message type: Window Acknowledgement Size.
pub const WINDOW_ACKNOWLEDGEMENT_SIZE: u8 = 5;
/// Message type: Set Peer Bandwidth.
pub const SET_PEER_BANDWIDTH: u8 = 6;
/// Message type: audio, an FLV audio tag's body.
pub const AUDIO: u8 = 8;
/// Message type: video, an FLV video tag's body.
pub const VIDEO: u8 = 9;
/// Message type: data in AMF3's envelope.
pub const DATA_AMF3: u8 = 15;
/// Message type: a command in AMF3's envelope.
pub const COMMAND_AMF3: u8 = 17;
/// Message type: data, such as metadata.
pub const DATA: u8 = 18;
/// Message type: a command.
pub const COMMAND: u8 = 20;
/// Message type: several FLV tags in one message.
pub const AGGREGATE: u8 = 22;

/// User control event: a stream begins.
pub const STREAM_BEGIN: u16 = 0;
/// User control event: are you there?
pub const PING_REQUEST: u16 = 6;
/// User control event: I am.
pub const PING_RESPONSE: u16 = 7;

/// One RTMP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The message type.
    pub kind: u8,
    /// The message stream; 0 is the connection itself.
    pub stream: u32,
    /// Milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// The body.
    pub payload: Bytes,
}

impl Message {
    /// A protocol control message.
    #[must_use]
    pub fn control(kind: u8, payload: &[u8]) -> Self {
        Self {
            kind,
            stream: 0,
            timestamp: 0,
            payload: Bytes::copy_from_slice(payload),
        }
    }

    /// A user control message.
    #[must_use]
    pub fn user_control(event: u16, value: u32) -> Self {
        let mut payload = BytesMut::with_capacity(6);
        payload.put_u16(event);
        payload.put_u32(value);
        Self {
            kind: USER_CONTROL,
            stream: 0,
            timestamp: 0,
            payload: payload.freeze(),
        }
    }

    /// The four bytes at `offset` as a number.
    #[must_use]
    pub fn u32(&self, offset: usize) -> Option<u32> {
        self.payload
            .get(offset..)?
            .first_chunk()
            .map(|bytes| u32::from_be_bytes(*bytes))
    }
}

/// A command: a name, a transaction to answer, and what comes with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// `connect`, `publish`, `_result`, …
    pub name: String,
    /// Which call a `_result` answers; 0 asks for none.
    pub transaction: f64,
    /// The command object and the arguments after it.
    pub arguments: Vec<Value>,
}

impl Command {
    /// Reads the body of a command message. The AMF3 form starts with a zero and holds AMF0 values in all encoders.
    ///
    /// # Errors
    /// When the body is no command or passes a bound.
    pub fn decode(message: &Message) -> Result<Self, amf0::Error> {
        let body = match message.payload.split_first() {
            Some((0, body)) if message.kind == COMMAND_AMF3 => body,
            _ => &message.payload,
        };
        let mut decoder = amf0::Decoder::new(body)?;
        let Some(Value::String(name)) = decoder.value()? else {
            return Err(amf0::Error {
                offset: 0,
                kind: amf0::ErrorKind::Command,
            });
        };
        let transaction = decoder
            .value()?
            .and_then(|value| value.as_number())
            .unwrap_or(0.0);
        let mut arguments = Vec::new();
        while let Some(value) = decoder.value()? {
            arguments.push(value);
        }
        Ok(Self {
            name,
            transaction,
            arguments,
        })
    }

    /// The command as a message of `stream`.
    #[must_use]
    pub fn encode(&self, stream: u32) -> Message {
        let mut payload = BytesMut::new();
        Value::from(self.name.as_str()).encode(&mut payload);
        Value::from(self.transaction).encode(&mut payload);
        self.arguments
            .iter()
            .for_each(|argument| argument.encode(&mut payload));
        Message {
            kind: COMMAND,
            stream,
            timestamp: 0,
            payload: payload.freeze(),
        }
    }

    /// `onStatus`, by which a server tells an encoder how its publish fares.
    #[must_use]
    pub fn status(level: &str, code: &str, description: &str) -> Self {
        Self {
            name: "onStatus".to_owned(),
            transaction: 0.0,
            arguments: vec![Value::Null, information(level, code, description)],
        }
    }
}

/// The information object of a status or a result.
#[must_use]
pub fn information(level: &str, code: &str, description: &str) -> Value {
    amf0::object([
        ("level", level.into()),
        ("code", code.into()),
        ("description", description.into()),
    ])
}
