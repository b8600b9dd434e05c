//! The newest of a stream's source, kept so that a new worker can begin where the old one ended.

use std::collections::VecDeque;
use std::time::Duration;

use media::{AccessUnit, Segment, Timestamp, Track};

/// One thing that a worker is told, in order.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// The publisher's tracks from here on.
    Source(Box<Source>),
    Mark(Segment),
    Picture(AccessUnit),
    Sound(AccessUnit),
}

/// The publisher's picture and sound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) video: Option<Track>,
    pub(crate) audio: Option<Track>,
}

/// A bounded history with places that stay valid while it moves.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    items: VecDeque<Item>,
    /// The place of the first item.
    base: u64,
    bytes: usize,
    /// The source in force before the first item.
    before: Source,
    groups: usize,
    /// Everything from here on is yet to be told; only too many bytes can push it out.
    needed: Option<u64>,
}

/// Groups of pictures that are kept at least, memory permitting.
const GROUPS: usize = 3;
/// And what it may cost: S28 allows a stream 32 MiB in all.
const BYTES_MAX: usize = 24 << 20;
/// Short groups are kept for so long, that some segments are among them.
const FEW: Duration = Duration::from_secs(6);
/// Long groups are not kept whole three times over.
const LONG: Duration = Duration::from_secs(20);

impl Ring {
    pub(crate) fn push(&mut self, item: Item) {
        self.bytes += size(&item);
        self.groups += usize::from(opens(&item));
        self.items.push_back(item);
        self.evict();
    }

    /// A reader has yet to see everything from `place` on; or there is none.
    pub(crate) fn keep_from(&mut self, place: Option<u64>) {
        self.needed = place;
    }

    /// The place behind the newest item.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.items.len() as u64
    }

    pub(crate) fn get(&self, place: u64) -> Option<&Item> {
        let index = place.checked_sub(self.base)?;
        self.items.get(usize::try_from(index).ok()?)
    }

    /// The oldest place.
    pub(crate) fn start(&self) -> u64 {
        self.base
    }

    /// The source in force at a place.
    pub(crate) fn source_at(&self, place: u64) -> &Source {
        let sources = self
            .items
            .iter()
            .zip(self.base..)
            .take_while(|(_, at)| *at < place);
        sources
            .filter_map(|(item, _)| source(item))
            .last()
            .unwrap_or(&self.before)
    }

    /// Where to begin so that everything from the mark numbered `number` on comes out again: the place, and the mark.
    /// The oldest mark that can be had when that one is gone; nothing before the first mark.
    pub(crate) fn replay(&self, number: u64) -> Option<(u64, Segment)> {
        let marks = || {
            self.places()
                .filter_map(|(item, at)| mark(item).map(|mark| (mark, at)))
        };
        let wanted = || marks().filter(|(mark, _)| mark.number >= number);
        let decodable =
            wanted().find_map(|(mark, at)| self.keyframe_for(at, &mark).map(|key| (key, mark)));
        // Without a picture that can be decoded there may be sound, or a picture to be made up.
        decodable.or_else(|| wanted().next().map(|(mark, at)| (at, mark)))
    }

    /// The mark in force and the place of the first keyframe at or after `place`.
    pub(crate) fn skip(&self, place: u64) -> Option<(u64, Segment)> {
        let (_, at) = self
            .places()
            .find(|(item, at)| *at >= place && opens(item))?;
        // A mark may stand right before its keyframe.
        let mark = self
            .places()
            .take_while(|(_, place)| *place <= at)
            .filter_map(|(item, _)| mark(item))
            .last()?;
        Some((at, mark))
    }

    /// The number of the mark in force at `time`, or of the oldest one known.
    pub(crate) fn number_at(&self, time: Timestamp) -> Option<u64> {
        let marks = || self.places().filter_map(|(item, _)| mark(item));
        let before = marks().filter(|mark| mark.start <= time).last();
        before.or_else(|| marks().next()).map(|mark| mark.number)
    }

    /// Whether no keyframe follows the one at `place`.
    pub(crate) fn is_newest_keyframe(&self, place: u64) -> bool {
        !self.places().any(|(item, at)| at > place && opens(item))
    }

    /// Decode time of the newest picture.
    pub(crate) fn newest_picture(&self) -> Option<Timestamp> {
        self.items.iter().rev().find_map(|item| match item {
            Item::Picture(unit) => Some(unit.dts),
            _ => None,
        })
    }

    /// The newest keyframe that decodes up to the mark at `place`.
    fn keyframe_for(&self, place: u64, mark: &Segment) -> Option<u64> {
        let next = self
            .places()
            .skip_while(|(_, at)| *at < place)
            .find(|(item, _)| matches!(item, Item::Picture(_)));
        if let Some((Item::Picture(unit), at)) = next
            && unit.keyframe
            && unit.pts <= mark.start
        {
            return Some(at);
        }
        let key = self
            .places()
            .take_while(|(_, at)| *at < place)
            .filter(|(item, _)| opens(item))
            .last();
        key.map(|(_, at)| at)
    }

    fn places(&self) -> impl Iterator<Item = (&Item, u64)> {
        self.items.iter().zip(self.base..)
    }

    fn evict(&mut self) {
        let told = |base: u64| self.needed.is_none_or(|needed| base < needed);
        while self.items.len() > 1
            && (self.bytes > BYTES_MAX || (told(self.base) && self.is_rich()))
        {
            let Some(item) = self.items.pop_front() else {
                return;
            };
            self.base += 1;
            self.bytes -= size(&item);
            self.groups -= usize::from(opens(&item));
            if let Item::Source(source) = item {
                self.before = *source;
            }
        }
    }

    /// Whether the first item is older than all that is promised.
    fn is_rich(&self) -> bool {
        let long = match (
            self.time_of(self.items.front()),
            self.time_of(self.items.back()),
        ) {
            (Some(first), Some(last)) => last.since(first).unwrap_or_default(),
            _ => Duration::ZERO,
        };
        if long > LONG {
            return true;
        }
        // The first group may go when as many whole ones follow it, and a few segments with them.
        self.groups > GROUPS + 1 && long > FEW
    }

    fn time_of(&self, item: Option<&Item>) -> Option<Timestamp> {
        match item? {
            Item::Picture(unit) | Item::Sound(unit) => Some(unit.dts),
            Item::Mark(mark) => Some(mark.start),
            Item::Source(_) => None,
        }
    }
}

fn opens(item: &Item) -> bool {
    matches!(item, Item::Picture(unit) if unit.keyframe)
}

fn mark(item: &Item) -> Option<Segment> {
    match item {
        Item::Mark(mark) => Some(*mark),
        _ => None,
    }
}

fn source(item: &Item) -> Option<&Source> {
    match item {
        Item::Source(source) => Some(source),
        _ => None,
    }
}

fn size(item: &Item) -> usize {
    // What an item costs beside its data.
    const OVERHEAD: usize = 128;
    OVERHEAD
        + match item {
            Item::Picture(unit) | Item::Sound(unit) => unit.data.len(),
            _ => 0,
        }
}
