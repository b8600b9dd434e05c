//! Events in, CMAF chunks and playlist text out.
//!
//! [`Packager`] cuts the events of one stream into CMAF parts and segments ([`Chunk`]); [`Window`] keeps the newest of
//! them, renders HLS playlists and finds objects by name. Both are values without a clock, a socket or a random
//! number: the same events make the same names and the same bytes, on every machine, from every mark on.
//!
//! Must not know sockets, tokio, files, the wall clock, or how events reached it.

#![forbid(unsafe_code)]

mod boxes;
mod chunk;
mod config;
mod fragment;
mod lane;
mod packager;
mod playlist;
mod rope;
mod setup;
mod window;

pub use chunk::{Chunk, Init, Opening, Part, Rendition, Segment};
pub use config::Config;
pub use packager::{Error, Packager};
pub use rope::Rope;
pub use window::{Bounds, Delta, Object, Tip, Window};
