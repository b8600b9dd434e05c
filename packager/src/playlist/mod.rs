//! Playlist text (RFC 8216bis, "D" below).

pub(crate) mod media;
pub(crate) mod multivariant;
mod pages;

use std::fmt;

use ::media::{Timescale, Utc};

/// A count of ticks as seconds with six decimals, to the nearest microsecond.
pub(crate) struct Seconds {
    micros: u128,
}

impl Seconds {
    pub(crate) fn new(ticks: u64, scale: Timescale) -> Self {
        let hz = u128::from(scale.hz());
        Self {
            micros: (u128::from(ticks) * 1_000_000 + hz / 2) / hz,
        }
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:06}",
            self.micros / 1_000_000,
            self.micros % 1_000_000
        )
    }
}

/// EXT-X-PROGRAM-DATE-TIME's form, to the nearest millisecond. Instants outside the years 0 to 9999 are not UTC times
/// that anyone set; they print as the nearer end.
pub(crate) struct DateTime(pub(crate) Utc);

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: i64 = 86_400_000;
        let millis = self.0.unix_micros().saturating_add(500).div_euclid(1_000);
        let millis = millis.clamp(-62_167_219_200_000, 253_402_300_799_999);
        let (days, millis) = (millis.div_euclid(DAY), millis.rem_euclid(DAY));
        // The Gregorian calendar repeats every 146 097 days; years begin in March here, so that leap days come last.
        let days = days + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year + era * 400 + i64::from(month <= 2);
        let (seconds, millis) = (millis / 1_000, millis % 1_000);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        )
    }
}
