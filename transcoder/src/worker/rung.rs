//! One rung: a scaler in the thread of pictures, and an encoder in a thread of its own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use media::bitstream::h264;
use media::{AccessUnit, Bandwidth, Codec, Format, Rational, Timescale, Timestamp, Track, Video};

use super::Output;
use crate::ffmpeg::{self, Encoded, Frame, Picture, Scaler, VIDEO_HZ, VideoEncoder};
use crate::ladder::Planned;

/// Pictures on their way to an encoder: enough that it never waits for a scaler, few enough to cost no memory. When
/// it is full the decoder waits.
const QUEUE: usize = 3;

pub(super) struct Rung {
    planned: Planned,
    scaler: Scaler,
    pictures: SyncSender<Shot>,
    thread: JoinHandle<()>,
    /// When the next picture is due, so that the frame rate stays in bounds.
    due: i64,
    /// The time between pictures at the highest rate.
    apart: i64,
    chosen: bool,
}

struct Shot {
    frame: Frame,
    pts: i64,
    begins: bool,
}

impl Rung {
    pub(super) fn start(
        planned: Planned,
        frame_rate: Option<(u32, u32)>,
        output: &Arc<Output>,
    ) -> Result<Self, ffmpeg::Error> {
        let scaler = Scaler::new(planned.width, planned.height)?;
        let (pictures, shots) = sync_channel(QUEUE);
        let thread = {
            let (planned, output) = (planned.clone(), Arc::clone(output));
            super::thread("encoder", move || {
                encode(&planned, frame_rate, &shots, &output);
            })?
        };
        let apart = apart(&planned, frame_rate);
        Ok(Self {
            planned,
            scaler,
            pictures,
            thread,
            due: i64::MIN,
            apart,
            chosen: false,
        })
    }

    pub(super) fn planned(&self) -> &Planned {
        &self.planned
    }

    /// Whether its encoder would be the same.
    pub(super) fn is_like(&self, other: &Planned) -> bool {
        self.planned.is_encoded_like(other)
    }

    /// Goes on under a new job.
    pub(super) fn change(&mut self, planned: Planned, frame_rate: Option<(u32, u32)>) {
        self.apart = apart(&planned, frame_rate);
        self.planned = planned;
    }

    /// Decides whether the picture at `pts` is one of the rung's. The first of a segment always is, so that the
    /// choice after it does not depend on what came before: every rung and every restart chooses alike.
    pub(super) fn choose(&mut self, pts: i64, begins: bool) {
        // Times tremble, and are rounded to milliseconds by some: a picture a little early is the one that is due, and
        // the next is not due earlier for it.
        self.chosen = begins || pts >= self.due - self.apart / 4;
        if begins || pts >= self.due + self.apart {
            self.due = pts + self.apart;
        } else if self.chosen {
            self.due += self.apart;
        }
    }

    pub(super) fn is_chosen(&self) -> bool {
        self.chosen
    }

    pub(super) fn scale(&mut self, from: &Frame) -> Result<Frame, ffmpeg::Error> {
        self.scaler.scale(from)
    }

    /// Hands a picture of the rung's size to its encoder, if it is one of the rung's.
    pub(super) fn encode(
        &mut self,
        frame: &Frame,
        pts: i64,
        begins: bool,
    ) -> Result<(), ffmpeg::Error> {
        if self.chosen {
            let shot = Shot {
                frame: frame.share()?,
                pts,
                begins,
            };
            // The thread ends early only when its encoder has failed, and then so has the worker.
            let _ = self.pictures.send(shot);
        }
        Ok(())
    }

    /// Ends the rung when all its pictures are out.
    pub(super) fn finish(self) {
        drop(self.pictures);
        let _ = self.thread.join();
    }
}

/// The time between the pictures of a rung: at its highest rate, or a whole part of a faster source's.
fn apart(planned: &Planned, source: Option<(u32, u32)>) -> i64 {
    let most = planned.frame_rate_max.max(1);
    let source = source.and_then(|(num, den)| Rational::new(num, den));
    let made = source
        .filter(|rate| u64::from(rate.num()) > u64::from(most) * u64::from(rate.den()))
        .map(|rate| planned.frame_rate(rate))
        .filter(|rate| rate.num() > 0);
    let (num, den) = made.map_or((most, 1), |rate| (rate.num(), rate.den()));
    i64::from(VIDEO_HZ) * i64::from(den) / i64::from(num)
}

/// The encoder's thread.
fn encode(
    planned: &Planned,
    frame_rate: Option<(u32, u32)>,
    shots: &Receiver<Shot>,
    output: &Output,
) {
    if let Err(error) = work(planned, frame_rate, shots, output) {
        // Without one of its rungs the worker is of no use; its supervisor starts another.
        output.fail(&planned.name, &error);
    }
    output.close(planned.id());
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Libav(#[from] ffmpeg::Error),
    #[error("the encoder's own parameter sets: {0}")]
    Config(#[from] media::bitstream::Error),
    #[error("the encoder gave no parameter sets")]
    Bare,
    #[error("the rung's name is no name")]
    Name,
}

fn work(
    planned: &Planned,
    frame_rate: Option<(u32, u32)>,
    shots: &Receiver<Shot>,
    output: &Output,
) -> Result<(), Error> {
    let mut made: Option<VideoEncoder> = None;
    let rate = frame_rate.and_then(|(num, den)| Rational::new(num, den));
    let rate = rate
        .map(|rate| planned.frame_rate(rate))
        .filter(|rate| rate.num() > 0);
    let ticks = |rate: Rational| {
        u64::from(VIDEO_HZ.unsigned_abs()) * u64::from(rate.den()) / u64::from(rate.num())
    };
    let duration = rate.map_or(0, |rate| u32::try_from(ticks(rate)).unwrap_or(0));
    let rate = rate.map(|rate| (rate.num(), rate.den()));
    for shot in shots {
        let encoder = match &mut made {
            Some(encoder) => encoder,
            none => {
                let encoder = VideoEncoder::open(&settings(planned, rate, &shot.frame))?;
                output.open(track(planned, rate, config(encoder.parameter_sets())?)?);
                none.insert(encoder)
            }
        };
        encoder.send(&shot.frame, shot.pts, shot.begins)?;
        while let Some(coded) = encoder.receive()? {
            output.unit(unit(planned, duration, &coded));
        }
    }
    if let Some(encoder) = &mut made {
        encoder.drain()?;
        while let Some(coded) = encoder.receive()? {
            output.unit(unit(planned, duration, &coded));
        }
    }
    Ok(())
}

fn track(
    planned: &Planned,
    rate: Option<(u32, u32)>,
    config: h264::Config,
) -> Result<Track, Error> {
    let video = Video {
        width: planned.width,
        height: planned.height,
        sample_aspect: Rational::ONE,
        frame_rate: rate.and_then(|(num, den)| Rational::new(num, den)),
    };
    Ok(Track {
        id: planned.id(),
        name: planned.name.parse().map_err(|_| Error::Name)?,
        codec: Codec::H264(config),
        format: Format::Video(video),
        timescale: Timescale::VIDEO,
        bandwidth: Some(Bandwidth {
            average_bps: planned.bitrate_bps,
            peak_bps: planned.peak_bps(),
        }),
    })
}

fn unit(planned: &Planned, duration: u32, coded: &Encoded<'_>) -> AccessUnit {
    AccessUnit {
        track: planned.id(),
        dts: Timestamp::new(coded.dts, Timescale::VIDEO),
        pts: Timestamp::new(coded.pts, Timescale::VIDEO),
        duration,
        keyframe: coded.keyframe,
        data: Bytes::copy_from_slice(coded.data),
    }
}

/// How a rung is encoded, by measurement (the figures stand in this crate's README): trellis quantisation and a single
/// B-frame make the cheap preset as good as the next one, and a lookahead of two pictures is a delay that a part
/// hides. Nothing adapts to the content, so that a segment encoded again has the same structure.
pub(super) fn settings(planned: &Planned, rate: Option<(u32, u32)>, frame: &Frame) -> Picture {
    let (fill_bps, buffer_bits) = planned.buffer();
    let narrow = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    let mut options = "annexb=0:keyint=infinite:min-keyint=1:scenecut=0:rc-lookahead=2:sync-lookahead=0:mbtree=1:\
                       bframes=1:b-adapt=0:trellis=1"
        .to_owned();
    if rate.is_some() {
        // Where the rate is known, no picture has to wait for the next one to know how long it lasts.
        options.push_str(":force-cfr=1");
    }
    let (num, den) = rate.unwrap_or((30, 1));
    Picture {
        width: planned.width,
        height: planned.height,
        frame_rate: (narrow(num), narrow(den)),
        average_bps: i64::from(planned.bitrate_bps),
        fill_bps: i64::from(fill_bps),
        buffer_bits: narrow(buffer_bits),
        preset: c"superfast",
        b_frames: 1,
        options,
        color: frame.color(),
    }
}

/// The configuration of an encoder that puts a four-byte length before each NAL unit.
fn config(mut sets: &[u8]) -> Result<h264::Config, Error> {
    let (mut sps, mut pps) = (None, None);
    while let Some((length, rest)) = sets.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some((nal, rest)) = rest.split_at_checked(length) else {
            break;
        };
        match nal.first().map(|head| head & 0x1f) {
            Some(7) => sps = Some(nal),
            Some(8) => pps = Some(nal),
            _ => {}
        }
        sets = rest;
    }
    let (sps, pps) = sps.zip(pps).ok_or(Error::Bare)?;
    Ok(h264::Config::from_parameter_sets(sps, pps)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn planned() -> Planned {
        let name = "180p".to_owned();
        Planned {
            track: 0,
            name,
            width: 320,
            height: 180,
            frame_rate_max: 30,
            bitrate_bps: 300_000,
        }
    }

    /// How many pictures go in before the first comes out.
    fn held_back(rate: Option<(u32, u32)>) -> i64 {
        let picture = ffmpeg::texture(320, 180, 0).expect("memory");
        let mut encoder = VideoEncoder::open(&settings(&planned(), rate, &picture)).expect("x264");
        for n in 0.. {
            encoder.send(&picture, n * 3_000, n == 0).expect("room");
            if encoder.receive().expect("no failure").is_some() {
                return n;
            }
        }
        unreachable!("every encoder gives something in the end")
    }

    /// The places of the pictures that a rung of thirty a second chooses from a source at these times, in 90 kHz ticks.
    fn chosen(source: Option<(u32, u32)>, times: impl Iterator<Item = i64>) -> Vec<usize> {
        let output = Output::new(UnixStream::pair().expect("a pair").0);
        let mut rung = Rung::start(planned(), source, &output).expect("a thread");
        let times = times.enumerate().filter_map(|(n, pts)| {
            rung.choose(pts, n % 60 == 0);
            rung.is_chosen().then_some(n)
        });
        times.collect()
    }

    #[test]
    fn a_trembling_clock_costs_no_picture_and_twice_the_rate_every_second_one() {
        let trembling = |n: i64| (n * 1_000 / 30 - n % 4) * 90;
        let all: Vec<usize> = (0..600).collect();
        assert_eq!(chosen(Some((30, 1)), (0..600).map(trembling)), all);
        assert_eq!(chosen(None, (0..600).map(trembling)), all);
        assert_eq!(chosen(Some((61, 2)), (0..600).map(|n| n * 2_951)), all);
        let half: Vec<usize> = (0..600).step_by(2).collect();
        let sixty = |n: i64| n * 1_000 / 60 * 90;
        assert_eq!(chosen(Some((60, 1)), (0..600).map(sixty)), half);
        assert_eq!(chosen(None, (0..600).map(sixty)), half);
        assert_eq!(chosen(Some((50, 1)), (0..600).map(|n| n * 1_800)), half);
        // Gaps are no credit.
        let gaps = (0..600).map(|n| (n + n / 4) * 3_000);
        assert_eq!(chosen(None, gaps), all);
    }

    #[test]
    fn an_encoder_holds_back_no_more_than_its_lookahead() {
        assert_eq!(held_back(Some((30, 1))), 2);
        assert_eq!(held_back(None), 3);
    }
}
