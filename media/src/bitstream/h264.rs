//! H.264/AVC (ITU-T H.264, ISO/IEC 14496-10): `avcC` records and access units.

mod sps;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::bits::{Bits, unescape};
use super::gather::{Gather, keep_nal_unit, nal_units, put_set, take, without_trailing_zeros};
use super::{Error, RECORD_BYTES_MAX, SETS_PER_UNIT_MAX, annexb};
use crate::Video;

pub use sps::Sps;

/// NAL unit types (H.264 table 7-1).
mod nal {
    pub(super) const SLICE: u8 = 1;
    pub(super) const IDR: u8 = 5;
    pub(super) const SEI: u8 = 6;
    pub(super) const SPS: u8 = 7;
    pub(super) const PPS: u8 = 8;
}

/// One access unit, normalised.
pub type Normalized = super::Normalized<Config>;

/// The parameter sets of a stream, as an AVCDecoderConfigurationRecord (ISO/IEC 14496-15 5.3.3.1).
///
/// The record is rewritten on the way in, so that the same parameter sets always make the same bytes: four-byte
/// lengths, sets in the order of their ids, no SPS extensions.
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
    /// Reads the body of an `avcC` box, which is also the payload of an RTMP sequence header. Its length size is read
    /// by [`length_size`]; the record kept here always says four.
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
            return Err(Error::Limit("avcC"));
        }
        let mut sets = Sets::default();
        let mut rest = &record[5..];
        for (count_bits, kind) in [(0x1f, nal::SPS), (0xff, nal::PPS)] {
            let [count] = take(&mut rest, "avcC")?;
            for _ in 0..count & count_bits {
                let len = u16::from_be_bytes(take(&mut rest, "avcC")?);
                let (set, after) = rest
                    .split_at_checked(len.into())
                    .ok_or(Error::Truncated("avcC"))?;
                sets.add_only(set, kind)?;
                rest = after;
            }
        }
        // What may follow repeats fields of the SPS, or extends it for alpha planes.
        sets.config()
    }

    /// Builds the configuration from one SPS and one PPS (NAL units without start codes).
    ///
    /// # Errors
    /// As [`Config::from_record`].
    pub fn from_parameter_sets(sps: &[u8], pps: &[u8]) -> Result<Self, Error> {
        let mut sets = Sets::default();
        sets.add_only(sps, nal::SPS)?;
        sets.add_only(pps, nal::PPS)?;
        sets.config()
    }

    /// The body of an `avcC` box for the units that [`normalize`] makes.
    #[must_use]
    pub const fn record(&self) -> &Bytes {
        &self.record
    }

    /// The codecs parameter (RFC 6381 3.3): `avc1.64001f`.
    #[must_use]
    pub fn rfc6381(&self) -> String {
        format!(
            "avc1.{:02x}{:02x}{:02x}",
            self.record[1], self.record[2], self.record[3]
        )
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

/// The length size (1 to 4 bytes) of the units that come with an `avcC` record.
///
/// # Errors
/// When the record is of another version or cut short.
pub fn length_size(record: &[u8]) -> Result<u8, Error> {
    let [version, _, _, _, flags, ..] = record else {
        return Err(Error::Truncated("avcC"));
    };
    if *version != 1 {
        return Err(Error::Unsupported("avcC version"));
    }
    Ok((flags & 3) + 1)
}

/// Turns one access unit, as NAL units behind lengths of `length_size` bytes, into the form of
/// [`crate::AccessUnit::data`]: slices and SEI stay; parameter sets are taken out and reported; delimiters, filler,
/// auxiliary and scalable layers, ends of sequence (an IDR picture must follow) and reserved types go.
///
/// A keyframe is an IDR picture. A recovery point is not one: pictures after it may refer to those before.
///
/// In-band sets are reported when the unit holds at least an SPS and a PPS.
///
/// # Errors
/// When a NAL unit is empty, cut short or marked damaged, or a parameter set is refused.
pub fn normalize(data: &Bytes, length_size: u8) -> Result<Normalized, Error> {
    normalize_onto(None, data, length_size)
}

fn normalize_onto(
    current: Option<&Config>,
    data: &Bytes,
    length_size: u8,
) -> Result<Normalized, Error> {
    let mut kept = Gather::new(data);
    let mut sets = Sets::default();
    let (mut slices, mut idr_slices) = (0_u32, 0_u32);
    for unit in nal_units(data, length_size) {
        let unit = unit?;
        let header = data[unit.span.start];
        if header & 0x80 != 0 {
            return Err(Error::Invalid("NAL unit header"));
        }
        match header & 0x1f {
            kind @ nal::SLICE..=nal::IDR => {
                slices = slices.saturating_add(1);
                idr_slices = idr_slices.saturating_add(u32::from(kind == nal::IDR));
                keep_nal_unit(&mut kept, length_size, unit);
            }
            nal::SEI => keep_nal_unit(&mut kept, length_size, unit),
            nal::SPS | nal::PPS => sets.add(&data[unit.span])?,
            _ => {}
        }
    }
    Ok(Normalized {
        data: if slices == 0 {
            Bytes::new()
        } else {
            kept.finish()
        },
        keyframe: slices > 0 && slices == idr_slices,
        parameter_sets: sets.onto(current)?,
    })
}

/// Parameter sets by id, parsed as far as anyone asks.
#[derive(Default)]
struct Sets {
    sps: BTreeMap<u8, (Vec<u8>, Sps)>,
    /// With the id of the SPS each refers to.
    pps: BTreeMap<u8, (Vec<u8>, u8)>,
    added: usize,
}

impl Sets {
    /// Adds a set of that kind; a later one of the same id replaces an earlier one, as in a decoder.
    fn add_only(&mut self, nal: &[u8], kind: u8) -> Result<(), Error> {
        let header = nal.first().ok_or(Error::Invalid("empty parameter set"))?;
        if header & 0x1f == kind {
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
        let payload = unescape(nal);
        if nal.first().is_some_and(|header| header & 0x1f == nal::SPS) {
            let (id, sps) = Sps::parse(&payload)?;
            self.sps.insert(id, (nal.to_vec(), sps));
        } else {
            let mut bits = Bits::new(&payload, "PPS");
            bits.skip(8)?;
            let id = bits.ue_max(255, "PPS id")?;
            let sps = bits.ue_max(31, "PPS's SPS id")?;
            let [id, sps] = [id, sps].map(|id| u8::try_from(id).expect("checked above"));
            self.pps.insert(id, (nal.to_vec(), sps));
        }
        Ok(())
    }

    /// The configuration after these sets arrived, or `None` when they change nothing or do not suffice.
    fn onto(self, current: Option<&Config>) -> Result<Option<Config>, Error> {
        let Some(current) = current else {
            let whole = !self.sps.is_empty() && !self.pps.is_empty();
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
        let (first, sps) = &self.sps[active];
        let mut record = BytesMut::new();
        let mut annexb = BytesMut::new();
        record.put_u8(1);
        record.put_slice(&first[1..4]); // profile, constraints and level as the SPS has them
        record.put_u8(0xff); // lengthSizeMinusOne = 3
        let count = u8::try_from(self.sps.len())
            .ok()
            .filter(|&count| count <= 31);
        record.put_u8(0xe0 | count.ok_or(Error::Limit("SPS count"))?);
        for (set, _) in self.sps.values() {
            put_set(set, &mut record, &mut annexb)?;
        }
        record.put_u8(u8::try_from(self.pps.len()).map_err(|_| Error::Limit("PPS count"))?);
        for (set, _) in self.pps.values() {
            put_set(set, &mut record, &mut annexb)?;
        }
        if !matches!(sps.profile_idc, 66 | 77 | 88) {
            record.put_u8(0xfc | sps.chroma.idc());
            record.put_u8(0xf8 | (sps.bit_depth_luma - 8));
            record.put_u8(0xf8 | (sps.bit_depth_chroma - 8));
            record.put_u8(0); // no SPS extensions
        }
        if record.len() > RECORD_BYTES_MAX {
            return Err(Error::Limit("avcC"));
        }
        Ok(Config {
            record: record.freeze(),
            annexb: annexb.freeze(),
            sps: sps.clone(),
        })
    }
}
