//! One stream between its publisher and its worker: the supervisor without its sockets and clocks.
//!
//! Events of the publisher and messages of the worker come in; events for the reader, commands for the worker, and
//! orders to start or end one come out.

mod plan;
mod source;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use media::{AccessUnit, Event, Format, Name, Segment, Track, TrackId, Utc};

use crate::Ladder;
use crate::gate::{Encoding, Gate, Wanted};
use crate::headroom::Headroom;
use crate::ipc::{Command, Job, Report};
use crate::passthrough::{Judge, Reason};
use crate::restart::{Begin, Budget, Death};
use crate::ring::{Item, Ring, Source};
use crate::segmenter::{self, Cut, First, Segmenter};
use crate::status::{Rung, Status};

use plan::{Plan, SoundPlan};
use work::Running;

/// What one stream is told.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) ladder: Ladder,
    pub(crate) segment: Duration,
    pub(crate) part: Duration,
    pub(crate) lag_max: Duration,
    pub(crate) first: First,
}

/// What the driver must do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Start a worker and call [`Stream::started`].
    Start,
    /// End the worker, for this reason.
    Kill(Death),
    /// Tell the worker.
    Tell(Command),
}

/// One stream.
pub(crate) struct Stream {
    config: Config,
    segmenter: Segmenter,
    ring: Ring,
    gate: Gate,
    budget: Budget,
    headroom: Headroom,
    orders: VecDeque<Order>,
    source: Source,
    plan: Plan,
    /// Watches what is passed through.
    judge: Option<Judge>,
    /// Why the publisher's bitstream is not the top rung.
    refused: Option<Reason>,
    /// What the worker was last told to make, and from which mark.
    job: Option<Job>,
    /// The mark from which each of the job's tracks is encoded as it is now.
    begun: BTreeMap<TrackId, u64>,
    /// Tracks that the next mark must declare.
    changed: bool,
    worker: Worker,
    counts: Counts,
    ended: bool,
    /// The restart budget was spent when last looked at.
    spent: bool,
    /// Rungs that have gone out once: they stay.
    names: Vec<Name>,
}

#[derive(Default)]
struct Counts {
    restarts: BTreeMap<Death, u64>,
    /// Of workers that are gone.
    cpu: Duration,
    memory: u64,
    skipped: u64,
    damaged: u64,
    repeated: u64,
}

enum Worker {
    /// There is nothing to encode.
    None,
    /// One will be started then.
    Pause {
        until: Instant,
        begin: Begin,
    },
    /// One was asked for.
    Asked {
        begin: Begin,
    },
    Running(Box<Running>),
}

impl Stream {
    pub(crate) fn new(config: Config) -> Self {
        let cut = if config.ladder.is_passthrough() {
            Cut::Keyframes
        } else {
            Cut::Clock
        };
        let told = segmenter::Config {
            segment: config.segment,
            part: config.part,
            first: config.first,
        };
        Self {
            segmenter: Segmenter::new(told, cut),
            ring: Ring::default(),
            gate: Gate::default(),
            budget: Budget::default(),
            headroom: Headroom::new(config.lag_max),
            orders: VecDeque::new(),
            source: Source::default(),
            plan: Plan::default(),
            judge: None,
            refused: None,
            job: None,
            begun: BTreeMap::new(),
            changed: false,
            worker: Worker::None,
            counts: Counts::default(),
            ended: false,
            spent: false,
            names: Vec::new(),
            config,
        }
    }

    /// The next event for the reader.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.gate.pop()
    }

    /// Events that wait for the reader.
    pub(crate) fn waiting(&self) -> usize {
        self.gate.waiting()
    }

    /// What the driver must do next.
    pub(crate) fn order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// The publisher is through.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// The publisher is through and everything that can come out has.
    pub(crate) fn is_over(&self) -> bool {
        self.ended && matches!(self.worker, Worker::None)
    }

    /// An event of the publisher arrived.
    pub(crate) fn event(&mut self, event: Event, now: Instant, utc: Utc) {
        if self.ended {
            return;
        }
        match event {
            Event::Tracks(tracks) => self.tracks(&tracks, now, utc),
            event => self.segment(event, now, utc),
        }
        self.pump(now);
    }

    /// Gives one event to the segmenter and what comes of it to everyone else.
    fn segment(&mut self, event: Event, now: Instant, utc: Utc) {
        let video = self.source.video.as_ref().map(|track| track.id);
        if let Event::Unit(unit) = &event
            && Some(unit.track) == video
        {
            self.watch(unit);
        }
        if let (Event::Gap(_), Some(judge)) = (&event, &mut self.judge) {
            judge.forget();
        }
        let mut out = Vec::new();
        self.segmenter.push(event, utc, &mut out);
        for event in out {
            match event {
                Event::Tracks(_) => self.keep(Item::Source(Box::new(self.source.clone()))),
                Event::Segment(mark) => self.mark(mark, now),
                Event::Unit(unit) => self.unit(unit, video),
                Event::Gap(gap) => self.gate.other(Event::Gap(gap)),
                Event::End => self.end(),
            }
        }
    }

    fn mark(&mut self, mark: Segment, now: Instant) {
        self.keep(Item::Mark(mark));
        let due = self.changed || self.gate.is_stale();
        if !due {
            self.gate.mark(mark, None, now);
            return;
        }
        self.changed = false;
        let job = self.wanted_job(mark.number, now);
        let wanted = self.wanted(job.as_ref());
        let before: Vec<Encoding> = self.job.iter().flat_map(Job::encodings).collect();
        for encoding in job.iter().flat_map(Job::encodings) {
            if !before.contains(&encoding) {
                self.begun.insert(encoding.id, mark.number);
            }
        }
        self.set_job(job);
        self.gate.mark(mark, Some(wanted), now);
    }

    /// The tracks that go out under a job, in the order of their numbers: rungs from the highest down, then the sound.
    fn wanted(&self, job: Option<&Job>) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = self
            .plan
            .picture
            .iter()
            .cloned()
            .map(Wanted::Passed)
            .collect();
        wanted.extend(
            job.iter()
                .flat_map(|job| job.encodings())
                .map(Wanted::Encoded),
        );
        if let SoundPlan::Passed(track) = &self.plan.sound {
            wanted.push(Wanted::Passed(track.clone()));
        }
        wanted.sort_by_key(Wanted::id);
        wanted
    }

    fn unit(&mut self, unit: AccessUnit, video: Option<TrackId>) {
        if Some(unit.track) == video {
            if let Some(track) = &self.plan.picture
                && !unit.data.is_empty()
            {
                self.gate.passed(AccessUnit {
                    track: track.id,
                    ..unit.clone()
                });
            }
            if unit.data.is_empty() && self.plan.passed && self.plan.picture.is_some() {
                self.revoke(Reason::Pause);
            }
            self.keep(Item::Picture(unit));
            return;
        }
        if let SoundPlan::Passed(track) = &self.plan.sound {
            let data = if unit.data.is_empty() {
                plan::silence(&track.codec)
            } else {
                Some(unit.data.clone())
            };
            if let Some(data) = data {
                self.gate.passed(AccessUnit {
                    track: track.id,
                    data,
                    ..unit
                });
            }
            return;
        }
        self.keep(Item::Sound(unit));
    }

    /// Keeps what a worker may need; where there never is one, nothing.
    fn keep(&mut self, item: Item) {
        if !self.config.ladder.is_passthrough() {
            self.ring.push(item);
        }
    }

    fn end(&mut self) {
        self.ended = true;
        if matches!(
            self.worker,
            Worker::None
                | Worker::Pause {
                    begin: Begin::Alone,
                    ..
                }
        ) {
            self.finish();
        }
    }

    fn finish(&mut self) {
        self.gate.flush();
        self.gate.other(Event::End);
        self.worker = Worker::None;
    }

    /// The stream as people are told of it.
    pub(crate) fn status(&mut self, now: Instant) -> Status {
        let (report, ratio) = match &self.worker {
            Worker::Running(running) => (running.report, running.ratio()),
            _ => (Report::default(), None),
        };
        let passed = self.plan.picture.as_ref().map(|track| track.id);
        let rung = |track: &Track| match track.format {
            Format::Video(video) => Some(Rung {
                name: track.name.clone(),
                codec: track.codec.name(),
                width: video.width,
                height: video.height,
                bitrate_bps: track.bandwidth.map(|bandwidth| bandwidth.average_bps),
                passthrough: Some(track.id) == passed,
            }),
            Format::Audio(_) => None,
        };
        let rungs: Vec<Rung> = self.gate.told().iter().filter_map(rung).collect();
        let mut warnings = Vec::new();
        if let Some(reason) = self.refused.filter(|reason| *reason != Reason::Configured) {
            warnings.push(format!(
                "The top rung is encoded instead of passed through: {reason}."
            ));
        }
        if self.headroom.level() > 0 {
            warnings.push(
                "The machine is too busy: the ladder is reduced until there is room.".to_owned(),
            );
        }
        let degraded = self.budget.is_spent(now);
        if degraded {
            warnings.push("Workers keep failing on this stream: the ladder is reduced.".to_owned());
        }
        let damaged = self.counts.damaged + report.damaged;
        if damaged > 0 {
            warnings.push(format!(
                "{damaged} units of the source could not be decoded."
            ));
        }
        Status {
            rungs,
            passthrough: passed.is_some(),
            degraded: degraded || self.headroom.level() > 0,
            restarts: self.counts.restarts.clone(),
            cpu: self.counts.cpu + Duration::from_micros(report.cpu_micros),
            memory: if report.memory > 0 {
                report.memory
            } else {
                self.counts.memory
            },
            realtime_ratio: ratio,
            dropped_frames: self.counts.skipped + report.dropped + self.segmenter.counts().dropped,
            repeated_frames: self.counts.repeated + report.repeated,
            damaged_units: damaged,
            lag: self.behind(),
            segment: self.segmenter.last().map(|mark| mark.number),
            warnings,
        }
    }
}

#[cfg(test)]
mod tests;
