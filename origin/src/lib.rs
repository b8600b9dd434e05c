//! Live windows, blocking reloads and the HTTP front.
//!
//! [`Origin`] takes the events of streams, runs a packager and a window for each, and answers players and CDNs from
//! them. [`http`] is the listener that it is reached through: connections, their limits, TLS.
//!
//! Must not know protocols of publishers, libav, or how events reached it.

#![forbid(unsafe_code)]

mod directives;
pub mod http;
mod live;
mod metrics;
mod response;
mod routes;
mod text;
mod viewers;

pub use directives::{Directives, Malformed, Skip};
pub use live::{Config, Live, Origin};
pub use routes::Target;
