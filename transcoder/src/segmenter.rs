//! Decides where segments begin, and in which order units go on: pure, and the only one who cuts.
//!
//! Takes the publisher's events as they arrive and gives them back in an order that every consumer can use: a
//! [`Segment`] mark before all units of its segment on every track, sound no further ahead than the picture. It lives
//! in the supervisor's process, so that numbers and marks survive the death of a worker.

use std::collections::VecDeque;
use std::time::Duration;

use media::{
    AccessUnit, Event, Format, Gap, Rational, Rounding, Segment, Timescale, Timestamp, TrackId,
    Tracks, Utc,
};

use crate::utc::Anchor;

/// What the segmenter is told.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Segments are meant to be this long, and are at most half a second longer.
    pub segment: Duration,
    /// The longest pause between pictures that is left as it is.
    pub part: Duration,
    /// The numbers of the first mark.
    pub first: First,
}

/// Where numbering begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// The first media sequence number; at least 1, since players take 0 for "no number yet".
    pub number: u64,
    /// The first discontinuity sequence number.
    pub discontinuity: u64,
}

impl Default for First {
    fn default() -> Self {
        Self {
            number: 1,
            discontinuity: 0,
        }
    }
}

/// Where cuts may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Only at the publisher's keyframes: its bitstream goes out as it is.
    Keyframes,
    /// At any picture, every [`Config::segment`]: every picture is encoded again.
    Clock,
}

/// What the segmenter had to leave out or make up, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Units dropped because no keyframe had come yet, or because they lie before the first mark or what was made
    /// up in their place.
    pub dropped: u64,
    /// Units made up for a track that fell silent.
    pub filled: u64,
}

/// Sound waits this long behind the picture, at most; then it goes on alone.
const HOLD_MAX: Duration = Duration::from_secs(5);
/// And this many bytes of it.
const HOLD_BYTES_MAX: usize = 16 << 20;
/// How long the start waits for the other kind of track, and how long a track may be silent before it is filled.
const WAIT: Duration = Duration::from_secs(1);
/// What a segment may be longer than meant; EXTINF still rounds to the target duration.
const OVERRUN: Duration = Duration::from_millis(450);
/// For so long, groups of pictures of any length up to a segment are expected.
const LEARN: Duration = Duration::from_secs(10);
/// Groups of pictures whose length is remembered.
const GROUPS: usize = 8;
/// Pictures that are sent before one that is shown earlier, at most (H.264 A.3.1: `max_dec_frame_buffering`).
const REORDER_MAX: usize = 16;
/// A pause longer than this is not cut up into segments but skipped.
const SKIP: Duration = Duration::from_secs(60);

/// The segmenter of one stream.
#[derive(Debug)]
pub struct Segmenter {
    config: Config,
    cut: Cut,
    video: Option<Track>,
    audio: Option<Track>,
    /// Sound that the picture has not reached yet, in order.
    held: VecDeque<AccessUnit>,
    held_bytes: usize,
    phase: Phase,
    anchor: Option<Anchor>,
    next: First,
    last: Option<Segment>,
    /// The next cut by the clock.
    planned: Timestamp,
    groups: VecDeque<Duration>,
    group_start: Option<Timestamp>,
    first_start: Option<Timestamp>,
    counts: Counts,
}

#[derive(Debug)]
enum Phase {
    /// Waiting for the first keyframe, and a moment for the other kind of track; the picture's units so far.
    Start {
        since: Option<Utc>,
        units: Vec<AccessUnit>,
        bytes: usize,
    },
    /// A new beginning within the stream: the next mark is a discontinuity. With `keyframe` only one will do; with
    /// `sound` the sound before the mark is of a configuration that has no segment there. Without `keyframe` the
    /// earliest picture begins it: `units` wait until none that is shown before the first of them can follow.
    Again {
        keyframe: bool,
        sound: bool,
        units: Vec<AccessUnit>,
    },
    Running,
}

/// What is known of one of the publisher's tracks.
#[derive(Debug)]
struct Track {
    id: TrackId,
    scale: Timescale,
    /// Decode time and end of the newest unit.
    newest: Option<Timestamp>,
    end: Option<Timestamp>,
    step: i64,
    codec: media::Codec,
    shape: Option<(u16, u16, Rational)>,
    /// How long the other track has been arriving alone, and since when.
    alone: Duration,
    heard: Option<Utc>,
    /// Its newest unit was made up.
    filled: bool,
}

impl Segmenter {
    /// A segmenter that waits for its first [`Event::Tracks`].
    #[must_use]
    pub fn new(config: Config, cut: Cut) -> Self {
        Self {
            config,
            cut,
            video: None,
            audio: None,
            held: VecDeque::new(),
            held_bytes: 0,
            phase: Phase::Start {
                since: None,
                units: Vec::new(),
                bytes: 0,
            },
            anchor: None,
            next: config.first,
            last: None,
            planned: Timestamp::new(0, Timescale::VIDEO),
            groups: VecDeque::new(),
            group_start: None,
            first_start: None,
            counts: Counts::default(),
        }
    }

    /// What was left out and made up so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// The newest mark.
    #[must_use]
    pub const fn last(&self) -> Option<Segment> {
        self.last
    }

    /// Where cuts may be at present.
    #[must_use]
    pub const fn cut(&self) -> Cut {
        self.cut
    }

    /// From the next unit on, cuts may be elsewhere. Going from keyframes to the clock in a running stream makes the
    /// next picture a new beginning, since what carries the top rung changes.
    pub fn set_cut(&mut self, cut: Cut) {
        if self.cut == cut {
            return;
        }
        self.cut = cut;
        self.begin_again(cut == Cut::Keyframes, false);
    }

    /// Whether the next picture at or after `at` must begin a segment, keyframe or not.
    #[must_use]
    pub fn overdue(&self, at: Timestamp) -> bool {
        let limit = self.config.segment + OVERRUN;
        self.last
            .is_some_and(|last| at.since(last.start).is_some_and(|long| long > limit))
    }

    /// Takes one event that arrived at `now` and appends what follows from it to `out`. Segment marks in the input
    /// are ignored.
    pub fn push(&mut self, event: Event, now: Utc, out: &mut Vec<Event>) {
        match event {
            Event::Tracks(tracks) => self.tracks(tracks, now, out),
            Event::Unit(unit) => self.unit(unit, now, out),
            Event::Gap(gap) => self.gap(gap, now, out),
            Event::Segment(_) => {}
            Event::End => {
                self.settle(now, out);
                self.resume(now, out);
                self.drop_sound_alone();
                self.release(true, out);
                out.push(Event::End);
            }
        }
    }

    fn tracks(&mut self, tracks: Tracks, now: Utc, out: &mut Vec<Event>) {
        let find =
            |wanted: fn(&Format) -> bool| tracks.iter().find(move |track| wanted(&track.format));
        let video = find(|format| matches!(format, Format::Video(_)));
        let audio = find(|format| matches!(format, Format::Audio(_)));
        let (pictures, sound) = (change(&self.video, video), change(&self.audio, audio));
        if pictures == Change::Codec || sound == Change::Codec {
            // What was held back until now is of the old configuration: it begins, where nothing has yet.
            self.settle(now, out);
        }
        if pictures != Change::None {
            self.resume(now, out);
        }
        if sound == Change::Codec {
            // Sound ahead of the picture has no segment any more.
            self.counts.dropped += self.held.len() as u64;
            self.held.clear();
            self.held_bytes = 0;
        }
        if pictures == Change::Codec || pictures == Change::Presence {
            self.begin_again(video.is_some(), sound == Change::Codec);
        } else if sound == Change::Codec {
            self.begin_again(self.cut == Cut::Keyframes, true);
        }
        update(&mut self.video, video);
        update(&mut self.audio, audio);
        out.push(Event::Tracks(tracks));
    }

    fn begin_again(&mut self, keyframe: bool, sound: bool) {
        match &mut self.phase {
            Phase::Start { .. } => {}
            Phase::Running => {
                self.phase = Phase::Again {
                    keyframe,
                    sound,
                    units: Vec::new(),
                };
            }
            Phase::Again {
                keyframe: needed,
                sound: changed,
                ..
            } => {
                *needed = keyframe;
                *changed |= sound;
            }
        }
    }

    fn gap(&mut self, gap: Gap, now: Utc, out: &mut Vec<Event>) {
        if matches!(self.phase, Phase::Start { .. }) {
            return;
        }
        self.resume(now, out);
        out.push(Event::Gap(gap));
        // After a jump in time the same pictures go on; after a loss the decoder needs a new start.
        let keyframe = gap != Gap::Jump || self.cut == Cut::Keyframes;
        self.begin_again(keyframe, false);
        self.group_start = None;
    }

    fn unit(&mut self, unit: AccessUnit, now: Utc, out: &mut Vec<Event>) {
        if self
            .video
            .as_ref()
            .is_some_and(|video| video.id == unit.track)
        {
            self.video_unit(unit, now, out);
        } else if self
            .audio
            .as_ref()
            .is_some_and(|audio| audio.id == unit.track)
        {
            self.audio_unit(unit, now, out);
        } else {
            self.counts.dropped += 1;
        }
    }

    fn video_unit(&mut self, unit: AccessUnit, now: Utc, out: &mut Vec<Event>) {
        let Some(video) = &mut self.video else { return };
        if video.newest.is_some_and(|newest| unit.dts <= newest) {
            // What was made up in the meantime stands.
            self.counts.dropped += 1;
            return;
        }
        video.arrived(&unit, now);
        if let Some(audio) = &mut self.audio {
            audio.missed(now);
        }
        if let Phase::Start {
            since,
            units,
            bytes,
        } = &mut self.phase
        {
            if units.is_empty() && !unit.keyframe {
                self.counts.dropped += 1;
                return;
            }
            since.get_or_insert(now);
            *bytes += unit.data.len();
            units.push(unit);
            self.settle_when_due(now, out);
            return;
        }
        if let Phase::Again {
            keyframe, units, ..
        } = &mut self.phase
        {
            if (*keyframe && !unit.keyframe) || self.last.is_some_and(|last| unit.pts <= last.start)
            {
                self.counts.dropped += 1;
                return;
            }
            let later = units.first().is_some_and(|first| unit.pts > first.pts);
            if !*keyframe {
                units.push(unit);
                if later || units.len() > REORDER_MAX {
                    self.resume(now, out);
                }
                return;
            }
        }
        if let Some(anchor) = &mut self.anchor {
            anchor.observe(unit.pts, now);
        }
        self.mark_for_picture(&unit, now, out);
        out.push(Event::Unit(unit));
        self.fill_audio(out);
        self.release(false, out);
    }

    /// Begins again with the pictures that wait for it, if some do.
    fn resume(&mut self, now: Utc, out: &mut Vec<Event>) {
        let Phase::Again { sound, units, .. } = &mut self.phase else {
            return;
        };
        let sound = *sound;
        let units = std::mem::take(units);
        let Some(start) = units.iter().map(|unit| unit.pts).min() else {
            return;
        };
        self.phase = Phase::Running;
        self.group_start = None;
        self.mark(start, now, true, out);
        if sound {
            self.drop_sound_before(start);
        }
        for unit in units {
            if let Some(anchor) = &mut self.anchor {
                anchor.observe(unit.pts, now);
            }
            self.mark_for_picture(&unit, now, out);
            out.push(Event::Unit(unit));
        }
        self.fill_audio(out);
        self.release(false, out);
    }

    fn audio_unit(&mut self, unit: AccessUnit, now: Utc, out: &mut Vec<Event>) {
        let Some(audio) = &mut self.audio else { return };
        if audio.newest.is_some_and(|newest| unit.dts <= newest)
            || (audio.filled && audio.end > Some(unit.dts))
        {
            // It is late, not gone: nothing more is made up in its place.
            audio.alone = Duration::ZERO;
            audio.heard = Some(now);
            self.counts.dropped += 1;
            return;
        }
        audio.arrived(&unit, now);
        if let Some(video) = &mut self.video {
            video.missed(now);
        }
        self.held_bytes += unit.data.len();
        self.held.push_back(unit);
        if let Phase::Start { since, .. } = &mut self.phase {
            since.get_or_insert(now);
            self.settle_when_due(now, out);
            return;
        }
        if self.video.is_none() {
            self.cut_sound(now, out);
            return;
        }
        self.fill_video(now, out);
        self.release(false, out);
    }

    /// Ends the start when both kinds of track are there, or the wait is over.
    fn settle_when_due(&mut self, now: Utc, out: &mut Vec<Event>) {
        let Phase::Start {
            since,
            units,
            bytes,
        } = &self.phase
        else {
            return;
        };
        let media = |first: Option<Timestamp>, last: Option<Timestamp>| {
            first
                .zip(last)
                .and_then(|(first, last)| last.since(first))
                .unwrap_or_default()
        };
        let picture = media(
            units.first().map(|unit| unit.dts),
            units.last().map(|unit| unit.dts),
        );
        let sound = media(
            self.held.front().map(|unit| unit.dts),
            self.held.back().map(|unit| unit.dts),
        );
        let waited = since
            .map(|since| now.saturating_since(since))
            .unwrap_or_default();
        let pictures = self.video.is_none() || !units.is_empty();
        let both = pictures && (self.audio.is_none() || !self.held.is_empty());
        let much = picture.max(sound) > HOLD_MAX || bytes + self.held_bytes > HOLD_BYTES_MAX;
        let late = waited >= WAIT || much;
        if both || late {
            self.settle(now, out);
        }
    }

    /// Starts with what is there; with sound alone only when no picture is promised or it has not come in time.
    fn settle(&mut self, now: Utc, out: &mut Vec<Event>) {
        let Phase::Start { units, .. } = &mut self.phase else {
            return;
        };
        let units = std::mem::take(units);
        if units.is_empty() && self.held.is_empty() {
            return;
        }
        self.phase = Phase::Running;
        let Some(first) = units.first() else {
            let promised = self.video.is_some();
            if promised {
                // The picture begins with the sound, as black, until it comes.
                self.begin_with_sound(now, out);
            } else {
                self.cut_sound(now, out);
            }
            return;
        };
        // Sound that ends before the first picture belongs to no segment.
        let start = first.pts;
        self.mark(start, now, false, out);
        self.drop_sound_before(start);
        for unit in units {
            self.mark_for_picture(&unit, now, out);
            out.push(Event::Unit(unit));
        }
        self.release(false, out);
    }

    /// Leaves out the sound so far behind the last picture that it would make the last segment too long.
    fn drop_sound_alone(&mut self) {
        let Some(last) = self.last.filter(|_| self.video.is_some()) else {
            return;
        };
        let limit = self.config.segment + OVERRUN;
        let too_late =
            |unit: &AccessUnit| unit.dts.since(last.start).is_some_and(|long| long > limit);
        while let Some(unit) = self.held.pop_back_if(|unit| too_late(unit)) {
            self.held_bytes -= unit.data.len();
            self.counts.dropped += 1;
        }
    }

    fn drop_sound_before(&mut self, start: Timestamp) {
        while self.held.front().is_some_and(|unit| unit.pts < start) {
            if let Some(unit) = self.held.pop_front() {
                self.held_bytes -= unit.data.len();
                self.counts.dropped += 1;
            }
        }
    }

    fn begin_with_sound(&mut self, now: Utc, out: &mut Vec<Event>) {
        let Some(first) = self.held.front() else {
            return;
        };
        let start = first.pts.rescale(Timescale::VIDEO, Rounding::Up);
        self.mark(start, now, false, out);
        if let Some(video) = &mut self.video {
            let at = start.rescale(video.scale, Rounding::Up);
            video.alone = WAIT;
            out.push(Event::Unit(video.make_up(at, 0)));
            self.counts.filled += 1;
        }
        self.fill_video(now, out);
        self.release(false, out);
    }

    /// Cuts before a picture where a cut is due.
    fn mark_for_picture(&mut self, unit: &AccessUnit, now: Utc, out: &mut Vec<Event>) {
        if let Phase::Again { sound, .. } = self.phase {
            self.phase = Phase::Running;
            self.group_start = unit.keyframe.then_some(unit.pts);
            self.mark(unit.pts, now, true, out);
            if sound {
                self.drop_sound_before(unit.pts);
            }
            return;
        }
        if unit.keyframe {
            if let Some(group) = self.group_start.and_then(|start| unit.pts.since(start)) {
                self.groups.push_back(group);
                if self.groups.len() > GROUPS {
                    self.groups.pop_front();
                }
            }
            self.group_start = Some(unit.pts);
        }
        match self.cut {
            Cut::Keyframes if unit.keyframe && self.keyframe_is_due(unit.pts) => {
                self.mark(unit.pts, now, false, out);
            }
            Cut::Keyframes => {}
            Cut::Clock => self.mark_by_clock(unit.pts, now, out),
        }
    }

    /// Whether waiting for another keyframe would make the segment too long.
    fn keyframe_is_due(&self, at: Timestamp) -> bool {
        let Some(long) = self.last.and_then(|last| at.since(last.start)) else {
            return false;
        };
        let learned = self
            .first_start
            .and_then(|first| at.since(first))
            .is_some_and(|time| time > LEARN);
        let longest = self
            .groups
            .iter()
            .max()
            .copied()
            .unwrap_or(self.config.segment);
        let next = if learned {
            longest
        } else {
            self.config.segment.max(longest)
        };
        // A quarter of the overrun for groups that are not quite equal.
        long + next > self.config.segment + OVERRUN / 4 && long > Duration::ZERO
    }

    /// Cuts at the first picture at or past the planned time. A picture too far past it is not waited for: the
    /// worker repeats the one before it there.
    fn mark_by_clock(&mut self, at: Timestamp, now: Utc, out: &mut Vec<Event>) {
        if at.since(self.planned).is_some_and(|late| late > SKIP) {
            self.mark(at, now, true, out);
            return;
        }
        while let Some(late) = at.since(self.planned) {
            let planned = self.planned;
            let start = if late <= self.config.part {
                at
            } else {
                planned
            };
            self.mark(start, now, false, out);
            // The plan does not drift with the pictures.
            self.planned = self.after(planned);
        }
    }

    fn after(&self, start: Timestamp) -> Timestamp {
        start
            .checked_add(start.scale().ticks(self.config.segment))
            .unwrap_or(start)
    }

    fn mark(&mut self, start: Timestamp, now: Utc, again: bool, out: &mut Vec<Event>) {
        let again = again && self.last.is_some();
        let utc = match &mut self.anchor {
            Some(anchor) if !again => anchor.mark(start),
            Some(anchor) => anchor.again(start, now),
            none => none.insert(Anchor::new(start, now)).mark(start),
        };
        self.next.discontinuity += u64::from(again);
        let segment = Segment {
            number: self.next.number,
            discontinuity: self.next.discontinuity,
            start,
            utc,
        };
        self.next.number += 1;
        self.last = Some(segment);
        self.first_start.get_or_insert(start);
        self.planned = self.after(start);
        out.push(Event::Segment(segment));
    }

    /// Gives on the sound that the picture has reached; all of it when told so or when too much has gathered.
    fn release(&mut self, all: bool, out: &mut Vec<Event>) {
        let again = matches!(self.phase, Phase::Again { .. });
        let reached = self.video.as_ref().and_then(|video| video.newest);
        while let Some(front) = self.held.front() {
            let ahead = reached.map(|reached| front.dts.since(reached).unwrap_or_default());
            let newest = self.held.back().map_or(front.dts, |back| back.dts);
            let stuck = newest.since(front.dts).is_some_and(|long| long > HOLD_MAX)
                || self.held_bytes > HOLD_BYTES_MAX;
            let due = ahead.is_none_or(|ahead| ahead.is_zero()) && !again;
            if !(all || due || stuck) {
                break;
            }
            if let Some(unit) = self.held.pop_front() {
                self.held_bytes -= unit.data.len();
                out.push(Event::Unit(unit));
            }
        }
    }

    /// Sound alone: cuts on its own clock, at whole frames.
    fn cut_sound(&mut self, now: Utc, out: &mut Vec<Event>) {
        while let Some(unit) = self.held.pop_front() {
            self.held_bytes -= unit.data.len();
            let at = unit.pts;
            if let Some(anchor) = &mut self.anchor {
                anchor.observe(at, now);
            }
            if self.last.is_none() {
                self.mark(at, now, false, out);
            } else if let Phase::Again { .. } = self.phase {
                self.mark(at, now, true, out);
            } else if at >= self.planned {
                let far = at.since(self.planned).is_some_and(|late| late > SKIP);
                let planned = self.planned;
                self.mark(at, now, far, out);
                if at
                    .since(planned)
                    .is_some_and(|late| late < self.config.part)
                {
                    self.planned = self.after(planned);
                }
            }
            self.phase = Phase::Running;
            out.push(Event::Unit(unit));
        }
    }

    /// Repeats the last picture (an empty unit says so) while sound comes without any.
    fn fill_video(&mut self, now: Utc, out: &mut Vec<Event>) {
        let Some(newest) = self.held.back().map(|unit| unit.dts) else {
            return;
        };
        loop {
            let Some(video) = &mut self.video else { return };
            let Some(end) = video.newest else { return };
            let quiet = newest.since(end).unwrap_or_default();
            if video.alone < WAIT || quiet <= WAIT {
                return;
            }
            if matches!(&self.phase, Phase::Again { units, .. } if !units.is_empty()) {
                self.resume(now, out);
                continue;
            }
            // Four fifths of a part, so that no part has to wait for the next one.
            let step = video.scale.ticks(self.config.part * 4 / 5).max(1);
            let Some(at) = end.checked_add(step) else {
                return;
            };
            let unit = video.make_up(at, u32::try_from(step).unwrap_or(u32::MAX));
            self.counts.filled += 1;
            self.mark_for_picture(&unit, now, out);
            out.push(Event::Unit(unit));
        }
    }

    /// Makes up silence (an empty unit a frame) while pictures come without sound.
    fn fill_audio(&mut self, out: &mut Vec<Event>) {
        let Some(reached) = self.video.as_ref().and_then(|video| video.newest) else {
            return;
        };
        let start = self.first_start;
        loop {
            let Some(audio) = &mut self.audio else { return };
            if audio.alone < WAIT || !self.held.is_empty() {
                return;
            }
            let begin = || start.map(|start| start.rescale(audio.scale, Rounding::Up));
            let Some(at) = audio.end.or_else(begin) else {
                return;
            };
            if reached.since(at).unwrap_or_default() <= WAIT {
                return;
            }
            let step = audio.step.max(1);
            let unit = audio.make_up(at, u32::try_from(step).unwrap_or(u32::MAX));
            self.counts.filled += 1;
            out.push(Event::Unit(unit));
        }
    }
}

/// What a new list of tracks means for one of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    None,
    Presence,
    Codec,
}

fn change(old: &Option<Track>, new: Option<&media::Track>) -> Change {
    match (old, new) {
        (None, None) => Change::None,
        (Some(old), Some(new)) if old.codec == new.codec && old.shape == shape(&new.format) => {
            Change::None
        }
        (Some(_), Some(_)) => Change::Codec,
        _ => Change::Presence,
    }
}

/// Keeps what is known of a track that goes on.
fn update(old: &mut Option<Track>, new: Option<&media::Track>) {
    let fresh = new.map(Track::new);
    *old = match (old.take(), fresh) {
        (Some(old), Some(fresh)) if old.id == fresh.id && old.scale == fresh.scale => Some(Track {
            step: fresh.step,
            codec: fresh.codec,
            shape: fresh.shape,
            ..old
        }),
        (_, fresh) => fresh,
    };
}

fn shape(format: &Format) -> Option<(u16, u16, Rational)> {
    match format {
        Format::Video(video) => Some((video.width, video.height, video.sample_aspect)),
        Format::Audio(_) => None,
    }
}

impl Track {
    fn new(track: &media::Track) -> Self {
        let step = match &track.codec {
            media::Codec::Aac(config) => i64::from(config.samples_per_frame()),
            // Pictures set theirs as they come; 20 ms is Opus's usual packet.
            _ => track.timescale.ticks(Duration::from_millis(20)),
        };
        Self {
            codec: track.codec.clone(),
            shape: shape(&track.format),
            id: track.id,
            scale: track.timescale,
            newest: None,
            end: None,
            step,
            alone: Duration::ZERO,
            heard: None,
            filled: false,
        }
    }

    fn arrived(&mut self, unit: &AccessUnit, now: Utc) {
        self.alone = Duration::ZERO;
        self.heard = Some(now);
        self.filled = false;
        self.newest = Some(unit.dts);
        self.end = unit.dts.checked_add(i64::from(unit.duration));
        if unit.duration > 0 {
            self.step = i64::from(unit.duration);
        }
    }

    /// The other track arrived. Only time with arrivals counts: a burst after a pause proves no silence.
    fn missed(&mut self, now: Utc) {
        let passed = self
            .heard
            .map(|heard| now.saturating_since(heard))
            .unwrap_or_default();
        self.alone += passed.min(Duration::from_millis(100));
        self.heard = Some(now);
    }

    fn make_up(&mut self, at: Timestamp, duration: u32) -> AccessUnit {
        self.newest = Some(at);
        self.end = at.checked_add(i64::from(duration));
        self.filled = true;
        AccessUnit {
            track: self.id,
            dts: at,
            pts: at,
            duration,
            keyframe: false,
            data: bytes::Bytes::new(),
        }
    }
}

#[cfg(test)]
mod tests;
