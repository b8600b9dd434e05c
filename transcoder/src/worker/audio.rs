//! Sound: decoded, resampled to 48 kHz stereo, and encoded in AAC frames that lie on one grid for ever.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use bytes::Bytes;
use media::bitstream::aac;
use media::{AccessUnit, Bandwidth, Codec, Format, Rounding, Timescale, Timestamp, Track, TrackId};

use super::{Output, Progress, count};
use crate::ffmpeg::{self, AAC_FRAME, AudioEncoder, Coding, Decoder, Planes, Resampler};
use crate::ipc::Sound;

/// What the thread of sound is told, in order.
pub(super) enum Input {
    Job(Option<Sound>),
    Source(Codec, Timescale),
    Unit(AccessUnit),
}

/// Samples a second of what goes out.
pub(crate) const RATE: u32 = 48_000;
/// A difference between the samples counted and the source's times that is left alone: 8 ms, below what anyone hears
/// as lost sync and above the rounding of any clock.
const LEEWAY: i64 = 384;
/// The longest silence made up at once.
const SILENCE_MAX: i64 = 60 * RATE as i64;

/// Works until the other end of `inputs` is dropped.
pub(super) fn run(inputs: &Receiver<Input>, output: &Arc<Output>, progress: &Arc<Progress>) {
    let mut chain = None;
    let mut source: Option<(Codec, Timescale)> = None;
    for input in inputs {
        let done = match input {
            Input::Job(sound) => begin(sound, &mut chain, output, source.as_ref()),
            Input::Source(codec, scale) => {
                source = Some((codec, scale));
                match (&mut chain, &source) {
                    (Some(chain), Some(source)) => chain.source(source),
                    _ => Ok(()),
                }
            }
            Input::Unit(unit) => {
                let done = chain
                    .as_mut()
                    .map_or(Ok(()), |chain| chain.unit(&unit, output));
                if let Err(Error::Source(error)) = &done {
                    if error.is_memory() {
                        output.fail("sound", error);
                    }
                    if count(&progress.damaged).is_power_of_two() {
                        eprintln!("sound at {:?}: {error}", unit.pts);
                    }
                }
                count(&progress.units);
                done
            }
        };
        if let Err(Error::Encoder(error)) = done {
            output.fail("sound", &error);
        }
    }
    if let Some(chain) = chain {
        chain.finish(output);
    }
}

fn begin(
    sound: Option<Sound>,
    chain: &mut Option<Chain>,
    output: &Output,
    source: Option<&(Codec, Timescale)>,
) -> Result<(), Error> {
    if chain.as_ref().map(|chain| chain.sound) == sound {
        return Ok(());
    }
    if let Some(old) = chain.take() {
        old.finish(output);
    }
    if let Some(sound) = sound {
        let mut new = Chain::start(sound, output)?;
        if let Some(source) = source {
            new.source(source)?;
        }
        *chain = Some(new);
    }
    Ok(())
}

/// What failed: the stranger's sound, which is counted, or our own encoder, which ends the worker.
#[derive(Debug)]
enum Error {
    Source(ffmpeg::Error),
    Encoder(ffmpeg::Error),
}

struct Chain {
    sound: Sound,
    decoder: Option<(Codec, Decoder)>,
    scale: Timescale,
    resampler: Resampler,
    encoder: AudioEncoder,
    /// Samples that wait for a whole frame.
    samples: Planes,
    /// The time of the first of them, in samples; unknown before any came.
    start: Option<i64>,
    /// Frames that say nothing but how the encoder was primed end here.
    primed: i64,
}

impl Chain {
    fn start(sound: Sound, output: &Output) -> Result<Self, Error> {
        let rate = i32::try_from(RATE).unwrap_or(i32::MAX);
        let encoder =
            AudioEncoder::open(rate, i64::from(sound.bitrate_bps)).map_err(Error::Encoder)?;
        let record = Bytes::copy_from_slice(encoder.config());
        let config =
            aac::Config::from_record(record).map_err(|_| Error::Encoder(ffmpeg::Error::Size))?;
        output.open(Track {
            id: TrackId(sound.track),
            name: "audio".parse().expect("letters are a name"),
            format: Format::Audio(config.audio()),
            codec: Codec::Aac(config),
            timescale: Timescale::new(RATE).expect("48000 is not zero"),
            bandwidth: Some(Bandwidth {
                average_bps: sound.bitrate_bps,
                peak_bps: sound.bitrate_bps / 4 * 5,
            }),
        });
        Ok(Self {
            sound,
            decoder: None,
            scale: Timescale::VIDEO,
            resampler: Resampler::new(rate),
            encoder,
            samples: Planes::default(),
            start: None,
            primed: i64::MIN,
        })
    }

    fn source(&mut self, (codec, scale): &(Codec, Timescale)) -> Result<(), Error> {
        self.scale = *scale;
        if self.decoder.as_ref().is_some_and(|(open, _)| open == codec) {
            return Ok(());
        }
        let (coding, record) = match codec {
            Codec::Aac(config) => (Coding::Aac, config.record()),
            Codec::Opus(config) => (Coding::Opus, config.record()),
            _ => return Ok(()),
        };
        let hz = i32::try_from(scale.hz()).unwrap_or(i32::MAX);
        let decoder = Decoder::open(coding, record, hz, 1).map_err(Error::Source)?;
        self.decoder = Some((codec.clone(), decoder));
        self.resampler.reset();
        Ok(())
    }

    fn unit(&mut self, unit: &AccessUnit, output: &Output) -> Result<(), Error> {
        if unit.data.is_empty() {
            // Nothing came: silence for as long.
            let end = unit
                .pts
                .checked_add(i64::from(unit.duration))
                .unwrap_or(unit.pts);
            self.place(position(unit.pts));
            self.silence_until(position(end));
            return self.encode(output);
        }
        let Some((_, decoder)) = &mut self.decoder else {
            return Ok(());
        };
        let sent = decoder.send(&unit.data, unit.pts.ticks(), unit.dts.ticks(), true);
        let mut fresh = Planes::default();
        while let Some((_, decoder)) = &mut self.decoder
            && let Some(frame) = decoder.receive().map_err(Error::Source)?
        {
            let at = position(Timestamp::new(frame.pts(), self.scale)) - self.resampler.delay();
            self.resampler
                .convert(&frame, &mut fresh)
                .map_err(Error::Source)?;
            self.append(&mut fresh, at);
        }
        self.encode(output)?;
        sent.map_err(Error::Source)
    }

    /// Adds samples whose first is heard at `at`, mending what lies between them and those before.
    fn append(&mut self, fresh: &mut Planes, at: i64) {
        let end = self.place(at);
        let apart = at - end;
        let mut skip = 0;
        if apart > LEEWAY {
            self.silence_until(at);
        } else if apart < -LEEWAY || self.is_empty() && apart < 0 {
            skip = usize::try_from(-apart).unwrap_or(0).min(fresh[0].len());
        }
        for (all, fresh) in self.samples.iter_mut().zip(fresh.iter_mut()) {
            all.extend(fresh.drain(..).skip(skip));
        }
    }

    fn is_empty(&self) -> bool {
        self.samples[0].is_empty()
    }

    /// The time at which the samples so far end. The first ones of all begin with the next frame of the grid, so
    /// that every worker cuts the same sound into the same frames.
    fn place(&mut self, at: i64) -> i64 {
        let frame = i64::try_from(AAC_FRAME).unwrap_or(1);
        let start = *self.start.get_or_insert_with(|| {
            let start = -(-at).div_euclid(frame) * frame;
            self.primed = start;
            start
        });
        start + i64::try_from(self.samples[0].len()).unwrap_or(0)
    }

    fn silence_until(&mut self, until: i64) {
        let end = self.place(until);
        let missing = (until - end).clamp(0, SILENCE_MAX);
        let length = self.samples[0].len() + usize::try_from(missing).unwrap_or(0);
        for plane in &mut self.samples {
            plane.resize(length, 0.0);
        }
    }

    fn encode(&mut self, output: &Output) -> Result<(), Error> {
        let frame = i64::try_from(AAC_FRAME).unwrap_or(1);
        while self.samples[0].len() >= AAC_FRAME {
            let Some(start) = &mut self.start else { break };
            self.encoder
                .send(&self.samples, *start)
                .map_err(Error::Encoder)?;
            *start += frame;
            for plane in &mut self.samples {
                plane.drain(..AAC_FRAME);
            }
            self.receive(output)?;
        }
        Ok(())
    }

    fn receive(&mut self, output: &Output) -> Result<(), Error> {
        let scale = Timescale::new(RATE).expect("48000 is not zero");
        while let Some(coded) = self.encoder.receive().map_err(Error::Encoder)? {
            if coded.pts < self.primed {
                continue;
            }
            let at = Timestamp::new(coded.pts, scale);
            output.unit(AccessUnit {
                track: TrackId(self.sound.track),
                dts: at,
                pts: at,
                duration: u32::try_from(AAC_FRAME).unwrap_or(0),
                keyframe: true,
                data: Bytes::copy_from_slice(coded.data),
            });
        }
        Ok(())
    }

    /// Lets out what the encoder holds back.
    fn finish(mut self, output: &Output) {
        if self.encoder.drain().is_ok() {
            let _ = self.receive(output);
        }
        output.close(TrackId(self.sound.track));
    }
}

/// A place in the source's sound, in our samples.
fn position(at: Timestamp) -> i64 {
    let scale = Timescale::new(RATE).expect("48000 is not zero");
    at.rescale(scale, Rounding::Nearest).ticks()
}
