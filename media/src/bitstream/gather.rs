//! Taking units out of a buffer without copying what stays together.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Error, annexb};

/// Collects spans of one buffer in order: a single run of neighbours is a slice of it, anything else one copy.
pub(super) struct Gather<'a> {
    source: &'a Bytes,
    run: Range<usize>,
    copied: Option<BytesMut>,
}

impl<'a> Gather<'a> {
    pub(super) const fn new(source: &'a Bytes) -> Self {
        Self {
            source,
            run: 0..0,
            copied: None,
        }
    }

    /// Appends `source[span]`; spans come in order.
    pub(super) fn keep(&mut self, span: Range<usize>) {
        if self.run.end == span.start && !self.run.is_empty() {
            self.run.end = span.end;
            return;
        }
        if !self.run.is_empty() {
            self.flush();
        }
        self.run = span;
    }

    /// Appends bytes that are not in the source.
    pub(super) fn insert(&mut self, bytes: &[u8]) {
        self.flush().put_slice(bytes);
    }

    /// The collected bytes.
    pub(super) fn finish(mut self) -> Bytes {
        if self.copied.is_none() {
            return self.source.slice(self.run);
        }
        std::mem::take(self.flush()).freeze()
    }

    fn flush(&mut self) -> &mut BytesMut {
        let copied = self
            .copied
            .get_or_insert_with(|| BytesMut::with_capacity(self.source.len()));
        copied.put_slice(&self.source[self.run.clone()]);
        self.run = 0..0;
        copied
    }
}

/// A NAL unit in a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NalUnit {
    /// Where it lies, without its length.
    pub(super) span: Range<usize>,
    /// Its length stands right before it.
    prefixed: bool,
}

/// The NAL units in `data`, each behind a big-endian length of `length_size` bytes (ISO/IEC 14496-15 4.2.1: 1, 2 or 4;
/// 3 is read too). Ends after the first error.
///
/// A start code cannot be part of a NAL unit. Encoders that leave start codes behind a length mean several units, and
/// a decoder that reads a byte stream would find them, so they are found here first.
pub(super) fn nal_units(
    data: &[u8],
    length_size: u8,
) -> impl Iterator<Item = Result<NalUnit, Error>> {
    let size = usize::from(length_size);
    let mut at = 0;
    // What is left of a unit in which a start code was found.
    let mut rest = 0..0;
    std::iter::from_fn(move || {
        loop {
            while !rest.is_empty() {
                let start = rest.start;
                let code = annexb::start_code(&data[..rest.end], start);
                rest.start = code.map_or(rest.end, |code| code + 3);
                let piece = &data[start..code.unwrap_or(rest.end)];
                let len = without_trailing_zeros(piece).len();
                if len > 0 {
                    return Some(Ok(NalUnit {
                        span: start..start + len,
                        prefixed: false,
                    }));
                }
            }
            if at >= data.len() {
                return None;
            }
            let span = match nal_unit(data, at, size) {
                Ok(span) => span,
                Err(error) => {
                    at = data.len();
                    return Some(Err(error));
                }
            };
            at = span.end;
            if annexb::start_code(&data[..span.end], span.start).is_none() {
                return Some(Ok(NalUnit {
                    span,
                    prefixed: true,
                }));
            }
            rest = span;
        }
    })
}

fn nal_unit(data: &[u8], at: usize, size: usize) -> Result<Range<usize>, Error> {
    if !(1..=4).contains(&size) {
        return Err(Error::Invalid("NAL unit length size"));
    }
    let start = at + size;
    let prefix = data
        .get(at..start)
        .ok_or(Error::Truncated("NAL unit length"))?;
    let len = prefix
        .iter()
        .fold(0, |len, &byte| len << 8 | usize::from(byte));
    if len == 0 {
        return Err(Error::Invalid("empty NAL unit"));
    }
    if len > data.len() - start {
        return Err(Error::Truncated("NAL unit"));
    }
    Ok(start..start + len)
}

/// Keeps one NAL unit behind a four-byte length.
pub(super) fn keep_nal_unit(kept: &mut Gather<'_>, length_size: u8, unit: NalUnit) {
    let span = unit.span;
    if length_size == 4 && unit.prefixed {
        kept.keep(span.start - 4..span.end);
        return;
    }
    let len = u32::try_from(span.len()).expect("its length was read from 4 bytes");
    kept.insert(&len.to_be_bytes());
    kept.keep(span);
}

/// A parameter set without the zero bytes that may follow it (they are no part of it, H.264 7.4.1.1).
pub(super) fn without_trailing_zeros(nal: &[u8]) -> &[u8] {
    let end = nal
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |last| last + 1);
    &nal[..end]
}

/// Takes the next `N` bytes of a record.
pub(super) fn take<const N: usize>(rest: &mut &[u8], what: &'static str) -> Result<[u8; N], Error> {
    let (taken, after) = rest.split_first_chunk().ok_or(Error::Truncated(what))?;
    *rest = after;
    Ok(*taken)
}

/// Appends a parameter set to a record, behind its length, and to a byte stream.
pub(super) fn put_set(
    set: &[u8],
    record: &mut BytesMut,
    annexb: &mut BytesMut,
) -> Result<(), Error> {
    record.put_u16(u16::try_from(set.len()).map_err(|_| Error::Limit("parameter set"))?);
    record.put_slice(set);
    annexb.put_slice(&annexb::START_CODE);
    annexb.put_slice(set);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_shared_and_the_rest_is_copied_once() {
        let source = Bytes::from_static(b"abcdef");
        let mut kept = Gather::new(&source);
        kept.keep(1..3);
        kept.keep(3..4);
        let shared = kept.finish();
        assert_eq!(
            (&shared[..], shared.as_ptr()),
            (&b"bcd"[..], source[1..].as_ptr())
        );

        let mut kept = Gather::new(&source);
        kept.keep(0..1);
        kept.keep(2..3);
        kept.insert(b"-");
        kept.keep(3..5);
        assert_eq!(kept.finish(), "ac-de");
        assert_eq!(Gather::new(&source).finish(), "");
    }

    fn spans(data: &[u8], size: u8) -> Vec<Result<Range<usize>, Error>> {
        nal_units(data, size)
            .map(|unit| unit.map(|unit| unit.span))
            .collect()
    }

    #[test]
    fn lengths_are_checked() {
        assert_eq!(
            spans(&[0, 0, 0, 1, 9, 0, 0, 0, 2, 8, 7], 4),
            [Ok(4..5), Ok(9..11)]
        );
        assert_eq!(spans(&[0, 1, 9, 0, 2, 8, 7], 2), [Ok(2..3), Ok(5..7)]);
        assert_eq!(
            spans(&[0, 0, 0, 2, 9], 4),
            [Err(Error::Truncated("NAL unit"))]
        );
        assert_eq!(spans(&[1, 9, 0], 2), [Err(Error::Truncated("NAL unit"))]);
        assert_eq!(
            spans(&[1, 9, 0], 1),
            [Ok(1..2), Err(Error::Invalid("empty NAL unit"))]
        );
        assert_eq!(
            spans(&[0, 0, 0], 4),
            [Err(Error::Truncated("NAL unit length"))]
        );
        assert_eq!(spans(&[255; 9], 4), [Err(Error::Truncated("NAL unit"))]);
        for size in [0, 5, 255] {
            assert_eq!(
                spans(&[0], size),
                [Err(Error::Invalid("NAL unit length size"))]
            );
        }
        assert_eq!(spans(&[], 4), []);
    }

    #[test]
    fn start_codes_behind_a_length_divide_too() {
        // Two units behind one length; a start code at the front of another; nothing but start codes.
        assert_eq!(
            spans(&[7, 9, 8, 0, 0, 0, 1, 7, 1, 6], 1),
            [Ok(1..3), Ok(7..8), Ok(9..10)]
        );
        assert_eq!(spans(&[5, 0, 0, 0, 1, 7], 1), [Ok(5..6)]);
        assert_eq!(spans(&[6, 0, 0, 1, 0, 0, 1, 1, 5], 1), [Ok(8..9)]);
        // Zeros that end a unit are its own where no start code follows.
        assert_eq!(spans(&[3, 9, 0, 0, 1, 1], 1), [Ok(1..4), Ok(5..6)]);
        let source = Bytes::from_static(&[0, 0, 0, 5, 9, 0, 0, 1, 7]);
        let mut kept = Gather::new(&source);
        for unit in nal_units(&source, 4) {
            keep_nal_unit(&mut kept, 4, unit.expect("valid"));
        }
        assert_eq!(kept.finish(), &[0, 0, 0, 1, 9, 0, 0, 0, 1, 7][..]);
    }
}
