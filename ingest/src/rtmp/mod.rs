//! RTMP and RTMPS (Adobe RTMP 1.0, E-RTMP v2): encoders push FLV tags over TCP.

mod driver;
pub mod proto;

pub use driver::{Config, Counters, Listener, Tls};
