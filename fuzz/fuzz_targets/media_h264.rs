//! `avcC` records and H.264 access units: what is accepted is within the limits and a fixed point.
//!
//! The first byte chooses: 0 a record, else a unit of that length size (modulo 6).
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use media::bitstream::{annexb, h264};

fn check(config: &h264::Config) {
    assert_eq!(
        h264::Config::from_record(config.record().clone()).as_ref(),
        Ok(config)
    );
    let sps = config.sps();
    let (width, height) = (config.video().width, config.video().height);
    assert!(width > 0 && height > 0);
    assert!(width <= sps.coded_width && height <= sps.coded_height);
    assert!(sps.coded_width.max(sps.coded_height) <= 4096);
    assert!(sps.coded_width.min(sps.coded_height) <= 2304);
    assert!(sps.bit_depth_luma <= 10 && sps.bit_depth_chroma <= 10);
    assert!(sps.level_idc <= 52 && sps.max_ref_frames <= 16 && sps.max_reorder <= 16);
    assert_eq!(config.rfc6381().len(), "avc1.640028".len());
    // A decoder finds in the byte stream what the record holds.
    let sets = annexb::to_length_prefixed(&config.annexb());
    if let Ok(unit) = h264::normalize(&sets, 4) {
        assert!(unit.data.is_empty() && !unit.keyframe);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, rest)) = data.split_first() else {
        return;
    };
    let rest = Bytes::copy_from_slice(rest);
    if choice == 0 {
        if let Ok(config) = h264::Config::from_record(rest) {
            check(&config);
        }
        return;
    }
    let size = choice % 6;
    let Ok(unit) = h264::normalize(&rest, size) else {
        return;
    };
    let again = h264::normalize(&unit.data, 4).expect("normal form is accepted");
    assert_eq!((&again.data, again.keyframe), (&unit.data, unit.keyframe));
    assert_eq!(again.parameter_sets, None);
    assert!(unit.data.len() <= rest.len() * 4);
    if let Some(config) = unit.parameter_sets {
        check(&config);
        let merged = config
            .normalize(&rest, size)
            .expect("the sets fit themselves");
        assert_eq!(merged.parameter_sets, Some(config));
    }
});
