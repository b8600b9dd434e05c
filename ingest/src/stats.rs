//! What a session counts.

use std::sync::{Mutex, PoisonError};

use media::timeline::Repairs;

use crate::flv::{Demuxer, Metadata};

/// Why a unit did not come through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// It was cut short or broke its codec's syntax.
    Damaged,
    /// No configuration of its codec had come.
    Unconfigured,
    /// Its configuration came too soon after another one.
    Flapping,
    /// It came before the first keyframe.
    BeforeKeyframe,
    /// Its time was taken already.
    Time,
    /// Whoever reads the session was too slow.
    Overflow,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 6] = [
        Self::Damaged,
        Self::Unconfigured,
        Self::Flapping,
        Self::BeforeKeyframe,
        Self::Time,
        Self::Overflow,
    ];

    /// The reason as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Unconfigured => "unconfigured",
            Self::Flapping => "flapping",
            Self::BeforeKeyframe => "before_keyframe",
            Self::Time => "time",
            Self::Overflow => "overflow",
        }
    }
}

/// Units dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops([u64; Reason::ALL.len()]);

impl Drops {
    /// Units dropped for `reason`.
    #[must_use]
    pub fn get(&self, reason: Reason) -> u64 {
        self.iter()
            .find(|(other, _)| *other == reason)
            .map_or(0, |(_, count)| count)
    }

    /// Units dropped for any reason.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.0)
    }

    pub(crate) fn count(&mut self, reason: Reason) {
        self.set(reason, self.get(reason) + 1);
    }

    fn set(&mut self, reason: Reason, count: u64) {
        let slot = self
            .0
            .iter_mut()
            .zip(Reason::ALL)
            .find(|(_, other)| *other == reason);
        if let Some((slot, _)) = slot {
            *slot = count;
        }
    }
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// A metric label: `unpublished`, `disconnected`, `kicked`, `abandoned`, or what the encoder did wrong.
    pub label: &'static str,
    /// In plain words; holds no secret.
    pub reason: String,
}

/// A session's counts at one time.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Bytes received, of the protocol.
    pub bytes: u64,
    /// Units given out.
    pub units: u64,
    /// Units that did not come through.
    pub drops: Drops,
    /// Repairs of timestamps.
    pub repairs: Repairs,
    /// What the encoder said of itself.
    pub metadata: Metadata,
    /// The encoder sends several tracks of a kind; only the first of each is taken.
    pub multitrack: bool,
    /// Why the session ended, once it has.
    pub ended: Option<Ended>,
}

impl Snapshot {
    /// Takes over what a demuxer has counted.
    pub(crate) fn demuxed(&mut self, bytes: u64, demuxer: &Demuxer) {
        let overflow = self.drops.get(Reason::Overflow);
        self.bytes = bytes;
        self.units = demuxer.units();
        self.drops = *demuxer.drops();
        self.drops.set(Reason::Overflow, overflow);
        self.repairs.clone_from(demuxer.repairs());
        self.multitrack = demuxer.multitrack();
        if self.metadata != *demuxer.metadata() {
            self.metadata.clone_from(demuxer.metadata());
        }
    }

    /// Takes over what was dropped between the protocol and the reader.
    pub(crate) fn overflowed(&mut self, count: u64) {
        self.drops.set(Reason::Overflow, count);
    }
}

/// A session's counts, shared by the session and whoever shows them.
#[derive(Debug, Default)]
pub struct Stats(Mutex<Snapshot>);

impl Stats {
    /// The counts now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn update(&self, update: impl FnOnce(&mut Snapshot)) {
        update(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
