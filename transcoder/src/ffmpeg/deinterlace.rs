use std::ffi::CString;
use std::ptr::NonNull;

use super::decode::VIDEO_BASE;
use super::error::{allocated, check, ready};
use super::frame::Shape;
use super::{Error, Frame, VIDEO_HZ, ffi};

/// Makes whole pictures of fields (bwdif, one picture a frame); pictures not marked as interlaced pass unchanged.
/// One picture is held back.
pub(crate) struct Deinterlacer {
    _graph: Graph,
    source: NonNull<ffi::AVFilterContext>,
    sink: NonNull<ffi::AVFilterContext>,
    shape: Shape,
}

// SAFETY: a filter graph without threads of its own has no tie to a thread; `source` and `sink` belong to `graph`.
unsafe impl Send for Deinterlacer {}

impl Deinterlacer {
    /// A deinterlacer for pictures shaped like `like`.
    pub(crate) fn new(like: &Frame) -> Result<Self, Error> {
        // SAFETY: allocates; the result is checked and owned on this line.
        let mut graph = Graph(allocated(unsafe { ffi::avfilter_graph_alloc() })?);
        graph.raw_mut().nb_threads = 1;
        let shape = like.shape();
        let arguments = format!(
            "video_size={}x{}:pix_fmt={}:time_base=1/{VIDEO_HZ}:pixel_aspect=1/1",
            shape.width, shape.height, shape.format
        );
        let source = graph.add(c"buffer", "buffer", &arguments)?;
        let middle = graph.add(
            c"bwdif",
            "bwdif",
            "mode=send_frame:parity=auto:deint=interlaced",
        )?;
        let sink = graph.add(c"buffersink", "buffersink", "")?;
        // SAFETY: both filters belong to the graph and have a free pad 0.
        check(unsafe { ffi::avfilter_link(source.as_ptr(), 0, middle.as_ptr(), 0) })?;
        // SAFETY: as above.
        check(unsafe { ffi::avfilter_link(middle.as_ptr(), 0, sink.as_ptr(), 0) })?;
        // SAFETY: the graph is whole.
        check(unsafe { ffi::avfilter_graph_config(graph.0.as_ptr(), std::ptr::null_mut()) })?;
        Ok(Self {
            _graph: graph,
            source,
            sink,
            shape,
        })
    }

    /// Whether it was made for pictures of this shape.
    pub(crate) fn fits(&self, frame: &Frame) -> bool {
        frame.same_shape(&self.shape)
    }

    /// Takes one picture in presentation order.
    pub(crate) fn send(&mut self, mut frame: Frame) -> Result<(), Error> {
        // SAFETY: the source belongs to our graph; it takes over the frame's data and leaves the frame empty.
        check(unsafe {
            ffi::av_buffersrc_add_frame_flags(self.source.as_ptr(), frame.raw_mut(), 0)
        })
        .map(|_| ())
    }

    /// Says that nothing more will be sent, so that [`Self::receive`] gives the picture held back.
    pub(crate) fn drain(&mut self) -> Result<(), Error> {
        // SAFETY: the source belongs to our graph; a null frame means the end.
        check(unsafe {
            ffi::av_buffersrc_add_frame_flags(self.source.as_ptr(), std::ptr::null_mut(), 0)
        })
        .map(|_| ())
    }

    /// The next whole picture, if there is one.
    pub(crate) fn receive(&mut self) -> Result<Option<Frame>, Error> {
        let mut frame = Frame::empty()?;
        // SAFETY: the sink belongs to our graph and the frame is ours.
        let received = unsafe { ffi::av_buffersink_get_frame(self.sink.as_ptr(), frame.raw_mut()) };
        if ready(received)?.is_none() {
            return Ok(None);
        }
        // SAFETY: the sink belongs to our graph, which is configured.
        let base = unsafe { ffi::av_buffersink_get_time_base(self.sink.as_ptr()) };
        let raw = frame.raw_mut();
        // SAFETY: arithmetic on plain numbers; both bases have positive terms.
        raw.pts = unsafe { ffi::av_rescale_q(raw.pts, base, VIDEO_BASE) };
        raw.interlaced_frame = 0;
        Ok(Some(frame))
    }
}

struct Graph(NonNull<ffi::AVFilterGraph>);

impl Graph {
    fn raw_mut(&mut self) -> &mut ffi::AVFilterGraph {
        // SAFETY: `self` owns a valid graph, and the borrow is exclusive.
        unsafe { self.0.as_mut() }
    }

    fn add(
        &mut self,
        filter: &'static std::ffi::CStr,
        name: &'static str,
        arguments: &str,
    ) -> Result<NonNull<ffi::AVFilterContext>, Error> {
        // SAFETY: `filter` ends with a zero; the result is null or lives as long as the program.
        let description = unsafe { ffi::avfilter_get_by_name(filter.as_ptr()) };
        if description.is_null() {
            return Err(Error::Missing(name));
        }
        let arguments = CString::new(arguments).map_err(|_| Error::Size)?;
        let mut context = std::ptr::null_mut();
        // SAFETY: the graph is ours and owns the filter made in it; the strings end with a zero.
        check(unsafe {
            ffi::avfilter_graph_create_filter(
                &raw mut context,
                description,
                filter.as_ptr(),
                arguments.as_ptr(),
                std::ptr::null_mut(),
                self.0.as_ptr(),
            )
        })?;
        allocated(context)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let mut pointer = self.0.as_ptr();
        // SAFETY: the graph is ours; it frees its filters.
        unsafe { ffi::avfilter_graph_free(&raw mut pointer) }
    }
}
