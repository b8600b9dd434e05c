use media::bitstream::aac;
use media::{Audio, Bandwidth, Codec, Rational, Timescale, Timestamp, Video};

use super::*;
use crate::fixtures;
use crate::ipc::{Message, Ready};
use crate::ladder;

const VIDEO: TrackId = TrackId(0);
const SOUND: TrackId = TrackId(1);

/// A stream with a publisher, a worker and a clock that a test moves.
struct Bench {
    stream: Stream,
    now: Instant,
    /// Milliseconds since the start.
    time: i64,
    worker: Option<Pretended>,
    starts: usize,
    kills: Vec<Death>,
    out: Vec<Event>,
    /// Pictures from one keyframe to the next.
    keyframes: i64,
}

/// A worker that encodes in no time, as far as it is let.
#[derive(Default)]
struct Pretended {
    told: Vec<Command>,
    /// Units of every kind that were told, and that are worked off.
    units: Vec<(Option<TrackId>, i64)>,
    done: usize,
    job: Option<Job>,
    marks: Vec<Segment>,
    open: Vec<u8>,
}

impl Bench {
    fn new(passthrough: bool) -> Self {
        let rung = |height, bitrate_bps| ladder::Rung {
            height,
            bitrate_bps,
            frame_rate_max: None,
        };
        let rungs = vec![
            rung(720, 1_200_000),
            rung(480, 750_000),
            rung(360, 400_000),
            rung(240, 150_000),
        ];
        let config = Config {
            ladder: Ladder::new(rungs, passthrough, 128_000).expect("a ladder"),
            segment: Duration::from_secs(2),
            part: Duration::from_millis(250),
            lag_max: Duration::from_millis(700),
            first: First::default(),
        };
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let (kills, out) = (Vec::new(), Vec::new());
        Self {
            stream: Stream::new(config),
            now,
            time: 0,
            worker: None,
            starts: 0,
            kills,
            out,
            keyframes: 60,
        }
    }

    fn begin(&mut self, rate: u32) {
        let config = fixtures::h264(720);
        let video = Video {
            frame_rate: Rational::new(30, 1),
            ..config.video()
        };
        let sound = aac::Config::lc(rate, 2).expect("a usual rate");
        let scale = Timescale::new(rate).expect("not zero");
        let track = |id, name: &str, codec, format, timescale| {
            let name = name.parse().expect("a name");
            Track {
                id,
                name,
                codec,
                format,
                timescale,
                bandwidth: None,
            }
        };
        let tracks = [
            track(
                VIDEO,
                "video",
                Codec::H264(config),
                Format::Video(video),
                Timescale::VIDEO,
            ),
            track(
                SOUND,
                "audio",
                Codec::Aac(sound),
                Format::Audio(Audio {
                    sample_rate: rate,
                    channels: 2,
                }),
                scale,
            ),
        ];
        self.event(Event::Tracks(tracks.into()));
    }

    fn event(&mut self, event: Event) {
        let utc = Utc::from_unix_micros(1_000_000_000 + self.time * 1_000);
        self.stream.event(event, self.clock(), utc);
        self.settle();
    }

    fn clock(&self) -> Instant {
        self.now + Duration::from_millis(self.time.unsigned_abs())
    }

    /// The publisher goes on for so many milliseconds; the worker keeps pace when `pace` is 100, percent of it.
    fn play(&mut self, millis: i64, pace: i64) {
        let until = self.time + millis;
        while self.time < until {
            if self.time % 33 == 0 {
                let n = self.time / 33;
                let at = Timestamp::new(n * 2_970, Timescale::VIDEO);
                let data = bytes::Bytes::from(vec![0; 2_000]);
                let keyframe = n % self.keyframes == 0;
                self.event(Event::Unit(AccessUnit {
                    track: VIDEO,
                    dts: at,
                    pts: at,
                    duration: 2_970,
                    keyframe,
                    data,
                }));
            }
            if self.time % 21 == 0 {
                let at = Timestamp::new(
                    self.time / 21 * 1_024,
                    Timescale::new(48_000).expect("not zero"),
                );
                let data = bytes::Bytes::from_static(&[0; 300]);
                let unit = AccessUnit {
                    track: SOUND,
                    dts: at,
                    pts: at,
                    duration: 1_024,
                    keyframe: true,
                    data,
                };
                self.event(Event::Unit(unit));
            }
            self.time += 1;
            if self.time % 50 == 0 {
                self.work(pace);
                self.stream.tick(self.clock(), true);
                self.settle();
            }
        }
    }

    /// The worker works off what it was told: all of it, or a share of what real time asks for.
    fn work(&mut self, pace: i64) {
        let Some(worker) = &mut self.worker else {
            return;
        };
        if pace == 0 {
            return;
        }
        let all = worker.units.len();
        let share = if pace >= 100 {
            all
        } else {
            worker.done + usize::from(self.time % 100 < pace) * 2
        };
        worker.done = share.min(all);
        let reached = worker.units[..worker.done]
            .iter()
            .rev()
            .find_map(|(track, at)| track.map(|_| *at))
            .unwrap_or(0);
        let report = Report {
            units: worker.done as u64,
            reached,
            ..Report::default()
        };
        let mut units = Vec::new();
        let mut tracks = Vec::new();
        if let (Some(job), Some(first)) = (&worker.job, worker.marks.first()) {
            let open: Vec<u8> = job.rungs.iter().map(|rung| rung.track).collect();
            if open != worker.open {
                worker.open = open;
                tracks = job.rungs.iter().map(described).collect();
            }
            for rung in &job.rungs {
                for (track, at) in &worker.units[..worker.done] {
                    if track.is_some() && *at >= first.start.ticks() {
                        let keyframe = worker.marks.iter().any(|mark| mark.start.ticks() == *at);
                        let at = Timestamp::new(*at, Timescale::VIDEO);
                        let data = bytes::Bytes::from_static(b"coded");
                        units.push(AccessUnit {
                            track: rung.id(),
                            dts: at,
                            pts: at,
                            duration: 0,
                            keyframe,
                            data,
                        });
                    }
                }
            }
        }
        let now = self.clock();
        if !tracks.is_empty() {
            self.stream
                .message(Message::Event(Event::Tracks(tracks.into())), now);
        }
        for unit in units {
            self.stream.message(Message::Event(Event::Unit(unit)), now);
        }
        self.stream.message(Message::Report(report), now);
        self.settle();
    }

    /// Obeys, and takes what comes out.
    fn settle(&mut self) {
        while let Some(order) = self.stream.order() {
            match order {
                Order::Start => {
                    self.starts += 1;
                    self.worker = Some(Pretended::default());
                    self.stream.started(self.clock());
                    self.stream.message(
                        Message::Ready(Ready {
                            fully: true,
                            nanos: None,
                        }),
                        self.clock(),
                    );
                }
                Order::Kill(death) => {
                    self.kills.push(death);
                    self.die(death);
                }
                Order::Tell(command) => {
                    if let Some(worker) = &mut self.worker {
                        worker.hear(command);
                    }
                }
            }
        }
        while let Some(event) = self.stream.pop() {
            self.out.push(event);
        }
    }

    fn die(&mut self, death: Death) {
        if self.worker.take().is_some() {
            self.stream.died(Some(death), self.clock());
            self.settle();
        }
    }

    fn worker(&self) -> &Pretended {
        self.worker.as_ref().expect("a worker runs")
    }

    /// The names of the newest tracks.
    fn names(&self) -> String {
        let list = self.out.iter().rev().find_map(|event| match event {
            Event::Tracks(tracks) => Some(
                tracks
                    .iter()
                    .map(|track| track.name.to_string())
                    .collect::<Vec<_>>(),
            ),
            _ => None,
        });
        list.unwrap_or_default().join(" ")
    }

    fn times(&self, track: u8) -> Vec<i64> {
        let time = |event: &Event| match event {
            Event::Unit(unit) if unit.track == TrackId(track) => Some(unit.pts.ticks()),
            _ => None,
        };
        self.out.iter().filter_map(time).collect()
    }
}

impl Pretended {
    fn hear(&mut self, command: Command) {
        match &command {
            Command::Job(job) => self.job = Some(job.clone()),
            Command::Event(Event::Segment(mark)) => self.marks.push(*mark),
            Command::Event(Event::Unit(unit)) => {
                let picture = (unit.track == VIDEO).then_some(VIDEO);
                self.units.push((picture, unit.dts.ticks()));
            }
            _ => {}
        }
        self.told.push(command);
    }
}

fn described(rung: &ladder::Planned) -> Track {
    let config = fixtures::h264(720);
    Track {
        id: rung.id(),
        name: rung.name.parse().expect("a name"),
        format: Format::Video(Video {
            width: rung.width,
            height: rung.height,
            ..config.video()
        }),
        codec: Codec::H264(config),
        timescale: Timescale::VIDEO,
        bandwidth: Some(Bandwidth {
            average_bps: rung.bitrate_bps,
            peak_bps: rung.bitrate_bps,
        }),
    }
}

fn playing(passthrough: bool) -> Bench {
    let mut bench = Bench::new(passthrough);
    bench.begin(48_000);
    bench.play(5_000, 100);
    bench
}

#[test]
fn the_ladder_goes_out_once_every_rung_is_known() {
    let bench = playing(true);
    assert_eq!(bench.names(), "720p 480p 360p 240p audio");
    assert_eq!(bench.starts, 1);
    assert!(
        bench
            .worker()
            .job
            .as_ref()
            .is_some_and(|job| job.rungs.len() == 3 && job.sound.is_none())
    );
    assert_eq!(bench.times(3)[0], 0, "from the first picture on");
    assert!(bench.times(3).len() > 145);
    assert_eq!(playing(false).names(), "720p 480p 360p 240p audio");
}

#[test]
fn a_new_worker_begins_at_the_keyframe_that_is_needed_and_nothing_comes_twice() {
    let mut bench = playing(true);
    bench.die(Death::Crash);
    bench.play(100, 100);
    assert_eq!(bench.starts, 2);
    let told: Vec<String> = bench
        .worker()
        .told
        .iter()
        .take(4)
        .map(|command| match command {
            Command::Event(Event::Tracks(_)) => "tracks".to_owned(),
            Command::Job(job) => format!("job from {}", job.from),
            Command::Event(Event::Segment(mark)) => format!("mark {}", mark.number),
            Command::Event(Event::Unit(unit)) => {
                format!("unit {} {}", unit.dts.ticks(), unit.keyframe)
            }
            other => format!("{other:?}"),
        })
        .collect();
    // Keyframes stand at 0, 1.98, 3.96 s; the rungs were at 5 s.
    assert_eq!(told[1..], ["job from 1", "mark 3", "unit 356400 true"]);
    bench.play(3_000, 100);
    for rung in 1..4 {
        let times = bench.times(rung);
        assert!(
            times.windows(2).all(|pair| pair[1] - pair[0] == 2_970),
            "rung {rung} goes on in step"
        );
    }
    assert_eq!(
        bench
            .stream
            .status(bench.clock())
            .restarts
            .get(&Death::Crash),
        Some(&1)
    );
}

#[test]
fn poison_costs_the_ladder_step_by_step_and_never_what_is_passed_through() {
    let mut bench = playing(true);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        bench.die(Death::Crash);
        let died = bench.time;
        while bench.worker.is_none() {
            bench.play(50, 100);
        }
        pauses.push((bench.time - died) / 50 * 50);
    }
    assert_eq!(pauses, [0, 100, 200, 400, 800, 5_000, 5_000]);
    let status = bench.stream.status(bench.clock());
    assert!(status.degraded);
    assert!(
        status
            .warnings
            .iter()
            .any(|warning| warning.contains("keep failing")),
        "{:?}",
        status.warnings
    );
    assert!(
        bench
            .out
            .iter()
            .any(|event| matches!(event, Event::Tracks(tracks) if tracks.len() == 2)),
        "alone"
    );
    let passed = bench.times(0);
    assert!(
        passed.windows(2).all(|pair| pair[1] - pair[0] == 2_970),
        "passed through without a pause"
    );
    // A minute of health brings everything back.
    bench.play(70_000, 100);
    assert_eq!(bench.names(), "720p 480p 360p 240p audio");
    assert!(!bench.stream.status(bench.clock()).degraded);
}

#[test]
fn a_worker_that_hangs_is_killed_within_two_seconds() {
    let mut bench = playing(false);
    bench.play(1_750, 0);
    assert_eq!(bench.kills, []);
    bench.play(250, 0);
    assert_eq!(bench.kills, [Death::Hang]);
    bench.play(3_000, 100);
    assert!(
        bench
            .times(3)
            .windows(2)
            .all(|pair| pair[1] - pair[0] == 2_970),
        "nothing is lost"
    );
}

#[test]
fn a_worker_that_is_not_heard_is_not_killed() {
    let mut bench = playing(false);
    bench.play(200, 0);
    for _ in 0..100 {
        bench.time += 50;
        bench.stream.tick(bench.clock(), false);
        bench.settle();
    }
    assert_eq!(bench.kills, []);
}

#[test]
fn a_worker_that_says_what_none_says_is_killed() {
    let mut bench = playing(true);
    let mut forged = described(&bench.worker().job.as_ref().expect("a job").rungs[0]);
    forged.id = TrackId(9);
    let now = bench.clock();
    bench
        .stream
        .message(Message::Event(Event::Tracks([forged].into())), now);
    bench.settle();
    assert_eq!(bench.kills, [Death::Protocol]);
    bench.stream.message(Message::Event(Event::End), now);
    bench.settle();
    assert_eq!(bench.kills, [Death::Protocol; 2]);
}

#[test]
fn a_worker_that_cannot_keep_pace_is_asked_for_less_within_three_seconds() {
    let mut bench = playing(true);
    let start = bench.time;
    while bench.stream.headroom.level() == 0 {
        bench.play(50, 50);
    }
    assert!(bench.time - start <= 3_000, "{} ms", bench.time - start);
    // The playlists list it no more from the next mark on.
    bench.play(2_100, 100);
    assert_eq!(bench.names(), "720p 360p 240p audio");
    bench.play(40_000, 100);
    assert_eq!(
        bench.names(),
        "720p 480p 360p 240p audio",
        "and again when there was room for half a minute"
    );
    let passed = bench.times(0);
    assert!(passed.windows(2).all(|pair| pair[1] - pair[0] == 2_970));
}

#[test]
fn what_waits_for_a_slow_worker_is_bounded() {
    let mut bench = playing(false);
    bench.play(11_000, 100);
    // One picture in five: whole groups are left out, and told.
    bench.play(60_000, 5);
    let status = bench.stream.status(bench.clock());
    assert!(status.dropped_frames > 100, "{status:?}");
    assert!(
        bench.stream.behind() < Duration::from_millis(4_500),
        "{:?}",
        bench.stream.behind()
    );
}

#[test]
fn passthrough_is_taken_back_with_one_discontinuity() {
    let mut bench = playing(true);
    // A pause of more than a part.
    bench.time += 990;
    bench.play(4_000, 100);
    assert_eq!(bench.names(), "720p 480p 360p 240p audio");
    let status = bench.stream.status(bench.clock());
    assert!(!status.passthrough);
    let marks = bench.out.iter().filter_map(|event| match event {
        Event::Segment(mark) => Some(mark.discontinuity),
        _ => None,
    });
    assert_eq!(marks.max(), Some(1));
    assert_eq!(bench.starts, 1, "the worker goes on");
}

#[test]
fn the_ladder_goes_out_with_the_first_pictures_whatever_the_verdict_will_be() {
    let mut bench = Bench::new(true);
    bench.begin(48_000);
    bench.play(300, 100);
    assert_eq!(bench.names(), "720p 480p 360p 240p audio");
    for track in 0..4 {
        assert!(bench.times(track).len() >= 8, "{track}");
    }
    bench.event(Event::End);
    bench.work(100);
    assert_eq!(bench.times(0).len(), 10);
}

#[test]
fn keyframes_that_are_too_rare_cost_the_passthrough_once() {
    let mut bench = Bench::new(true);
    bench.keyframes = 300;
    bench.begin(48_000);
    bench.play(12_000, 100);
    assert!(!bench.stream.status(bench.clock()).passthrough);
    let marks = bench.out.iter().filter_map(|event| match event {
        Event::Segment(mark) => Some((mark.start.ticks() / 90, mark.discontinuity)),
        _ => None,
    });
    let marks: Vec<(i64, u64)> = marks.collect();
    assert_eq!(marks[0], (0, 0));
    assert!((2_300..2_500).contains(&marks[1].0), "{marks:?}");
    assert!(marks[1..].iter().all(|mark| mark.1 == 1), "{marks:?}");
    for track in 0..4 {
        let times = bench.times(track);
        assert!(
            times.windows(2).all(|pair| pair[1] - pair[0] == 2_970),
            "{track}"
        );
        assert_eq!(times.first(), Some(&0));
    }
    assert_eq!(bench.starts, 1);
}
