//! What encoding costs on this machine.

use super::rung;
use crate::ffmpeg::{self, Scaler, VIDEO_HZ, VideoEncoder};
use crate::ladder::Planned;

/// Pictures encoded to find out: a tenth of a second of work or less.
const PICTURES: u8 = 24;

/// Nanoseconds of processor time for a sample scaled and encoded.
pub(super) fn nanos() -> Result<f64, ffmpeg::Error> {
    let (width, height) = (640, 360);
    let name = "measure".to_owned();
    let planned = Planned {
        track: 0,
        name,
        width,
        height,
        frame_rate_max: 30,
        bitrate_bps: 400_000,
    };
    let mut scaler = Scaler::new(width, height)?;
    let mut encoder: Option<VideoEncoder> = None;
    let mut spent = 0;
    for n in 0..PICTURES {
        let source = ffmpeg::texture(1280, 720, n)?;
        let (before, _) = super::used();
        let picture = scaler.scale(&source)?;
        let encoder = match &mut encoder {
            Some(encoder) => encoder,
            none => none.insert(VideoEncoder::open(&rung::settings(
                &planned,
                Some((30, 1)),
                &picture,
            ))?),
        };
        encoder.send(&picture, i64::from(n) * i64::from(VIDEO_HZ) / 30, n == 0)?;
        while encoder.receive()?.is_some() {}
        let (after, _) = super::used();
        spent += after.saturating_sub(before);
    }
    let micros = f64::from(u32::try_from(spent).unwrap_or(u32::MAX));
    Ok(micros * 1_000.0 / (f64::from(PICTURES) * f64::from(width) * f64::from(height)))
}
