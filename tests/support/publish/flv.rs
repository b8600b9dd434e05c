//! FLV tags out of a file, with a clock that a test may bend.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

/// The message type of a tag, which RTMP shares with FLV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Audio,
    Video,
    Script,
}

impl Kind {
    pub(crate) const fn id(self) -> u8 {
        match self {
            Self::Audio => 8,
            Self::Video => 9,
            Self::Script => 18,
        }
    }
}

/// One tag: what is sent, when, and what it says about when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) kind: Kind,
    /// When to send it, after the publish began. The time that the encoder wrote, until a test changes it.
    pub(crate) due: Duration,
    /// The timestamp it claims, in milliseconds.
    pub(crate) timestamp: u32,
    pub(crate) data: Bytes,
}

impl Tag {
    /// A decoder configuration: AVC or AAC sequence header, or the enhanced kind of either.
    pub(crate) fn is_config(&self) -> bool {
        match (self.kind, self.data.first().copied()) {
            (Kind::Video, Some(first)) if first & 0x80 != 0 => first & 0x0f == 0,
            (Kind::Video, Some(first)) => first & 0x0f == 7 && self.data.get(1) == Some(&0),
            (Kind::Audio, Some(first)) if first >> 4 == 9 => first & 0x0f == 0,
            (Kind::Audio, Some(first)) => first >> 4 == 10 && self.data.get(1) == Some(&0),
            _ => false,
        }
    }

    fn is_end(&self) -> bool {
        match (self.kind, self.data.first().copied()) {
            (Kind::Video, Some(first)) if first & 0x80 != 0 => first & 0x0f == 2,
            (Kind::Video, Some(first)) => first & 0x0f == 7 && self.data.get(1) == Some(&2),
            _ => false,
        }
    }

    /// A picture that decoding may start at.
    pub(crate) fn is_keyframe(&self) -> bool {
        match (self.kind, self.data.first().copied()) {
            (Kind::Video, Some(first)) if first & 0x80 != 0 => {
                first >> 4 & 7 == 1 && matches!(first & 0x0f, 1 | 3)
            }
            (Kind::Video, Some(first)) => first >> 4 == 1 && self.data.get(1) == Some(&1),
            _ => false,
        }
    }
}

/// A clip as its tags.
#[derive(Clone, Debug)]
pub(crate) struct Flv {
    pub(crate) tags: Vec<Tag>,
}

impl Flv {
    /// Reads a whole file, but for the mark that the pictures end, so that clips can follow each other.
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = Bytes::from(std::fs::read(path).unwrap());
        assert_eq!(&bytes[..3], b"FLV");
        let mut rest = bytes.slice(9 + 4..);
        let mut tags = Vec::new();
        // The tag header of Adobe's FLV 10.1 annex E.4.1: type, size, time, upper byte of the time, stream.
        while rest.len() >= 11 {
            let number = |at: std::ops::Range<usize>| {
                rest[at]
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | u32::from(*byte))
            };
            let size = number(1..4) as usize;
            let timestamp = number(4..7) | number(7..8) << 24;
            let kind = match rest[0] {
                8 => Kind::Audio,
                9 => Kind::Video,
                18 => Kind::Script,
                other => panic!("tag type {other} in {}", path.display()),
            };
            let due = Duration::from_millis(timestamp.into());
            let tag = Tag {
                kind,
                due,
                timestamp,
                data: rest.slice(11..11 + size),
            };
            if !tag.is_end() {
                tags.push(tag);
            }
            rest = rest.slice(11 + size + 4..);
        }
        Self { tags }
    }

    /// The same media on a clock that starts at `start` ms and wraps as 32 bits do.
    pub(crate) fn starting_at(mut self, start: u32) -> Self {
        for tag in &mut self.tags {
            tag.timestamp = tag.timestamp.wrapping_add(start);
        }
        self
    }

    /// What is due before `end`.
    pub(crate) fn until(mut self, end: Duration) -> Self {
        self.tags.retain(|tag| tag.due < end);
        self
    }

    /// What is due from `start` on, behind the configurations.
    pub(crate) fn from(mut self, start: Duration) -> Self {
        self.tags
            .retain(|tag| tag.due >= start || tag.is_config() || tag.kind == Kind::Script);
        self
    }

    /// Only tags of this kind, or all others.
    pub(crate) fn without(mut self, kind: Kind) -> Self {
        self.tags.retain(|tag| tag.kind != kind);
        self
    }

    /// Another clip behind this one, on the same clock.
    pub(crate) fn then(mut self, next: Self) -> Self {
        let (due, timestamp) = self.end();
        let first = next.tags.first().map_or(Duration::ZERO, |tag| tag.due);
        self.tags.extend(next.tags.into_iter().map(|tag| Tag {
            due: due + tag.due.saturating_sub(first),
            timestamp: timestamp.wrapping_add(tag.timestamp),
            ..tag
        }));
        self
    }

    /// When the tag after the last would be due, and its timestamp, by the distance of the last two pictures.
    fn end(&self) -> (Duration, u32) {
        let timed = self
            .tags
            .iter()
            .filter(|tag| tag.kind == Kind::Video && !tag.is_config());
        let mut newest = timed.rev();
        let (Some(last), Some(before)) = (newest.next(), newest.next()) else {
            return self
                .tags
                .last()
                .map_or((Duration::ZERO, 0), |tag| (tag.due, tag.timestamp));
        };
        let step = last.timestamp.wrapping_sub(before.timestamp);
        (
            last.due + Duration::from_millis(step.into()),
            last.timestamp.wrapping_add(step),
        )
    }
}
