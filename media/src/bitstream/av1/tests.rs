use super::super::fixtures::{AV1C, AV1C_10, Writer, av1, hex};
use super::*;
use crate::Rational;

const DELIMITER: &[u8] = &[0x12, 0];
/// An OBU_FRAME with a shown key frame; one with an inter frame.
const KEY: &[u8] = &[0x32, 2, 0x10, 7];
const INTER: &[u8] = &[0x32, 2, 0x30, 7];
const PADDING: &[u8] = &[0x7a, 1, 0x80];
const METADATA: &[u8] = &[0x2a, 2, 1, 0x80];

fn sequence() -> Bytes {
    av1().record().slice(4..)
}

fn unit(obus: &[&[u8]]) -> Bytes {
    obus.concat().into()
}

#[test]
fn a_record_says_what_the_encoder_was_told() {
    let config = av1();
    assert_eq!(
        config.record(),
        &hex(AV1C),
        "FFmpeg's record is canonical already"
    );
    assert_eq!(config.rfc6381(), "av01.0.01M.08");
    assert_eq!((config.video().width, config.video().height), (640, 360));
    let ten = Config::from_record(hex(AV1C_10)).expect("a good record");
    assert_eq!(ten.record(), &hex(AV1C_10));
    assert_eq!(ten.rfc6381(), "av01.0.01M.10");
    assert_eq!(ten.sequence_header().bit_depth, 10);
    assert_eq!(Config::from_sequence_header(&sequence()), Ok(config));
}

#[test]
fn records_with_the_same_sequence_header_are_equal() {
    let head = &hex(AV1C)[..4];
    let payload = &sequence()[2..];
    // Without a size; with an extension; behind metadata; sizes in more bytes than needed.
    let forms: [Vec<u8>; 4] = [
        [&[0x08], payload].concat(),
        [&[0x0e, 0x20, 0x0b], payload].concat(),
        [METADATA, &sequence()].concat(),
        [&[0x0a, 0x8b, 0x80, 0x00], payload].concat(),
    ];
    for form in forms {
        let record = Bytes::from([head, &form].concat());
        assert_eq!(Config::from_record(record), Ok(av1()), "{form:02x?}");
    }
}

#[test]
fn a_damaged_record_is_refused() {
    let record = hex(AV1C);
    for len in 0..4 {
        assert_eq!(
            Config::from_record(record.slice(..len)),
            Err(Error::Truncated("av1C"))
        );
    }
    assert_eq!(
        Config::from_record(record.slice(..4)),
        Err(Error::Missing("sequence header"))
    );
    for len in 5..record.len() {
        assert_eq!(
            Config::from_record(record.slice(..len)),
            Err(Error::Truncated("OBU"))
        );
    }
    let check = |at: usize, value: u8| {
        let mut record = record.to_vec();
        record[at] = value;
        Config::from_record(record.into())
    };
    assert_eq!(check(0, 0x82), Err(Error::Unsupported("av1C version")));
    assert_eq!(check(4, 0x8a), Err(Error::Invalid("OBU header")));
    assert_eq!(check(4, 0x12), Err(Error::Missing("sequence header")));
    let endless = Bytes::from([&record[..5], &[0x80; 9]].concat());
    assert_eq!(
        Config::from_record(endless),
        Err(Error::Invalid("OBU size"))
    );
    let huge = Bytes::from([&record[..5], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat());
    assert_eq!(Config::from_record(huge), Err(Error::Truncated("OBU")));
}

/// A sequence header with fields to choose.
struct Fields {
    profile: u64,
    timing: fn(Writer) -> Writer,
    levels: &'static [u64],
    size: [u64; 2],
    color: fn(Writer) -> Writer,
}

const FIELDS: Fields = Fields {
    profile: 0,
    timing: |w| w.u(1, 0),
    levels: &[8],
    size: [320, 240],
    // 8 bits, colour, nothing said, limited range, unknown position.
    color: |w| w.u(6, 0),
};

fn parse(fields: &Fields) -> Result<Config, Error> {
    let w = (fields.timing)(Writer::default().u(3, fields.profile).u(2, 0)).u(1, 0);
    let w = w.u(5, u64::try_from(fields.levels.len()).expect("few") - 1);
    let w = fields.levels.iter().fold(w, |w, &level| {
        let w = w.u(12, 0).u(5, level);
        if level > 7 { w.u(1, 0) } else { w }
    });
    let w = w
        .u(8, 0xff)
        .u(16, fields.size[0] - 1)
        .u(16, fields.size[1] - 1);
    // No frame ids; no tools but order hints of 7 bits; screen content and integer motion chosen by frames.
    let w = w
        .u(1, 0)
        .u(3, 0)
        .u(4, 0)
        .u(1, 1)
        .u(2, 0)
        .u(2, 0b11)
        .u(3, 6)
        .u(3, 0);
    let mut out = BytesMut::new();
    // No emulation prevention in AV1; the writer adds none here, for lack of zeros, or it is taken out again.
    let payload = super::super::bits::unescape(&(fields.color)(w).u(2, 0).nal());
    put_obu_header(&mut out, obu::SEQUENCE_HEADER, None, payload.len());
    out.put_slice(&payload);
    Config::from_sequence_header(&out)
}

#[test]
fn the_limits_hold_at_their_edges() {
    let check = |fields: Fields, expected: Result<(), Error>| {
        assert_eq!(parse(&fields).map(drop), expected);
    };
    let limit = |what| Err(Error::Limit(what));
    check(FIELDS, Ok(()));
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
            size: [4097, 1],
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
            size: [65_536, 65_536],
            ..FIELDS
        },
        limit("picture size"),
    );
    check(
        Fields {
            levels: &[14],
            ..FIELDS
        },
        Ok(()),
    );
    check(
        Fields {
            levels: &[15],
            ..FIELDS
        },
        limit("level"),
    );
    check(
        Fields {
            levels: &[31],
            ..FIELDS
        },
        Ok(()),
    );
    check(
        Fields {
            levels: &[8, 30],
            ..FIELDS
        },
        limit("level"),
    );
    check(
        Fields {
            levels: &[8; 32],
            ..FIELDS
        },
        Ok(()),
    );
    check(
        Fields {
            profile: 3,
            ..FIELDS
        },
        Err(Error::Invalid("seq_profile")),
    );
    check(
        Fields {
            profile: 2,
            color: |w| w.u(2, 0b11).u(7, 0),
            ..FIELDS
        },
        limit("bit depth"),
    );
}

#[test]
fn colours_and_rates_are_read() {
    let color = |profile, color: fn(Writer) -> Writer| {
        parse(&Fields {
            profile,
            color,
            ..FIELDS
        })
        .expect("valid")
        .rfc6381()
    };
    assert_eq!(color(0, |w| w.u(6, 0)), "av01.0.08M.08");
    // BT.709 throughout is what the short form means.
    assert_eq!(
        color(0, |w| w.u(3, 1).u(24, 0x01_01_01).u(4, 0)),
        "av01.0.08M.08"
    );
    // The example of the specification: 10 bits, BT.2100 PQ, colocated chroma samples.
    assert_eq!(
        color(0, |w| w
            .u(3, 0b101)
            .u(24, 0x09_10_09)
            .u(1, 0)
            .u(2, 2)
            .u(1, 0)),
        "av01.0.08M.10.0.112.09.16.09.0"
    );
    assert_eq!(
        color(0, |w| w.u(3, 0b010).u(1, 1)),
        "av01.0.08M.08.1.110.02.02.02.1"
    );
    assert_eq!(
        color(1, |w| w.u(2, 0).u(2, 0)),
        "av01.1.08M.08.0.000.02.02.02.0"
    );
    assert_eq!(
        color(2, |w| w.u(3, 0).u(2, 0)),
        "av01.2.08M.08.0.100.02.02.02.0"
    );
    // sRGB: full range and 4:4:4 without a word.
    assert_eq!(
        color(1, |w| w.u(2, 1).u(24, 0x01_0d_00).u(1, 0)),
        "av01.1.08M.08.0.000.01.13.00.1"
    );

    let rate = |timing: fn(Writer) -> Writer| {
        parse(&Fields { timing, ..FIELDS })
            .expect("valid")
            .video()
            .frame_rate
    };
    assert_eq!(rate(|w| w.u(1, 0)), None);
    assert_eq!(
        rate(|w| w.u(1, 1).u(32, 1001).u(32, 60_000).u(1, 1).ue(1).u(1, 0)),
        Rational::new(30_000, 1001)
    );
    assert_eq!(
        rate(|w| w.u(1, 1).u(32, 1).u(32, 30).u(1, 0).u(1, 0)),
        None,
        "not a fixed rate"
    );
}

#[test]
fn units_lose_delimiters_and_padding_only() {
    let sequence = sequence();
    let check = |obus: &[&[u8]], kept: &[&[u8]], keyframe: bool, sets: bool| {
        let normalized = normalize(&unit(obus)).expect("valid");
        assert_eq!(normalized.data, unit(kept), "{obus:02x?}");
        assert_eq!(normalized.keyframe, keyframe, "{obus:02x?}");
        assert_eq!(normalized.parameter_sets, sets.then(av1));
    };
    check(&[DELIMITER, &sequence, KEY], &[&sequence, KEY], true, true);
    check(
        &[&sequence, METADATA, KEY, PADDING],
        &[&sequence, METADATA, KEY],
        true,
        true,
    );
    check(&[DELIMITER, INTER], &[INTER], false, false);
    check(&[KEY], &[KEY], false, false);
    check(&[INTER, PADDING, INTER], &[INTER, INTER], false, false);
    check(
        &[&sequence, INTER, KEY],
        &[&sequence, INTER, KEY],
        false,
        true,
    );
    // A key frame that is not shown; one that is shown later; tile lists and reserved types.
    check(
        &[&sequence, &[0x32, 1, 0x00]],
        &[&sequence, &[0x32, 1, 0x00]],
        false,
        true,
    );
    check(
        &[&sequence, &[0x1a, 1, 0x90]],
        &[&sequence, &[0x1a, 1, 0x90]],
        false,
        true,
    );
    check(
        &[&sequence, KEY, &[0x42, 0], &[0x4a, 0]],
        &[&sequence, KEY],
        true,
        true,
    );
    check(&[&sequence], &[], false, true);
    check(&[DELIMITER], &[], false, false);
    // The last OBU gets a size.
    check(
        &[&sequence, &[0x30, 0x10, 7]],
        &[&sequence, KEY],
        true,
        true,
    );
    check(
        &[&sequence, &[0x34, 8, 0x10]],
        &[&sequence, &[0x36, 8, 1, 0x10]],
        true,
        true,
    );
}

#[test]
fn a_unit_that_needs_no_change_is_shared() {
    let data = unit(&[DELIMITER, &sequence(), KEY]);
    let normalized = normalize(&data).expect("valid");
    assert_eq!(normalized.data.as_ptr(), data[2..].as_ptr());
}

#[test]
fn damaged_units_are_refused() {
    let check = |obus: &[&[u8]], expected| assert_eq!(normalize(&unit(obus)), Err(expected));
    check(&[], Error::Truncated("temporal unit"));
    check(&[&[0x32, 3, 0x10]], Error::Truncated("OBU"));
    check(&[&[0x32]], Error::Truncated("OBU"));
    check(&[&[0x36, 0]], Error::Truncated("OBU"));
    check(&[&[0xb2, 0]], Error::Invalid("OBU header"));
    check(&[&[0x32, 0]], Error::Truncated("frame header"));
    check(&[&[0x0a, 1, 0]], Error::Truncated("sequence header"));
}
