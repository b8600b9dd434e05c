//! The outside world's clock, read in this one place of the binary.

use std::time::{SystemTime, UNIX_EPOCH};

use media::Utc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Now, in UTC.
#[expect(
    clippy::disallowed_methods,
    reason = "the binary owns the clock; everything below takes values"
)]
pub(crate) fn now() -> Utc {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Utc::from_unix_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}

/// `2026-11-21T08:00:00.123Z`
pub(crate) fn rfc3339(utc: Utc) -> String {
    let millis = utc.unix_micros().div_euclid(1_000);
    date_time(millis.saturating_mul(1_000))
        .format(&Rfc3339)
        .expect("years of four digits print as RFC 3339")
}

/// `20261121T080000Z`, for names.
pub(crate) fn compact(utc: Utc) -> String {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
    date_time(utc.unix_micros())
        .format(&format)
        .expect("a date has every field of the format")
}

fn date_time(micros: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_prints_with_milliseconds_and_as_a_name() {
        let utc = Utc::from_unix_micros(1_795_248_000_123_456);
        assert_eq!(rfc3339(utc), "2026-11-21T08:00:00.123Z");
        assert_eq!(compact(utc), "20261121T080000Z");
    }
}
