//! One track on its way into parts and segments.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use media::{AccessUnit, Rounding, Timestamp};

use crate::fragment::{self, Sample};
use crate::setup::Setup;
use crate::{Chunk, Error, Opening, Part, Segment, boxes};

/// How far a track may stay behind the newest mark before it is taken for silent: as long as the segmenter waits to
/// interleave tracks.
const LAG_MAX: Duration = Duration::from_secs(5);
/// Marks that may wait for a track, whatever their distance.
const MARKS_MAX: usize = 16;
/// A step of decode times beyond this is missing media, not a long frame.
const STEP_MAX: Duration = Duration::from_secs(10);
/// Media of one segment, when marks do not come: more is refused.
const SEGMENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Length of one segment, when marks do not come: more is refused.
const SEGMENT_MAX: Duration = Duration::from_secs(60);
/// Presentation times: what `tfdt` can hold, and far enough from its end that sums stay in range.
const PTS: Range<i64> = 0..i64::MAX / 8;
/// Decode times: the first pictures of a stream may be decoded before zero.
const DTS: Range<i64> = i64::MIN / 8..i64::MAX / 8;

/// A track, by name; it stays when the track goes, to keep its playlist in step.
#[derive(Debug)]
pub(crate) struct Lane {
    /// From the newest mark on.
    pub(crate) setup: Arc<Setup>,
    pub(crate) alive: bool,
    /// Marks that no unit has reached yet, oldest first.
    marks: VecDeque<Pending>,
    open: Option<Open>,
    /// Number of the last complete segment, and where it ended.
    last: Option<u64>,
    end: Option<Timestamp>,
    /// Media is missing before the next unit.
    broken: bool,
}

#[derive(Debug)]
struct Pending {
    mark: media::Segment,
    setup: Arc<Setup>,
}

/// The segment being filled.
#[derive(Debug)]
struct Open {
    mark: media::Segment,
    setup: Arc<Setup>,
    start: Timestamp,
    /// Added to decode times, so that the first unit is decoded when it is presented. Taken anew in each segment: it
    /// is the same unless the encoder's delay changed, and a packager that starts here finds the same. It shrinks
    /// where pictures come closer together than before the segment: nothing is decoded after the latest time that is
    /// presented so far, so that the next segment can begin where this one ends.
    shift: i64,
    latest: i64,
    /// The newest unit: its length is known when the next one comes.
    held: AccessUnit,
    /// Its decode time in the file.
    held_at: i64,
    samples: Vec<Sample>,
    /// Decode time of the first of `samples`.
    part_start: u64,
    /// Length of `samples`.
    part_ticks: u64,
    parts: u32,
    /// Length of the parts made.
    ticks: u64,
    bytes: usize,
    /// Units are refused up to the next keyframe that opens a segment.
    starving: bool,
}

impl Lane {
    pub(crate) const fn new(setup: Arc<Setup>) -> Self {
        Self {
            setup,
            alive: true,
            marks: VecDeque::new(),
            open: None,
            last: None,
            end: None,
            broken: false,
        }
    }

    /// The newest segment that has begun.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.open
            .as_ref()
            .map(|open| open.mark.number)
            .or(self.last)
    }

    /// Where media ends, as far as known.
    pub(crate) fn end(&self) -> Option<Timestamp> {
        self.open.as_ref().map_or(self.end, |open| {
            let ticks = open.held_at + i64::from(open.nominal());
            Some(Timestamp::new(ticks, open.start.scale()))
        })
    }

    /// Media is missing before the next unit: its distance tells no length.
    pub(crate) const fn gap(&mut self) {
        self.broken = true;
    }

    /// A new segment is to begin.
    pub(crate) fn mark(&mut self, mark: media::Segment, out: &mut Vec<Chunk>) {
        self.marks.push_back(Pending {
            mark,
            setup: self.setup.clone(),
        });
        if !self.alive {
            self.close(out);
            while self.marks.len() > 1 {
                self.skip(mark.start, out);
            }
            return;
        }
        // A silent track falls behind no further: each mark pushes it on by one segment.
        while self.lags(mark.start) {
            if self.open.is_some() {
                self.close(out);
            } else {
                self.skip(mark.start, out);
            }
        }
    }

    /// No unit can come any more for segments up to `last`, which ends at `end`.
    pub(crate) fn finish(&mut self, last: Option<u64>, end: Timestamp, out: &mut Vec<Chunk>) {
        self.close(out);
        while let Some(front) = self.marks.front() {
            if last.is_none_or(|last| front.mark.number > last) {
                break;
            }
            self.skip(end, out);
        }
        self.marks.clear();
    }

    pub(crate) fn unit(&mut self, unit: AccessUnit, out: &mut Vec<Chunk>) -> Result<(), Error> {
        let reached = self.marks.iter().rposition(|pending| {
            unit.pts >= pending.mark.start && (unit.keyframe || !pending.setup.is_video())
        });
        let track = unit.track;
        let setup = match (reached, &self.open) {
            (Some(i), _) => &self.marks[i].setup,
            (None, Some(open)) => &open.setup,
            // From before the first mark: another packager has it.
            (None, None) if self.end.is_none() => return Ok(()),
            (None, None) => return Err(Error::Late(track)),
        };
        let scale = setup.track.timescale;
        let same_scale = unit.dts.scale() == scale && unit.pts.scale() == scale;
        if !same_scale || !PTS.contains(&unit.pts.ticks()) || !DTS.contains(&unit.dts.ticks()) {
            return Err(Error::Time(track));
        }
        if unit.data.len() > SEGMENT_BYTES_MAX {
            return Err(Error::Overlong(track));
        }
        match reached {
            Some(reached) => {
                let next = &self.marks[reached];
                self.broken |= self
                    .open
                    .as_ref()
                    .is_some_and(|open| open.mark.discontinuity != next.mark.discontinuity);
                if let Some(open) = &mut self.open {
                    open.settle(open.step_to(unit.pts, self.broken), out);
                }
                self.close_settled(out);
                for _ in 0..reached {
                    let next = self.marks[1].mark.start;
                    self.skip(next, out);
                }
                let Pending { mark, setup } = self.marks.pop_front().expect("it was reached");
                self.open = Some(Open::new(mark, setup, unit));
                self.broken = false;
                Ok(())
            }
            None => self.extend(unit, out),
        }
    }

    /// Takes a unit that belongs to the open segment.
    fn extend(&mut self, unit: AccessUnit, out: &mut Vec<Chunk>) -> Result<(), Error> {
        let open = self.open.as_mut().expect("the caller found its setup");
        let track = unit.track;
        if unit.dts <= open.held.dts {
            return Err(Error::Order(track));
        }
        let at = open.decode_time(&unit);
        if i32::try_from(unit.pts.ticks() - at).is_err() || at < 0 {
            return Err(Error::Time(track));
        }
        if let Some(next) = self
            .marks
            .front()
            .filter(|next| unit.pts >= next.mark.start)
        {
            // The segment goes on to the keyframe that the mark promised, unless this is a new picture sequence or the
            // segment would break TARGETDURATION.
            let same = next.mark.discontinuity == open.mark.discontinuity
                && next.setup.init_name == open.setup.init_name;
            open.starving |= !same || open.reach(&unit, at) > open.setup.reach_ticks;
        }
        if open.starving {
            self.broken = true;
            return Err(Error::NoKeyframe(track));
        }
        let scale = open.start.scale();
        let too_long = open.reach(&unit, at) > scale.ticks(SEGMENT_MAX);
        if too_long || open.bytes + unit.data.len() > SEGMENT_BYTES_MAX {
            self.broken = true;
            open.starving = open.setup.is_video();
            return Err(Error::Overlong(track));
        }
        let step = at - open.held_at;
        if self.broken || step > scale.ticks(STEP_MAX) {
            // What follows does not begin where this ends, so it needs a decode time of its own.
            let nominal = i64::from(open.nominal()).min(step);
            open.settle(nominal, out);
            open.close_part(out);
        } else {
            open.settle(step, out);
        }
        self.broken = false;
        open.hold(unit, at);
        Ok(())
    }

    /// Whether the oldest waiting mark has waited long enough.
    fn lags(&self, newest: Timestamp) -> bool {
        let Some(oldest) = self.marks.front() else {
            return false;
        };
        // With a segment open the mark may still be reached; without one it is being filled right now.
        let late = newest
            .since(oldest.mark.start)
            .is_some_and(|lag| lag > LAG_MAX);
        self.marks.len() > 1 && (late || self.marks.len() > MARKS_MAX)
    }

    /// Ends the open segment with what it has.
    fn close(&mut self, out: &mut Vec<Chunk>) {
        if let Some(open) = &mut self.open {
            open.settle(open.nominal().into(), out);
        }
        self.close_settled(out);
    }

    fn close_settled(&mut self, out: &mut Vec<Chunk>) {
        if let Some(mut open) = self.open.take() {
            open.close_part(out);
            let ticks = i64::try_from(open.ticks).unwrap_or(i64::MAX);
            self.end = open.start.checked_add(ticks);
            self.last = Some(open.mark.number);
            out.push(Chunk::Segment(Segment {
                rendition: open.setup.name().clone(),
                number: open.mark.number,
                start: open.start,
                duration: open.ticks,
                gap: false,
                opening: open.opening(),
            }));
        }
    }

    /// Gives up the oldest waiting mark: a gap up to the next one, or to `end` after the last.
    fn skip(&mut self, end: Timestamp, out: &mut Vec<Chunk>) {
        let Some(Pending { mark, setup }) = self.marks.pop_front() else {
            return;
        };
        let scale = setup.track.timescale;
        let end = self.marks.front().map_or(end, |next| next.mark.start);
        let start = self.end.map_or(mark.start, |end| end.max(mark.start));
        let start = start.rescale(scale, Rounding::Nearest);
        let ticks = end.rescale(scale, Rounding::Nearest).checked_sub(start);
        let duration = ticks
            .and_then(|t| u64::try_from(t).ok())
            .unwrap_or(0)
            .max(1);
        self.end = start.checked_add(i64::try_from(duration).unwrap_or(i64::MAX));
        self.last = Some(mark.number);
        out.push(Chunk::Segment(Segment {
            rendition: setup.name().clone(),
            number: mark.number,
            start,
            duration,
            gap: true,
            opening: opening(&mark, &setup, start),
        }));
    }
}

impl Open {
    fn new(mark: media::Segment, setup: Arc<Setup>, first: AccessUnit) -> Self {
        let start = first.pts;
        Self {
            mark,
            setup,
            start,
            shift: first.pts.ticks() - first.dts.ticks(),
            latest: start.ticks(),
            held_at: start.ticks(),
            part_start: u64::try_from(start.ticks()).expect("units before zero are refused"),
            bytes: first.data.len(),
            held: first,
            samples: Vec::new(),
            part_ticks: 0,
            parts: 0,
            ticks: 0,
            starving: false,
        }
    }

    /// When the unit that comes next is decoded in the file; negative for one that nothing can present.
    fn decode_time(&self, unit: &AccessUnit) -> i64 {
        let latest = self.latest.max(unit.pts.ticks());
        let at = (unit.dts.ticks() + self.shift).min(latest);
        if at < 0 { at } else { at.max(self.held_at + 1) }
    }

    /// How long the segment is when `unit`, decoded at `at`, is its last, in ticks.
    fn reach(&self, unit: &AccessUnit, at: i64) -> i64 {
        unit.pts.ticks().max(at) - self.start.ticks() + i64::from(self.setup.nominal)
    }

    /// Length of the held unit when nothing tells it: as the source said, else as usual.
    fn nominal(&self) -> u32 {
        let longest = self.start.scale().ticks(STEP_MAX);
        let longest = u32::try_from(longest).unwrap_or(u32::MAX);
        match self.held.duration {
            0 => self.setup.nominal,
            ticks => ticks.min(longest),
        }
    }

    /// Length of the held unit when the next segment begins at `pts`.
    fn step_to(&self, pts: Timestamp, broken: bool) -> i64 {
        let nominal = i64::from(self.nominal());
        if pts.scale() != self.start.scale() {
            return nominal;
        }
        let step = pts.ticks() - self.held_at;
        if broken || step > self.start.scale().ticks(STEP_MAX) {
            return nominal.min(step).max(1);
        }
        // Not positive only when the encoder's delay shrank by more than a frame without a discontinuity.
        step.max(1)
    }

    fn hold(&mut self, unit: AccessUnit, at: i64) {
        self.bytes += unit.data.len();
        self.latest = self.latest.max(unit.pts.ticks());
        self.shift = self.shift.min(self.latest - unit.dts.ticks());
        self.held = unit;
        self.held_at = at;
        if self.samples.is_empty() {
            self.part_start = self.held_ticks();
        }
    }

    fn held_ticks(&self) -> u64 {
        u64::try_from(self.held_at).unwrap_or(0)
    }

    /// The held unit lasts for `step` ticks: it joins its part, and the part may be complete. A part is closed before
    /// the unit that would make it too long.
    fn settle(&mut self, step: i64, out: &mut Vec<Chunk>) {
        let duration = u32::try_from(step).unwrap_or(u32::MAX);
        let ticks = u64::from(duration);
        let target = self.setup.target_ticks;
        if self.part_ticks + ticks > target {
            self.close_part(out);
            self.part_start = self.held_ticks();
        }
        let composition = self.held.pts.ticks() - self.held_at;
        self.samples.push(Sample {
            data: self.held.data.clone(),
            duration,
            composition: i32::try_from(composition).expect("checked when it came"),
            sync: self.held.keyframe || !self.setup.is_video(),
        });
        self.part_ticks += ticks;
        if self.part_ticks >= self.setup.close_ticks {
            self.close_part(out);
        }
    }

    /// Makes a part of the samples gathered. One frame longer than PART-TARGET fills one part, and gaps for the rest.
    fn close_part(&mut self, out: &mut Vec<Chunk>) {
        let Some(first) = self.samples.first() else {
            return;
        };
        let independent = first.sync;
        let flags = boxes::default_flags(&self.setup.track.format);
        let sequence = (self.mark.number << SEQUENCE_BITS).wrapping_add(self.parts.into());
        let sequence = u32::try_from(sequence & u64::from(u32::MAX)).expect("masked");
        let fragment = fragment::write(sequence, self.part_start, &self.samples, flags);
        let target = self.setup.target_ticks;
        let total = self.part_ticks;
        let keyframe = independent && self.setup.is_video();
        self.list_part(
            total.min(target),
            fragment.data,
            independent,
            keyframe.then_some(fragment.first_sample_end),
            out,
        );
        let mut rest = total.saturating_sub(target);
        while rest > 0 {
            self.list_part(rest.min(target), bytes::Bytes::new(), false, None, out);
            rest = rest.saturating_sub(target);
        }
        self.samples.clear();
        self.part_ticks = 0;
    }

    fn list_part(
        &mut self,
        duration: u64,
        data: bytes::Bytes,
        independent: bool,
        keyframe_bytes: Option<u32>,
        out: &mut Vec<Chunk>,
    ) {
        let listed = i64::try_from(self.part_start).unwrap_or(i64::MAX);
        out.push(Chunk::Part(Part {
            rendition: self.setup.name().clone(),
            segment: self.mark.number,
            index: self.parts,
            start: Timestamp::new(listed, self.start.scale()),
            duration,
            independent,
            keyframe_bytes,
            data,
            opens: (self.parts == 0).then(|| self.opening()),
        }));
        self.parts += 1;
        self.part_start += duration;
        self.ticks += duration;
    }

    fn opening(&self) -> Opening {
        opening(&self.mark, &self.setup, self.start)
    }
}

/// `mfhd` sequence numbers count parts within this many bits of the media sequence number, so that a packager that
/// starts late finds the same ones.
const SEQUENCE_BITS: u32 = 10;

fn opening(mark: &media::Segment, setup: &Setup, start: Timestamp) -> Opening {
    Opening {
        discontinuity: mark.discontinuity,
        utc: mark
            .utc
            .saturating_add(start.since(mark.start).unwrap_or_default()),
        init: setup.init_name.clone(),
    }
}
