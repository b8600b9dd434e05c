//! The publisher's side: judging what it sends, and planning what goes out for it.

use std::time::{Duration, Instant};

use media::{AccessUnit, Event, Format, Name, Tracks, Utc};

use super::plan::Plan;
use super::{Judging, Stream};
use crate::passthrough::{Judge, Reason};
use crate::ring::Source;
use crate::segmenter::Cut;

/// Units of an unjudged source that may wait.
const JUDGE_BYTES_MAX: usize = 16 << 20;
/// How long a source may be judged, beyond a segment.
const JUDGE_SLACK: Duration = Duration::from_millis(500);

impl Stream {
    pub(super) fn tracks(&mut self, tracks: &Tracks, now: Instant, utc: Utc) {
        let find = |wanted: fn(&Format) -> bool| {
            tracks
                .iter()
                .find(move |track| wanted(&track.format))
                .cloned()
        };
        let source = Source {
            video: find(|format| matches!(format, Format::Video(_))),
            audio: find(|format| matches!(format, Format::Audio(_))),
        };
        let same = self
            .source
            .video
            .as_ref()
            .zip(source.video.as_ref())
            .is_some_and(|(old, new)| old.codec == new.codec);
        let event = Event::Tracks(tracks.clone());
        if same && let Some(judging) = &mut self.judging {
            self.source = source;
            judging.events.push((event, utc));
            return;
        }
        // A verdict that has not come by now is on a source that is gone.
        self.decide(None, now);
        self.source = source;
        if same {
            self.replan(self.plan.passed);
            self.segment(event, now, utc);
            return;
        }
        self.judge = None;
        self.refused = None;
        match self.candidate() {
            Some(Ok(judge)) => {
                self.judge = Some(judge);
                self.judging = Some(Judging {
                    since: now,
                    events: vec![(event, utc)],
                    bytes: 0,
                });
            }
            verdict => {
                self.refused = verdict.and_then(Result::err);
                self.replan(self.config.ladder.is_passthrough());
                self.segment(event, now, utc);
            }
        }
    }

    /// Whether the source could be its own top rung.
    pub(super) fn candidate(&self) -> Option<Result<Judge, Reason>> {
        let Format::Video(video) = self.source.video.as_ref()?.format else {
            return None;
        };
        let top = self
            .config
            .ladder
            .plan(&video, &self.names)
            .into_iter()
            .find(|rung| {
                // A rung kept above a source that has shrunk is not the source's.
                u32::from(rung.width.min(rung.height))
                    <= u32::from(video.width.min(video.height)) * 21 / 20
            })?;
        if !self.config.ladder.allows_passthrough() {
            return Some(Err(Reason::Configured));
        }
        let codec = &self.source.video.as_ref()?.codec;
        Some(Judge::new(
            codec,
            &video,
            &top,
            self.config.segment,
            self.config.part,
        ))
    }

    /// Listens to the source while it is judged.
    pub(super) fn hear(&mut self, event: &Event, now: Instant) {
        let Some(judge) = &mut self.judge else { return };
        let video = self.source.video.as_ref().map(|track| track.id);
        let verdict = match event {
            Event::Unit(unit) if Some(unit.track) == video => judge.watch(unit).err().map(Err),
            Event::Gap(_) => {
                judge.forget();
                None
            }
            Event::End => Some(Ok(())),
            _ => None,
        };
        let decided = judge.is_decided().then_some(Ok(()));
        if let Some(verdict) = verdict.or(decided) {
            self.decide(Some(verdict), now);
        }
    }

    /// Ends the judging of a source, if one is judged; without a verdict it is taken to have failed.
    pub(super) fn decide(&mut self, verdict: Option<Result<(), Reason>>, now: Instant) {
        let Some(judging) = self.judging.take() else {
            return;
        };
        match verdict.unwrap_or(Err(Reason::Group)) {
            Ok(()) => self.replan(true),
            Err(reason) => {
                self.judge = None;
                self.refused = Some(reason);
                self.replan(false);
            }
        }
        for (event, utc) in judging.events {
            self.segment(event, now, utc);
        }
    }

    /// Makes a new plan for the source; it holds from the next mark.
    pub(super) fn replan(&mut self, passed: bool) {
        let plan = Plan::new(&self.config.ladder, &self.source, &self.names, passed);
        for rung in &plan.rungs {
            if let Ok(name) = rung.name.parse::<Name>()
                && !self.names.contains(&name)
            {
                self.names.push(name);
            }
        }
        let passes = plan.passed || self.config.ladder.is_passthrough();
        self.segmenter
            .set_cut(if passes { Cut::Keyframes } else { Cut::Clock });
        self.plan = plan;
        self.changed = true;
    }

    /// Watches what is passed through; takes it back when it breaks its promises.
    pub(super) fn watch(&mut self, unit: &AccessUnit) {
        if !self.plan.passed {
            return;
        }
        let broken = match &mut self.judge {
            // A source that was judged before its first event went on is watched from there again.
            Some(judge) if judge.is_new_to(unit) => judge.watch(unit).err(),
            _ => None,
        };
        let broken = broken.or_else(|| self.segmenter.overdue(unit.pts).then_some(Reason::Group));
        if let Some(reason) = broken {
            self.revoke(reason);
        }
    }

    pub(super) fn revoke(&mut self, reason: Reason) {
        self.judge = None;
        self.refused = Some(reason);
        self.replan(false);
    }

    /// Ends the judging of a source that takes too long or too much.
    pub(super) fn judge_in_time(&mut self, now: Instant) {
        if let Some(judging) = &self.judging {
            let long = now.duration_since(judging.since) > self.config.segment + JUDGE_SLACK;
            if long || judging.bytes > JUDGE_BYTES_MAX {
                self.decide(None, now);
            }
        }
    }
}
