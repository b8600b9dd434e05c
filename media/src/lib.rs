//! The values that every other crate exchanges: encoded media, as it travels between an encoder, the transcoder,
//! the packager and the origin.
//!
//! Owns time ([`Timestamp`], [`Timescale`], [`Utc`]), [`Track`]s and their codecs, the [`AccessUnit`], and the one
//! value that every hop carries, [`Event`]. Owns, too, what turns a stranger's bytes into those values: parameter-set
//! parsing ([`bitstream`]), timestamp repair ([`timeline`]) and the byte form of an event ([`wire`]).
//!
//! Must not know sockets, files, clocks, containers or libav.

#![forbid(unsafe_code)]

pub mod bitstream;
mod event;
mod id;
mod time;
pub mod timeline;
mod track;
mod unit;
pub mod wire;

pub use event::{Event, Gap, Segment};
pub use id::{InvalidId, StreamId};
pub use time::{Rounding, Timescale, Timestamp, Utc};
pub use track::{Audio, Bandwidth, Codec, Format, Name, Rational, Track, TrackId, Tracks, Video};
pub use unit::AccessUnit;
