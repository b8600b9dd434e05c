//! The RTMP handshake: it is over after C0, C1 and C2 and not before, however they come.
//!
//! The first byte is the size of the pieces.
#![no_main]

use bytes::BytesMut;
use ingest::rtmp::proto::handshake::{Handshake, PACKET_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&piece, bytes)) = data.split_first() else { return };
    let mut handshake = Handshake::new(1);
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    let mut taken = 0;
    for piece in bytes.chunks(usize::from(piece).max(1)) {
        input.extend_from_slice(piece);
        taken += piece.len();
        let Ok(done) = handshake.advance(&mut input, &mut output) else {
            assert_ne!(bytes[0], 3);
            return;
        };
        assert_eq!(done, taken > 2 * PACKET_BYTES);
        assert_eq!(output.is_empty(), taken <= PACKET_BYTES);
        if done {
            assert_eq!(input.len(), taken - 1 - 2 * PACKET_BYTES);
            assert_eq!(output.len(), 1 + 2 * PACKET_BYTES);
            return;
        }
    }
});
