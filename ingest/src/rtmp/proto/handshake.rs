//! The plain RTMP handshake (Adobe RTMP 1.0 section 5.2), server side.
//!
//! Clients that try the digest variant put a digest into what the plain form calls random bytes. The zero version
//! field of our S1 tells them that this server does not, and they go on in the plain form.

use bytes::{Buf, BufMut, BytesMut};

/// Bytes of C1, C2, S1 and S2 each.
pub const PACKET_BYTES: usize = 1536;

/// The one protocol version there is; 6 and above are the encrypted variants.
const VERSION: u8 = 3;

/// The first byte was not that of an RTMP client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not RTMP version 3: first byte {0:#04x}")]
pub struct Unsupported(pub u8);

/// Reads C0, C1 and C2, answers with S0, S1 and S2.
#[derive(Debug)]
pub struct Handshake {
    seed: u64,
    answered: bool,
}

impl Handshake {
    /// A handshake that has seen nothing. `seed` fills the bytes that the specification wants random; they protect
    /// nothing.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            seed,
            answered: false,
        }
    }

    /// Consumes what it can of `input`; `true` once the handshake is over.
    ///
    /// # Errors
    /// When the peer does not speak plain RTMP. Nothing else a client sends is checked: encoders fill C1 and C2 as
    /// they like.
    pub fn advance(
        &mut self,
        input: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<bool, Unsupported> {
        if !self.answered {
            match input.first() {
                Some(&VERSION) => {}
                Some(&other) => return Err(Unsupported(other)),
                None => return Ok(false),
            }
            if input.len() < 1 + PACKET_BYTES {
                return Ok(false);
            }
            input.advance(1);
            let c1 = input.split_to(PACKET_BYTES);
            self.answer(&c1, output);
            self.answered = true;
        }
        if input.len() < PACKET_BYTES {
            return Ok(false);
        }
        input.advance(PACKET_BYTES);
        Ok(true)
    }

    fn answer(&mut self, c1: &[u8], output: &mut BytesMut) {
        output.reserve(1 + 2 * PACKET_BYTES);
        output.put_u8(VERSION);
        // S1: our epoch, the version field that says "plain", filler.
        output.put_u64(0);
        for _ in 1..PACKET_BYTES / 8 {
            output.put_u64(self.next_random());
        }
        // S2: the peer's C1, with our time of reading in the place of its second field.
        let (time, rest) = c1.split_at(4);
        output.put_slice(time);
        output.put_u32(0);
        output.put_slice(rest.get(4..).unwrap_or_default());
    }

    /// SplitMix64.
    fn next_random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bytes: &[u8], split: usize) -> Result<(bool, Vec<u8>, usize), Unsupported> {
        let mut handshake = Handshake::new(7);
        let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
        let mut done = false;
        for piece in bytes.chunks(split) {
            input.extend_from_slice(piece);
            if !done {
                done = handshake.advance(&mut input, &mut output)?;
            }
        }
        Ok((done, output.to_vec(), input.len()))
    }

    fn client(c1: u8, c2: u8) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend((0..PACKET_BYTES).map(|i| c1.wrapping_add(i.to_le_bytes()[0])));
        bytes.extend([c2; PACKET_BYTES]);
        bytes
    }

    #[test]
    fn any_c1_and_c2_are_answered_whatever_the_split() {
        for split in [1, 2, 1536, 1537, 5000] {
            let mut bytes = client(9, 0xee);
            bytes.extend([1, 2, 3]);
            let (done, output, left) = run(&bytes, split).unwrap();
            assert!(done);
            assert_eq!(left, 3, "what follows the handshake stays");
            assert_eq!(output.len(), 1 + 2 * PACKET_BYTES);
            assert_eq!(output[0], VERSION);
            assert_eq!(output[5..9], [0; 4], "a version would invite a digest");
            let s2 = &output[1 + PACKET_BYTES..];
            assert_eq!(s2[..4], bytes[1..5], "the time of C1 comes back");
            assert_eq!(
                s2[8..],
                bytes[9..1 + PACKET_BYTES],
                "the random bytes of C1 come back"
            );
        }
    }

    #[test]
    fn one_byte_short_is_not_yet_done() {
        let bytes = client(0, 0);
        assert!(!run(&bytes[..bytes.len() - 1], 64).unwrap().0);
        let (_, output, _) = run(&bytes[..PACKET_BYTES], 64).unwrap();
        assert!(output.is_empty(), "no answer before all of C1");
    }

    #[test]
    fn another_protocol_is_refused_at_its_first_byte() {
        for first in [0x00, 0x02, 0x06, b'G', 0x16] {
            assert_eq!(run(&[first], 1), Err(Unsupported(first)));
        }
    }
}
