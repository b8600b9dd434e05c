//! Bad links and bad neighbours.

mod abuse;
mod proxy;

pub(crate) use abuse::{Crowd, Slow, nested_amf, throw_random_bytes};
pub(crate) use proxy::{Link, Proxy, Random};
