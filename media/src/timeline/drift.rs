//! The source clock against the clock of arrivals.

use std::time::Duration;

use super::HZ;

/// How fast a source clock runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Millionths by which media time runs ahead of arrivals (behind, when negative).
    pub ppm: i32,
}

impl Drift {
    /// Crystals are within this; more is a source that does not send in real time.
    const STEADY_PPM: u32 = 300;

    /// The drift in one word, as a metric label and in the API: `steady`, `fast` or `slow`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self.ppm {
            ppm if ppm.unsigned_abs() <= Self::STEADY_PPM => "steady",
            1.. => "fast",
            _ => "slow",
        }
    }
}

/// How long a window is. The network can only delay, so the least delay in a window is the clock's own.
const WINDOW: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Default)]
pub(super) struct Estimate {
    first: Option<Window>,
    /// The newest that is over.
    newest: Option<Window>,
    current: Option<Window>,
}

/// The unit of a window that was delayed least.
#[derive(Clone, Copy, Debug)]
struct Window {
    until: Duration,
    arrival: i128,
    /// Arrival less media time, in internal ticks; only differences mean something.
    delay: i128,
}

impl Estimate {
    pub(super) fn observe(&mut self, arrival: Duration, media: i128) {
        let micros = i128::try_from(arrival.as_micros()).unwrap_or(i128::MAX >> 40);
        let at = micros * (HZ / 100_000) / 10;
        let delay = at - media;
        match &mut self.current {
            Some(window) if arrival < window.until => {
                if delay < window.delay {
                    (window.arrival, window.delay) = (at, delay);
                }
            }
            current => {
                let over = current.replace(Window {
                    until: arrival.saturating_add(WINDOW),
                    arrival: at,
                    delay,
                });
                self.first = self.first.or(over);
                self.newest = over.or(self.newest);
            }
        }
    }

    pub(super) fn drift(&self) -> Option<Drift> {
        let (first, newest) = (self.first?, self.newest?);
        let elapsed = newest.arrival - first.arrival;
        if elapsed < HZ * i128::from(WINDOW.as_secs()) {
            return None;
        }
        let ppm = (first.delay - newest.delay) * 1_000_000 / elapsed;
        Some(Drift {
            ppm: i32::try_from(ppm).unwrap_or(if ppm < 0 { i32::MIN } else { i32::MAX }),
        })
    }
}
