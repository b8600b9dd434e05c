//! The packager and its window through their public face.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "a test may stop, and its numbers are its own"
)]

mod boxes;
mod codecs;
mod conformance;
mod determinism;
mod golden;
mod hostile;
mod playlist;
mod stream;
mod window;
