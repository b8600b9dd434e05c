use super::super::Chroma;
use super::super::fixtures::{HVCC, Writer, h265, hex, prefixed};
use super::*;
use crate::Rational;

const PPS: &[u8] = &[0x44, 1, 0xc1, 0x72, 0xb4, 0x62, 0x40];
const IDR: &[u8] = &[0x26, 1, 0xaf];
const CRA: &[u8] = &[0x2a, 1, 0xaf];
const BLA: &[u8] = &[0x20, 1, 0xaf];
const TRAIL: &[u8] = &[0x02, 1, 0xd0];
const SEI: &[u8] = &[0x4e, 1, 5, 0x80];
const SUFFIX: &[u8] = &[0x50, 1, 0x84, 0x80];
const AUD: &[u8] = &[0x46, 1, 0x10];
const FILLER: &[u8] = &[0x4c, 1, 0xff, 0x80];
const END: &[u8] = &[0x48, 1];

fn sets(config: &Config) -> [Bytes; 3] {
    let sets: Vec<Bytes> = annexb::split(&config.annexb()).collect();
    sets.try_into().expect("three sets")
}

#[test]
fn a_record_says_what_the_encoder_was_told() {
    let config = h265();
    assert_eq!(config.rfc6381(), "hvc1.1.6.L93.90");
    let sps = config.sps();
    assert_eq!(
        (
            sps.profile.idc,
            sps.profile.level_idc,
            sps.profile.high_tier
        ),
        (1, 93, false)
    );
    assert_eq!((config.video().width, config.video().height), (1280, 720));
    assert_eq!(config.video().frame_rate, Rational::new(25, 1));
    assert_eq!(
        (sps.chroma, sps.bit_depth_luma, sps.interlaced),
        (Chroma::Yuv420, 8, false)
    );
    assert_eq!(
        (
            sps.max_dec_pic_buffering,
            sps.max_reorder,
            sps.temporal_layers
        ),
        (5, 2, 1)
    );
    assert_eq!(length_size(config.record()), Ok(4));
    assert_eq!(
        Config::from_record(config.record().clone()),
        Ok(config.clone())
    );
    let [vps, sps, pps] = sets(&config);
    assert_eq!(Config::from_parameter_sets(&vps, &sps, &pps), Ok(config));
}

#[test]
fn the_codecs_parameter_follows_its_examples() {
    let check = |profile: Profile, expected: &str| {
        let mut config = h265();
        config.sps.profile = profile;
        assert_eq!(config.rfc6381(), expected);
    };
    // ISO/IEC 14496-15 annex E: hev1.1.6.L93.B0 and hev1.A4.41.H120.B0.23, here as hvc1.
    let main = Profile {
        space: 0,
        high_tier: false,
        idc: 1,
        compatibility: 0x6000_0000,
        constraints: [0xb0, 0, 0, 0, 0, 0],
        level_idc: 93,
    };
    check(main.clone(), "hvc1.1.6.L93.B0");
    let high = Profile {
        space: 1,
        high_tier: true,
        idc: 4,
        compatibility: 0x8200_0000,
        constraints: [0xb0, 0x23, 0, 0, 0, 0],
        level_idc: 120,
    };
    check(high, "hvc1.A4.41.H120.B0.23");
    check(
        Profile {
            constraints: [0; 6],
            ..main.clone()
        },
        "hvc1.1.6.L93",
    );
    check(
        Profile {
            constraints: [0, 0, 0, 0, 0, 8],
            ..main
        },
        "hvc1.1.6.L93.0.0.0.0.0.8",
    );
}

#[test]
fn a_cut_record_is_refused_everywhere() {
    let record = hex(HVCC);
    for len in 0..record.len() {
        let cut = Config::from_record(record.slice(..len));
        assert_eq!(cut, Err(Error::Truncated("hvcC")), "{len} bytes");
    }
    let mut other = record.to_vec();
    other[0] = 2;
    assert_eq!(
        Config::from_record(other.into()),
        Err(Error::Unsupported("hvcC version"))
    );
    // No arrays at all, as with hev1, and each kind missing.
    let none = [&record[..22], &[0]].concat();
    assert_eq!(Config::from_record(none.into()), Err(Error::Missing("PPS")));
    let [vps, sps, _] = sets(&h265());
    assert_eq!(
        Config::from_parameter_sets(&sps, &sps, PPS),
        Err(Error::Invalid("parameter set"))
    );
    assert_eq!(
        Config::from_parameter_sets(&vps, &vps, PPS),
        Err(Error::Invalid("parameter set"))
    );
    let mut other_vps = vps.to_vec();
    other_vps[2] = 0x1c;
    assert_eq!(
        Config::from_parameter_sets(&other_vps, &sps, PPS),
        Err(Error::Missing("VPS"))
    );
    let orphan: &[u8] = &[0x44, 1, 0xa0];
    assert_eq!(
        Config::from_parameter_sets(&vps, &sps, orphan),
        Err(Error::Missing("SPS"))
    );
}

/// An SPS with fields to choose.
struct Fields {
    sub_layers: u64,
    level: u64,
    chroma: u64,
    size: [u64; 2],
    window: Option<[u64; 4]>,
    depth: [u64; 2],
    buffering: [u64; 2],
    references: fn(Writer) -> Writer,
    vui: fn(Writer) -> Writer,
}

const FIELDS: Fields = Fields {
    sub_layers: 0,
    level: 120,
    chroma: 1,
    size: [320, 240],
    window: None,
    depth: [0, 0],
    buffering: [4, 2],
    references: |w| w.ue(0).u(1, 0),
    vui: |w| w.u(1, 0),
};

fn parse(fields: &Fields) -> Result<Sps, Error> {
    let mut w = Writer::new(&[0x42, 1])
        .u(4, 0)
        .u(3, fields.sub_layers)
        .u(1, 1);
    w = w
        .u(8, 1)
        .u(32, 0x6000_0000)
        .u(48, 0x9000_0000_0000)
        .u(8, fields.level);
    if (1..=6).contains(&fields.sub_layers) {
        // Each has a profile and a level of its own.
        for _ in 0..fields.sub_layers {
            w = w.u(2, 0b11);
        }
        w = w.u(2 * (8 - u32::try_from(fields.sub_layers).expect("few")), 0);
        for _ in 0..fields.sub_layers {
            w = w.u(48, 0).u(48, 0);
        }
    }
    w = w.ue(0).ue(fields.chroma);
    if fields.chroma == 3 {
        w = w.u(1, 0);
    }
    w = w.ues(&fields.size).u(1, u64::from(fields.window.is_some()));
    w = fields.window.iter().fold(w, |w, window| w.ues(window));
    w = w
        .ues(&fields.depth)
        .ue(4)
        .u(1, 0)
        .ues(&fields.buffering)
        .ue(0);
    w = w.ues(&[0, 3, 0, 3, 0, 0]).u(1, 0).u(2, 0).u(1, 0);
    w = (fields.references)(w).u(2, 0);
    let nal = (fields.vui)(w).u(1, 0).nal();
    let vps: &[u8] = &[0x40, 1, 0x0c, 1];
    Config::from_parameter_sets(vps, &nal, PPS).map(|config| config.sps().clone())
}

#[test]
fn the_limits_hold_at_their_edges() {
    let limit = |what| Err(Error::Limit(what));
    let check = |fields: Fields, expected: Result<(), Error>| {
        assert_eq!(parse(&fields).map(drop), expected);
    };
    check(FIELDS, Ok(()));
    check(
        Fields {
            level: 156,
            ..FIELDS
        },
        Ok(()),
    );
    check(
        Fields {
            level: 157,
            ..FIELDS
        },
        limit("level"),
    );
    check(
        Fields {
            size: [4096, 2304],
            ..FIELDS
        },
        Ok(()),
    );
    check(
        Fields {
            size: [2304, 4096],
            ..FIELDS
        },
        Ok(()),
    );
    check(
        Fields {
            size: [4097, 16],
            ..FIELDS
        },
        limit("picture size"),
    );
    check(
        Fields {
            size: [16, 4097],
            ..FIELDS
        },
        limit("picture size"),
    );
    check(
        Fields {
            size: [2305, 2305],
            ..FIELDS
        },
        limit("picture size"),
    );
    check(
        Fields {
            size: [u64::from(u32::MAX) - 1; 2],
            ..FIELDS
        },
        limit("picture size"),
    );
    check(
        Fields {
            size: [0, 16],
            ..FIELDS
        },
        Err(Error::Invalid("picture size")),
    );
    check(
        Fields {
            window: Some([0, 159, 119, 0]),
            ..FIELDS
        },
        Ok(()),
    );
    check(
        Fields {
            window: Some([1, 159, 0, 0]),
            ..FIELDS
        },
        Err(Error::Invalid("cropping")),
    );
    check(
        Fields {
            depth: [2, 2],
            ..FIELDS
        },
        Ok(()),
    );
    check(
        Fields {
            depth: [3, 0],
            ..FIELDS
        },
        limit("bit depth"),
    );
    check(
        Fields {
            depth: [0, 3],
            ..FIELDS
        },
        limit("bit depth"),
    );
    check(
        Fields {
            buffering: [15, 15],
            ..FIELDS
        },
        Ok(()),
    );
    check(
        Fields {
            buffering: [16, 0],
            ..FIELDS
        },
        limit("sps_max_dec_pic_buffering"),
    );
    check(
        Fields {
            buffering: [15, 16],
            ..FIELDS
        },
        limit("sps_max_num_reorder_pics"),
    );
    check(
        Fields {
            chroma: 4,
            ..FIELDS
        },
        Err(Error::Invalid("chroma_format_idc")),
    );
    check(
        Fields {
            sub_layers: 6,
            ..FIELDS
        },
        Ok(()),
    );
    check(
        Fields {
            sub_layers: 7,
            ..FIELDS
        },
        Err(Error::Invalid("sps_max_sub_layers")),
    );
}

#[test]
fn reference_picture_sets_are_bounded() {
    let check = |references: fn(Writer) -> Writer, expected: Result<(), Error>| {
        assert_eq!(
            parse(&Fields {
                references,
                ..FIELDS
            })
            .map(drop),
            expected
        );
    };
    fn pictures(w: Writer, negative: u64, positive: u64) -> Writer {
        let w = w.ue(negative).ue(positive);
        (0..negative + positive).fold(w, |w, _| w.ue(0).u(1, 1))
    }
    check(|w| pictures(w.ue(1), 8, 8).u(1, 0), Ok(()));
    check(
        |w| pictures(w.ue(1), 8, 9).u(1, 0),
        Err(Error::Limit("short-term reference pictures")),
    );
    check(
        |w| pictures(w.ue(1), 17, 0).u(1, 0),
        Err(Error::Limit("num_negative_pics")),
    );
    check(
        |w| w.ue(65),
        Err(Error::Limit("num_short_term_ref_pic_sets")),
    );
    // 64 empty sets, each but the first with a flag before.
    check(
        |w| {
            (1..64)
                .fold(w.ue(64).ues(&[0, 0]), |w, _| w.u(1, 0).ues(&[0, 0]))
                .u(1, 0)
        },
        Ok(()),
    );
    // Predicted: three pictures, of which two by themselves, one by use_delta_flag and one not.
    check(
        |w| {
            pictures(w.ue(2), 3, 0)
                .u(1, 1)
                .u(1, 0)
                .ue(0)
                .u(1, 1)
                .u(1, 1)
                .u(2, 1)
                .u(2, 0)
                .u(1, 0)
        },
        Ok(()),
    );
    // A predicted set may list one more than the set before: from 16 that is one too many.
    check(
        |w| {
            pictures(w.ue(2), 8, 8)
                .u(1, 1)
                .u(1, 0)
                .ue(0)
                .u(17, 0x1_ffff)
                .u(1, 0)
        },
        Err(Error::Limit("short-term reference pictures")),
    );
    check(
        |w| (0..32).fold(w.ue(0).u(1, 1).ue(32), |w, _| w.u(9, 0)),
        Ok(()),
    );
    check(
        |w| w.ue(0).u(1, 1).ue(33),
        Err(Error::Limit("num_long_term_ref_pics")),
    );
}

#[test]
fn usability_information_is_bounded() {
    fn hrd(w: Writer, count: u64) -> Writer {
        // Nothing but timing and a NAL HRD without sub-pictures; a rate that is not fixed, no low delay.
        let w = w
            .u(1, 1)
            .u(4, 0)
            .u(3, 0b010)
            .u(1, 0)
            .u(1, 1)
            .u(32, 1001)
            .u(32, 60_000);
        let w = w.u(1, 0).u(1, 1).u(2, 0b10).u(1, 0).u(8, 0).u(15, 0);
        let w = w.u(3, 0).ue(count - 1);
        (0..count).fold(w, |w, _| w.ue(0).ue(0).u(1, 0)).u(1, 0)
    }
    let check = |vui: fn(Writer) -> Writer| parse(&Fields { vui, ..FIELDS });
    let sps = check(|w| hrd(w, 32)).expect("valid");
    assert_eq!(sps.video.frame_rate, Rational::new(60_000, 1001));
    assert!(sps.interlaced, "a sequence of fields");
    assert_eq!(check(|w| hrd(w, 33)), Err(Error::Limit("cpb_cnt")));
    assert_eq!(
        check(|w| w.u(1, 1)).map(drop),
        Ok(()),
        "cut short: as if absent"
    );
}

#[test]
fn units_keep_slices_sei_and_ends_only() {
    let config = h265();
    let [vps, sps, pps] = sets(&config);
    let check = |units: &[&[u8]], kept: &[&[u8]], keyframe: bool, sets: bool| {
        let normalized = normalize(&prefixed(units), 4).expect("valid");
        assert_eq!(normalized.data, prefixed(kept));
        assert_eq!(normalized.keyframe, keyframe);
        assert_eq!(normalized.parameter_sets, sets.then(|| config.clone()));
    };
    check(
        &[AUD, &vps, &sps, &pps, SEI, IDR, SUFFIX],
        &[SEI, IDR, SUFFIX],
        true,
        true,
    );
    check(
        &[AUD, TRAIL, TRAIL, FILLER, END],
        &[TRAIL, TRAIL, END],
        false,
        false,
    );
    check(&[CRA], &[CRA], true, false);
    check(&[BLA], &[BLA], true, false);
    check(&[IDR, TRAIL], &[IDR, TRAIL], false, false);
    check(&[&vps, &sps, &pps], &[], false, true);
    check(&[&pps, IDR], &[IDR], true, false);
    // Another layer, reserved and unspecified types.
    check(
        &[IDR, &[0x26, 9, 1], &[0x2c, 1], &[0x7c, 1, 5]],
        &[IDR],
        true,
        false,
    );
    check(&[], &[], false, false);
    assert!(is_cra(&prefixed(&[SEI, CRA])));
    assert!(!is_cra(&prefixed(&[SEI, IDR])));
    assert!(!is_cra(&[0, 0]));
}

#[test]
fn damaged_units_are_refused() {
    let check = |units: &[&[u8]], expected| {
        assert_eq!(normalize(&prefixed(units), 4), Err(expected));
    };
    check(&[&[0x26]], Error::Truncated("NAL unit header"));
    check(&[&[0xa6, 1, 1]], Error::Invalid("NAL unit header"));
    check(&[&[0x26, 0, 1]], Error::Invalid("NAL unit header"));
    check(&[&[]], Error::Invalid("empty NAL unit"));
    check(&[&[0x42, 1, 1], IDR], Error::Truncated("SPS"));
    check(
        &[PPS; SETS_PER_UNIT_MAX + 1],
        Error::Limit("parameter sets"),
    );
}

#[test]
fn a_set_on_its_own_joins_those_in_force() {
    let config = h265();
    let [_, sps, pps] = sets(&config);
    for set in [&sps, &pps] {
        let unit = config.normalize(&prefixed(&[set, IDR]), 4).expect("valid");
        assert_eq!(unit.parameter_sets.as_ref(), Some(&config));
    }
    let unit = config.normalize(&prefixed(&[IDR]), 4).expect("valid");
    assert_eq!(unit.parameter_sets, None);
}
