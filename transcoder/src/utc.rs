//! The outside world's time of a place in the media.

use std::time::Duration;

use media::{Timestamp, Utc};

/// Ties media time to UTC at one place and follows the source's clock gently from there.
#[derive(Debug)]
pub(crate) struct Anchor {
    at: Timestamp,
    utc: Utc,
    /// The least lateness of an arrival since the last mark, against the present tie; micros.
    least: Option<i64>,
    last: (Timestamp, Utc),
}

/// How far one mark may move the tie: 2 ms on a segment of 2 s follows a clock that is off by 1000 ppm.
const STEP_MICROS: i64 = 2_000;
/// A difference beyond this is a clock that was set, not one that drifts; it waits for a discontinuity.
const JUMP_MICROS: i64 = 10_000_000;

impl Anchor {
    pub(crate) fn new(at: Timestamp, utc: Utc) -> Self {
        Self {
            at,
            utc,
            least: None,
            last: (at, utc),
        }
    }

    /// A unit presented at `at` arrived at `now`.
    pub(crate) fn observe(&mut self, at: Timestamp, now: Utc) {
        let late = now.unix_micros().saturating_sub(self.of(at).unix_micros());
        self.least = Some(self.least.map_or(late, |least| least.min(late)));
    }

    /// The time of the segment that starts at `start`, which continues the one before.
    pub(crate) fn mark(&mut self, start: Timestamp) -> Utc {
        if let Some(least) = self.least.take().filter(|least| least.abs() < JUMP_MICROS) {
            let moved = least.clamp(-STEP_MICROS, STEP_MICROS);
            self.utc = Utc::from_unix_micros(self.utc.unix_micros().saturating_add(moved));
        }
        let utc = self.of(start);
        self.last = (start, utc);
        utc
    }

    /// The time of a segment that does not continue the one before: tied anew, and never before what was told.
    pub(crate) fn again(&mut self, start: Timestamp, now: Utc) -> Utc {
        let played = start.since(self.last.0).unwrap_or(Duration::ZERO);
        let utc = now.max(self.last.1.saturating_add(played));
        *self = Self::new(start, utc);
        utc
    }

    fn of(&self, at: Timestamp) -> Utc {
        match at.since(self.at) {
            Some(after) => self.utc.saturating_add(after),
            None => {
                let before = self.at.since(at).unwrap_or_default();
                let micros = i64::try_from(before.as_micros()).unwrap_or(i64::MAX);
                Utc::from_unix_micros(self.utc.unix_micros().saturating_sub(micros))
            }
        }
    }
}
