//! Media time and UTC. Deadlines are `std::time::Instant`, a third kind, and live with whoever waits.

use std::cmp::Ordering;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// Ticks in one second of a track's media time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timescale(NonZeroU32);

impl Timescale {
    /// 90 kHz: every video track, as in MPEG-TS and RTP (RFC 3551 section 5).
    pub const VIDEO: Self = Self(NonZeroU32::new(90_000).expect("90000 is not zero"));
    /// Milliseconds, the clock of RTMP and FLV.
    pub const MILLIS: Self = Self(NonZeroU32::new(1_000).expect("1000 is not zero"));

    /// A timescale of `hz` ticks a second, or `None` for zero.
    #[must_use]
    pub const fn new(hz: u32) -> Option<Self> {
        match NonZeroU32::new(hz) {
            Some(hz) => Some(Self(hz)),
            None => None,
        }
    }

    /// Ticks in a second.
    #[must_use]
    pub const fn hz(self) -> u32 {
        self.0.get()
    }

    /// `duration` in ticks, rounded down; saturates far beyond any stream's length.
    #[must_use]
    pub fn ticks(self, duration: Duration) -> i64 {
        let ticks = duration.as_nanos().saturating_mul(u128::from(self.hz())) / 1_000_000_000;
        i64::try_from(ticks).unwrap_or(i64::MAX)
    }

    /// How long `ticks` last; negative counts are zero.
    #[must_use]
    pub fn duration(self, ticks: i64) -> Duration {
        let ticks = u64::try_from(ticks).unwrap_or(0);
        let hz = u64::from(self.hz());
        let nanos = (ticks % hz) * 1_000_000_000 / hz;
        Duration::new(
            ticks / hz,
            u32::try_from(nanos).expect("a remainder below one second"),
        )
    }
}

impl fmt::Debug for Timescale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}Hz", self.hz())
    }
}

/// What to do with the part of a tick that a conversion cannot keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// Towards negative infinity.
    Down,
    /// Towards positive infinity.
    Up,
    /// To the nearest tick, halves up.
    Nearest,
}

/// An instant on a stream's media clock: a count of ticks of a [`Timescale`].
///
/// Instants of different scales compare exactly. `==` and hashing speak of the instant too: 90 000 ticks at 90 kHz
/// equal 1 000 at 1 kHz.
#[derive(Clone, Copy)]
pub struct Timestamp {
    ticks: i64,
    scale: Timescale,
}

impl Timestamp {
    /// The instant `ticks` of `scale` after the origin of the stream's clock.
    #[must_use]
    pub const fn new(ticks: i64, scale: Timescale) -> Self {
        Self { ticks, scale }
    }

    /// Ticks since the origin.
    #[must_use]
    pub const fn ticks(self) -> i64 {
        self.ticks
    }

    /// The scale of those ticks.
    #[must_use]
    pub const fn scale(self) -> Timescale {
        self.scale
    }

    /// The instant `ticks` later (earlier when negative), of the same scale.
    #[must_use]
    pub const fn checked_add(self, ticks: i64) -> Option<Self> {
        match self.ticks.checked_add(ticks) {
            Some(ticks) => Some(Self {
                ticks,
                scale: self.scale,
            }),
            None => None,
        }
    }

    /// Ticks from `earlier` to here, or `None` when the scales differ or the count overflows.
    #[must_use]
    pub fn checked_sub(self, earlier: Self) -> Option<i64> {
        if self.scale != earlier.scale {
            return None;
        }
        self.ticks.checked_sub(earlier.ticks)
    }

    /// How long after `earlier` this instant is, or `None` when it is before. Scales may differ; the result is
    /// rounded down to a nanosecond.
    #[must_use]
    pub fn since(self, earlier: Self) -> Option<Duration> {
        let nanos = self.nanos().checked_sub(earlier.nanos())?;
        let nanos = u128::try_from(nanos).ok()?;
        let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
        let rest = u32::try_from(nanos % 1_000_000_000).expect("a remainder below one second");
        Some(Duration::new(seconds, rest))
    }

    /// The same instant in ticks of `scale`; saturates at the ends of `i64`.
    #[must_use]
    pub fn rescale(self, scale: Timescale, rounding: Rounding) -> Self {
        if self.scale == scale {
            return self;
        }
        let numerator = i128::from(self.ticks) * i128::from(scale.hz());
        let denominator = i128::from(self.scale.hz());
        let ticks = match rounding {
            Rounding::Down => numerator.div_euclid(denominator),
            Rounding::Up => -(-numerator).div_euclid(denominator),
            Rounding::Nearest => (2 * numerator + denominator).div_euclid(2 * denominator),
        };
        let ticks = i64::try_from(ticks).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX });
        Self { ticks, scale }
    }

    fn nanos(self) -> i128 {
        (i128::from(self.ticks) * 1_000_000_000).div_euclid(i128::from(self.scale.hz()))
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> Ordering {
        let here = i128::from(self.ticks) * i128::from(other.scale.hz());
        let there = i128::from(other.ticks) * i128::from(self.scale.hz());
        here.cmp(&there)
    }
}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Timestamp {}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ticks, self.scale.hz())
    }
}

/// An instant in the outside world: microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Utc {
    micros: i64,
}

impl Utc {
    /// The instant `micros` microseconds after the Unix epoch.
    #[must_use]
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self { micros }
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_micros(self) -> i64 {
        self.micros
    }

    /// The instant `duration` later; saturates at the end of `i64`.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self {
            micros: self.micros.saturating_add(micros),
        }
    }

    /// How long after `earlier` this instant is; zero when it is before.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(
            u64::try_from(self.micros.saturating_sub(earlier.micros)).unwrap_or(0),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ticks: i64, hz: u32) -> Timestamp {
        Timestamp::new(
            ticks,
            Timescale::new(hz).expect("tests use scales above zero"),
        )
    }

    #[test]
    fn instants_of_different_scales_compare_exactly() {
        assert_eq!(at(90_000, 90_000), at(1_000, 1_000));
        assert!(at(90_001, 90_000) > at(1_000, 1_000));
        assert!(at(-1, 48_000) < at(0, 90_000));
        assert!(at(i64::MAX, 1) > at(i64::MAX, 2), "no overflow at the ends");
    }

    #[test]
    fn conversion_says_its_rounding() {
        let video = Timescale::VIDEO;
        // 1 tick of 44.1 kHz is 2.04 ticks of 90 kHz.
        assert_eq!(at(1, 44_100).rescale(video, Rounding::Down).ticks(), 2);
        assert_eq!(at(1, 44_100).rescale(video, Rounding::Up).ticks(), 3);
        assert_eq!(at(1, 44_100).rescale(video, Rounding::Nearest).ticks(), 2);
        assert_eq!(at(-1, 44_100).rescale(video, Rounding::Down).ticks(), -3);
        assert_eq!(at(-1, 44_100).rescale(video, Rounding::Up).ticks(), -2);
        assert_eq!(
            at(i64::MAX, 1).rescale(video, Rounding::Down).ticks(),
            i64::MAX
        );
    }

    #[test]
    fn a_week_of_media_time_survives_durations() {
        let week = Duration::from_secs(7 * 86_400);
        let ticks = Timescale::VIDEO.ticks(week);
        assert_eq!(ticks, 54_432_000_000);
        assert_eq!(Timescale::VIDEO.duration(ticks), week);
        assert_eq!(at(ticks, 90_000).since(at(0, 48_000)), Some(week));
        assert_eq!(at(0, 48_000).since(at(1, 90_000)), None);
    }

    #[test]
    fn a_difference_needs_equal_scales() {
        assert_eq!(at(5, 90_000).checked_sub(at(2, 90_000)), Some(3));
        assert_eq!(at(5, 90_000).checked_sub(at(2, 48_000)), None);
        assert_eq!(at(i64::MAX, 1).checked_add(1).map(Timestamp::ticks), None);
    }
}
