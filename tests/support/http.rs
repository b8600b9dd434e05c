//! HTTP/1.1 with every detail kept: when the head came, when each piece of the body, which headers.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;

/// Longer than any request may be held.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request and its answer. Times count from the start of the recording.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    /// What it was for, in the words of whoever asked.
    pub(crate) purpose: Purpose,
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    /// The headers asked with.
    pub(crate) asked: HeaderMap,
    pub(crate) sent: Duration,
    /// 0 when the connection failed.
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) head: Duration,
    pub(crate) body: Bytes,
    /// When each piece of the body came, and its length.
    pub(crate) pieces: Vec<(Duration, usize)>,
    pub(crate) done: Duration,
}

/// Why a request was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Multivariant,
    /// A media playlist, whole.
    Playlist,
    /// A media playlist, with `_HLS_skip`.
    Delta,
    Init,
    Part,
    Segment,
    /// A part before it was listed.
    Hint,
    /// A question that a player would not ask; the name says which.
    Probe(&'static str),
}

impl Exchange {
    /// The path without its query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The value of a query parameter.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// A header of the answer as text; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The number of seconds of a directive of Cache-Control.
    pub(crate) fn max_age(&self) -> Option<u64> {
        let directives = self.header("cache-control").split(',').map(str::trim);
        directives
            .filter_map(|directive| directive.strip_prefix("max-age="))
            .find_map(|age| age.parse().ok())
    }

    /// The body as text, unpacked when it is compressed.
    pub(crate) fn text(&self) -> String {
        if self.header("content-encoding") == "gzip" {
            let mut text = String::new();
            let mut unpack = flate2::read::GzDecoder::new(&self.body[..]);
            std::io::Read::read_to_string(&mut unpack, &mut text).expect("a compressed text");
            return text;
        }
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    pub(crate) fn ok(&self) -> bool {
        self.status == 200
    }
}

/// All exchanges of a recording, in the order they ended.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    start: Instant,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            exchanges: Arc::default(),
        }
    }

    /// Time since the recording began.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// A copy of everything so far.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        self.exchanges.lock().unwrap().clone()
    }
}

/// One connection, opened again when the server has closed it. Requests on it follow each other.
#[derive(Debug)]
pub(crate) struct Client {
    from: IpAddr,
    to: SocketAddr,
    log: Log,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// A client whose exchanges go to `log`.
    pub(crate) fn new(to: SocketAddr, log: &Log) -> Self {
        Self {
            from: IpAddr::from([127, 0, 0, 1]),
            to,
            log: log.clone(),
            connection: None,
        }
    }

    /// A client that is a stranger of another address.
    pub(crate) fn from(self, from: IpAddr) -> Self {
        Self { from, ..self }
    }

    pub(crate) async fn get(&mut self, purpose: Purpose, target: &str) -> Exchange {
        self.ask(purpose, Method::GET, target, &[], "").await
    }

    /// One request; a failed connection is an answer with status 0.
    pub(crate) async fn ask(
        &mut self,
        purpose: Purpose,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Exchange {
        let sent = self.log.now();
        let mut asked = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            asked.append(name, HeaderValue::from_str(value).unwrap());
        }
        let mut exchange = Exchange {
            purpose,
            method,
            target: target.to_owned(),
            asked,
            sent,
            status: 0,
            headers: HeaderMap::new(),
            head: sent,
            body: Bytes::new(),
            pieces: Vec::new(),
            done: sent,
        };
        let asking = Box::pin(self.exchange(&mut exchange, body));
        if let Err(problem) = tokio::time::timeout(PATIENCE, asking)
            .await
            .unwrap_or_else(|_| Err("timed out".into()))
        {
            exchange.status = 0;
            exchange.body = Bytes::from(problem);
            self.connection = None;
        }
        exchange.done = self.log.now();
        self.log.exchanges.lock().unwrap().push(exchange.clone());
        exchange
    }

    async fn exchange(&mut self, exchange: &mut Exchange, body: &str) -> Result<(), String> {
        let text = |error: hyper::Error| error.to_string();
        let mut connection = match self
            .connection
            .take()
            .filter(|connection| !connection.is_closed())
        {
            Some(connection) => connection,
            None => connect(self.from, self.to).await?,
        };
        // The server may have closed an idle connection in this very moment; `ready` finds out.
        if connection.ready().await.is_err() {
            connection = connect(self.from, self.to).await?;
        }
        let mut request = Request::builder()
            .method(exchange.method.clone())
            .uri(&exchange.target);
        request = request.header("host", self.to.to_string());
        for (name, value) in &exchange.asked {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())));
        let response = connection
            .send_request(request.map_err(|error| error.to_string())?)
            .await
            .map_err(text)?;
        exchange.head = self.log.now();
        exchange.status = response.status().as_u16();
        exchange.headers = response.headers().clone();
        let mut stream = response.into_body();
        let mut whole = BytesMut::new();
        while let Some(frame) = stream.frame().await {
            if let Ok(data) = frame.map_err(text)?.into_data() {
                exchange.pieces.push((self.log.now(), data.len()));
                whole.extend_from_slice(&data);
            }
        }
        exchange.body = whole.freeze();
        self.connection = Some(connection);
        Ok(())
    }
}

async fn connect(from: IpAddr, to: SocketAddr) -> Result<SendRequest<Full<Bytes>>, String> {
    let text = |error: std::io::Error| error.to_string();
    let socket = TcpSocket::new_v4().map_err(text)?;
    socket.bind(SocketAddr::new(from, 0)).map_err(text)?;
    let stream = socket.connect(to).await.map_err(text)?;
    stream.set_nodelay(true).map_err(text)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}
