//! An encoder's worth of test media: a moving picture with a clock, and a beep each second, coded as H.264 and AAC.

mod picture;

use std::time::Duration;

use bytes::Bytes;
use media::bitstream::{aac, h264};
use media::{
    AccessUnit, Codec, Format, Rational, Timescale, Timestamp, Track, TrackId, Tracks, Utc, Video,
};

use crate::ffmpeg::{self, AAC_FRAME, AudioEncoder, Color, Picture, Planes, VideoEncoder};
use picture::Canvas;

const VIDEO: TrackId = TrackId(0);
const AUDIO: TrackId = TrackId(1);
const SAMPLE_RATE: u16 = 48_000;
/// One beep, and the lamp that goes with it.
const BEEP: Duration = Duration::from_millis(80);
const BEEP_HZ: u64 = 880;
const BEEP_AMPLITUDE: f32 = 0.25;
/// Samples of a frame of sound.
const FRAME: u16 = 1024;
const _: () = assert!(FRAME as usize == AAC_FRAME);
const AUDIO_BPS: i64 = 128_000;
/// Keyframes are this far apart, as encoders are asked to set it.
const GOP_SECONDS: u64 = 2;

/// Why there is no test media.
#[derive(Debug, thiserror::Error)]
#[error("the test source: {0}")]
pub struct Error(String);

impl From<ffmpeg::Error> for Error {
    fn from(error: ffmpeg::Error) -> Self {
        Self(error.to_string())
    }
}

/// Draws and encodes one picture at a time, with the sound that goes with it.
pub struct TestSource {
    canvas: Canvas,
    video: VideoEncoder,
    audio: AudioEncoder,
    tracks: Tracks,
    pictures_per_second: u32,
    /// Pictures and audio samples made so far.
    pictures: u64,
    samples: u64,
    /// The media time at which each beep begins, so that the clock shows a whole second then.
    beep_offset: Option<Duration>,
}

impl TestSource {
    /// A source of `width` by `height` pictures (multiples of four), `pictures_per_second` of them.
    ///
    /// # Errors
    /// When this machine's libav lacks an encoder.
    pub fn new(width: u16, height: u16, pictures_per_second: u32) -> Result<Self, Error> {
        ffmpeg::quiet();
        let rate = i32::try_from(pictures_per_second)
            .map_err(|_| Error("too many pictures a second".to_owned()))?;
        let video = VideoEncoder::open(&Picture {
            width,
            height,
            frame_rate: (rate, 1),
            average_bps: 4_000_000,
            fill_bps: 5_000_000,
            buffer_bits: 5_000_000,
            preset: c"ultrafast",
            b_frames: 0,
            options: "annexb=0:scenecut=0:rc-lookahead=0:sync-lookahead=0:force-cfr=1".to_owned(),
            color: Color::bt709(),
        })?;
        let audio = AudioEncoder::open(SAMPLE_RATE.into(), AUDIO_BPS)?;
        let bad = |error: media::bitstream::Error| Error(error.to_string());
        let sets =
            h264::normalize(&Bytes::copy_from_slice(video.parameter_sets()), 4).map_err(bad)?;
        let picture = sets
            .parameter_sets
            .ok_or_else(|| Error("the encoder gave no parameter sets".to_owned()))?;
        let sound =
            aac::Config::from_record(Bytes::copy_from_slice(audio.config())).map_err(bad)?;
        let shape = Video {
            frame_rate: Rational::new(pictures_per_second, 1),
            ..picture.video()
        };
        let track = |id, name: &str, codec, format, timescale| Track {
            id,
            name: name.parse().expect("letters are a name"),
            codec,
            format,
            timescale,
            bandwidth: None,
        };
        let audio_scale = Timescale::new(SAMPLE_RATE.into()).expect("48000 is not zero");
        let tracks = [
            track(
                VIDEO,
                "video",
                Codec::H264(picture),
                Format::Video(shape),
                Timescale::VIDEO,
            ),
            track(
                AUDIO,
                "audio",
                Codec::Aac(sound.clone()),
                Format::Audio(sound.audio()),
                audio_scale,
            ),
        ];
        Ok(Self {
            canvas: Canvas::new(width.into(), height.into()),
            video,
            audio,
            tracks: tracks.into(),
            pictures_per_second,
            pictures: 0,
            samples: 0,
            beep_offset: None,
        })
    }

    /// One H.264 and one AAC track.
    #[must_use]
    pub fn tracks(&self) -> Tracks {
        self.tracks.clone()
    }

    /// The next picture, showing `utc`, and the sound up to its end, in decode order.
    ///
    /// # Errors
    /// When an encoder fails.
    pub fn next(&mut self, utc: Utc) -> Result<Vec<AccessUnit>, Error> {
        let at = Duration::from_secs(self.pictures) / self.pictures_per_second;
        let offset = *self
            .beep_offset
            .get_or_insert_with(|| until_whole_second(utc));
        self.canvas.draw(utc, beeps(at, offset));
        let (width, height) = self.shape();
        let frame = ffmpeg::picture(width, height, &self.canvas.planes)?;
        let keyframe = self
            .pictures
            .is_multiple_of(GOP_SECONDS * u64::from(self.pictures_per_second));
        self.video
            .send(&frame, Timescale::VIDEO.ticks(at), keyframe)?;
        self.pictures += 1;

        let mut units = Vec::new();
        while let Some(coded) = self.video.receive()? {
            units.push(unit(VIDEO, Timescale::VIDEO, 0, &coded));
        }
        let end = u64::from(SAMPLE_RATE) * self.pictures / u64::from(self.pictures_per_second);
        let scale = Timescale::new(SAMPLE_RATE.into()).expect("48000 is not zero");
        while self.samples + u64::from(FRAME) <= end {
            self.sound(offset)?;
            while let Some(coded) = self.audio.receive()? {
                // What comes before time zero only primes the decoder.
                if coded.pts >= 0 {
                    units.push(unit(AUDIO, scale, FRAME.into(), &coded));
                }
            }
        }
        Ok(units)
    }

    fn sound(&mut self, offset: Duration) -> Result<(), Error> {
        let scale = Timescale::new(SAMPLE_RATE.into()).expect("48000 is not zero");
        let sample = |index: u64| {
            let at = scale.duration(i64::try_from(index).unwrap_or(i64::MAX));
            if !beeps(at, offset) {
                return 0.0;
            }
            let phase = index * BEEP_HZ % u64::from(SAMPLE_RATE);
            let phase = u16::try_from(phase).expect("below 48000");
            let turns = f32::from(phase) / f32::from(SAMPLE_RATE);
            BEEP_AMPLITUDE * (turns * std::f32::consts::TAU).sin()
        };
        let channel: Vec<f32> = (self.samples..self.samples + u64::from(FRAME))
            .map(sample)
            .collect();
        let planes: Planes = [channel.clone(), channel];
        self.audio
            .send(&planes, i64::try_from(self.samples).unwrap_or(i64::MAX))?;
        self.samples += u64::from(FRAME);
        Ok(())
    }

    fn shape(&self) -> (u16, u16) {
        let narrow =
            |size: usize| u16::try_from(size).expect("the canvas was made from such sizes");
        (narrow(self.canvas.width), narrow(self.canvas.height))
    }
}

/// How long after `utc` its clock shows a whole second.
fn until_whole_second(utc: Utc) -> Duration {
    let past = u64::try_from(utc.unix_micros().rem_euclid(1_000_000))
        .expect("a remainder is not negative");
    Duration::from_micros(1_000_000 - past)
}

/// Whether media time `at` lies in a beep, when the first begins at `offset` and the others follow each second.
fn beeps(at: Duration, offset: Duration) -> bool {
    at.checked_sub(offset)
        .is_some_and(|since| Duration::from_nanos(since.subsec_nanos().into()) < BEEP)
}

fn unit(
    track: TrackId,
    scale: Timescale,
    duration: u32,
    coded: &ffmpeg::Encoded<'_>,
) -> AccessUnit {
    AccessUnit {
        track,
        dts: Timestamp::new(coded.dts, scale),
        pts: Timestamp::new(coded.pts, scale),
        duration,
        keyframe: track == AUDIO || coded.keyframe,
        data: Bytes::copy_from_slice(coded.data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_and_sound_come_in_step_with_a_keyframe_every_two_seconds() {
        let mut source = TestSource::new(320, 180, 10).unwrap();
        let start = Utc::from_unix_micros(1_795_248_000_250_000);
        let mut units = Vec::new();
        for picture in 0..50 {
            units.extend(
                source
                    .next(start.saturating_add(Duration::from_millis(100 * picture)))
                    .unwrap(),
            );
        }
        let video: Vec<_> = units.iter().filter(|unit| unit.track == VIDEO).collect();
        let audio: Vec<_> = units.iter().filter(|unit| unit.track == AUDIO).collect();
        let times: Vec<i64> = video.iter().map(|unit| unit.pts.ticks()).collect();
        assert_eq!(
            times,
            (0..50).map(|picture| picture * 9_000).collect::<Vec<_>>()
        );
        let keys: Vec<usize> = (0..50).filter(|picture| video[*picture].keyframe).collect();
        assert_eq!(keys, [0, 20, 40]);
        assert_eq!(audio[0].pts.ticks(), 0);
        assert!(
            audio
                .windows(2)
                .all(|pair| pair[1].pts.ticks() - pair[0].pts.ticks() == 1024)
        );
        let end = audio.last().unwrap().pts.ticks();
        assert!((240_000 - 4 * 1024..=240_000).contains(&end), "{end}");
    }

    #[test]
    fn a_beep_begins_when_the_clock_shows_a_whole_second() {
        let offset = until_whole_second(Utc::from_unix_micros(5_750_000));
        assert_eq!(offset, Duration::from_millis(250));
        let beeping = |millis| beeps(Duration::from_millis(millis), offset);
        assert!(
            !beeping(0)
                && !beeping(249)
                && beeping(250)
                && beeping(329)
                && !beeping(330)
                && beeping(1250)
        );
    }
}
