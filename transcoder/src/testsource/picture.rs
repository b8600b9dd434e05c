//! The test picture: colour bars, a clock of seven-segment digits, a sweep that moves every frame, and a lamp that
//! lights with each beep.

use media::Utc;

/// A colour as limited-range BT.709 luma and chroma.
#[derive(Clone, Copy)]
struct Color {
    y: u8,
    u: u8,
    v: u8,
}

const BACKGROUND: Color = Color {
    y: 30,
    u: 134,
    v: 124,
};
const PANEL: Color = Color {
    y: 22,
    u: 132,
    v: 126,
};
const DIGIT: Color = Color {
    y: 226,
    u: 128,
    v: 128,
};
const UNLIT: Color = Color {
    y: 34,
    u: 132,
    v: 126,
};
const SWEEP: Color = Color {
    y: 150,
    u: 160,
    v: 70,
};
const LAMP: Color = Color {
    y: 235,
    u: 128,
    v: 128,
};
/// 75 % bars: white, yellow, cyan, green, magenta, red, blue (ITU-R BT.709).
const BARS: [Color; 7] = [
    Color {
        y: 180,
        u: 128,
        v: 128,
    },
    Color {
        y: 168,
        u: 44,
        v: 136,
    },
    Color {
        y: 145,
        u: 147,
        v: 44,
    },
    Color {
        y: 133,
        u: 63,
        v: 52,
    },
    Color {
        y: 63,
        u: 193,
        v: 204,
    },
    Color {
        y: 51,
        u: 109,
        v: 212,
    },
    Color {
        y: 28,
        u: 212,
        v: 120,
    },
];

/// Which of the segments A to G (clockwise from the top, then the middle) a digit lights; bit 0 is A.
const SEGMENTS: [u8; 10] = [0x3f, 0x06, 0x5b, 0x4f, 0x66, 0x6d, 0x7d, 0x07, 0x7f, 0x6f];

/// A 4:2:0 picture, drawn afresh for each frame; width and height are multiples of four.
pub(super) struct Canvas {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Luma, then both chroma planes, without padding between lines.
    pub(super) planes: [Vec<u8>; 3],
}

impl Canvas {
    pub(super) fn new(width: usize, height: usize) -> Self {
        let mut canvas = Self {
            width,
            height,
            planes: [
                vec![0; width * height],
                vec![0; width * height / 4],
                vec![0; width * height / 4],
            ],
        };
        canvas.fill(0, 0, width, height, BACKGROUND);
        let bar = width / BARS.len();
        let top = height - height / 6;
        for (index, color) in BARS.into_iter().enumerate() {
            let end = if index + 1 == BARS.len() {
                width
            } else {
                (index + 1) * bar
            };
            canvas.fill(index * bar, top, end - index * bar, height - top, color);
        }
        canvas
    }

    /// Draws what changes: the clock at `utc`, the sweep, and the lamp when `lit`.
    pub(super) fn draw(&mut self, utc: Utc, lit: bool) {
        let millis = utc.unix_micros().rem_euclid(86_400_000_000) / 1_000;
        let millis = usize::try_from(millis).expect("a remainder is not negative");
        let (width, height) = (self.width, self.height);

        // Eight digits, two colons and a dot in a row: HH:MM:SS.mmm.
        let unit = width / 64;
        let digit = (4 * unit, 7 * unit);
        let (left, top) = (width / 2 - 25 * unit, height / 3 - digit.1 / 2);
        self.fill(
            left - unit,
            top - unit,
            52 * unit,
            digit.1 + 2 * unit,
            PANEL,
        );
        let groups = [
            (millis / 3_600_000, 2),
            (millis / 60_000 % 60, 2),
            (millis / 1_000 % 60, 2),
            (millis % 1_000, 3),
        ];
        let mut x = left;
        for (index, (value, digits)) in groups.into_iter().enumerate() {
            if index > 0 {
                let dots: &[usize] = if index == 3 { &[6] } else { &[2, 5] };
                for row in dots {
                    self.fill(x, top + row * unit, unit, unit, DIGIT);
                }
                x += 2 * unit;
            }
            for place in (0..digits).rev() {
                let shown = value / 10_usize.pow(place) % 10;
                self.digit(x, top, digit, shown);
                x += digit.0 + unit;
            }
        }

        // A block that crosses the picture in two seconds shows dropped and repeated frames to the eye.
        let track = (height / 2 + height / 12, height / 24);
        self.fill(0, track.0, width, track.1, PANEL);
        let block = width / 16;
        let position = (width - block) * (millis % 2_000) / 2_000;
        self.fill(position, track.0, block, track.1, SWEEP);

        let lamp = height / 10;
        self.fill(
            width - 2 * lamp,
            lamp,
            lamp,
            lamp,
            if lit { LAMP } else { PANEL },
        );
    }

    fn digit(&mut self, x: usize, y: usize, (width, height): (usize, usize), shown: usize) {
        let thick = width / 5;
        let (right, middle, low) = (
            x + width - thick,
            y + height / 2 - thick / 2,
            y + height - thick,
        );
        let half = height / 2;
        let segments = [
            (x, y, width, thick),
            (right, y, thick, half),
            (right, y + half, thick, height - half),
            (x, low, width, thick),
            (x, y + half, thick, height - half),
            (x, y, thick, half),
            (x, middle, width, thick),
        ];
        let lit = |index: usize| SEGMENTS[shown] >> index & 1 == 1;
        // Unlit segments first: lit ones overlap their corners.
        for pass in [false, true] {
            for (index, (x, y, width, height)) in segments.into_iter().enumerate() {
                if lit(index) == pass {
                    self.fill(x, y, width, height, if pass { DIGIT } else { UNLIT });
                }
            }
        }
    }

    /// Fills a rectangle, widened to whole chroma samples.
    fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, color: Color) {
        let (left, top) = (x / 2 * 2, y / 2 * 2);
        let (right, bottom) = ((x + width).div_ceil(2) * 2, (y + height).div_ceil(2) * 2);
        let (right, bottom) = (right.min(self.width), bottom.min(self.height));
        let stride = self.width;
        for (plane, shade, half) in [(0, color.y, 1), (1, color.u, 2), (2, color.v, 2)] {
            let stride = stride / half;
            for row in top / half..bottom / half {
                self.planes[plane][row * stride..][left / half..right / half].fill(shade);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Utc {
        Utc::from_unix_micros(millis * 1_000)
    }

    #[test]
    fn the_clock_and_the_lamp_change_the_picture_and_the_bars_stay() {
        let mut canvas = Canvas::new(640, 360);
        canvas.draw(at(0), false);
        let bars = canvas.planes[0][640 * 320..].to_vec();
        let before = canvas.planes.clone();
        canvas.draw(at(1), false);
        assert_ne!(
            canvas.planes[0], before[0],
            "a millisecond later the last digit differs"
        );
        assert_eq!(canvas.planes[0][640 * 320..], bars);
        canvas.draw(at(0), false);
        assert_eq!(
            canvas.planes, before,
            "nothing is left over from the frame between"
        );
        canvas.draw(at(0), true);
        assert_ne!(canvas.planes[0], before[0]);
    }

    #[test]
    fn every_moment_of_a_day_stays_inside_the_picture() {
        for (width, height) in [(320, 180), (1920, 1080)] {
            let mut canvas = Canvas::new(width, height);
            for millis in (0..86_400_000).step_by(7_777_777) {
                canvas.draw(at(millis), millis % 2 == 0);
            }
        }
    }
}
