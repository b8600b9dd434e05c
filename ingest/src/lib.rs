//! Turns what encoders send into [`media::Event`]s.
//!
//! Owns the protocols by which media comes in, each as a pure state machine (`proto`) under a thin driver on tokio
//! (`driver`), and the unpacking of what they carry ([`flv`]). A listener yields a [`Publish`]; whoever holds the
//! stream keys accepts it, and gets a [`Session`], or rejects it.
//!
//! Must not know who may publish, what becomes of the media, HLS or a registry.

#![forbid(unsafe_code)]

mod budget;
pub mod flv;
mod key;
mod publish;
pub mod rtmp;
mod stats;

pub use key::StreamKey;
pub use publish::{Kick, Protocol, Publish, Reject, Session};
pub use stats::{Drops, Ended, Reason, Snapshot, Stats};

/// Bytes that a peer's text may take in a log or an API.
const TEXT_BYTES_MAX: usize = 256;

/// A peer's text as it may be shown: what is not printable is escaped, what is too long is cut.
fn printable(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        let before = shown.len();
        // Beside control characters, those that turn the direction of text and break lines.
        if c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
        if shown.len() > TEXT_BYTES_MAX {
            shown.truncate(before);
            break;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_cannot_forge_a_log() {
        assert_eq!(printable("OBS 31.0 – ünïcode"), "OBS 31.0 – ünïcode");
        assert_eq!(printable("a\nb\x1b[31m\0"), "a\\u{a}b\\u{1b}[31m\\u{0}");
        assert_eq!(printable("\u{202e}txt.exe"), "\\u{202e}txt.exe");
        assert_eq!(printable(&"x".repeat(256)).len(), 256);
        assert_eq!(printable(&"x".repeat(257)).len(), 256);
        assert_eq!(
            printable(&"é".repeat(200)),
            "é".repeat(128),
            "cut between characters"
        );
        assert!(printable(&"\n".repeat(100)).len() <= 256, "escapes count");
    }
}
