//! Who may come in: what a stream costs this machine, measured, against the processors it has.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use media::{Rational, Video};

use crate::pool::Config;

/// Why a stream was not let in.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// As many streams run as the configuration allows.
    #[error("this server is set to carry {0} streams at once, and it does")]
    Limit(u32),
    /// Another ladder would be more than the processors can encode in real time.
    #[error(
        "this server has no room for another ladder: {streams} take {used:.1} of its {cores} cores, and one more needs {cost:.1}"
    )]
    Capacity {
        /// Streams that run.
        streams: u32,
        /// Cores that they use.
        used: f64,
        /// Cores there are.
        cores: u32,
        /// Cores that one more would use.
        cost: f64,
    },
}

/// A stream's place among the others.
#[derive(Debug)]
pub(crate) struct Permit(u64);

pub(crate) struct Admission {
    cores: u32,
    limit: Option<u32>,
    /// Samples a second that the ladder encodes of a usual source, and that are decoded for it.
    encoded: f64,
    decoded: f64,
    state: Mutex<State>,
}

struct State {
    /// Nanoseconds of processor time for an encoded sample.
    nanos: f64,
    next: u64,
    /// Streams that run, with the cores they use once that is known.
    streams: BTreeMap<u64, Option<f64>>,
    /// What the last streams used in the end, averaged.
    usual: Option<f64>,
}

/// The part of the processors that streams may take: the rest is for serving them, and for catching up.
const SHARE: f64 = 0.95;
/// Before anything is measured: a core of 2023.
const NANOS: f64 = 9.0;
/// Decoding a sample, in encodings.
const DECODING: f64 = 0.2;

impl Admission {
    pub(crate) fn new(config: &Config) -> Self {
        let cores = std::thread::available_parallelism()
            .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
        // What most people send.
        let source = Video {
            width: 1920,
            height: 1080,
            sample_aspect: Rational::ONE,
            frame_rate: None,
        };
        let rungs = config.ladder.plan(&source, &[]);
        let passed = usize::from(config.ladder.allows_passthrough());
        let rate = |width: u16, height: u16| f64::from(width) * f64::from(height) * 30.0;
        let encoded = rungs
            .iter()
            .skip(passed)
            .map(|rung| rate(rung.width, rung.height))
            .sum();
        let decoded = if encoded > 0.0 {
            rate(source.width, source.height)
        } else {
            0.0
        };
        Self::with(cores, config.streams_max.map(Into::into), encoded, decoded)
    }

    fn with(cores: u32, limit: Option<u32>, encoded: f64, decoded: f64) -> Self {
        let state = State {
            nanos: NANOS,
            next: 0,
            streams: BTreeMap::new(),
            usual: None,
        };
        Self {
            cores,
            limit,
            encoded,
            decoded,
            state: Mutex::new(state),
        }
    }

    /// Lets a stream in, or says why not. The first always is: there is nobody to protect from it.
    pub(crate) fn admit(&self) -> Result<Permit, Refused> {
        let mut state = self.lock();
        let streams = u32::try_from(state.streams.len()).unwrap_or(u32::MAX);
        match self.limit {
            Some(limit) if streams >= limit => return Err(Refused::Limit(limit)),
            Some(_) => {}
            None => {
                let cost = self.cost(&state);
                let used: f64 = state
                    .streams
                    .values()
                    .map(|used| used.unwrap_or(cost))
                    .sum();
                if streams > 0 && used + cost > f64::from(self.cores) * SHARE {
                    return Err(Refused::Capacity {
                        streams,
                        used,
                        cores: self.cores,
                        cost,
                    });
                }
            }
        }
        let id = state.next;
        state.next += 1;
        state.streams.insert(id, None);
        Ok(Permit(id))
    }

    /// A stream uses so many cores, averaged over some seconds.
    pub(crate) fn uses(&self, permit: &Permit, cores: f64) {
        let mut state = self.lock();
        if let Some(used) = state.streams.get_mut(&permit.0) {
            *used = Some(cores);
        }
    }

    /// A stream has ended.
    pub(crate) fn released(&self, permit: &Permit) {
        let mut state = self.lock();
        if let Some(Some(used)) = state.streams.remove(&permit.0) {
            state.usual = Some(
                state
                    .usual
                    .map_or(used, |usual| usual.mul_add(0.7, used * 0.3)),
            );
        }
    }

    /// Encoding a sample took so many nanoseconds of processor time here.
    pub(crate) fn measured(&self, nanos: f64) {
        if (0.1..1_000.0).contains(&nanos) {
            self.lock().nanos = nanos;
        }
    }

    /// How many streams there is room for in all.
    pub(crate) fn capacity(&self) -> u32 {
        if let Some(limit) = self.limit {
            return limit;
        }
        let room = self.room();
        if room.is_infinite() {
            return u32::MAX;
        }
        let whole = room.floor().clamp(1.0, 1e6);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to a small positive range"
        )]
        let whole = whole as u32;
        whole
    }

    /// How many streams the processors carry, with the part of one that is left.
    pub(crate) fn room(&self) -> f64 {
        f64::from(self.cores) * SHARE / self.cost(&self.lock()).max(0.0)
    }

    /// Cores that one more stream will use: what those that run do, or else what their pixels should.
    fn cost(&self, state: &State) -> f64 {
        let estimate = (self.encoded + self.decoded * DECODING) * state.nanos / 1e9;
        let known: Vec<f64> = state.streams.values().flatten().copied().collect();
        let mean =
            known.iter().sum::<f64>() / f64::from(u32::try_from(known.len().max(1)).unwrap_or(1));
        // A stream that happens to be small says nothing about the next one.
        let floor = estimate / 2.0;
        match (known.is_empty(), state.usual) {
            (false, _) => mean.max(floor),
            (true, Some(usual)) => usual.max(floor),
            (true, None) => estimate,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two cores, and a ladder of 50 million samples a second from 62 million.
    fn two_cores() -> Admission {
        Admission::with(2, None, 50e6, 62e6)
    }

    #[test]
    fn as_many_as_the_cores_carry() {
        let admission = two_cores();
        assert_eq!(admission.capacity(), 3);
        let places: Vec<_> = (0..3).map(|_| admission.admit().expect("room")).collect();
        let refused = admission.admit().expect_err("full");
        assert!(
            refused
                .to_string()
                .contains("no room for another ladder: 3 take 1.7 of its 2 cores"),
            "{refused}"
        );
        admission.released(&places[0]);
        assert!(admission.admit().is_ok());
    }

    #[test]
    fn what_is_measured_counts() {
        let admission = two_cores();
        admission.measured(18.0);
        assert_eq!(admission.capacity(), 1);
        let first = admission.admit().expect("the first always is");
        assert!(admission.admit().is_err());
        // It turns out to be cheaper.
        admission.uses(&first, 0.6);
        assert!(admission.admit().is_ok());
    }

    #[test]
    fn a_configured_limit_is_the_limit() {
        let admission = Admission::with(2, Some(2), 50e6, 62e6);
        let _places = (
            admission.admit().expect("room"),
            admission.admit().expect("room"),
        );
        assert_eq!(admission.admit().map(|_| ()), Err(Refused::Limit(2)));
    }

    #[test]
    fn what_costs_nothing_is_not_counted() {
        let admission = Admission::with(2, None, 0.0, 0.0);
        for _ in 0..100 {
            assert!(admission.admit().is_ok());
        }
    }
}
