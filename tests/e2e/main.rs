//! The real binary with real encoders, real players and real faults: one module for each story.
//!
//! What the stories stand on, the judges above all, is in `tests/support`, and is tested there itself.

#![allow(
    dead_code,
    unused_imports,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::large_enum_variant,
    clippy::useless_conversion,
    reason = "the support module serves more stories than are told here"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "the tests drive real programs in real time, and end with their process"
)]

#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;

#[cfg(test)]
mod browser;
#[cfg(test)]
mod change;
#[cfg(test)]
mod common;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod operate;
#[cfg(test)]
mod publish;
#[cfg(test)]
mod timestamps;
#[cfg(test)]
mod viewers;
#[cfg(test)]
mod workers;
