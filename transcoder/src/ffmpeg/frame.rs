use std::ptr::NonNull;

use super::error::{allocated, check};
use super::{Error, ffi};

/// A decoded picture or a block of decoded sound; its data is reference-counted by libav.
pub(crate) struct Frame(NonNull<ffi::AVFrame>);

// SAFETY: an AVFrame has no tie to the thread that made it, and its buffers are counted atomically (buffer.h).
unsafe impl Send for Frame {}

/// What the numbers of a picture mean; carried from the decoder to the encoders.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Color {
    pub(super) primaries: ffi::AVColorPrimaries,
    pub(super) transfer: ffi::AVColorTransferCharacteristic,
    pub(super) matrix: ffi::AVColorSpace,
}

impl Frame {
    pub(super) fn empty() -> Result<Self, Error> {
        // SAFETY: allocates; the result is checked and owned on this line.
        allocated(unsafe { ffi::av_frame_alloc() }).map(Self)
    }

    /// Another owner of the same picture: the data is shared, not copied.
    pub(crate) fn share(&self) -> Result<Self, Error> {
        // SAFETY: `self` owns a valid frame; the new reference is checked and owned on this line.
        allocated(unsafe { ffi::av_frame_clone(self.0.as_ptr()) }).map(Self)
    }

    /// Presentation time in the ticks it was sent with.
    pub(crate) fn pts(&self) -> i64 {
        self.raw().pts
    }

    /// Whether the picture is two fields.
    pub(crate) fn interlaced(&self) -> bool {
        self.raw().interlaced_frame != 0
    }

    /// What the picture's numbers mean.
    pub(crate) fn color(&self) -> Color {
        let raw = self.raw();
        Color {
            primaries: raw.color_primaries,
            transfer: raw.color_trc,
            matrix: raw.colorspace,
        }
    }

    /// Whether both have the same size and layout of samples.
    pub(crate) fn same_shape(&self, other: &Shape) -> bool {
        self.shape() == *other
    }

    pub(crate) fn shape(&self) -> Shape {
        let raw = self.raw();
        Shape {
            width: raw.width,
            height: raw.height,
            format: raw.format,
            full_range: self.full_range(),
        }
    }

    pub(super) fn full_range(&self) -> bool {
        self.raw().color_range == ffi::AVColorRange::AVCOL_RANGE_JPEG
    }

    pub(super) fn raw(&self) -> &ffi::AVFrame {
        // SAFETY: `self` owns a valid frame, and the borrow ends before `self` changes.
        unsafe { self.0.as_ref() }
    }

    pub(super) fn raw_mut(&mut self) -> &mut ffi::AVFrame {
        // SAFETY: `self` owns a valid frame, and the borrow is exclusive.
        unsafe { self.0.as_mut() }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let mut pointer = self.0.as_ptr();
        // SAFETY: the frame is ours and is not used again.
        unsafe { ffi::av_frame_free(&raw mut pointer) }
    }
}

/// Size and layout of a picture's samples.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(super) width: i32,
    pub(super) height: i32,
    pub(super) format: i32,
    pub(super) full_range: bool,
}

/// One coded unit on its way into or out of libav.
pub(super) struct Packet(NonNull<ffi::AVPacket>);

// SAFETY: as for a frame: counted buffers, no thread of its own.
unsafe impl Send for Packet {}

impl Packet {
    pub(super) fn empty() -> Result<Self, Error> {
        // SAFETY: allocates; the result is checked and owned on this line.
        allocated(unsafe { ffi::av_packet_alloc() }).map(Self)
    }

    /// Fills the packet with a copy of `data`, which libav wants followed by zeros.
    pub(super) fn fill(&mut self, data: &[u8]) -> Result<(), Error> {
        let size = i32::try_from(data.len()).map_err(|_| Error::Size)?;
        self.clear();
        // SAFETY: the packet is ours and holds no data; libav allocates `size` bytes and the padding.
        check(unsafe { ffi::av_new_packet(self.as_ptr(), size) })?;
        let target = self.raw().data;
        // SAFETY: `target` was just allocated with `data.len()` bytes and is no part of `data`.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), target, data.len()) };
        Ok(())
    }

    /// The bytes it holds.
    pub(super) fn data(&self) -> &[u8] {
        let raw = self.raw();
        let size = usize::try_from(raw.size).unwrap_or(0);
        if raw.data.is_null() || size == 0 {
            return &[];
        }
        // SAFETY: libav keeps `size` readable bytes at `data` while the packet holds its reference.
        unsafe { std::slice::from_raw_parts(raw.data, size) }
    }

    /// Gives up the data, keeps the packet.
    pub(super) fn clear(&mut self) {
        // SAFETY: the packet is ours.
        unsafe { ffi::av_packet_unref(self.as_ptr()) }
    }

    pub(super) fn as_ptr(&mut self) -> *mut ffi::AVPacket {
        self.0.as_ptr()
    }

    pub(super) fn raw(&self) -> &ffi::AVPacket {
        // SAFETY: `self` owns a valid packet, and the borrow ends before `self` changes.
        unsafe { self.0.as_ref() }
    }

    pub(super) fn raw_mut(&mut self) -> &mut ffi::AVPacket {
        // SAFETY: `self` owns a valid packet, and the borrow is exclusive.
        unsafe { self.0.as_mut() }
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        let mut pointer = self.0.as_ptr();
        // SAFETY: the packet is ours and is not used again.
        unsafe { ffi::av_packet_free(&raw mut pointer) }
    }
}

/// An open codec context.
pub(super) struct Context(NonNull<ffi::AVCodecContext>);

// SAFETY: a codec context may be used from any thread, one at a time (avcodec.h); `&mut` sees to the latter.
unsafe impl Send for Context {}

impl Context {
    pub(super) fn new(codec: &'static ffi::AVCodec) -> Result<Self, Error> {
        // SAFETY: `codec` is one of libav's static descriptions; the result is checked and owned on this line.
        allocated(unsafe { ffi::avcodec_alloc_context3(codec) }).map(Self)
    }

    pub(super) fn as_ptr(&mut self) -> *mut ffi::AVCodecContext {
        self.0.as_ptr()
    }

    pub(super) fn raw(&self) -> &ffi::AVCodecContext {
        // SAFETY: `self` owns a valid context, and the borrow ends before `self` changes.
        unsafe { self.0.as_ref() }
    }

    pub(super) fn raw_mut(&mut self) -> &mut ffi::AVCodecContext {
        // SAFETY: `self` owns a valid context, and the borrow is exclusive.
        unsafe { self.0.as_mut() }
    }

    /// Copies a decoder configuration in, with the padding that libav asks for.
    pub(super) fn set_extradata(&mut self, data: &[u8]) -> Result<(), Error> {
        if data.is_empty() {
            return Ok(());
        }
        let size = i32::try_from(data.len()).map_err(|_| Error::Size)?;
        let padding =
            usize::try_from(ffi::AV_INPUT_BUFFER_PADDING_SIZE).map_err(|_| Error::Size)?;
        // SAFETY: allocates zeroed bytes; the result is checked on this line and owned by the context below.
        let target = allocated(unsafe { ffi::av_mallocz(data.len() + padding) })?.cast::<u8>();
        // SAFETY: `target` has room for `data.len()` bytes and is no part of `data`.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), target.as_ptr(), data.len()) };
        let raw = self.raw_mut();
        debug_assert!(
            raw.extradata.is_null(),
            "set once, before the codec is opened"
        );
        raw.extradata = target.as_ptr();
        raw.extradata_size = size;
        Ok(())
    }

    /// The configuration that an encoder wrote when it was opened.
    pub(super) fn extradata(&self) -> &[u8] {
        let raw = self.raw();
        let size = usize::try_from(raw.extradata_size).unwrap_or(0);
        if raw.extradata.is_null() || size == 0 {
            return &[];
        }
        // SAFETY: the context owns `extradata_size` readable bytes there while it lives.
        unsafe { std::slice::from_raw_parts(raw.extradata, size) }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let mut pointer = self.0.as_ptr();
        // SAFETY: the context is ours and is not used again.
        unsafe { ffi::avcodec_free_context(&raw mut pointer) }
    }
}
