//! What a publisher really sends: pictures a second, bit rate, keyframe interval, measured over media time.

use std::collections::BTreeMap;
use std::time::Duration;

use media::{Event, Format, Timestamp, TrackId, Tracks};

/// Media time over which rates are averaged.
const WINDOW: Duration = Duration::from_secs(2);
/// Players and the ladder want a keyframe at least this often.
const KEYFRAME_INTERVAL_MAX: Duration = Duration::from_secs(4);

/// Measures one publish as its events pass.
#[derive(Default)]
pub(crate) struct Meter {
    tracks: Option<Tracks>,
    windows: BTreeMap<TrackId, Window>,
    /// The newest keyframe that a later unit has been compared with.
    keyframe: Option<Timestamp>,
    keyframe_interval: Option<Duration>,
    rates: BTreeMap<TrackId, Rates>,
}

struct Window {
    start: Timestamp,
    units: u64,
    bytes: u64,
}

#[derive(Clone, Copy)]
struct Rates {
    units_per_second: f64,
    bits_per_second: u64,
}

impl Meter {
    /// Takes note of one event.
    pub(crate) fn push(&mut self, event: &Event) {
        match event {
            Event::Tracks(tracks) => {
                self.windows
                    .retain(|id, _| tracks.iter().any(|track| track.id == *id));
                self.rates
                    .retain(|id, _| tracks.iter().any(|track| track.id == *id));
                self.tracks = Some(tracks.clone());
            }
            Event::Unit(unit) => {
                let bytes = u64::try_from(unit.data.len()).unwrap_or(u64::MAX);
                let window = self.windows.entry(unit.track).or_insert(Window {
                    start: unit.dts,
                    units: 0,
                    bytes: 0,
                });
                match unit.dts.since(window.start) {
                    Some(elapsed) if elapsed >= WINDOW => {
                        let seconds = elapsed.as_secs_f64();
                        let bits_per_second =
                            u128::from(window.bytes) * 8_000_000 / elapsed.as_micros();
                        let rates = Rates {
                            units_per_second: precise(window.units) / seconds,
                            bits_per_second: u64::try_from(bits_per_second).unwrap_or(u64::MAX),
                        };
                        self.rates.insert(unit.track, rates);
                        *window = Window {
                            start: unit.dts,
                            units: 1,
                            bytes,
                        };
                    }
                    Some(_) => {
                        window.units += 1;
                        window.bytes = window.bytes.saturating_add(bytes);
                    }
                    None => {
                        *window = Window {
                            start: unit.dts,
                            units: 1,
                            bytes,
                        }
                    }
                }
                if self.is_video(unit.track) {
                    self.note_keyframe(unit.dts, unit.keyframe);
                }
            }
            Event::Gap(_) => {
                self.windows.clear();
                self.keyframe = None;
            }
            Event::Segment(_) | Event::End => {}
        }
    }

    /// The tracks that the publisher announced last.
    pub(crate) fn tracks(&self) -> Option<&Tracks> {
        self.tracks.as_ref()
    }

    /// Pictures a second over the last full window.
    pub(crate) fn fps(&self) -> Option<f64> {
        let (_, rates) = self.rates.iter().find(|(id, _)| self.is_video(**id))?;
        Some(rates.units_per_second)
    }

    /// Bits a second of all tracks together over their last full windows.
    pub(crate) fn bits_per_second(&self) -> u64 {
        self.rates.values().map(|rates| rates.bits_per_second).sum()
    }

    /// The time between keyframes, when it is longer than players and the ladder want.
    pub(crate) fn slow_keyframes(&self) -> Option<Duration> {
        self.keyframe_interval
            .filter(|interval| *interval > KEYFRAME_INTERVAL_MAX)
    }

    /// The interval is known at the next keyframe, and already too long once it has lasted too long.
    fn note_keyframe(&mut self, dts: Timestamp, keyframe: bool) {
        let since = self.keyframe.and_then(|last| dts.since(last));
        match since {
            Some(interval) if keyframe || interval > KEYFRAME_INTERVAL_MAX => {
                self.keyframe_interval = Some(interval)
            }
            _ => {}
        }
        if keyframe {
            self.keyframe = Some(dts);
        }
    }

    fn is_video(&self, id: TrackId) -> bool {
        let tracks = self.tracks.iter().flat_map(|tracks| tracks.iter());
        tracks
            .into_iter()
            .any(|track| track.id == id && matches!(track.format, Format::Video(_)))
    }
}

/// A count of units within a window, far below 2^32.
fn precise(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use media::bitstream::aac;
    use media::{AccessUnit, Codec, Gap, Timescale, Track};

    use super::*;

    fn audio_track() -> Track {
        let codec = aac::Config::lc(48_000, 2).unwrap();
        Track {
            id: TrackId(1),
            name: "audio".parse().unwrap(),
            format: Format::Audio(codec.audio()),
            codec: Codec::Aac(codec),
            timescale: Timescale::new(48_000).unwrap(),
            bandwidth: None,
        }
    }

    fn unit(track: TrackId, ticks: i64, hz: u32, len: usize) -> Event {
        let at = Timestamp::new(ticks, Timescale::new(hz).unwrap());
        let data = Bytes::from(vec![0; len]);
        Event::Unit(AccessUnit {
            track,
            dts: at,
            pts: at,
            duration: 0,
            keyframe: true,
            data,
        })
    }

    #[test]
    fn rates_are_those_of_the_last_two_seconds_of_media() {
        let mut meter = Meter::default();
        meter.push(&Event::Tracks([audio_track()].into()));
        for frame in 0..100 {
            meter.push(&unit(TrackId(1), frame * 1024, 48_000, 100));
        }
        // 100 bytes each 1024/48000 s.
        assert_eq!(meter.bits_per_second(), 37_500);
        assert_eq!(meter.fps(), None);
        meter.push(&Event::Gap(Gap::Jump));
        meter.push(&unit(TrackId(1), 0, 48_000, 100));
        assert_eq!(
            meter.bits_per_second(),
            37_500,
            "a jump back starts a window, it does not spoil the rate"
        );
    }
}
