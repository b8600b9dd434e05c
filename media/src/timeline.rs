//! Timestamps as encoders send them, turned into times that only go forward.
//!
//! A publish has one source clock, which all its tracks share, and one output clock. The output clock starts at
//! [`START`] with the first unit and never jumps: where the source clock jumps by more than a second, the mapping
//! between the two is anchored anew and the output says so once, with one [`Gap`]. Tracks that jump with it follow
//! the same anchor, so sound and picture keep their distance.
//!
//! Integer arithmetic throughout, no clock of its own, and a few words of state a track however long the gap.

mod drift;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Gap, Timescale, Timestamp, TrackId};
pub use drift::Drift;

/// Where the output clock starts. A track may join with units up to [`JOIN_MAX`] older than what has been seen, step
/// back by less than [`JUMP_MIN`] and present up to [`COMPOSITION_MAX`] before decoding: the sum stays above zero.
pub const START: Duration = Duration::from_secs(10);
/// A larger step of the source clock, either way, is a jump.
pub const JUMP_MIN: Duration = Duration::from_secs(1);
/// How far a track may lie from the others when it joins them: the widest interleaving of sound and picture.
pub const JOIN_MAX: Duration = Duration::from_secs(5);
/// The largest distance between decoding and presentation; a composition offset beyond it is damage.
pub const COMPOSITION_MAX: Duration = Duration::from_secs(3);

/// Internal ticks a second. Every usual timescale divides it (90 kHz, milliseconds, all AAC sample rates).
const HZ: i128 = 705_600_000;
const JUMP: i128 = HZ;
const JOIN: i128 = 5 * HZ;
const COMPOSITION: i128 = 3 * HZ;
/// The time from a track's only unit so far to its next, for want of better.
const INTERVAL_UNKNOWN: i128 = HZ / 25;
/// Sound this close to its frame grid is on it. Millisecond timestamps need one; encoders add jitter.
const IN_STEP: i128 = HZ / 200;
/// Sound further from its grid than this, and than one and a half frames, has lost or gained frames.
const OUT_OF_STEP: i128 = HZ * 30 / 1000;

/// How a source writes its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Ticks of raw times.
    pub scale: Timescale,
    /// Where raw times wrap.
    pub wrap: Wrap,
    /// Ticks of the times that come out: the track's timescale.
    pub output: Timescale,
    /// Ticks of `output` in each unit, where they are all alike: sound keeps to a grid of frames while its timestamps
    /// stay in step with it.
    pub frame: Option<u32>,
}

/// Where raw times start again from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrap {
    /// RTMP: at 32 bits by the specification, at 31 by FFmpeg, at 24 by encoders that never extend. All are whole
    /// multiples of 24 bits, so times are read modulo 2^24 (4 h 39 min in milliseconds).
    Rtmp,
    /// At this many bits, 1 to 63: 33 for MPEG-TS, 32 for RTP.
    Bits(u8),
    /// Never.
    None,
}

/// What becomes of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, at these times.
    Unit {
        /// When to decode; greater than that of the track's unit before.
        dts: Timestamp,
        /// When to present; never negative.
        pts: Timestamp,
        /// Ticks to the next unit where the source says so, else 0.
        duration: u32,
        /// The event to emit before the unit.
        gap: Option<Gap>,
    },
    /// It has no place on the output clock: sound that would overlap what was already emitted.
    Drop,
}

/// Something that had to be put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Repair {
    /// Raw times started again from zero where the wire format makes them.
    Wrap,
    /// The source clock jumped forward.
    JumpForward,
    /// The source clock jumped back.
    JumpBack,
    /// The source clock started again near zero.
    Reset,
    /// Two units at one time; the second was moved by a tick.
    Duplicate,
    /// A unit before its predecessor; it was moved behind it.
    Late,
    /// Sound drifted off its frame grid; a frame was made slightly longer or shorter.
    Slewed,
    /// Frames of sound were missing; their place stays empty.
    Hole,
    /// Sound overlapped what was already emitted; the unit was dropped.
    Overlap,
    /// A composition offset was beyond reason; the unit is presented when decoded.
    Composition,
}

impl Repair {
    /// Every kind, in the order of [`Repairs::iter`].
    pub const ALL: [Self; 10] = [
        Self::Wrap,
        Self::JumpForward,
        Self::JumpBack,
        Self::Reset,
        Self::Duplicate,
        Self::Late,
        Self::Slewed,
        Self::Hole,
        Self::Overlap,
        Self::Composition,
    ];

    /// The kind as a metric label and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wrap => "wrap",
            Self::JumpForward => "jump_forward",
            Self::JumpBack => "jump_back",
            Self::Reset => "reset",
            Self::Duplicate => "duplicate",
            Self::Late => "late",
            Self::Slewed => "slewed",
            Self::Hole => "hole",
            Self::Overlap => "overlap",
            Self::Composition => "composition",
        }
    }
}

/// How often each kind of repair was made since the publish began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repairs([u64; Repair::ALL.len()]);

impl Repairs {
    /// How often that kind was made.
    #[must_use]
    pub const fn count(&self, kind: Repair) -> u64 {
        self.0[kind as usize]
    }

    /// Every kind with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Repair, u64)> {
        Repair::ALL.into_iter().map(|kind| (kind, self.count(kind)))
    }

    const fn add(&mut self, kind: Repair) {
        self.0[kind as usize] += 1;
    }
}

/// The clocks of one publish.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    tracks: BTreeMap<TrackId, Track>,
    /// Those that a track is on, and the newest.
    anchors: Vec<Anchor>,
    newest: usize,
    /// The furthest output time of any track, in internal ticks.
    reached: i128,
    repairs: Repairs,
    drift: drift::Estimate,
}

/// One mapping from the source clock to the output clock. Times are internal ticks.
#[derive(Clone, Debug)]
struct Anchor {
    id: usize,
    /// Output time less source time.
    offset: i128,
    /// The source time that it was made for.
    start: i128,
    /// The furthest source time seen on it.
    latest: i128,
    /// The source clock had jumped forward: source times from `start` on belong here, whichever track they are of.
    forward: bool,
}

#[derive(Clone, Debug)]
struct Track {
    source: Source,
    last: Option<Last>,
}

/// What a track has reached.
#[derive(Clone, Debug)]
struct Last {
    anchor: usize,
    /// The unit furthest ahead on this anchor: its raw time, that unwrapped, and in internal ticks.
    raw: i64,
    ticks: i128,
    source: i128,
    /// Internal ticks from one unit to the next, where known.
    interval: Option<i128>,
    /// Output time in ticks of the track, of the last unit that went on.
    dts: i64,
    /// The anchor changed and no unit has gone on since.
    fresh: bool,
}

/// Where a unit belongs.
struct Place {
    anchor: usize,
    ticks: i128,
    source: i128,
    gap: bool,
}

impl Timeline {
    /// The clocks of a publish that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a track, or changes how a known one writes its times; its clock goes on.
    pub fn track(&mut self, id: TrackId, source: Source) {
        let track = self
            .tracks
            .entry(id)
            .or_insert(Track { source, last: None });
        if let Some(last) = &mut track.last {
            let convert = |ticks: i128, from: Timescale, to: Timescale| {
                -(-ticks * i128::from(to.hz())).div_euclid(i128::from(from.hz()))
            };
            last.dts = narrow(convert(last.dts.into(), track.source.output, source.output));
            last.ticks = to_ticks(last.source, source.scale);
        }
        track.source = source;
    }

    /// Places a unit: `raw_dts` and `composition` (presentation less decoding) in the source's ticks, `arrival` since
    /// the publish began. All tracks' raw times are of one clock, apart from scale and wrap; where a track's first
    /// unit shows that they are not, it starts beside what the others have reached.
    ///
    /// A unit of a track that was never added is dropped.
    pub fn push(
        &mut self,
        id: TrackId,
        raw_dts: i64,
        composition: i32,
        arrival: Duration,
    ) -> Verdict {
        let Some(track) = self.tracks.get(&id) else {
            return Verdict::Drop;
        };
        let source = track.source;
        let last = track.last.clone();
        let place = self.place(&source, last.as_ref(), raw_dts);
        let anchor = self.anchor_mut(place.anchor);
        anchor.latest = anchor.latest.max(place.source);
        let time = place.source + anchor.offset;
        if place.gap {
            self.drift = drift::Estimate::default();
        }
        self.drift.observe(arrival, time);

        let moved = last
            .as_ref()
            .is_none_or(|last| last.anchor != place.anchor || last.fresh);
        let dts = match (&last, source.frame) {
            (None, _) => Some(output_ticks(time, source.output)),
            (Some(last), None) => Some(self.after(last, &source, time, place.source)),
            (Some(last), Some(frame)) => self.on_grid(last, &source, frame, time, moved),
        };
        if let Some(track) = self.tracks.get_mut(&id) {
            track.last = Some(Last::after(last, &place, raw_dts, dts, moved));
        }
        if let Some(dts) = dts {
            self.reached = self.reached.max(to_internal(dts.into(), source.output));
        }
        let gap = place.gap.then_some(Gap::Jump);
        let Some(dts) = dts else {
            self.repairs.add(Repair::Overlap);
            debug_assert!(gap.is_none(), "the unit that makes an anchor fits it");
            return Verdict::Drop;
        };
        Verdict::Unit {
            dts: Timestamp::new(dts, source.output),
            pts: Timestamp::new(self.present(&source, time, dts, composition), source.output),
            duration: source.frame.unwrap_or(0),
            gap,
        }
    }

    /// How often each kind of repair was made.
    #[must_use]
    pub const fn repairs(&self) -> &Repairs {
        &self.repairs
    }

    /// How the source clock runs against the clock of arrivals, once a minute of media has shown it.
    #[must_use]
    pub fn drift(&self) -> Option<Drift> {
        self.drift.drift()
    }

    /// Decides which anchor a raw time belongs to, making a new one where it fits none.
    fn place(&mut self, source: &Source, last: Option<&Last>, raw: i64) -> Place {
        let Some(last) = last else {
            return self.join(source, raw);
        };
        let ticks = source.wrap.unwrap(raw, last.ticks);
        let own = to_internal(ticks, source.scale);
        let anchor = self.anchor(last.anchor);
        // Other tracks that went on meanwhile show that the clock did not jump: only this track paused.
        let furthest = anchor
            .latest
            .max(last.source + last.interval.unwrap_or(JUMP));
        let fits = own >= last.source - JUMP && own <= furthest + JUMP;
        let here = Place {
            anchor: last.anchor,
            ticks,
            source: own,
            gap: false,
        };
        let next = last.next(source);

        let newest = self.anchor(self.newest);
        if newest.id != last.anchor {
            let moved = self.on_newest(source, raw);
            let ahead = moved.source + newest.offset - next;
            let closer = i128::abs(ahead) < i128::abs(own + anchor.offset - next);
            let beyond = newest.forward && moved.source == own && own >= newest.start;
            // Much of what it has emitted already would come again: that is no common clock.
            let joins = i128::abs(moved.source - newest.latest) <= JOIN && ahead >= -JOIN;
            if joins && (!fits || closer || beyond) {
                return moved;
            }
        }
        let forward = own > last.source;
        let restarted = raw < last.raw;
        if fits {
            if restarted && forward {
                self.repairs.add(Repair::Wrap);
            }
            return here;
        }
        let near_zero = (0..5 * i64::from(source.scale.hz())).contains(&raw);
        self.repairs.add(match forward {
            _ if restarted && near_zero => Repair::Reset,
            true => Repair::JumpForward,
            false => Repair::JumpBack,
        });
        // A track that was silent for long comes back beside the others.
        let start = if self.reached - next > JOIN {
            self.reached
        } else {
            next
        };
        self.newest = self.make_anchor(own, start - own, forward);
        Place {
            anchor: self.newest,
            gap: true,
            ..here
        }
    }

    /// Places a track's first unit.
    fn join(&mut self, source: &Source, raw: i64) -> Place {
        let ticks = source.wrap.unwrap(raw, 0);
        let own = to_internal(ticks, source.scale);
        if self.anchors.is_empty() {
            let start = i128::from(START.as_secs()) * HZ;
            self.newest = self.make_anchor(own, start - own, false);
            return Place {
                anchor: self.newest,
                ticks,
                source: own,
                gap: false,
            };
        }
        let joined = self.on_newest(source, raw);
        let newest = self.anchor(self.newest);
        if i128::abs(joined.source - newest.latest) <= JOIN {
            return joined;
        }
        // A clock of its own: it starts now.
        let anchor = self.make_anchor(own, self.reached - own, false);
        Place {
            anchor,
            ticks,
            source: own,
            gap: false,
        }
    }

    /// The raw time nearest to what the newest anchor has reached.
    fn on_newest(&self, source: &Source, raw: i64) -> Place {
        let newest = self.anchor(self.newest);
        let ticks = source
            .wrap
            .unwrap(raw, to_ticks(newest.latest, source.scale));
        Place {
            anchor: newest.id,
            ticks,
            source: to_internal(ticks, source.scale),
            gap: false,
        }
    }

    /// Adds an anchor and forgets those that nobody is on, so there are at most two more than tracks.
    fn make_anchor(&mut self, start: i128, offset: i128, forward: bool) -> usize {
        let used = |id| {
            self.tracks
                .values()
                .any(|t| t.last.as_ref().is_some_and(|l| l.anchor == id))
        };
        let newest = self.newest;
        self.anchors
            .retain(|anchor| anchor.id == newest || used(anchor.id));
        let id = self
            .anchors
            .iter()
            .map(|anchor| anchor.id + 1)
            .max()
            .unwrap_or(0);
        self.anchors.push(Anchor {
            id,
            offset,
            start,
            latest: start,
            forward,
        });
        id
    }

    fn anchor(&self, id: usize) -> &Anchor {
        let found = self.anchors.iter().find(|anchor| anchor.id == id);
        found.expect("an anchor stays while a track is on it or it is the newest")
    }

    fn anchor_mut(&mut self, id: usize) -> &mut Anchor {
        let found = self.anchors.iter_mut().find(|anchor| anchor.id == id);
        found.expect("an anchor stays while a track is on it or it is the newest")
    }

    /// The time of a unit without a grid: its own, or a tick after the unit before.
    fn after(&mut self, last: &Last, source: &Source, time: i128, source_time: i128) -> i64 {
        let dts = output_ticks(time, source.output);
        if dts > last.dts {
            return dts;
        }
        // Not dropped: pictures that follow may refer to it.
        let same = source_time == last.source;
        self.repairs.add(if same {
            Repair::Duplicate
        } else {
            Repair::Late
        });
        last.dts.saturating_add(1)
    }

    /// The time of a unit on a grid of frames, or `None` when its place is taken.
    fn on_grid(
        &mut self,
        last: &Last,
        source: &Source,
        frame: u32,
        time: i128,
        moved: bool,
    ) -> Option<i64> {
        let frame = i64::from(frame.max(1));
        let expected = last.dts.saturating_add(frame);
        let found = output_ticks(time, source.output);
        let error = found.saturating_sub(expected);
        let in_step = narrow(to_ticks(IN_STEP, source.output));
        if error.abs() <= in_step {
            return Some(expected);
        }
        if moved {
            // There is a gap here anyway: be exact.
            return (error > 0).then_some(found);
        }
        let out_of_step = narrow(to_ticks(OUT_OF_STEP, source.output)).max(frame * 3 / 2);
        if error < -out_of_step {
            return None;
        }
        let mut missing = 0;
        if error > out_of_step {
            missing = (error + frame / 2) / frame;
            self.repairs.add(Repair::Hole);
        }
        // A frame 0.4 % off its length cannot be heard; a source clock is never that wrong.
        let left = error - missing * frame;
        let slew = (frame / 256).max(1).min(frame - 1);
        let slew = if left.abs() <= in_step {
            0
        } else {
            left.clamp(-slew, slew)
        };
        if slew != 0 {
            self.repairs.add(Repair::Slewed);
        }
        Some(expected + missing * frame + slew)
    }

    fn present(&mut self, source: &Source, time: i128, dts: i64, composition: i32) -> i64 {
        if source.frame.is_some() || composition == 0 {
            return dts;
        }
        let offset = to_internal(composition.into(), source.scale);
        if offset.abs() > COMPOSITION {
            self.repairs.add(Repair::Composition);
            return dts;
        }
        let pts = output_ticks(time + offset, source.output);
        // A unit that was moved behind its predecessor is not to be presented before it is decoded.
        if composition > 0 { pts.max(dts) } else { pts }
    }
}

impl Last {
    /// What a track has reached with a unit at `place`, given the time it went on with, if it did.
    fn after(last: Option<Self>, place: &Place, raw: i64, dts: Option<i64>, moved: bool) -> Self {
        let Place {
            anchor,
            ticks,
            source,
            ..
        } = *place;
        let Some(last) = last else {
            let dts = dts.unwrap_or(0);
            return Self {
                anchor,
                raw,
                ticks,
                source,
                interval: None,
                dts,
                fresh: false,
            };
        };
        let step = source - last.source;
        // A step between anchors says nothing, nor does one back or across a pause.
        let known = last.anchor == anchor && (1..=JUMP).contains(&step);
        let interval = if known { Some(step) } else { last.interval };
        let fresh = moved && dts.is_none();
        let dts = dts.unwrap_or(last.dts);
        if last.anchor == anchor && step < 0 {
            // Small steps back must not add up to a large one unseen.
            return Self { dts, fresh, ..last };
        }
        Self {
            anchor,
            raw,
            ticks,
            source,
            interval,
            dts,
            fresh,
        }
    }

    /// The output time, in internal ticks, at which the next unit continues the track.
    fn next(&self, source: &Source) -> i128 {
        match source.frame {
            Some(frame) => to_internal(i128::from(self.dts) + i128::from(frame), source.output),
            None => {
                let dts = to_internal(self.dts.into(), source.output);
                dts + self.interval.unwrap_or(INTERVAL_UNKNOWN)
            }
        }
    }
}

impl Wrap {
    /// The time that `raw` may stand for which is nearest to `near`.
    fn unwrap(self, raw: i64, near: i128) -> i128 {
        let bits = match self {
            Self::Rtmp => 24,
            Self::Bits(bits) => bits.clamp(1, 63),
            Self::None => return raw.into(),
        };
        let period = 1_i128 << bits;
        let ahead = (i128::from(raw) - near).rem_euclid(period);
        near + if ahead >= period / 2 {
            ahead - period
        } else {
            ahead
        }
    }
}

/// Ticks of `scale` as internal ticks, to the nearest.
fn to_internal(ticks: i128, scale: Timescale) -> i128 {
    let hz = i128::from(scale.hz());
    (2 * ticks * HZ + hz).div_euclid(2 * hz)
}

/// Internal ticks as ticks of `scale`, to the nearest.
fn to_ticks(time: i128, scale: Timescale) -> i128 {
    (2 * time * i128::from(scale.hz()) + HZ).div_euclid(2 * HZ)
}

fn output_ticks(time: i128, scale: Timescale) -> i64 {
    narrow(to_ticks(time, scale))
}

fn narrow(ticks: i128) -> i64 {
    i64::try_from(ticks).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
}
