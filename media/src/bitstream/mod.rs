//! Codec configurations and access units, from a stranger's bytes to their one canonical form.
//!
//! Every parser here reads hostile input. It refuses what a decoder would have to pay for (picture size, reference
//! frames, levels) before any decoder sees it, never allocates by a count it has read, and works in time linear in
//! its input.
//!
//! A `Config` is canonical: built from a record or from in-band parameter sets, the same parameter sets give the same
//! record bytes. A publisher that repeats them at each keyframe therefore changes nothing.

pub mod aac;
pub mod annexb;
pub mod av1;
mod bits;
#[cfg(test)]
pub(crate) mod fixtures;
mod gather;
pub mod h264;
pub mod h265;
pub mod opus;

use bytes::Bytes;

use crate::Rational;

/// Why bytes were refused. Always the sender's fault; the same bytes will be refused again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end within the named thing.
    #[error("{0} is cut short")]
    Truncated(&'static str),
    /// The named thing breaks its specification.
    #[error("{0} is not valid")]
    Invalid(&'static str),
    /// The named thing is valid and larger than this server accepts.
    #[error("{0} is beyond this server's limits")]
    Limit(&'static str),
    /// The named thing is valid and this server cannot handle it.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// The named thing is needed and absent.
    #[error("{0} is missing")]
    Missing(&'static str),
}

/// One access unit in the form that [`crate::AccessUnit::data`] wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalized<C> {
    /// The unit. Shares memory with the input unless something had to be taken out of its middle or lengths had to be
    /// rewritten. Empty when the input held no coded picture (parameter sets sent on their own).
    pub data: Bytes,
    /// Decoding may start here.
    pub keyframe: bool,
    /// The configuration that the unit itself carried, if any. Compare it with the one in force: most encoders repeat
    /// theirs.
    pub parameter_sets: Option<C>,
}

/// How colour is sampled beside brightness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Chroma {
    /// No colour.
    Monochrome,
    /// Half the width, half the height.
    Yuv420,
    /// Half the width.
    Yuv422,
    /// Full.
    Yuv444,
}

impl Chroma {
    /// `chroma_format_idc` (H.264 table 6-1, H.265 table 6-1).
    const fn idc(self) -> u8 {
        match self {
            Self::Monochrome => 0,
            Self::Yuv420 => 1,
            Self::Yuv422 => 2,
            Self::Yuv444 => 3,
        }
    }
}

/// Meaning of sample values, in the code points of ISO/IEC 23091-2 (2 means unspecified).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Color {
    /// Colour primaries; 1 is BT.709, 9 is BT.2020.
    pub primaries: u8,
    /// Transfer characteristics; 16 is PQ, 18 is HLG.
    pub transfer: u8,
    /// Matrix coefficients.
    pub matrix: u8,
    /// Samples use the full range of their bits.
    pub full_range: bool,
}

impl Color {
    /// Nothing said.
    pub const UNSPECIFIED: Self = Self {
        primaries: 2,
        transfer: 2,
        matrix: 2,
        full_range: false,
    };
}

/// The longer side of the largest coded picture, in samples.
pub const LONG_SIDE_MAX: u32 = 4096;
/// The shorter side of the largest coded picture, in samples.
pub const SHORT_SIDE_MAX: u32 = 2304;
/// The deepest samples, in bits.
pub const BIT_DEPTH_MAX: u8 = 10;
/// The largest configuration record, in bytes; real ones stay below a tenth of it.
pub const RECORD_BYTES_MAX: usize = 16 * 1024;
/// The most parameter sets one access unit may carry.
const SETS_PER_UNIT_MAX: usize = 64;
/// A frame rate above this is a clock that the encoder did not mean as one, in pictures a second.
const FRAME_RATE_MAX: u64 = 300;

/// Checks a coded (uncropped) picture size; landscape and portrait have the same bounds.
pub(crate) fn check_size(width: u32, height: u32) -> Result<(), Error> {
    if width == 0 || height == 0 {
        return Err(Error::Invalid("picture size"));
    }
    if width.max(height) > LONG_SIDE_MAX || width.min(height) > SHORT_SIDE_MAX {
        return Err(Error::Limit("picture size"));
    }
    Ok(())
}

/// What is left of `size` after cropping, as a side of a [`crate::Video`].
fn cropped(size: u32, unit: u32, before: u32, after: u32) -> Result<u16, Error> {
    let crop = u64::from(unit) * (u64::from(before) + u64::from(after));
    let left = u64::from(size).checked_sub(crop).filter(|&left| left > 0);
    let left = left.ok_or(Error::Invalid("cropping"))?;
    u16::try_from(left).map_err(|_| Error::Limit("picture size"))
}

/// `numerator / denominator` pictures a second in lowest terms, if that can be a frame rate.
fn frame_rate(numerator: u64, denominator: u64) -> Option<Rational> {
    if numerator == 0 || denominator == 0 || numerator / denominator > FRAME_RATE_MAX {
        return None;
    }
    let (mut a, mut b) = (numerator, denominator);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    Rational::new(
        u32::try_from(numerator / a).ok()?,
        u32::try_from(denominator / a).ok()?,
    )
}

/// The sample aspect ratios of `aspect_ratio_idc` 1 to 16 (H.264 table E-1, H.265 table E.1).
const SAMPLE_ASPECTS: [(u32, u32); 16] = [
    (1, 1),
    (12, 11),
    (10, 11),
    (16, 11),
    (40, 33),
    (24, 11),
    (20, 11),
    (32, 11),
    (80, 33),
    (18, 11),
    (15, 11),
    (64, 33),
    (160, 99),
    (4, 3),
    (3, 2),
    (2, 1),
];

/// Reads `aspect_ratio_idc` and what follows it; unspecified and nonsense are 1:1.
fn sample_aspect(bits: &mut bits::Bits<'_>) -> Result<Rational, Error> {
    let (width, height) = match bits.u8(8)? {
        255 => (bits.read(16)?, bits.read(16)?),
        idc => {
            let entry = usize::from(idc)
                .checked_sub(1)
                .and_then(|i| SAMPLE_ASPECTS.get(i));
            entry.copied().unwrap_or((1, 1))
        }
    };
    Ok(Rational::new(width, height)
        .filter(|r| r.num() != 0)
        .unwrap_or(Rational::ONE))
}

/// Reads the `video_signal_type` of a VUI (the same in H.264 E.1.1 and H.265 E.2.1).
fn video_signal_type(bits: &mut bits::Bits<'_>) -> Result<Color, Error> {
    let mut color = Color::UNSPECIFIED;
    bits.skip(3)?; // video_format
    color.full_range = bits.bit()?;
    if bits.bit()? {
        color.primaries = bits.u8(8)?;
        color.transfer = bits.u8(8)?;
        color.matrix = bits.u8(8)?;
    }
    Ok(color)
}

fn chroma(chroma_format_idc: u32) -> Result<Chroma, Error> {
    match chroma_format_idc {
        0 => Ok(Chroma::Monochrome),
        1 => Ok(Chroma::Yuv420),
        2 => Ok(Chroma::Yuv422),
        3 => Ok(Chroma::Yuv444),
        _ => Err(Error::Invalid("chroma_format_idc")),
    }
}

/// `bit_depth_*_minus8` as a depth.
fn bit_depth(minus8: u32) -> Result<u8, Error> {
    let depth = u8::try_from(minus8).ok().and_then(|d| d.checked_add(8));
    depth
        .filter(|&depth| depth <= BIT_DEPTH_MAX)
        .ok_or(Error::Limit("bit depth"))
}
