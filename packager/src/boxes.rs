//! The CMAF header of a track: `ftyp` and `moov` (ISO/IEC 23000-19 7.3.1).

use bytes::Bytes;
use media::bitstream::Color;
use media::{Codec, Format, Rational, Track};
use mp4_atom::{
    Atom, Audio, Av01, Av1c, Avc1, Avcc, Colr, Dinf, Dops, Dref, Encode, Esds, FixedPoint, FourCC,
    Ftyp, Hdlr, Hvc1, Hvcc, Mdhd, Mdia, Minf, Moov, Mp4a, Mvex, Mvhd, Opus, Pasp, Smhd, Stbl, Stco,
    Stsd, Tkhd, Trak, Trex, Url, Visual, Vmhd, esds,
};

/// The only track of every file.
pub(crate) const TRACK_ID: u32 = 1;

/// Sample flags (ISO/IEC 14496-12 8.8.3.1): `sample_depends_on` 2, decoding may start here.
pub(crate) const SYNC: u32 = 0x0200_0000;
/// `sample_depends_on` 1, `sample_is_non_sync_sample`.
pub(crate) const NON_SYNC: u32 = 0x0101_0000;

/// The flags that samples of a track have unless they say otherwise.
pub(crate) const fn default_flags(format: &Format) -> u32 {
    match format {
        Format::Video(_) => NON_SYNC,
        Format::Audio(_) => SYNC,
    }
}

/// The initialization segment of a track.
///
/// # Errors
/// When the box library cannot hold the codec's configuration.
pub(crate) fn init(track: &Track) -> Result<Bytes, mp4_atom::Error> {
    let ftyp = Ftyp {
        major_brand: FourCC::new(b"cmfc"),
        minor_version: 0,
        compatible_brands: [b"iso6", b"cmfc", b"cmf2"].map(FourCC::new).into(),
    };
    let timescale = track.timescale.hz();
    let mut tkhd = Tkhd {
        track_id: TRACK_ID,
        enabled: true,
        in_movie: true,
        ..Tkhd::default()
    };
    let mut minf = Minf {
        dinf: Dinf {
            dref: Dref {
                entries: vec![Url::default().into()],
            },
        },
        stbl: Stbl {
            stsd: Stsd {
                codecs: vec![sample_entry(track)?],
            },
            stco: Some(Stco::default()),
            ..Stbl::default()
        },
        ..Minf::default()
    };
    let handler = match &track.format {
        Format::Video(video) => {
            minf.vmhd = Some(Vmhd::default());
            tkhd.width = display_width(video.width, video.sample_aspect).into();
            tkhd.height = video.height.into();
            Hdlr {
                handler: FourCC::new(b"vide"),
                name: "video".to_owned(),
            }
        }
        Format::Audio(_) => {
            minf.smhd = Some(Smhd::default());
            tkhd.volume = 1.into();
            Hdlr {
                handler: FourCC::new(b"soun"),
                name: "audio".to_owned(),
            }
        }
    };
    let moov = Moov {
        mvhd: Mvhd {
            timescale,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: TRACK_ID + 1,
            ..Mvhd::default()
        },
        mvex: Some(Mvex {
            mehd: None,
            trex: vec![Trex {
                track_id: TRACK_ID,
                default_sample_description_index: 1,
                default_sample_duration: 0,
                default_sample_size: 0,
                default_sample_flags: default_flags(&track.format),
            }],
        }),
        trak: vec![Trak {
            tkhd,
            mdia: Mdia {
                mdhd: Mdhd {
                    timescale,
                    language: "und".to_owned(),
                    ..Mdhd::default()
                },
                hdlr: handler,
                minf,
            },
            ..Trak::default()
        }],
        ..Moov::default()
    };
    let mut out = Vec::new();
    ftyp.encode(&mut out)?;
    moov.encode(&mut out)?;
    Ok(out.into())
}

/// A file name that changes with the bytes: 64 bits of FNV-1a. Collisions could only be made by the stream's own
/// publisher, against the stream itself.
pub(crate) fn init_name(data: &[u8]) -> String {
    let hash = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("init-{hash:016x}.mp4")
}

/// How wide a picture is shown when its height stays.
pub(crate) fn display_width(width: u16, aspect: Rational) -> u16 {
    let (num, den) = (u64::from(aspect.num()), u64::from(aspect.den()));
    let shown = (u64::from(width) * num + den / 2) / den;
    u16::try_from(shown).unwrap_or(u16::MAX).max(1)
}

/// What the pictures' samples mean, as the bitstream says.
pub(crate) const fn color(codec: &Codec) -> Color {
    match codec {
        Codec::H264(config) => config.sps().color,
        Codec::H265(config) => config.sps().color,
        Codec::Av1(config) => config.sequence_header().color,
        _ => Color::UNSPECIFIED,
    }
}

fn sample_entry(track: &Track) -> Result<mp4_atom::Codec, mp4_atom::Error> {
    let colr = (color(&track.codec) != Color::UNSPECIFIED).then(|| colr(color(&track.codec)));
    let pasp = pasp(&track.format);
    Ok(match &track.codec {
        Codec::H264(config) => mp4_atom::Codec::Avc1(Avc1 {
            visual: visual(&track.format),
            avcc: Avcc::decode_body(&mut &config.record()[..])?,
            colr,
            pasp,
            ..Avc1::default()
        }),
        Codec::H265(config) => mp4_atom::Codec::Hvc1(Hvc1 {
            visual: visual(&track.format),
            hvcc: Hvcc::decode_body(&mut &config.record()[..])?,
            colr,
            pasp,
            ..Hvc1::default()
        }),
        Codec::Av1(config) => mp4_atom::Codec::Av01(Av01 {
            visual: visual(&track.format),
            av1c: Av1c::decode_body(&mut &config.record()[..])?,
            colr,
            pasp,
            ..Av01::default()
        }),
        Codec::Aac(config) => mp4_atom::Codec::Mp4a(Mp4a {
            audio: audio(&track.format),
            esds: esds(config.record()),
            btrt: None,
            taic: None,
        }),
        Codec::Opus(config) => mp4_atom::Codec::Opus(Opus {
            audio: audio(&track.format),
            dops: Dops::decode_body(&mut &config.dops()[..])?,
            btrt: None,
        }),
        _ => return Err(mp4_atom::Error::Unsupported("codec")),
    })
}

fn visual(format: &Format) -> Visual {
    let (width, height) = match format {
        Format::Video(video) => (video.width, video.height),
        Format::Audio(_) => (0, 0),
    };
    Visual {
        data_reference_index: 1,
        width,
        height,
        ..Visual::default()
    }
}

fn audio(format: &Format) -> Audio {
    let (channels, rate) = match format {
        Format::Audio(audio) => (audio.channels, audio.sample_rate),
        Format::Video(_) => (0, 0),
    };
    Audio {
        data_reference_index: 1,
        channel_count: channels.into(),
        sample_size: 16,
        // A rate that 16 bits cannot hold is left to the codec's configuration.
        sample_rate: FixedPoint::from(u16::try_from(rate).unwrap_or(0)),
    }
}

fn colr(color: Color) -> Colr {
    Colr::Nclx {
        colour_primaries: color.primaries.into(),
        transfer_characteristics: color.transfer.into(),
        matrix_coefficients: color.matrix.into(),
        full_range_flag: color.full_range,
    }
}

fn pasp(format: &Format) -> Option<Pasp> {
    match format {
        Format::Video(video) if video.sample_aspect != Rational::ONE => Some(Pasp {
            h_spacing: video.sample_aspect.num(),
            v_spacing: video.sample_aspect.den(),
        }),
        _ => None,
    }
}

/// ISO/IEC 14496-1 7.2.6: an AAC stream with its AudioSpecificConfig. Rates stay out, so that a rate that is announced
/// anew changes no bytes.
fn esds(record: &Bytes) -> Esds {
    Esds {
        es_desc: esds::EsDescriptor {
            dec_config: esds::DecoderConfig {
                object_type_indication: 0x40,
                stream_type: 5,
                dec_specific: Some(esds::DecoderSpecific {
                    raw: record.to_vec(),
                    ..esds::DecoderSpecific::default()
                }),
                ..esds::DecoderConfig::default()
            },
            ..esds::EsDescriptor::default()
        },
    }
}
