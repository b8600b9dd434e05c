use std::ffi::{CStr, CString};

use super::decode::{VIDEO_BASE, flag};
use super::error::{check, ready};
use super::frame::{Context, Packet};
use super::resample::{Planes, layout};
use super::{Color, Error, Frame, ffi};

/// What a rung's encoder is told.
pub(crate) struct Picture {
    pub(crate) width: u16,
    pub(crate) height: u16,
    /// Pictures a second, as a hint for the rate control; the times of the pictures decide.
    pub(crate) frame_rate: (i32, i32),
    pub(crate) average_bps: i64,
    /// The rate at which the modelled buffer of a player fills.
    pub(crate) fill_bps: i64,
    /// That buffer's size.
    pub(crate) buffer_bits: i32,
    pub(crate) preset: &'static CStr,
    pub(crate) b_frames: i32,
    /// x264's own options, `name=value` joined by colons.
    pub(crate) options: String,
    pub(crate) color: Color,
}

/// One coded unit as an encoder gives it.
pub(crate) struct Encoded<'a> {
    pub(crate) pts: i64,
    pub(crate) dts: i64,
    pub(crate) keyframe: bool,
    pub(crate) data: &'a [u8],
}

/// One rung's x264.
pub(crate) struct VideoEncoder {
    context: Context,
    packet: Packet,
}

impl VideoEncoder {
    pub(crate) fn open(picture: &Picture) -> Result<Self, Error> {
        let codec = encoder(VIDEO)?;
        let mut context = Context::new(codec)?;
        let raw = context.raw_mut();
        raw.width = i32::from(picture.width);
        raw.height = i32::from(picture.height);
        raw.time_base = VIDEO_BASE;
        raw.framerate = ffi::AVRational {
            num: picture.frame_rate.0,
            den: picture.frame_rate.1,
        };
        raw.sample_aspect_ratio = ffi::AVRational { num: 1, den: 1 };
        raw.pix_fmt = ffi::AVPixelFormat::AV_PIX_FMT_YUV420P;
        raw.color_range = ffi::AVColorRange::AVCOL_RANGE_MPEG;
        raw.color_primaries = picture.color.primaries;
        raw.color_trc = picture.color.transfer;
        raw.colorspace = picture.color.matrix;
        raw.bit_rate = picture.average_bps;
        raw.rc_max_rate = picture.fill_bps;
        raw.rc_buffer_size = picture.buffer_bits;
        // Key pictures come where they are asked for and nowhere else.
        raw.gop_size = i32::MAX;
        raw.max_b_frames = picture.b_frames;
        raw.thread_count = 1;
        raw.flags |= flag(ffi::AV_CODEC_FLAG_GLOBAL_HEADER);
        raw.flags |= flag(ffi::AV_CODEC_FLAG_CLOSED_GOP);
        let mut options = Options::default();
        options.set(c"preset", picture.preset)?;
        options.set(c"forced-idr", c"1")?;
        options.set(c"sc_threshold", c"0")?;
        let own = CString::new(picture.options.as_str()).map_err(|_| Error::Size)?;
        options.set(c"x264-params", &own)?;
        // SAFETY: the context was made for this codec and is not open yet; libav takes the options it knows.
        check(unsafe { ffi::avcodec_open2(context.as_ptr(), codec, &raw mut options.0) })?;
        Ok(Self {
            context,
            packet: Packet::empty()?,
        })
    }

    /// Sequence and picture parameter sets, in the framing that the options ask for.
    pub(crate) fn parameter_sets(&self) -> &[u8] {
        self.context.extradata()
    }

    /// Takes one picture; `idr` makes it a key picture with a closed group after it.
    pub(crate) fn send(&mut self, picture: &Frame, pts: i64, idr: bool) -> Result<(), Error> {
        let mut frame = picture.share()?;
        let raw = frame.raw_mut();
        raw.pts = pts;
        raw.pict_type = if idr {
            ffi::AVPictureType::AV_PICTURE_TYPE_I
        } else {
            ffi::AVPictureType::AV_PICTURE_TYPE_NONE
        };
        // SAFETY: the context is open and the frame valid; libav takes its own reference.
        check(unsafe { ffi::avcodec_send_frame(self.context.as_ptr(), frame.raw()) }).map(|_| ())
    }

    /// Says that nothing more will be sent.
    pub(crate) fn drain(&mut self) -> Result<(), Error> {
        drain(&mut self.context)
    }

    /// The next coded picture in decode order, if there is one.
    pub(crate) fn receive(&mut self) -> Result<Option<Encoded<'_>>, Error> {
        receive(&mut self.context, &mut self.packet)
    }
}

/// An AAC-LC stereo encoder.
pub(crate) struct AudioEncoder {
    context: Context,
    packet: Packet,
}

/// Samples of each channel in one AAC-LC frame (ISO/IEC 14496-3 4.5.2.1.1).
pub(crate) const AAC_FRAME: usize = 1024;

impl AudioEncoder {
    pub(crate) fn open(rate: i32, average_bps: i64) -> Result<Self, Error> {
        let codec = encoder(AUDIO)?;
        let mut context = Context::new(codec)?;
        let raw = context.raw_mut();
        raw.sample_rate = rate;
        raw.sample_fmt = ffi::AVSampleFormat::AV_SAMPLE_FMT_FLTP;
        raw.ch_layout = layout(2);
        raw.time_base = ffi::AVRational { num: 1, den: rate };
        raw.bit_rate = average_bps;
        raw.thread_count = 1;
        raw.flags |= flag(ffi::AV_CODEC_FLAG_GLOBAL_HEADER);
        // SAFETY: the context was made for this codec and is not open yet; no options are passed.
        check(unsafe { ffi::avcodec_open2(context.as_ptr(), codec, std::ptr::null_mut()) })?;
        Ok(Self {
            context,
            packet: Packet::empty()?,
        })
    }

    /// The AudioSpecificConfig.
    pub(crate) fn config(&self) -> &[u8] {
        self.context.extradata()
    }

    /// Takes the first [`AAC_FRAME`] samples of each channel.
    ///
    /// # Panics
    /// When there are fewer.
    pub(crate) fn send(&mut self, samples: &Planes, pts: i64) -> Result<(), Error> {
        let mut frame = Frame::empty()?;
        let raw = frame.raw_mut();
        raw.nb_samples = i32::try_from(AAC_FRAME).map_err(|_| Error::Size)?;
        raw.format = ffi::AVSampleFormat::AV_SAMPLE_FMT_FLTP as i32;
        raw.ch_layout = layout(2);
        raw.sample_rate = self.context.raw().sample_rate;
        raw.pts = pts;
        // SAFETY: the frame is ours and says how much it wants to hold.
        check(unsafe { ffi::av_frame_get_buffer(raw, 0) })?;
        for (plane, samples) in samples.iter().enumerate() {
            let samples = &samples[..AAC_FRAME];
            let target = raw.data[plane].cast::<f32>();
            // SAFETY: the plane was just allocated with room for that many floats, aligned for them.
            unsafe { std::ptr::copy_nonoverlapping(samples.as_ptr(), target, AAC_FRAME) };
        }
        // SAFETY: the context is open and the frame valid; libav takes its own reference.
        check(unsafe { ffi::avcodec_send_frame(self.context.as_ptr(), frame.raw()) }).map(|_| ())
    }

    /// Says that nothing more will be sent.
    pub(crate) fn drain(&mut self) -> Result<(), Error> {
        drain(&mut self.context)
    }

    /// The next coded frame, if there is one.
    pub(crate) fn receive(&mut self) -> Result<Option<Encoded<'_>>, Error> {
        receive(&mut self.context, &mut self.packet)
    }
}

fn drain(context: &mut Context) -> Result<(), Error> {
    // SAFETY: the context is open; a null frame means the end.
    ready(unsafe { ffi::avcodec_send_frame(context.as_ptr(), std::ptr::null()) }).map(|_| ())
}

fn receive<'a>(
    context: &mut Context,
    packet: &'a mut Packet,
) -> Result<Option<Encoded<'a>>, Error> {
    // SAFETY: the context is open and the packet ours; what it held before is freed by libav.
    let received = unsafe { ffi::avcodec_receive_packet(context.as_ptr(), packet.as_ptr()) };
    if ready(received)?.is_none() {
        return Ok(None);
    }
    let raw = packet.raw();
    let (pts, dts, keyframe) = (raw.pts, raw.dts, raw.flags & ffi::AV_PKT_FLAG_KEY != 0);
    Ok(Some(Encoded {
        pts,
        dts,
        keyframe,
        data: packet.data(),
    }))
}

const VIDEO: &CStr = c"libx264";
const AUDIO: &CStr = c"aac";

/// Whether both encoders are there.
pub(super) fn find() -> Result<(), Error> {
    encoder(VIDEO)?;
    encoder(AUDIO).map(|_| ())
}

fn encoder(name: &'static CStr) -> Result<&'static ffi::AVCodec, Error> {
    // SAFETY: `name` ends with a zero; the result is null or lives as long as the program.
    let codec = unsafe { ffi::avcodec_find_encoder_by_name(name.as_ptr()) };
    // SAFETY: libav's codec descriptions are constants.
    unsafe { codec.as_ref() }.ok_or(Error::Missing(name.to_str().unwrap_or("an encoder")))
}

/// Options on their way into a codec.
struct Options(*mut ffi::AVDictionary);

impl Default for Options {
    fn default() -> Self {
        Self(std::ptr::null_mut())
    }
}

impl Options {
    fn set(&mut self, name: &CStr, value: &CStr) -> Result<(), Error> {
        // SAFETY: the dictionary is ours (null is an empty one); both strings end with a zero and are copied.
        check(unsafe { ffi::av_dict_set(&raw mut self.0, name.as_ptr(), value.as_ptr(), 0) })
            .map(|_| ())
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: the dictionary is ours and is not used again.
        unsafe { ffi::av_dict_free(&raw mut self.0) }
    }
}
