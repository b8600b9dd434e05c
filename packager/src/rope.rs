//! Bytes in pieces.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

/// A byte string in shared slices. Cloning copies one pointer.
#[derive(Clone, Default)]
pub struct Rope {
    slices: Arc<[Bytes]>,
    len: usize,
}

impl Rope {
    /// How many bytes there are in all.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, none of them empty.
    #[must_use]
    pub fn slices(&self) -> &[Bytes] {
        &self.slices
    }

    /// All of it in one piece; copies unless it is one already.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        if let [only] = &*self.slices {
            return only.clone();
        }
        let mut all = BytesMut::with_capacity(self.len);
        for slice in self.slices() {
            all.extend_from_slice(slice);
        }
        all.freeze()
    }
}

impl FromIterator<Bytes> for Rope {
    fn from_iter<I: IntoIterator<Item = Bytes>>(slices: I) -> Self {
        let slices: Arc<[Bytes]> = slices.into_iter().filter(|s| !s.is_empty()).collect();
        let len = slices.iter().map(Bytes::len).sum();
        Self { slices, len }
    }
}

impl From<Bytes> for Rope {
    fn from(bytes: Bytes) -> Self {
        Self::from_iter([bytes])
    }
}

impl PartialEq for Rope {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len
            && self
                .slices()
                .iter()
                .flatten()
                .eq(other.slices().iter().flatten())
    }
}

impl Eq for Rope {}

impl fmt::Debug for Rope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rope({} bytes in {})", self.len, self.slices.len())
    }
}
