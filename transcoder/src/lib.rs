//! One stream in, a ladder out.
//!
//! Takes the events of a publisher and gives the events of a ladder: segment marks, one track a rung, one of sound.
//! The pure parts decide: [`Ladder`] which rungs there are, [`Segmenter`] where segments begin. A [`Pool`] runs the
//! streams; each has a task that supervises it and, where something is to be encoded, a worker process
//! ([`worker::main`]) that alone touches libav, inside a sandbox, and may die without loss.
//!
//! Must not know protocols, playlists, HTTP or Redis.

mod admission;
#[expect(
    unsafe_code,
    reason = "libav is C; this module is the one place that calls it"
)]
mod ffmpeg;
#[cfg(test)]
mod fixtures;
mod gate;
mod headroom;
mod ipc;
pub mod ladder;
mod passthrough;
mod pool;
mod process;
mod restart;
mod ring;
mod sandbox;
pub mod segmenter;
mod status;
mod stream;
mod supervisor;
mod testsource;
mod utc;
pub mod worker;

pub use admission::Refused;
pub use ffmpeg::libraries;
pub use ladder::Ladder;
pub use passthrough::Reason;
pub use pool::{Config, Place, Pool, Running};
pub use restart::Death;
pub use segmenter::{First, Segmenter};
pub use status::{Rung, Status};
pub use testsource::{Error as TestSourceError, TestSource};
