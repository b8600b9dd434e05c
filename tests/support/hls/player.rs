//! Plays every rendition at once, as fast as the server lets it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Method;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::{Media, Multivariant, Recording, resolve};
use crate::support::http::{Client, Exchange, Log, Purpose};

/// How often the multivariant playlist and those of I-frames are read.
const SLOW_RELOAD: Duration = Duration::from_secs(1);
/// After an answer that was no playlist.
const RETRY: Duration = Duration::from_millis(100);

/// What to play.
#[derive(Clone, Debug)]
pub(crate) struct Wants {
    /// Parts and hints, too, not segments alone.
    pub(crate) parts: bool,
    /// Delta updates beside whole playlists, and I-frame playlists.
    pub(crate) extras: bool,
    /// Words of which one is in the path of a rendition to play; none for all.
    pub(crate) only: &'static [&'static str],
}

/// Everything a low-latency player can ask for.
pub(crate) const EVERYTHING: Wants = Wants {
    parts: true,
    extras: true,
    only: &[],
};
/// Enough to see what was published.
pub(crate) const PARTS: Wants = Wants {
    parts: true,
    extras: false,
    only: &[],
};

/// A viewing under way.
#[derive(Debug)]
pub(crate) struct Player {
    at: SocketAddr,
    path: String,
    log: Log,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Player {
    /// Starts to play the multivariant playlist at `path`; waits for it as long as it is not there.
    pub(crate) fn start(at: SocketAddr, path: &str, wants: Wants) -> Self {
        let log = Log::new();
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let view = Viewing {
            at,
            log: log.clone(),
            stopped,
            wants,
        };
        tasks.spawn(view.multivariant(path.to_owned()));
        Self {
            at,
            path: path.to_owned(),
            log,
            stop,
            tasks,
        }
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// A client that asks the same server and adds to the same recording.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.at, &self.log)
    }

    /// What was received until now.
    pub(crate) fn recording(&self) -> Recording {
        Recording::new(self.log.exchanges())
    }

    /// Waits until every rendition has listed a part.
    pub(crate) async fn playing(&self, limit: Duration) {
        let (log, path) = (&self.log, &self.path);
        crate::support::wait_for(
            limit,
            || format!("{path} to be playable"),
            || {
                let recording = Recording::new(log.exchanges());
                let mut played = recording.played().peekable();
                played.peek().is_some()
                    && played.all(|rendition| {
                        rendition
                            .last()
                            .is_some_and(|media| media.tip() > (0, 0) && !media.segments.is_empty())
                    })
            },
        )
        .await;
    }

    /// Stops now.
    pub(crate) async fn stop(mut self) -> Recording {
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
        Recording::new(self.log.exchanges())
    }

    /// Plays on for `time`, then stops.
    pub(crate) async fn stop_after(self, time: Duration) -> Recording {
        tokio::time::sleep(time).await;
        self.stop().await
    }

    /// Plays until every rendition has ended and all of it was received; fails the test after `limit`.
    pub(crate) async fn ended(mut self, limit: Duration) -> Recording {
        let over = async { while self.tasks.join_next().await.is_some() {} };
        let path = self.path.clone();
        tokio::time::timeout(limit, over)
            .await
            .unwrap_or_else(|_| panic!("{path} did not end in {limit:?}"));
        Recording::new(self.log.exchanges())
    }
}

#[derive(Clone)]
struct Viewing {
    at: SocketAddr,
    log: Log,
    stopped: watch::Receiver<bool>,
    wants: Wants,
}

impl Viewing {
    fn over(&self) -> bool {
        *self.stopped.borrow()
    }

    fn wanted(&self, path: &str) -> bool {
        self.wants.only.is_empty() || self.wants.only.iter().any(|word| path.contains(word))
    }

    /// Reloads the multivariant playlist, and follows each rendition it ever listed; over when all those have ended.
    async fn multivariant(self, path: String) {
        let mut client = Client::new(self.at, &self.log);
        let mut renditions = JoinSet::new();
        let mut known = BTreeSet::new();
        while !self.over() {
            let playlist = client.get(Purpose::Multivariant, &path).await;
            let found = playlist
                .ok()
                .then(|| Multivariant::parse(&playlist.text()).ok())
                .flatten()
                .unwrap_or_default();
            let videos = found.variants.iter().map(|variant| &variant.uri);
            let sounds = found.sounds.iter().filter_map(|sound| sound.uri.as_ref());
            for uri in videos.chain(sounds) {
                let uri = resolve(&path, uri);
                if self.wanted(&uri) && known.insert(uri.clone()) {
                    renditions.spawn(Box::pin(self.clone().rendition(uri)));
                }
            }
            if self.wants.extras {
                for uri in found.i_frames.iter().map(|variant| &variant.uri) {
                    client.get(Purpose::Playlist, &resolve(&path, uri)).await;
                }
            }
            while renditions.try_join_next().is_some() {}
            if !known.is_empty() && renditions.is_empty() {
                break;
            }
            let pause = if known.is_empty() { RETRY } else { SLOW_RELOAD };
            self.pause(pause).await;
        }
        while renditions.join_next().await.is_some() {}
    }

    async fn pause(&self, time: Duration) {
        let mut stopped = self.stopped.clone();
        let _ = tokio::time::timeout(time, stopped.wait_for(|stopped| *stopped)).await;
    }

    /// Follows one media playlist by blocking reload until it ends.
    async fn rendition(self, path: String) {
        let mut lanes = Lanes::new(&self);
        let mut client = Client::new(self.at, &self.log);
        let mut next = None;
        while !self.over() {
            let target = match next {
                Some((msn, part)) => format!("{path}?_HLS_msn={msn}&_HLS_part={part}"),
                None => path.clone(),
            };
            let answer = client.get(Purpose::Playlist, &target).await;
            let media = answer
                .ok()
                .then(|| Media::parse(&answer.text()).ok())
                .flatten();
            let Some(media) = media else {
                next = None;
                self.pause(RETRY).await;
                continue;
            };
            lanes.fetch(&self, &path, &media);
            if media.ended {
                break;
            }
            let blocks = media
                .control
                .as_ref()
                .is_some_and(|control| control.can_block_reload);
            next = blocks.then(|| media.tip());
            if !blocks {
                self.pause(Duration::from_secs(media.target) / 2).await;
            }
        }
        lanes.finish().await;
    }
}

/// The connections of one rendition beside that of its playlist.
struct Lanes {
    objects: mpsc::Sender<(Purpose, String)>,
    hints: mpsc::Sender<(Purpose, String)>,
    deltas: mpsc::Sender<(Purpose, String)>,
    tasks: JoinSet<()>,
    /// Paths asked for, by lane.
    asked: Arc<Mutex<BTreeSet<(bool, String)>>>,
}

/// Requests that wait for their lane.
const QUEUE: usize = 10_000;

impl Lanes {
    fn new(viewing: &Viewing) -> Self {
        let mut tasks = JoinSet::new();
        let mut lane = || {
            let (sender, mut targets) = mpsc::channel::<(Purpose, String)>(QUEUE);
            let mut client = Client::new(viewing.at, &viewing.log);
            tasks.spawn(async move {
                while let Some((purpose, target)) = targets.recv().await {
                    Box::pin(client.ask(purpose, Method::GET, &target, &[], "")).await;
                }
            });
            sender
        };
        let (objects, hints, deltas) = (lane(), lane(), lane());
        Self {
            objects,
            hints,
            deltas,
            tasks,
            asked: Arc::default(),
        }
    }

    fn fetch(&mut self, viewing: &Viewing, path: &str, media: &Media) {
        for segment in &media.segments {
            if let Some(map) = &segment.map {
                self.once(Purpose::Init, resolve(path, map));
            }
            if segment.gap {
                continue;
            }
            if viewing.wants.parts {
                for part in segment.parts.iter().filter(|part| !part.gap) {
                    self.once(Purpose::Part, resolve(path, &part.uri));
                }
            }
            if let Some(uri) = &segment.uri {
                self.once(Purpose::Segment, resolve(path, uri));
            }
        }
        if viewing.wants.parts {
            for hint in &media.hints {
                self.once(Purpose::Hint, resolve(path, &hint.uri));
            }
        }
        if viewing.wants.extras && !media.ended {
            let (msn, part) = media.tip();
            let _ = self.deltas.try_send((
                Purpose::Delta,
                format!("{path}?_HLS_msn={msn}&_HLS_part={part}&_HLS_skip=YES"),
            ));
        }
    }

    /// Asks for an object the first time it is seen; a hint and the part it becomes are two things.
    fn once(&mut self, purpose: Purpose, path: String) {
        let hint = purpose == Purpose::Hint;
        if self.asked.lock().unwrap().insert((hint, path.clone())) {
            let lane = if hint { &self.hints } else { &self.objects };
            lane.try_send((purpose, path)).expect("a lane keeps up");
        }
    }

    async fn finish(self) {
        let Self {
            objects,
            hints,
            deltas,
            mut tasks,
            ..
        } = self;
        drop((objects, hints, deltas));
        while tasks.join_next().await.is_some() {}
    }
}

/// One request, apart from any viewing.
pub(crate) async fn get(at: SocketAddr, target: &str) -> Exchange {
    Client::new(at, &Log::new())
        .get(Purpose::Probe("one"), target)
        .await
}
