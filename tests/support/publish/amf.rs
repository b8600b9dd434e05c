//! As much AMF0 as a publisher needs.

use bytes::{BufMut as _, BytesMut};

/// A value to send.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Number(f64),
    String(&'a str),
    Object(&'a [(&'a str, Value<'a>)]),
    Null,
}

/// The values one after another.
pub(crate) fn encode(values: &[Value<'_>]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for value in values {
        put(&mut bytes, value);
    }
    bytes
}

fn put(bytes: &mut BytesMut, value: &Value<'_>) {
    match value {
        Value::Number(number) => {
            bytes.put_u8(0);
            bytes.put_f64(*number);
        }
        Value::String(text) => {
            bytes.put_u8(2);
            put_text(bytes, text);
        }
        Value::Object(fields) => {
            bytes.put_u8(3);
            for (name, value) in *fields {
                put_text(bytes, name);
                put(bytes, value);
            }
            bytes.put_slice(&[0, 0, 9]);
        }
        Value::Null => bytes.put_u8(5),
    }
}

fn put_text(bytes: &mut BytesMut, text: &str) {
    bytes.put_u16(u16::try_from(text.len()).expect("short texts"));
    bytes.put_slice(text.as_bytes());
}

/// The text behind the last field of this name, wherever it stands: all that a publisher wants of an answer.
pub(crate) fn text_field(message: &[u8], name: &str) -> Option<String> {
    let length = u16::try_from(name.len())
        .expect("a short name")
        .to_be_bytes();
    let marker = [&length[..], name.as_bytes(), &[2]].concat();
    let at = message
        .windows(marker.len())
        .rposition(|window| window == marker)?
        + marker.len();
    let size = usize::from(u16::from_be_bytes(*message.get(at..)?.first_chunk()?));
    let text = message.get(at + 2..at + 2 + size)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// The first value of a command, its name.
pub(crate) fn command(message: &[u8]) -> Option<&[u8]> {
    let size = usize::from(u16::from_be_bytes(*message.get(1..)?.first_chunk()?));
    message.get(3..3 + size)
}

/// The number of the transaction that a command belongs to.
pub(crate) fn transaction(message: &[u8]) -> Option<u32> {
    let name = command(message)?.len();
    let number = f64::from_be_bytes(*message.get(3 + name + 1..)?.first_chunk()?);
    (0..16).find(|transaction| f64::from(*transaction).total_cmp(&number).is_eq())
}
