//! Bodies of FLV audio and video tags: the legacy headers (FLV 10.1 annex E.4) and those of E-RTMP v2 ("Enhanced
//! Audio", "Enhanced Video").

use bytes::{Buf, Bytes};

/// FourCCs of the video codecs taken, as E-RTMP names them.
pub const VIDEO_FOURCC: &[&str] = &["avc1", "hvc1", "av01"];
/// FourCCs of the audio codecs taken.
pub const AUDIO_FOURCC: &[&str] = &["mp4a", "Opus"];

/// A video codec that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VideoCodec {
    H264,
    H265,
    Av1,
}

/// An audio codec that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AudioCodec {
    Aac,
    Opus,
}

/// One tag, as far as its header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag<C> {
    pub(super) payload: Payload<C>,
    /// The publisher sends more than one track of this kind.
    pub(super) multitrack: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Payload<C> {
    /// The codec's configuration record.
    Configuration(C, Bytes),
    /// One coded frame and its composition offset in milliseconds.
    Frame(C, i32, Bytes),
    /// Nothing to keep: ends of sequence, seek marks, other tracks than the first.
    Nothing,
}

/// Why a tag was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is cut short or its header makes no sense.
    Damaged,
    /// It is of a codec that is not taken.
    Codec(String),
}

/// Nested ModEx headers are for modifiers of one packet; there are two kinds of them.
const MOD_EX_MAX: usize = 8;

/// A frame type that carries a player's seek mark in the place of a picture.
const COMMAND_FRAME: u8 = 5;

mod packet {
    pub(super) const SEQUENCE_START: u8 = 0;
    pub(super) const CODED_FRAMES: u8 = 1;
    /// Video only: a composition offset of zero, left out.
    pub(super) const CODED_FRAMES_X: u8 = 3;
    pub(super) const AUDIO_MULTITRACK: u8 = 5;
    pub(super) const VIDEO_MULTITRACK: u8 = 6;
    pub(super) const MOD_EX: u8 = 7;
}

/// Reads a video tag's body.
pub(super) fn video(mut body: Bytes) -> Result<Tag<VideoCodec>, Wrong> {
    let first = u8(&mut body)?;
    let frame = first >> 4 & 7;
    if frame == COMMAND_FRAME {
        return Ok(Tag {
            payload: Payload::Nothing,
            multitrack: false,
        });
    }
    if first & 0x80 != 0 {
        return enhanced(first & 0x0f, packet::VIDEO_MULTITRACK, body, enhanced_video);
    }
    let codec = match first & 0x0f {
        7 => VideoCodec::H264,
        // Not in the specification; encoders that predate E-RTMP send HEVC so, in AVC's form.
        12 => VideoCodec::H265,
        2 => return Err(Wrong::Codec("Sorenson H.263".to_owned())),
        3 | 6 => return Err(Wrong::Codec("Screen Video".to_owned())),
        4 | 5 => return Err(Wrong::Codec("VP6".to_owned())),
        other => return Err(Wrong::Codec(format!("video codec {other}"))),
    };
    let packet = u8(&mut body)?;
    let composition = int24(&mut body)?;
    let payload = match packet {
        0 => Payload::Configuration(codec, body),
        1 => Payload::Frame(codec, composition, body),
        _ => Payload::Nothing,
    };
    Ok(Tag {
        payload,
        multitrack: false,
    })
}

/// Reads an audio tag's body.
pub(super) fn audio(mut body: Bytes) -> Result<Tag<AudioCodec>, Wrong> {
    let first = u8(&mut body)?;
    let unsupported = |name: &str| Err(Wrong::Codec(name.to_owned()));
    let payload = match first >> 4 {
        9 => return enhanced(first & 0x0f, packet::AUDIO_MULTITRACK, body, enhanced_audio),
        10 => match u8(&mut body)? {
            0 => Payload::Configuration(AudioCodec::Aac, body),
            1 => Payload::Frame(AudioCodec::Aac, 0, body),
            _ => return Err(Wrong::Damaged),
        },
        0 | 3 => return unsupported("PCM"),
        1 => return unsupported("ADPCM"),
        2 | 14 => return unsupported("MP3"),
        4..=6 => return unsupported("Nellymoser"),
        7 | 8 => return unsupported("G.711"),
        11 => return unsupported("Speex"),
        other => return Err(Wrong::Codec(format!("audio codec {other}"))),
    };
    Ok(Tag {
        payload,
        multitrack: false,
    })
}

type FourCc = [u8; 4];

/// Reads what the enhanced headers of audio and video have in common. Of several tracks the one numbered 0 is read.
fn enhanced<C>(
    mut packet: u8,
    multitrack: u8,
    mut body: Bytes,
    read: impl Fn(u8, FourCc, Bytes) -> Result<Payload<C>, Wrong>,
) -> Result<Tag<C>, Wrong> {
    // Modifiers of the packet that follows. The only one there is refines the timestamp below the millisecond, which
    // the timeline restores by itself.
    for _ in 0..MOD_EX_MAX {
        if packet != packet::MOD_EX {
            break;
        }
        let mut size = usize::from(u8(&mut body)?) + 1;
        if size == 256 {
            size = usize::from(body.try_get_u16().map_err(|_| Wrong::Damaged)?) + 1;
        }
        take(&mut body, size)?;
        packet = u8(&mut body)? & 0x0f;
    }
    if packet == packet::MOD_EX {
        return Err(Wrong::Damaged);
    }
    if packet != multitrack {
        let fourcc = fourcc(&mut body)?;
        return Ok(Tag {
            payload: read(packet, fourcc, body)?,
            multitrack: false,
        });
    }

    let layout = u8(&mut body)?;
    let (layout, packet) = (layout >> 4, layout & 0x0f);
    let shared = if layout < 2 {
        Some(fourcc(&mut body)?)
    } else {
        None
    };
    while !body.is_empty() {
        let fourcc = match shared {
            Some(fourcc) => fourcc,
            None => fourcc(&mut body)?,
        };
        let track = u8(&mut body)?;
        let data = match layout {
            0 => body.split_off(0),
            1 | 2 => {
                let size = usize::try_from(body.try_get_uint(3).map_err(|_| Wrong::Damaged)?);
                take(&mut body, size.map_err(|_| Wrong::Damaged)?)?
            }
            _ => return Err(Wrong::Damaged),
        };
        if track == 0 {
            return Ok(Tag {
                payload: read(packet, fourcc, data)?,
                multitrack: true,
            });
        }
    }
    Ok(Tag {
        payload: Payload::Nothing,
        multitrack: true,
    })
}

fn enhanced_video(
    packet: u8,
    fourcc: FourCc,
    mut body: Bytes,
) -> Result<Payload<VideoCodec>, Wrong> {
    let codec = match &fourcc {
        b"avc1" => VideoCodec::H264,
        b"hvc1" => VideoCodec::H265,
        b"av01" => VideoCodec::Av1,
        b"vp08" => return Err(Wrong::Codec("VP8".to_owned())),
        b"vp09" => return Err(Wrong::Codec("VP9".to_owned())),
        other => {
            return Err(Wrong::Codec(crate::printable(&String::from_utf8_lossy(
                other,
            ))));
        }
    };
    Ok(match packet {
        packet::SEQUENCE_START => Payload::Configuration(codec, body),
        packet::CODED_FRAMES if codec != VideoCodec::Av1 => {
            let composition = int24(&mut body)?;
            Payload::Frame(codec, composition, body)
        }
        packet::CODED_FRAMES | packet::CODED_FRAMES_X => Payload::Frame(codec, 0, body),
        // Ends of sequence, colour metadata (the bitstream says the same), and what is yet to be specified.
        _ => Payload::Nothing,
    })
}

fn enhanced_audio(packet: u8, fourcc: FourCc, body: Bytes) -> Result<Payload<AudioCodec>, Wrong> {
    let codec = match &fourcc {
        b"mp4a" => AudioCodec::Aac,
        b"Opus" => AudioCodec::Opus,
        b"ac-3" => return Err(Wrong::Codec("AC-3".to_owned())),
        b"ec-3" => return Err(Wrong::Codec("E-AC-3".to_owned())),
        b"fLaC" => return Err(Wrong::Codec("FLAC".to_owned())),
        b".mp3" => return Err(Wrong::Codec("MP3".to_owned())),
        other => {
            return Err(Wrong::Codec(crate::printable(&String::from_utf8_lossy(
                other,
            ))));
        }
    };
    Ok(match packet {
        packet::SEQUENCE_START => Payload::Configuration(codec, body),
        packet::CODED_FRAMES => Payload::Frame(codec, 0, body),
        // The channel layout, which the codecs taken say themselves, and ends of sequence.
        _ => Payload::Nothing,
    })
}

fn u8(body: &mut Bytes) -> Result<u8, Wrong> {
    body.try_get_u8().map_err(|_| Wrong::Damaged)
}

/// SI24, sign and all.
fn int24(body: &mut Bytes) -> Result<i32, Wrong> {
    let [a, b, c] = *take(body, 3)?.first_chunk().ok_or(Wrong::Damaged)?;
    Ok(i32::from_be_bytes([a, b, c, 0]) >> 8)
}

fn fourcc(body: &mut Bytes) -> Result<FourCc, Wrong> {
    Ok(body
        .try_get_u32()
        .map_err(|_| Wrong::Damaged)?
        .to_be_bytes())
}

fn take(body: &mut Bytes, size: usize) -> Result<Bytes, Wrong> {
    if size > body.len() {
        Err(Wrong::Damaged)
    } else {
        Ok(body.split_to(size))
    }
}
