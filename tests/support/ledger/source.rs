//! Encoded clips that carry the ledger.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::process::Command;

use super::{COLUMNS, FLASH_PICTURES, ROWS, TONE_SECONDS, TONES};
use crate::support::program::{quiet_ffmpeg, run};
use crate::support::tools;

/// Size and rate of a picture track.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Pictures a second as a ratio.
    pub(crate) rate: (u32, u32),
}

impl Picture {
    pub(crate) const fn new(width: u32, height: u32, rate: u32) -> Self {
        Self {
            width,
            height,
            rate: (rate, 1),
        }
    }

    pub(crate) fn per_second(self) -> f64 {
        f64::from(self.rate.0) / f64::from(self.rate.1)
    }

    /// Pictures from one flash to the next: a second of them, to the whole picture.
    pub(crate) const fn flash_every(self) -> u32 {
        let (num, den) = self.rate;
        let whole = (num + den / 2) / den;
        if whole == 0 { 1 } else { whole }
    }

    /// Seconds from one flash to the next.
    pub(crate) fn flash_seconds(self) -> f64 {
        f64::from(self.flash_every()) / self.per_second()
    }
}

/// How the pictures are encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Codec {
    /// No pictures.
    None,
    H264 {
        b_frames: u32,
    },
    /// By ffmpeg 9, like the next.
    H265,
    Av1,
}

/// What to make; equal values are one clip, made once.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) picture: Picture,
    /// Number of the first picture, a whole count of seconds.
    pub(crate) first: u32,
    pub(crate) pictures: u32,
    pub(crate) codec: Codec,
    /// Pictures between keyframes.
    pub(crate) gop: u32,
    /// Bit rate of the pictures, in kbit/s.
    pub(crate) rate: u32,
    /// Output arguments of the sound; empty for none.
    pub(crate) sound: &'static [&'static str],
    /// More filters for the pictures with their numbers on, each with a comma before it.
    pub(crate) filter: &'static str,
    /// More output arguments; the last word on everything above.
    pub(crate) more: &'static [&'static str],
}

/// AAC-LC, 48 kHz, stereo.
pub(crate) const AAC: &[&str] = &["-c:a", "aac", "-b:a", "128k", "-ac", "2", "-ar", "48000"];

impl Source {
    /// H.264 without B-frames, a keyframe each second, AAC.
    pub(crate) fn new(picture: Picture, seconds: u32) -> Self {
        let every = picture.flash_every();
        Self {
            picture,
            first: 0,
            pictures: every * seconds,
            codec: Codec::H264 { b_frames: 0 },
            gop: every,
            rate: picture.width * picture.height / 300,
            sound: AAC,
            filter: "",
            more: &[],
        }
    }

    /// The clip as an FLV file, as an encoder would publish it.
    pub(crate) fn flv(&self) -> PathBuf {
        self.file("flv")
    }

    /// The clip in the container that `extension` names.
    pub(crate) fn file(&self, extension: &str) -> PathBuf {
        let enhanced = matches!(self.codec, Codec::H265 | Codec::Av1);
        let arguments = self.arguments();
        let mut hash = DefaultHasher::new();
        (enhanced, &arguments).hash(&mut hash);
        tools::kept(
            &format!("clip-{:016x}.{extension}", hash.finish()),
            |path| {
                let program = if enhanced {
                    tools::ffmpeg9()
                } else {
                    "ffmpeg".into()
                };
                run(quiet_ffmpeg(program)
                    .args(arguments)
                    .args(["-f", container(extension)])
                    .arg(path));
            },
        )
    }

    /// An encoder that makes the clip while it sends it to `url`, in real time.
    pub(crate) fn live(&self, url: &str) -> Command {
        let mut command = quiet_ffmpeg("ffmpeg");
        command
            .arg("-re")
            .args(self.arguments())
            .args(["-f", "flv", url]);
        command
    }

    fn arguments(&self) -> Vec<String> {
        let Picture {
            width,
            height,
            rate: (num, den),
        } = self.picture;
        let (every, flash) = (self.picture.flash_every(), FLASH_PICTURES);
        let (first, number) = (self.first, format!("(N+{})", self.first));
        let bit = format!("pow(2,X+{COLUMNS}*mod(Y,2))");
        let gray = format!("mod(floor(({number}+ld(0))/(2*ld(0))),2)");
        // Video range: 16 is black, 235 white.
        let code = format!(
            "st(0,{bit});if(lt(Y,4),16+219*abs({gray}-gte(Y,2)),16+219*lt(mod({number},{every}),{flash}))"
        );
        let period = self.picture.flash_seconds();
        let second = format!("(floor(t/{period})+{})", first / every);
        let tone = format!(
            "0.7*sin(2*PI*(600+200*mod({second},{TONES}))*t)*lt(mod(t,{period}),{TONE_SECONDS})"
        );
        let inputs = [
            format!("testsrc2=s={width}x{height}:r={num}/{den}"),
            format!("color=black:s={COLUMNS}x{ROWS}:r={num}/{den},format=gray,geq=lum='{code}'"),
            format!("aevalsrc='{tone}':s=48000:c=stereo"),
        ];
        let mut arguments: Vec<String> = Vec::new();
        let mut add =
            |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
        for input in &inputs {
            add(&["-f", "lavfi", "-i", input]);
        }
        let mut graph = format!(
            "[1:v]scale={width}:{}:flags=neighbor,format=yuv420p[code];",
            height / 4
        );
        write!(graph, "[0:v][code]overlay=0:0{}[v]", self.filter).unwrap();
        if self.codec != Codec::None {
            add(&["-filter_complex", &graph, "-map", "[v]"]);
        }
        if !self.sound.is_empty() {
            add(&["-map", "2:a"]);
            add(self.sound);
        }
        let seconds = f64::from(self.pictures) / self.picture.per_second();
        add(&["-t", &seconds.to_string()]);
        let gop = self.gop.to_string();
        match self.codec {
            Codec::None => {}
            Codec::H264 { b_frames } => {
                let rate = format!("{}k", self.rate);
                add(&[
                    "-c:v",
                    "libx264",
                    "-preset",
                    "ultrafast",
                    "-pix_fmt",
                    "yuv420p",
                    "-bf",
                    &b_frames.to_string(),
                ]);
                add(&["-g", &gop, "-keyint_min", &gop, "-sc_threshold", "0"]);
                add(&["-b:v", &rate, "-maxrate", &rate, "-bufsize", &rate]);
            }
            Codec::H265 => {
                let parameters =
                    format!("log-level=error:keyint={gop}:min-keyint={gop}:scenecut=0:bframes=0");
                add(&[
                    "-c:v",
                    "libx265",
                    "-preset",
                    "ultrafast",
                    "-pix_fmt",
                    "yuv420p",
                ]);
                add(&[
                    "-b:v",
                    &format!("{}k", self.rate),
                    "-x265-params",
                    &parameters,
                ]);
            }
            Codec::Av1 => {
                add(&[
                    "-c:v",
                    "libsvtav1",
                    "-preset",
                    "12",
                    "-pix_fmt",
                    "yuv420p",
                    "-g",
                    &gop,
                ]);
                add(&[
                    "-b:v",
                    &format!("{}k", self.rate),
                    "-svtav1-params",
                    "lookahead=0:scd=0",
                ]);
            }
        }
        add(self.more);
        arguments
    }
}

fn container(extension: &str) -> &str {
    match extension {
        "ts" => "mpegts",
        other => other,
    }
}
