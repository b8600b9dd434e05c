//! What to do when a worker dies: a budget, a pause that grows, and what to give up when neither helps.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// Why a worker came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Death {
    /// A signal ended it: a crash in a codec, or the kernel short of memory.
    Crash,
    /// It gave up by itself.
    Failure,
    /// It made no progress and was killed.
    Hang,
    /// It said what no worker says.
    Protocol,
    /// It could not be started.
    Spawn,
}

impl Death {
    /// The reason as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Failure => "failure",
            Self::Hang => "hang",
            Self::Protocol => "protocol",
            Self::Spawn => "spawn",
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the next worker begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Where the last one ended: nothing is lost.
    Replay,
    /// At the next keyframe: something in between kills workers.
    Skip,
    /// At the next keyframe and without the top encoded rung.
    Less,
    /// Not with the others: until one lives, only what is passed through goes out.
    Alone,
}

/// Deaths of one stream's workers.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    deaths: VecDeque<Instant>,
}

/// Deaths within [`WINDOW`] that are met by replay.
const REPLAYS: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl Budget {
    /// A worker died: how long to wait, and how to begin then.
    pub(crate) fn died(&mut self, now: Instant) -> (Duration, Begin) {
        self.forget(now);
        self.deaths.push_back(now);
        let count = self.deaths.len();
        let begin = match count {
            ..=REPLAYS => Begin::Replay,
            4 => Begin::Skip,
            5 => Begin::Less,
            _ => Begin::Alone,
        };
        // The first death finds a spare waiting.
        let doubled = u32::try_from(count)
            .unwrap_or(u32::MAX)
            .saturating_sub(2)
            .min(8);
        let pause = if count == 1 {
            Duration::ZERO
        } else {
            (PAUSE_MIN * 2u32.pow(doubled)).min(PAUSE_MAX)
        };
        let pause = if begin == Begin::Alone {
            PAUSE_MAX
        } else {
            pause
        };
        (pause, begin)
    }

    /// Whether workers have been dying lately, so that the stream is less than it should be.
    pub(crate) fn is_spent(&mut self, now: Instant) -> bool {
        self.forget(now);
        self.deaths.len() > REPLAYS
    }

    fn forget(&mut self, now: Instant) {
        while self
            .deaths
            .front()
            .is_some_and(|death| now.duration_since(*death) > WINDOW)
        {
            self.deaths.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_replays_then_less_and_less() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let mut budget = Budget::default();
        let mut met = |seconds| budget.died(start + Duration::from_secs(seconds));
        assert_eq!(met(0), (Duration::ZERO, Begin::Replay));
        assert_eq!(met(1), (PAUSE_MIN, Begin::Replay));
        assert_eq!(met(2), (2 * PAUSE_MIN, Begin::Replay));
        assert_eq!(met(3), (4 * PAUSE_MIN, Begin::Skip));
        assert_eq!(met(4), (8 * PAUSE_MIN, Begin::Less));
        assert_eq!(met(5), (PAUSE_MAX, Begin::Alone));
        assert_eq!(met(10), (PAUSE_MAX, Begin::Alone));
        // A minute later all is forgotten.
        assert_eq!(met(71), (Duration::ZERO, Begin::Replay));
    }

    #[test]
    fn three_deaths_an_hour_are_no_reason_to_give_anything_up() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let mut budget = Budget::default();
        for hour in 0..100 {
            let (pause, begin) = budget.died(start + Duration::from_secs(hour * 1_200));
            assert_eq!((pause, begin), (Duration::ZERO, Begin::Replay));
        }
        assert!(!budget.is_spent(start + Duration::from_secs(120_000)));
    }
}
