//! AMF0: what is read is within its bounds and survives being written.
#![no_main]

use bytes::BytesMut;
use ingest::rtmp::proto::amf0::{DEPTH_MAX, Decoder, ELEMENTS_MAX, Error, Value};
use libfuzzer_sys::fuzz_target;

fn decode(bytes: &[u8]) -> Result<Vec<Value>, Error> {
    let mut decoder = Decoder::new(bytes)?;
    let mut values = Vec::new();
    while let Some(value) = decoder.value()? {
        values.push(value);
    }
    Ok(values)
}

/// Levels and elements of a value.
fn measure(value: &Value) -> (usize, usize) {
    let inner: Vec<_> = match value {
        Value::Object(properties) | Value::EcmaArray(properties) => {
            properties.iter().map(|(_, value)| measure(value)).collect()
        }
        Value::StrictArray(items) => items.iter().map(measure).collect(),
        _ => Vec::new(),
    };
    let depth = inner.iter().map(|(depth, _)| *depth).max().unwrap_or(0);
    (depth + 1, inner.iter().map(|(_, count)| count).sum::<usize>() + 1)
}

fuzz_target!(|data: &[u8]| {
    let Ok(values) = decode(data) else { return };
    let measures: Vec<_> = values.iter().map(measure).collect();
    assert!(measures.iter().all(|(depth, _)| *depth <= DEPTH_MAX));
    assert!(measures.iter().map(|(_, count)| count).sum::<usize>() <= ELEMENTS_MAX);
    // Text that is not UTF-8 grows in being made so, past the bounds if it was near them.
    if data.len() > 16 * 1024 {
        return;
    }
    let mut bytes = BytesMut::new();
    values.iter().for_each(|value| value.encode(&mut bytes));
    let again = decode(&bytes).expect("what was written is read");
    // As text, where a number that is none equals itself.
    assert_eq!(format!("{again:?}"), format!("{values:?}"));
});
