//! The sequence parameter set (H.265 7.3.2.2 and annex E).

use super::super::bits::Bits;
use super::super::{
    Chroma, Color, Error, bit_depth, check_size, chroma, cropped, frame_rate, sample_aspect,
    video_signal_type,
};
use crate::{Rational, Video};

/// The general part of `profile_tier_level()` (H.265 7.3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// `general_profile_space`.
    pub space: u8,
    /// High tier, not main tier.
    pub high_tier: bool,
    /// `general_profile_idc`: 1 Main, 2 Main 10, 4 format range extensions.
    pub idc: u8,
    /// The compatibility flags, flag 0 in the highest bit.
    pub compatibility: u32,
    /// The 48 bits from `general_progressive_source_flag` on.
    pub constraints: [u8; 6],
    /// `general_level_idc`: thirty times the level.
    pub level_idc: u8,
}

/// What a sequence parameter set says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sps {
    /// The video parameter set it refers to.
    pub(super) vps_id: u8,
    /// Profile, tier and level.
    pub profile: Profile,
    /// Temporal layers, 1 to 7.
    pub temporal_layers: u8,
    /// `sps_temporal_id_nesting_flag`.
    pub temporal_id_nested: bool,
    /// Colour sampling.
    pub chroma: Chroma,
    /// Bits of a brightness sample.
    pub bit_depth_luma: u8,
    /// Bits of a colour sample.
    pub bit_depth_chroma: u8,
    /// Width as coded, in samples.
    pub coded_width: u16,
    /// Height as coded, in samples.
    pub coded_height: u16,
    /// Pictures are fields, or the source was interlaced.
    pub interlaced: bool,
    /// Pictures a decoder has to hold, the current one included.
    pub max_dec_pic_buffering: u8,
    /// Pictures that may precede another in decoding order and follow it in output order.
    pub max_reorder: u8,
    /// Meaning of the samples.
    pub color: Color,
    /// The picture as displayed.
    pub video: Video,
}

impl Sps {
    /// Reads the payload of an SPS, its NAL header included. Returns its id too.
    pub(super) fn parse(payload: &[u8]) -> Result<(u8, Self), Error> {
        let mut bits = Bits::new(payload, "SPS");
        bits.skip(16)?;
        let vps_id = bits.u8(4)?;
        let max_sub_layers_minus1 = bits.u8(3)?;
        if max_sub_layers_minus1 > 6 {
            return Err(Error::Invalid("sps_max_sub_layers"));
        }
        let temporal_id_nested = bits.bit()?;
        let profile = profile_tier_level(&mut bits, max_sub_layers_minus1)?;
        let id = bits.ue_max(15, "SPS id")?;

        let chroma = chroma(bits.ue()?)?;
        if chroma == Chroma::Yuv444 {
            bits.skip(1)?; // separate_colour_plane_flag
        }
        let (coded_width, coded_height) = (bits.ue()?, bits.ue()?);
        check_size(coded_width, coded_height)?;
        // H.265 (7-20) and table 6-1: the window counts in units of chroma samples.
        let window = window(&mut bits)?;
        let (unit_x, unit_y) = match chroma {
            Chroma::Yuv420 => (2, 2),
            Chroma::Yuv422 => (2, 1),
            Chroma::Monochrome | Chroma::Yuv444 => (1, 1),
        };
        let width = cropped(coded_width, unit_x, window[0], window[1])?;
        let height = cropped(coded_height, unit_y, window[2], window[3])?;
        let bit_depth_luma = bit_depth(bits.ue()?)?;
        let bit_depth_chroma = bit_depth(bits.ue()?)?;

        let log2_max_poc_lsb = bits.ue_max(12, "log2_max_pic_order_cnt_lsb")? + 4;
        let ordering_of_each_layer = bits.bit()?;
        let layers = if ordering_of_each_layer {
            u32::from(max_sub_layers_minus1)
        } else {
            0
        };
        let (mut max_dec_pic_buffering, mut max_reorder) = (1, 0);
        for _ in 0..=layers {
            max_dec_pic_buffering = bits.ue_max(15, "sps_max_dec_pic_buffering")? + 1;
            max_reorder = bits.ue_max(15, "sps_max_num_reorder_pics")?;
            bits.ue()?; // sps_max_latency_increase_plus1
        }

        coding_tools(&mut bits)?;
        reference_pictures(&mut bits, log2_max_poc_lsb)?;
        bits.skip(2)?; // sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag
        let vui = if bits.bit()? {
            // Cameras are known to cut it short. It is optional, and every decoder forgives that.
            match Vui::parse(&mut bits, max_sub_layers_minus1) {
                Err(Error::Truncated(_)) => Vui::ABSENT,
                vui => vui?,
            }
        } else {
            Vui::ABSENT
        };

        // general_progressive_source_flag and general_interlaced_source_flag lead the constraints.
        let interlaced_source = profile.constraints[0] & 0xc0 == 0x40;
        let narrow = |value: u32| u8::try_from(value).expect("checked to be at most 16");
        let sps = Self {
            vps_id,
            profile,
            temporal_layers: max_sub_layers_minus1 + 1,
            temporal_id_nested,
            chroma,
            bit_depth_luma,
            bit_depth_chroma,
            coded_width: u16::try_from(coded_width).map_err(|_| Error::Limit("picture size"))?,
            coded_height: u16::try_from(coded_height).map_err(|_| Error::Limit("picture size"))?,
            interlaced: vui.field_seq || interlaced_source,
            max_dec_pic_buffering: narrow(max_dec_pic_buffering),
            max_reorder: narrow(max_reorder),
            color: vui.color,
            video: Video {
                width,
                height,
                sample_aspect: vui.sample_aspect,
                frame_rate: vui.frame_rate,
            },
        };
        Ok((narrow(id), sps))
    }
}

/// H.265 7.3.3, with the general profile present.
fn profile_tier_level(bits: &mut Bits<'_>, max_sub_layers_minus1: u8) -> Result<Profile, Error> {
    let space = bits.u8(2)?;
    let high_tier = bits.bit()?;
    let idc = bits.u8(5)?;
    let compatibility = bits.read(32)?;
    let mut constraints = [0; 6];
    for byte in &mut constraints {
        *byte = bits.u8(8)?;
    }
    let level_idc = bits.u8(8)?;
    if level_idc > 156 {
        return Err(Error::Limit("level"));
    }
    let mut sub_layer_bits = 0;
    for _ in 0..max_sub_layers_minus1 {
        if bits.bit()? {
            sub_layer_bits += 88; // sub_layer_profile_*
        }
        if bits.bit()? {
            sub_layer_bits += 8; // sub_layer_level_idc
        }
    }
    if max_sub_layers_minus1 > 0 {
        bits.skip(2 * (8 - usize::from(max_sub_layers_minus1)))?; // reserved_zero_2bits
    }
    bits.skip(sub_layer_bits)?;
    Ok(Profile {
        space,
        high_tier,
        idc,
        compatibility,
        constraints,
        level_idc,
    })
}

/// An optional window: left, right, top, bottom.
fn window(bits: &mut Bits<'_>) -> Result<[u32; 4], Error> {
    if bits.bit()? {
        Ok([bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?])
    } else {
        Ok([0; 4])
    }
}

/// From `log2_min_luma_coding_block_size_minus3` to the PCM fields; nothing in it is kept.
fn coding_tools(bits: &mut Bits<'_>) -> Result<(), Error> {
    for _ in 0..4 {
        bits.ue_max(4, "coding block sizes")?;
    }
    for _ in 0..2 {
        bits.ue_max(4, "max_transform_hierarchy_depth")?;
    }
    let scaling_lists = bits.bit()?;
    if scaling_lists && bits.bit()? {
        scaling_list_data(bits)?;
    }
    bits.skip(2)?; // amp_enabled_flag, sample_adaptive_offset_enabled_flag
    if bits.bit()? {
        bits.skip(8)?; // PCM bit depths
        bits.ue()?; // log2_min_pcm_luma_coding_block_size_minus3
        bits.ue()?; // log2_diff_max_min_pcm_luma_coding_block_size
        bits.skip(1)?; // pcm_loop_filter_disabled_flag
    }
    Ok(())
}

/// H.265 7.3.4; only its length matters here.
fn scaling_list_data(bits: &mut Bits<'_>) -> Result<(), Error> {
    for size_id in 0..4_u32 {
        for _ in (0..6).step_by(if size_id == 3 { 3 } else { 1 }) {
            if !bits.bit()? {
                bits.ue_max(5, "scaling_list_pred_matrix_id_delta")?;
                continue;
            }
            if size_id > 1 {
                bits.se()?; // scaling_list_dc_coef_minus8
            }
            for _ in 0..64.min(1 << (4 + 2 * size_id)) {
                bits.se()?; // scaling_list_delta_coef
            }
        }
    }
    Ok(())
}

/// The short-term reference picture sets (H.265 7.3.7) and the long-term pictures.
fn reference_pictures(bits: &mut Bits<'_>, log2_max_poc_lsb: u32) -> Result<(), Error> {
    /// A set lists at most this many pictures (7.4.8: sps_max_dec_pic_buffering_minus1).
    const PICTURES_MAX: u32 = 16;
    let sets = bits.ue_max(64, "num_short_term_ref_pic_sets")?;
    // How many pictures the set before lists, which the next may be predicted from.
    let mut pictures = 0;
    for set in 0..sets {
        let predicted = set > 0 && bits.bit()?;
        if predicted {
            bits.skip(1)?; // delta_rps_sign
            bits.ue_max(0x7fff, "abs_delta_rps")?;
            let mut listed = 0;
            for _ in 0..=pictures {
                let used_by_curr_pic = bits.bit()?;
                if used_by_curr_pic || bits.bit()? {
                    listed += 1;
                }
            }
            pictures = listed;
        } else {
            let negative = bits.ue_max(PICTURES_MAX, "num_negative_pics")?;
            let positive = bits.ue_max(PICTURES_MAX, "num_positive_pics")?;
            pictures = negative + positive;
            for _ in 0..pictures.min(PICTURES_MAX) {
                bits.ue_max(0x7fff, "delta_poc")?;
                bits.skip(1)?; // used_by_curr_pic_flag
            }
        }
        if pictures > PICTURES_MAX {
            return Err(Error::Limit("short-term reference pictures"));
        }
    }
    if bits.bit()? {
        for _ in 0..bits.ue_max(32, "num_long_term_ref_pics")? {
            bits.read(log2_max_poc_lsb)?; // lt_ref_pic_poc_lsb_sps
            bits.skip(1)?; // used_by_curr_pic_lt_sps_flag
        }
    }
    Ok(())
}

/// What the video usability information says (H.265 E.2.1).
struct Vui {
    sample_aspect: Rational,
    color: Color,
    field_seq: bool,
    frame_rate: Option<Rational>,
}

impl Vui {
    const ABSENT: Self = Self {
        sample_aspect: Rational::ONE,
        color: Color::UNSPECIFIED,
        field_seq: false,
        frame_rate: None,
    };

    fn parse(bits: &mut Bits<'_>, max_sub_layers_minus1: u8) -> Result<Self, Error> {
        let mut vui = Self::ABSENT;
        if bits.bit()? {
            vui.sample_aspect = sample_aspect(bits)?;
        }
        if bits.bit()? {
            bits.skip(1)?; // overscan_appropriate_flag
        }
        if bits.bit()? {
            vui.color = video_signal_type(bits)?;
        }
        if bits.bit()? {
            bits.ue()?; // chroma_sample_loc_type_top_field
            bits.ue()?; // chroma_sample_loc_type_bottom_field
        }
        bits.skip(1)?; // neutral_chroma_indication_flag
        vui.field_seq = bits.bit()?;
        bits.skip(1)?; // frame_field_info_present_flag
        window(bits)?; // default display window: a hint that players do not follow
        if bits.bit()? {
            let num_units_in_tick = bits.read(32)?;
            let time_scale = bits.read(32)?;
            vui.frame_rate = frame_rate(time_scale.into(), num_units_in_tick.into());
            if bits.bit()? {
                bits.ue()?; // vui_num_ticks_poc_diff_one_minus1
            }
            if bits.bit()? {
                hrd(bits, max_sub_layers_minus1)?;
            }
        }
        // bitstream_restriction() ends the VUI; nothing in it is used.
        Ok(vui)
    }
}

/// H.265 E.2.2, with the common part present.
fn hrd(bits: &mut Bits<'_>, max_sub_layers_minus1: u8) -> Result<(), Error> {
    let nal = bits.bit()?;
    let vcl = bits.bit()?;
    let mut sub_picture = false;
    if nal || vcl {
        sub_picture = bits.bit()?;
        // tick_divisor_minus2, two lengths of 5 bits, a flag between them.
        bits.skip(if sub_picture { 19 } else { 0 })?;
        bits.skip(8)?; // bit_rate_scale, cpb_size_scale
        bits.skip(if sub_picture { 4 } else { 0 })?; // cpb_size_du_scale
        bits.skip(15)?; // lengths of delays
    }
    for _ in 0..=max_sub_layers_minus1 {
        let fixed_rate = bits.bit()? || bits.bit()?;
        let low_delay = if fixed_rate {
            bits.ue()?; // elemental_duration_in_tc_minus1
            false
        } else {
            bits.bit()?
        };
        let cpb_cnt_minus1 = if low_delay {
            0
        } else {
            bits.ue_max(31, "cpb_cnt")?
        };
        for _ in 0..u32::from(nal) + u32::from(vcl) {
            for _ in 0..=cpb_cnt_minus1 {
                for _ in 0..if sub_picture { 4 } else { 2 } {
                    bits.ue()?; // rates and sizes
                }
                bits.skip(1)?; // cbr_flag
            }
        }
    }
    Ok(())
}
