//! A server on loopback, a stream that is fed by hand, and a client that sees every byte.

#![allow(dead_code, reason = "each test program uses its own share of this")]
#![allow(clippy::unwrap_used, reason = "what goes wrong here is a failed test")]
#![allow(
    unreachable_pub,
    reason = "a module of test programs, not of a library"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use media::bitstream::{aac, h264};
use media::{
    AccessUnit, Codec, Event, Format, Rational, Segment, StreamId, Timescale, Timestamp, Track,
    TrackId, Tracks, Utc, Video,
};
use origin::http::{Front, Limits};
use origin::{Config, Origin};
use prometheus::Registry;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Frames of a segment: eight parts of six frames, 40 ms each.
pub const FRAMES: u64 = 48;
pub const PART_FRAMES: u64 = 6;
pub const PARTS: u64 = FRAMES / PART_FRAMES;
/// 3 / PART-TARGET, with a PART-TARGET of 250 ms.
pub const ADVANCE: u64 = 12;
const TICKS: i64 = 3600;

/// An `avcC` of x264 around synthetic 1080p pictures.
const AVCC: &str = "01640028ffe1001b67640028acd940780227e5c044000003000400000300f03c60c65801000668ebe3cb22c0fdf8f800";

pub struct Server {
    pub origin: Origin,
    pub address: SocketAddr,
    pub registry: Registry,
    pub shutdown: CancellationToken,
    pub serving: JoinHandle<()>,
}

/// As small as it gets: segments of two seconds, and nothing is forgotten soon.
pub fn config() -> Config {
    Config::default()
}

impl Server {
    pub async fn start() -> Self {
        Self::with(
            config(),
            Limits {
                connections_per_address: 20_000,
                held_per_address: 20_000,
                ..Limits::default()
            },
        )
        .await
    }

    pub async fn with(config: Config, limits: Limits) -> Self {
        Self::over(config, limits, None).await
    }

    pub async fn over(
        config: Config,
        limits: Limits,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Self {
        let registry = Registry::new();
        let origin = Origin::new(config, &registry);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let front = Front::new(origin.clone(), Router::new(), limits);
        let serving = spawn(origin::http::serve(listener, tls, front, shutdown.clone()));
        Self {
            origin,
            address,
            registry,
            shutdown,
            serving,
        }
    }

    pub async fn client(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// One request on a connection of its own.
    pub async fn get(&self, path: &str) -> Answer {
        self.client().await.get(path).await
    }

    pub fn feed(&self, id: &str, epoch: &str) -> Feed {
        let id: StreamId = id.parse().unwrap();
        Feed::new(
            id.to_string(),
            epoch,
            self.origin.start(id, epoch.to_owned()),
        )
    }

    /// A stream that has two whole segments (10 and 11) and three parts of the third (12).
    pub async fn live(&self) -> Feed {
        let mut feed = self.feed("s", "e");
        feed.begin().await;
        feed.to(12, 3).await;
        let listed = self
            .get(&format!("{}?_HLS_msn=12&_HLS_part=2", feed.playlist()))
            .await;
        assert_eq!(listed.status, 200, "{listed:?}");
        feed
    }

    pub fn held(&self) -> i64 {
        let families = self.registry.gather();
        let held = families
            .iter()
            .find(|family| family.name() == "headwater_http_held_requests")
            .unwrap();
        let text = format!("{:.0}", held.get_metric()[0].get_gauge().get_value());
        text.parse().unwrap()
    }

    /// Waits until so many requests are held.
    pub async fn holds(&self, count: i64) {
        while self.held() != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Tests end with their runtime; nothing waits for these.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's tasks end with the test"
)]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(future)
}

/// A publish of two video rungs and sound, in step, frame by frame.
pub struct Feed {
    pub id: String,
    pub epoch: String,
    events: mpsc::Sender<Event>,
    first: u64,
    /// Frames sent.
    frames: u64,
    sounds: i64,
    /// Bytes of a picture, by rung.
    pub sizes: [usize; 2],
}

impl Feed {
    pub fn new(id: String, epoch: &str, events: mpsc::Sender<Event>) -> Self {
        Self {
            id,
            epoch: epoch.to_owned(),
            events,
            first: 10,
            frames: 0,
            sounds: 0,
            sizes: [4_000, 900],
        }
    }

    /// The media playlist of the upper rung.
    pub fn playlist(&self) -> String {
        self.path("720p/index.m3u8")
    }

    pub fn path(&self, below: &str) -> String {
        format!("/live/{}/{}/{below}", self.id, self.epoch)
    }

    pub fn index(&self) -> String {
        format!("/live/{}/index.m3u8", self.id)
    }

    pub async fn send(&self, event: Event) {
        self.events.send(event).await.unwrap();
    }

    pub async fn begin(&self) {
        self.send(Event::Tracks(tracks())).await;
    }

    /// Sends frames until `parts` parts of segment `number` are listed, but no more.
    pub async fn to(&mut self, number: u64, parts: u64) {
        // A part is listed when the first frame after it comes.
        let frames = (number - self.first) * FRAMES + parts * PART_FRAMES + 1;
        while self.frames < frames {
            self.frame().await;
        }
    }

    /// Sends one picture of each rung, and the sound before it ends.
    pub async fn frame(&mut self) {
        let at = i64::try_from(self.frames).unwrap() * TICKS;
        let time = Timestamp::new(at, Timescale::VIDEO);
        let keyframe = self.frames.is_multiple_of(FRAMES);
        if keyframe {
            let utc = Utc::from_unix_micros(1_800_000_000_000_000 + at * 1_000_000 / 90_000);
            let number = self.first + self.frames / FRAMES;
            self.send(Event::Segment(Segment {
                number,
                discontinuity: 0,
                start: time,
                utc,
            }))
            .await;
        }
        for (track, size) in (0..).zip(self.sizes) {
            let mut data = vec![0; 5];
            data[3] = u8::try_from(size % 251).unwrap();
            data.resize(size, self.frames.to_le_bytes()[0]);
            let data = Bytes::from(data);
            let unit = AccessUnit {
                track: TrackId(track),
                dts: time,
                pts: time,
                duration: 3600,
                keyframe,
                data,
            };
            self.send(Event::Unit(unit)).await;
        }
        while self.sounds * 1024 * 90_000 < (at + TICKS) * 48_000 {
            let time = Timestamp::new(self.sounds * 1024, Timescale::new(48_000).unwrap());
            let data = Bytes::from(vec![self.sounds.to_le_bytes()[0]; 300]);
            let unit = AccessUnit {
                track: TrackId(2),
                dts: time,
                pts: time,
                duration: 1024,
                keyframe: true,
                data,
            };
            self.send(Event::Unit(unit)).await;
            self.sounds += 1;
        }
        self.frames += 1;
    }

    pub async fn end(&self) {
        self.send(Event::End).await;
    }
}

pub fn tracks() -> Tracks {
    let digits: Vec<u32> = AVCC
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .collect();
    let record: Bytes = digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap())
        .collect();
    let h264 = h264::Config::from_record(record).unwrap();
    let aac = aac::Config::lc(48_000, 2).unwrap();
    let video = |id, name: &str, height| Track {
        id: TrackId(id),
        name: name.parse().unwrap(),
        codec: Codec::H264(h264.clone()),
        format: Format::Video(Video {
            width: height / 9 * 16,
            height,
            sample_aspect: Rational::ONE,
            frame_rate: Rational::new(25, 1),
        }),
        timescale: Timescale::VIDEO,
        bandwidth: None,
    };
    let audio = Track {
        id: TrackId(2),
        name: "audio".parse().unwrap(),
        format: Format::Audio(aac.audio()),
        codec: Codec::Aac(aac),
        timescale: Timescale::new(48_000).unwrap(),
        bandwidth: None,
    };
    Arc::from([video(0, "720p", 720), video(1, "360p", 360), audio])
}

/// An HTTP/1.1 client that keeps its connection.
pub struct Client<S> {
    pub io: BufReader<S>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Bytes,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(given, value)| given.eq_ignore_ascii_case(name).then_some(value))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// What every answer below `/live/` has.
    #[track_caller]
    pub fn is_open_to_all(&self) {
        assert_eq!(
            self.field("access-control-allow-origin"),
            Some("*"),
            "{self:?}"
        );
        let exposed = self
            .field("access-control-expose-headers")
            .unwrap_or_default();
        for name in ["Date", "Age", "Content-Length", "ETag"] {
            assert!(
                exposed.split(", ").any(|exposed| exposed == name),
                "{name}: {self:?}"
            );
        }
        assert!(self.field("date").is_some(), "{self:?}");
        assert!(self.field("cache-control").is_some(), "{self:?}");
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(io: S) -> Self {
        Self {
            io: BufReader::new(io),
        }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    /// `fields` are whole lines.
    pub async fn ask(&mut self, method: &str, path: &str, fields: &str) -> Answer {
        self.send(method, path, fields).await;
        self.answer(method).await
    }

    pub async fn send(&mut self, method: &str, path: &str, fields: &str) {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: origin.test\r\n{fields}\r\n");
        self.io.write_all(request.as_bytes()).await.unwrap();
    }

    /// The next answer; status 0 when the connection ended instead.
    pub async fn answer(&mut self, method: &str) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.io.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return Answer::default(),
            }
        }
        let head = String::from_utf8(head).unwrap();
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer {
            status,
            head,
            body: Bytes::new(),
        };
        let bodiless = method == "HEAD" || status == 204 || status == 304;
        if let Some(length) = answer.field("content-length").filter(|_| !bodiless) {
            let mut body = vec![0; length.parse().unwrap()];
            self.io.read_exact(&mut body).await.unwrap();
            answer.body = body.into();
        }
        answer
    }
}
