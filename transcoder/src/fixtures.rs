//! What tests of this crate share.

use media::bitstream::h264;

/// The parameter sets of x264 at 1280x720 (Main, 30 pictures a second) or 640x360.
pub(crate) fn h264(height: u16) -> h264::Config {
    let sps: &[u8] = match height {
        720 => {
            b"\x67\x4d\x40\x1f\xec\xa0\x28\x02\xdd\x80\xb5\x01\x01\x01\x40\x00\x00\x03\x00\x40\x00\x00\x0f\x03\xc6\x0c\x65\x80"
        }
        _ => {
            b"\x67\x4d\x40\x1e\xec\xa0\x50\x17\xfc\xb8\x0b\x50\x10\x10\x14\x00\x00\x03\x00\x04\x00\x00\x03\x00\xf0\x3c\x58\xb6\x58"
        }
    };
    h264::Config::from_parameter_sets(sps, b"\x68\xef\xbc\xb0")
        .expect("parameter sets of a real encoder")
}
