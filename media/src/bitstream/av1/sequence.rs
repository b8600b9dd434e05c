//! The sequence header (AV1 5.5).

use super::super::bits::Bits;
use super::super::{BIT_DEPTH_MAX, Chroma, Color, Error, check_size, frame_rate};
use crate::{Rational, Video};

/// What a sequence header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceHeader {
    /// `seq_profile`: 0 Main, 1 High, 2 Professional.
    pub profile: u8,
    /// `seq_level_idx` of the first operating point: four for each level above 2.0, one for each step after the
    /// point; 31 stands for no level.
    pub level_idx: u8,
    /// High tier, not main tier.
    pub high_tier: bool,
    /// Frame headers leave out what still pictures do not need.
    pub reduced_still_picture: bool,
    /// Bits of a sample.
    pub bit_depth: u8,
    /// Colour sampling.
    pub chroma: Chroma,
    /// Where colour samples lie: 0 unknown, 1 vertical, 2 colocated.
    pub chroma_sample_position: u8,
    /// Meaning of the samples.
    pub color: Color,
    /// Film grain is to be added to decoded pictures.
    pub film_grain: bool,
    /// The largest picture.
    pub video: Video,
}

impl SequenceHeader {
    /// Reads the payload of a sequence header OBU.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Error> {
        let mut bits = Bits::new(payload, "sequence header");
        let profile = bits.u8(3)?;
        if profile > 2 {
            return Err(Error::Invalid("seq_profile"));
        }
        bits.skip(1)?; // still_picture
        let reduced_still_picture = bits.bit()?;
        let (level_idx, high_tier, frame_rate) = if reduced_still_picture {
            (level(&mut bits)?, false, None)
        } else {
            operating_points(&mut bits)?
        };

        let (width_bits, height_bits) = (bits.read(4)? + 1, bits.read(4)? + 1);
        let (width, height) = (bits.read(width_bits)? + 1, bits.read(height_bits)? + 1);
        check_size(width, height)?;
        let side = |size| u16::try_from(size).map_err(|_| Error::Limit("picture size"));

        if !reduced_still_picture && bits.bit()? {
            bits.skip(7)?; // lengths of frame ids
        }
        bits.skip(3)?; // use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter
        if !reduced_still_picture {
            inter_tools(&mut bits)?;
        }
        bits.skip(3)?; // enable_superres, enable_cdef, enable_restoration
        let (bit_depth, chroma, chroma_sample_position, color) = color_config(&mut bits, profile)?;
        let film_grain = bits.bit()?;
        Ok(Self {
            profile,
            level_idx,
            high_tier,
            reduced_still_picture,
            bit_depth,
            chroma,
            chroma_sample_position,
            color,
            film_grain,
            video: Video {
                width: side(width)?,
                height: side(height)?,
                sample_aspect: Rational::ONE,
                frame_rate,
            },
        })
    }
}

/// Timing, decoder model and operating points: the level and the tier of the first, and the frame rate.
fn operating_points(bits: &mut Bits<'_>) -> Result<(u8, bool, Option<Rational>), Error> {
    let mut rate = None;
    let mut buffer_delay_len = None;
    if bits.bit()? {
        let num_units_in_display_tick = bits.read(32)?;
        let time_scale = bits.read(32)?;
        if bits.bit()? {
            let ticks_per_picture = u64::from(bits.uvlc()?) + 1;
            let ticks = u64::from(num_units_in_display_tick).checked_mul(ticks_per_picture);
            rate = frame_rate(time_scale.into(), ticks.unwrap_or(0));
        }
        if bits.bit()? {
            buffer_delay_len = Some(usize::from(bits.u8(5)?) + 1);
            bits.skip(32)?; // num_units_in_decoding_tick
            bits.skip(10)?; // lengths of other times
        }
    }
    let display_delay = bits.bit()?;
    let points = bits.u8(5)? + 1;
    let mut first = None;
    for _ in 0..points {
        bits.skip(12)?; // operating_point_idc
        let level_idx = level(bits)?;
        let high_tier = level_idx > 7 && bits.bit()?;
        first.get_or_insert((level_idx, high_tier));
        if let Some(len) = buffer_delay_len
            && bits.bit()?
        {
            bits.skip(2 * len + 1)?; // decoder and encoder delay, low_delay_mode_flag
        }
        if display_delay && bits.bit()? {
            bits.skip(4)?; // initial_display_delay_minus_1
        }
    }
    let (level_idx, high_tier) = first.expect("there is at least one point");
    Ok((level_idx, high_tier, rate))
}

fn level(bits: &mut Bits<'_>) -> Result<u8, Error> {
    match bits.u8(5)? {
        // 5.2 and below. 31 makes no promise, which encoders without a known frame rate write; the picture's size and
        // the stream's rate have bounds of their own.
        level @ (0..=14 | 31) => Ok(level),
        _ => Err(Error::Limit("level")),
    }
}

/// From `enable_interintra_compound` to `order_hint_bits_minus_1`.
fn inter_tools(bits: &mut Bits<'_>) -> Result<(), Error> {
    bits.skip(4)?; // interintra, masked compound, warped motion, dual filter
    let order_hint = bits.bit()?;
    if order_hint {
        bits.skip(2)?; // enable_jnt_comp, enable_ref_frame_mvs
    }
    let choose_screen_content = bits.bit()?;
    if (choose_screen_content || bits.bit()?) && !bits.bit()? {
        bits.skip(1)?; // seq_force_integer_mv, unless chosen by each frame
    }
    if order_hint {
        bits.skip(3)?; // order_hint_bits_minus_1
    }
    Ok(())
}

/// AV1 5.5.2: bit depth, chroma, chroma sample position, colours.
fn color_config(bits: &mut Bits<'_>, profile: u8) -> Result<(u8, Chroma, u8, Color), Error> {
    let high_bitdepth = bits.bit()?;
    let bit_depth = match (high_bitdepth, profile == 2 && high_bitdepth && bits.bit()?) {
        (_, true) => 12,
        (true, false) => 10,
        (false, false) => 8,
    };
    if bit_depth > BIT_DEPTH_MAX {
        return Err(Error::Limit("bit depth"));
    }
    let monochrome = profile != 1 && bits.bit()?;
    let mut color = Color::UNSPECIFIED;
    if bits.bit()? {
        color.primaries = bits.u8(8)?;
        color.transfer = bits.u8(8)?;
        color.matrix = bits.u8(8)?;
    }
    if monochrome {
        color.full_range = bits.bit()?;
        return Ok((bit_depth, Chroma::Monochrome, 0, color));
    }
    // BT.709 primaries, sRGB transfer, identity matrix.
    let rgb = (color.primaries, color.transfer, color.matrix) == (1, 13, 0);
    color.full_range = rgb || bits.bit()?;
    let chroma = match profile {
        _ if rgb => Chroma::Yuv444,
        0 => Chroma::Yuv420,
        1 => Chroma::Yuv444,
        _ => Chroma::Yuv422, // others only with 12 bits
    };
    let position = if chroma == Chroma::Yuv420 {
        bits.u8(2)?
    } else {
        0
    };
    bits.skip(1)?; // separate_uv_delta_q
    Ok((bit_depth, chroma, position, color))
}
