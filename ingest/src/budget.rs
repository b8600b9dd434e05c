//! A rate that may be passed for a while.

use std::time::Duration;

/// Allows `rate` units a second for ever, and `burst` units more than that at any one time. A publisher that sends at
/// twice the rate uses up a burst of five seconds' worth in five seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    rate: u64,
    burst: u128,
    /// Units above the rate so far, times 10^9 so that no time between calls is lost to rounding.
    used: u128,
    at: Duration,
}

const SCALE: u128 = 1_000_000_000;

impl Budget {
    pub(crate) fn new(rate: u64, burst: u64) -> Self {
        Self {
            rate,
            burst: u128::from(burst) * SCALE,
            used: 0,
            at: Duration::ZERO,
        }
    }

    /// Spends `units` at `now`; `false`, and nothing spent, when that is more than allowed.
    #[must_use]
    pub(crate) fn spend(&mut self, units: u64, now: Duration) -> bool {
        let elapsed = now.saturating_sub(self.at).as_nanos();
        let earned = elapsed.saturating_mul(u128::from(self.rate));
        self.at = self.at.max(now);
        self.used = self.used.saturating_sub(earned);
        let used = self.used.saturating_add(u128::from(units) * SCALE);
        let allowed = used <= self.burst;
        if allowed {
            self.used = used;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lasts(per_second: u64) -> Option<u64> {
        let mut budget = Budget::new(100, 500);
        let step = Duration::from_secs(1) / u32::try_from(per_second).unwrap();
        (1..per_second * 100)
            .find(|&n| !budget.spend(1, step * u32::try_from(n).unwrap()))
            .map(|n| n / per_second)
    }

    #[test]
    fn the_rate_lasts_for_ever_and_twice_the_rate_five_seconds() {
        assert_eq!(lasts(100), None);
        assert_eq!(
            lasts(101),
            None,
            "500 spare units last 500 s at one above the rate"
        );
        assert_eq!(lasts(200), Some(5));
    }

    #[test]
    fn a_burst_is_allowed_to_the_unit() {
        let mut budget = Budget::new(100, 500);
        assert!(budget.spend(499, Duration::ZERO));
        assert!(!budget.spend(2, Duration::ZERO));
        assert!(
            budget.spend(1, Duration::ZERO),
            "what was refused is not spent"
        );
        assert!(!budget.spend(1, Duration::ZERO));
    }

    #[test]
    fn a_clock_that_stands_still_or_steps_back_earns_nothing() {
        let mut budget = Budget::new(100, 1);
        assert!(budget.spend(1, Duration::from_secs(5)));
        assert!(!budget.spend(1, Duration::from_secs(4)));
    }
}
