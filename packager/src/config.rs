//! What packager and window must agree on.

use std::time::Duration;

/// The shape of one session's output. Packager and window of a session, and every packager of the same session on
/// other machines, are given equal values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Names this run of the stream; the folder that all its objects are under. Characters that need no escaping in a
    /// URL path. A new publish gets a new one, so that names are never reused.
    pub epoch: String,
    /// The longest segment that the marks will make. TARGETDURATION is this, rounded up to a second.
    pub segment: Duration,
    /// The longest part, unless one frame is longer than that.
    pub part: Duration,
}

/// The longest target duration: an hour.
const TARGET_MAX: u64 = 3_600;

impl Config {
    /// EXT-X-TARGETDURATION (RFC 8216bis 4.4.3.1), the same in every playlist for the life of the stream, in seconds.
    #[must_use]
    pub fn target_seconds(&self) -> u64 {
        let up = u64::from(self.segment.subsec_nanos() > 0);
        self.segment
            .as_secs()
            .saturating_add(up)
            .clamp(1, TARGET_MAX)
    }

    /// `part` in whole milliseconds, at most the target duration.
    pub(crate) fn part(&self) -> Duration {
        let millis = self.part.as_nanos().div_ceil(1_000_000).max(1);
        let longest = Duration::from_secs(self.target_seconds());
        u64::try_from(millis).map_or(longest, |millis| Duration::from_millis(millis).min(longest))
    }
}
