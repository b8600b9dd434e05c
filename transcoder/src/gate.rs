//! The order in which tracks, marks and units go out, whoever made them.
//!
//! Passed-through units and marks are ready at once, encoded ones a moment later, and mostly that moment is left to
//! show. Only where a track becomes another, and at the very beginning, everything of the new segment waits until the
//! old one is complete on the tracks that change and their new configurations are known.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use media::{AccessUnit, Event, Format, Segment, Timestamp, Track, TrackId};

/// A track that should go out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// As it came in.
    Passed(Track),
    /// From the worker, which describes it when it has begun it.
    Encoded(Encoding),
}

/// What tells one encoding of a track from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Encoding {
    pub(crate) id: TrackId,
    /// Width and height of a picture.
    pub(crate) size: Option<(u16, u16)>,
    pub(crate) average_bps: u32,
}

impl Encoding {
    fn of(track: &Track) -> Self {
        let size = match track.format {
            Format::Video(video) => Some((video.width, video.height)),
            Format::Audio(_) => None,
        };
        let average_bps = track.bandwidth.map_or(0, |bandwidth| bandwidth.average_bps);
        Self {
            id: track.id,
            size,
            average_bps,
        }
    }
}

impl Wanted {
    pub(crate) fn id(&self) -> TrackId {
        match self {
            Self::Passed(track) => track.id,
            Self::Encoded(encoding) => encoding.id,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Gate {
    out: VecDeque<Event>,
    /// Tracks as they were last told to the reader.
    told: Vec<Track>,
    /// Encoded tracks as the worker describes them.
    made: BTreeMap<TrackId, Track>,
    wanted: Vec<Wanted>,
    hold: Option<Hold>,
    delivered: BTreeMap<TrackId, Delivered>,
    /// Where each track that the reader knows began.
    begins: BTreeMap<TrackId, Timestamp>,
}

/// What of a track went through.
#[derive(Debug)]
struct Delivered {
    /// Decode time of the newest unit.
    newest: Timestamp,
    /// Presentation times of the newest units, in ticks. After a restart an encoder guesses its first decode times
    /// anew; what is presented when stays.
    shown: BTreeSet<i64>,
}

/// Units of a track that are remembered: some seconds of sixty pictures.
const SHOWN_MAX: usize = 1_024;

#[derive(Debug)]
struct Hold {
    mark: Segment,
    since: Instant,
    /// Encoded tracks whose old segment is not complete.
    open: BTreeSet<TrackId>,
    /// Encoded tracks that have no configuration yet.
    missing: BTreeSet<TrackId>,
    /// What waits, in order.
    queue: VecDeque<Waiting>,
    bytes: usize,
}

#[derive(Debug)]
enum Waiting {
    Mark(Segment, Option<Vec<Wanted>>, Instant),
    Passed(AccessUnit),
    Encoded(AccessUnit),
    Other(Event),
}

/// A hold ends after this long, complete or not: what is missing joins at a later mark.
const HOLD_MAX: Duration = Duration::from_secs(4);
/// Before the first tracks nobody waits for anything but them.
const FIRST_MAX: Duration = Duration::from_secs(10);
const HOLD_BYTES_MAX: usize = 32 << 20;

impl Gate {
    /// The next event for the reader.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.out.pop_front()
    }

    /// Events that wait for the reader.
    pub(crate) fn waiting(&self) -> usize {
        self.out.len()
    }

    /// The tracks that the reader knows of.
    pub(crate) fn told(&self) -> &[Track] {
        &self.told
    }

    /// Decode time of the newest unit of a track that went through.
    pub(crate) fn delivered(&self, id: TrackId) -> Option<Timestamp> {
        self.delivered.get(&id).map(|delivered| delivered.newest)
    }

    /// Whether tracks that are wanted have got their configuration since the reader was told, so that the next mark
    /// should tell it.
    pub(crate) fn is_stale(&self) -> bool {
        self.hold.is_none() && self.list() != self.told
    }

    /// A segment begins. With `wanted` the tracks change here.
    pub(crate) fn mark(&mut self, mark: Segment, wanted: Option<Vec<Wanted>>, now: Instant) {
        if self.hold.is_some() {
            return self.wait(Waiting::Mark(mark, wanted, now), 0);
        }
        let Some(wanted) = wanted else {
            self.out.push_back(Event::Segment(mark));
            return;
        };
        self.wanted = wanted;
        // A track that only begins or only ends disturbs no other: one that ends does so at once, one that begins is
        // told at the first mark after its configuration is known.
        let first = self.told.is_empty();
        let changed: Vec<&Wanted> = self
            .wanted
            .iter()
            .filter(|wanted| first || self.changes(wanted))
            .collect();
        if changed.is_empty() {
            self.tell(mark);
            return;
        }
        let encoded = |wanted: &&Wanted| match wanted {
            Wanted::Encoded(encoding) if self.description(encoding).is_none() => Some(encoding.id),
            _ => None,
        };
        let missing = changed.iter().filter_map(encoded).collect();
        let open = changed
            .iter()
            .map(|wanted| wanted.id())
            .filter(|id| self.is_encoded(*id))
            .collect();
        self.hold = Some(Hold {
            mark,
            since: now,
            open,
            missing,
            queue: VecDeque::new(),
            bytes: 0,
        });
        self.try_release();
    }

    /// Whether the reader knows a track of that number as something else.
    fn changes(&self, wanted: &Wanted) -> bool {
        let Some(told) = self.told.iter().find(|told| told.id == wanted.id()) else {
            return false;
        };
        match wanted {
            Wanted::Passed(track) => track != told,
            Wanted::Encoded(encoding) => Encoding::of(told) != *encoding,
        }
    }

    /// Whether the reader knows a track as one of ours.
    fn is_encoded(&self, id: TrackId) -> bool {
        self.told
            .iter()
            .any(|told| told.id == id && told.bandwidth.is_some())
    }

    /// A segment begins with the tracks as they are wanted and described now.
    fn tell(&mut self, mark: Segment) {
        let list = self.list();
        if list != self.told {
            let new = list.iter().filter(|track| !self.told.contains(track));
            self.begins.extend(new.map(|track| (track.id, mark.start)));
            self.told = list;
            self.out.push_back(Event::Tracks(self.told.clone().into()));
        }
        self.out.push_back(Event::Segment(mark));
    }

    /// A unit that is passed through.
    pub(crate) fn passed(&mut self, unit: AccessUnit) {
        if self.is_of_what_waits(&unit) {
            let bytes = unit.data.len();
            return self.wait(Waiting::Passed(unit), bytes);
        }
        self.deliver(unit);
    }

    /// A unit from the worker. The first ones after a restart have been here before and go no further.
    pub(crate) fn encoded(&mut self, unit: AccessUnit) {
        if self.is_of_what_waits(&unit) {
            if let Some(hold) = &mut self.hold {
                hold.open.remove(&unit.track);
            }
            let bytes = unit.data.len();
            self.wait(Waiting::Encoded(unit), bytes);
            return self.try_release();
        }
        let Some(delivered) = self.delivered.get(&unit.track) else {
            return self.deliver(unit);
        };
        let oldest = delivered.shown.first().copied().unwrap_or(i64::MIN);
        if unit.pts.ticks() < oldest || delivered.shown.contains(&unit.pts.ticks()) {
            return;
        }
        let after = delivered.newest.checked_add(1).unwrap_or(unit.dts);
        let dts = if after > unit.dts { after } else { unit.dts };
        self.deliver(AccessUnit { dts, ..unit });
    }

    /// The worker's open tracks.
    pub(crate) fn made(&mut self, tracks: &[Track]) {
        self.made
            .extend(tracks.iter().map(|track| (track.id, track.clone())));
        let Some(mut hold) = self.hold.take() else {
            return;
        };
        // What is open no more, or open as something else, is complete.
        hold.open.retain(|id| {
            tracks
                .iter()
                .any(|track| track.id == *id && self.told.contains(track))
        });
        let wanted = |id: TrackId| self.wanted.iter().find(|wanted| wanted.id() == id);
        hold.missing.retain(|id| match wanted(*id) {
            Some(Wanted::Encoded(encoding)) => self.description(encoding).is_none(),
            _ => false,
        });
        self.hold = Some(hold);
        self.try_release();
    }

    /// The worker is gone and none follows soon: nobody completes what was open.
    pub(crate) fn worker_died(&mut self) {
        if let Some(hold) = &mut self.hold {
            hold.open.clear();
            hold.missing.clear();
        }
        self.try_release();
    }

    /// Something that is no unit and no mark.
    pub(crate) fn other(&mut self, event: Event) {
        match self.hold {
            Some(_) => self.wait(Waiting::Other(event), 0),
            None => self.out.push_back(event),
        }
    }

    /// Ends a hold that has lasted too long.
    pub(crate) fn tick(&mut self, now: Instant) {
        let limit = if self.told.is_empty() {
            FIRST_MAX
        } else {
            HOLD_MAX
        };
        if self
            .hold
            .as_ref()
            .is_some_and(|hold| now.duration_since(hold.since) >= limit)
        {
            self.release();
        }
    }

    /// Lets everything go, complete or not.
    pub(crate) fn flush(&mut self) {
        while self.hold.is_some() {
            self.release();
        }
    }

    /// Whether a unit is of the segment that is held back, or a later one.
    fn is_of_what_waits(&self, unit: &AccessUnit) -> bool {
        self.hold
            .as_ref()
            .is_some_and(|hold| unit.pts >= hold.mark.start)
    }

    /// Gives a unit on, unless its track has not begun or has ended.
    fn deliver(&mut self, unit: AccessUnit) {
        let begins = self.begins.get(&unit.track);
        if self.is_told(unit.track) && begins.is_none_or(|begins| unit.pts >= *begins) {
            self.remember(&unit);
            self.out.push_back(Event::Unit(unit));
        }
    }

    fn remember(&mut self, unit: &AccessUnit) {
        let fresh = || Delivered {
            newest: unit.dts,
            shown: BTreeSet::new(),
        };
        let delivered = self.delivered.entry(unit.track).or_insert_with(fresh);
        delivered.newest = unit.dts;
        delivered.shown.insert(unit.pts.ticks());
        if delivered.shown.len() > SHOWN_MAX {
            delivered.shown.pop_first();
        }
    }

    fn is_told(&self, id: TrackId) -> bool {
        self.told.iter().any(|told| told.id == id)
    }

    fn wait(&mut self, waiting: Waiting, bytes: usize) {
        let Some(hold) = &mut self.hold else { return };
        hold.bytes += bytes;
        hold.queue.push_back(waiting);
        if hold.bytes > HOLD_BYTES_MAX {
            self.release();
        }
    }

    fn try_release(&mut self) {
        if self
            .hold
            .as_ref()
            .is_some_and(|hold| hold.open.is_empty() && hold.missing.is_empty())
        {
            self.release();
        }
    }

    fn release(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        self.tell(hold.mark);
        // Another change among what waited holds the rest back again.
        for waiting in hold.queue {
            match waiting {
                Waiting::Mark(mark, wanted, now) => self.mark(mark, wanted, now),
                Waiting::Passed(unit) => self.passed(unit),
                Waiting::Encoded(unit) => self.encoded(unit),
                Waiting::Other(event) => self.other(event),
            }
        }
    }

    /// What the worker says of an encoding, once it has begun it.
    fn description(&self, encoding: &Encoding) -> Option<&Track> {
        self.made
            .get(&encoding.id)
            .filter(|track| Encoding::of(track) == *encoding)
    }

    /// The wanted tracks as far as they can be described.
    fn list(&self) -> Vec<Track> {
        let track = |wanted: &Wanted| match wanted {
            Wanted::Passed(track) => Some(track.clone()),
            Wanted::Encoded(encoding) => self.description(encoding).cloned(),
        };
        self.wanted.iter().filter_map(track).collect()
    }
}
