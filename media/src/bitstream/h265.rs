//! H.265/HEVC (ITU-T H.265, ISO/IEC 23008-2): `hvcC` records and access units.

mod sps;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};

use super::bits::{Bits, unescape};
use super::gather::{Gather, keep_nal_unit, nal_units, put_set, take, without_trailing_zeros};
use super::{Error, RECORD_BYTES_MAX, SETS_PER_UNIT_MAX, annexb};
use crate::Video;

pub use sps::{Profile, Sps};

/// NAL unit types (H.265 table 7-1).
mod nal {
    pub(super) const RASL_R: u8 = 9;
    pub(super) const BLA_W_LP: u8 = 16;
    pub(super) const CRA: u8 = 21;
    pub(super) const VPS: u8 = 32;
    pub(super) const SPS: u8 = 33;
    pub(super) const PPS: u8 = 34;
    pub(super) const END_OF_SEQUENCE: u8 = 36;
    pub(super) const PREFIX_SEI: u8 = 39;
    pub(super) const SUFFIX_SEI: u8 = 40;
}

/// One access unit, normalised.
pub type Normalized = super::Normalized<Config>;

/// The parameter sets of a stream, as an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15 8.3.3.1).
///
/// The record is rewritten on the way in, so that the same parameter sets always make the same bytes: four-byte
/// lengths, one complete array each of VPS, SPS and PPS, sets in the order of their ids, no SEI.
#[derive(Clone, Debug)]
pub struct Config {
    record: Bytes,
    annexb: Bytes,
    sps: Sps,
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.record == other.record
    }
}

impl Eq for Config {}

impl Config {
    /// Reads the body of an `hvcC` box, which is also the payload of an Enhanced RTMP sequence header. Its length
    /// size is read by [`length_size`]; the record kept here always says four.
    ///
    /// # Errors
    /// When the record is damaged, lacks a parameter set or describes pictures beyond the limits.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the record is handed over, as for every codec"
    )]
    pub fn from_record(record: Bytes) -> Result<Self, Error> {
        length_size(&record)?;
        if record.len() > RECORD_BYTES_MAX {
            return Err(Error::Limit("hvcC"));
        }
        let mut sets = Sets::default();
        let mut rest = &record[22..];
        let [arrays] = take(&mut rest, "hvcC")?;
        for _ in 0..arrays {
            let [kind] = take(&mut rest, "hvcC")?;
            let units = u16::from_be_bytes(take(&mut rest, "hvcC")?);
            for _ in 0..units {
                let len = u16::from_be_bytes(take(&mut rest, "hvcC")?);
                let (unit, after) = rest
                    .split_at_checked(len.into())
                    .ok_or(Error::Truncated("hvcC"))?;
                rest = after;
                let kind = kind & 0x3f;
                if matches!(kind, nal::VPS | nal::SPS | nal::PPS) {
                    sets.add_only(unit, kind)?;
                }
            }
        }
        sets.config()
    }

    /// Builds the configuration from one VPS, one SPS and one PPS (NAL units without start codes).
    ///
    /// # Errors
    /// As [`Config::from_record`].
    pub fn from_parameter_sets(vps: &[u8], sps: &[u8], pps: &[u8]) -> Result<Self, Error> {
        let mut sets = Sets::default();
        sets.add_only(vps, nal::VPS)?;
        sets.add_only(sps, nal::SPS)?;
        sets.add_only(pps, nal::PPS)?;
        sets.config()
    }

    /// The body of an `hvcC` box for the units that [`normalize`] makes.
    #[must_use]
    pub const fn record(&self) -> &Bytes {
        &self.record
    }

    /// The codecs parameter (ISO/IEC 14496-15 E.3): `hvc1.1.6.L93.B0`.
    #[must_use]
    pub fn rfc6381(&self) -> String {
        let profile = &self.sps.profile;
        let mut text = String::from("hvc1.");
        text.extend([None, Some('A'), Some('B'), Some('C')][usize::from(profile.space & 3)]);
        let tier = if profile.high_tier { 'H' } else { 'L' };
        let compatibility = profile.compatibility.reverse_bits();
        write!(
            text,
            "{}.{compatibility:X}.{tier}{}",
            profile.idc, profile.level_idc
        )
        .expect("a string takes all");
        let used = profile
            .constraints
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |i| i + 1);
        for byte in &profile.constraints[..used] {
            write!(text, ".{byte:X}").expect("a string takes all");
        }
        text
    }

    /// The picture as displayed.
    #[must_use]
    pub const fn video(&self) -> Video {
        self.sps.video
    }

    /// The sequence parameter set of the first picture parameter set.
    #[must_use]
    pub const fn sps(&self) -> &Sps {
        &self.sps
    }

    /// All parameter sets behind start codes, as decoders want them ahead of the first picture.
    #[must_use]
    pub fn annexb(&self) -> Bytes {
        self.annexb.clone()
    }

    /// As the function [`normalize`], for units that may carry only some of the parameter sets: the others are taken
    /// from here.
    ///
    /// # Errors
    /// As the function.
    pub fn normalize(&self, data: &Bytes, length_size: u8) -> Result<Normalized, Error> {
        normalize_onto(Some(self), data, length_size)
    }
}

/// The length size (1 to 4 bytes) of the units that come with an `hvcC` record.
///
/// # Errors
/// When the record is of another version or cut short.
pub fn length_size(record: &[u8]) -> Result<u8, Error> {
    match (record.first(), record.get(21)) {
        // Version 0 was written by encoders of the draft, with the same layout.
        (Some(0 | 1), Some(flags)) => Ok((flags & 3) + 1),
        (Some(0 | 1) | None, _) => Err(Error::Truncated("hvcC")),
        _ => Err(Error::Unsupported("hvcC version")),
    }
}

/// Turns one access unit, as NAL units behind lengths of `length_size` bytes, into the form of
/// [`crate::AccessUnit::data`]: slices, SEI and ends of sequence (they change how a following CRA picture is decoded)
/// stay; parameter sets are taken out and reported; delimiters, filler, other layers and reserved types go.
///
/// A keyframe is a picture at which decoding may start (H.265 3.1.73, IRAP): IDR, BLA and CRA. A decoder that starts
/// at a CRA picture leaves out the RASL pictures that follow it, so only IDR and BLA pictures begin a part that plays
/// whole on its own; ask [`is_cra`] where that matters.
///
/// In-band sets are reported when the unit holds at least a VPS, an SPS and a PPS.
///
/// # Errors
/// When a NAL unit is empty, cut short or marked damaged, or a parameter set is refused.
pub fn normalize(data: &Bytes, length_size: u8) -> Result<Normalized, Error> {
    normalize_onto(None, data, length_size)
}

/// Whether the picture of a normalised unit is a CRA picture: decoding may start there, but pictures presented before
/// it may need those from before.
#[must_use]
pub fn is_cra(data: &[u8]) -> bool {
    let kinds = nal_units(data, 4)
        .map_while(Result::ok)
        .map(|unit| data[unit.span.start] >> 1 & 0x3f);
    kinds.into_iter().find(|&kind| kind <= nal::CRA) == Some(nal::CRA)
}

fn normalize_onto(
    current: Option<&Config>,
    data: &Bytes,
    length_size: u8,
) -> Result<Normalized, Error> {
    let mut kept = Gather::new(data);
    let mut sets = Sets::default();
    let (mut slices, mut irap_slices) = (0_u32, 0_u32);
    for unit in nal_units(data, length_size) {
        let unit = unit?;
        let (kind, layer) = header(&data[unit.span.clone()])?;
        if layer != 0 {
            continue;
        }
        match kind {
            0..=nal::RASL_R | nal::BLA_W_LP..=nal::CRA => {
                slices = slices.saturating_add(1);
                irap_slices = irap_slices.saturating_add(u32::from(kind >= nal::BLA_W_LP));
                keep_nal_unit(&mut kept, length_size, unit);
            }
            nal::END_OF_SEQUENCE | nal::PREFIX_SEI | nal::SUFFIX_SEI => {
                keep_nal_unit(&mut kept, length_size, unit);
            }
            nal::VPS | nal::SPS | nal::PPS => sets.add(&data[unit.span])?,
            _ => {}
        }
    }
    Ok(Normalized {
        data: if slices == 0 {
            Bytes::new()
        } else {
            kept.finish()
        },
        keyframe: slices > 0 && slices == irap_slices,
        parameter_sets: sets.onto(current)?,
    })
}

/// The type and the layer of a NAL unit (H.265 7.3.1.2).
fn header(nal: &[u8]) -> Result<(u8, u8), Error> {
    let [first, second, ..] = nal else {
        return Err(Error::Truncated("NAL unit header"));
    };
    if first & 0x80 != 0 || second & 7 == 0 {
        return Err(Error::Invalid("NAL unit header"));
    }
    Ok((first >> 1 & 0x3f, (first & 1) << 5 | second >> 3))
}

/// Parameter sets by id, parsed as far as anyone asks.
#[derive(Default)]
struct Sets {
    vps: BTreeMap<u8, Vec<u8>>,
    sps: BTreeMap<u8, (Vec<u8>, Sps)>,
    /// With the id of the SPS each refers to.
    pps: BTreeMap<u8, (Vec<u8>, u8)>,
    added: usize,
}

impl Sets {
    /// Adds a set of that kind; a later one of the same id replaces an earlier one, as in a decoder.
    fn add_only(&mut self, nal: &[u8], kind: u8) -> Result<(), Error> {
        if header(nal)? == (kind, 0) {
            self.add(nal)
        } else {
            Err(Error::Invalid("parameter set"))
        }
    }

    fn add(&mut self, nal: &[u8]) -> Result<(), Error> {
        self.added += 1;
        if self.added > SETS_PER_UNIT_MAX || nal.len() > RECORD_BYTES_MAX {
            return Err(Error::Limit("parameter sets"));
        }
        let nal = without_trailing_zeros(nal);
        if annexb::start_code(nal, 0).is_some() {
            // In a byte stream it would be two sets, and the second not the one checked here.
            return Err(Error::Invalid("parameter set"));
        }
        let (kind, _) = header(nal)?;
        let payload = unescape(nal);
        match kind {
            nal::VPS => {
                let mut bits = Bits::new(&payload, "VPS");
                bits.skip(16)?;
                self.vps.insert(bits.u8(4)?, nal.to_vec());
            }
            nal::SPS => {
                let (id, sps) = Sps::parse(&payload)?;
                self.sps.insert(id, (nal.to_vec(), sps));
            }
            _ => {
                let mut bits = Bits::new(&payload, "PPS");
                bits.skip(16)?;
                let id = bits.ue_max(63, "PPS id")?;
                let sps = bits.ue_max(15, "PPS's SPS id")?;
                let [id, sps] = [id, sps].map(|id| u8::try_from(id).expect("checked above"));
                self.pps.insert(id, (nal.to_vec(), sps));
            }
        }
        Ok(())
    }

    /// The configuration after these sets arrived, or `None` when they change nothing or do not suffice.
    fn onto(self, current: Option<&Config>) -> Result<Option<Config>, Error> {
        let Some(current) = current else {
            let whole = !self.vps.is_empty() && !self.sps.is_empty() && !self.pps.is_empty();
            return if whole {
                self.config().map(Some)
            } else {
                Ok(None)
            };
        };
        if self.added == 0 {
            return Ok(None);
        }
        let mut all = Self::default();
        for set in annexb::split(&current.annexb) {
            all.add(&set)?;
        }
        all.vps.extend(self.vps);
        all.sps.extend(self.sps);
        all.pps.extend(self.pps);
        all.config().map(Some)
    }

    fn config(self) -> Result<Config, Error> {
        let (_, active) = self.pps.values().next().ok_or(Error::Missing("PPS"))?;
        if self
            .pps
            .values()
            .any(|(_, sps)| !self.sps.contains_key(sps))
        {
            return Err(Error::Missing("SPS"));
        }
        if self
            .sps
            .values()
            .any(|(_, sps)| !self.vps.contains_key(&sps.vps_id))
        {
            return Err(Error::Missing("VPS"));
        }
        let (_, sps) = &self.sps[active];
        let profile = &sps.profile;
        let mut record = BytesMut::new();
        let mut annexb = BytesMut::new();
        record.put_u8(1);
        record.put_u8(profile.space << 6 | u8::from(profile.high_tier) << 5 | profile.idc);
        record.put_u32(profile.compatibility);
        record.put_slice(&profile.constraints);
        record.put_u8(profile.level_idc);
        record.put_u16(0xf000); // min_spatial_segmentation_idc: no promise
        record.put_u8(0xfc); // parallelismType: unknown
        record.put_u8(0xfc | sps.chroma.idc());
        record.put_u8(0xf8 | (sps.bit_depth_luma - 8));
        record.put_u8(0xf8 | (sps.bit_depth_chroma - 8));
        record.put_u16(0); // avgFrameRate: unspecified
        // constantFrameRate unknown, numTemporalLayers, temporalIdNested, lengthSizeMinusOne = 3.
        record.put_u8(sps.temporal_layers << 3 | u8::from(sps.temporal_id_nested) << 2 | 3);
        record.put_u8(3);
        let arrays: [(u8, Vec<&Vec<u8>>); 3] = [
            (nal::VPS, self.vps.values().collect()),
            (nal::SPS, self.sps.values().map(|(set, _)| set).collect()),
            (nal::PPS, self.pps.values().map(|(set, _)| set).collect()),
        ];
        for (kind, sets) in arrays {
            record.put_u8(0x80 | kind); // array_completeness, as hvc1 demands
            record.put_u16(u16::try_from(sets.len()).expect("at most 64 ids"));
            for set in sets {
                put_set(set, &mut record, &mut annexb)?;
            }
        }
        if record.len() > RECORD_BYTES_MAX {
            return Err(Error::Limit("hvcC"));
        }
        Ok(Config {
            record: record.freeze(),
            annexb: annexb.freeze(),
            sps: sps.clone(),
        })
    }
}
