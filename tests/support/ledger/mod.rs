//! The frame ledger: a source whose every picture carries its number, whose sound carries the time, and readers that
//! get both back from whatever a player would see.
//!
//! The number stands in the upper quarter of the picture, one block a bit, as a Gray code (pictures n and n + 1 differ
//! in one block, so a blend of them is seen as unreadable, not as a third number) and once more inverted (so that no
//! single wrong block makes another number). A white bar under it flashes at every whole second, when a tone begins.

mod sound;
mod source;
mod view;

pub(crate) use sound::{Sound, offsets};
pub(crate) use source::{Codec, Picture, Source};
pub(crate) use view::{Report, View};

/// Blocks of the code across the picture.
const COLUMNS: u32 = 8;
/// Rows of blocks: two of the number, two of its inverse, one of the flash.
const ROWS: u32 = 5;
/// Pictures that a flash lasts.
const FLASH_PICTURES: u32 = 3;
/// Tones that follow each other, to tell the seconds apart.
const TONES: u32 = 8;
/// Length of a tone, in seconds.
const TONE_SECONDS: f64 = 0.06;

/// Frequency of the tone of second `second`.
fn tone_hertz(second: u32) -> u32 {
    600 + 200 * (second % TONES)
}

#[cfg(test)]
mod tests;
