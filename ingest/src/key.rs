//! The secret that allows publishing.

use std::fmt;

/// A stream key: 16 to 128 characters of `A-Z a-z 0-9 _ -`.
///
/// It prints as `***`, and cannot be compared: whoever looks a key up does it by a keyed hash.
#[derive(Clone)]
pub struct StreamKey(Box<str>);

impl StreamKey {
    /// The shortest key, in characters.
    pub const LEN_MIN: usize = 16;
    /// The longest key, in characters.
    pub const LEN_MAX: usize = 128;

    /// The key that `text` is, if it is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let fits =
            (Self::LEN_MIN..=Self::LEN_MAX).contains(&text.len()) && text.bytes().all(allowed);
        fits.then(|| Self(text.into()))
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_characters_and_lengths_make_a_key() {
        for good in ["0123456789abcdef", "ABCDEF-_abcdef-_", &"k".repeat(128)] {
            assert_eq!(StreamKey::parse(good).unwrap().expose(), good);
        }
        let (short, long) = ("k".repeat(15), "k".repeat(129));
        for bad in [
            "",
            short.as_str(),
            long.as_str(),
            "0123456789abcde/",
            "0123456789abcde\0",
            "0123456789abcdeé",
        ] {
            assert!(StreamKey::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_key_never_prints() {
        let key = StreamKey::parse("canary-canary-canary").unwrap();
        assert_eq!(
            format!("{key} {key:?} {:#?}", Some(&key))
                .matches("canary")
                .count(),
            0
        );
    }
}
