use super::super::fixtures::{AVCC, Writer, h264, hex, prefixed};
use super::super::{Chroma, Color};
use super::*;
use crate::Rational;

const PPS: &[u8] = &[0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];
const SLICE: &[u8] = &[0x41, 0x9a, 1, 2];
const IDR: &[u8] = &[0x65, 0x88, 3, 4];
const SEI: &[u8] = &[6, 5, 1, 9, 0x80];
const AUD: &[u8] = &[9, 0x10];
const FILLER: &[u8] = &[12, 0xff, 0xff, 0x80];

fn sps_of(config: &Config) -> Bytes {
    annexb::split(&config.annexb())
        .next()
        .expect("the SPS comes first")
}

#[test]
fn a_record_says_what_the_encoder_was_told() {
    let config = h264();
    assert_eq!(config.rfc6381(), "avc1.640028");
    let sps = config.sps();
    assert_eq!(
        (sps.profile_idc, sps.constraints, sps.level_idc),
        (100, 0, 40)
    );
    assert_eq!((sps.coded_width, sps.coded_height), (1920, 1088));
    assert_eq!((config.video().width, config.video().height), (1920, 1080));
    assert_eq!(config.video().frame_rate, Rational::new(30, 1));
    assert_eq!(
        (sps.chroma, sps.bit_depth_luma, sps.interlaced),
        (Chroma::Yuv420, 8, false)
    );
    assert_eq!(
        (sps.max_ref_frames, sps.max_reorder, sps.color),
        (4, 2, Color::UNSPECIFIED)
    );
    assert_eq!(
        config.record(),
        &hex(AVCC),
        "FFmpeg's record is canonical already"
    );
    assert_eq!(length_size(config.record()), Ok(4));
}

#[test]
fn records_with_the_same_sets_are_equal() {
    let config = h264();
    let sps = sps_of(&config);
    assert_eq!(Config::from_parameter_sets(&sps, PPS), Ok(config.clone()));
    // Another length size, no chroma fields at the end (as older encoders write), zeros after a set.
    let mut other = hex(AVCC).to_vec();
    other[4] = 0xfd;
    other.truncate(other.len() - 4);
    assert_eq!(length_size(&other), Ok(2));
    assert_eq!(Config::from_record(other.into()), Ok(config.clone()));
    let padded = [&sps[..], &[0, 0]].concat();
    assert_eq!(
        Config::from_parameter_sets(&padded, PPS),
        Ok(config.clone())
    );
    assert_eq!(Config::from_record(config.record().clone()), Ok(config));
}

#[test]
fn a_cut_record_is_refused_everywhere() {
    let record = hex(AVCC);
    // The last four bytes are optional.
    for len in 0..record.len() - 4 {
        let cut = Config::from_record(record.slice(..len));
        assert_eq!(cut, Err(Error::Truncated("avcC")), "{len} bytes");
    }
    let check = |at: usize, value: u8| {
        let mut record = record.to_vec();
        record[at] = value;
        Config::from_record(record.into())
    };
    assert_eq!(check(0, 2), Err(Error::Unsupported("avcC version")));
    assert_eq!(check(8, 0x68), Err(Error::Invalid("parameter set")));
    let no_pps = [&record[..8 + 27], &[0]].concat();
    assert_eq!(
        Config::from_record(no_pps.into()),
        Err(Error::Missing("PPS"))
    );
    let no_sps = [&record[..5], &[0xe0, 1, 0, 6], PPS].concat();
    assert_eq!(
        Config::from_record(no_sps.into()),
        Err(Error::Missing("SPS"))
    );
    let huge = [&record[..], &[0; RECORD_BYTES_MAX]].concat();
    assert_eq!(Config::from_record(huge.into()), Err(Error::Limit("avcC")));
}

/// An SPS of High profile with fields to choose.
struct Fields {
    level: u64,
    chroma_and_depth: [u64; 3],
    poc: &'static [u64],
    refs: u64,
    mbs: [u64; 2],
    crop: Option<[u64; 4]>,
    vui: fn(Writer) -> Writer,
}

const FIELDS: Fields = Fields {
    level: 40,
    chroma_and_depth: [1, 0, 0],
    poc: &[2],
    refs: 4,
    mbs: [19, 14],
    crop: None,
    vui: |w| w.u(1, 0),
};

fn write(fields: &Fields) -> Vec<u8> {
    let mut w = Writer::new(&[0x67, 100, 0]).u(8, fields.level).ue(0);
    w = w.ue(fields.chroma_and_depth[0]);
    if fields.chroma_and_depth[0] == 3 {
        w = w.u(1, 0);
    }
    w = w
        .ues(&fields.chroma_and_depth[1..])
        .u(2, 0)
        .ue(0)
        .ue(fields.poc[0]);
    if fields.poc[0] == 1 {
        w = w.u(1, 0);
    }
    w = w
        .ues(&fields.poc[1..])
        .ue(fields.refs)
        .u(1, 0)
        .ues(&fields.mbs)
        .u(2, 0b11);
    w = w.u(1, u64::from(fields.crop.is_some()));
    w = fields.crop.iter().fold(w, |w, crop| w.ues(crop));
    (fields.vui)(w).nal()
}

fn parse(fields: &Fields) -> Result<Sps, Error> {
    Config::from_parameter_sets(&write(fields), PPS).map(|config| config.sps().clone())
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
            level: 52,
            ..FIELDS
        },
        Ok(()),
    );
    check(
        Fields {
            level: 53,
            ..FIELDS
        },
        limit("level"),
    );
    check(
        Fields {
            level: 255,
            ..FIELDS
        },
        limit("level"),
    );
    check(Fields { refs: 16, ..FIELDS }, Ok(()));
    check(Fields { refs: 17, ..FIELDS }, limit("max_num_ref_frames"));
    check(
        Fields {
            refs: u32::MAX.into(),
            ..FIELDS
        },
        Err(Error::Invalid("SPS")),
    );
    check(
        Fields {
            chroma_and_depth: [1, 2, 2],
            ..FIELDS
        },
        Ok(()),
    );
    check(
        Fields {
            chroma_and_depth: [1, 3, 0],
            ..FIELDS
        },
        limit("bit depth"),
    );
    check(
        Fields {
            chroma_and_depth: [1, 0, 3],
            ..FIELDS
        },
        limit("bit depth"),
    );
    check(
        Fields {
            chroma_and_depth: [1, 300, 0],
            ..FIELDS
        },
        limit("bit depth"),
    );
    check(
        Fields {
            chroma_and_depth: [4, 0, 0],
            ..FIELDS
        },
        Err(Error::Invalid("chroma_format_idc")),
    );
    check(
        Fields {
            poc: &[3],
            ..FIELDS
        },
        Err(Error::Invalid("pic_order_cnt_type")),
    );
    check(
        Fields {
            poc: &[0, 13],
            ..FIELDS
        },
        limit("log2_max_pic_order_cnt_lsb"),
    );
    // 256 x 144 macroblocks are 4096x2304; one more either way is too much.
    check(
        Fields {
            mbs: [255, 143],
            ..FIELDS
        },
        Ok(()),
    );
    check(
        Fields {
            mbs: [143, 255],
            ..FIELDS
        },
        Ok(()),
    );
    check(
        Fields {
            mbs: [256, 1],
            ..FIELDS
        },
        limit("picture size"),
    );
    check(
        Fields {
            mbs: [1, 256],
            ..FIELDS
        },
        limit("picture size"),
    );
    check(
        Fields {
            mbs: [144, 144],
            ..FIELDS
        },
        limit("picture size"),
    );
    check(
        Fields {
            mbs: [u64::from(u32::MAX) - 1; 2],
            ..FIELDS
        },
        limit("picture size"),
    );
    // Cropping may not hide the size or eat the picture.
    check(
        Fields {
            mbs: [256, 143],
            crop: Some([8, 0, 0, 0]),
            ..FIELDS
        },
        limit("picture size"),
    );
    check(
        Fields {
            crop: Some([159, 0, 0, 119]),
            ..FIELDS
        },
        Ok(()),
    );
    check(
        Fields {
            crop: Some([159, 1, 0, 0]),
            ..FIELDS
        },
        Err(Error::Invalid("cropping")),
    );
    let most = u64::from(u32::MAX) - 1;
    check(
        Fields {
            crop: Some([0, 0, most, most]),
            ..FIELDS
        },
        Err(Error::Invalid("cropping")),
    );
}

#[test]
fn an_order_count_cycle_ends_at_255() {
    let cycle = |len: u64| {
        let mut poc = vec![1, 0, 0, len];
        poc.extend(std::iter::repeat_n(0, usize::try_from(len).expect("few")));
        parse(&Fields {
            poc: poc.leak(),
            ..FIELDS
        })
        .map(drop)
    };
    assert_eq!(cycle(255), Ok(()));
    assert_eq!(
        cycle(256),
        Err(Error::Limit("num_ref_frames_in_pic_order_cnt_cycle"))
    );
    // A count alone makes no work: the bits for it have to be there.
    let poc = &[1, 0, 0, 255];
    assert!(parse(&Fields { poc, ..FIELDS }).is_err());
}

#[test]
fn usability_information_is_bounded() {
    let check = |vui: fn(Writer) -> Writer, expected: Result<(), Error>| {
        assert_eq!(parse(&Fields { vui, ..FIELDS }).map(drop), expected);
    };
    fn with_cpbs(w: Writer, count: u64) -> Writer {
        // No aspect, overscan, signal, chroma or timing; a NAL HRD.
        let w = w.u(1, 1).u(5, 0).u(1, 1).ue(count - 1).u(8, 0);
        let w = (0..count).fold(w, |w, _| w.ue(0).ue(0).u(1, 0));
        // Lengths; no VCL HRD; low delay; no pic_struct, no restrictions.
        w.u(20, 0).u(4, 0)
    }
    check(|w| with_cpbs(w, 1), Ok(()));
    check(|w| with_cpbs(w, 32), Ok(()));
    check(|w| with_cpbs(w, 33), Err(Error::Limit("cpb_cnt")));
    fn with_reorder(w: Writer, reorder: u64) -> Writer {
        w.u(1, 1)
            .u(5, 0)
            .u(2, 0)
            .u(1, 0)
            .u(1, 1)
            .u(1, 0)
            .ues(&[0, 0, 0, 0, reorder, reorder])
    }
    check(|w| with_reorder(w, 16), Ok(()));
    check(
        |w| with_reorder(w, 17),
        Err(Error::Limit("max_num_reorder_frames")),
    );
    check(|w| w.u(1, 1), Ok(()));
    let cut = parse(&Fields {
        vui: |w| w.u(1, 1).u(1, 1).u(8, 14).u(2, 0),
        ..FIELDS
    });
    assert_eq!(
        cut.map(|sps| sps.video.sample_aspect),
        Ok(Rational::ONE),
        "as if absent"
    );

    fn timed(w: Writer, units: u64, scale: u64) -> Writer {
        w.u(1, 1)
            .u(4, 0)
            .u(1, 1)
            .u(32, units)
            .u(32, scale)
            .u(1, 1)
            .u(4, 0)
    }
    let rate = |vui| {
        parse(&Fields { vui, ..FIELDS })
            .expect("valid")
            .video
            .frame_rate
    };
    assert_eq!(
        rate(|w| timed(w, 1001, 60_000)),
        Rational::new(30_000, 1001)
    );
    assert_eq!(rate(|w| timed(w, 0, 60_000)), None);
    assert_eq!(rate(|w| timed(w, 1, 0)), None);
    assert_eq!(rate(|w| timed(w, 1, 180_000)), None, "a clock, not a rate");
    assert_eq!(
        rate(|w| timed(w, 0x8000_0000, 0x8000_0000)),
        Rational::new(1, 2)
    );
    fn aspect(w: Writer, idc: u64, width: u64, height: u64) -> Writer {
        let w = w.u(1, 1).u(1, 1).u(8, idc);
        let w = if idc == 255 {
            w.u(16, width).u(16, height)
        } else {
            w
        };
        w.u(8, 0)
    }
    let sar = |vui| {
        parse(&Fields { vui, ..FIELDS })
            .expect("valid")
            .video
            .sample_aspect
    };
    assert_eq!(
        sar(|w| aspect(w, 14, 0, 0)),
        Rational::new(4, 3).expect("not zero")
    );
    assert_eq!(sar(|w| aspect(w, 17, 0, 0)), Rational::ONE, "reserved");
    assert_eq!(
        sar(|w| aspect(w, 255, 64, 45)),
        Rational::new(64, 45).expect("not zero")
    );
    assert_eq!(sar(|w| aspect(w, 255, 0, 45)), Rational::ONE);
    assert_eq!(sar(|w| aspect(w, 255, 4, 0)), Rational::ONE);
}

#[test]
fn units_keep_slices_and_sei_only() {
    let config = h264();
    let sps = sps_of(&config);
    let check = |units: &[&[u8]], kept: &[&[u8]], keyframe: bool, sets: bool| {
        let normalized = normalize(&prefixed(units), 4).expect("valid");
        assert_eq!(normalized.data, prefixed(kept));
        assert_eq!(normalized.keyframe, keyframe);
        assert_eq!(normalized.parameter_sets, sets.then(|| config.clone()));
    };
    check(&[AUD, &sps, PPS, SEI, IDR], &[SEI, IDR], true, true);
    check(&[AUD, SLICE, SLICE, FILLER], &[SLICE, SLICE], false, false);
    check(&[SLICE], &[SLICE], false, false);
    check(&[IDR, FILLER, IDR], &[IDR, IDR], true, false);
    check(&[IDR, SLICE], &[IDR, SLICE], false, false);
    check(&[&sps, PPS], &[], false, true);
    check(&[PPS, IDR], &[IDR], true, false);
    check(&[AUD, SEI], &[], false, false);
    check(
        &[IDR, &[10], &[11], &[0x14, 1], &[0x1f]],
        &[IDR],
        true,
        false,
    );
    check(&[], &[], false, false);
}

#[test]
fn a_unit_that_needs_no_change_is_shared() {
    let data = prefixed(&[AUD, SEI, IDR]);
    let normalized = normalize(&data, 4).expect("valid");
    assert_eq!(normalized.data.as_ptr(), data[4 + AUD.len()..].as_ptr());
    let short = Bytes::from([&[0, 4], IDR, &[0, 2], AUD, &[0, 4], SLICE].concat());
    assert_eq!(
        normalize(&short, 2).map(|n| n.data),
        Ok(prefixed(&[IDR, SLICE]))
    );
}

#[test]
fn damaged_units_are_refused() {
    let check = |data: &[u8], expected| {
        assert_eq!(normalize(&Bytes::copy_from_slice(data), 4), Err(expected));
    };
    check(&[0, 0, 0, 0], Error::Invalid("empty NAL unit"));
    check(&[0, 0, 0, 5, 0x65], Error::Truncated("NAL unit"));
    check(&[0, 0, 0], Error::Truncated("NAL unit length"));
    check(
        &prefixed(&[IDR, &[0xe5, 1]]),
        Error::Invalid("NAL unit header"),
    );
    check(
        &prefixed(&[&[0x67, 100, 0, 40], IDR]),
        Error::Truncated("SPS"),
    );
    check(&prefixed(&[&[0x68], IDR]), Error::Truncated("PPS"));
    let many = vec![PPS; SETS_PER_UNIT_MAX + 1];
    check(&prefixed(&many), Error::Limit("parameter sets"));
}

#[test]
fn a_set_on_its_own_joins_those_in_force() {
    let config = h264();
    let sps = sps_of(&config);
    let unit = |units: &[&[u8]]| {
        config
            .normalize(&prefixed(units), 4)
            .map(|n| n.parameter_sets)
    };
    assert_eq!(unit(&[IDR]), Ok(None));
    assert_eq!(unit(&[PPS, IDR]), Ok(Some(config.clone())));
    assert_eq!(unit(&[&sps, IDR]), Ok(Some(config.clone())));
    // PPS 1 of the same SPS: one more set, and resending the first two still changes nothing.
    let second: &[u8] = &[0x68, 0x5a, 0xf8];
    let both = unit(&[second, IDR])
        .expect("valid")
        .expect("a configuration");
    assert_ne!(both, config);
    assert_eq!(annexb::split(&both.annexb()).count(), 3);
    let resent = both
        .normalize(&prefixed(&[&sps, PPS, IDR]), 4)
        .map(|n| n.parameter_sets);
    assert_eq!(resent, Ok(Some(both)));
    // A PPS of an SPS that nobody sent.
    let orphan: &[u8] = &[0x68, 0xa8];
    assert_eq!(unit(&[orphan, IDR]), Err(Error::Missing("SPS")));
}

#[test]
fn a_start_code_smuggles_nothing() {
    let config = h264();
    // Behind one length: a slice, then an SPS of a larger picture that only a byte stream decoder would find.
    let mut fields = Fields {
        mbs: [256, 200],
        ..FIELDS
    };
    let large = write(&fields);
    let smuggled = [IDR, &[0, 0, 1], &large, &[0, 0, 1], PPS].concat();
    let refused = config.normalize(&prefixed(&[&smuggled]), 4);
    assert_eq!(refused, Err(Error::Limit("picture size")));
    // An honest one is found, reported and taken out like any other.
    fields.mbs = [19, 14];
    let small = write(&fields);
    let found = [IDR, &[0, 0, 1], &small, &[0, 0, 0, 1], PPS].concat();
    let normalized = normalize(&prefixed(&[&found]), 4).expect("valid");
    assert_eq!(normalized.data, prefixed(&[IDR]));
    let sets = normalized.parameter_sets.expect("a configuration");
    assert_eq!(sets.video().width, 320);
    // In a record there is no such excuse.
    let twice = [&small[..], &[0, 0, 1], &large].concat();
    let refused = Config::from_parameter_sets(&twice, PPS);
    assert_eq!(refused, Err(Error::Invalid("parameter set")));
}
