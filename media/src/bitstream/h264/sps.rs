//! The sequence parameter set (H.264 7.3.2.1.1 and annex E).

use super::super::bits::Bits;
use super::super::{
    Chroma, Color, Error, bit_depth, check_size, chroma, cropped, frame_rate, sample_aspect,
    video_signal_type,
};
use crate::{Rational, Video};

/// What a sequence parameter set says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sps {
    /// `profile_idc`: 66 Baseline, 77 Main, 100 High, 110 High 10, 122 High 4:2:2, 244 High 4:4:4 Predictive.
    pub profile_idc: u8,
    /// The constraint flags, flag 0 in the highest bit.
    pub constraints: u8,
    /// `level_idc`: ten times the level.
    pub level_idc: u8,
    /// Colour sampling.
    pub chroma: Chroma,
    /// Bits of a brightness sample.
    pub bit_depth_luma: u8,
    /// Bits of a colour sample.
    pub bit_depth_chroma: u8,
    /// Width as coded, in samples.
    pub coded_width: u16,
    /// Height as coded, in samples of a frame.
    pub coded_height: u16,
    /// Pictures may be fields, or frames of two fields.
    pub interlaced: bool,
    /// Frames a picture may refer to.
    pub max_ref_frames: u8,
    /// Pictures that may precede another in decoding order and follow it in output order. The level's bound where
    /// the stream does not say.
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
        bits.skip(8)?;
        let profile_idc = bits.u8(8)?;
        let constraints = bits.u8(8)?;
        let level_idc = bits.u8(8)?;
        if level_idc > 52 {
            return Err(Error::Limit("level"));
        }
        let id = bits.ue_max(31, "SPS id")?;
        let format = SampleFormat::parse(&mut bits, profile_idc)?;

        bits.ue_max(12, "log2_max_frame_num")?;
        let poc_type = order_count(&mut bits)?;
        let max_ref_frames = bits.ue_max(16, "max_num_ref_frames")?;
        bits.skip(1)?; // gaps_in_frame_num_value_allowed_flag
        let width_in_mbs = u64::from(bits.ue()?) + 1;
        let height_in_units = u64::from(bits.ue()?) + 1;
        let frame_mbs_only = bits.bit()?;
        if !frame_mbs_only {
            bits.skip(1)?; // mb_adaptive_frame_field_flag
        }
        bits.skip(1)?; // direct_8x8_inference_flag
        let fields = if frame_mbs_only { 1 } else { 2 };
        let size = |mbs: u64| u32::try_from(mbs * 16).unwrap_or(u32::MAX);
        let (coded_width, coded_height) = (size(width_in_mbs), size(height_in_units * fields));
        check_size(coded_width, coded_height)?;

        // H.264 (7-19) to (7-22): cropping counts in units of chroma samples, and of both fields.
        let crop = if bits.bit()? {
            [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?]
        } else {
            [0; 4]
        };
        let (unit_x, unit_y) = match format.chroma_array {
            Chroma::Yuv420 => (2, 2),
            Chroma::Yuv422 => (2, 1),
            Chroma::Monochrome | Chroma::Yuv444 => (1, 1),
        };
        let unit_y = if frame_mbs_only { unit_y } else { unit_y * 2 };
        let width = cropped(coded_width, unit_x, crop[0], crop[1])?;
        let height = cropped(coded_height, unit_y, crop[2], crop[3])?;

        let vui = if bits.bit()? {
            // Cameras are known to cut it short. It is optional, and every decoder forgives that.
            match Vui::parse(&mut bits) {
                Err(Error::Truncated(_)) => Vui::ABSENT,
                vui => vui?,
            }
        } else {
            Vui::ABSENT
        };
        let frame_mbs = u32::try_from(width_in_mbs * height_in_units * fields)
            .map_err(|_| Error::Limit("picture size"))?;
        let bound = max_reorder(profile_idc, constraints, level_idc, poc_type, frame_mbs);
        let narrow = |value: u32| u8::try_from(value).expect("checked to be at most 31");
        let sps = Self {
            profile_idc,
            constraints,
            level_idc,
            chroma: format.chroma,
            bit_depth_luma: format.bit_depth_luma,
            bit_depth_chroma: format.bit_depth_chroma,
            coded_width: u16::try_from(coded_width).map_err(|_| Error::Limit("picture size"))?,
            coded_height: u16::try_from(coded_height).map_err(|_| Error::Limit("picture size"))?,
            interlaced: !frame_mbs_only,
            max_ref_frames: narrow(max_ref_frames),
            max_reorder: vui.max_reorder.map_or(bound, narrow),
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

struct SampleFormat {
    chroma: Chroma,
    /// As `chroma`, with separate colour planes counted as monochrome (`ChromaArrayType`).
    chroma_array: Chroma,
    bit_depth_luma: u8,
    bit_depth_chroma: u8,
}

impl SampleFormat {
    fn parse(bits: &mut Bits<'_>, profile_idc: u8) -> Result<Self, Error> {
        const PROFILES: [u8; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];
        if !PROFILES.contains(&profile_idc) {
            let chroma = Chroma::Yuv420;
            return Ok(Self {
                chroma,
                chroma_array: chroma,
                bit_depth_luma: 8,
                bit_depth_chroma: 8,
            });
        }
        let chroma = chroma(bits.ue()?)?;
        let separate_planes = chroma == Chroma::Yuv444 && bits.bit()?;
        let bit_depth_luma = bit_depth(bits.ue()?)?;
        let bit_depth_chroma = bit_depth(bits.ue()?)?;
        bits.skip(1)?; // qpprime_y_zero_transform_bypass_flag
        if bits.bit()? {
            let lists = if chroma == Chroma::Yuv444 { 12 } else { 8 };
            for list in 0..lists {
                if bits.bit()? {
                    scaling_list(bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
        let chroma_array = if separate_planes {
            Chroma::Monochrome
        } else {
            chroma
        };
        Ok(Self {
            chroma,
            chroma_array,
            bit_depth_luma,
            bit_depth_chroma,
        })
    }
}

/// H.264 7.3.2.1.1.1; only its length matters here.
fn scaling_list(bits: &mut Bits<'_>, len: u32) -> Result<(), Error> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..len {
        if next != 0 {
            next = (last + bits.se()?).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Ok(())
}

/// Reads the picture order count's description and returns its type.
fn order_count(bits: &mut Bits<'_>) -> Result<u32, Error> {
    let poc_type = bits.ue()?;
    match poc_type {
        0 => drop(bits.ue_max(12, "log2_max_pic_order_cnt_lsb")?),
        1 => {
            bits.skip(1)?; // delta_pic_order_always_zero_flag
            bits.se()?; // offset_for_non_ref_pic
            bits.se()?; // offset_for_top_to_bottom_field
            for _ in 0..bits.ue_max(255, "num_ref_frames_in_pic_order_cnt_cycle")? {
                bits.se()?;
            }
        }
        2 => {}
        _ => return Err(Error::Invalid("pic_order_cnt_type")),
    }
    Ok(poc_type)
}

/// What `max_num_reorder_frames` is taken to be when absent (H.264 E.2.1): the pictures the decoder's buffer holds
/// by the level (A.3.1), or none where the stream cannot reorder.
fn max_reorder(profile: u8, constraints: u8, level: u8, poc_type: u32, frame_mbs: u32) -> u8 {
    let constraint_set3 = constraints & 0x10 != 0;
    let intra_only = constraint_set3 && matches!(profile, 44 | 86 | 100 | 110 | 122 | 244);
    // Baseline has no B slices; type 2 makes output order the decoding order.
    if intra_only || poc_type == 2 || profile == 66 {
        return 0;
    }
    let level_1b = level == 11 && constraint_set3 && matches!(profile, 66 | 77 | 88);
    // Table A-1, MaxDpbMbs.
    let max_dpb_mbs: u32 = match level {
        _ if level_1b => 396,
        0..=10 => 396,
        11 => 900,
        12..=20 => 2_376,
        21 => 4_752,
        22..=30 => 8_100,
        31 => 18_000,
        32 => 20_480,
        33..=41 => 32_768,
        42 => 34_816,
        43..=50 => 110_400,
        _ => 184_320,
    };
    u8::try_from((max_dpb_mbs / frame_mbs).min(16)).expect("at most 16")
}

/// What the video usability information says (H.264 E.1.1).
struct Vui {
    sample_aspect: Rational,
    color: Color,
    frame_rate: Option<Rational>,
    max_reorder: Option<u32>,
}

impl Vui {
    const ABSENT: Self = Self {
        sample_aspect: Rational::ONE,
        color: Color::UNSPECIFIED,
        frame_rate: None,
        max_reorder: None,
    };

    fn parse(bits: &mut Bits<'_>) -> Result<Self, Error> {
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
        if bits.bit()? {
            let num_units_in_tick = bits.read(32)?;
            let time_scale = bits.read(32)?;
            bits.skip(1)?; // fixed_frame_rate_flag
            // A tick is a field's time, E.2.1.
            vui.frame_rate = frame_rate(time_scale.into(), 2 * u64::from(num_units_in_tick));
        }
        let nal_hrd = bits.bit()?;
        if nal_hrd {
            hrd(bits)?;
        }
        let vcl_hrd = bits.bit()?;
        if vcl_hrd {
            hrd(bits)?;
        }
        if nal_hrd || vcl_hrd {
            bits.skip(1)?; // low_delay_hrd_flag
        }
        bits.skip(1)?; // pic_struct_present_flag
        if bits.bit()? {
            bits.skip(1)?; // motion_vectors_over_pic_boundaries_flag
            for _ in 0..4 {
                bits.ue()?; // bytes a picture, bits a macroblock, vector lengths
            }
            vui.max_reorder = Some(bits.ue_max(16, "max_num_reorder_frames")?);
            bits.ue_max(16, "max_dec_frame_buffering")?;
        }
        Ok(vui)
    }
}

/// H.264 E.1.2.
fn hrd(bits: &mut Bits<'_>) -> Result<(), Error> {
    let cpb_cnt_minus1 = bits.ue_max(31, "cpb_cnt")?;
    bits.skip(8)?; // bit_rate_scale, cpb_size_scale
    for _ in 0..=cpb_cnt_minus1 {
        bits.ue()?; // bit_rate_value_minus1
        bits.ue()?; // cpb_size_value_minus1
        bits.skip(1)?; // cbr_flag
    }
    bits.skip(20) // lengths of delays and offsets
}
