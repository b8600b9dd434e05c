//! The streams that are there: for each a task that packages what comes, and a window that requests look into.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::Response;
use hyper::header::HeaderMap;
use media::{Event, Format, Name, StreamId, Timestamp, Utc};
use packager::{Bounds, Chunk, Delta, Packager, Part, Tip, Window};
use prometheus::Registry;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::directives::Edge;
use crate::http::body::Payload;
use crate::metrics::Metrics;
use crate::response::{self, Conditions};
use crate::text::{Gzip, Heads, Text};
use crate::viewers::Viewers;

/// What the origin keeps of each stream, and for how long.
#[derive(Clone, Debug)]
pub struct Config {
    /// The longest segment that the marks will make.
    pub segment: Duration,
    /// The longest part.
    pub part: Duration,
    /// The live window of one stream.
    pub window: Bounds,
    /// How long a stream that ended, or was replaced, can still be read.
    pub grace: Duration,
    /// Bytes of media that all ended streams together may keep. The one that ended last stays whatever this says.
    pub grace_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment: Duration::from_secs(2),
            part: Duration::from_millis(250),
            window: Bounds {
                duration: Duration::from_secs(7200),
                bytes: 512 << 20,
            },
            grace: Duration::from_secs(600),
            grace_bytes: 512 << 20,
        }
    }
}

/// Events that may wait for the packager. It is far faster than any stream; when the queue is full, the sender waits.
const QUEUE: usize = 256;

/// Sessions of one stream that can be read at once: the newest, and older ones in their grace.
const SESSIONS_MAX: usize = 16;

/// The live streams of this process. Cheap to clone.
#[derive(Clone)]
pub struct Origin {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    metrics: Metrics,
    streams: RwLock<HashMap<Box<str>, Stream>>,
    retired: Mutex<VecDeque<Retired>>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

#[derive(Default)]
struct Stream {
    viewers: Option<Arc<Viewers>>,
    /// The newest last, [`SESSIONS_MAX`] at most; the others ended and are in their grace.
    sessions: Vec<Arc<Session>>,
}

struct Retired {
    bytes: usize,
    evict: CancellationToken,
}

/// What there is of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// The epoch of its newest session.
    pub epoch: String,
    /// Its multivariant playlist is there.
    pub playable: bool,
    /// It is over, and can still be read.
    pub ended: bool,
}

impl Origin {
    /// An origin without streams, with its metrics on `registry`.
    ///
    /// # Panics
    /// When the registry has an origin's metrics already.
    #[must_use]
    pub fn new(config: Config, registry: &Registry) -> Self {
        let inner = Inner {
            config,
            metrics: Metrics::new(registry),
            streams: RwLock::default(),
            retired: Mutex::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Begins a session of stream `id`. From here on `/live/ID/index.m3u8` means this one; a session of the stream
    /// that was live ends.
    ///
    /// `epoch` names the session in URLs, and must never be used again for this stream. The session ends with
    /// [`Event::End`], or when the sender is dropped. When the sender finds its channel closed before, packaging this
    /// stream has failed; other streams go on.
    ///
    /// # Panics
    /// When the epoch is empty or has characters that are not plain in a URL (RFC 3986 section 2.3), and outside a
    /// tokio runtime.
    #[must_use]
    pub fn start(&self, id: StreamId, epoch: String) -> mpsc::Sender<Event> {
        let (sender, events) = mpsc::channel(QUEUE);
        let packaging = packager::Config {
            epoch: epoch.clone(),
            segment: self.inner.config.segment,
            part: self.inner.config.part,
        };
        let mut packager = Packager::new(packaging.clone());
        let session = self.open(&id, packaging);
        let origin = self.clone();
        let package = move |event| packager.push(event);
        self.inner
            .tasks
            .spawn(async move { origin.run(id, session, events, package).await });
        sender
    }

    /// What there is of stream `id`.
    #[must_use]
    pub fn live(&self, id: &StreamId) -> Option<Live> {
        let session = self.newest(id.as_str())?;
        let index = session.index.borrow();
        Some(Live {
            epoch: session.epoch.to_string(),
            playable: index.text.is_some(),
            ended: index.over != Over::Live,
        })
    }

    /// How many players watch stream `id`: an estimate of those that asked for one of its playlists in the last 15 to
    /// 30 seconds. A player is an address with a user agent, so players behind a CDN or of the same kind behind one
    /// address count once. Within one or two up to a hundred, a standard error of 2.3 % beyond.
    #[must_use]
    pub fn viewers(&self, id: &StreamId) -> usize {
        let viewers = self
            .streams()
            .get(id.as_str())
            .and_then(|stream| stream.viewers.clone());
        viewers.map_or(0, |viewers| viewers.count(Instant::now()))
    }

    /// Ends every session that is still live, forgets those in their grace, and waits for their tasks.
    pub async fn close(&self) {
        self.inner.closing.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// The newest session of a stream.
    pub(crate) fn newest(&self, id: &str) -> Option<Arc<Session>> {
        self.streams().get(id)?.sessions.last().cloned()
    }

    /// The session of a stream with this epoch, and who watches the stream.
    pub(crate) fn session(&self, id: &str, epoch: &str) -> Option<(Arc<Session>, Arc<Viewers>)> {
        let streams = self.streams();
        let stream = streams.get(id)?;
        let session = stream
            .sessions
            .iter()
            .rev()
            .find(|session| &*session.epoch == epoch)?;
        Some((session.clone(), stream.viewers.clone()?))
    }

    fn streams(&self) -> RwLockReadGuard<'_, HashMap<Box<str>, Stream>> {
        self.inner
            .streams
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn streams_mut(&self) -> RwLockWriteGuard<'_, HashMap<Box<str>, Stream>> {
        self.inner
            .streams
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn retired(&self) -> MutexGuard<'_, VecDeque<Retired>> {
        self.inner
            .retired
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, id: &StreamId, packaging: packager::Config) -> Arc<Session> {
        let session = Arc::new(Session::new(packaging, self.inner.config.window));
        let mut streams = self.streams_mut();
        let stream = streams.entry(id.as_str().into()).or_default();
        stream
            .viewers
            .get_or_insert_with(|| Arc::new(Viewers::new(Instant::now())));
        for older in &stream.sessions {
            older.replaced.cancel();
        }
        // Its names would stand for other bytes.
        stream.sessions.retain(|older| older.epoch != session.epoch);
        if stream.sessions.len() >= SESSIONS_MAX {
            stream.sessions.remove(0);
        }
        stream.sessions.push(session.clone());
        session
    }

    fn remove(&self, id: &StreamId, session: &Arc<Session>) {
        let mut streams = self.streams_mut();
        let Some(stream) = streams.get_mut(id.as_str()) else {
            return;
        };
        stream.sessions.retain(|other| !Arc::ptr_eq(other, session));
        if stream.sessions.is_empty() {
            streams.remove(id.as_str());
        }
    }

    /// One session from its first event to the end of its grace.
    async fn run<P>(
        &self,
        id: StreamId,
        session: Arc<Session>,
        mut events: mpsc::Receiver<Event>,
        mut package: P,
    ) where
        P: FnMut(Event) -> Result<Vec<Chunk>, packager::Error> + Send,
    {
        let mut complaints = Complaints::new();
        let mut publisher = Publisher::new(session.clone());
        loop {
            let event = tokio::select! {
                // Cancel-safe: an event that is not received stays in the channel.
                event = events.recv() => event.unwrap_or(Event::End),
                () = session.replaced.cancelled() => Event::End,
                () = self.inner.closing.cancelled() => Event::End,
            };
            let end = event == Event::End;
            let took = catch_unwind(AssertUnwindSafe(|| match package(event) {
                Ok(chunks) => publisher.publish(chunks, &self.inner.metrics),
                Err(error) => complaints.note(&id, error),
            }));
            if took.is_err() {
                // The panic itself is on stderr already, by the panic hook. What the window holds may be half done.
                tracing::error!(stream = %id, "packaging failed; the stream is closed");
                self.inner.metrics.stream_panics.inc();
                session.finish(Over::Broken);
                self.remove(&id, &session);
                return;
            }
            if end {
                break;
            }
        }
        drop(events);
        session.finish(Over::Ended);
        let bytes = session.bytes(self.inner.config.window.bytes);
        let evict = CancellationToken::new();
        self.retire(Retired {
            bytes,
            evict: evict.clone(),
        });
        tokio::select! {
            () = tokio::time::sleep(self.inner.config.grace) => {}
            () = evict.cancelled() => tracing::debug!(stream = %id, "ended stream makes room for others"),
            () = self.inner.closing.cancelled() => {}
        }
        evict.cancel();
        self.remove(&id, &session);
    }

    /// Remembers an ended session, and lets go of the oldest ones while all of them are too much.
    fn retire(&self, session: Retired) {
        let mut retired = self.retired();
        retired.retain(|other| !other.evict.is_cancelled());
        retired.push_back(session);
        let mut bytes: usize = retired.iter().map(|session| session.bytes).sum();
        while bytes > self.inner.config.grace_bytes && retired.len() > 1 {
            let oldest = retired.pop_front().expect("there is more than one");
            bytes -= oldest.bytes;
            oldest.evict.cancel();
        }
    }
}

/// One publish of a stream.
#[derive(Debug)]
pub(crate) struct Session {
    epoch: Box<str>,
    window: RwLock<Window>,
    renditions: RwLock<HashMap<Box<str>, Arc<Rendition>>>,
    /// The multivariant playlist.
    pub(crate) index: watch::Sender<Index>,
    pub(crate) target: Duration,
    pub(crate) heads: Heads,
    pub(crate) gzip: Gzip,
    video: HeaderMap,
    audio: HeaderMap,
    published: AtomicUsize,
    /// A newer session of the stream began.
    replaced: CancellationToken,
}

/// Whether there is more to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Live,
    Ended,
    /// Packaging failed; what is there cannot be trusted.
    Broken,
}

#[derive(Clone, Debug)]
pub(crate) struct Index {
    /// None until every rendition has something to play.
    pub(crate) text: Option<Arc<Text>>,
    pub(crate) over: Over,
}

/// One rendition's playlist, and those who wait for it. Each change is announced once, to all of them; what they are
/// answered is made by the first and shared.
#[derive(Debug)]
pub(crate) struct Rendition {
    name: Box<str>,
    pub(crate) video: bool,
    pub(crate) state: watch::Sender<State>,
    gzip: [Gzip; Kind::COUNT],
}

/// A rendition's playlist between two changes.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) edge: Edge,
    pub(crate) over: Over,
    texts: Arc<[OnceLock<Option<Text>>; Kind::COUNT]>,
}

/// The forms of a rendition's playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Full,
    Skip,
    SkipV2,
    Iframes,
}

impl Kind {
    const COUNT: usize = 4;
}

impl Rendition {
    /// The answer from the playlist as it is in `state`.
    pub(crate) fn answer(
        &self,
        session: &Session,
        state: &State,
        kind: Kind,
        blocking: bool,
        conditions: &Conditions,
    ) -> Response<Payload> {
        let text = state.texts[kind as usize].get_or_init(|| {
            let window = session.window();
            // The window may be ahead of the state by now: what is asked for, or later.
            let body = match kind {
                Kind::Full => window.playlist(&self.name, Delta::Full),
                Kind::Skip => window.playlist(&self.name, Delta::Skip),
                Kind::SkipV2 => window.playlist(&self.name, Delta::SkipV2),
                Kind::Iframes => window.iframes(&self.name),
            };
            drop(window);
            body.map(|body| Text::new(body, &session.heads))
        });
        match text {
            Some(text) if state.over != Over::Broken => text.answer(
                blocking,
                conditions,
                &session.heads,
                &self.gzip[kind as usize],
            ),
            _ => response::not_found(),
        }
    }
}

impl Session {
    fn new(config: packager::Config, bounds: Bounds) -> Self {
        let plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.');
        let epoch: Box<str> = config.epoch.as_str().into();
        assert!(
            !epoch.is_empty() && epoch.bytes().all(plain),
            "an epoch is a plain name"
        );
        let window = Window::new(config, bounds);
        let target = window.target_duration();
        Self {
            epoch,
            window: RwLock::new(window),
            renditions: RwLock::default(),
            index: watch::Sender::new(Index {
                text: None,
                over: Over::Live,
            }),
            target,
            heads: Heads {
                // RFC 8216bis appendix B.1. A second is the shortest that caches can count.
                plain: response::playlist(response::max_age(
                    (target / 2).max(Duration::from_secs(1)),
                )),
                blocking: response::playlist(response::max_age(target * 6)),
            },
            gzip: Gzip::default(),
            video: response::media("video/mp4"),
            audio: response::media("audio/mp4"),
            published: 0.into(),
            replaced: CancellationToken::new(),
        }
    }

    pub(crate) fn window(&self) -> RwLockReadGuard<'_, Window> {
        self.window.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rendition of this name, once its playlist is there.
    pub(crate) fn rendition(&self, name: &str) -> Option<Arc<Rendition>> {
        self.renditions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// The head of its media.
    pub(crate) fn media(&self, video: bool) -> &HeaderMap {
        if video { &self.video } else { &self.audio }
    }

    /// Bytes of media that it keeps, at most.
    fn bytes(&self, bound: usize) -> usize {
        self.published.load(Ordering::Relaxed).min(bound)
    }

    /// Nothing will change from here on: everyone who waits is answered.
    fn finish(&self, over: Over) {
        let renditions = self
            .renditions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        for rendition in renditions.values() {
            rendition.state.send_modify(|state| {
                state.over = over;
                state.texts = Arc::default();
            });
        }
        self.index.send_modify(|index| index.over = over);
    }
}

/// The writing side of a session: what its task knows between two events.
struct Publisher {
    session: Arc<Session>,
    progress: HashMap<Name, Progress>,
}

/// How far one rendition has come.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    video: bool,
    /// The segment that parts are arriving for, and how many came.
    segment: u64,
    parts: u64,
    /// How many the last complete segment had.
    previous: u64,
    /// Media time of that segment's first part, and the time outside.
    began: Option<(Timestamp, Utc)>,
}

impl Progress {
    fn part(&mut self, part: &Part) {
        self.segment = part.segment;
        self.parts = u64::from(part.index) + 1;
        if let Some(opening) = &part.opens {
            self.began = Some((part.start, opening.utc));
        }
    }

    fn segment(&mut self, number: u64) {
        self.previous = if self.segment == number {
            self.parts
        } else {
            0
        };
    }

    /// From the time outside that the stream's clock gives the first unit of a part to `now`.
    fn delay(&self, part: &Part, now: Utc) -> Option<Duration> {
        let (start, utc) = self.began?;
        Some(now.saturating_since(utc.saturating_add(part.start.since(start)?)))
    }
}

impl Publisher {
    fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            progress: HashMap::new(),
        }
    }

    /// Makes chunks available, then wakes those who wait for them.
    fn publish(&mut self, chunks: Vec<Chunk>, metrics: &Metrics) {
        if chunks.is_empty() {
            return;
        }
        let mut changed: Vec<(Name, Option<Tip>, u64)> = Vec::new();
        let mut delays = Vec::new();
        let mut structure = self.session.index.borrow().text.is_none();
        let session = self.session.clone();
        let mut window = session
            .window
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for chunk in chunks {
            structure |= matches!(chunk, Chunk::Renditions(_) | Chunk::Segment(_) | Chunk::End);
            let name = self.note(&chunk, &mut delays);
            window.push(chunk);
            if let Some(name) = name {
                changed.retain(|(other, ..)| *other != name);
                let limit = window
                    .advance_part_limit(name.as_str())
                    .map_or(0, u64::from);
                changed.push((name.clone(), window.tip(name.as_str()), limit));
            }
        }
        let index = structure.then(|| window.multivariant()).flatten();
        drop(window);
        for (name, tip, part_limit) in changed {
            let Some(tip) = tip else { continue };
            let progress = self.progress.get(&name).copied().unwrap_or_default();
            session.advance(
                &name,
                progress.video,
                Edge {
                    tip,
                    previous: progress.previous,
                    part_limit,
                },
            );
        }
        if let Some(index) = index {
            session.list(index);
        }
        delays
            .into_iter()
            .for_each(|delay| metrics.part_listed(delay));
    }

    /// Counts what a chunk means for its rendition, whose name it returns when its playlist may change.
    fn note(&mut self, chunk: &Chunk, delays: &mut Vec<Duration>) -> Option<Name> {
        match chunk {
            Chunk::Renditions(renditions) => {
                for rendition in renditions.iter() {
                    let progress = self
                        .progress
                        .entry(rendition.track.name.clone())
                        .or_default();
                    progress.video = matches!(rendition.track.format, Format::Video(_));
                }
                None
            }
            Chunk::Part(part) => {
                self.session
                    .published
                    .fetch_add(part.data.len(), Ordering::Relaxed);
                let progress = self.progress.entry(part.rendition.clone()).or_default();
                progress.part(part);
                if !part.data.is_empty() {
                    delays.extend(progress.delay(part, now()));
                }
                Some(part.rendition.clone())
            }
            Chunk::Segment(segment) => {
                self.progress
                    .entry(segment.rendition.clone())
                    .or_default()
                    .segment(segment.number);
                Some(segment.rendition.clone())
            }
            Chunk::Init(_) | Chunk::End => None,
        }
    }
}

impl Session {
    /// A rendition's playlist has grown.
    fn advance(&self, name: &Name, video: bool, edge: Edge) {
        let state = State {
            edge,
            over: Over::Live,
            texts: Arc::default(),
        };
        if let Some(rendition) = self.rendition(name.as_str()) {
            rendition.state.send_replace(state);
            return;
        }
        let name: Box<str> = name.as_str().into();
        let state = watch::Sender::new(state);
        let rendition = Rendition {
            name: name.clone(),
            video,
            state,
            gzip: Default::default(),
        };
        let mut renditions = self
            .renditions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        renditions.insert(name, Arc::new(rendition));
    }

    /// The multivariant playlist may have changed.
    fn list(&self, body: Bytes) {
        self.index.send_if_modified(|index| {
            let same = index.text.as_ref().is_some_and(|text| text.is(&body));
            if !same {
                index.text = Some(Arc::new(Text::new(body.into(), &self.heads)));
            }
            !same
        });
    }
}

/// Refusals of events, said once a second at most.
struct Complaints {
    since: Instant,
    count: u64,
}

impl Complaints {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            count: 0,
        }
    }

    fn note(&mut self, id: &StreamId, error: packager::Error) {
        self.count += 1;
        let now = Instant::now();
        if self.count == 1 || now.duration_since(self.since) >= Duration::from_secs(1) {
            tracing::warn!(stream = %id, %error, count = self.count, "events refused");
            (self.since, self.count) = (now, 1);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the driver owns the clock: here media time meets the time outside"
)]
fn now() -> Utc {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Utc::from_unix_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
