//! A stream as its owner sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use media::Name;

use crate::restart::Death;

/// How a stream fares. Counts are since its start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// Rungs that go out, highest first.
    pub rungs: Vec<Rung>,
    /// The publisher's own bitstream goes out.
    pub passthrough: bool,
    /// Less goes out than the ladder says.
    pub degraded: bool,
    /// Workers that died, by the reason.
    pub restarts: BTreeMap<Death, u64>,
    /// Processor time of its workers.
    pub cpu: Duration,
    /// The most memory the present worker, or the last one, has held, in bytes.
    pub memory: u64,
    /// Seconds of media worked off in a second, over the last few; 1 when the worker keeps pace.
    pub realtime_ratio: Option<f64>,
    /// Pictures and sound of the source that went nowhere.
    pub dropped_frames: u64,
    /// Pictures repeated to fill pauses of the source.
    pub repeated_frames: u64,
    /// Units that could not be decoded.
    pub damaged_units: u64,
    /// How far the encoders are behind the source.
    pub lag: Duration,
    /// The newest media sequence number.
    pub segment: Option<u64>,
    /// What its owner should know, in plain words.
    pub warnings: Vec<String>,
}

/// One rung that goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Its name in URLs.
    pub name: Name,
    /// The codec's common name.
    pub codec: &'static str,
    /// Width in samples.
    pub width: u16,
    /// Height in samples.
    pub height: u16,
    /// The average bit rate that the encoder was told, in bits per second; unknown for what is passed through.
    pub bitrate_bps: Option<u32>,
    /// It is the publisher's own bitstream.
    pub passthrough: bool,
}
