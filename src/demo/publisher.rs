//! The encoder's side of RTMP, as far as a test publisher needs it: the plain handshake, one publish, H.264 and AAC.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use ingest::StreamKey;
use ingest::rtmp::proto::amf0::{self, Value};
use ingest::rtmp::proto::message::{self, Command, Message};
use ingest::rtmp::proto::{Limits, chunk, handshake};
use media::{AccessUnit, Codec, Format, Rounding, Timescale, TrackId, Tracks};

/// The chunk stream of commands, and of media.
const COMMANDS: u32 = 3;
const MEDIA: u32 = 6;
/// Large, so that a picture is few chunks.
const CHUNK_BYTES: u32 = 65_536;
/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection on which a publish was accepted.
pub(super) struct Publisher {
    socket: TcpStream,
    reader: chunk::Reader,
    writer: chunk::Writer,
    input: BytesMut,
    output: BytesMut,
    stream: u32,
    video: Option<TrackId>,
}

impl Publisher {
    /// Connects and publishes.
    ///
    /// # Errors
    /// When the server cannot be reached, or with its own words when it refuses.
    pub(super) fn connect(to: &str, key: &StreamKey) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(to).with_context(|| format!("connecting to {to}"))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut publisher = Self {
            socket,
            reader: chunk::Reader::new(&Limits::default()),
            writer: chunk::Writer::new(),
            input: BytesMut::new(),
            output: BytesMut::new(),
            stream: 0,
            video: None,
        };
        publisher.handshake()?;
        publisher
            .writer
            .set_chunk_bytes(CHUNK_BYTES, &mut publisher.output);
        let url = format!("rtmp://{to}/live");
        let application = amf0::object([
            ("app", "live".into()),
            ("tcUrl", url.as_str().into()),
            ("flashVer", "headwater demo".into()),
        ]);
        publisher.call("connect", 1.0, vec![application])?;
        let created = publisher.call("createStream", 2.0, vec![Value::Null])?;
        let number = created
            .arguments
            .get(1)
            .context("createStream gave no stream")?;
        publisher.stream = (1..=64)
            .find(|stream| Value::from(f64::from(*stream)) == *number)
            .context("an odd stream number")?;
        let publish = Command {
            name: "publish".to_owned(),
            transaction: 3.0,
            arguments: vec![Value::Null, key.expose().into(), "live".into()],
        };
        publisher.send(COMMANDS, &publish.encode(publisher.stream));
        let status = publisher.command("onStatus")?;
        let field = |name| {
            status
                .arguments
                .get(1)
                .and_then(|info| info.get(name)?.as_str())
                .unwrap_or_default()
        };
        ensure!(
            field("code") == "NetStream.Publish.Start",
            "the server refused: {}",
            field("description")
        );
        Ok(publisher)
    }

    /// Sends the codec configurations.
    pub(super) fn tracks(&mut self, tracks: &Tracks) -> anyhow::Result<()> {
        for track in tracks.iter() {
            if matches!(track.format, Format::Video(_)) {
                self.video = Some(track.id);
            }
            let (kind, head, record): (u8, &[u8], &Bytes) = match &track.codec {
                // FrameType 1 (key), CodecID 7 (AVC), sequence header, no composition time (FLV 10.1, E.4.3.1).
                Codec::H264(config) => (message::VIDEO, &[0x17, 0, 0, 0, 0], config.record()),
                // SoundFormat 10 (AAC), sequence header (E.4.2.1).
                Codec::Aac(config) => (message::AUDIO, &[0xaf, 0], config.record()),
                other => bail!("the test source makes no {}", other.name()),
            };
            self.media(kind, 0, head, record);
        }
        self.flush()
    }

    /// Queues one access unit.
    pub(super) fn unit(&mut self, unit: &AccessUnit) -> anyhow::Result<()> {
        let millis =
            |at: media::Timestamp| at.rescale(Timescale::MILLIS, Rounding::Nearest).ticks();
        let dts = millis(unit.dts);
        let timestamp = u32::try_from(dts & i64::from(u32::MAX)).context("a masked number fits")?;
        if self.video == Some(unit.track) {
            let composition =
                i32::try_from(millis(unit.pts) - dts).context("a composition time of weeks")?;
            let [_, high, middle, low] = composition.to_be_bytes();
            let frame = if unit.keyframe { 0x17 } else { 0x27 };
            self.media(
                message::VIDEO,
                timestamp,
                &[frame, 1, high, middle, low],
                &unit.data,
            );
        } else {
            self.media(message::AUDIO, timestamp, &[0xaf, 1], &unit.data);
        }
        Ok(())
    }

    /// Writes what is queued.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.socket
            .write_all(&self.output)
            .context("sending to the server")?;
        self.output.clear();
        Ok(())
    }

    fn handshake(&mut self) -> anyhow::Result<()> {
        // C0, and a C1 of zeros: neither its time nor its filler means anything to the plain form.
        let mut hello = vec![3];
        hello.resize(1 + handshake::PACKET_BYTES, 0);
        self.socket.write_all(&hello)?;
        let mut answer = vec![0; 1 + 2 * handshake::PACKET_BYTES];
        self.socket
            .read_exact(&mut answer)
            .context("reading the handshake")?;
        ensure!(answer[0] == 3, "the server does not speak RTMP");
        // C2 echoes S1.
        self.socket
            .write_all(&answer[1..=handshake::PACKET_BYTES])
            .context("finishing the handshake")
    }

    fn call(
        &mut self,
        name: &str,
        transaction: f64,
        arguments: Vec<Value>,
    ) -> anyhow::Result<Command> {
        self.send(
            COMMANDS,
            &Command {
                name: name.to_owned(),
                transaction,
                arguments,
            }
            .encode(0),
        );
        self.command("_result")
            .with_context(|| format!("calling {name}"))
    }

    /// The next command named `name`; others are passed over.
    fn command(&mut self, name: &str) -> anyhow::Result<Command> {
        self.flush()?;
        loop {
            while let Some(message) = self.reader.read(&mut self.input, Duration::ZERO)? {
                if message.kind == message::COMMAND {
                    let command = Command::decode(&message)?;
                    ensure!(command.name != "_error", "the server refused");
                    if command.name == name {
                        return Ok(command);
                    }
                }
            }
            let mut piece = [0; 4096];
            let read = self
                .socket
                .read(&mut piece)
                .context("waiting for the server's answer")?;
            ensure!(read > 0, "the server closed the connection");
            self.input.extend_from_slice(&piece[..read]);
        }
    }

    fn media(&mut self, kind: u8, timestamp: u32, head: &[u8], body: &[u8]) {
        let mut payload = BytesMut::with_capacity(head.len() + body.len());
        payload.put_slice(head);
        payload.put_slice(body);
        self.send(
            MEDIA,
            &Message {
                kind,
                stream: self.stream,
                timestamp,
                payload: payload.freeze(),
            },
        );
    }

    fn send(&mut self, chunk_stream: u32, message: &Message) {
        self.writer.write(chunk_stream, message, &mut self.output);
    }
}
