//! Encoders: ffmpeg, GStreamer, and one of our own that can misbehave.

mod amf;
mod chunks;
mod flv;
mod programs;
mod rtmp;

pub(crate) use flv::{Flv, Kind, Tag};
pub(crate) use programs::{ffmpeg_copy, ffmpeg9_copy, gstreamer};
pub(crate) use rtmp::{Publisher, Refused};

#[cfg(test)]
mod tests;
