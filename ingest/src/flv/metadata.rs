//! `onMetaData`: what the encoder says of itself. All of it is hearsay: it fills gaps and decides nothing.

use media::Rational;

use crate::rtmp::proto::amf0::{Decoder, Value};

/// What an encoder said of itself and of its publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The encoder's name, printable and cut.
    pub encoder: Option<String>,
    /// Pictures a second.
    pub frame_rate: Option<Rational>,
    /// Bits a second of the pictures.
    pub video_bps: Option<u32>,
    /// Bits a second of the sound.
    pub audio_bps: Option<u32>,
    /// Something was said about pictures.
    pub video: bool,
    /// Something was said about sound.
    pub audio: bool,
}

/// Frame rates are believed up to here.
const FRAME_RATE_MAX: f64 = 300.0;

impl Metadata {
    /// Reads the body of a data message; `None` when it is no metadata or not readable.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let mut decoder = Decoder::new(body).ok()?;
        let mut name = decoder.value().ok()??;
        if name.as_str() == Some("@setDataFrame") {
            name = decoder.value().ok()??;
        }
        if name.as_str() != Some("onMetaData") {
            return None;
        }
        let object = decoder.value().ok()??;
        let number = |key| {
            object
                .get(key)
                .and_then(Value::as_number)
                .filter(|n| n.is_finite() && *n > 0.0)
        };
        let says = |keys: &[&str]| keys.iter().any(|key| object.get(key).is_some_and(is_said));
        let encoder = object
            .get("encoder")
            .or_else(|| object.get("metadatacreator"));
        Some(Self {
            encoder: encoder
                .and_then(Value::as_str)
                .filter(|name| !name.is_empty())
                .map(crate::printable),
            frame_rate: number("framerate")
                .or_else(|| number("fps"))
                .and_then(frame_rate),
            video_bps: number("videodatarate").and_then(bits_per_second),
            audio_bps: number("audiodatarate").and_then(bits_per_second),
            video: says(&["videocodecid", "width", "height", "videodatarate"]),
            audio: says(&[
                "audiocodecid",
                "audiosamplerate",
                "audiochannels",
                "audiodatarate",
            ]),
        })
    }
}

/// Zero is how some encoders say "none".
fn is_said(value: &Value) -> bool {
    match value {
        Value::Number(number) => *number > 0.0,
        Value::String(text) => !text.is_empty(),
        _ => false,
    }
}

/// A rate in kilobits a second, as FLV has it.
fn bits_per_second(kilobits: f64) -> Option<u32> {
    whole(kilobits * 1000.0)
}

/// The exact rate behind a rounded one: 29.97 is 30000/1001.
fn frame_rate(rate: f64) -> Option<Rational> {
    if rate > FRAME_RATE_MAX {
        return None;
    }
    let nominal = rate.round();
    let ntsc = nominal * 1000.0 / 1001.0;
    if (rate - nominal).abs() < 0.001 {
        Rational::new(whole(nominal)?, 1)
    } else if (rate - ntsc).abs() < 0.01 {
        Rational::new(whole(nominal * 1000.0)?, 1001)
    } else {
        Rational::new(whole(rate * 1000.0)?, 1000)
    }
}

fn whole(number: f64) -> Option<u32> {
    let number = number.round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked and the fraction is gone"
    )]
    (1.0..=f64::from(u32::MAX))
        .contains(&number)
        .then_some(number as u32)
}
