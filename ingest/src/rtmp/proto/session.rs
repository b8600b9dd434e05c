//! One connection of an encoder, from the handshake to the end of its publish.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use media::Event;

use super::amf0::{self, Value};
use super::message::{self, Command, Message};
use super::{Error, Limits, chunk, handshake::Handshake};
use crate::budget::Budget;
use crate::{Reject, StreamKey, flv};

/// The one application that encoders publish to.
const APPLICATION: &str = "live";
/// Chunk stream for protocol control (Adobe RTMP 1.0 section 5.4).
const CONTROL: u32 = 2;
/// Chunk stream for commands.
const COMMANDS: u32 = 3;
/// Bytes between acknowledgements, both ways.
const WINDOW_BYTES: u32 = 2_500_000;
/// Chunk size of our answers.
const ANSWER_CHUNK_BYTES: u32 = 4096;
/// Message streams that a connection may create; encoders create one.
const STREAMS_MAX: u32 = 8;
/// Bytes of answers that a peer may leave unread; a publisher is owed a few hundred.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Rates may be doubled for this many seconds.
const BURST_SECONDS: u64 = 5;
/// Length of an FLV tag's header and of the field behind each tag, in an aggregate message.
const TAG_HEADER_BYTES: usize = 11;
const BACK_POINTER_BYTES: usize = 4;

/// What comes out of a connection, besides bytes.
#[derive(Debug)]
pub enum Output {
    /// The encoder wants to publish: answer with [`Connection::accept`] or [`Connection::reject`]. Nothing more is
    /// read before that.
    Publish {
        /// The stream key; `None` when what was sent cannot be one.
        key: Option<StreamKey>,
        /// What the encoder calls itself.
        encoder: Option<String>,
    },
    /// The media, as it comes. After [`Event::End`] nothing more is read.
    Event(Event),
}

/// A connection as a state machine: put bytes into [`input`](Self::input), call [`poll`](Self::poll) until it
/// returns `None`, send what is in [`output`](Self::output), and wait for more bytes or the
/// [`deadline`](Self::deadline). Times count from the start of the connection.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    input: BytesMut,
    output: BytesMut,
    reader: chunk::Reader,
    writer: chunk::Writer,
    phase: Phase,
    application: Application,
    encoder: Option<String>,
    streams: u32,
    /// The message stream of the publish.
    published: u32,
    received: u64,
    acknowledged: u64,
    window: u64,
    rate: Budget,
    /// What is left of an aggregate message, and what to add to the times in it.
    aggregate: Option<(Bytes, u32)>,
    demuxer: Option<Box<flv::Demuxer>>,
}

#[derive(Debug)]
enum Phase {
    Handshake(Handshake),
    Commands,
    Deciding,
    Publishing {
        since: Duration,
        media: Option<Duration>,
    },
    Closed,
}

#[derive(Debug)]
enum Application {
    Unconnected,
    /// Connected; the key, where the encoder put it into the application's name.
    Connected(Option<String>),
}

impl Connection {
    /// A connection that has seen nothing. `seed` as for [`Handshake::new`].
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        let bytes_per_second = limits.bits_per_second / 8;
        Self {
            reader: chunk::Reader::new(&limits),
            writer: chunk::Writer::new(),
            rate: Budget::new(
                bytes_per_second,
                bytes_per_second.saturating_mul(BURST_SECONDS),
            ),
            limits,
            input: BytesMut::new(),
            output: BytesMut::new(),
            phase: Phase::Handshake(Handshake::new(seed)),
            application: Application::Unconnected,
            encoder: None,
            streams: 0,
            published: 0,
            received: 0,
            acknowledged: 0,
            window: WINDOW_BYTES.into(),
            aggregate: None,
            demuxer: None,
        }
    }

    /// Where bytes from the peer go.
    pub const fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Bytes for the peer; whoever sends them takes them out.
    pub const fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Bytes taken from the input so far.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// The publish's media, once accepted.
    #[must_use]
    pub fn demuxer(&self) -> Option<&flv::Demuxer> {
        self.demuxer.as_deref()
    }

    /// When [`check`](Self::check) will fail if nothing comes; `None` while the peer waits for us.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Handshake(_) => Some(self.limits.handshake.min(self.limits.publish)),
            Phase::Commands => Some(self.limits.publish),
            Phase::Publishing { since, media: None } => Some(since + self.limits.first_media),
            Phase::Publishing {
                media: Some(last), ..
            } => Some(last + self.limits.silence),
            Phase::Deciding | Phase::Closed => None,
        }
    }

    /// Whether the peer is still in time.
    ///
    /// # Errors
    /// When the deadline has come.
    pub fn check(&self, now: Duration) -> Result<(), Error> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        Err(match self.phase {
            Phase::Handshake(_) => Error::HandshakeTimeout(self.limits.handshake),
            Phase::Commands => Error::PublishTimeout(self.limits.publish),
            Phase::Publishing { media: None, .. } => {
                Error::FirstMediaTimeout(self.limits.first_media)
            }
            _ => Error::Silence(self.limits.silence),
        })
    }

    /// The next thing that comes out of the input; `None` when it takes more bytes, or a decision.
    ///
    /// # Errors
    /// When the peer breaks the protocol or a bound: tell it with [`fail`](Self::fail) and close.
    pub fn poll(&mut self, now: Duration) -> Result<Option<Output>, Error> {
        loop {
            if let Some(event) = self.demuxer.as_mut().and_then(|demuxer| demuxer.poll()) {
                return Ok(Some(Output::Event(event)));
            }
            if let Some((kind, timestamp, body)) = self.next_of_aggregate() {
                self.media(kind, timestamp, body, now)?;
                continue;
            }
            if self.output.len() > OUTPUT_BYTES_MAX {
                return Err(Error::Unread);
            }
            let before = self.input.len();
            match &mut self.phase {
                Phase::Deciding | Phase::Closed => return Ok(None),
                Phase::Handshake(handshake) => {
                    let done = handshake.advance(&mut self.input, &mut self.output)?;
                    self.consumed(before, now)?;
                    if !done {
                        return Ok(None);
                    }
                    self.phase = Phase::Commands;
                }
                Phase::Commands | Phase::Publishing { .. } => {
                    let message = self.reader.read(&mut self.input, now)?;
                    self.consumed(before, now)?;
                    let Some(message) = message else {
                        self.acknowledge();
                        return Ok(None);
                    };
                    if let Some(output) = self.message(message, now)? {
                        return Ok(Some(output));
                    }
                }
            }
        }
    }

    /// Lets the publish begin, with these bounds for its media.
    pub fn accept(&mut self, now: Duration) {
        if !matches!(self.phase, Phase::Deciding) {
            return;
        }
        self.phase = Phase::Publishing {
            since: now,
            media: None,
        };
        self.reader.set_message_bytes_max(self.limits.message_bytes);
        self.demuxer = Some(Box::new(flv::Demuxer::new(self.limits.pictures_per_second)));
        self.write(
            CONTROL,
            &Message::user_control(message::STREAM_BEGIN, self.published),
        );
        self.status(
            "status",
            "NetStream.Publish.Start",
            "the stream is being published",
        );
    }

    /// Refuses the publish, or ends a running one, and says why.
    pub fn reject(&mut self, reason: &Reject) {
        // OBS shows the description of these two codes, GStreamer that of the first, ffmpeg that of any error.
        let code = match reason {
            Reject::BadKey | Reject::TooManyAttempts => "NetStream.Publish.Denied",
            _ => "NetStream.Publish.Rejected",
        };
        self.status("error", code, &reason.to_string());
        self.close();
    }

    /// Tells the peer why the connection ends, as far as it has come.
    pub fn fail(&mut self, error: &Error) {
        let code = match error {
            // Answered where it was found.
            Error::Application => return self.close(),
            Error::Play => "NetStream.Play.Failed",
            _ => "NetStream.Publish.Rejected",
        };
        if matches!(self.application, Application::Connected(_)) {
            self.status("error", code, &error.to_string());
        }
        self.close();
    }

    /// Ends the publish: what was held back comes out of [`poll`](Self::poll), and [`Event::End`] behind it.
    pub fn end(&mut self) {
        if let Some(demuxer) = &mut self.demuxer {
            demuxer.end();
        }
        self.phase = Phase::Closed;
    }

    /// Ends the connection from our side; a publish that was not announced yet never was.
    fn close(&mut self) {
        if let Some(demuxer) = &mut self.demuxer {
            demuxer.discard();
        }
        self.end();
        self.input.clear();
        self.aggregate = None;
    }

    fn consumed(&mut self, before: usize, now: Duration) -> Result<(), Error> {
        let bytes = u64::try_from(before - self.input.len()).unwrap_or(u64::MAX);
        self.received += bytes;
        if matches!(self.phase, Phase::Publishing { .. }) {
            if !self.rate.spend(bytes, now) {
                return Err(Error::BitRate(self.limits.bits_per_second));
            }
        } else if self.received > self.limits.bytes_before_publish {
            return Err(Error::Talk(self.limits.bytes_before_publish));
        }
        Ok(())
    }

    /// Acknowledges what has come, once a turn and window at most (section 5.4.3).
    fn acknowledge(&mut self) {
        if self.received - self.acknowledged >= self.window {
            self.acknowledged = self.received;
            let [.., a, b, c, d] = self.received.to_be_bytes();
            self.write(
                CONTROL,
                &Message::control(message::ACKNOWLEDGEMENT, &[a, b, c, d]),
            );
        }
    }

    fn message(&mut self, message: Message, now: Duration) -> Result<Option<Output>, Error> {
        match message.kind {
            message::WINDOW_ACKNOWLEDGEMENT_SIZE => {
                if let Some(window @ 1..) = message.u32(0) {
                    self.window = window.into();
                }
            }
            message::USER_CONTROL => {
                if let (Some([0, 6]), Some(stamp)) = (message.payload.get(..2), message.u32(2)) {
                    self.write(
                        CONTROL,
                        &Message::user_control(message::PING_RESPONSE, stamp),
                    );
                }
            }
            message::COMMAND | message::COMMAND_AMF3 => {
                let command = Command::decode(&message)?;
                return self.command(&command, message.stream);
            }
            message::AGGREGATE => {
                let first = message.payload.get(4..8).and_then(<[u8]>::first_chunk::<4>);
                let first = first.map_or(0, |&[a, b, c, d]| u32::from_be_bytes([d, a, b, c]));
                self.aggregate = Some((message.payload, message.timestamp.wrapping_sub(first)));
            }
            _ => self.media(message.kind, message.timestamp, message.payload, now)?,
        }
        Ok(None)
    }

    fn media(&mut self, kind: u8, timestamp: u32, body: Bytes, now: Duration) -> Result<(), Error> {
        // What comes before the publish is accepted, or after its end, is nobody's.
        let (Phase::Publishing { since, media }, Some(demuxer)) =
            (&mut self.phase, &mut self.demuxer)
        else {
            return Ok(());
        };
        let arrival = now.saturating_sub(*since);
        match kind {
            message::AUDIO => {
                *media = Some(now);
                demuxer.audio(timestamp, body, arrival)?;
            }
            message::VIDEO => {
                *media = Some(now);
                demuxer.video(timestamp, body, arrival)?;
            }
            message::DATA => demuxer.data(&body),
            message::DATA_AMF3 => demuxer.data(body.get(1..).unwrap_or_default()),
            _ => {}
        }
        Ok(())
    }

    /// The next FLV tag of an aggregate message (section 7.1.6), as type, time and body.
    fn next_of_aggregate(&mut self) -> Option<(u8, u32, Bytes)> {
        let (mut rest, offset) = self.aggregate.take()?;
        let (&[kind, a, b, c, t1, t2, t3, t0], _) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
        if rest.len() < TAG_HEADER_BYTES + length {
            return None;
        }
        rest.advance(TAG_HEADER_BYTES);
        let body = rest.split_to(length);
        if rest.len() > BACK_POINTER_BYTES {
            rest.advance(BACK_POINTER_BYTES);
            self.aggregate = Some((rest, offset));
        }
        Some((
            kind,
            u32::from_be_bytes([t0, t1, t2, t3]).wrapping_add(offset),
            body,
        ))
    }

    fn command(&mut self, command: &Command, stream: u32) -> Result<Option<Output>, Error> {
        let name = command.name.as_str();
        let application = match (&self.application, name) {
            (Application::Unconnected, "connect") => {
                self.connect(command)?;
                return Ok(None);
            }
            (Application::Unconnected, _) => {
                return Err(Error::OutOfOrder("command before connect"));
            }
            (Application::Connected(_), "connect") => {
                return Err(Error::OutOfOrder("second connect"));
            }
            (Application::Connected(key), _) => key.clone(),
        };
        match name {
            "createStream" => {
                if self.streams >= STREAMS_MAX {
                    return Err(Error::OutOfOrder("createStream once more"));
                }
                self.streams += 1;
                let id = Value::from(f64::from(self.streams));
                self.result(command.transaction, [Value::Null, id]);
            }
            "publish" => {
                if !matches!(self.phase, Phase::Commands) {
                    return Err(Error::OutOfOrder("second publish"));
                }
                self.published = stream;
                self.phase = Phase::Deciding;
                let name = command
                    .arguments
                    .get(1)
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let name = if name.is_empty() {
                    application.unwrap_or_default()
                } else {
                    name.to_owned()
                };
                return Ok(Some(Output::Publish {
                    key: key_of(&name),
                    encoder: self.encoder.clone(),
                }));
            }
            "play" | "play2" => {
                self.published = stream;
                return Err(Error::Play);
            }
            "FCUnpublish" | "deleteStream" | "closeStream" => {
                let other = (name == "deleteStream")
                    && command.arguments.get(1).and_then(Value::as_number)
                        != Some(f64::from(self.published));
                if matches!(self.phase, Phase::Publishing { .. }) && !other {
                    self.status(
                        "status",
                        "NetStream.Unpublish.Success",
                        "the stream is no longer published",
                    );
                    self.end();
                }
            }
            "getStreamLength" => self.result(command.transaction, [Value::Null, Value::from(0.0)]),
            "releaseStream" | "FCPublish" | "_checkbw" => {
                self.result(command.transaction, [Value::Null, Value::Undefined]);
            }
            // Answers to what we never asked, and the calls of players and flash pages.
            _ => {}
        }
        Ok(None)
    }

    fn connect(&mut self, command: &Command) -> Result<(), Error> {
        let object = command.arguments.first().unwrap_or(&Value::Null);
        let text = |name| object.get(name).and_then(Value::as_str);
        self.encoder = text("flashVer")
            .filter(|name| !name.is_empty())
            .map(crate::printable);
        let Some(key) = application_of(text("app").unwrap_or_default()) else {
            let error = Error::Application;
            let code = "NetConnection.Connect.InvalidApp";
            let information = message::information("error", code, &error.to_string());
            self.answer("_error", command.transaction, [Value::Null, information]);
            return Err(error);
        };
        self.application = Application::Connected(key);
        let window = WINDOW_BYTES.to_be_bytes();
        self.write(
            CONTROL,
            &Message::control(message::WINDOW_ACKNOWLEDGEMENT_SIZE, &window),
        );
        // Limit type 2, dynamic (section 5.4.5).
        let [a, b, c, d] = window;
        self.write(
            CONTROL,
            &Message::control(message::SET_PEER_BANDWIDTH, &[a, b, c, d, 2]),
        );
        self.writer
            .set_chunk_bytes(ANSWER_CHUNK_BYTES, &mut self.output);
        let information = message::information(
            "status",
            "NetConnection.Connect.Success",
            "connected; publish with your stream key",
        );
        self.result(command.transaction, [capabilities(), information]);
        Ok(())
    }

    fn result<const N: usize>(&mut self, transaction: f64, arguments: [Value; N]) {
        self.answer("_result", transaction, arguments);
    }

    fn answer<const N: usize>(&mut self, name: &str, transaction: f64, arguments: [Value; N]) {
        let command = Command {
            name: name.to_owned(),
            transaction,
            arguments: arguments.into(),
        };
        self.write(COMMANDS, &command.encode(0));
    }

    fn status(&mut self, level: &str, code: &str, description: &str) {
        let command = Command::status(level, code, description);
        self.write(COMMANDS, &command.encode(self.published));
    }

    fn write(&mut self, chunk_stream: u32, message: &Message) {
        self.writer.write(chunk_stream, message, &mut self.output);
    }
}

/// What this server can take, in the words of E-RTMP v2 ("Enhancing NetConnection connect Command") beside the
/// older ones that some encoders look for.
fn capabilities() -> Value {
    /// FourCcInfoMask.CanDecode.
    const CAN_DECODE: f64 = 1.0;
    /// CapsExMask: ModEx and TimestampNanoOffset. Of a multitrack publish only one track is taken, so that is not
    /// promised.
    const CAPS_EX: f64 = 12.0;
    let map = |codecs: &[&str]| {
        Value::Object(
            codecs
                .iter()
                .map(|&codec| (codec.to_owned(), CAN_DECODE.into()))
                .collect(),
        )
    };
    let all = flv::VIDEO_FOURCC.iter().chain(flv::AUDIO_FOURCC);
    amf0::object([
        ("fmsVer", "FMS/3,5,7,7009".into()),
        ("capabilities", 31.0.into()),
        ("mode", 1.0.into()),
        (
            "fourCcList",
            Value::StrictArray(all.map(|&codec| codec.into()).collect()),
        ),
        ("videoFourCcInfoMap", map(flv::VIDEO_FOURCC)),
        ("audioFourCcInfoMap", map(flv::AUDIO_FOURCC)),
        ("capsEx", CAPS_EX.into()),
    ])
}

/// Reads an application's name: `None` when it is not ours, else the key that may stand behind it (`live/KEY`), as
/// encoders send it that split the URL at its first slash.
fn application_of(name: &str) -> Option<Option<String>> {
    let (path, _query) = name.split_once('?').unwrap_or((name, ""));
    let path = path.trim_matches('/');
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    (first == APPLICATION).then(|| (!rest.is_empty()).then(|| rest.to_owned()))
}

/// Reads a publish name: `KEY`, `KEY?query`, with the slashes and blanks that pasting leaves.
fn key_of(name: &str) -> Option<StreamKey> {
    let (key, _query) = name.split_once('?').unwrap_or((name, ""));
    StreamKey::parse(key.trim().trim_matches('/'))
}

#[cfg(test)]
mod tests;
