//! The event protocol, read from a process that has been taken over: whole or in pieces the same events or the same
//! error, and every event that is accepted survives the trip again.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use media::Event;
use media::wire::{Decoder, Error, HEADER, encode};

fn decode(pieces: impl Iterator<Item = Vec<u8>>) -> (Vec<Event>, Option<Error>) {
    let (mut decoder, mut events) = (Decoder::new(), Vec::new());
    decoder.push(&HEADER);
    for piece in pieces {
        decoder.push(&piece);
        loop {
            match decoder.next() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
    }
    (events, None)
}

fuzz_target!(|data: &[u8]| {
    let whole = decode(std::iter::once(data.to_vec()));
    let size = data.first().map_or(1, |&byte| usize::from(byte % 23) + 1);
    assert_eq!(decode(data.chunks(size).map(<[u8]>::to_vec)), whole);
    let mut again = BytesMut::new();
    for event in &whole.0 {
        encode(event, &mut again);
    }
    assert_eq!(decode(std::iter::once(again.to_vec())), (whole.0, None));
});
