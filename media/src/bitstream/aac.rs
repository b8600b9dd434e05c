//! AAC (ISO/IEC 14496-3): the AudioSpecificConfig.

use bytes::Bytes;

use super::Error;
use super::bits::Bits;
use crate::Audio;

/// Audio object types (ISO/IEC 14496-3 table 1.17).
mod object {
    pub(super) const AAC_LC: u8 = 2;
    pub(super) const SBR: u8 = 5;
    pub(super) const PS: u8 = 29;
}

/// Samples a second by `samplingFrequencyIndex` (table 1.18).
const SAMPLE_RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

/// Channels by `channelConfiguration` (table 1.19); 0 is told by a program config element or reserved.
const CHANNELS: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 0, 8, 0];

/// The longest AudioSpecificConfig accepted, in bytes; a program config element with a comment fits.
const RECORD_BYTES_MAX: usize = 512;

/// What a decoder needs to know about an AAC stream. AAC-LC, HE-AAC and HE-AACv2 are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    record: Bytes,
    object_type: u8,
    sample_rate: u32,
    channels: u8,
    samples_per_frame: u32,
    /// Spectral band replication is announced, in either of the two ways.
    sbr: bool,
}

impl Config {
    /// Reads an AudioSpecificConfig (1.6.2.1), which is also the payload of an RTMP AAC sequence header.
    ///
    /// # Errors
    /// When it is damaged, or another kind of AAC.
    pub fn from_record(record: Bytes) -> Result<Self, Error> {
        if record.len() > RECORD_BYTES_MAX {
            return Err(Error::Limit("AudioSpecificConfig"));
        }
        let mut bits = Bits::new(&record, "AudioSpecificConfig");
        let first = object_type(&mut bits)?;
        let mut base = first;
        let core_rate = sampling_frequency(&mut bits)?;
        let mut sample_rate = core_rate;
        let channel_configuration = bits.u8(4)?;
        let mut sbr = false;
        let mut ps = false;
        if matches!(first, object::SBR | object::PS) {
            sbr = true;
            ps = first == object::PS;
            sample_rate = sampling_frequency(&mut bits)?;
            base = object_type(&mut bits)?;
        }
        if base != object::AAC_LC {
            return Err(Error::Unsupported("AAC object type"));
        }

        // GASpecificConfig, 4.4.1.
        let short_frames = bits.bit()?;
        if bits.bit()? {
            bits.skip(14)?; // coreCoderDelay
        }
        let _extension = bits.bit()?;
        let mut channels = CHANNELS[usize::from(channel_configuration)];
        if channel_configuration == 0 {
            channels = program_config_channels(&mut bits)?;
        }
        if channels == 0 {
            return Err(Error::Unsupported("AAC channel configuration"));
        }

        // The backward compatible announcement of SBR and PS behind the rest.
        if !sbr && bits.left() >= 16 && bits.clone().read(11)? == 0x2b7 {
            bits.skip(11)?;
            if object_type(&mut bits)? == object::SBR && bits.bit()? {
                sbr = true;
                sample_rate = sampling_frequency(&mut bits)?;
                if bits.left() >= 12 && bits.read(11)? == 0x548 {
                    ps = bits.bit()?;
                }
            }
        }
        let core_frame = if short_frames { 960 } else { 1024 };
        // SBR doubles the rate, or keeps it when it is told to (4.6.18.2.1).
        let samples_per_frame = match sample_rate {
            rate if rate == core_rate => core_frame,
            rate if rate == 2 * core_rate => 2 * core_frame,
            _ => return Err(Error::Invalid("SBR sample rate")),
        };
        Ok(Self {
            object_type: first,
            sample_rate,
            // Parametric stereo makes two channels of one.
            channels: if ps && channels == 1 { 2 } else { channels },
            samples_per_frame,
            sbr,
            record,
        })
    }

    /// AAC-LC of that shape, or `None` when AAC has no code for it.
    #[must_use]
    pub fn lc(sample_rate: u32, channels: u8) -> Option<Self> {
        let index = SAMPLE_RATES.iter().position(|&rate| rate == sample_rate)?;
        let layout = CHANNELS
            .iter()
            .position(|&count| count == channels && count != 0)?;
        let (index, layout) = (u16::try_from(index).ok()?, u16::try_from(layout).ok()?);
        let record = u16::from(object::AAC_LC) << 11 | index << 7 | layout << 3;
        Self::from_record(Bytes::copy_from_slice(&record.to_be_bytes())).ok()
    }

    /// The AudioSpecificConfig, as it came.
    #[must_use]
    pub const fn record(&self) -> &Bytes {
        &self.record
    }

    /// Samples a second as decoded (with SBR, of the extension).
    #[must_use]
    pub const fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// Channels as decoded.
    #[must_use]
    pub const fn channels(&self) -> u8 {
        self.channels
    }

    /// Samples of each channel in one frame, at [`Config::sample_rate`]: 1024, or 2048 where SBR doubles the rate (960,
    /// 1920 in the short form).
    #[must_use]
    pub const fn samples_per_frame(&self) -> u32 {
        self.samples_per_frame
    }

    /// Plain AAC-LC, which every player has.
    #[must_use]
    pub const fn is_lc(&self) -> bool {
        self.object_type == object::AAC_LC && !self.sbr
    }

    /// The codecs parameter (RFC 6381 3.3): `mp4a.40.2`.
    #[must_use]
    pub fn rfc6381(&self) -> String {
        format!("mp4a.40.{}", self.object_type)
    }

    /// The sound as decoded.
    #[must_use]
    pub const fn audio(&self) -> Audio {
        Audio {
            sample_rate: self.sample_rate,
            channels: self.channels,
        }
    }
}

/// `GetAudioObjectType()`, 1.6.2.1.
fn object_type(bits: &mut Bits<'_>) -> Result<u8, Error> {
    match bits.u8(5)? {
        31 => Ok(bits.u8(6)? + 32),
        kind => Ok(kind),
    }
}

fn sampling_frequency(bits: &mut Bits<'_>) -> Result<u32, Error> {
    let rate = match bits.u8(4)? {
        15 => bits.read(24)?,
        index => SAMPLE_RATES.get(usize::from(index)).copied().unwrap_or(0),
    };
    if (7_350..=96_000).contains(&rate) {
        Ok(rate)
    } else {
        Err(Error::Invalid("sample rate"))
    }
}

/// The channels of a program_config_element(), 4.4.1.1.
fn program_config_channels(bits: &mut Bits<'_>) -> Result<u8, Error> {
    bits.skip(4 + 2 + 4)?; // element_instance_tag, object_type, sampling_frequency_index
    let (front, side, back) = (bits.u8(4)?, bits.u8(4)?, bits.u8(4)?);
    let lfe = bits.u8(2)?;
    let assoc_data = bits.u8(3)?;
    let coupling = bits.u8(4)?;
    for mixdown_bits in [4, 4, 3] {
        if bits.bit()? {
            bits.skip(mixdown_bits)?; // mono, stereo, matrix mixdown
        }
    }
    let mut channels = lfe;
    for _ in 0..front + side + back {
        channels += if bits.bit()? { 2 } else { 1 };
        bits.skip(4)?; // element tag
    }
    bits.skip(4 * (usize::from(lfe) + usize::from(assoc_data)) + 5 * usize::from(coupling))?;
    if channels > 8 {
        return Err(Error::Limit("AAC channels"));
    }
    // byte_alignment() counts from the start of the AudioSpecificConfig, whose bytes these are.
    bits.skip(bits.left() % 8)?;
    let comment = usize::from(bits.u8(8)?);
    bits.skip(8 * comment)?;
    Ok(channels)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{Writer, hex};
    use super::*;

    /// Codec string, sample rate, channels, samples a frame, plain LC.
    fn check(record: &str, expected: Result<(&str, u32, u8, u32, bool), Error>) {
        let config = Config::from_record(hex(record));
        let got = config
            .as_ref()
            .map(|c| (c.rfc6381(), c.sample_rate, c.channels));
        let more = config.as_ref().map(|c| (c.samples_per_frame(), c.is_lc()));
        let expected = expected.as_ref();
        assert_eq!(
            got,
            expected.map(|e| (e.0.to_owned(), e.1, e.2)),
            "{record}"
        );
        assert_eq!(more, expected.map(|e| (e.3, e.4)), "{record}");
    }

    #[test]
    fn configurations_of_encoders() {
        check("2b0a0800", Err(Error::Invalid("SBR sample rate")));
        check("1190", Ok(("mp4a.40.2", 48_000, 2, 1024, true)));
        check("1210", Ok(("mp4a.40.2", 44_100, 2, 1024, true)));
        check("1188", Ok(("mp4a.40.2", 48_000, 1, 1024, true)));
        check("11b0", Ok(("mp4a.40.2", 48_000, 6, 1024, true)));
        check("11b8", Ok(("mp4a.40.2", 48_000, 8, 1024, true)));
        check("1194", Ok(("mp4a.40.2", 48_000, 2, 960, true)));
        // FFmpeg adds a backward compatible extension that says "no SBR".
        check("119056e500", Ok(("mp4a.40.2", 48_000, 2, 1024, true)));
        // HE-AAC at 24 to 48 kHz, announced both ways; HE-AACv2 makes stereo of mono.
        check("131056e598", Ok(("mp4a.40.2", 48_000, 2, 2048, false)));
        check("2b118800", Ok(("mp4a.40.5", 48_000, 2, 2048, false)));
        // SBR that keeps the rate.
        check("29918800", Ok(("mp4a.40.5", 48_000, 2, 1024, false)));
        check("eb098800", Ok(("mp4a.40.29", 48_000, 2, 2048, false)));
        // 44 056 Hz has no index.
        let record = Writer::default()
            .u(5, 2)
            .u(4, 15)
            .u(24, 44_056)
            .u(4, 2)
            .u(3, 0);
        let nal = super::super::bits::unescape(&record.nal());
        let config = Config::from_record(nal.into()).expect("valid");
        assert_eq!((config.sample_rate(), config.channels()), (44_056, 2));
    }

    #[test]
    fn a_program_config_element_counts_its_channels() {
        // One pair in front, one single at each of side and back, one LFE, an empty comment.
        let element = Writer::default().u(5, 2).u(4, 3).u(4, 0).u(3, 0).u(10, 0);
        let element = element
            .u(4, 1)
            .u(4, 1)
            .u(4, 1)
            .u(2, 1)
            .u(3, 0)
            .u(4, 0)
            .u(3, 0);
        let element = element.u(5, 0b1_0000).u(5, 0).u(5, 0).u(4, 0);
        let config =
            Config::from_record(super::super::bits::unescape(&element.u(24, 0).nal()).into());
        assert_eq!(config.map(|config| config.channels()), Ok(5));
        let many = Writer::default().u(5, 2).u(4, 3).u(4, 0).u(3, 0).u(10, 0);
        let many = many
            .u(4, 15)
            .u(4, 15)
            .u(4, 15)
            .u(2, 3)
            .u(3, 7)
            .u(4, 15)
            .u(3, 0)
            .u(64, u64::MAX);
        let many = (0..10).fold(many, |w, _| w.u(64, u64::MAX));
        assert_eq!(
            Config::from_record(many.nal().into()),
            Err(Error::Limit("AAC channels"))
        );
    }

    #[test]
    fn other_kinds_and_damage_are_refused() {
        check("", Err(Error::Truncated("AudioSpecificConfig")));
        check("11", Err(Error::Truncated("AudioSpecificConfig")));
        check("0990", Err(Error::Unsupported("AAC object type"))); // Main
        check("f8e62000", Err(Error::Unsupported("AAC object type"))); // ELD
        check("1690", Err(Error::Invalid("sample rate"))); // index 13
        check("11c8", Err(Error::Unsupported("AAC channel configuration"))); // 9
        check("1180", Err(Error::Truncated("AudioSpecificConfig"))); // element missing
        let long = Bytes::from(vec![0x11; RECORD_BYTES_MAX + 1]);
        assert_eq!(
            Config::from_record(long),
            Err(Error::Limit("AudioSpecificConfig"))
        );
    }

    #[test]
    fn plain_configurations_are_made() {
        let config = Config::lc(48_000, 2).expect("there is a code");
        assert_eq!(&config.record()[..], [0x11, 0x90]);
        assert!(config.is_lc());
        assert_eq!(
            config.audio(),
            Audio {
                sample_rate: 48_000,
                channels: 2
            }
        );
        assert_eq!(
            Config::lc(44_100, 8).map(|config| config.channels()),
            Some(8)
        );
        assert_eq!(Config::lc(47_999, 2), None);
        assert_eq!(Config::lc(48_000, 9), None);
        assert_eq!(Config::lc(48_000, 0), None);
    }
}
