//! What a player received, sorted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use super::{Fragment, Init, Media, Multivariant, Sample, Segment, resolve};
use crate::support::http::{Exchange, Purpose};
use crate::support::ledger::{Sound, View};

/// Every exchange of one viewing, and what was read from them.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    pub(crate) exchanges: Vec<Exchange>,
    /// States of the multivariant playlist: index of the exchange, and the playlist.
    pub(crate) multivariants: Vec<(usize, Multivariant)>,
    /// By path of their playlist.
    pub(crate) renditions: BTreeMap<String, Rendition>,
    /// Playlists that could not be read.
    pub(crate) unreadable: Vec<String>,
    /// Indices of successful GETs of media, by path.
    objects: BTreeMap<String, usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Video,
    Sound,
    IFrames,
}

/// Media that one decoder can read from end to end.
struct Stretch {
    file: PathBuf,
    init: Init,
    samples: Vec<Sample>,
    _dir: tempfile::TempDir,
}

/// One rendition's playlist over time.
#[derive(Clone, Debug)]
pub(crate) struct Rendition {
    pub(crate) path: String,
    pub(crate) kind: Kind,
    /// Whole playlists in the order they came.
    pub(crate) states: Vec<State>,
    /// With EXT-X-SKIP.
    pub(crate) deltas: Vec<State>,
    pub(crate) inits: BTreeMap<String, Init>,
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    /// Index of its exchange.
    pub(crate) exchange: usize,
    pub(crate) at: Duration,
    pub(crate) media: Media,
}

impl Recording {
    pub(crate) fn new(exchanges: Vec<Exchange>) -> Self {
        let mut recording = Self {
            exchanges,
            multivariants: Vec::new(),
            renditions: BTreeMap::new(),
            unreadable: Vec::new(),
            objects: BTreeMap::new(),
        };
        recording.read_multivariants();
        recording.read_media();
        recording.read_objects();
        recording
    }

    fn read_multivariants(&mut self) {
        for (index, exchange) in self.exchanges.iter().enumerate() {
            if exchange.purpose != Purpose::Multivariant || !exchange.ok() {
                continue;
            }
            match Multivariant::parse(&exchange.text()) {
                Ok(playlist) => self.multivariants.push((index, playlist)),
                Err(problem) => self
                    .unreadable
                    .push(format!("{}: {problem}", exchange.target)),
            }
        }
        for (index, playlist) in &self.multivariants {
            let base = self.exchanges[*index].path();
            let videos = playlist
                .variants
                .iter()
                .map(|variant| (Kind::Video, &variant.uri));
            let sounds = playlist
                .sounds
                .iter()
                .filter_map(|sound| Some((Kind::Sound, sound.uri.as_ref()?)));
            let i_frames = playlist
                .i_frames
                .iter()
                .map(|variant| (Kind::IFrames, &variant.uri));
            // A stream without pictures lists its sound as the variant; sound it stays.
            for (kind, uri) in sounds.chain(i_frames).chain(videos) {
                let path = resolve(base, uri);
                self.renditions
                    .entry(path.clone())
                    .or_insert_with(|| Rendition {
                        path,
                        kind,
                        states: Vec::new(),
                        deltas: Vec::new(),
                        inits: BTreeMap::new(),
                    });
            }
        }
    }

    fn read_media(&mut self) {
        for (index, exchange) in self.exchanges.iter().enumerate() {
            let delta = exchange.purpose == Purpose::Delta;
            if !exchange.ok() || !(delta || exchange.purpose == Purpose::Playlist) {
                continue;
            }
            let Some(rendition) = self.renditions.get_mut(exchange.path()) else {
                continue;
            };
            match Media::parse(&exchange.text()) {
                Ok(media) => {
                    let state = State {
                        exchange: index,
                        at: exchange.done,
                        media,
                    };
                    let list = if state.media.skipped.is_some() {
                        &mut rendition.deltas
                    } else {
                        &mut rendition.states
                    };
                    list.push(state);
                }
                Err(problem) => self
                    .unreadable
                    .push(format!("{}: {problem}", exchange.target)),
            }
        }
    }

    fn read_objects(&mut self) {
        for (index, exchange) in self.exchanges.iter().enumerate() {
            let media = matches!(
                exchange.purpose,
                Purpose::Init | Purpose::Part | Purpose::Segment | Purpose::Hint
            );
            if media && exchange.ok() {
                self.objects
                    .entry(exchange.path().to_owned())
                    .or_insert(index);
            }
        }
        for rendition in self.renditions.values_mut() {
            let maps = rendition
                .states
                .iter()
                .flat_map(|state| &state.media.segments)
                .filter_map(|segment| segment.map.as_ref());
            let maps: BTreeSet<String> = maps.map(|map| resolve(&rendition.path, map)).collect();
            for path in maps {
                let Some(index) = self.objects.get(&path) else {
                    continue;
                };
                match Init::parse(&self.exchanges[*index].body) {
                    Ok(init) => {
                        rendition.inits.insert(path, init);
                    }
                    Err(problem) => self.unreadable.push(format!("{path}: {problem}")),
                }
            }
        }
    }

    /// The newest multivariant playlist.
    pub(crate) fn multivariant(&self) -> Option<&Multivariant> {
        self.multivariants.last().map(|(_, playlist)| playlist)
    }

    /// The renditions that are played, which I-frame playlists are not.
    pub(crate) fn played(&self) -> impl Iterator<Item = &Rendition> {
        self.renditions
            .values()
            .filter(|rendition| rendition.kind != Kind::IFrames)
    }

    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Rendition> {
        self.renditions
            .values()
            .filter(move |rendition| rendition.kind == kind)
    }

    /// The rendition with this word in its path.
    pub(crate) fn named(&self, name: &str) -> &Rendition {
        let folder = format!("/{name}/");
        let mut found = self
            .played()
            .filter(|rendition| rendition.path.contains(&folder));
        found
            .next()
            .unwrap_or_else(|| panic!("no rendition {name} among {:?}", self.renditions.keys()))
    }

    /// Bytes of a media object.
    pub(crate) fn object(&self, path: &str) -> Option<&Bytes> {
        self.objects
            .get(path)
            .map(|index| &self.exchanges[*index].body)
    }

    /// Probes of this name.
    pub(crate) fn probes(&self, name: &'static str) -> impl Iterator<Item = &Exchange> {
        self.exchanges
            .iter()
            .filter(move |exchange| exchange.purpose == Purpose::Probe(name))
    }

    /// The fragments of a whole segment, or of a part.
    pub(crate) fn fragments(
        &self,
        rendition: &Rendition,
        map: Option<&str>,
        uri: &str,
    ) -> Result<Vec<Fragment>, String> {
        let path = resolve(&rendition.path, uri);
        let map = resolve(
            &rendition.path,
            map.ok_or_else(|| format!("{uri} has no EXT-X-MAP"))?,
        );
        let init = rendition
            .inits
            .get(&map)
            .ok_or_else(|| format!("{map} was not received"))?;
        let bytes = self
            .object(&path)
            .ok_or_else(|| format!("{path} was not received"))?;
        Fragment::parse_all(init, bytes).map_err(|problem| format!("{path}: {problem}"))
    }

    /// The pictures of a rendition as a player would show them, from first to last.
    ///
    /// The times are those of the boxes. ffmpeg's own are late by the largest negative composition offset when there
    /// is no edit list, which players that go by the specification are not.
    pub(crate) fn view(&self, rendition: &Rendition) -> View {
        let stretches = self.stretches(rendition);
        View::join(stretches.iter().map(|stretch| {
            let mut view = View::of(&stretch.file);
            let scale = stretch.init.timescale();
            let mut times: Vec<i64> = stretch.samples.iter().map(|sample| sample.pts).collect();
            times.sort_unstable();
            if times.len() == view.pictures.len() {
                for (picture, time) in view.pictures.iter_mut().zip(times) {
                    picture.at = seconds(time) / scale;
                }
            } else {
                let late = stretch.samples.iter().map(|sample| sample.dts - sample.pts);
                let late = seconds(late.max().unwrap_or(0).max(0)) / scale;
                view.pictures
                    .iter_mut()
                    .for_each(|picture| picture.at -= late);
            }
            view
        }))
    }

    /// The sound of a rendition as a player would play it.
    pub(crate) fn sound(&self, rendition: &Rendition) -> Sound {
        let stretches = self.stretches(rendition);
        let mut all = Sound::default();
        for sound in stretches.iter().map(|stretch| Sound::of(&stretch.file)) {
            all.tones.extend(sound.tones);
            all.breaks.extend(sound.breaks);
            all.seconds += sound.seconds;
        }
        all
    }

    /// One file for each stretch of segments with the same init and without a discontinuity.
    fn stretches(&self, rendition: &Rendition) -> Vec<Stretch> {
        let mut stretches: Vec<(String, Vec<u8>)> = Vec::new();
        for segment in rendition.timeline().filter(|segment| !segment.gap) {
            let Some(bytes) = self.segment_bytes(rendition, segment) else {
                continue;
            };
            let map = resolve(&rendition.path, segment.map.as_deref().expect("a map"));
            match stretches.last_mut() {
                Some((init, media)) if *init == map && !segment.discontinuity => {
                    media.extend_from_slice(&bytes);
                }
                _ => stretches.push((map, bytes)),
            }
        }
        assert!(
            !stretches.is_empty(),
            "nothing was received of {}",
            rendition.path
        );
        let files = stretches.into_iter().map(|(map, media)| {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("media.mp4");
            let init = self
                .object(&map)
                .unwrap_or_else(|| panic!("{map} was not received"));
            std::fs::write(&file, [&init[..], &media].concat()).unwrap();
            let init = rendition.inits.get(&map).expect("a readable init").clone();
            let fragments = Fragment::parse_all(&init, &media.into()).unwrap_or_default();
            let samples = fragments
                .into_iter()
                .flat_map(|fragment| fragment.samples)
                .collect();
            Stretch {
                file,
                init,
                samples,
                _dir: dir,
            }
        });
        files.collect()
    }

    /// A segment as received: whole, or the parts of it.
    fn segment_bytes(&self, rendition: &Rendition, segment: &Segment) -> Option<Vec<u8>> {
        let get = |uri: &str| self.object(&resolve(&rendition.path, uri));
        if let Some(whole) = segment.uri.as_deref().and_then(get) {
            return Some(whole.to_vec());
        }
        let parts: Vec<_> = segment
            .parts
            .iter()
            .map_while(|part| get(&part.uri))
            .collect();
        (!parts.is_empty()).then(|| parts.into_iter().flatten().copied().collect())
    }
}

impl Rendition {
    /// Every segment that was ever listed, each as it was listed last with parts, in order.
    pub(crate) fn timeline(&self) -> impl Iterator<Item = &Segment> {
        let mut newest: BTreeMap<u64, &Segment> = BTreeMap::new();
        for segment in self.states.iter().flat_map(|state| &state.media.segments) {
            let known = newest.entry(segment.number).or_insert(segment);
            // Parts go from the list before their segment does.
            if segment.parts.len() >= known.parts.len() {
                *known = segment;
            }
        }
        newest.into_values()
    }

    /// The newest whole playlist.
    pub(crate) fn last(&self) -> Option<&Media> {
        self.states.last().map(|state| &state.media)
    }

    /// When each part was first listed: number of the segment, index of the part, time.
    pub(crate) fn advances(&self) -> Vec<(u64, u64, Duration)> {
        let mut advances = Vec::new();
        let mut tip = (0, 0);
        for state in &self.states {
            let now = state.media.tip();
            if now > tip {
                advances.push((now.0, now.1, state.at));
                tip = now;
            }
        }
        advances
    }

    /// The longest time between two advances of the playlist, and when it began.
    pub(crate) fn longest_pause(&self) -> (Duration, Duration) {
        let advances = self.advances();
        let pauses = advances
            .windows(2)
            .map(|pair| (pair[1].2 - pair[0].2, pair[0].2));
        pauses.max().unwrap_or_default()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "media times stay far below 2^53 ticks"
)]
fn seconds(ticks: i64) -> f64 {
    ticks as f64
}
