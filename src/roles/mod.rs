//! What each role wires together.

pub(crate) mod gateway;
