//! Reads the tones back from the sound, and sets them against the flashes.

use std::f64::consts::TAU;
use std::path::Path;

use super::view::View;
use super::{Picture, TONE_SECONDS, TONES, tone_hertz};
use crate::support::program::{ffmpeg, outcome};

/// Samples a second at which the sound is read.
const RATE: f64 = 48_000.0;
/// Samples that the loudness is taken over: a millisecond.
const HOP: usize = 48;
/// Amplitude from which a millisecond belongs to a tone; the tones have 0.7.
const LOUD: f32 = 0.2;

/// Seconds that the time of a frame may be off the end of the one before it; that much is rounding and a clock's drift.
const BREAK: f64 = 0.001;

/// A tone as heard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tone {
    /// When it begins, in seconds of the media's own clock.
    pub(crate) at: f64,
    /// Which of the tones, from 0.
    pub(crate) which: u32,
}

/// What a viewer heard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sound {
    pub(crate) tones: Vec<Tone>,
    /// Seconds of sound decoded.
    pub(crate) seconds: f64,
    /// Where the time of a frame is not the end of the one before, by more than a millisecond: when, and by how many seconds.
    pub(crate) breaks: Vec<(f64, f64)>,
}

impl Sound {
    /// Decodes the first sound track of whatever ffmpeg opens, with ffmpeg's own clock untouched.
    pub(crate) fn of(input: &Path) -> Self {
        let mut command = ffmpeg();
        command.args(["-v", "info", "-copyts", "-i"]).arg(input);
        let filter = "aresample=48000,aformat=flt:channel_layouts=mono,ashowinfo";
        command.args(["-map", "0:a:0", "-af", filter, "-f", "f32le", "-"]);
        let (code, bytes, log) = outcome(&mut command);
        assert_eq!(code, Some(0), "decoding {}:\n{log}", input.display());
        let samples: Vec<f32> = bytes
            .as_chunks()
            .0
            .iter()
            .map(|sample| f32::from_le_bytes(*sample))
            .collect();
        let mut sound = Self {
            seconds: seconds(samples.len()),
            ..Self::default()
        };
        // Where each frame begins, in samples and in time.
        let mut places: Vec<(usize, f64)> = Vec::new();
        let mut next = 0;
        for (at, count) in frames(&log) {
            if let Some((place, before)) = places.last() {
                let jump = at - before - seconds(next - place);
                if jump.abs() > BREAK {
                    sound.breaks.push((at, jump));
                }
            }
            places.push((next, at));
            next += count;
        }
        sound.tones = tones(&samples, |sample| {
            let (place, at) = places[places
                .partition_point(|(place, _)| *place <= sample)
                .saturating_sub(1)];
            at + seconds(sample - place)
        });
        sound
    }
}

/// For each second that was both seen and heard: how much later the tone is than the flash, in milliseconds.
pub(crate) fn offsets(view: &View, sound: &Sound, picture: Picture) -> Vec<f64> {
    let every = picture.flash_every();
    let half = f64::from(TONES) / 2.0 * picture.flash_seconds();
    let flashes = view.pictures.iter().filter_map(|seen| {
        let number = seen.number.filter(|number| number % every == 0)?;
        Some((seen.at, number / every % TONES))
    });
    let paired = flashes.filter_map(|(at, which)| {
        let same = sound
            .tones
            .iter()
            .filter(|tone| tone.which == which && (tone.at - at).abs() < half);
        let nearest = same.min_by(|a, b| (a.at - at).abs().total_cmp(&(b.at - at).abs()))?;
        Some((nearest.at - at) * 1000.0)
    });
    paired.collect()
}

/// Start, in seconds, and length, in samples, of each decoded frame.
fn frames(log: &str) -> impl Iterator<Item = (f64, usize)> + '_ {
    let lines = log
        .lines()
        .filter(|line| line.contains("ashowinfo") && line.contains("nb_samples:"));
    lines.map(|line| {
        let field = |name: &str| {
            let (_, rest) = line.split_once(name).expect("ashowinfo names its fields");
            rest.split_whitespace().next().expect("a field has a value")
        };
        // The time base of sound is its sampling rate, so the ticks are exact.
        let ticks: f64 = field(" pts:").parse().expect("a frame has a time");
        (ticks / RATE, field("nb_samples:").parse().unwrap())
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a clip has far fewer samples than a double has integers"
)]
fn seconds(samples: usize) -> f64 {
    samples as f64 / RATE
}

fn tones(samples: &[f32], time: impl Fn(usize) -> f64) -> Vec<Tone> {
    let loud: Vec<bool> = samples
        .chunks(HOP)
        .map(|hop| hop.iter().any(|sample| sample.abs() > LOUD))
        .collect();
    let mut tones = Vec::new();
    let mut at = 0;
    while at < loud.len() {
        let length = loud[at..].iter().take_while(|loud| **loud).count();
        let nominal = TONE_SECONDS * 1000.0;
        let found = seconds(length * HOP) * 1000.0;
        // A codec smears both ends alike: the middle stays. Clicks and cut tones are not tones.
        if (found - nominal).abs() < 15.0 {
            let heard = &samples[at * HOP..((at + length) * HOP).min(samples.len())];
            let middle = time(at * HOP + heard.len() / 2);
            tones.push(Tone {
                at: middle - TONE_SECONDS / 2.0,
                which: which(heard),
            });
        }
        at += length.max(1);
    }
    tones
}

/// The tone that has the most power.
fn which(samples: &[f32]) -> u32 {
    let power = |which: u32| {
        let step = TAU * f64::from(tone_hertz(which)) / RATE;
        let mut phase = 0.0_f64;
        let (mut real, mut imaginary) = (0.0, 0.0);
        for sample in samples {
            real += f64::from(*sample) * phase.cos();
            imaginary += f64::from(*sample) * phase.sin();
            phase += step;
        }
        real * real + imaginary * imaginary
    };
    let powers = (0..TONES).map(|which| (which, power(which)));
    powers
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map_or(0, |(which, _)| which)
}
