//! Pictures: one decode, whole frames out of fields, marks and pauses, then the cascade of rungs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use media::{AccessUnit, Codec, Rounding, Segment, Timescale};

use super::rung::Rung;
use super::{Output, Progress, count};
use crate::ffmpeg::{self, Coding, Decoder, Deinterlacer, Frame, VIDEO_HZ};
use crate::ipc::Job;

/// What the thread of pictures is told, in order.
pub(super) enum Input {
    Job(Job),
    Source(Codec),
    Mark(Segment),
    Unit(AccessUnit),
}

/// A pause longer than this is not filled but for its end.
const FILL_MAX: i64 = 60 * VIDEO_HZ as i64;

/// Works until the other end of `inputs` is dropped, then finishes every rung.
pub(super) fn run(inputs: &Receiver<Input>, output: &Arc<Output>, progress: &Arc<Progress>) {
    let mut pipeline = Pipeline {
        output,
        progress,
        source: None,
        decoder: None,
        deinterlacer: None,
        jobs: VecDeque::new(),
        marks: VecDeque::new(),
        rungs: Vec::new(),
        shown: None,
        discontinuity: None,
        pause_max: i64::from(VIDEO_HZ) / 4,
    };
    for input in inputs {
        pipeline.take(input);
    }
    pipeline.drain();
}

struct Pipeline<'a> {
    output: &'a Arc<Output>,
    progress: &'a Arc<Progress>,
    source: Option<Codec>,
    decoder: Option<Decoder>,
    deinterlacer: Option<Deinterlacer>,
    /// Jobs and marks that the pictures have not reached yet.
    jobs: VecDeque<Job>,
    marks: VecDeque<Segment>,
    rungs: Vec<Rung>,
    /// The newest picture, and when it was shown last.
    shown: Option<(Frame, i64)>,
    /// The discontinuity number of the newest mark that was reached; nothing is encoded before the first.
    discontinuity: Option<u64>,
    pause_max: i64,
}

impl Pipeline<'_> {
    fn take(&mut self, input: Input) {
        match input {
            Input::Job(job) => self.jobs.push_back(job),
            Input::Mark(mark) => self.marks.push_back(mark),
            Input::Source(codec) => {
                if self.source.as_ref() != Some(&codec) {
                    self.drain_decoder();
                    self.decoder = None;
                    self.source = Some(codec);
                }
            }
            Input::Unit(unit) => {
                if let Err(error) = self.unit(&unit) {
                    if error.is_memory() {
                        self.output.fail("pictures", &error);
                    }
                    if count(&self.progress.damaged).is_power_of_two() {
                        eprintln!("picture at {:?}: {error}", unit.pts);
                    }
                }
                self.progress
                    .reached
                    .store(ticks(unit.dts), Ordering::Relaxed);
                count(&self.progress.units);
            }
        }
    }

    fn unit(&mut self, unit: &AccessUnit) -> Result<(), ffmpeg::Error> {
        let (pts, dts) = (ticks(unit.pts), ticks(unit.dts));
        if unit.data.is_empty() {
            // Nothing came: the last picture again.
            let frame = match &self.shown {
                Some((frame, _)) => frame.share()?,
                None => self.black()?,
            };
            return self.picture(frame, pts);
        }
        if self.decoder.is_none() {
            if !unit.keyframe {
                return Ok(());
            }
            self.decoder = self.source.as_ref().map(open).transpose()?.flatten();
        }
        let Some(decoder) = &mut self.decoder else {
            return Ok(());
        };
        let sent = decoder.send(&unit.data, pts, dts, unit.keyframe);
        self.receive()?;
        sent
    }

    /// Takes what the decoder has ready through to the rungs.
    fn receive(&mut self) -> Result<(), ffmpeg::Error> {
        while let Some(decoder) = &mut self.decoder {
            let Some(frame) = decoder.receive()? else {
                break;
            };
            self.decoded(frame)?;
        }
        Ok(())
    }

    fn decoded(&mut self, frame: Frame) -> Result<(), ffmpeg::Error> {
        if frame.interlaced() && self.deinterlacer.is_none() {
            self.deinterlacer = Some(Deinterlacer::new(&frame)?);
        }
        if self
            .deinterlacer
            .as_ref()
            .is_some_and(|deinterlacer| !deinterlacer.fits(&frame))
        {
            self.drain_deinterlacer()?;
            self.deinterlacer = Some(Deinterlacer::new(&frame)?);
        }
        let Some(deinterlacer) = &mut self.deinterlacer else {
            let pts = frame.pts();
            return self.picture(frame, pts);
        };
        deinterlacer.send(frame)?;
        self.deinterlaced()
    }

    fn deinterlaced(&mut self) -> Result<(), ffmpeg::Error> {
        while let Some(deinterlacer) = &mut self.deinterlacer {
            let Some(frame) = deinterlacer.receive()? else {
                break;
            };
            let pts = frame.pts();
            self.picture(frame, pts)?;
        }
        Ok(())
    }

    fn drain_deinterlacer(&mut self) -> Result<(), ffmpeg::Error> {
        if let Some(deinterlacer) = &mut self.deinterlacer {
            deinterlacer.drain()?;
            self.deinterlaced()?;
        }
        self.deinterlacer = None;
        Ok(())
    }

    fn drain_decoder(&mut self) {
        let drained = match &mut self.decoder {
            Some(decoder) => decoder.drain().and_then(|()| self.receive()),
            None => Ok(()),
        };
        if let Err(error) = drained.and_then(|()| self.drain_deinterlacer()) {
            eprintln!("last pictures: {error}");
        }
    }

    /// The publish is over: everything that is held back anywhere goes out.
    fn drain(&mut self) {
        self.drain_decoder();
        for rung in self.rungs.drain(..) {
            rung.finish();
        }
    }

    /// One whole picture in presentation order.
    fn picture(&mut self, frame: Frame, pts: i64) -> Result<(), ffmpeg::Error> {
        if self.shown.as_ref().is_some_and(|(_, shown)| pts <= *shown) {
            count(&self.progress.dropped);
            return Ok(());
        }
        let mut begins = false;
        while let Some(mark) = self.marks.front().copied() {
            let start = ticks(mark.start);
            if start > pts {
                break;
            }
            self.marks.pop_front();
            begins = self.mark(&mark, start, &frame, pts)?;
        }
        if !begins {
            self.fill(pts)?;
        }
        self.show(&frame, pts, begins)?;
        self.shown = Some((frame, pts));
        Ok(())
    }

    /// A segment begins at `start`, at or before the picture `next`. Says whether it begins with that picture; if
    /// not, a repeated one stands at its start.
    fn mark(
        &mut self,
        mark: &Segment,
        start: i64,
        next: &Frame,
        pts: i64,
    ) -> Result<bool, ffmpeg::Error> {
        let goes_on = self
            .discontinuity
            .is_none_or(|last| last == mark.discontinuity);
        self.discontinuity.get_or_insert(mark.discontinuity);
        if goes_on {
            self.fill(start)?;
        }
        self.discontinuity = Some(mark.discontinuity);
        while let Some(job) = self.jobs.pop_front_if(|job| job.from <= mark.number) {
            self.begin(job)?;
        }
        if start == pts {
            return Ok(true);
        }
        let frame = match &self.shown {
            Some((frame, shown)) if goes_on && start > *shown => frame.share()?,
            _ => next.share()?,
        };
        count(&self.progress.repeated);
        self.show(&frame, start, true)?;
        self.shown = Some((frame, start));
        Ok(false)
    }

    /// Repeats the newest picture until the pause to `until` is short enough.
    fn fill(&mut self, until: i64) -> Result<(), ffmpeg::Error> {
        let Some((frame, shown)) = &self.shown else {
            return Ok(());
        };
        let mut at = (*shown).max(until - FILL_MAX);
        let frame = frame.share()?;
        // As the segmenter does for a source that fell silent: no part has to wait for the next one.
        let step = (self.pause_max * 4 / 5).max(1);
        while until - at > self.pause_max {
            at += step;
            count(&self.progress.repeated);
            self.show(&frame, at, false)?;
            self.shown = Some((frame.share()?, at));
        }
        Ok(())
    }

    /// Hands one picture down the cascade: each rung is scaled from the one above it.
    fn show(&mut self, frame: &Frame, pts: i64, begins: bool) -> Result<(), ffmpeg::Error> {
        if self.discontinuity.is_none() {
            return Ok(());
        }
        for rung in &mut self.rungs {
            rung.choose(pts, begins);
        }
        let Some(lowest) = self.rungs.iter().rposition(Rung::is_chosen) else {
            return Ok(());
        };
        let mut above = frame.share()?;
        for rung in &mut self.rungs[..=lowest] {
            above = rung.scale(&above)?;
            rung.encode(&above, pts, begins)?;
        }
        Ok(())
    }

    /// A job takes effect: rungs that stay as they are go on, others end or begin.
    fn begin(&mut self, job: Job) -> Result<(), ffmpeg::Error> {
        self.pause_max = job.pause_max.max(1);
        let mut old = std::mem::take(&mut self.rungs);
        let mut rungs = Vec::with_capacity(job.rungs.len());
        for planned in job.rungs {
            let same = old.iter().position(|rung| rung.is_like(&planned));
            let place = rungs.len();
            match same {
                Some(index) => {
                    let mut rung = old.remove(index);
                    rung.change(planned, job.frame_rate);
                    rungs.push((place, Ok(rung)));
                }
                None => rungs.push((place, Err(planned))),
            }
        }
        // What ends is complete before its track begins again.
        for rung in old {
            rung.finish();
        }
        for (_, rung) in rungs {
            let rung = match rung {
                Ok(rung) => rung,
                Err(planned) => Rung::start(planned, job.frame_rate, self.output)?,
            };
            self.rungs.push(rung);
        }
        Ok(())
    }

    fn black(&self) -> Result<Frame, ffmpeg::Error> {
        let (width, height) = self
            .jobs
            .front()
            .and_then(|job| job.rungs.first())
            .or_else(|| self.rungs.first().map(Rung::planned))
            .map_or((320, 180), |rung| (rung.width, rung.height));
        ffmpeg::black(width, height)
    }
}

/// A decoder for the publisher's pictures.
fn open(codec: &Codec) -> Result<Option<Decoder>, ffmpeg::Error> {
    let (coding, record, video) = match codec {
        Codec::H264(config) => (Coding::H264, config.record(), config.video()),
        Codec::H265(config) => (Coding::H265, config.record(), config.video()),
        Codec::Av1(config) => (Coding::Av1, config.record(), config.video()),
        _ => return Ok(None),
    };
    // A second thread costs H.264 and HEVC a picture of delay: only where one may not keep up.
    let large = u32::from(video.width) * u32::from(video.height) > 1920 * 1088;
    let threads = if large || coding == Coding::Av1 { 2 } else { 1 };
    Decoder::open(coding, record, VIDEO_HZ, threads).map(Some)
}

fn ticks(at: media::Timestamp) -> i64 {
    at.rescale(Timescale::VIDEO, Rounding::Up).ticks()
}
