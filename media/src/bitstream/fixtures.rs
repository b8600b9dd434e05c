//! Records for tests, as FFmpeg 5.1 wrote them into MP4 files around synthetic pictures.

use bytes::Bytes;

use super::{av1, h264, h265, opus};

/// x264, 1920x1080 at 30, High 4.0.
pub(crate) const AVCC: &str = "01640028ffe1001b67640028acd940780227e5c044000003000400000300f03c60c65801000668ebe3cb\
    22c0fdf8f800";
/// x265, 1280x720 at 25, Main.
pub(crate) const HVCC: &str = "0101600000009000000000005df000fcfdf8f800000f03a00001001840010c01ffff01600000030090000\
    003000003005d959809a10001002b42010101600000030090000003000003005da00280802d165959a4932bc05a02000003000200000300\
    3210a2000100074401c172b46240";
/// SVT-AV1, 640x360, Main, 8 bits.
pub(crate) const AV1C: &str = "81010c000a0b0000000cc4ff6700be0010";
/// libaom, 640x360, Main, 10 bits.
pub(crate) const AV1C_10: &str = "81014c000a0b0000000cc4ff6736be5010";
/// libopus, mono.
pub(crate) const DOPS: &str = "000101380000bb80000000";

pub(crate) fn hex(text: &str) -> Bytes {
    let digits: Vec<u32> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).expect("two digits"))
        .collect()
}

pub(crate) fn h264() -> h264::Config {
    h264::Config::from_record(hex(AVCC)).expect("a good record")
}

pub(crate) fn h265() -> h265::Config {
    h265::Config::from_record(hex(HVCC)).expect("a good record")
}

pub(crate) fn av1() -> av1::Config {
    av1::Config::from_record(hex(AV1C)).expect("a good record")
}

pub(crate) fn opus() -> opus::Config {
    opus::Config::from_dops(&hex(DOPS)).expect("a good box")
}

/// Writes parameter sets that no encoder would.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    bits: usize,
}

impl Writer {
    /// Starts with whole bytes.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            bits: bytes.len() * 8,
        }
    }

    /// A number of `count` bits.
    pub(crate) fn u(mut self, count: u32, value: u64) -> Self {
        for bit in (0..count).rev() {
            if self.bits.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let bit = u8::from(value >> bit & 1 == 1);
            *self.bytes.last_mut().expect("pushed above") |= bit << (7 - self.bits % 8);
            self.bits += 1;
        }
        self
    }

    /// An Exp-Golomb code.
    pub(crate) fn ue(self, value: u64) -> Self {
        let len = (value + 1).ilog2();
        self.u(len, 0).u(len + 1, value + 1)
    }

    /// Many.
    pub(crate) fn ues(self, values: &[u64]) -> Self {
        values.iter().fold(self, |writer, &value| writer.ue(value))
    }

    /// The NAL unit: stop bit and emulation prevention added.
    pub(crate) fn nal(self) -> Vec<u8> {
        let mut nal = Vec::new();
        let mut zeros = 0;
        for byte in self.u(1, 1).bytes {
            if zeros >= 2 && byte <= 3 {
                nal.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            nal.push(byte);
        }
        nal
    }
}

/// NAL units or anything else behind lengths of four bytes.
pub(crate) fn prefixed(units: &[&[u8]]) -> Bytes {
    let mut data = Vec::new();
    for unit in units {
        data.extend(u32::try_from(unit.len()).expect("short").to_be_bytes());
        data.extend(*unit);
    }
    data.into()
}
