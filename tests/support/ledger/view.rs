//! Reads the numbers back from the pictures.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use super::{COLUMNS, Picture, ROWS};
use crate::support::program::{ffmpeg, outcome};

/// Samples that a block is shrunk to, each way.
const BLOCK: usize = 4;
/// Luma up to which a block is black, and from which it is white; anything between is unreadable.
const BLACK_MAX: u32 = 95;
const WHITE_MIN: u32 = 155;

/// One decoded picture.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    /// When it is shown, in seconds of the media's own clock.
    pub(crate) at: f64,
    /// Its number; `None` when it cannot be read.
    pub(crate) number: Option<u32>,
    pub(crate) flash: bool,
}

/// What a viewer saw, in the order shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) pictures: Vec<Seen>,
    /// What the decoder complained about.
    pub(crate) complaints: String,
}

impl View {
    /// Decodes the first picture track of a file or of whatever else ffmpeg opens, with ffmpeg's own clock untouched.
    pub(crate) fn of(input: &Path) -> Self {
        Self::with(input, &[])
    }

    /// The same with arguments before the input.
    pub(crate) fn with(input: &Path, before: &[&str]) -> Self {
        let (width, height) = (COLUMNS as usize * BLOCK, ROWS as usize * BLOCK);
        let filter = format!(
            "crop=iw:floor(ih/4):0:0:exact=1,scale={width}:{height}:flags=area,format=gray,showinfo=checksum=0"
        );
        let mut command = ffmpeg();
        command
            .args(["-v", "info", "-copyts"])
            .args(before)
            .arg("-i")
            .arg(input);
        command.args([
            "-map",
            "0:v:0",
            "-vf",
            &filter,
            "-fps_mode",
            "passthrough",
            "-f",
            "rawvideo",
            "-",
        ]);
        let (code, pixels, log) = outcome(&mut command);
        assert_eq!(code, Some(0), "decoding {}:\n{log}", input.display());
        let times = times(&log);
        let pictures: Vec<_> = pixels
            .chunks_exact(width * height)
            .zip(&times)
            .map(|(gray, at)| read(gray, *at))
            .collect();
        assert_eq!(
            pictures.len() * width * height,
            pixels.len(),
            "a time for each picture"
        );
        let complaint = |line: &&str| {
            line.contains("error") || line.contains("corrupt") || line.contains("missing")
        };
        let complaints = log.lines().filter(complaint).collect::<Vec<_>>().join("\n");
        Self {
            pictures,
            complaints,
        }
    }

    /// One view after another, as a player goes on across a discontinuity.
    pub(crate) fn join(views: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::default();
        for view in views {
            all.pictures.extend(view.pictures);
            all.complaints += &view.complaints;
        }
        all
    }

    /// Compares with a source of which every `step`th picture should be there.
    pub(crate) fn report(&self, step: u32) -> Report {
        let mut report = Report {
            shown: self.pictures.len(),
            ..Report::default()
        };
        let mut seen = BTreeSet::new();
        let mut newest = None;
        for (index, picture) in self.pictures.iter().enumerate() {
            let Some(number) = picture.number else {
                report.unreadable.push(index);
                continue;
            };
            if !seen.insert(number) {
                report.repeated.push(number);
            } else if newest.is_some_and(|newest| number < newest) {
                report.reordered.push(number);
            }
            newest = newest.max(Some(number));
        }
        if let (Some(first), Some(last)) = (seen.first(), seen.last()) {
            report.first = *first;
            report.last = *last;
            report.lost = (*first..=*last)
                .step_by(step as usize)
                .filter(|number| !seen.contains(number))
                .collect();
        }
        report
    }

    /// How far the distance between neighbours strays from the source's, at most, in milliseconds.
    pub(crate) fn pace_error_ms(&self, picture: Picture) -> f64 {
        let numbered = self
            .pictures
            .iter()
            .filter_map(|seen| Some((f64::from(seen.number?), seen.at)));
        let numbered: Vec<_> = numbered.collect();
        let errors = numbered.windows(2).map(|pair| {
            let [(number, at), (next, then)] = pair else {
                unreachable!("windows of two")
            };
            ((then - at) - (next - number) / picture.per_second()).abs() * 1000.0
        });
        errors.fold(0.0, f64::max)
    }

    /// The picture with this number.
    pub(crate) fn picture(&self, number: u32) -> Option<&Seen> {
        self.pictures
            .iter()
            .find(|seen| seen.number == Some(number))
    }
}

/// What differs from what was sent. Numbers are the source's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) shown: usize,
    pub(crate) first: u32,
    pub(crate) last: u32,
    /// Between the first and the last shown.
    pub(crate) lost: Vec<u32>,
    pub(crate) repeated: Vec<u32>,
    /// Shown for the first time after a later one.
    pub(crate) reordered: Vec<u32>,
    /// Places in the order shown.
    pub(crate) unreadable: Vec<usize>,
}

impl Report {
    /// Nothing lost, repeated, reordered or unreadable.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost.is_empty()
            && self.repeated.is_empty()
            && self.reordered.is_empty()
            && self.unreadable.is_empty()
    }

    /// Fails the test unless the view is clean and at least `pictures` long.
    pub(crate) fn assert_clean(&self, what: &str, pictures: usize) {
        assert!(self.is_clean(), "{what}: {self}");
        assert!(
            self.shown >= pictures,
            "{what}: only {} of {pictures} pictures: {self}",
            self.shown
        );
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            shown,
            first,
            last,
            lost,
            repeated,
            reordered,
            unreadable,
        } = self;
        write!(
            f,
            "{shown} pictures, {first} to {last}; {} lost {lost:?}, {} repeated {repeated:?}, ",
            lost.len(),
            repeated.len()
        )?;
        write!(
            f,
            "{} reordered {reordered:?}, {} unreadable {unreadable:?}",
            reordered.len(),
            unreadable.len()
        )
    }
}

/// The times that `showinfo` logs: exact ticks under the time base it named last.
fn times(log: &str) -> Vec<f64> {
    let mut base = 0.0;
    let mut times = Vec::new();
    for line in log.lines().filter(|line| line.contains("showinfo")) {
        if let Some((_, rest)) = line.split_once("config in time_base: ") {
            let ratio = rest.split(',').next().unwrap_or_default();
            let (num, den) = ratio.split_once('/').expect("a ratio");
            base = num.parse::<f64>().unwrap() / den.parse::<f64>().unwrap();
        } else if let Some((_, rest)) = line.split_once(" pts:") {
            let ticks = rest.split_whitespace().next().expect("a count of ticks");
            times.push(ticks.parse::<f64>().expect("a picture has a time") * base);
        }
    }
    times
}

fn read(gray: &[u8], at: f64) -> Seen {
    let blocks: Vec<Option<bool>> = (0..ROWS as usize)
        .flat_map(|row| (0..COLUMNS as usize).map(move |column| (row, column)))
        .map(|(row, column)| block(gray, row, column))
        .collect();
    let (number, rest) = blocks.split_at(2 * COLUMNS as usize);
    let (inverse, flash) = rest.split_at(2 * COLUMNS as usize);
    let gray_code =
        number
            .iter()
            .zip(inverse)
            .rev()
            .try_fold(0_u32, |code, (bit, inverse)| match (bit, inverse) {
                (Some(bit), Some(inverse)) if bit != inverse => Some(code << 1 | u32::from(*bit)),
                _ => None,
            });
    let whites = flash.iter().filter(|block| **block == Some(true)).count();
    Seen {
        at,
        number: gray_code.map(from_gray),
        flash: whites > flash.len() / 2,
    }
}

/// Whether the middle of a block is white; `None` when it is neither.
fn block(gray: &[u8], row: usize, column: usize) -> Option<bool> {
    let stride = COLUMNS as usize * BLOCK;
    let middle = 1..BLOCK - 1;
    let samples = middle
        .clone()
        .flat_map(|y| middle.clone().map(move |x| (y, x)));
    let samples: Vec<u32> = samples
        .map(|(y, x)| u32::from(gray[(row * BLOCK + y) * stride + column * BLOCK + x]))
        .collect();
    let mean = samples.iter().sum::<u32>() / u32::try_from(samples.len()).expect("a few samples");
    match mean {
        ..=BLACK_MAX => Some(false),
        WHITE_MIN.. => Some(true),
        _ => None,
    }
}

fn from_gray(code: u32) -> u32 {
    (0..5)
        .map(|power| 1 << power)
        .fold(code, |code, shift| code ^ (code >> shift))
}
