//! The newest chunks of a stream: what players can ask for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::Name;

use crate::playlist::media::{Media, Timing};
use crate::playlist::multivariant;
use crate::{Chunk, Config, Init, Rendition, Rope};

/// Segments listed whatever their length, so that text stays bounded, too.
const SEGMENTS_MAX: usize = 1 << 15;

/// How much a window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Media listed in playlists; at least six segments and three target durations stay listed whatever this says.
    pub duration: Duration,
    /// Bytes of media in memory over all renditions. Half of it is for what is listed; the other half lets what is no
    /// longer listed be had for as long again (RFC 8216bis 6.2.2), and that promise ends early rather than the bound.
    pub bytes: usize,
}

/// Which form of a media playlist was asked for (`_HLS_skip`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delta {
    /// All of it.
    Full,
    /// `_HLS_skip=YES`: old segments replaced by EXT-X-SKIP.
    Skip,
    /// `_HLS_skip=v2`: the same here, since no date ranges are listed.
    SkipV2,
}

/// How far a rendition's playlist has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tip {
    /// Media sequence number of the segment in progress; the one before it is listed complete.
    pub segment: u64,
    /// Parts of it that are listed.
    pub parts: u32,
}

/// What a name below the stream's folder stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// These bytes, for ever.
    Ready(Rope),
    /// The part that the playlist hints at: it will exist soon, or become unknown.
    Hinted,
    /// Nothing, or no longer anything.
    Unknown,
}

/// The live window of one session.
///
/// Playlists are rendered when asked for, from text that was written once: a new part costs the same whether the
/// window holds a minute or two hours. Callers keep a rendering for as long as [`Window::tip`] stays.
#[derive(Debug)]
pub struct Window {
    config: Config,
    bounds: Bounds,
    /// Known from the first renditions on.
    timing: Option<Timing>,
    /// All renditions there ever were.
    media: Vec<Media>,
    /// Those alive, in playlist order.
    order: Vec<usize>,
    inits: HashMap<(Name, Arc<str>), Bytes>,
    multivariant: Option<Bytes>,
    ended: bool,
}

impl Window {
    /// An empty window. `config` equals that of the [`crate::Packager`] whose chunks it takes.
    #[must_use]
    pub fn new(config: Config, bounds: Bounds) -> Self {
        Self {
            config,
            bounds,
            timing: None,
            media: Vec::new(),
            order: Vec::new(),
            inits: HashMap::new(),
            multivariant: None,
            ended: false,
        }
    }

    /// Takes the next chunk. Chunks that one event completed belong together: the last part of a segment comes with the
    /// segment's end, and nobody should look between the two. A chunk that does not follow those before is ignored, as
    /// is everything after [`Chunk::End`].
    pub fn push(&mut self, chunk: Chunk) {
        if self.ended {
            return;
        }
        match chunk {
            Chunk::Renditions(renditions) => {
                self.renditions(&renditions);
                self.refresh();
            }
            Chunk::Init(init) => self.init(init),
            Chunk::Part(part) => {
                if let Some(at) = self.place(part.rendition.as_str()) {
                    self.media[at].part(&part);
                    if part.index == 0 {
                        self.refresh();
                    }
                }
            }
            Chunk::Segment(segment) => {
                if let Some(at) = self.place(segment.rendition.as_str()) {
                    self.media[at].segment(&segment);
                    self.evict();
                    self.refresh();
                }
            }
            Chunk::End => self.ended = true,
        }
    }

    /// The multivariant playlist, or `None` until each of its renditions has something to play.
    #[must_use]
    pub fn multivariant(&self) -> Option<Bytes> {
        self.multivariant.clone()
    }

    /// The media playlist of a rendition as it is now, or `None` when there is no such rendition or nothing in it.
    #[must_use]
    pub fn playlist(&self, rendition: &str, delta: Delta) -> Option<Rope> {
        let at = self.listed(rendition)?;
        let mut reports = String::new();
        for &other in self.order.iter().filter(|&&other| other != at) {
            self.media[other].report(&mut reports);
        }
        Some(self.media[at].playlist(delta, self.ended, &reports))
    }

    /// The I-frame playlist of a video rendition, or `None` when there is none (yet).
    #[must_use]
    pub fn iframes(&self, rendition: &str) -> Option<Rope> {
        let at = self.listed(rendition)?;
        self.media[at].iframes(self.ended)
    }

    /// How far a rendition's playlist has come; `None` exactly when [`Window::playlist`] is.
    #[must_use]
    pub fn tip(&self, rendition: &str) -> Option<Tip> {
        let at = self.listed(rendition)?;
        Some(self.media[at].tip())
    }

    /// Whether the stream is over: playlists will not change again.
    #[must_use]
    pub const fn ended(&self) -> bool {
        self.ended
    }

    /// EXT-X-TARGETDURATION.
    #[must_use]
    pub fn target_duration(&self) -> Duration {
        Duration::from_secs(self.config.target_seconds())
    }

    /// The Advance Part Limit (RFC 8216bis 6.2.5.2): how many parts past the last listed one a request may ask for.
    /// `None` as for [`Window::playlist`].
    #[must_use]
    pub fn advance_part_limit(&self, rendition: &str) -> Option<u32> {
        let at = self.listed(rendition)?;
        let target = self.media[at].rendition.part_target.as_millis().max(1);
        let limit = if target < 1_000 {
            3_000_u128.div_ceil(target)
        } else {
            3
        };
        u32::try_from(limit).ok()
    }

    /// What `path` (below the stream's folder, so `EPOCH/RENDITION/FILE`) stands for: initialization segments, parts
    /// and segments.
    #[must_use]
    pub fn object(&self, path: &str) -> Object {
        self.find(path).unwrap_or(Object::Unknown)
    }

    fn find(&self, path: &str) -> Option<Object> {
        let path = path.strip_prefix(&self.config.epoch)?.strip_prefix('/')?;
        let (rendition, file) = path.split_once('/')?;
        let media = &self.media[self.place(rendition)?];
        if let Some(names) = file.strip_suffix(".m4s") {
            let (segment, part) = match names.split_once('.') {
                Some((segment, part)) => (segment, Some(u32::try_from(number(part)?).ok()?)),
                None => (names, None),
            };
            return Some(media.object(number(segment)?, part, self.ended));
        }
        let key = (media.rendition.track.name.clone(), Arc::from(file));
        Some(Object::Ready(self.inits.get(&key)?.clone().into()))
    }

    fn place(&self, rendition: &str) -> Option<usize> {
        self.media
            .iter()
            .position(|media| media.name() == rendition)
    }

    fn listed(&self, rendition: &str) -> Option<usize> {
        self.place(rendition)
            .filter(|&at| !self.media[at].is_empty())
    }

    fn renditions(&mut self, renditions: &[Rendition]) {
        let longest = renditions
            .iter()
            .map(|rendition| rendition.part_target)
            .max();
        let longest = longest.unwrap_or_default().max(self.config.part());
        let target = self.target_duration();
        let timing = *self.timing.get_or_insert(Timing {
            target,
            part_hold_back: longest * 3,
        });
        for media in &mut self.media {
            media.alive = false;
        }
        self.order.clear();
        for rendition in renditions {
            let at = match self.place(rendition.track.name.as_str()) {
                Some(at) => {
                    self.media[at].announce(rendition.clone());
                    at
                }
                None => {
                    self.media.push(Media::new(rendition.clone(), timing));
                    self.media.len() - 1
                }
            };
            self.order.push(at);
        }
    }

    fn init(&mut self, init: Init) {
        if let Some(at) = self.place(init.rendition.as_str()) {
            self.media[at].init = init.name.clone();
        }
        let media = &self.media;
        self.inits.retain(|(rendition, name), _| {
            let mut owner = media
                .iter()
                .filter(|media| media.rendition.track.name == *rendition);
            owner.next().is_none_or(|media| media.needs_init(name))
        });
        self.inits.insert((init.rendition, init.name), init.data);
    }

    /// Renders the multivariant playlist anew, once all renditions alive can be played.
    fn refresh(&mut self) {
        let alive: Vec<&Media> = self.order.iter().map(|&at| &self.media[at]).collect();
        if !alive.is_empty() && alive.iter().all(|media| !media.is_empty()) {
            self.multivariant = Some(multivariant::render(&self.config, &alive));
        }
    }

    /// Keeps the window within its bounds. All renditions list the same segments, as far as they had them.
    fn evict(&mut self) {
        loop {
            let Some(first) = self.media.iter().filter_map(Media::first_listed).min() else {
                return;
            };
            let bytes: usize = self
                .media
                .iter()
                .map(|media| media.bytes().0 - media.bytes().1)
                .sum();
            let holders = |media: &&mut Media| media.first_listed() == Some(first);
            let mut over = bytes > self.bounds.bytes / 2;
            let mut enough = true;
            for media in self.media.iter_mut().filter(holders) {
                let (count, listed) = media.extent();
                let many = count > SEGMENTS_MAX;
                over |= many || listed > self.bounds.duration;
                enough &= many || media.can_retire();
            }
            if !over || !enough {
                break;
            }
            self.media
                .iter_mut()
                .filter(holders)
                .for_each(Media::retire);
        }
        self.media.iter_mut().for_each(Media::expire);
        while self
            .media
            .iter()
            .map(|media| media.bytes().0)
            .sum::<usize>()
            > self.bounds.bytes
        {
            let retired = self
                .media
                .iter_mut()
                .filter(|media| media.oldest_retired().is_some());
            match retired.min_by_key(|media| media.oldest_retired()) {
                Some(media) => media.forget(),
                None => break,
            }
        }
    }
}

/// A number written the one way that playlists write it.
fn number(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| canonical)
}
