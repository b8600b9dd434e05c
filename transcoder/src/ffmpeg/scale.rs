use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

use super::error::{allocated, check};
use super::frame::Shape;
use super::{Error, Frame, ffi};

const FORMAT: ffi::AVPixelFormat = ffi::AVPixelFormat::AV_PIX_FMT_YUV420P;
/// Rows start on multiples of this many bytes, which AVX-512 likes best.
const ALIGN: i32 = 64;
/// The most lines of a small picture.
const SMALL: i32 = 480;

/// Turns pictures of any shape into 8-bit 4:2:0 limited-range ones of one size. Small ones by Lanczos interpolation, which
/// stays sharp down a cascade, where bicubic loses seven VMAF points and more on text, and bilinear fifteen; large ones,
/// where it costs most and is seen least, by bicubic.
pub(crate) struct Scaler {
    width: i32,
    height: i32,
    pool: Pool,
    /// Made for the shape of the pictures that come in; remade when it changes.
    context: Option<(Shape, Context)>,
}

impl Scaler {
    /// A scaler to `width` by `height`, both even.
    pub(crate) fn new(width: u16, height: u16) -> Result<Self, Error> {
        let (width, height) = (i32::from(width), i32::from(height));
        Ok(Self {
            width,
            height,
            pool: Pool::new(width, height)?,
            context: None,
        })
    }

    /// The picture in the scaler's size; itself again, shared, when it already fits.
    pub(crate) fn scale(&mut self, from: &Frame) -> Result<Frame, Error> {
        let shape = from.shape();
        let fits = shape.format == FORMAT as i32 && !shape.full_range;
        if fits && (shape.width, shape.height) == (self.width, self.height) {
            return from.share();
        }
        let mut to = self.pool.frame(self.width, self.height)?;
        let context = match &mut self.context {
            Some((made_for, context)) if from.same_shape(made_for) => context,
            stale => {
                &mut stale
                    .insert((shape, Context::new(&shape, self.width, self.height)?))
                    .1
            }
        };
        context.run(from, &mut to)?;
        let source = from.raw();
        let target = to.raw_mut();
        target.pts = source.pts;
        target.color_range = ffi::AVColorRange::AVCOL_RANGE_MPEG;
        target.color_primaries = source.color_primaries;
        target.color_trc = source.color_trc;
        target.colorspace = source.colorspace;
        target.chroma_location = source.chroma_location;
        Ok(to)
    }
}

/// One libswscale context.
struct Context(NonNull<ffi::SwsContext>);

// SAFETY: a scaling context has no tie to a thread; `&mut` keeps to one user at a time.
unsafe impl Send for Context {}

impl Context {
    fn new(from: &Shape, width: i32, height: i32) -> Result<Self, Error> {
        // SAFETY: allocates; the result is checked and owned on this line.
        let mut context = Self(allocated(unsafe { ffi::sws_alloc_context() })?);
        context.set(c"srcw", from.width)?;
        context.set(c"srch", from.height)?;
        context.set(c"src_format", from.format)?;
        context.set(c"src_range", i32::from(from.full_range))?;
        context.set(c"dstw", width)?;
        context.set(c"dsth", height)?;
        context.set(c"dst_format", FORMAT as i32)?;
        context.set(c"dst_range", 0)?;
        let filter = if width.min(height) > SMALL {
            ffi::SWS_BICUBIC
        } else {
            ffi::SWS_LANCZOS
        };
        context.set(c"sws_flags", filter)?;
        // SAFETY: the context is ours and its options are set; no filters are passed.
        check(unsafe {
            ffi::sws_init_context(
                context.0.as_ptr(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        })?;
        Ok(context)
    }

    fn set(&mut self, name: &'static CStr, value: i32) -> Result<(), Error> {
        let object = self.0.as_ptr().cast::<c_void>();
        // SAFETY: a scaling context begins with a class, as av_opt wants; `name` ends with a zero.
        check(unsafe { ffi::av_opt_set_int(object, name.as_ptr(), i64::from(value), 0) })
            .map(|_| ())
    }

    fn run(&mut self, from: &Frame, to: &mut Frame) -> Result<(), Error> {
        let source = from.raw();
        let target = to.raw_mut();
        // SAFETY: the context was made for the shapes of these two frames, both valid for the call; `to` is ours.
        check(unsafe {
            ffi::sws_scale(
                self.0.as_ptr(),
                source.data.as_ptr().cast::<*const u8>(),
                source.linesize.as_ptr(),
                0,
                source.height,
                target.data.as_ptr(),
                target.linesize.as_ptr(),
            )
        })
        .map(|_| ())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context is ours and is not used again.
        unsafe { ffi::sws_freeContext(self.0.as_ptr()) }
    }
}

/// Memory for pictures of one size, used again as the pictures are dropped.
struct Pool(NonNull<ffi::AVBufferPool>);

// SAFETY: libav's buffer pools are made for use from many threads (buffer.h).
unsafe impl Send for Pool {}

impl Pool {
    fn new(width: i32, height: i32) -> Result<Self, Error> {
        // SAFETY: arithmetic on plain numbers.
        let size = check(unsafe { ffi::av_image_get_buffer_size(FORMAT, width, height, ALIGN) })?;
        let size = usize::try_from(size).map_err(|_| Error::Size)?;
        // libswscale may write a vector past the end of a row.
        let size = size + usize::try_from(ALIGN).map_err(|_| Error::Size)?;
        // SAFETY: the default allocator is asked for; the result is checked and owned on this line.
        allocated(unsafe { ffi::av_buffer_pool_init(size, None) }).map(Self)
    }

    fn frame(&mut self, width: i32, height: i32) -> Result<Frame, Error> {
        let mut frame = Frame::empty()?;
        // SAFETY: the pool is ours; the reference is checked here and owned by the frame on the next lines.
        let buffer = allocated(unsafe { ffi::av_buffer_pool_get(self.0.as_ptr()) })?;
        let raw = frame.raw_mut();
        raw.buf[0] = buffer.as_ptr();
        raw.format = FORMAT as i32;
        raw.width = width;
        raw.height = height;
        // SAFETY: the buffer is live; the frame holds it.
        let data = unsafe { buffer.as_ref() }.data;
        // SAFETY: both arrays have the eight entries of a frame, of which four are written; nothing is read at `data`.
        check(unsafe {
            ffi::av_image_fill_arrays(
                raw.data.as_mut_ptr(),
                raw.linesize.as_mut_ptr(),
                data,
                FORMAT,
                width,
                height,
                ALIGN,
            )
        })?;
        raw.extended_data = raw.data.as_mut_ptr();
        Ok(frame)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut pointer = self.0.as_ptr();
        // SAFETY: the pool is ours; libav frees it when the last frame that came from it is gone.
        unsafe { ffi::av_buffer_pool_uninit(&raw mut pointer) }
    }
}
