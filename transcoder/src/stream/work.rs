//! The worker's side: what it is asked for and told, where it begins, and what happens when it ends.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use media::{AccessUnit, Event, Rational, Rounding, Segment, Timescale, Timestamp, Track, TrackId};

use super::plan::SoundPlan;
use super::{Order, Stream, Worker};
use crate::headroom;
use crate::ipc::{Command, Fill, Job, Message, Report, Sound};
use crate::restart::{Begin, Death};
use crate::ring::{Item, Source};

/// Pictures told to a worker and not yet worked off, at most.
const AHEAD: Duration = Duration::from_secs(1);
/// What waits for a worker that cannot keep pace is bounded: so much beyond what costs it rungs. Then whole groups of
/// pictures are left out.
const BEHIND_SLACK: Duration = Duration::from_millis(1_300);
/// A worker with work to do that finishes none of it for so long hangs.
const HANG: Duration = Duration::from_millis(1_800);
/// A worker that has finished nothing for so long is not slow but still.
const STILL: Duration = Duration::from_millis(400);
/// A worker is ready after so long or never.
const READY: Duration = Duration::from_secs(8);

pub(super) struct Running {
    pub(super) ready: bool,
    since: Instant,
    /// The next places of the ring that it has not been told.
    pictures: u64,
    sounds: u64,
    /// What of the source it knows.
    knows: Source,
    told: u64,
    /// Decode time of the first and the newest picture told, in 90 kHz ticks.
    told_pictures: Option<(i64, i64)>,
    pub(super) report: Report,
    moved: Instant,
    /// Its first mark: earlier ones are not for it.
    from: u64,
    /// Pictures are left out until the next keyframe.
    skipping: bool,
    /// It has been told of the end.
    finishing: bool,
    progress: VecDeque<(Instant, i64)>,
}

impl Running {
    fn tell_unit(&mut self, unit: &AccessUnit, orders: &mut VecDeque<Order>, now: Instant) {
        if self.told <= self.report.units {
            // It had nothing to do until now.
            self.moved = now;
        }
        self.told += 1;
        let dts = unit.dts.rescale(Timescale::VIDEO, Rounding::Up).ticks();
        if self
            .knows
            .video
            .as_ref()
            .is_some_and(|video| video.id == unit.track)
        {
            self.told_pictures = Some((self.told_pictures.map_or(dts, |(first, _)| first), dts));
        }
        let command = if unit.data.is_empty() {
            Command::Fill(Fill {
                track: unit.track.0,
                at: unit.pts.ticks(),
                duration: unit.duration,
            })
        } else {
            Command::Event(Event::Unit(unit.clone()))
        };
        orders.push_back(Order::Tell(command));
    }

    /// How far what it was told is ahead of what it has worked off.
    fn ahead(&self) -> Duration {
        let Some((first, newest)) = self.told_pictures else {
            return Duration::ZERO;
        };
        let reached = self.report.reached.max(first);
        Timescale::VIDEO.duration(newest - reached)
    }

    /// Tells it of a new source.
    fn learn(&mut self, source: Source, orders: &mut VecDeque<Order>) {
        if self.knows == source {
            return;
        }
        // Whatever the publisher calls them, their names differ here.
        let named = |track: &Option<Track>, name: &str| {
            let name = name.parse().expect("letters are a name");
            track.clone().map(|track| Track { name, ..track })
        };
        let tracks: Vec<Track> = named(&source.video, "picture")
            .into_iter()
            .chain(named(&source.audio, "sound"))
            .collect();
        self.knows = source;
        orders.push_back(Order::Tell(Command::Event(Event::Tracks(tracks.into()))));
    }

    /// Seconds of media worked off in a second.
    pub(super) fn ratio(&self) -> Option<f64> {
        let ((then, from), (now, to)) = (self.progress.front()?, self.progress.back()?);
        let wall = now.duration_since(*then).as_secs_f64();
        let media = Timescale::VIDEO.duration(to - from).as_secs_f64();
        (wall > 0.5).then(|| media / wall)
    }
}

impl Stream {
    /// What the worker should make from a mark on, the machine and the worker's health permitting.
    pub(super) fn wanted_job(&mut self, from: u64, now: Instant) -> Option<Job> {
        let alone = match &self.worker {
            Worker::Pause { begin, .. } | Worker::Asked { begin } => *begin == Begin::Alone,
            Worker::None | Worker::Running(_) => false,
        };
        if alone {
            return None;
        }
        let less = usize::from(self.budget.is_spent(now));
        let level = self.headroom.level().max(less);
        let rungs = headroom::reduce(
            self.plan.encoded(),
            level,
            self.plan
                .frame_rate
                .map_or(30, |rate| rate.num() / rate.den()),
        );
        let sound = match &self.plan.sound {
            SoundPlan::Encoded => Some(Sound {
                track: self.config.ladder.audio_track().0,
                bitrate_bps: self.config.ladder.audio_bps(),
            }),
            SoundPlan::None | SoundPlan::Passed(_) => None,
        };
        if rungs.is_empty() && sound.is_none() {
            return None;
        }
        let pause_max = Timescale::VIDEO.ticks(self.config.part);
        Some(Job {
            from,
            rungs,
            sound,
            pause_max,
            frame_rate: self
                .plan
                .frame_rate
                .map(|rate| at_least(rate, self.config.part)),
        })
    }

    pub(super) fn set_job(&mut self, job: Option<Job>) {
        self.job = job;
        match (&self.job, &mut self.worker) {
            (Some(job), Worker::Running(_)) => self
                .orders
                .push_back(Order::Tell(Command::Job(job.clone()))),
            (Some(_), Worker::None) => self.ask(Begin::Replay),
            (None, Worker::Running(_)) => {
                let idle = Job {
                    from: 0,
                    rungs: Vec::new(),
                    sound: None,
                    pause_max: 1,
                    frame_rate: None,
                };
                self.orders.push_back(Order::Tell(Command::Job(idle)));
            }
            _ => {}
        }
    }

    pub(super) fn ask(&mut self, begin: Begin) {
        self.worker = Worker::Asked { begin };
        self.orders.push_back(Order::Start);
    }

    /// A worker runs and listens.
    pub(crate) fn started(&mut self, now: Instant) {
        let Worker::Asked { begin } = self.worker else {
            return;
        };
        let place = self.resume(begin);
        let (place, number) = match place {
            Some((place, mark)) => (place, mark.number),
            // Nothing to begin with yet: it begins with what comes, in the segment that is open.
            None => (
                self.ring.end(),
                self.segmenter.last().map_or(0, |mark| mark.number),
            ),
        };
        self.run(place, number, now);
        self.pump(now);
    }

    /// Where a new worker begins.
    pub(super) fn resume(&self, begin: Begin) -> Option<(u64, Segment)> {
        match begin {
            Begin::Replay => {
                let job = self.job.as_ref()?;
                let tracks = job
                    .rungs
                    .iter()
                    .map(|rung| rung.id())
                    .chain(job.sound.map(|sound| TrackId(sound.track)));
                let number = tracks.map(|id| {
                    let begun = self.begun.get(&id).copied().unwrap_or(job.from);
                    // A moment before what went out last: sound is primed by what comes before it.
                    let last = self
                        .gate
                        .delivered(id)
                        .and_then(|time| self.ring.number_at(before(time)));
                    last.map_or(begun, |last| last.max(begun))
                });
                self.ring.replay(number.min()?)
            }
            Begin::Skip | Begin::Less | Begin::Alone => {
                self.ring.skip(self.ring.end().saturating_sub(1))
            }
        }
    }

    pub(super) fn run(&mut self, place: u64, from: u64, now: Instant) {
        let mut running = Running {
            ready: false,
            since: now,
            pictures: place,
            sounds: place,
            knows: Source::default(),
            told: 0,
            told_pictures: None,
            report: Report::default(),
            moved: now,
            from,
            skipping: false,
            finishing: false,
            progress: VecDeque::new(),
        };
        running.learn(self.ring.source_at(place).clone(), &mut self.orders);
        if let Some(job) = &self.job {
            // The mark it begins with may be older than the one that the job was made for.
            let from = from.min(job.from);
            self.orders.push_back(Order::Tell(Command::Job(Job {
                from,
                ..job.clone()
            })));
        }
        // The mark may stand before the first picture told.
        if let Some((at, mark)) = self.mark_before(place, from) {
            debug_assert!(at < place);
            self.orders
                .push_back(Order::Tell(Command::Event(Event::Segment(mark))));
            running.from = mark.number + 1;
        }
        self.headroom.restarted(now);
        self.worker = Worker::Running(Box::new(running));
    }

    pub(super) fn mark_before(&self, place: u64, number: u64) -> Option<(u64, Segment)> {
        let places = (self.ring.start()..place).rev();
        places
            .filter_map(|at| Some((at, self.ring.get(at)?)))
            .find_map(|(at, item)| match item {
                Item::Mark(mark) if mark.number == number => Some((at, *mark)),
                _ => None,
            })
    }

    /// Tells the worker what it has not been told, as far as it keeps pace.
    pub(super) fn pump(&mut self, now: Instant) {
        let behind = self.behind();
        let behind_max = self.config.lag_max + BEHIND_SLACK;
        let Worker::Running(running) = &mut self.worker else {
            return;
        };
        let end = self.ring.end();
        // Sound first: it costs little, and whoever hears it does not care how far the pictures are.
        while running.sounds < end {
            match self.ring.get(running.sounds) {
                Some(Item::Sound(unit)) => running.tell_unit(unit, &mut self.orders, now),
                Some(Item::Source(source)) => {
                    let audio = source.audio.clone();
                    running.learn(
                        Source {
                            audio,
                            ..running.knows.clone()
                        },
                        &mut self.orders,
                    );
                }
                _ => {}
            }
            running.sounds += 1;
        }
        if behind > behind_max && now.duration_since(running.since) > headroom::CATCH_UP {
            running.skipping = true;
        }
        running.pictures = running.pictures.max(self.ring.start());
        while running.pictures < end && running.ahead() < AHEAD {
            match self.ring.get(running.pictures) {
                Some(Item::Picture(unit)) => {
                    let near = behind <= behind_max / 2;
                    running.skipping &= !(unit.keyframe
                        && (near || self.ring.is_newest_keyframe(running.pictures)));
                    if running.skipping {
                        self.counts.skipped += 1;
                    } else {
                        running.tell_unit(unit, &mut self.orders, now);
                    }
                }
                Some(Item::Source(source)) => {
                    let video = source.video.clone();
                    running.learn(
                        Source {
                            video,
                            ..running.knows.clone()
                        },
                        &mut self.orders,
                    );
                }
                Some(Item::Mark(mark)) if mark.number >= running.from => {
                    self.orders
                        .push_back(Order::Tell(Command::Event(Event::Segment(*mark))));
                }
                _ => {}
            }
            running.pictures += 1;
        }
        self.ring.keep_from(Some(running.pictures));
        if self.ended && !running.finishing && running.pictures >= end && running.sounds >= end {
            self.orders
                .push_back(Order::Tell(Command::Event(Event::End)));
            running.finishing = true;
        }
    }

    /// How far the worker is behind the source.
    pub(super) fn behind(&self) -> Duration {
        let Worker::Running(running) = &self.worker else {
            return Duration::ZERO;
        };
        let Some(newest) = self.ring.newest_picture() else {
            return Duration::ZERO;
        };
        let reached = Timestamp::new(running.report.reached, Timescale::VIDEO);
        if running.report.units == 0 {
            return Duration::ZERO;
        }
        newest.since(reached).unwrap_or_default()
    }

    /// The worker said something.
    pub(crate) fn message(&mut self, message: Message, now: Instant) {
        let Worker::Running(running) = &mut self.worker else {
            return;
        };
        match message {
            Message::Ready(ready) => {
                running.ready = true;
                running.moved = now;
                if !ready.fully {
                    tracing::warn!(
                        "this kernel lacks Landlock or a part of it; seccomp alone confines the worker"
                    );
                }
            }
            Message::Report(report) => {
                if report.units > running.report.units {
                    running.moved = now;
                }
                running.report = report;
                if report.units > 0 {
                    running.progress.push_back((now, report.reached));
                }
                while running
                    .progress
                    .front()
                    .is_some_and(|(at, _)| now.duration_since(*at) > Duration::from_secs(3))
                {
                    running.progress.pop_front();
                }
            }
            Message::Event(Event::Tracks(tracks)) => {
                let asked = |id: TrackId| self.job.as_ref().is_some_and(|job| job.has(id));
                let known = |id: TrackId| self.gate.told().iter().any(|told| told.id == id);
                if tracks
                    .iter()
                    .all(|track| asked(track.id) || known(track.id))
                {
                    self.gate.made(&tracks);
                } else {
                    self.kill(Death::Protocol);
                }
            }
            Message::Event(Event::Unit(unit)) => {
                running.moved = now;
                self.gate.encoded(unit);
            }
            Message::Event(_) => self.kill(Death::Protocol),
            Message::Failed(failed) => {
                let reason: String = failed
                    .reason
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(200)
                    .collect();
                tracing::warn!(reason, "the worker gave up");
            }
        }
        self.pump(now);
    }

    pub(super) fn kill(&mut self, death: Death) {
        self.orders.push_back(Order::Kill(death));
    }

    /// The worker is gone; with no `death` it had finished.
    pub(crate) fn died(&mut self, death: Option<Death>, now: Instant) {
        if let Worker::Running(running) = &self.worker {
            self.counts.cpu += Duration::from_micros(running.report.cpu_micros);
            self.counts.memory = running.report.memory;
            self.counts.damaged += running.report.damaged;
            self.counts.repeated += running.report.repeated;
        }
        self.orders.retain(|order| matches!(order, Order::Start));
        if self.ended && death.is_none() {
            self.finish();
            return;
        }
        let death = death.unwrap_or(Death::Failure);
        *self.counts.restarts.entry(death).or_default() += 1;
        let (pause, begin) = self.budget.died(now);
        tracing::warn!(reason = death.as_str(), ?begin, "worker died");
        if begin == Begin::Alone && self.ended {
            self.finish();
            return;
        }
        if matches!(begin, Begin::Less | Begin::Alone) {
            self.changed = true;
        }
        if begin == Begin::Less {
            let from = self.segmenter.last().map_or(0, |mark| mark.number + 1);
            self.job = self.wanted_job(from, now);
        }
        if begin == Begin::Alone {
            self.gate.worker_died();
        }
        self.worker = Worker::Pause {
            until: now + pause,
            begin,
        };
        self.tick(now, true);
    }

    /// Time passes. Call it several times a second. `listens` says whether what the worker says is heard at present.
    pub(crate) fn tick(&mut self, now: Instant, listens: bool) {
        self.gate.tick(now);
        if self.spent != self.budget.is_spent(now) {
            self.spent = !self.spent;
            self.changed = true;
        }
        match &mut self.worker {
            Worker::Pause { until, begin } if now >= *until => {
                let begin = *begin;
                if begin == Begin::Alone {
                    // Once more, with all of it, from the next keyframe on.
                    self.changed = true;
                    self.worker = Worker::Asked { begin: Begin::Skip };
                    let from = self.segmenter.last().map_or(0, |mark| mark.number + 1);
                    self.job = self.wanted_job(from, now);
                }
                self.ask(if begin == Begin::Alone {
                    Begin::Skip
                } else {
                    begin
                });
            }
            Worker::Running(running) => {
                if !listens {
                    // It may have said much that waits in its socket.
                    running.moved = now;
                }
                let ready = running.ready || now.duration_since(running.since) < READY;
                let idle = running.told <= running.report.units && !self.ended;
                if !ready || (running.ready && !idle && now.duration_since(running.moved) >= HANG) {
                    self.kill(Death::Hang);
                }
                self.adapt(now);
            }
            _ => {}
        }
        self.pump(now);
    }

    /// Gives rungs up or takes them back as the worker keeps pace or does not.
    pub(super) fn adapt(&mut self, now: Instant) {
        if let Worker::Running(running) = &self.worker
            && now.duration_since(running.moved) > STILL
        {
            // It hangs, or has nothing to do: neither says how fast it is.
            return;
        }
        let lag = self.behind();
        let levels = headroom::levels(self.plan.encoded().len());
        if self.headroom.observe(now, lag, levels) {
            self.changed = true;
        }
    }
}

/// The rate of a source whose pauses are filled.
fn at_least(rate: Rational, part: Duration) -> (u32, u32) {
    let filled = u32::try_from(part.as_millis() * 4 / 5)
        .unwrap_or(u32::MAX)
        .max(1);
    let slow = u64::from(rate.num()) * u64::from(filled) < u64::from(rate.den()) * 1_000;
    if slow {
        (1_000, filled)
    } else {
        (rate.num(), rate.den())
    }
}

fn before(time: Timestamp) -> Timestamp {
    let moment = time.scale().ticks(Duration::from_millis(100));
    time.checked_add(-moment).unwrap_or(time)
}
