//! Events in, chunks out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use media::{Event, Name, Timestamp, Track, TrackId};

use crate::lane::Lane;
use crate::setup::{self, Setup};
use crate::{Chunk, Config, Init, Rendition};

/// Media sequence numbers: from 1, since players take 0 for none, to what a player in a browser counts exactly.
const NUMBERS: std::ops::RangeInclusive<u64> = 1..=1 << 53;
/// Track names over the life of a stream; each keeps a playlist.
const NAMES_MAX: usize = 64;

/// Cuts the events of one stream into parts and segments.
///
/// A unit's length is known when the next one of its track comes, so each track is one unit behind. That also makes
/// preload hints true: when a part is listed, the unit that begins the next one is there.
///
/// At a mark each track goes on to its own first unit presented at or after the start: for sound that is less than a
/// frame later, however long the stream. A track without such a unit gets the number all the same, as a gap, once the
/// next marks show that none will come. A mark with a new discontinuity number ends the segment before with the length
/// that its last unit announces; times of the new segment are its own.
#[derive(Debug)]
pub struct Packager {
    config: Config,
    /// All tracks there ever were, in order of appearance.
    lanes: Vec<Lane>,
    /// The lane of each track alive.
    ids: BTreeMap<TrackId, usize>,
    /// Tracks announced that begin with the next mark.
    announced: Option<Vec<(TrackId, Arc<Setup>)>>,
    mark: Option<media::Segment>,
    /// No PART-TARGET is longer: three of it are the PART-HOLD-BACK that never changes.
    part_target_max: Option<Duration>,
    ended: bool,
}

/// An event was refused and changed nothing that is published; the packager goes on with the next. The sender of the
/// events (the transcoder) is at fault, and the same event will be refused again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Tracks with equal ids or names, too many of them, or one that cannot be packaged.
    #[error("tracks that cannot be packaged")]
    Tracks,
    /// A mark that does not follow the one before.
    #[error("mark {0} does not follow the one before")]
    Mark(u64),
    /// A unit of a track that the newest tracks do not have.
    #[error("a unit of track {} which was not announced", .0.0)]
    UnknownTrack(TrackId),
    /// The decode time of a unit does not grow.
    #[error("a unit of track {} is out of order", .0.0)]
    Order(TrackId),
    /// The times of a unit are in another scale than the track's, before zero, or too far apart.
    #[error("a unit of track {} has impossible times", .0.0)]
    Time(TrackId),
    /// A unit of a segment that was given up as a gap.
    #[error("a unit of track {} came too late", .0.0)]
    Late(TrackId),
    /// A picture after a mark that began without a keyframe, or after pictures that were refused.
    #[error("a unit of track {} cannot be decoded without the keyframe that a mark promised", .0.0)]
    NoKeyframe(TrackId),
    /// The mark that should end the segment does not come.
    #[error("the open segment of track {} is full", .0.0)]
    Overlong(TrackId),
    /// Something after [`Event::End`].
    #[error("an event after the end")]
    Ended,
}

impl Packager {
    /// A packager that has seen nothing. It starts with the first mark it sees, which need not be the stream's first.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self {
            config,
            lanes: Vec::new(),
            ids: BTreeMap::new(),
            announced: None,
            mark: None,
            part_target_max: None,
            ended: false,
        }
    }

    /// Takes the next event and returns what it completes, in the order to publish.
    ///
    /// # Errors
    /// When the event contradicts those before it. It is ignored and the next one may be pushed.
    pub fn push(&mut self, event: Event) -> Result<Vec<Chunk>, Error> {
        if self.ended {
            return Err(Error::Ended);
        }
        let mut out = Vec::new();
        match event {
            Event::Tracks(tracks) => self.tracks(&tracks, &mut out)?,
            Event::Segment(mark) => self.segment(mark, &mut out)?,
            Event::Unit(unit) => match self.ids.get(&unit.track) {
                Some(&lane) => self.lanes[lane].unit(unit, &mut out)?,
                // It begins with the next mark; what comes before is of no use to anyone.
                None if self.is_announced(unit.track) => {}
                None => return Err(Error::UnknownTrack(unit.track)),
            },
            Event::Gap(_) => self.lanes.iter_mut().for_each(Lane::gap),
            Event::End => self.end(&mut out),
        }
        Ok(out)
    }

    fn is_announced(&self, track: TrackId) -> bool {
        let announced = self.announced.iter().flatten();
        announced.into_iter().any(|(id, _)| *id == track)
    }

    fn lane_of(&self, name: &Name) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.setup.name() == name)
    }

    fn tracks(&mut self, tracks: &[Track], out: &mut Vec<Chunk>) -> Result<(), Error> {
        let mut announced: Vec<(TrackId, Arc<Setup>)> = Vec::with_capacity(tracks.len());
        let longest = self.part_target_max.unwrap_or(Duration::MAX);
        let mut new_names = 0;
        for track in tracks {
            if announced
                .iter()
                .any(|(id, setup)| *id == track.id || *setup.name() == track.name)
            {
                return Err(Error::Tracks);
            }
            let lane = self.lane_of(&track.name).map(|lane| &self.lanes[lane]);
            let part_target = match lane {
                Some(lane) => lane.setup.part_target,
                None => setup::part_target(&self.config, track).min(longest),
            };
            new_names += usize::from(lane.is_none());
            let setup = match lane {
                Some(lane) if lane.setup.track == *track => lane.setup.clone(),
                _ => {
                    let seconds = self.config.target_seconds();
                    let setup = Setup::new(track.clone(), part_target, seconds);
                    Arc::new(setup.map_err(|_| Error::Tracks)?)
                }
            };
            announced.push((track.id, setup));
        }
        if self.lanes.len() + new_names > NAMES_MAX {
            return Err(Error::Tracks);
        }
        // Ahead of the mark, so that playlists can hint at what is about to change.
        for (_, setup) in &announced {
            let lane = self.lane_of(setup.name());
            if lane.is_none_or(|lane| self.lanes[lane].setup.init_name != setup.init_name) {
                out.push(Chunk::Init(Init {
                    rendition: setup.name().clone(),
                    name: setup.init_name.clone(),
                    data: setup.init.clone(),
                }));
            }
        }
        self.announced = Some(announced);
        Ok(())
    }

    fn segment(&mut self, mark: media::Segment, out: &mut Vec<Chunk>) -> Result<(), Error> {
        let follows = self.mark.is_none_or(|last| {
            last.number.checked_add(1) == Some(mark.number)
                && mark.start > last.start
                && mark.discontinuity >= last.discontinuity
        });
        if !follows || !NUMBERS.contains(&mark.number) {
            return Err(Error::Mark(mark.number));
        }
        self.mark = Some(mark);
        if let Some(announced) = self.announced.take() {
            self.begin(announced, out);
        }
        for lane in &mut self.lanes {
            lane.mark(mark, out);
        }
        Ok(())
    }

    /// The announced tracks are from now on the tracks.
    fn begin(&mut self, announced: Vec<(TrackId, Arc<Setup>)>, out: &mut Vec<Chunk>) {
        let targets = announced.iter().map(|(_, setup)| setup.part_target);
        let longest = targets.max().unwrap_or_default();
        self.part_target_max
            .get_or_insert(longest.max(self.config.part()));
        let renditions: Arc<[Rendition]> = announced
            .iter()
            .map(|(_, setup)| setup.rendition())
            .collect();
        out.push(Chunk::Renditions(renditions));
        self.ids.clear();
        for lane in &mut self.lanes {
            lane.alive = false;
        }
        for (id, setup) in announced {
            let lane = match self.lane_of(setup.name()) {
                Some(lane) => {
                    self.lanes[lane].alive = true;
                    self.lanes[lane].setup = setup;
                    lane
                }
                None => {
                    self.lanes.push(Lane::new(setup));
                    self.lanes.len() - 1
                }
            };
            self.ids.insert(id, lane);
        }
    }

    fn end(&mut self, out: &mut Vec<Chunk>) {
        self.ended = true;
        let newest = self.lanes.iter().filter_map(Lane::newest).max();
        let ends = self.lanes.iter().filter_map(Lane::end);
        let end: Option<Timestamp> = ends.max();
        for lane in &mut self.lanes {
            if let Some(end) = end {
                lane.finish(newest, end, out);
            }
        }
        out.push(Chunk::End);
    }
}
