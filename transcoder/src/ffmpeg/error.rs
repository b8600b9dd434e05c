use std::ffi::{CStr, c_char, c_int};
use std::fmt;
use std::ptr::NonNull;

use super::ffi;

/// A call into libav failed.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// It returned this code.
    #[error("{}", Code(*.0))]
    Code(c_int),
    /// It could not allocate.
    #[error("out of memory")]
    Memory,
    /// This build of libav has no such codec or filter.
    #[error("libav was built without {0}")]
    Missing(&'static str),
    /// A size or a count is beyond what libav can be told.
    #[error("a size is out of range")]
    Size,
}

impl Error {
    /// Whether memory ran out: our trouble, not damage in what was decoded.
    pub(crate) fn is_memory(self) -> bool {
        matches!(self, Self::Memory) || self == Self::Code(ffi::AVERROR(ffi::ENOMEM))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What a libav return code says: negative is an error, else a count.
pub(super) fn check(code: c_int) -> Result<c_int, Error> {
    if code < 0 {
        Err(Error::Code(code))
    } else {
        Ok(code)
    }
}

/// A send or receive call: `None` when the codec wants the other direction first or has ended.
pub(super) fn ready(code: c_int) -> Result<Option<()>, Error> {
    if code == ffi::AVERROR(ffi::EAGAIN) || code == ffi::AVERROR_EOF {
        return Ok(None);
    }
    check(code).map(|_| Some(()))
}

/// What an allocating call returned.
pub(super) fn allocated<T>(pointer: *mut T) -> Result<NonNull<T>, Error> {
    NonNull::new(pointer).ok_or(Error::Memory)
}

struct Code(c_int);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0 as c_char; ffi::AV_ERROR_MAX_STRING_SIZE];
        // SAFETY: `text` is writable for the length given; libav ends what it writes with a zero.
        unsafe { ffi::av_strerror(self.0, text.as_mut_ptr(), text.len()) };
        // SAFETY: `text` was zeroed and libav never overwrites its last byte, so it ends with a zero.
        let text = unsafe { CStr::from_ptr(text.as_ptr()) };
        write!(f, "{} ({})", text.to_string_lossy(), self.0)
    }
}
