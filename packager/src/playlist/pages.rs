//! The settled text of a playlist.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// How many pages of a level make one of the next.
const FANOUT: usize = 16;
/// Pages of this level stay as they are: 256 segments, some 20 kB.
const LEVEL_MAX: u8 = 2;

/// Text that grows at the end and shrinks at the front, one segment at a time, in few and shared pieces.
///
/// Sixteen neighbours of a level are merged into one of the next, so each byte is copied twice at most, and never many
/// at once. Two hours of two-second segments are some forty pieces.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    pages: VecDeque<Page>,
    len: usize,
}

#[derive(Debug)]
struct Page {
    level: u8,
    text: Bytes,
}

impl Pages {
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Adds the text of one segment.
    pub(crate) fn push(&mut self, text: Bytes) {
        self.len += text.len();
        self.pages.push_back(Page { level: 0, text });
        while let Some(level) = self.full_level() {
            let first = self.pages.len() - FANOUT;
            let len = self.pages.range(first..).map(|page| page.text.len()).sum();
            let mut text = BytesMut::with_capacity(len);
            for page in self.pages.drain(first..) {
                text.extend_from_slice(&page.text);
            }
            self.pages.push_back(Page {
                level: level + 1,
                text: text.freeze(),
            });
        }
    }

    /// The level of the last pages when there are enough of it to merge.
    fn full_level(&self) -> Option<u8> {
        let level = self.pages.back()?.level;
        if level == LEVEL_MAX {
            return None;
        }
        let first = self.pages.len().checked_sub(FANOUT)?;
        let same = self.pages.range(first..).all(|page| page.level == level);
        same.then_some(level)
    }

    /// Removes the oldest `len` bytes.
    pub(crate) fn cut(&mut self, mut len: usize) {
        len = len.min(self.len);
        self.len -= len;
        while let Some(front) = self.pages.front_mut() {
            if front.text.len() > len {
                front.text = front.text.slice(len..);
                return;
            }
            len -= front.text.len();
            self.pages.pop_front();
        }
    }

    /// The newest `len` bytes.
    pub(crate) fn tail(&self, len: usize) -> Vec<Bytes> {
        let mut slices = Vec::new();
        let mut left = len;
        for page in self.pages.iter().rev() {
            if left == 0 {
                break;
            }
            let take = left.min(page.text.len());
            slices.push(page.text.slice(page.text.len() - take..));
            left -= take;
        }
        slices.reverse();
        slices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back_whole_and_in_few_pieces() {
        let mut pages = Pages::default();
        let mut expected = String::new();
        for i in 0..4_000 {
            let line = format!("segment {i}\n");
            expected.push_str(&line);
            pages.push(line.into());
            if i % 3 == 0 {
                let len = expected.find('\n').expect("there is a line") + 1;
                pages.cut(len);
                expected.drain(..len);
            }
            for len in [pages.len(), pages.len() / 2, pages.len().min(1), 0] {
                let tail = pages.tail(len);
                assert!(tail.len() <= 4 * FANOUT, "{} pieces", tail.len());
                assert_eq!(tail.concat(), &expected.as_bytes()[expected.len() - len..]);
            }
        }
    }
}
