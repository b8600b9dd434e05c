use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::error::{allocated, check};
use super::{Error, Frame, ffi};

/// Two channels of samples, left and right, always equally long.
pub(crate) type Planes = [Vec<f32>; 2];

/// Turns sound of any rate, layout and sample format into stereo floats of one rate.
pub(crate) struct Resampler {
    rate: i32,
    context: Option<(Sound, Context)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Sound {
    rate: i32,
    channels: i32,
    format: i32,
}

impl Resampler {
    /// A resampler to `rate` samples a second.
    pub(crate) fn new(rate: i32) -> Self {
        Self {
            rate,
            context: None,
        }
    }

    /// Converts one block and appends what is ready of it to `out`. Some samples stay behind for the next call.
    pub(crate) fn convert(&mut self, from: &Frame, out: &mut Planes) -> Result<(), Error> {
        let raw = from.raw();
        let sound = Sound {
            rate: raw.sample_rate,
            channels: raw.ch_layout.nb_channels,
            format: raw.format,
        };
        let context = match &mut self.context {
            Some((made_for, context)) if *made_for == sound => context,
            stale => &mut stale.insert((sound, Context::new(raw, self.rate)?)).1,
        };
        context.run(raw, out)
    }

    /// Samples of the target rate that have gone in and not come out.
    pub(crate) fn delay(&mut self) -> i64 {
        match &mut self.context {
            // SAFETY: the context is open.
            Some((_, context)) => unsafe {
                ffi::swr_get_delay(context.0.as_ptr(), i64::from(self.rate))
            },
            None => 0,
        }
    }

    /// Forgets the samples held back: what comes next does not continue them.
    pub(crate) fn reset(&mut self) {
        self.context = None;
    }
}

struct Context(NonNull<ffi::SwrContext>);

// SAFETY: a resampler has no tie to a thread; `&mut` keeps to one user at a time.
unsafe impl Send for Context {}

impl Context {
    fn new(from: &ffi::AVFrame, rate: i32) -> Result<Self, Error> {
        // SAFETY: allocates; the result is checked and owned on this line.
        let mut context = Self(allocated(unsafe { ffi::swr_alloc() })?);
        let native = ffi::AVChannelOrder::AV_CHANNEL_ORDER_NATIVE;
        if from.ch_layout.order == native {
            context.set_layout(c"in_chlayout", &from.ch_layout)?;
        } else {
            context.set_layout(c"in_chlayout", &layout(from.ch_layout.nb_channels))?;
        }
        context.set_layout(c"out_chlayout", &layout(2))?;
        context.set(c"in_sample_rate", from.sample_rate)?;
        context.set(c"in_sample_fmt", from.format)?;
        context.set(c"out_sample_rate", rate)?;
        context.set(
            c"out_sample_fmt",
            ffi::AVSampleFormat::AV_SAMPLE_FMT_FLTP as i32,
        )?;
        // SAFETY: the context is ours and its options are set.
        check(unsafe { ffi::swr_init(context.0.as_ptr()) })?;
        Ok(context)
    }

    fn object(&mut self) -> *mut c_void {
        self.0.as_ptr().cast()
    }

    fn set(&mut self, name: &'static CStr, value: i32) -> Result<(), Error> {
        // SAFETY: a resampler begins with a class, as av_opt wants; `name` ends with a zero.
        check(unsafe { ffi::av_opt_set_int(self.object(), name.as_ptr(), i64::from(value), 0) })
            .map(|_| ())
    }

    fn set_layout(
        &mut self,
        name: &'static CStr,
        layout: &ffi::AVChannelLayout,
    ) -> Result<(), Error> {
        // SAFETY: as in `set`; the layout is copied.
        check(unsafe { ffi::av_opt_set_chlayout(self.object(), name.as_ptr(), layout, 0) })
            .map(|_| ())
    }

    fn run(&mut self, from: &ffi::AVFrame, out: &mut Planes) -> Result<(), Error> {
        // SAFETY: the context is open.
        let room = check(unsafe { ffi::swr_get_out_samples(self.0.as_ptr(), from.nb_samples) })?;
        let count = usize::try_from(room).map_err(|_| Error::Size)?;
        let start = out[0].len();
        for plane in out.iter_mut() {
            plane.resize(start + count, 0.0);
        }
        let [left, right] = out;
        let mut targets = [
            left[start..].as_mut_ptr().cast::<u8>(),
            right[start..].as_mut_ptr().cast::<u8>(),
        ];
        let source = from.extended_data.cast::<*const u8>();
        // SAFETY: both targets have room for `room` floats; the frame's planes hold `nb_samples` each in the format
        // the context was made for.
        let made = unsafe {
            ffi::swr_convert(
                self.0.as_ptr(),
                targets.as_mut_ptr(),
                room,
                source,
                from.nb_samples,
            )
        };
        let made = check(made).and_then(|made| usize::try_from(made).map_err(|_| Error::Size));
        let end = start + *made.as_ref().unwrap_or(&0);
        left.truncate(end);
        right.truncate(end);
        made.map(|_| ())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let mut pointer = self.0.as_ptr();
        // SAFETY: the context is ours and is not used again.
        unsafe { ffi::swr_free(&raw mut pointer) }
    }
}

/// The usual layout of so many channels.
pub(super) fn layout(channels: i32) -> ffi::AVChannelLayout {
    let mut layout = MaybeUninit::<ffi::AVChannelLayout>::zeroed();
    // SAFETY: writes a plain value into memory of its type.
    unsafe { ffi::av_channel_layout_default(layout.as_mut_ptr(), channels) };
    // SAFETY: all zero is a valid layout, and libav has overwritten it with another.
    unsafe { layout.assume_init() }
}
