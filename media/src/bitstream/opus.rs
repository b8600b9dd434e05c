//! Opus (RFC 6716, RFC 7845; Encapsulation of Opus in ISOBMFF): the identification header.

use bytes::{BufMut, Bytes, BytesMut};

use super::Error;
use super::gather::take;
use crate::Audio;

/// Samples a second that Opus is always decoded at.
pub const SAMPLE_RATE: u32 = 48_000;

const MAGIC: &[u8; 8] = b"OpusHead";

/// What a decoder needs to know about an Opus stream.
///
/// The record is rewritten on the way in, so that the same values always make the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    record: Bytes,
    channels: u8,
    pre_skip: u16,
}

impl Config {
    /// Reads an identification header, `OpusHead` and what follows (RFC 7845 5.1), which is also the payload of an
    /// Enhanced RTMP Opus sequence header.
    ///
    /// # Errors
    /// When it is damaged, of another major version or has more than 8 channels.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the record is handed over, as for every codec"
    )]
    pub fn from_record(record: Bytes) -> Result<Self, Error> {
        let mut rest = record
            .strip_prefix(MAGIC)
            .ok_or(Error::Invalid("OpusHead"))?;
        let [version, channels] = take(&mut rest, "OpusHead")?;
        if version >= 16 {
            return Err(Error::Unsupported("OpusHead version"));
        }
        let pre_skip = u16::from_le_bytes(take(&mut rest, "OpusHead")?);
        let input_rate = u32::from_le_bytes(take(&mut rest, "OpusHead")?);
        let gain = i16::from_le_bytes(take(&mut rest, "OpusHead")?);
        Self::new(channels, pre_skip, input_rate, gain, rest)
    }

    /// Reads the body of a `dOps` box (Opus in ISOBMFF 4.3.2): the same values, big-endian.
    ///
    /// # Errors
    /// As [`Config::from_record`].
    pub fn from_dops(body: &[u8]) -> Result<Self, Error> {
        let mut rest = body;
        let [version, channels] = take(&mut rest, "dOps")?;
        if version != 0 {
            return Err(Error::Unsupported("dOps version"));
        }
        let pre_skip = u16::from_be_bytes(take(&mut rest, "dOps")?);
        let input_rate = u32::from_be_bytes(take(&mut rest, "dOps")?);
        let gain = i16::from_be_bytes(take(&mut rest, "dOps")?);
        Self::new(channels, pre_skip, input_rate, gain, rest)
    }

    /// `rest` is the channel mapping family and its table (RFC 7845 5.1.1).
    fn new(
        channels: u8,
        pre_skip: u16,
        input_rate: u32,
        gain: i16,
        mut rest: &[u8],
    ) -> Result<Self, Error> {
        let [family] = take(&mut rest, "OpusHead")?;
        let channels_max = match family {
            0 => 2,
            1 => 8,
            _ => return Err(Error::Unsupported("Opus channel mapping family")),
        };
        if channels == 0 {
            return Err(Error::Invalid("Opus channel count"));
        }
        if channels > channels_max {
            return Err(Error::Limit("Opus channels"));
        }
        let mut record = BytesMut::with_capacity(32);
        record.put_slice(MAGIC);
        record.put_u8(1);
        record.put_u8(channels);
        record.put_u16_le(pre_skip);
        record.put_u32_le(input_rate);
        record.put_i16_le(gain);
        record.put_u8(family);
        if family == 1 {
            let [streams, coupled] = take(&mut rest, "OpusHead")?;
            let table = rest
                .get(..channels.into())
                .ok_or(Error::Truncated("OpusHead"))?;
            let sources = streams.checked_add(coupled);
            let valid = streams > 0
                && coupled <= streams
                && sources.is_some_and(|n| table.iter().all(|&from| from < n || from == 255));
            if !valid {
                return Err(Error::Invalid("Opus channel mapping"));
            }
            record.put_u8(streams);
            record.put_u8(coupled);
            record.put_slice(table);
        }
        Ok(Self {
            record: record.freeze(),
            channels,
            pre_skip,
        })
    }

    /// The identification header, from `OpusHead` on.
    #[must_use]
    pub const fn record(&self) -> &Bytes {
        &self.record
    }

    /// The body of a `dOps` box.
    #[must_use]
    pub fn dops(&self) -> Bytes {
        let head = &self.record;
        let mut body = BytesMut::with_capacity(head.len());
        body.put_slice(&[0, self.channels]);
        body.put_u16(self.pre_skip);
        body.extend(head[12..16].iter().rev());
        body.extend(head[16..18].iter().rev());
        body.put_slice(&head[18..]);
        body.freeze()
    }

    /// Channels as decoded.
    #[must_use]
    pub const fn channels(&self) -> u8 {
        self.channels
    }

    /// Samples at 48 kHz to leave out at the start of the stream.
    #[must_use]
    pub const fn pre_skip(&self) -> u16 {
        self.pre_skip
    }

    /// The codecs parameter: `opus`.
    #[must_use]
    pub fn rfc6381(&self) -> String {
        "opus".to_owned()
    }

    /// The sound as decoded.
    #[must_use]
    pub const fn audio(&self) -> Audio {
        Audio {
            sample_rate: SAMPLE_RATE,
            channels: self.channels,
        }
    }
}

/// How many samples at 48 kHz a packet holds (RFC 6716 3.1 and 3.2).
///
/// # Errors
/// When the packet is empty, cut short, or longer than the 120 ms that Opus allows.
pub fn packet_samples(packet: &[u8]) -> Result<u32, Error> {
    let toc = *packet.first().ok_or(Error::Truncated("Opus packet"))?;
    let config = toc >> 3;
    let frame = match config {
        0..12 => [480, 960, 1_920, 2_880][usize::from(config & 3)],
        12..16 => [480, 960][usize::from(config & 1)],
        _ => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1).ok_or(Error::Truncated("Opus packet"))? & 0x3f),
    };
    match frame * frames {
        0 => Err(Error::Invalid("Opus packet")),
        samples if samples > 5_760 => Err(Error::Invalid("Opus packet")),
        samples => Ok(samples),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{DOPS, hex, opus};
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let config = opus();
        assert_eq!((config.channels(), config.pre_skip()), (1, 312));
        assert_eq!(
            config.record(),
            &hex("4f707573486561640101380180bb0000000000")
        );
        assert_eq!(config.dops(), hex(DOPS));
        assert_eq!(Config::from_record(config.record().clone()), Ok(config));
        // 5.1 with its table, a gain, a minor version of the header that may come.
        let surround = hex("4f70757348656164 0f06 3801 80bb0000 00ff 01 04 02 000401020305");
        let config = Config::from_record(surround).expect("valid");
        assert_eq!(config.channels(), 6);
        assert_eq!(
            config.dops(),
            hex("0006 0138 0000bb80 ff00 01 04 02 000401020305")
        );
        assert_eq!(Config::from_dops(&config.dops()), Ok(config));
    }

    #[test]
    fn damage_is_refused() {
        let good = opus().record().clone();
        for len in 0..8 {
            assert_eq!(
                Config::from_record(good.slice(..len)),
                Err(Error::Invalid("OpusHead"))
            );
        }
        for len in 8..good.len() {
            assert_eq!(
                Config::from_record(good.slice(..len)),
                Err(Error::Truncated("OpusHead"))
            );
        }
        let check = |rest: &str, expected| {
            let head = [&b"OpusHead"[..], &hex(rest)].concat();
            assert_eq!(Config::from_record(head.into()), Err(expected));
        };
        check(
            "1001380180bb0000000000",
            Error::Unsupported("OpusHead version"),
        );
        check(
            "0100380180bb0000000000",
            Error::Invalid("Opus channel count"),
        );
        check("0103380180bb0000000000", Error::Limit("Opus channels"));
        check("0109380180bb0000000001", Error::Limit("Opus channels"));
        check(
            "0102380180bb00000000ff",
            Error::Unsupported("Opus channel mapping family"),
        );
        check("0102380180bb0000000001", Error::Truncated("OpusHead"));
        check(
            "0102380180bb000000000101 01 00",
            Error::Truncated("OpusHead"),
        );
        check(
            "0102380180bb000000000101 01 0002",
            Error::Invalid("Opus channel mapping"),
        );
        check(
            "0102380180bb000000000101 02 0001",
            Error::Invalid("Opus channel mapping"),
        );
        check(
            "0102380180bb000000000100 00 ffff",
            Error::Invalid("Opus channel mapping"),
        );
        assert_eq!(
            Config::from_dops(&hex("0002")),
            Err(Error::Truncated("dOps"))
        );
        assert_eq!(
            Config::from_dops(&hex("01010138")),
            Err(Error::Unsupported("dOps version"))
        );
    }

    #[test]
    fn packets_tell_their_length() {
        // RFC 6716 table 2: SILK 20 ms, hybrid 10 ms, CELT 2.5 ms and 20 ms; one, two and many frames.
        assert_eq!(packet_samples(&[1 << 3]), Ok(960));
        assert_eq!(packet_samples(&[12 << 3]), Ok(480));
        assert_eq!(packet_samples(&[16 << 3]), Ok(120));
        assert_eq!(packet_samples(&[31 << 3 | 1]), Ok(1_920));
        assert_eq!(packet_samples(&[31 << 3 | 3, 6]), Ok(5_760));
        assert_eq!(
            packet_samples(&[31 << 3 | 3, 7]),
            Err(Error::Invalid("Opus packet"))
        );
        assert_eq!(
            packet_samples(&[31 << 3 | 3, 0]),
            Err(Error::Invalid("Opus packet"))
        );
        assert_eq!(
            packet_samples(&[31 << 3 | 3]),
            Err(Error::Truncated("Opus packet"))
        );
        assert_eq!(packet_samples(&[]), Err(Error::Truncated("Opus packet")));
    }
}
