use super::error::{check, ready};
use super::frame::{Context, Packet};
use super::{Error, Frame, VIDEO_HZ, ffi};

/// What can be decoded. The list is closed: libav is never asked to guess (SECURITY S10, S11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    H264,
    H265,
    Av1,
    Aac,
    Opus,
}

/// One elementary stream's decoder.
pub(crate) struct Decoder {
    context: Context,
    packet: Packet,
}

/// Pictures beyond this many samples are refused before anything is allocated for them.
const PIXELS_MAX: i64 = 4096 * 2304;

impl Decoder {
    /// Opens a decoder on the configuration record that containers carry (avcC, hvcC, av1C, AudioSpecificConfig,
    /// OpusHead). `hz` is the scale of the times of what is sent; `threads` is one or two.
    pub(crate) fn open(
        coding: Coding,
        record: &[u8],
        hz: i32,
        threads: i32,
    ) -> Result<Self, Error> {
        let codec = find(coding)?;
        let mut context = Context::new(codec)?;
        context.set_extradata(record)?;
        let raw = context.raw_mut();
        raw.pkt_timebase = ffi::AVRational { num: 1, den: hz };
        raw.thread_count = threads.clamp(1, 2);
        raw.max_pixels = PIXELS_MAX;
        if coding == Coding::Av1 {
            // dav1d holds back one picture a thread otherwise.
            raw.flags |= flag(ffi::AV_CODEC_FLAG_LOW_DELAY);
        }
        // SAFETY: the context was made for this codec and is not open yet; no options are passed.
        check(unsafe { ffi::avcodec_open2(context.as_ptr(), codec, std::ptr::null_mut()) })?;
        Ok(Self {
            context,
            packet: Packet::empty()?,
        })
    }

    /// Hands over one coded unit. Call [`Self::receive`] until it gives nothing before the next.
    pub(crate) fn send(
        &mut self,
        data: &[u8],
        pts: i64,
        dts: i64,
        keyframe: bool,
    ) -> Result<(), Error> {
        self.packet.fill(data)?;
        let packet = self.packet.raw_mut();
        packet.pts = pts;
        packet.dts = dts;
        packet.flags = if keyframe { ffi::AV_PKT_FLAG_KEY } else { 0 };
        // SAFETY: the context is open and the packet valid; libav takes its own reference.
        let sent = unsafe { ffi::avcodec_send_packet(self.context.as_ptr(), self.packet.as_ptr()) };
        self.packet.clear();
        check(sent).map(|_| ())
    }

    /// The next decoded frame in presentation order, if there is one.
    pub(crate) fn receive(&mut self) -> Result<Option<Frame>, Error> {
        let mut frame = Frame::empty()?;
        // SAFETY: the context is open and the frame ours.
        let received =
            unsafe { ffi::avcodec_receive_frame(self.context.as_ptr(), frame.raw_mut()) };
        Ok(ready(received)?.map(|()| frame))
    }

    /// Says that nothing more will be sent, so that [`Self::receive`] gives what was held back.
    pub(crate) fn drain(&mut self) -> Result<(), Error> {
        // SAFETY: the context is open; a null packet means the end.
        ready(unsafe { ffi::avcodec_send_packet(self.context.as_ptr(), std::ptr::null()) })
            .map(|_| ())
    }
}

pub(super) fn find(coding: Coding) -> Result<&'static ffi::AVCodec, Error> {
    let name = match coding {
        Coding::H264 => c"h264",
        Coding::H265 => c"hevc",
        // libav's own AV1 decoder needs a graphics card.
        Coding::Av1 => c"libdav1d",
        Coding::Aac => c"aac",
        Coding::Opus => c"opus",
    };
    // SAFETY: `name` ends with a zero; the result is null or lives as long as the program.
    let codec = unsafe { ffi::avcodec_find_decoder_by_name(name.as_ptr()) };
    // SAFETY: libav's codec descriptions are constants.
    unsafe { codec.as_ref() }.ok_or(Error::Missing(name.to_str().unwrap_or("a decoder")))
}

/// The bindings give flags as unsigned and the field as signed.
pub(super) fn flag(bit: u32) -> i32 {
    bit.cast_signed()
}

/// The time base of pictures.
pub(super) const VIDEO_BASE: ffi::AVRational = ffi::AVRational {
    num: 1,
    den: VIDEO_HZ,
};
