//! The publisher's side: judging what it sends, and planning what goes out for it.

use std::time::Instant;

use media::{AccessUnit, Event, Format, Name, Tracks, Utc};

use super::Stream;
use super::plan::Plan;
use crate::passthrough::{Judge, Reason};
use crate::ring::Source;
use crate::segmenter::Cut;

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
        self.source = source;
        if same {
            self.replan(self.plan.passed);
        } else {
            // What its configuration allows goes out at once: nobody waits a whole group of pictures for the verdict
            // on it, which takes it back at a mark if need be.
            let verdict = self.candidate();
            let passed = verdict.as_ref().is_some_and(Result::is_ok);
            (self.judge, self.refused) = match verdict {
                Some(Ok(judge)) => (Some(judge), None),
                Some(Err(reason)) => (None, Some(reason)),
                None => (None, None),
            };
            self.replan(passed || self.config.ladder.is_passthrough());
        }
        self.segment(Event::Tracks(tracks.clone()), now, utc);
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
        let track = self.source.video.as_ref()?;
        Some(Judge::new(
            track,
            &video,
            &top,
            self.config.segment,
            self.config.part,
        ))
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
            Some(judge) => judge.watch(unit).err(),
            None => None,
        };
        let broken = broken.or_else(|| self.segmenter.overdue(unit.pts).then_some(Reason::Group));
        if let Some(reason) = broken {
            self.revoke(reason);
        }
    }

    pub(super) fn revoke(&mut self, reason: Reason) {
        tracing::info!(%reason, "the publisher's picture is no longer passed through");
        self.judge = None;
        self.refused = Some(reason);
        self.replan(false);
    }
}
