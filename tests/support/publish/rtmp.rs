//! A publisher of our own: it can say anything at any time, which no real encoder would.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use super::amf::{self, Value};
use super::chunks::{Message, Reader, Writer};
use super::flv::{Flv, Kind, Tag};

/// Chunk size that we send with, as ffmpeg does.
const CHUNK: usize = 4096;
/// Bytes of a handshake packet.
const HANDSHAKE: usize = 1536;
/// Transactions whose answers are waited for.
const CONNECT: u32 = 1;
const CREATE_STREAM: u32 = 4;
/// For an answer of the server.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the server said instead of "go on".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// `NetStream.Publish.BadName` and the like; empty when the server just hung up.
    pub(crate) code: String,
    pub(crate) description: String,
}

/// A connection that publishes. Dropped, it closes as a dying program does: without a word.
#[derive(Debug)]
pub(crate) struct Publisher {
    write: OwnedWriteHalf,
    chunks: Writer,
    /// The newest status of the server, and whether it has hung up.
    status: watch::Receiver<Status>,
}

#[derive(Clone, Debug, Default)]
struct Status {
    /// Transactions that were answered.
    results: Vec<u32>,
    refused: Option<Refused>,
    started: bool,
    closed: bool,
}

impl Publisher {
    /// Connects and publishes `key` in the application `live`.
    pub(crate) async fn connect(to: SocketAddr, key: &str) -> Result<Self, Refused> {
        Self::connect_from(SocketAddr::from(([127, 0, 0, 1], 0)), to, key).await
    }

    /// The same, again and again until it is let in or `limit` is over, as encoders do.
    pub(crate) async fn connect_again(
        to: SocketAddr,
        key: &str,
        limit: Duration,
    ) -> Result<Self, Refused> {
        let end = Instant::now() + limit;
        loop {
            match Self::connect(to, key).await {
                Err(_) if Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(200)).await
                }
                result => return result,
            }
        }
    }

    /// The same from an address of this machine.
    pub(crate) async fn connect_from(
        from: SocketAddr,
        to: SocketAddr,
        key: &str,
    ) -> Result<Self, Refused> {
        let (write, status) = handshake(from, to).await?;
        let mut publisher = Self {
            write,
            chunks: Writer::new(CHUNK),
            status,
        };
        let url = format!("rtmp://{to}/live");
        let object = [
            ("app", Value::String("live")),
            ("type", Value::String("nonprivate")),
            ("tcUrl", Value::String(&url)),
        ];
        let size = u32::try_from(CHUNK).expect("a small number").to_be_bytes();
        let set_chunk_size = Writer::new(128).write(2, 1, 0, 0, &size);
        publisher.raw(&set_chunk_size).await?;
        publisher
            .command(
                0,
                &[
                    Value::String("connect"),
                    Value::Number(f64::from(CONNECT)),
                    Value::Object(&object),
                ],
            )
            .await?;
        publisher
            .answered(|status| status.results.contains(&CONNECT))
            .await?;
        let release = [
            Value::String("releaseStream"),
            Value::Number(2.0),
            Value::Null,
            Value::String(key),
        ];
        let announce = [
            Value::String("FCPublish"),
            Value::Number(3.0),
            Value::Null,
            Value::String(key),
        ];
        let create = [
            Value::String("createStream"),
            Value::Number(f64::from(CREATE_STREAM)),
            Value::Null,
        ];
        for command in [&release[..], &announce, &create] {
            publisher.command(0, command).await?;
        }
        publisher
            .answered(|status| status.results.contains(&CREATE_STREAM))
            .await?;
        let publish = [
            Value::String("publish"),
            Value::Number(5.0),
            Value::Null,
            Value::String(key),
            Value::String("live"),
        ];
        publisher.command(1, &publish).await?;
        publisher.answered(|status| status.started).await?;
        Ok(publisher)
    }

    /// Sends one tag now.
    pub(crate) async fn send(&mut self, tag: &Tag) -> Result<(), Refused> {
        let stream = match tag.kind {
            Kind::Audio => 4,
            Kind::Video => 6,
            Kind::Script => 5,
        };
        let bytes = self
            .chunks
            .write(stream, tag.kind.id(), 1, tag.timestamp, &tag.data);
        self.raw(&bytes).await
    }

    /// Sends every tag when it is due, `speed` times as fast as it says.
    pub(crate) async fn play_at(&mut self, clip: &Flv, speed: u32) -> Result<(), Refused> {
        let start = Instant::now();
        for tag in &clip.tags {
            tokio::time::sleep_until(start + tag.due / speed).await;
            self.send(tag).await?;
        }
        Ok(())
    }

    /// Sends every tag when it is due.
    pub(crate) async fn play(&mut self, clip: &Flv) -> Result<(), Refused> {
        self.play_at(clip, 1).await
    }

    /// Any bytes at all.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        match self.write.write_all(bytes).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self
                .refusal()
                .await
                .unwrap_or_else(|| hung_up(&error.to_string()))),
        }
    }

    /// Says goodbye as encoders do, and waits for the server to hang up.
    pub(crate) async fn close(mut self) {
        let delete = [
            Value::String("deleteStream"),
            Value::Number(6.0),
            Value::Null,
            Value::Number(1.0),
        ];
        let _ = self.command(0, &delete).await;
        let _ = self.write.shutdown().await;
        let closed = self.status.wait_for(|status| status.closed);
        let _ = tokio::time::timeout(PATIENCE, closed).await;
    }

    /// Waits until the server ends the publish, and returns what it said.
    pub(crate) async fn ended(&mut self, limit: Duration) -> Option<Refused> {
        let over = self
            .status
            .wait_for(|status| status.closed || status.refused.is_some());
        let status = tokio::time::timeout(limit, over).await.ok()?.ok()?.clone();
        status.refused.or_else(|| Some(hung_up("closed")))
    }

    async fn refusal(&mut self) -> Option<Refused> {
        self.ended(Duration::from_millis(500)).await
    }

    async fn command(&mut self, stream: u32, values: &[Value<'_>]) -> Result<(), Refused> {
        let bytes = self.chunks.write(3, 20, stream, 0, &amf::encode(values));
        self.raw(&bytes).await
    }

    async fn answered(&mut self, done: impl Fn(&Status) -> bool) -> Result<(), Refused> {
        let mut waiting = self.status.clone();
        let any =
            waiting.wait_for(|status| done(status) || status.refused.is_some() || status.closed);
        let status = tokio::time::timeout(PATIENCE, any)
            .await
            .map_err(|_| hung_up(&format!("no answer: {:?}", self.status.borrow())))?;
        let status = status.map_err(|_| hung_up("closed"))?.clone();
        match status.refused {
            Some(refused) => Err(refused),
            None if done(&status) => Ok(()),
            None => Err(hung_up("closed")),
        }
    }
}

fn hung_up(description: &str) -> Refused {
    Refused {
        code: String::new(),
        description: description.to_owned(),
    }
}

async fn handshake(
    from: SocketAddr,
    to: SocketAddr,
) -> Result<(OwnedWriteHalf, watch::Receiver<Status>), Refused> {
    let failed = |error: std::io::Error| hung_up(&error.to_string());
    let socket = TcpSocket::new_v4().map_err(failed)?;
    socket.bind(from).map_err(failed)?;
    let mut stream = socket.connect(to).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let mut hello = vec![3];
    hello.resize(1 + HANDSHAKE, 0);
    stream.write_all(&hello).await.map_err(failed)?;
    let mut answer = vec![0; 1 + 2 * HANDSHAKE];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await;
    read.map_err(|_| hung_up("no handshake"))?.map_err(failed)?;
    stream
        .write_all(&answer[1..=HANDSHAKE])
        .await
        .map_err(failed)?;
    Ok(listen(stream))
}

/// Follows what the server says for as long as it talks.
fn listen(stream: TcpStream) -> (OwnedWriteHalf, watch::Receiver<Status>) {
    let (read, write) = stream.into_split();
    let (sender, receiver) = watch::channel(Status::default());
    tokio::spawn(follow(read, sender));
    (write, receiver)
}

async fn follow(mut read: OwnedReadHalf, status: watch::Sender<Status>) {
    let mut chunks = Reader::new();
    let mut buffer = BytesMut::new();
    loop {
        buffer.clear();
        match read.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(_) => chunks.push(&buffer),
        }
        while let Some(message) = chunks.next() {
            status.send_modify(|status| heard(status, &message));
        }
    }
    status.send_modify(|status| status.closed = true);
}

fn heard(status: &mut Status, message: &Message) {
    if message.kind != 20 {
        return;
    }
    match amf::command(&message.data) {
        Some(b"_result") => status.results.extend(amf::transaction(&message.data)),
        Some(b"onStatus" | b"_error") => {
            let field = |name| amf::text_field(&message.data, name).unwrap_or_default();
            if field("level") == "error" {
                status.refused = Some(Refused {
                    code: field("code"),
                    description: field("description"),
                });
            } else if field("code") == "NetStream.Publish.Start" {
                status.started = true;
            }
        }
        _ => {}
    }
}
