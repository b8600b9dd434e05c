//! AudioSpecificConfig, OpusHead, dOps and Opus packets.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use media::bitstream::{aac, opus};

fuzz_target!(|data: &[u8]| {
    let record = Bytes::copy_from_slice(data);
    if let Ok(config) = aac::Config::from_record(record.clone()) {
        assert!((7_350..=96_000).contains(&config.sample_rate()));
        assert!((1..=8).contains(&config.channels()));
        assert!([960, 1024, 1920, 2048].contains(&config.samples_per_frame()));
        assert!(!config.is_lc() || config.rfc6381() == "mp4a.40.2");
        assert_eq!(config.record(), &record);
        if config.is_lc()
            && let Some(plain) = aac::Config::lc(config.sample_rate(), config.channels())
        {
            assert_eq!(plain.audio(), config.audio());
        }
    }
    for config in [
        opus::Config::from_record(record),
        opus::Config::from_dops(data),
    ] {
        let Ok(config) = config else { continue };
        assert!((1..=8).contains(&config.channels()));
        assert_eq!(
            opus::Config::from_record(config.record().clone()).as_ref(),
            Ok(&config)
        );
        assert_eq!(opus::Config::from_dops(&config.dops()), Ok(config));
    }
    if let Ok(samples) = opus::packet_samples(data) {
        assert!((120..=5_760).contains(&samples) && samples % 120 == 0);
    }
});
