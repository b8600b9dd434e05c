//! Gives rungs up when the machine cannot keep pace, and takes them back when it can.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::ladder::Planned;

/// How much of the ladder is encoded; 0 is all of it.
#[derive(Debug)]
pub(crate) struct Headroom {
    /// What the encoders may be behind the source without being suspected.
    lag_max: Duration,
    level: usize,
    lags: VecDeque<(Instant, Duration)>,
    changed: Option<Instant>,
    calm: Option<Instant>,
    patience: Duration,
    raised: Option<Instant>,
    /// Since when a new worker works off what it began behind with.
    catching_up: Option<Instant>,
}

/// The look back that tells a growing lag from one that is being worked off.
const TREND: Duration = Duration::from_millis(750);
/// What a lag trembles by.
const TREMBLE: Duration = Duration::from_millis(50);
/// A new worker may be behind by all that it replays for so long.
pub(crate) const CATCH_UP: Duration = Duration::from_secs(15);
/// Time for a change to show.
const SETTLE: Duration = Duration::from_millis(1_500);
/// What the encoders are behind when all is well, at most.
const CALM: Duration = Duration::from_millis(450);
/// So long all is well before more is tried; twice as long after each time that it failed.
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_MAX: Duration = Duration::from_secs(600);

impl Headroom {
    pub(crate) fn new(lag_max: Duration) -> Self {
        let lags = VecDeque::new();
        Self {
            lag_max,
            level: 0,
            lags,
            changed: None,
            calm: None,
            patience: PATIENCE,
            raised: None,
            catching_up: None,
        }
    }

    pub(crate) fn level(&self) -> usize {
        self.level
    }

    /// A new worker works off what came before it was ready: only a lag that grows counts against it.
    pub(crate) fn restarted(&mut self, now: Instant) {
        self.lags.clear();
        self.calm = None;
        self.catching_up = Some(now);
    }

    /// The encoders are `lag` behind the source, and there are `levels` to give up. Says whether the level changed.
    pub(crate) fn observe(&mut self, now: Instant, lag: Duration, levels: usize) -> bool {
        let then = self
            .lags
            .iter()
            .rev()
            .find(|(at, _)| now.duration_since(*at) >= TREND)
            .map(|(_, lag)| *lag);
        self.lags.push_back((now, lag));
        while self
            .lags
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at) > 2 * TREND)
        {
            self.lags.pop_front();
        }
        if lag > CALM {
            self.calm = None;
        } else {
            self.calm.get_or_insert(now);
            self.catching_up = None;
        }
        self.catching_up = self
            .catching_up
            .filter(|since| now.duration_since(*since) < CATCH_UP);
        let settled = self
            .changed
            .is_none_or(|at| now.duration_since(at) >= SETTLE);
        // What jumps has come in a burst, and is not of the encoders' making.
        let grows = then.is_some_and(|then| match self.catching_up {
            Some(_) => lag > then + TREMBLE,
            None => lag + TREMBLE >= then && then >= self.lag_max / 2,
        });
        if lag >= self.lag_max && grows && settled && self.level < levels {
            // What was taken back too early is waited for twice as long.
            let early = self
                .raised
                .is_some_and(|at| now.duration_since(at) < self.patience);
            self.patience = if early {
                (self.patience * 2).min(PATIENCE_MAX)
            } else {
                PATIENCE
            };
            self.level += 1;
            self.changed = Some(now);
            return true;
        }
        if self.level > 0
            && self
                .calm
                .is_some_and(|since| now.duration_since(since) >= self.patience)
        {
            self.level -= 1;
            self.changed = Some(now);
            self.raised = Some(now);
            self.calm = Some(now);
            return true;
        }
        false
    }
}

/// Steps there are from all encoded rungs to the least: the top one, half the frame rate, then the others but the
/// lowest.
pub(crate) fn levels(rungs: usize) -> usize {
    if rungs == 0 { 0 } else { rungs }
}

/// What is left of the encoded rungs at a level.
pub(crate) fn reduce(rungs: &[Planned], level: usize, frame_rate: u32) -> Vec<Planned> {
    let gone = match level {
        0 => 0,
        1 | 2 => 1,
        more => more - 1,
    };
    // With one rung there is no top to give up: its frame rate goes at once.
    let halve = level >= 2 || (level == 1 && rungs.len() == 1);
    let gone = gone.min(rungs.len().saturating_sub(1));
    let mut left = rungs[gone..].to_vec();
    if halve {
        for rung in &mut left {
            let usual = rung.frame_rate_max.min(frame_rate.max(1));
            rung.frame_rate_max = (usual / 2).max(1);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use media::{Rational, Video};

    use super::*;
    use crate::Ladder;

    /// Observes four times a second: `lag` says how far behind the encoders are at a time, in milliseconds.
    fn run(
        headroom: &mut Headroom,
        start: Instant,
        times: std::ops::Range<u64>,
        lag: impl Fn(u64) -> u64,
    ) -> Vec<u64> {
        let ticks = times.step_by(250);
        ticks
            .filter(|&at| {
                headroom.observe(
                    start + Duration::from_millis(at),
                    Duration::from_millis(lag(at)),
                    4,
                )
            })
            .collect()
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_growing_lag_costs_a_rung_within_three_seconds() {
        // Eight tenths of real time.
        let mut headroom = Headroom::new(Duration::from_millis(700));
        let changes = run(&mut headroom, now(), 0..6_000, |at| 200 + at / 5);
        assert!(changes[0] <= 3_000, "{changes:?}");
        assert!(
            changes[1] - changes[0] >= 1_500,
            "a change has time to show: {changes:?}"
        );
    }

    #[test]
    fn a_lag_that_is_worked_off_costs_nothing() {
        let mut headroom = Headroom::new(Duration::from_millis(700));
        let changes = run(&mut headroom, now(), 0..8_000, |at| {
            4_000_u64.saturating_sub(at / 2).max(200)
        });
        assert_eq!(changes, [] as [u64; 0]);
    }

    #[test]
    fn a_burst_that_is_worked_off_costs_nothing() {
        let mut headroom = Headroom::new(Duration::from_millis(700));
        // Two seconds' worth arrives at once, each five seconds.
        let changes = run(&mut headroom, now(), 0..20_000, |at| {
            2_000_u64.saturating_sub(at % 5_000 / 2).max(100)
        });
        assert_eq!(changes, [] as [u64; 0]);
    }

    #[test]
    fn a_new_worker_is_given_time_unless_it_falls_further_behind() {
        let (mut headroom, start) = (Headroom::new(Duration::from_millis(700)), now());
        headroom.restarted(start);
        let changes = run(&mut headroom, start, 0..17_000, |_| 900);
        assert!((15_000..16_000).contains(&changes[0]), "{changes:?}");
        let mut headroom = Headroom::new(Duration::from_millis(700));
        headroom.restarted(start);
        let changes = run(&mut headroom, start, 0..6_000, |at| 200 + at / 5);
        assert!(changes[0] <= 3_000, "{changes:?}");
    }

    #[test]
    fn calm_brings_it_back_and_failure_makes_patient() {
        let (mut headroom, start) = (Headroom::new(Duration::from_millis(700)), now());
        run(&mut headroom, start, 0..2_500, |at| 200 + at / 2);
        assert_eq!(headroom.level(), 1);
        let back = run(&mut headroom, start, 2_500..40_000, |_| 200);
        assert_eq!(back, [32_500]);
        // It was too early.
        run(&mut headroom, start, 40_000..42_000, |at| {
            200 + (at - 40_000)
        });
        assert_eq!(headroom.level(), 1);
        let back = run(&mut headroom, start, 42_000..120_000, |_| 200);
        assert_eq!(back, [102_000]);
    }

    #[test]
    fn what_each_level_leaves() {
        let video = Video {
            width: 1920,
            height: 1080,
            sample_aspect: Rational::ONE,
            frame_rate: None,
        };
        let rungs = Ladder::default().plan(&video, &[]);
        let left = |rungs: &[Planned], level| -> String {
            let text = reduce(rungs, level, 30)
                .into_iter()
                .map(|rung| format!("{}@{}", rung.name, rung.frame_rate_max));
            text.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(left(&rungs[1..], 0), "720p@60 480p@30 360p@30 240p@30");
        assert_eq!(left(&rungs[1..], 1), "480p@30 360p@30 240p@30");
        assert_eq!(left(&rungs[1..], 2), "480p@15 360p@15 240p@15");
        assert_eq!(left(&rungs[1..], 3), "360p@15 240p@15");
        assert_eq!(left(&rungs[1..], 4), "240p@15");
        assert_eq!(left(&rungs[1..], levels(4)), "240p@15");
        assert_eq!(left(&rungs[4..], 1), "240p@15");
        assert_eq!(left(&rungs[4..], levels(1)), "240p@15");
    }
}
