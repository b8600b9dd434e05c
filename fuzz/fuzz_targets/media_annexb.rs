//! Byte streams: the units found hold no start code and survive the change to lengths and back.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use media::bitstream::annexb;

fuzz_target!(|data: &[u8]| {
    let stream = Bytes::copy_from_slice(data);
    let units: Vec<Bytes> = annexb::split(&stream).collect();
    for unit in &units {
        assert!(!unit.is_empty() && unit.last() != Some(&0));
        assert!(!unit.windows(3).any(|bytes| bytes == [0, 0, 1]));
    }
    // Nothing but start codes and zeros was left out, counted the slow way.
    let found: usize = units
        .iter()
        .map(|unit| unit.iter().filter(|&&b| b != 0).count())
        .sum();
    let codes = data.windows(3).filter(|bytes| bytes == &[0, 0, 1]).count();
    let first = data
        .windows(3)
        .position(|bytes| bytes == [0, 0, 1])
        .unwrap_or(data.len());
    let after = data[first..].iter().filter(|&&b| b != 0).count();
    assert_eq!(found, after - codes);

    let prefixed = annexb::to_length_prefixed(&stream);
    let back = annexb::from_length_prefixed(&prefixed, 4).expect("we wrote it");
    assert_eq!(annexb::split(&back).collect::<Vec<_>>(), units);
    for size in 0..6 {
        if let Ok(back) = annexb::from_length_prefixed(&stream, size) {
            assert!(back.len() <= data.len() * 4);
        }
    }
});
