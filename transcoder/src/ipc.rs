//! What supervisor and worker say to each other over their socket pair.
//!
//! A frame is a length (four bytes, big end first), a kind (one byte) and a body: an event in the form of
//! [`media::wire`], or JSON. Both ends are this program, but the worker's is not trusted: lengths are bounded before
//! anything is kept, and what a frame says is checked where it is used.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, BytesMut};
use media::{Event, TrackId, wire};
use serde::{Deserialize, Serialize};

use crate::gate::Encoding;
use crate::ladder::Planned;

/// A frame did not make sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("a frame of {0} bytes")]
    Length(usize),
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    #[error("an event: {0}")]
    Event(#[from] wire::Error),
    #[error("a frame without its event")]
    NoEvent,
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

/// The largest body: a unit of 8 MiB, the most that ingest lets through, and room for its fields.
const BODY_MAX: usize = (8 << 20) + 4096;
const HEAD: usize = 5;

/// From the supervisor to the worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// The first thing said: limits to take on before anything else.
    Setup(Setup),
    /// What to make from the given segment on.
    Job(Job),
    /// Media in the order of the segmenter.
    Event(Event),
    /// A unit that never came: the last picture again, or silence.
    Fill(Fill),
}

/// From the worker to the supervisor.
#[derive(Debug)]
pub(crate) enum Message {
    /// The sandbox is closed and libav loaded.
    Ready(Ready),
    /// Tracks that are open from here on, or a unit of one of them. A track that is listed no more is complete.
    Event(Event),
    /// How far it is.
    Report(Report),
    /// Why it gives up.
    Failed(Failed),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// Bound of what it allocates, in bytes.
    pub(crate) memory_max: u64,
    /// Measure what encoding costs on this machine first.
    pub(crate) measure: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The segment from which this holds.
    pub(crate) from: u64,
    /// Encoded rungs, highest first, each scaled from the one before.
    pub(crate) rungs: Vec<Planned>,
    pub(crate) sound: Option<Sound>,
    /// The longest pause between pictures, in 90 kHz ticks.
    pub(crate) pause_max: i64,
    /// Pictures a second of the source, as far as known.
    pub(crate) frame_rate: Option<(u32, u32)>,
}

impl Job {
    /// What it asks for, each told from any other encoding of its track.
    pub(crate) fn encodings(&self) -> impl Iterator<Item = Encoding> {
        let rung = |rung: &Planned| Encoding {
            id: rung.id(),
            size: Some((rung.width, rung.height)),
            average_bps: rung.bitrate_bps,
        };
        let sound = |sound: Sound| Encoding {
            id: TrackId(sound.track),
            size: None,
            average_bps: sound.bitrate_bps,
        };
        self.rungs.iter().map(rung).chain(self.sound.map(sound))
    }

    /// Whether it asks for a track.
    pub(crate) fn has(&self, id: TrackId) -> bool {
        self.rungs.iter().any(|rung| rung.id() == id)
            || self.sound.is_some_and(|sound| TrackId(sound.track) == id)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fill {
    /// The publisher's track.
    pub(crate) track: u8,
    /// Ticks of its timescale.
    pub(crate) at: i64,
    pub(crate) duration: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sound {
    pub(crate) track: u8,
    pub(crate) bitrate_bps: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// The kernel closed everything that was asked for.
    pub(crate) fully: bool,
    /// Nanoseconds of processor time for an encoded sample, if that was to be measured.
    pub(crate) nanos: Option<f64>,
}

/// The worker's account, a few times a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Units of picture and sound that have been worked off.
    pub(crate) units: u64,
    /// Decode time of the newest picture worked off, in 90 kHz ticks.
    pub(crate) reached: i64,
    /// Processor time used so far, in microseconds.
    pub(crate) cpu_micros: u64,
    /// Units that could not be decoded.
    pub(crate) damaged: u64,
    /// Pictures that were left out because their time did not follow the one before.
    pub(crate) dropped: u64,
    /// Pictures repeated to fill pauses.
    pub(crate) repeated: u64,
    /// The most memory it has held, in bytes.
    pub(crate) memory: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) reason: String,
}

const EVENT: u8 = 0;

/// A message of either direction.
pub(crate) trait Frame: Sized {
    fn put(&self, out: &mut BytesMut);
    fn take(kind: u8, body: BytesMut, events: &mut wire::Decoder) -> Result<Self, Error>;
}

/// Appends one frame to `out`.
pub(crate) fn encode(frame: &impl Frame, out: &mut BytesMut) {
    let start = out.len();
    out.put_u32(0);
    frame.put(out);
    let length = u32::try_from(out.len() - start - HEAD).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Turns the bytes of one direction into frames.
pub(crate) struct Reader<F> {
    /// What has arrived and is no whole frame yet; read the socket into its end.
    pub(crate) buffer: BytesMut,
    events: wire::Decoder,
    frames: PhantomData<F>,
}

impl<F: Frame> Reader<F> {
    pub(crate) fn new() -> Self {
        let mut events = wire::Decoder::new();
        // Both ends are one program: there is no version to agree on.
        events.push(&wire::HEADER);
        Self {
            buffer: BytesMut::with_capacity(1 << 16),
            events,
            frames: PhantomData,
        }
    }

    /// The first whole frame, or nothing when it has not all arrived.
    pub(crate) fn next(&mut self) -> Result<Option<F>, Error> {
        let Some(&[a, b, c, d, kind]) = self.buffer.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > BODY_MAX {
            return Err(Error::Length(length));
        }
        if self.buffer.len() < HEAD + length {
            self.buffer.reserve(HEAD + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        let body = self.buffer.split_to(length);
        F::take(kind, body, &mut self.events).map(Some)
    }
}

fn put_json(kind: u8, value: &impl Serialize, out: &mut BytesMut) {
    out.put_u8(kind);
    serde_json::to_writer(out.writer(), value)
        .expect("plain values become JSON, and memory takes every write");
}

fn put_event(event: &Event, out: &mut BytesMut) {
    out.put_u8(EVENT);
    wire::encode(event, out);
}

fn take_event(body: BytesMut, events: &mut wire::Decoder) -> Result<Event, Error> {
    events.buffer().unsplit(body);
    events.next()?.ok_or(Error::NoEvent)
}

impl Frame for Command {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Event(event) => put_event(event, out),
            Self::Setup(setup) => put_json(1, setup, out),
            Self::Job(job) => put_json(2, job, out),
            Self::Fill(fill) => put_json(3, fill, out),
        }
    }

    fn take(kind: u8, body: BytesMut, events: &mut wire::Decoder) -> Result<Self, Error> {
        match kind {
            EVENT => take_event(body, events).map(Self::Event),
            1 => Ok(Self::Setup(serde_json::from_slice(&body)?)),
            2 => Ok(Self::Job(serde_json::from_slice(&body)?)),
            3 => Ok(Self::Fill(serde_json::from_slice(&body)?)),
            other => Err(Error::Kind(other)),
        }
    }
}

impl Frame for Message {
    fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Event(event) => put_event(event, out),
            Self::Ready(ready) => put_json(1, ready, out),
            Self::Report(report) => put_json(2, report, out),
            Self::Failed(failed) => put_json(3, failed, out),
        }
    }

    fn take(kind: u8, body: BytesMut, events: &mut wire::Decoder) -> Result<Self, Error> {
        match kind {
            EVENT => take_event(body, events).map(Self::Event),
            1 => Ok(Self::Ready(serde_json::from_slice(&body)?)),
            2 => Ok(Self::Report(serde_json::from_slice(&body)?)),
            3 => Ok(Self::Failed(serde_json::from_slice(&body)?)),
            other => Err(Error::Kind(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use media::{AccessUnit, Codec, Format, Timescale, Timestamp, Track};

    use super::*;
    use crate::fixtures;

    fn tracks() -> Event {
        let config = fixtures::h264(720);
        let track = Track {
            id: TrackId(3),
            name: "720p".parse().expect("a name"),
            format: Format::Video(config.video()),
            codec: Codec::H264(config),
            timescale: Timescale::VIDEO,
            bandwidth: None,
        };
        Event::Tracks([track].into())
    }

    fn unit(track: u8) -> Event {
        let at = |ticks| Timestamp::new(ticks, Timescale::VIDEO);
        let data = bytes::Bytes::from_static(b"\0\0\0\x01\x65");
        Event::Unit(AccessUnit {
            track: TrackId(track),
            dts: at(1),
            pts: at(2),
            duration: 3,
            keyframe: true,
            data,
        })
    }

    #[test]
    fn frames_survive_any_split() {
        let report = Report {
            units: 7,
            reached: -5,
            ..Report::default()
        };
        let mut bytes = BytesMut::new();
        for message in [
            Message::Event(tracks()),
            Message::Report(report),
            Message::Event(unit(3)),
        ] {
            encode(&message, &mut bytes);
        }
        let mut reader = Reader::<Message>::new();
        let mut got = Vec::new();
        for byte in bytes {
            reader.buffer.put_u8(byte);
            while let Some(message) = reader.next().expect("whole frames") {
                got.push(message);
            }
        }
        assert!(matches!(&got[0], Message::Event(event) if *event == tracks()));
        assert!(matches!(&got[1], Message::Report(got) if *got == report));
        assert!(matches!(&got[2], Message::Event(event) if *event == unit(3)));
    }

    #[test]
    fn a_worker_gone_wrong_is_refused() {
        let refused = |bytes: &[u8]| {
            let mut reader = Reader::<Message>::new();
            reader.buffer.extend_from_slice(bytes);
            reader.next().is_err()
        };
        assert!(
            refused(&[0xff, 0xff, 0xff, 0xff, 0]),
            "a length beyond any unit"
        );
        assert!(refused(&[0, 0, 0, 0, 9]), "a kind that is none");
        assert!(refused(&[0, 0, 0, 1, 2, b'{']), "half a report");
        assert!(refused(&[0, 0, 0, 0, 0]), "an event that is none");
        let mut bytes = BytesMut::new();
        encode(&Message::Event(tracks()), &mut bytes);
        encode(&Message::Event(unit(4)), &mut bytes);
        let mut reader = Reader::<Message>::new();
        reader.buffer = bytes;
        assert!(reader.next().is_ok());
        assert!(
            reader.next().is_err(),
            "a unit of a track that was not announced"
        );
    }
}
