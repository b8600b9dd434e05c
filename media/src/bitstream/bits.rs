//! Bits, most significant first, with the variable-length codes of H.264, H.265 and AV1.

use super::Error;

/// Reads bits out of bytes. Every read past the end is [`Error::Truncated`] with the name given here.
#[derive(Clone)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits read so far.
    at: usize,
    what: &'static str,
}

impl<'a> Bits<'a> {
    pub(super) const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { bytes, at: 0, what }
    }

    /// Bits not yet read.
    pub(super) const fn left(&self) -> usize {
        self.bytes.len() * 8 - self.at
    }

    pub(super) fn bit(&mut self) -> Result<bool, Error> {
        let byte = self
            .bytes
            .get(self.at / 8)
            .ok_or(Error::Truncated(self.what))?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    /// An unsigned number of `count` bits, at most 32.
    pub(super) fn read(&mut self, count: u32) -> Result<u32, Error> {
        debug_assert!(count <= 32, "a u32 holds 32 bits");
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.bit()?);
        }
        Ok(value)
    }

    /// An unsigned number of `count` bits, at most 8.
    pub(super) fn u8(&mut self, count: u32) -> Result<u8, Error> {
        debug_assert!(count <= 8, "a u8 holds 8 bits");
        Ok(u8::try_from(self.read(count)?).expect("at most 8 bits were read"))
    }

    pub(super) fn skip(&mut self, count: usize) -> Result<(), Error> {
        if count > self.left() {
            return Err(Error::Truncated(self.what));
        }
        self.at += count;
        Ok(())
    }

    /// Exp-Golomb, unsigned (H.264 9.1, H.265 9.2): 0 to 2^32 - 2.
    pub(super) fn ue(&mut self) -> Result<u32, Error> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return Err(Error::Invalid(self.what));
            }
        }
        let rest = self.read(zeros)?;
        Ok(((1_u32 << zeros) - 1) + rest)
    }

    /// Exp-Golomb, unsigned, refused as [`Error::Limit`] of `what` above `max`.
    pub(super) fn ue_max(&mut self, max: u32, what: &'static str) -> Result<u32, Error> {
        let value = self.ue()?;
        if value > max {
            Err(Error::Limit(what))
        } else {
            Ok(value)
        }
    }

    /// Exp-Golomb, signed.
    pub(super) fn se(&mut self) -> Result<i64, Error> {
        let code = i64::from(self.ue()?);
        Ok(if code % 2 == 1 {
            code / 2 + 1
        } else {
            -(code / 2)
        })
    }

    /// AV1 uvlc(): Exp-Golomb, where 32 or more zeros mean the largest number.
    pub(super) fn uvlc(&mut self) -> Result<u32, Error> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
        }
        if zeros >= 32 {
            return Ok(u32::MAX);
        }
        Ok(((1_u32 << zeros) - 1) + self.read(zeros)?)
    }
}

/// The raw byte sequence payload of a NAL unit: without the emulation prevention bytes (H.264 7.3.1, H.265 7.3.1.1).
pub(super) fn unescape(nal: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(nal.len());
    let mut zeros = 0;
    for &byte in nal {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        payload.push(byte);
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_follow_the_table() {
        // H.264 table 9-2: 1, 010, 011, 00100, 00101 are 0 to 4; signed 0, 1, -1, 2, -2.
        let bytes = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut bits = Bits::new(&bytes, "test");
        assert_eq!(
            [0, 1, 2, 3, 4].map(|_| bits.ue()),
            [Ok(0), Ok(1), Ok(2), Ok(3), Ok(4)]
        );
        let mut bits = Bits::new(&bytes, "test");
        assert_eq!(
            [0, 1, 2, 3, 4].map(|_| bits.se()),
            [Ok(0), Ok(1), Ok(-1), Ok(2), Ok(-2)]
        );
    }

    #[test]
    fn the_longest_codes_fit_and_longer_ones_are_refused() {
        // 31 zeros, a one, 31 ones: 2^32 - 2.
        let longest = [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe];
        assert_eq!(Bits::new(&longest, "test").ue(), Ok(u32::MAX - 1));
        assert_eq!(Bits::new(&longest, "test").uvlc(), Ok(u32::MAX - 1));
        assert_eq!(
            Bits::new(&longest, "test").se(),
            Ok(-i64::from(u32::MAX / 2))
        );
        let too_long = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(
            Bits::new(&too_long, "test").ue(),
            Err(Error::Invalid("test"))
        );
        assert_eq!(Bits::new(&too_long, "test").uvlc(), Ok(u32::MAX));
        assert_eq!(
            Bits::new(&[0, 1], "test").ue(),
            Err(Error::Truncated("test"))
        );
    }

    #[test]
    fn emulation_prevention_goes_and_other_threes_stay() {
        assert_eq!(
            unescape(&[0, 0, 3, 1, 3, 0, 0, 3, 0, 0, 3]),
            [0, 0, 1, 3, 0, 0, 0, 0]
        );
        assert_eq!(
            unescape(&[0, 0, 3, 0, 3, 0, 0, 0, 3]),
            [0, 0, 0, 3, 0, 0, 0]
        );
    }
}
