//! The one room with `unsafe` in it: thin owners over libavcodec, libavfilter, libswscale and libswresample.
//!
//! Each owner frees what it holds, lends nothing that outlives it, and takes and gives Rust values only; no libav
//! type is in a signature that the rest of the crate sees. libavformat is not used: nothing here can be handed a
//! path, a URL or a container. Only a worker process calls in here, since C code that reads strangers' bytes may
//! crash whatever the wrapper promises.

mod decode;
mod deinterlace;
mod draw;
mod encode;
mod error;
mod frame;
mod resample;
mod scale;

pub(crate) use decode::{Coding, Decoder};
pub(crate) use deinterlace::Deinterlacer;
pub(crate) use draw::{black, picture, texture};
pub(crate) use encode::{AAC_FRAME, AudioEncoder, Encoded, Picture, VideoEncoder};
pub(crate) use error::Error;
pub(crate) use frame::{Color, Frame};
pub(crate) use resample::{Planes, Resampler};
pub(crate) use scale::Scaler;

use ffmpeg_sys_next as ffi;

/// Ticks a second of every picture's time in here, as on every video track.
pub(crate) const VIDEO_HZ: i32 = 90_000;

/// Lets libav print only what it calls fatal: its messages quote strangers' bytes and come by the thousand when a
/// stream is damaged. What failed is counted and reported by the caller.
pub(crate) fn quiet() {
    // SAFETY: sets one global integer; called before any other thread exists.
    unsafe { ffi::av_log_set_level(ffi::AV_LOG_FATAL) }
}

/// The libraries that this process is linked with, by name and version.
///
/// # Errors
/// In plain words, when they lack a codec that a ladder needs.
pub fn libraries() -> Result<Vec<String>, String> {
    load().map_err(|error| error.to_string())?;
    let versions = [
        // SAFETY: returns a constant.
        ("libavcodec", unsafe { ffi::avcodec_version() }),
        // SAFETY: returns a constant.
        ("libavfilter", unsafe { ffi::avfilter_version() }),
        // SAFETY: returns a constant.
        ("libswscale", unsafe { ffi::swscale_version() }),
        // SAFETY: returns a constant.
        ("libswresample", unsafe { ffi::swresample_version() }),
    ];
    // Major, minor and micro, a byte each but for the first (libavutil/version.h).
    let shown = |(name, version): (&str, u32)| {
        format!(
            "{name} {}.{}.{}",
            version >> 16,
            version >> 8 & 0xff,
            version & 0xff
        )
    };
    Ok(versions.into_iter().map(shown).collect())
}

/// Does once, before the sandbox closes, what libav would else do at first use: load tables, probe the CPU.
///
/// # Errors
/// When this machine's libav lacks a codec that the worker needs.
pub(crate) fn load() -> Result<(), Error> {
    quiet();
    for coding in [
        Coding::H264,
        Coding::H265,
        Coding::Av1,
        Coding::Aac,
        Coding::Opus,
    ] {
        decode::find(coding)?;
    }
    encode::find()
}
