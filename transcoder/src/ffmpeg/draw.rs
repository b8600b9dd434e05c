use super::error::check;
use super::{Color, Error, Frame, ffi};

/// A 4:2:0 picture of limited-range ITU-R BT.709 samples: luma and both chroma planes, without padding.
///
/// # Panics
/// When a plane is smaller than the picture asks for.
pub(crate) fn picture(width: u16, height: u16, planes: &[Vec<u8>; 3]) -> Result<Frame, Error> {
    let mut frame = Frame::empty()?;
    let raw = frame.raw_mut();
    raw.format = ffi::AVPixelFormat::AV_PIX_FMT_YUV420P as i32;
    raw.width = i32::from(width);
    raw.height = i32::from(height);
    raw.color_range = ffi::AVColorRange::AVCOL_RANGE_MPEG;
    let color = Color::bt709();
    raw.color_primaries = color.primaries;
    raw.color_trc = color.transfer;
    raw.colorspace = color.matrix;
    // SAFETY: the frame is ours and says how much it wants to hold.
    check(unsafe { ffi::av_frame_get_buffer(raw, 0) })?;
    for (index, samples) in planes.iter().enumerate() {
        let half = if index == 0 { 1 } else { 2 };
        let (width, height) = (usize::from(width) / half, usize::from(height) / half);
        let stride = usize::try_from(raw.linesize[index]).map_err(|_| Error::Size)?;
        for (row, line) in samples.chunks_exact(width).take(height).enumerate() {
            // SAFETY: the plane was just allocated with `height` rows of `stride` bytes, and `row` is below `height`.
            let target = unsafe { raw.data[index].add(row * stride) };
            // SAFETY: a row has room for `width` bytes, and the two do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(line.as_ptr(), target, width) };
        }
        assert!(
            samples.len() >= width * height,
            "a plane as large as the picture"
        );
    }
    Ok(frame)
}

/// A plain black picture, for when there is nothing else to show.
pub(crate) fn black(width: u16, height: u16) -> Result<Frame, Error> {
    let samples = usize::from(width) * usize::from(height);
    // Black is 16 and no colour is 128, in the limited range.
    picture(
        width,
        height,
        &[
            vec![16; samples],
            vec![128; samples / 4],
            vec![128; samples / 4],
        ],
    )
}

/// A picture with texture and grain that moves with `time`, to measure with.
pub(crate) fn texture(width: u16, height: u16, time: u8) -> Result<Frame, Error> {
    let mut seed = u32::from(time) | 1;
    let mut sample = |x: u16, y: u16| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let wave = ((x + 2 * u16::from(time)) / 3) ^ ((y + u16::from(time)) / 5);
        u8::try_from((wave & 0x7f) + 32).unwrap_or(0) + u8::try_from(seed >> 29).unwrap_or(0)
    };
    let luma = (0..height)
        .flat_map(|y| (0..width).map(move |x| (x, y)))
        .map(|(x, y)| sample(x, y))
        .collect();
    let chroma = vec![128; usize::from(width) * usize::from(height) / 4];
    picture(width, height, &[luma, chroma.clone(), chroma])
}

impl Color {
    /// ITU-R BT.709 throughout.
    pub(crate) const fn bt709() -> Self {
        Self {
            primaries: ffi::AVColorPrimaries::AVCOL_PRI_BT709,
            transfer: ffi::AVColorTransferCharacteristic::AVCOL_TRC_BT709,
            matrix: ffi::AVColorSpace::AVCOL_SPC_BT709,
        }
    }
}
