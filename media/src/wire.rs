//! Events as bytes, for a socket between processes or machines.
//!
//! A connection begins with [`HEADER`]. Then come frames: a length of four bytes, a kind of one, the fields, all
//! big-endian. The reader trusts nothing: the process at the other end parses strangers' media in C, so every field is
//! checked as if the stranger had written it, and a codec configuration is parsed again from its record.

#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::str::FromStr;

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};

use crate::bitstream::{self, aac, av1, h264, h265, opus};
use crate::{
    AccessUnit, Audio, Bandwidth, Codec, Event, Format, Gap, Name, Rational, Rounding, Segment,
    Timescale, Timestamp, Track, TrackId, Tracks, Utc, Video,
};

/// What each direction of a connection begins with: a name, and the version of everything after it.
pub const HEADER: [u8; 8] = *b"HWEVENT\x01";
/// The largest unit, in bytes.
pub const UNIT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most tracks of a stream.
pub const TRACKS_MAX: usize = 16;

/// The largest frame without its length: a unit and its fields.
const FRAME_BYTES_MAX: usize = UNIT_BYTES_MAX + 64;
/// Times beyond this, in ticks, are damage: 90 kHz reaches it after three thousand years.
const TICKS_MAX: u64 = 1 << 53;
/// 9999-12-31T23:59:59Z, the last that RFC 3339 can write, in microseconds.
const UTC_MAX: i64 = 253_402_300_799_000_000;
/// The highest sample rate that any codec here decodes to.
const SAMPLE_RATE_MAX: u32 = 96_000;
/// The highest timescale; above every sample rate and every video clock in use.
const TIMESCALE_MAX: u32 = 10_000_000;
const CHANNELS_MAX: u8 = 8;

mod kind {
    pub(super) const TRACKS: u8 = 1;
    pub(super) const SEGMENT: u8 = 2;
    pub(super) const UNIT: u8 = 3;
    pub(super) const GAP: u8 = 4;
    pub(super) const END: u8 = 5;
}

/// Why a connection's bytes were refused. The peer's fault; the connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection does not begin with [`HEADER`]: another protocol, or another version of this one.
    #[error("the peer does not speak this version of the event protocol")]
    Version,
    /// A frame is longer than any event.
    #[error("a frame of {0} bytes")]
    FrameLength(u32),
    /// A frame is of a kind that this version does not have.
    #[error("a frame of kind {0}")]
    Kind(u8),
    /// A frame is shorter or longer than its fields.
    #[error("a frame whose length does not match its fields")]
    Length,
    /// A field has a value that it cannot have.
    #[error("{0} is out of range")]
    Field(&'static str),
    /// A codec record was refused.
    #[error("a codec record was refused: {0}")]
    Codec(#[from] bitstream::Error),
    /// A unit of a track that was not announced, or in another timescale than was announced.
    #[error("a unit of track {0} that does not match the tracks announced")]
    Track(u8),
    /// Something follows the end of the stream.
    #[error("a frame after the end")]
    AfterEnd,
}

impl From<TryGetError> for Error {
    fn from(_: TryGetError) -> Self {
        Self::Length
    }
}

/// Appends `event` as one frame. The writer sends [`HEADER`] once before the first.
///
/// A [`Decoder`] refuses events that break what their types promise in words: more than [`TRACKS_MAX`] tracks, units
/// over [`UNIT_BYTES_MAX`], and the like.
pub fn encode(event: &Event, out: &mut BytesMut) {
    let start = out.len();
    out.put_u32(0);
    match event {
        Event::Tracks(tracks) => {
            out.put_u8(kind::TRACKS);
            for track in tracks.iter() {
                put_track(track, out);
            }
        }
        Event::Segment(segment) => {
            out.put_u8(kind::SEGMENT);
            out.put_u64(segment.number);
            out.put_u64(segment.discontinuity);
            out.put_u32(segment.start.scale().hz());
            out.put_i64(segment.start.ticks());
            out.put_i64(segment.utc.unix_micros());
        }
        Event::Unit(unit) => {
            let scale = unit.dts.scale();
            out.reserve(unit.data.len() + 32);
            out.put_u8(kind::UNIT);
            out.put_u8(unit.track.0);
            out.put_u8(unit.keyframe.into());
            out.put_u32(scale.hz());
            out.put_i64(unit.dts.ticks());
            out.put_i64(unit.pts.rescale(scale, Rounding::Nearest).ticks());
            out.put_u32(unit.duration);
            out.put_slice(&unit.data);
        }
        Event::Gap(gap) => {
            out.put_u8(kind::GAP);
            out.put_u8(match gap {
                Gap::Jump => 0,
                Gap::Dropped => 1,
                Gap::Reconnect => 2,
            });
        }
        Event::End => out.put_u8(kind::END),
    }
    // An event beyond 4 GiB gets a length that every decoder refuses.
    let len = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

fn put_track(track: &Track, out: &mut BytesMut) {
    out.put_u8(track.id.0);
    let name = track.name.as_str();
    out.put_u8(u8::try_from(name.len()).expect("a name has at most 64 bytes"));
    out.put_slice(name.as_bytes());
    let (codec, record) = match &track.codec {
        Codec::H264(config) => (0, config.record()),
        Codec::H265(config) => (1, config.record()),
        Codec::Av1(config) => (2, config.record()),
        Codec::Aac(config) => (3, config.record()),
        Codec::Opus(config) => (4, config.record()),
    };
    out.put_u8(codec);
    out.put_u16(u16::try_from(record.len()).expect("records have at most 16 KiB"));
    out.put_slice(record);
    match track.format {
        Format::Video(video) => {
            out.put_u8(0);
            out.put_u16(video.width);
            out.put_u16(video.height);
            put_ratio(Some(video.sample_aspect), out);
            put_ratio(video.frame_rate, out);
        }
        Format::Audio(audio) => {
            out.put_u8(1);
            out.put_u32(audio.sample_rate);
            out.put_u8(audio.channels);
        }
    }
    out.put_u32(track.timescale.hz());
    out.put_u8(track.bandwidth.is_some().into());
    if let Some(bandwidth) = track.bandwidth {
        out.put_u32(bandwidth.average_bps);
        out.put_u32(bandwidth.peak_bps);
    }
}

/// A ratio, or a denominator of zero for none.
fn put_ratio(ratio: Option<Rational>, out: &mut BytesMut) {
    out.put_u32(ratio.map_or(0, Rational::num));
    out.put_u32(ratio.map_or(0, Rational::den));
}

/// Turns the bytes of one connection into events.
///
/// Holds at most one frame and what was pushed behind it, so a reader that drains [`Decoder::next`] after each push
/// bounds its memory by [`UNIT_BYTES_MAX`] and its own read size. Units share the memory they were read into.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    begun: bool,
    ended: bool,
    failed: Option<Error>,
    /// Of the newest tracks: ids and timescales.
    tracks: Vec<(TrackId, Timescale)>,
}

impl Decoder {
    /// A decoder for a connection that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends bytes as they were received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The buffer to read a socket into, in place of [`Decoder::push`]: append to its end only.
    pub const fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole event, or `None` until more bytes come.
    ///
    /// # Errors
    /// When the bytes are no event; every later call says the same.
    #[expect(
        clippy::should_implement_trait,
        reason = "None is not the end: more bytes may come"
    )]
    pub fn next(&mut self) -> Result<Option<Event>, Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let event = self.read();
        if let Err(error) = event {
            self.failed = Some(error);
            self.buffer = BytesMut::new();
        }
        event
    }

    /// Whether the bytes so far are whole events, the last of them [`Event::End`]: a connection may close here.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended && self.buffer.is_empty()
    }

    fn read(&mut self) -> Result<Option<Event>, Error> {
        if !self.begun {
            let len = self.buffer.len().min(HEADER.len());
            if self.buffer[..len] != HEADER[..len] {
                return Err(Error::Version);
            }
            if len < HEADER.len() {
                return Ok(None);
            }
            self.buffer.advance(len);
            self.begun = true;
        }
        if self.ended && !self.buffer.is_empty() {
            return Err(Error::AfterEnd);
        }
        let Some(prefix) = self.buffer.first_chunk() else {
            return Ok(None);
        };
        let announced = u32::from_be_bytes(*prefix);
        let len = usize::try_from(announced)
            .ok()
            .filter(|&len| len <= FRAME_BYTES_MAX);
        let len = len.ok_or(Error::FrameLength(announced))?;
        if self.buffer.len() - prefix.len() < len {
            return Ok(None);
        }
        self.buffer.advance(4);
        let frame = self.buffer.split_to(len).freeze();
        self.event(frame).map(Some)
    }

    fn event(&mut self, mut frame: Bytes) -> Result<Event, Error> {
        let event = match frame.try_get_u8()? {
            kind::TRACKS => {
                let tracks = read_tracks(&mut frame)?;
                self.tracks = tracks
                    .iter()
                    .map(|track| (track.id, track.timescale))
                    .collect();
                Event::Tracks(tracks)
            }
            kind::SEGMENT => Event::Segment(read_segment(&mut frame)?),
            kind::UNIT => Event::Unit(self.read_unit(&mut frame)?),
            kind::GAP => Event::Gap(match frame.try_get_u8()? {
                0 => Gap::Jump,
                1 => Gap::Dropped,
                2 => Gap::Reconnect,
                _ => return Err(Error::Field("gap")),
            }),
            kind::END => {
                self.ended = true;
                Event::End
            }
            other => return Err(Error::Kind(other)),
        };
        if frame.is_empty() {
            Ok(event)
        } else {
            Err(Error::Length)
        }
    }

    fn read_unit(&self, frame: &mut Bytes) -> Result<AccessUnit, Error> {
        let track = TrackId(frame.try_get_u8()?);
        let keyframe = read_flag(frame)?;
        let scale = read_scale(frame)?;
        if !self.tracks.contains(&(track, scale)) {
            return Err(Error::Track(track.0));
        }
        let (dts, pts) = (read_time(frame, scale)?, read_time(frame, scale)?);
        // What a movie fragment can write (ISO/IEC 14496-12 8.8.8).
        if i32::try_from(pts.ticks() - dts.ticks()).is_err() {
            return Err(Error::Field("composition offset"));
        }
        let duration = frame.try_get_u32()?;
        let data = std::mem::take(frame);
        if data.is_empty() || data.len() > UNIT_BYTES_MAX {
            return Err(Error::Field("unit size"));
        }
        Ok(AccessUnit {
            track,
            pts,
            dts,
            duration,
            keyframe,
            data,
        })
    }
}

fn read_segment(frame: &mut Bytes) -> Result<Segment, Error> {
    let number = frame.try_get_u64()?;
    let discontinuity = frame.try_get_u64()?;
    if !(1..TICKS_MAX).contains(&number) || discontinuity > TICKS_MAX {
        return Err(Error::Field("segment number"));
    }
    let scale = read_scale(frame)?;
    let start = read_time(frame, scale)?;
    let utc = frame.try_get_i64()?;
    if !(0..=UTC_MAX).contains(&utc) {
        return Err(Error::Field("UTC"));
    }
    Ok(Segment {
        number,
        discontinuity,
        start,
        utc: Utc::from_unix_micros(utc),
    })
}

fn read_tracks(frame: &mut Bytes) -> Result<Tracks, Error> {
    let mut tracks: Vec<Track> = Vec::new();
    while !frame.is_empty() {
        if tracks.len() == TRACKS_MAX {
            return Err(Error::Field("track count"));
        }
        let track = read_track(frame)?;
        if tracks
            .iter()
            .any(|other| other.id == track.id || other.name == track.name)
        {
            return Err(Error::Field("track id or name"));
        }
        tracks.push(track);
    }
    Ok(tracks.into())
}

fn read_track(frame: &mut Bytes) -> Result<Track, Error> {
    let id = TrackId(frame.try_get_u8()?);
    let len = frame.try_get_u8()?;
    let name = read_bytes(frame, len.into())?;
    let name = std::str::from_utf8(&name)
        .ok()
        .and_then(|name| Name::from_str(name).ok());
    let name = name.ok_or(Error::Field("track name"))?;
    let codec = frame.try_get_u8()?;
    let len = frame.try_get_u16()?;
    // A copy: the record outlives by far the buffer that it came in.
    let record = Bytes::copy_from_slice(&read_bytes(frame, len.into())?);
    let codec = match codec {
        0 => Codec::H264(h264::Config::from_record(record)?),
        1 => Codec::H265(h265::Config::from_record(record)?),
        2 => Codec::Av1(av1::Config::from_record(record)?),
        3 => Codec::Aac(aac::Config::from_record(record)?),
        4 => Codec::Opus(opus::Config::from_record(record)?),
        _ => return Err(Error::Field("codec")),
    };
    let format = match (frame.try_get_u8()?, &codec) {
        (0, Codec::H264(_) | Codec::H265(_) | Codec::Av1(_)) => Format::Video(read_video(frame)?),
        (1, Codec::Aac(_) | Codec::Opus(_)) => Format::Audio(read_audio(frame)?),
        _ => return Err(Error::Field("format")),
    };
    let timescale = read_scale(frame)?;
    let bandwidth = if read_flag(frame)? {
        Some(Bandwidth {
            average_bps: frame.try_get_u32()?,
            peak_bps: frame.try_get_u32()?,
        })
    } else {
        None
    };
    Ok(Track {
        id,
        name,
        codec,
        format,
        timescale,
        bandwidth,
    })
}

fn read_video(frame: &mut Bytes) -> Result<Video, Error> {
    let (width, height) = (frame.try_get_u16()?, frame.try_get_u16()?);
    bitstream::check_size(width.into(), height.into())?;
    let sample_aspect = read_ratio(frame)?.filter(|ratio| ratio.num() > 0);
    let sample_aspect = sample_aspect.ok_or(Error::Field("sample aspect"))?;
    let frame_rate = read_ratio(frame)?;
    if frame_rate.is_some_and(|rate| rate.num() == 0) {
        return Err(Error::Field("frame rate"));
    }
    Ok(Video {
        width,
        height,
        sample_aspect,
        frame_rate,
    })
}

fn read_audio(frame: &mut Bytes) -> Result<Audio, Error> {
    let sample_rate = frame.try_get_u32()?;
    let channels = frame.try_get_u8()?;
    if !(1..=SAMPLE_RATE_MAX).contains(&sample_rate) || !(1..=CHANNELS_MAX).contains(&channels) {
        return Err(Error::Field("audio format"));
    }
    Ok(Audio {
        sample_rate,
        channels,
    })
}

/// A ratio; none is written as zero over zero and nothing else.
fn read_ratio(frame: &mut Bytes) -> Result<Option<Rational>, Error> {
    let (num, den) = (frame.try_get_u32()?, frame.try_get_u32()?);
    match NonZeroU32::new(den) {
        Some(den) => Ok(Rational::new(num, den.get())),
        None if num == 0 => Ok(None),
        None => Err(Error::Field("ratio")),
    }
}

fn read_flag(frame: &mut Bytes) -> Result<bool, Error> {
    match frame.try_get_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::Field("flag")),
    }
}

fn read_scale(frame: &mut Bytes) -> Result<Timescale, Error> {
    let scale = Some(frame.try_get_u32()?).filter(|&hz| hz <= TIMESCALE_MAX);
    scale
        .and_then(Timescale::new)
        .ok_or(Error::Field("timescale"))
}

fn read_time(frame: &mut Bytes, scale: Timescale) -> Result<Timestamp, Error> {
    let ticks = frame.try_get_i64()?;
    if ticks.unsigned_abs() > TICKS_MAX {
        return Err(Error::Field("time"));
    }
    Ok(Timestamp::new(ticks, scale))
}

fn read_bytes(frame: &mut Bytes, len: usize) -> Result<Bytes, Error> {
    if len > frame.len() {
        Err(Error::Length)
    } else {
        Ok(frame.split_to(len))
    }
}
