//! One rendition: its newest segments, their text, and the playlists made of it.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::pages::Pages;
use super::{DateTime, Seconds};
use crate::{Delta, Object, Opening, Part, Rendition, Rope, Segment, Tip};

/// Target durations that parts stay listed behind the last complete segment (D 6.2.2).
const PARTS_LISTED: u32 = 3;
/// Target durations of the skip boundary (D 4.4.3.8).
const SKIP_UNTIL: u32 = 6;
/// Target durations that players stay behind when they do not load parts (D 4.4.3.8).
const HOLD_BACK: u32 = 3;
/// The shortest playlist (D 6.2.2: three target durations; HLS authoring specification 8.11: six segments).
const LISTED_MIN: (usize, u32) = (6, 3);

/// What is equal in all playlists of a stream, and never changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// TARGETDURATION.
    pub(crate) target: Duration,
    /// PART-HOLD-BACK.
    pub(crate) part_hold_back: Duration,
}

/// A rendition's part of the window.
#[derive(Debug)]
pub(crate) struct Media {
    pub(crate) rendition: Rendition,
    /// It is one of the stream's renditions now.
    pub(crate) alive: bool,
    /// File name of the newest initialization segment.
    pub(crate) init: Arc<str>,
    /// Those announced that no segment has used yet, in the order of use: a track may be some marks behind.
    expected: VecDeque<Arc<str>>,
    pub(crate) meter: Meter,
    timing: Timing,
    /// Complete segments, oldest first. The first `retired` are listed no more and can still be had.
    segments: VecDeque<Stored>,
    retired: usize,
    open: Option<Open>,
    /// Text of the listed segments whose parts are not listed.
    settled: Pages,
    /// Text of the newer ones, whose parts are.
    recent: VecDeque<Recent>,
    recent_duration: Duration,
    iframes: Pages,
    /// Length of all segments there ever were: the clock by which retired ones expire.
    elapsed: Duration,
    listed: Duration,
    bytes: usize,
    retired_bytes: usize,
}

#[derive(Debug)]
struct Stored {
    number: u64,
    duration: Duration,
    opening: Opening,
    gap: bool,
    whole: Rope,
    /// By index; empty where a part is only a gap.
    parts: Vec<Bytes>,
    /// Bytes of its text that do not apply when it is the first one listed.
    prefix: usize,
    text: usize,
    iframe_text: usize,
    /// On the `elapsed` clock; set when it retires.
    expires: Duration,
}

#[derive(Debug)]
struct Recent {
    /// With parts.
    text: Bytes,
    /// Without.
    settled: Bytes,
    duration: Duration,
}

/// The segment in progress.
#[derive(Debug)]
struct Open {
    number: u64,
    opening: Opening,
    prefix: usize,
    /// Where the lines of parts begin in `text`.
    head: usize,
    text: String,
    parts: Vec<Bytes>,
    bytes: usize,
    duration: Duration,
    keyframe_bytes: Option<u32>,
}

impl Media {
    pub(crate) fn new(rendition: Rendition, timing: Timing) -> Self {
        Self {
            init: rendition.init.clone(),
            expected: [rendition.init.clone()].into(),
            rendition,
            alive: true,
            meter: Meter::default(),
            timing,
            segments: VecDeque::new(),
            retired: 0,
            open: None,
            settled: Pages::default(),
            recent: VecDeque::new(),
            recent_duration: Duration::ZERO,
            iframes: Pages::default(),
            elapsed: Duration::ZERO,
            listed: Duration::ZERO,
            bytes: 0,
            retired_bytes: 0,
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.rendition.track.name.as_str()
    }

    /// The rendition is one of the stream's, with the next segment as described.
    pub(crate) fn announce(&mut self, rendition: Rendition) {
        self.alive = true;
        self.init = rendition.init.clone();
        if self.expected.back() != Some(&rendition.init) {
            self.expected.push_back(rendition.init.clone());
        }
        self.rendition = rendition;
    }

    /// Takes a part; one that does not follow the last is ignored.
    pub(crate) fn part(&mut self, part: &Part) {
        let here = Tip {
            segment: part.segment,
            parts: part.index,
        };
        if here != self.tip() && !self.is_empty() {
            return;
        }
        if let (None, Some(opening)) = (&self.open, &part.opens) {
            let open = self.open(part.segment, opening.clone());
            self.open = Some(open);
        }
        let Some(open) = &mut self.open else { return };
        let scale = part.start.scale();
        let attributes = match (part.independent, part.data.is_empty()) {
            (_, true) => ",GAP=YES",
            (true, _) => ",INDEPENDENT=YES",
            _ => "",
        };
        let duration = Seconds::new(part.duration, scale);
        let (segment, index) = (part.segment, part.index);
        line(
            &mut open.text,
            format_args!(
                "#EXT-X-PART:DURATION={duration},URI=\"{segment}.{index}.m4s\"{attributes}"
            ),
        );
        open.duration += scale.duration(i64::try_from(part.duration).unwrap_or(i64::MAX));
        open.bytes += part.data.len();
        if part.index == 0 {
            open.keyframe_bytes = part.keyframe_bytes;
        }
        open.parts.push(part.data.clone());
        self.bytes += part.data.len();
        self.meter.open(open.bytes, open.duration);
    }

    /// Takes the end of a segment.
    pub(crate) fn segment(&mut self, segment: &Segment) {
        let open = match self.open.take() {
            Some(open) if open.number == segment.number => open,
            Some(open) => {
                self.open = Some(open);
                return;
            }
            None if self.segments.is_empty() || self.tip().segment == segment.number => {
                self.open(segment.number, segment.opening.clone())
            }
            None => return,
        };
        let scale = segment.start.scale();
        let duration = scale.duration(i64::try_from(segment.duration).unwrap_or(i64::MAX));
        let seconds = Seconds::new(segment.duration, scale);
        let number = segment.number;
        let gap = if segment.gap { "#EXT-X-GAP\n" } else { "" };
        let extinf = format!("{gap}#EXTINF:{seconds},\n");
        let head = &open.text[..open.head];
        let settled = Bytes::from(format!("{head}{extinf}{number}.m4s\n"));
        let text = match open.text.len() == open.head {
            true => settled.clone(),
            false => Bytes::from(format!("{}{extinf}{number}.m4s\n", open.text)),
        };
        let mut iframe = String::new();
        if matches!(self.rendition.track.format, media::Format::Video(_)) {
            iframe = format!("{head}{extinf}");
            if let Some(bytes) = open.keyframe_bytes {
                line(&mut iframe, format_args!("#EXT-X-BYTERANGE:{bytes}@0"));
            }
            line(&mut iframe, format_args!("{number}.m4s"));
            let bytes = usize::try_from(open.keyframe_bytes.unwrap_or(0)).unwrap_or(usize::MAX);
            self.meter.keyframe(bytes, duration, self.timing.target);
        }
        if !segment.gap {
            self.meter.segment(open.bytes, duration, self.timing.target);
        }
        self.segments.push_back(Stored {
            number,
            duration,
            gap: segment.gap,
            whole: open.parts.iter().cloned().collect(),
            parts: open.parts,
            prefix: open.prefix,
            text: settled.len(),
            iframe_text: iframe.len(),
            opening: open.opening,
            expires: Duration::MAX,
        });
        self.iframes.push(iframe.into());
        self.recent.push_back(Recent {
            text,
            settled,
            duration,
        });
        self.recent_duration += duration;
        self.elapsed += duration;
        self.listed += duration;
        self.settle();
    }

    /// Lists parts of the last three target durations only.
    fn settle(&mut self) {
        let keep = self.timing.target * PARTS_LISTED;
        while let Some(oldest) = self.recent.front() {
            let after = self.recent_duration - oldest.duration;
            if after < keep {
                break;
            }
            self.recent_duration = after;
            let oldest = self.recent.pop_front().expect("it was there");
            self.settled.push(oldest.settled);
        }
    }

    fn open(&mut self, number: u64, opening: Opening) -> Open {
        if let Some(used) = self.expected.iter().position(|init| *init == opening.init) {
            self.expected.drain(..=used);
        }
        let mut text = String::new();
        if let Some(last) = self.segments.back() {
            let breaks = last.opening.discontinuity != opening.discontinuity;
            if breaks {
                line(&mut text, format_args!("#EXT-X-DISCONTINUITY"));
            }
            if breaks || last.opening.init != opening.init {
                line(
                    &mut text,
                    format_args!("#EXT-X-MAP:URI=\"{}\"", opening.init),
                );
            }
        }
        let prefix = text.len();
        let date = DateTime(opening.utc);
        line(&mut text, format_args!("#EXT-X-PROGRAM-DATE-TIME:{date}"));
        Open {
            number,
            opening,
            prefix,
            head: text.len(),
            text,
            parts: Vec::new(),
            bytes: 0,
            duration: Duration::ZERO,
            keyframe_bytes: None,
        }
    }

    /// Whether there is anything to list.
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.open.is_none()
    }

    pub(crate) fn has_segment(&self) -> bool {
        !self.segments.is_empty()
    }

    pub(crate) fn tip(&self) -> Tip {
        let next = |last: &Stored| Tip {
            segment: last.number + 1,
            parts: 0,
        };
        let open = self.open.as_ref().map(|open| Tip {
            segment: open.number,
            parts: u32::try_from(open.parts.len()).unwrap_or(u32::MAX),
        });
        open.or(self.segments.back().map(next)).unwrap_or_default()
    }

    /// EXT-X-RENDITION-REPORT of this rendition, for the playlists of others.
    pub(crate) fn report(&self, out: &mut String) {
        let tip = self.tip();
        let (msn, part) = match (tip.parts.checked_sub(1), self.segments.back()) {
            (Some(part), _) => (tip.segment, part),
            (None, Some(last)) => (
                last.number,
                u32::try_from(last.parts.len())
                    .unwrap_or(0)
                    .saturating_sub(1),
            ),
            (None, None) => return,
        };
        let name = self.name();
        line(
            out,
            format_args!(
                "#EXT-X-RENDITION-REPORT:URI=\"../{name}/index.m3u8\",LAST-MSN={msn},LAST-PART={part}"
            ),
        );
    }

    /// The media playlist. `reports` are the lines about the other renditions.
    pub(crate) fn playlist(&self, delta: Delta, ended: bool, reports: &str) -> Rope {
        let skipped = match delta {
            // D 6.2.5.2: directives mean nothing once the playlist is final.
            _ if ended => 0,
            Delta::Full => 0,
            Delta::Skip | Delta::SkipV2 => self.skippable(),
        };
        let mut head = String::new();
        let version = if skipped > 0 { 9 } else { 6 };
        self.header(&mut head, version);
        let part_target = millis(self.rendition.part_target);
        line(
            &mut head,
            format_args!("#EXT-X-PART-INF:PART-TARGET={part_target}"),
        );
        line(
            &mut head,
            format_args!(
                "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={},HOLD-BACK={},PART-HOLD-BACK={}",
                millis(self.timing.target * SKIP_UNTIL),
                millis(self.timing.target * HOLD_BACK),
                millis(self.timing.part_hold_back),
            ),
        );
        self.sequence(&mut head);

        let cut = self.first_prefix();
        let mut slices = Vec::new();
        let mut recent = self.recent.iter().map(|recent| recent.text.clone());
        let open = self.open.as_ref().map_or("", |open| &open.text);
        let mut tail = String::new();
        if skipped > 0 {
            line(
                &mut head,
                format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"),
            );
            let settled = self.listed().skip(skipped).map(|segment| segment.text);
            let count = self.segments.len() - self.retired - skipped - self.recent.len();
            slices.extend(self.settled.tail(settled.take(count).sum()));
            tail.push_str(open);
        } else {
            self.map(&mut head);
            if !self.settled.is_empty() {
                slices.extend(self.settled.tail(self.settled.len() - cut));
                tail.push_str(open);
            } else if let Some(first) = recent.next() {
                slices.push(first.slice(cut..));
                tail.push_str(open);
            } else {
                tail.push_str(&open[cut..]);
            }
        }
        slices.extend(recent);
        if ended {
            line(&mut tail, format_args!("#EXT-X-ENDLIST"));
        } else {
            self.hints(&mut tail);
            tail.push_str(reports);
        }
        let head = std::iter::once(head.into());
        head.chain(slices)
            .chain(std::iter::once(tail.into()))
            .collect()
    }

    /// The I-frame playlist: the keyframe that begins each complete segment.
    pub(crate) fn iframes(&self, ended: bool) -> Option<Rope> {
        if !matches!(self.rendition.track.format, media::Format::Video(_)) || !self.has_segment() {
            return None;
        }
        let mut head = String::new();
        self.header(&mut head, 5);
        line(&mut head, format_args!("#EXT-X-I-FRAMES-ONLY"));
        self.sequence(&mut head);
        self.map(&mut head);
        let slices = self.iframes.tail(self.iframes.len() - self.first_prefix());
        let end = if ended { "#EXT-X-ENDLIST\n" } else { "" };
        let head = std::iter::once(head.into());
        let end = std::iter::once(Bytes::from_static(end.as_bytes()));
        Some(head.chain(slices).chain(end).collect())
    }

    fn header(&self, out: &mut String, version: u8) {
        line(out, format_args!("#EXTM3U"));
        line(out, format_args!("#EXT-X-VERSION:{version}"));
        let target = self.timing.target.as_secs();
        line(out, format_args!("#EXT-X-TARGETDURATION:{target}"));
        line(out, format_args!("#EXT-X-INDEPENDENT-SEGMENTS"));
    }

    /// Numbers of the first segment. Its own EXT-X-DISCONTINUITY, if any, is not listed: the number counts it.
    fn sequence(&self, out: &mut String) {
        if let Some((number, opening)) = self.first() {
            line(out, format_args!("#EXT-X-MEDIA-SEQUENCE:{number}"));
            let discontinuity = opening.discontinuity;
            line(
                out,
                format_args!("#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuity}"),
            );
        }
    }

    fn map(&self, out: &mut String) {
        if let Some((_, opening)) = self.first() {
            line(out, format_args!("#EXT-X-MAP:URI=\"{}\"", opening.init));
        }
    }

    /// The part that comes next, and before it the initialization segment if that is about to change (D 4.4.5.3).
    fn hints(&self, out: &mut String) {
        if !self.alive {
            return;
        }
        let used = self.open.as_ref().map(|open| &open.opening);
        let used = used.or(self.segments.back().map(|last| &last.opening));
        if used.is_some_and(|opening| opening.init != self.init) {
            let init = &self.init;
            line(
                out,
                format_args!("#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"{init}\""),
            );
        }
        let Tip { segment, parts } = self.tip();
        line(
            out,
            format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{segment}.{parts}.m4s\""),
        );
    }

    fn listed(&self) -> impl DoubleEndedIterator<Item = &Stored> {
        self.segments.range(self.retired..)
    }

    fn first(&self) -> Option<(u64, &Opening)> {
        let open = self.open.as_ref().map(|open| (open.number, &open.opening));
        let first = self.listed().next();
        first.map(|first| (first.number, &first.opening)).or(open)
    }

    fn first_prefix(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |open| open.prefix);
        self.listed().next().map_or(open, |first| first.prefix)
    }

    /// Listed segments that lie wholly farther from the end of the last complete one than the skip boundary (D
    /// 6.2.5.1). Looks only at those that do not.
    fn skippable(&self) -> usize {
        let boundary = self.timing.target * SKIP_UNTIL;
        let mut after = Duration::ZERO;
        let mut count = self.segments.len() - self.retired;
        for segment in self.listed().rev() {
            if after >= boundary {
                break;
            }
            after += segment.duration;
            count -= 1;
        }
        count
    }

    /// What `NUMBER[.INDEX].m4s` stands for. `ended` takes the hint back.
    pub(crate) fn object(&self, number: u64, index: Option<u32>, ended: bool) -> Object {
        let ready = |bytes: &Bytes| match bytes.is_empty() {
            true => Object::Unknown,
            false => Object::Ready(bytes.clone().into()),
        };
        let place = |index: u32| usize::try_from(index).unwrap_or(usize::MAX);
        let first = self.segments.front().map_or(number, |first| first.number);
        let at = number
            .checked_sub(first)
            .and_then(|at| usize::try_from(at).ok());
        let stored = at.and_then(|at| self.segments.get(at));
        match (stored, &self.open, index) {
            (Some(stored), _, None) if !stored.gap => Object::Ready(stored.whole.clone()),
            (Some(stored), _, Some(index)) => stored
                .parts
                .get(place(index))
                .map_or(Object::Unknown, ready),
            (None, Some(open), Some(index))
                if open.number == number && place(index) < open.parts.len() =>
            {
                ready(&open.parts[place(index)])
            }
            (None, _, Some(parts)) if self.alive && !ended && !self.is_empty() => {
                let hinted = Tip {
                    segment: number,
                    parts,
                } == self.tip();
                if hinted {
                    Object::Hinted
                } else {
                    Object::Unknown
                }
            }
            _ => Object::Unknown,
        }
    }

    /// Initialization segments that anything here still needs.
    pub(crate) fn needs_init(&self, name: &str) -> bool {
        let open = self.open.as_ref().map(|open| &open.opening);
        let stored = self.segments.iter().map(|segment| &segment.opening);
        let announced = self.expected.iter().chain([&self.init]);
        announced.into_iter().any(|init| **init == *name)
            || stored.chain(open).any(|opening| *opening.init == *name)
    }

    pub(crate) fn first_listed(&self) -> Option<u64> {
        self.listed().next().map(|first| first.number)
    }

    /// Complete segments listed, and their length.
    pub(crate) fn extent(&self) -> (usize, Duration) {
        (self.segments.len() - self.retired, self.listed)
    }

    /// Bytes of media held, and those of them no longer listed.
    pub(crate) const fn bytes(&self) -> (usize, usize) {
        (self.bytes, self.retired_bytes)
    }

    /// Whether what stays listed without the first segment is enough.
    pub(crate) fn can_retire(&self) -> bool {
        let (segments, targets) = LISTED_MIN;
        let first = self
            .listed()
            .next()
            .map_or(Duration::ZERO, |first| first.duration);
        let (count, listed) = self.extent();
        count > segments && listed - first >= self.timing.target * targets
    }

    /// Takes the first segment from the playlists. It can be had for its own length and that of the longest playlist
    /// it was in (D 6.2.2).
    pub(crate) fn retire(&mut self) {
        let Some(first) = self.segments.get_mut(self.retired) else {
            return;
        };
        first.expires = self.elapsed + first.duration + self.listed;
        self.listed -= first.duration;
        self.retired += 1;
        self.retired_bytes += first.whole.len();
        self.iframes.cut(first.iframe_text);
        if self.settled.is_empty() {
            if let Some(recent) = self.recent.pop_front() {
                self.recent_duration -= recent.duration;
            }
        } else {
            self.settled.cut(first.text);
        }
    }

    /// Forgets retired segments whose time is over.
    pub(crate) fn expire(&mut self) {
        while self.retired > 0
            && self
                .segments
                .front()
                .is_some_and(|s| s.expires <= self.elapsed)
        {
            self.forget();
        }
    }

    /// The oldest retired segment.
    pub(crate) fn oldest_retired(&self) -> Option<u64> {
        (self.retired > 0).then(|| self.segments.front().map(|first| first.number))?
    }

    /// Forgets the oldest retired segment.
    pub(crate) fn forget(&mut self) {
        if self.retired > 0
            && let Some(first) = self.segments.pop_front()
        {
            self.retired -= 1;
            self.retired_bytes -= first.whole.len();
            self.bytes -= first.whole.len();
        }
    }
}

/// Bit rates as measured.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    peak_bps: u64,
    keyframe_peak_bps: u64,
    open_bps: u64,
    bytes: u64,
    duration: Duration,
    /// Segments measured together, because one alone is short (D 4.4.6.2: half a target duration at least).
    run: (u64, Duration),
}

impl Meter {
    /// The highest rate of a complete segment, else that of the one in progress.
    pub(crate) fn peak_bps(&self) -> u64 {
        if self.peak_bps > 0 {
            self.peak_bps
        } else {
            self.open_bps
        }
    }

    /// Whether a whole segment was measured.
    pub(crate) const fn complete(&self) -> bool {
        self.peak_bps > 0
    }

    /// The highest rate of an I-frame playlist.
    pub(crate) const fn keyframe_peak_bps(&self) -> u64 {
        self.keyframe_peak_bps
    }

    pub(crate) fn average_bps(&self) -> u64 {
        if self.bytes > 0 {
            rate(self.bytes, self.duration)
        } else {
            self.open_bps
        }
    }

    fn open(&mut self, bytes: usize, duration: Duration) {
        self.open_bps = rate(u64::try_from(bytes).unwrap_or(u64::MAX), duration);
    }

    fn segment(&mut self, bytes: usize, duration: Duration, target: Duration) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        self.duration += duration;
        self.run = match duration < target / 2 {
            true => (self.run.0.saturating_add(bytes), self.run.1 + duration),
            false => (bytes, duration),
        };
        if self.run.1 >= target / 2 {
            self.peak_bps = self.peak_bps.max(rate(self.run.0, self.run.1));
            self.run = (bytes, duration);
        }
    }

    fn keyframe(&mut self, bytes: usize, duration: Duration, target: Duration) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let bps = rate(bytes, duration.max(target / 2));
        self.keyframe_peak_bps = self.keyframe_peak_bps.max(bps);
    }
}

/// Bits a second, rounded up.
fn rate(bytes: u64, duration: Duration) -> u64 {
    let bits = u128::from(bytes) * 8 * 1_000_000_000;
    let bps = bits.div_ceil(duration.as_nanos().max(1));
    u64::try_from(bps).unwrap_or(u64::MAX)
}

/// A whole number of milliseconds as seconds.
fn millis(duration: Duration) -> impl std::fmt::Display {
    let millis = duration.as_millis();
    std::fmt::from_fn(move |f| write!(f, "{}.{:03}", millis / 1_000, millis % 1_000))
}

/// Appends one line.
pub(super) fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes all text");
    out.push('\n');
}
