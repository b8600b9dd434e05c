//! Public names of streams.

use std::fmt;
use std::str::FromStr;

/// The public name of a stream: 1 to 64 characters of `A-Z a-z 0-9 _ -`.
///
/// It names the playback and appears in URLs, paths and metrics. The secret that allows publishing is another type.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(Box<str>);

/// A stream id held something other than 1 to 64 characters of `A-Z a-z 0-9 _ -`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stream id is 1 to 64 characters of A-Z a-z 0-9 _ -")]
pub struct InvalidId;

impl StreamId {
    /// The longest id, in characters.
    pub const LEN_MAX: usize = 64;

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StreamId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if text.is_empty() || text.len() > Self::LEN_MAX || !text.bytes().all(allowed) {
            return Err(InvalidId);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_characters_make_an_id() {
        let long = "a".repeat(64);
        for good in ["a", "Room_12-b", long.as_str()] {
            assert_eq!(
                good.parse::<StreamId>().map(|id| id.to_string()),
                Ok(good.to_owned())
            );
        }
        let too_long = "a".repeat(65);
        for bad in ["", "..", "a/b", "a b", "é", "a\0", "%2e", too_long.as_str()] {
            assert_eq!(bad.parse::<StreamId>(), Err(InvalidId), "{bad:?}");
        }
    }
}
