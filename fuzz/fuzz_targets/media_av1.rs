//! `av1C` records and AV1 temporal units: what is accepted is within the limits and a fixed point.
//!
//! The first byte chooses: 0 a record, else a unit.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use media::bitstream::av1;

fn check(config: &av1::Config) {
    assert_eq!(
        av1::Config::from_record(config.record().clone()).as_ref(),
        Ok(config)
    );
    assert_eq!(
        av1::Config::from_sequence_header(&config.record()[4..]).as_ref(),
        Ok(config)
    );
    let (width, height) = (config.video().width, config.video().height);
    assert!(width > 0 && height > 0);
    assert!(width.max(height) <= 4096 && width.min(height) <= 2304);
    assert!(config.sequence_header().bit_depth <= 10);
    assert!(config.rfc6381().starts_with("av01."));
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, rest)) = data.split_first() else {
        return;
    };
    let rest = Bytes::copy_from_slice(rest);
    if choice == 0 {
        if let Ok(config) = av1::Config::from_record(rest) {
            check(&config);
        }
        return;
    }
    let Ok(unit) = av1::normalize(&rest) else {
        return;
    };
    if let Some(config) = &unit.parameter_sets {
        check(config);
    }
    // A size may be added to the last OBU.
    assert!(unit.data.len() <= rest.len() + 5);
    if unit.data.is_empty() {
        assert!(!unit.keyframe);
        return;
    }
    assert_eq!(av1::normalize(&unit.data).as_ref(), Ok(&unit));
});
