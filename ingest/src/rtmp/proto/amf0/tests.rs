use super::*;
use crate::rtmp::proto::testing::Random;

fn encoded(values: &[Value]) -> BytesMut {
    let mut out = BytesMut::new();
    values.iter().for_each(|value| value.encode(&mut out));
    out
}

fn decode(bytes: &[u8]) -> Result<Vec<Value>, ErrorKind> {
    let mut decoder = Decoder::new(bytes).map_err(|error| error.kind)?;
    let mut values = Vec::new();
    while let Some(value) = decoder.value().map_err(|error| error.kind)? {
        values.push(value);
    }
    Ok(values)
}

/// `levels` objects inside each other, around a number.
fn nested(levels: usize) -> Vec<u8> {
    let mut bytes = [marker::OBJECT, 0, 1, b'a'].repeat(levels);
    bytes.extend([marker::NUMBER, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend([0, 0, marker::OBJECT_END].repeat(levels));
    bytes
}

#[test]
fn every_kind_of_value_survives_the_wire() {
    let values = [
        Value::Number(-1.5),
        Value::Boolean(true),
        Value::from("key"),
        Value::Null,
        Value::Undefined,
        Value::Date(1e12),
        Value::String("l".repeat(0xffff)),
        Value::StrictArray(vec![1.0.into(), Value::Null]),
        object([("a", 1.0.into()), ("", object([("é", "ü".into())]))]),
        Value::EcmaArray(vec![("width".to_owned(), 1920.0.into())]),
    ];
    assert_eq!(decode(&encoded(&values)).unwrap(), values);
}

#[test]
fn the_forms_only_others_send_are_read() {
    let long = [&[marker::LONG_STRING, 0, 0, 0, 2][..], b"ab"].concat();
    assert_eq!(decode(&long), Ok(vec!["ab".into()]));
    let xml = [&[marker::XML_DOCUMENT, 0, 0, 0, 3][..], b"<a>"].concat();
    assert_eq!(decode(&xml), Ok(vec!["<a>".into()]));
    let typed = [
        &[marker::TYPED_OBJECT, 0, 1, b'C'][..],
        &[0, 1, b'a', marker::NULL, 0, 0, 9],
    ]
    .concat();
    assert_eq!(decode(&typed), Ok(vec![object([("a", Value::Null)])]));
    assert_eq!(
        decode(&[marker::REFERENCE, 0, 7]),
        Ok(vec![Value::Undefined])
    );
    assert_eq!(
        decode(&[marker::STRING, 0, 2, 0xff, b'a']),
        Ok(vec!["\u{fffd}a".into()])
    );
}

#[test]
fn an_array_whose_count_lies_or_whose_end_is_missing_is_read() {
    let body = [0, 1, b'a', marker::NULL];
    let lies = [
        &[marker::ECMA_ARRAY, 0xff, 0xff, 0xff, 0xff][..],
        &body,
        &[0, 0, 9],
    ]
    .concat();
    let expected = Value::EcmaArray(vec![("a".to_owned(), Value::Null)]);
    assert_eq!(decode(&lies), Ok(vec![expected.clone()]));
    assert_eq!(decode(&lies[..lies.len() - 3]), Ok(vec![expected]));
}

#[test]
fn nesting_is_bounded() {
    // The number inside is a level too.
    assert!(decode(&nested(DEPTH_MAX - 1)).is_ok());
    assert_eq!(decode(&nested(DEPTH_MAX)), Err(ErrorKind::Depth));
    // What crashed every RTMP library tried: 800 kB of openings.
    let bomb = [marker::OBJECT, 0, 1, b'a'].repeat(50_000);
    assert_eq!(decode(&bomb), Err(ErrorKind::Depth));
    let bomb = [marker::STRICT_ARRAY, 0, 0, 0, 1].repeat(50_000);
    assert_eq!(decode(&bomb), Err(ErrorKind::Depth));
}

#[test]
fn the_number_of_elements_is_bounded() {
    let at = vec![Value::Null; ELEMENTS_MAX];
    assert_eq!(
        decode(&encoded(&at)).map(|values| values.len()),
        Ok(ELEMENTS_MAX)
    );
    let over = vec![Value::Null; ELEMENTS_MAX + 1];
    assert_eq!(decode(&encoded(&over)), Err(ErrorKind::Elements));
    let array = |count: usize| Value::StrictArray(vec![Value::Null; count]);
    assert!(decode(&encoded(&[array(ELEMENTS_MAX - 1)])).is_ok());
    assert_eq!(
        decode(&encoded(&[array(ELEMENTS_MAX)])),
        Err(ErrorKind::Elements)
    );
    // A count is not believed: four billion items of nothing.
    assert_eq!(
        decode(&[marker::STRICT_ARRAY, 0xff, 0xff, 0xff, 0xff]),
        Err(ErrorKind::Truncated)
    );
}

#[test]
fn strings_and_messages_are_bounded() {
    let string = |length: usize| encoded(&[Value::String("s".repeat(length))]);
    assert!(decode(&string(STRING_BYTES_MAX)).is_ok());
    assert_eq!(
        decode(&string(STRING_BYTES_MAX + 1)),
        Err(ErrorKind::String)
    );
    // Strings of 64 kB less their header fill the message.
    let message = |spare: usize| {
        let mut bytes = string(STRING_BYTES_MAX).repeat(3);
        let rest = MESSAGE_BYTES_MAX - bytes.len() - 3 + spare;
        bytes.extend(encoded(&[Value::String("s".repeat(rest.min(0xffff)))]));
        bytes.resize(MESSAGE_BYTES_MAX + spare, marker::NULL);
        bytes
    };
    assert!(decode(&message(0)).is_ok());
    assert_eq!(decode(&message(1)), Err(ErrorKind::Message));
}

#[test]
fn whatever_is_cut_short_is_an_error_or_less() {
    let values = [
        object([
            ("a", "text".into()),
            ("b", Value::StrictArray(vec![1.0.into()])),
        ]),
        Value::Date(1.0),
    ];
    let bytes = encoded(&values);
    for length in 0..bytes.len() {
        match decode(&bytes[..length]) {
            Ok(values) => assert!(values.len() < 2, "{length} bytes"),
            Err(kind) => assert_eq!(kind, ErrorKind::Truncated, "{length} bytes"),
        }
    }
}

#[test]
fn an_error_says_where() {
    let mut decoder = Decoder::new(&[marker::NULL, marker::NULL, 0x11]).unwrap();
    decoder.value().unwrap();
    decoder.value().unwrap();
    let error = decoder.value().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Marker(0x11));
    assert_eq!(error.offset, 3);
}

#[test]
fn random_bytes_make_values_or_errors() {
    for seed in 0..2000 {
        let mut random = Random(seed);
        let length = random.below(200);
        let mut bytes = random.bytes(length);
        // Mostly markers, so that something nests.
        bytes.iter_mut().step_by(2).for_each(|byte| *byte %= 0x12);
        if let Ok(values) = decode(&bytes) {
            let again = decode(&encoded(&values)).unwrap();
            assert_eq!(format!("{again:?}"), format!("{values:?}"), "seed {seed}");
        }
    }
}
