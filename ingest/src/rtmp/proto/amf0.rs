//! Action Message Format 0: the values inside RTMP commands and metadata.
//!
//! Every bound is checked while reading and no count that the peer sends is trusted: a value is allocated when its
//! bytes are there.

use bytes::{BufMut, BytesMut};

/// Values inside values.
pub const DEPTH_MAX: usize = 16;
/// Values, properties and array items of one message together.
pub const ELEMENTS_MAX: usize = 1024;
/// Bytes of one string.
pub const STRING_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one message.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// What is wrong with a message, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("AMF0 at byte {offset}: {kind}")]
pub struct Error {
    /// Bytes into the message.
    pub offset: usize,
    /// What is wrong there.
    pub kind: ErrorKind,
}

/// What can be wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// It ends inside a value.
    #[error("the message ends inside a value")]
    Truncated,
    /// Values are nested beyond [`DEPTH_MAX`].
    #[error("nested more than {DEPTH_MAX} deep")]
    Depth,
    /// There are more than [`ELEMENTS_MAX`] of them.
    #[error("more than {ELEMENTS_MAX} elements")]
    Elements,
    /// A string is longer than [`STRING_BYTES_MAX`].
    #[error("a string longer than {STRING_BYTES_MAX} bytes")]
    String,
    /// The message is longer than [`MESSAGE_BYTES_MAX`].
    #[error("longer than {MESSAGE_BYTES_MAX} bytes")]
    Message,
    /// The message is not a command: a command begins with its name.
    #[error("a command without a name")]
    Command,
    /// A type of value that no encoder sends, or no type at all.
    #[error("type marker {0:#04x}")]
    Marker(u8),
}

/// One AMF0 value. Text is decoded leniently: what is not UTF-8 becomes U+FFFD.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any number.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// Text, of the short or the long form; XML documents too.
    String(String),
    /// Named properties in their order; typed objects too, without the name of their class.
    Object(Vec<(String, Value)>),
    /// Nothing.
    Null,
    /// Nothing, said differently; references too, which no encoder sends.
    Undefined,
    /// Named properties, as most encoders send metadata.
    EcmaArray(Vec<(String, Value)>),
    /// Items.
    StrictArray(Vec<Value>),
    /// Milliseconds since the Unix epoch.
    Date(f64),
}

mod marker {
    pub(super) const NUMBER: u8 = 0x00;
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const STRING: u8 = 0x02;
    pub(super) const OBJECT: u8 = 0x03;
    pub(super) const NULL: u8 = 0x05;
    pub(super) const UNDEFINED: u8 = 0x06;
    pub(super) const REFERENCE: u8 = 0x07;
    pub(super) const ECMA_ARRAY: u8 = 0x08;
    pub(super) const OBJECT_END: u8 = 0x09;
    pub(super) const STRICT_ARRAY: u8 = 0x0a;
    pub(super) const DATE: u8 = 0x0b;
    pub(super) const LONG_STRING: u8 = 0x0c;
    pub(super) const XML_DOCUMENT: u8 = 0x0f;
    pub(super) const TYPED_OBJECT: u8 = 0x10;
}

impl Value {
    /// The value of the first property named `key`, where this has properties.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(properties) | Self::EcmaArray(properties) => properties
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text, where this is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, where this is a number.
    #[must_use]
    pub const fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Appends the value's bytes. Names and items beyond what a length field can say are left out.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Number(number) => {
                out.put_u8(marker::NUMBER);
                out.put_f64(*number);
            }
            Self::Boolean(value) => {
                out.put_u8(marker::BOOLEAN);
                out.put_u8(u8::from(*value));
            }
            Self::String(text) => match u16::try_from(text.len()) {
                Ok(_) => {
                    out.put_u8(marker::STRING);
                    put_key(text, out);
                }
                Err(_) => {
                    out.put_u8(marker::LONG_STRING);
                    out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
                    out.put_slice(text.as_bytes());
                }
            },
            Self::Object(properties) => {
                out.put_u8(marker::OBJECT);
                put_properties(properties, out);
            }
            Self::Null => out.put_u8(marker::NULL),
            Self::Undefined => out.put_u8(marker::UNDEFINED),
            Self::EcmaArray(properties) => {
                out.put_u8(marker::ECMA_ARRAY);
                out.put_u32(u32::try_from(properties.len()).unwrap_or(u32::MAX));
                put_properties(properties, out);
            }
            Self::StrictArray(items) => {
                let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
                out.put_u8(marker::STRICT_ARRAY);
                out.put_u32(count);
                items.iter().for_each(|item| item.encode(out));
            }
            Self::Date(millis) => {
                out.put_u8(marker::DATE);
                out.put_f64(*millis);
                out.put_u16(0);
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

/// An object of named properties, for writing.
pub fn object<const N: usize>(properties: [(&str, Value); N]) -> Value {
    Value::Object(
        properties
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn put_key(key: &str, out: &mut BytesMut) {
    if let Ok(length) = u16::try_from(key.len()) {
        out.put_u16(length);
        out.put_slice(key.as_bytes());
    }
}

fn put_properties(properties: &[(String, Value)], out: &mut BytesMut) {
    for (key, value) in properties
        .iter()
        .filter(|(key, _)| u16::try_from(key.len()).is_ok())
    {
        put_key(key, out);
        value.encode(out);
    }
    out.put_slice(&[0, 0, marker::OBJECT_END]);
}

/// Reads the values of one message, one after the other.
#[derive(Debug)]
pub struct Decoder<'a> {
    whole: &'a [u8],
    rest: &'a [u8],
    elements: usize,
}

impl<'a> Decoder<'a> {
    /// A decoder at the start of `message`.
    ///
    /// # Errors
    /// When the message is longer than [`MESSAGE_BYTES_MAX`].
    pub fn new(message: &'a [u8]) -> Result<Self, Error> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(Error {
                offset: MESSAGE_BYTES_MAX,
                kind: ErrorKind::Message,
            });
        }
        Ok(Self {
            whole: message,
            rest: message,
            elements: 0,
        })
    }

    /// The next value, or `None` at the end of the message.
    ///
    /// # Errors
    /// When the bytes are not a value or a bound is passed. The decoder is of no use afterwards.
    pub fn value(&mut self) -> Result<Option<Value>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.nested(DEPTH_MAX).map(Some)
    }

    /// Recursion is bounded by `depth`, the levels still allowed including this one.
    fn nested(&mut self, depth: usize) -> Result<Value, Error> {
        let Some(inner) = depth.checked_sub(1) else {
            return Err(self.error(ErrorKind::Depth));
        };
        self.count_element()?;
        let kind = self.u8()?;
        match kind {
            marker::NUMBER => Ok(Value::Number(self.f64()?)),
            marker::BOOLEAN => Ok(Value::Boolean(self.u8()? != 0)),
            marker::STRING => Ok(Value::String(self.short_string()?)),
            marker::OBJECT => Ok(Value::Object(self.properties(inner)?)),
            marker::NULL => Ok(Value::Null),
            marker::UNDEFINED => Ok(Value::Undefined),
            marker::REFERENCE => self.take(2).map(|_| Value::Undefined),
            marker::ECMA_ARRAY => {
                // The count is a hint that encoders get wrong; the end marker rules.
                self.take(4)?;
                Ok(Value::EcmaArray(self.properties(inner)?))
            }
            marker::STRICT_ARRAY => {
                let count = self.u32()?;
                let mut items = Vec::new();
                for _ in 0..count {
                    let item = self.nested(inner)?;
                    push(&mut items, item);
                }
                Ok(Value::StrictArray(items))
            }
            marker::DATE => {
                let millis = self.f64()?;
                self.take(2)?;
                Ok(Value::Date(millis))
            }
            marker::LONG_STRING | marker::XML_DOCUMENT => {
                let length = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
                Ok(Value::String(self.text(length)?))
            }
            marker::TYPED_OBJECT => {
                self.short_string()?;
                Ok(Value::Object(self.properties(inner)?))
            }
            other => Err(self.error(ErrorKind::Marker(other))),
        }
    }

    fn properties(&mut self, depth: usize) -> Result<Vec<(String, Value)>, Error> {
        let mut properties = Vec::new();
        loop {
            // Some encoders leave out the last end marker of a message.
            if self.rest.is_empty() && depth + 1 == DEPTH_MAX {
                return Ok(properties);
            }
            if let [0, 0, marker::OBJECT_END, rest @ ..] = self.rest {
                self.rest = rest;
                return Ok(properties);
            }
            let key = self.short_string()?;
            let value = self.nested(depth)?;
            push(&mut properties, (key, value));
        }
    }

    fn count_element(&mut self) -> Result<(), Error> {
        self.elements += 1;
        if self.elements > ELEMENTS_MAX {
            Err(self.error(ErrorKind::Elements))
        } else {
            Ok(())
        }
    }

    fn short_string(&mut self) -> Result<String, Error> {
        let length = usize::from(self.u16()?);
        self.text(length)
    }

    fn text(&mut self, length: usize) -> Result<String, Error> {
        if length > STRING_BYTES_MAX {
            return Err(self.error(ErrorKind::String));
        }
        self.take(length)
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let Some((head, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.error(ErrorKind::Truncated));
        };
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let Some((head, rest)) = self.rest.split_first_chunk() else {
            return Err(self.error(ErrorKind::Truncated));
        };
        self.rest = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    fn f64(&mut self) -> Result<f64, Error> {
        self.array().map(f64::from_be_bytes)
    }

    const fn error(&self, kind: ErrorKind) -> Error {
        Error {
            offset: self.whole.len() - self.rest.len(),
            kind,
        }
    }
}

/// Appends without the four places that `Vec` starts with: a thousand nested objects of one property each would
/// otherwise cost four times their worth.
fn push<T>(items: &mut Vec<T>, item: T) {
    if items.len() == items.capacity() {
        items.reserve_exact(items.len().max(1));
    }
    items.push(item);
}

#[cfg(test)]
mod tests;
