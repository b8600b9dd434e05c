//! AV1 (AV1 Bitstream & Decoding Process Specification; AV1 Codec ISO Media File Format Binding): `av1C` records and
//! temporal units.

mod sequence;
#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::gather::Gather;
use super::{Chroma, Color, Error, RECORD_BYTES_MAX};
use crate::Video;

pub use sequence::SequenceHeader;

/// OBU types (AV1 6.2.2).
mod obu {
    pub(super) const SEQUENCE_HEADER: u8 = 1;
    pub(super) const FRAME_HEADER: u8 = 3;
    pub(super) const TILE_GROUP: u8 = 4;
    pub(super) const METADATA: u8 = 5;
    pub(super) const FRAME: u8 = 6;
    pub(super) const REDUNDANT_FRAME_HEADER: u8 = 7;
}

/// One temporal unit, normalised.
pub type Normalized = super::Normalized<Config>;

/// The sequence header of a stream, as an AV1CodecConfigurationRecord (AV1-ISOBMFF 2.3.3).
///
/// The record is rewritten on the way in, so that the same sequence header always makes the same bytes: the fields as
/// the sequence header has them, then the sequence header alone.
#[derive(Clone, Debug)]
pub struct Config {
    record: Bytes,
    sequence: SequenceHeader,
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.record == other.record
    }
}

impl Eq for Config {}

impl Config {
    /// Reads the body of an `av1C` box, which is also the payload of an Enhanced RTMP sequence header.
    ///
    /// # Errors
    /// When the record is damaged, lacks a sequence header or describes pictures beyond the limits.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the record is handed over, as for every codec"
    )]
    pub fn from_record(record: Bytes) -> Result<Self, Error> {
        let [marker_version, _, _, _, obus @ ..] = &record[..] else {
            return Err(Error::Truncated("av1C"));
        };
        if *marker_version != 0x81 {
            return Err(Error::Unsupported("av1C version"));
        }
        if record.len() > RECORD_BYTES_MAX {
            return Err(Error::Limit("av1C"));
        }
        let mut at = 0;
        while at < obus.len() {
            let unit = Obu::at(obus, at)?;
            if unit.kind == obu::SEQUENCE_HEADER {
                return Self::from_payload(&obus[unit.payload]);
            }
            at = unit.payload.end;
        }
        Err(Error::Missing("sequence header"))
    }

    /// Builds the configuration from a sequence header OBU, its OBU header included.
    ///
    /// # Errors
    /// As [`Config::from_record`].
    pub fn from_sequence_header(obu: &[u8]) -> Result<Self, Error> {
        let unit = Obu::at(obu, 0)?;
        if unit.kind != obu::SEQUENCE_HEADER {
            return Err(Error::Invalid("sequence header"));
        }
        Self::from_payload(&obu[unit.payload])
    }

    fn from_payload(payload: &[u8]) -> Result<Self, Error> {
        if payload.len() > RECORD_BYTES_MAX - 16 {
            return Err(Error::Limit("sequence header"));
        }
        let sequence = SequenceHeader::parse(payload)?;
        let (subsampling, position) = match sequence.chroma {
            Chroma::Monochrome => (0b111, 0),
            Chroma::Yuv420 => (0b011, sequence.chroma_sample_position),
            Chroma::Yuv422 => (0b010, 0),
            Chroma::Yuv444 => (0b000, 0),
        };
        let mut record = BytesMut::with_capacity(payload.len() + 16);
        record.put_u8(0x81);
        record.put_u8(sequence.profile << 5 | sequence.level_idx);
        record.put_u8(
            u8::from(sequence.high_tier) << 7
                | u8::from(sequence.bit_depth > 8) << 6 // no twelve_bit: refused
                | subsampling << 2
                | position,
        );
        record.put_u8(0); // no initial presentation delay
        put_obu_header(&mut record, obu::SEQUENCE_HEADER, None, payload.len());
        record.put_slice(payload);
        Ok(Self {
            record: record.freeze(),
            sequence,
        })
    }

    /// The body of an `av1C` box.
    #[must_use]
    pub const fn record(&self) -> &Bytes {
        &self.record
    }

    /// The codecs parameter (AV1-ISOBMFF 5): `av01.0.08M.08`, longer when the colours are not the usual ones.
    #[must_use]
    pub fn rfc6381(&self) -> String {
        let sequence = &self.sequence;
        let tier = if sequence.high_tier { 'H' } else { 'M' };
        let short = format!(
            "av01.{}.{:02}{tier}.{:02}",
            sequence.profile, sequence.level_idx, sequence.bit_depth
        );
        // Left out, the optional fields mean 4:2:0, BT.709 and limited range; unsaid colours are treated so.
        let color = sequence.color;
        let usual = Color {
            primaries: 1,
            transfer: 1,
            matrix: 1,
            full_range: false,
        };
        if sequence.chroma == Chroma::Yuv420
            && sequence.chroma_sample_position == 0
            && (color == usual || color == Color::UNSPECIFIED)
        {
            return short;
        }
        let (mono, chroma) = match sequence.chroma {
            Chroma::Monochrome => (1, "110".to_owned()),
            Chroma::Yuv420 => (0, format!("11{}", sequence.chroma_sample_position)),
            Chroma::Yuv422 => (0, "100".to_owned()),
            Chroma::Yuv444 => (0, "000".to_owned()),
        };
        format!(
            "{short}.{mono}.{chroma}.{:02}.{:02}.{:02}.{}",
            color.primaries,
            color.transfer,
            color.matrix,
            u8::from(color.full_range)
        )
    }

    /// The picture as displayed. AV1 has square samples.
    #[must_use]
    pub const fn video(&self) -> Video {
        self.sequence.video
    }

    /// The sequence header.
    #[must_use]
    pub const fn sequence_header(&self) -> &SequenceHeader {
        &self.sequence
    }

    /// As the function [`normalize`]: a sequence header is always whole, so nothing is taken from here.
    ///
    /// # Errors
    /// As the function.
    pub fn normalize(&self, data: &Bytes) -> Result<Normalized, Error> {
        normalize(data)
    }
}

/// Turns one temporal unit, as a sequence of OBUs, into the form of [`crate::AccessUnit::data`]: sequence headers,
/// frames, tiles and metadata stay, each with its size; temporal delimiters, tile lists, padding and reserved types go.
///
/// A keyframe is a temporal unit whose first frame is a shown key frame and which brings its sequence header
/// (AV1-ISOBMFF 2.4). A key frame shown later (`show_existing_frame`) is not one: frames decoded between refer to
/// older ones.
///
/// # Errors
/// When an OBU is cut short or breaks its syntax, or the sequence header is refused.
pub fn normalize(data: &Bytes) -> Result<Normalized, Error> {
    let mut kept = Gather::new(data);
    let mut parameter_sets = None;
    let mut first_is_key = None;
    let mut at = 0;
    if data.is_empty() {
        return Err(Error::Truncated("temporal unit"));
    }
    while at < data.len() {
        let unit = Obu::at(data, at)?;
        let payload = &data[unit.payload.clone()];
        match unit.kind {
            obu::SEQUENCE_HEADER => parameter_sets = Some(Config::from_payload(payload)?),
            obu::FRAME | obu::FRAME_HEADER => {
                let frame = payload.first().ok_or(Error::Truncated("frame header"))?;
                // show_existing_frame 0, frame_type KEY_FRAME, show_frame 1 (AV1 5.9.2). A reduced still picture has
                // none of these bits and is always a key frame.
                let reduced = parameter_sets
                    .as_ref()
                    .is_some_and(|config: &Config| config.sequence.reduced_still_picture);
                let key = reduced || frame >> 4 == 0b0001;
                first_is_key.get_or_insert(key && parameter_sets.is_some());
            }
            obu::TILE_GROUP | obu::METADATA | obu::REDUNDANT_FRAME_HEADER => {}
            _ => {
                at = unit.payload.end;
                continue;
            }
        }
        at = unit.payload.end;
        if unit.has_size {
            kept.keep(unit.start..at);
        } else {
            let mut header = BytesMut::with_capacity(16);
            put_obu_header(&mut header, unit.kind, unit.extension, unit.payload.len());
            kept.insert(&header);
            kept.keep(unit.payload);
        }
    }
    Ok(Normalized {
        data: if first_is_key.is_some() {
            kept.finish()
        } else {
            Bytes::new()
        },
        keyframe: first_is_key == Some(true),
        parameter_sets,
    })
}

/// Where an OBU lies (AV1 5.3).
struct Obu {
    start: usize,
    kind: u8,
    extension: Option<u8>,
    has_size: bool,
    payload: Range<usize>,
}

impl Obu {
    /// Reads the headers of the OBU at `start`; without a size of its own it takes the rest of `data`.
    fn at(data: &[u8], start: usize) -> Result<Self, Error> {
        const CUT: Error = Error::Truncated("OBU");
        let header = *data.get(start).ok_or(CUT)?;
        if header & 0x80 != 0 {
            return Err(Error::Invalid("OBU header"));
        }
        let kind = header >> 3 & 0xf;
        let has_size = header & 2 != 0;
        let mut at = start + 1;
        let mut extension = None;
        if header & 4 != 0 {
            extension = Some(*data.get(at).ok_or(CUT)?);
            at += 1;
        }
        let mut size = data.len() - at;
        if has_size {
            let (value, len) = leb128(&data[at..])?;
            at += len;
            size = value;
        }
        let end = at
            .checked_add(size)
            .filter(|&end| end <= data.len())
            .ok_or(CUT)?;
        Ok(Self {
            start,
            kind,
            extension,
            has_size,
            payload: at..end,
        })
    }
}

/// AV1 4.10.5: the value, at most 2^32 - 1, and how many bytes it took.
fn leb128(bytes: &[u8]) -> Result<(usize, usize), Error> {
    let mut value = 0_u64;
    for (i, byte) in bytes.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value)
                .ok()
                .and_then(|value| usize::try_from(value).ok());
            return Ok((value.ok_or(Error::Invalid("OBU size"))?, i + 1));
        }
    }
    Err(if bytes.len() < 8 {
        Error::Truncated("OBU")
    } else {
        Error::Invalid("OBU size")
    })
}

/// Writes an OBU header that carries its size.
fn put_obu_header(out: &mut BytesMut, kind: u8, extension: Option<u8>, len: usize) {
    out.put_u8(kind << 3 | u8::from(extension.is_some()) << 2 | 2);
    if let Some(extension) = extension {
        out.put_u8(extension);
    }
    let mut rest = len;
    loop {
        let low = u8::try_from(rest & 0x7f).expect("seven bits");
        rest >>= 7;
        out.put_u8(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            return;
        }
    }
}
