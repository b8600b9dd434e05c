//! NAL units behind start codes, as decoders and MPEG-TS want them (H.264 annex B, H.265 annex B), and the change to
//! and from length prefixes.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Error, gather};

/// What stands before each NAL unit that this module writes.
pub const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The NAL units of a byte stream, as slices of it: what lies between start codes of three or four bytes, without
/// trailing zeros. Bytes before the first start code are skipped, empty units too.
pub fn split(data: &Bytes) -> impl Iterator<Item = Bytes> {
    let data = data.clone();
    let mut at = start_code(&data, 0).map_or(data.len(), |found| found + 3);
    std::iter::from_fn(move || {
        while at < data.len() {
            let start = at;
            let end = start_code(&data, start).unwrap_or(data.len());
            at = end.saturating_add(3).min(data.len());
            let nal = gather::without_trailing_zeros(&data[start..end]);
            if !nal.is_empty() {
                return Some(data.slice(start..start + nal.len()));
            }
        }
        None
    })
}

/// The first `00 00 01` at or after `from`.
pub(super) fn start_code(data: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    // The third byte decides how far the next candidate can be.
    while let Some(&third) = data.get(at + 2) {
        match third {
            0 => at += 1,
            1 if data[at] == 0 && data[at + 1] == 0 => return Some(at),
            _ => at += 3,
        }
    }
    None
}

/// A byte stream with each NAL unit behind a four-byte length instead.
#[must_use]
pub fn to_length_prefixed(data: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + 4);
    for nal in split(data) {
        out.put_u32(u32::try_from(nal.len()).unwrap_or(u32::MAX));
        out.put_slice(&nal);
    }
    out.freeze()
}

/// Length-prefixed NAL units behind start codes instead.
///
/// # Errors
/// When a length is zero or beyond the end, or `length_size` is not 1 to 4.
pub fn from_length_prefixed(data: &Bytes, length_size: u8) -> Result<Bytes, Error> {
    let mut out = BytesMut::with_capacity(data.len() + 4);
    for unit in gather::nal_units(data, length_size) {
        out.put_slice(&START_CODE);
        out.put_slice(&data[unit?.span]);
    }
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(data: &'static [u8], expected: &[&[u8]]) {
        let nals: Vec<Bytes> = split(&Bytes::from_static(data)).collect();
        assert_eq!(nals, expected, "{data:?}");
    }

    #[test]
    fn start_codes_of_both_lengths_divide() {
        check(&[0, 0, 1, 9, 0, 0, 0, 1, 7, 8], &[&[9], &[7, 8]]);
        check(
            &[0, 0, 0, 0, 1, 9, 0, 0, 0, 0, 0, 1, 7, 0, 0],
            &[&[9], &[7]],
        );
        check(&[5, 5, 0, 0, 1, 9, 0, 5], &[&[9, 0, 5]]);
        check(&[0, 0, 1, 0, 0, 1, 0, 0, 1], &[]);
        check(&[0, 0, 1], &[]);
        check(&[0, 0, 2, 0, 1, 0, 0], &[]);
        check(&[], &[]);
        check(
            &[1, 0, 0, 1, 1, 0, 0, 2, 0, 0, 1, 4],
            &[&[1, 0, 0, 2], &[4]],
        );
    }

    #[test]
    fn a_split_shares_the_input() {
        let data = Bytes::from_static(&[0, 0, 1, 9, 8]);
        let nal = split(&data).next().expect("one unit");
        assert_eq!(nal.as_ptr(), data[3..].as_ptr());
    }

    #[test]
    fn both_forms_carry_the_same_units() {
        let stream = Bytes::from_static(&[0, 0, 0, 1, 9, 16, 0, 0, 0, 1, 7, 0, 5]);
        let prefixed = to_length_prefixed(&stream);
        assert_eq!(prefixed, &[0, 0, 0, 2, 9, 16, 0, 0, 0, 3, 7, 0, 5][..]);
        assert_eq!(from_length_prefixed(&prefixed, 4), Ok(stream));
        let short = Bytes::from_static(&[2, 9]);
        assert_eq!(
            from_length_prefixed(&short, 1),
            Err(Error::Truncated("NAL unit"))
        );
    }
}
