//! Answers on their way out.

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use packager::Rope;

use super::pace::Link;

/// What an answer of the origin's own carries. All of it is handed to the socket at once: a vectored write of many
/// slices is what makes sending from memory cheap.
#[derive(Clone, Debug, Default)]
pub(crate) enum Payload {
    /// Nothing.
    #[default]
    Empty,
    /// One piece of text or media.
    One(Bytes),
    /// Slices of text, a part or a segment, in order.
    Many(Cursor),
}

/// A stretch of a rope that is still to be read; never empty.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    rope: Rope,
    /// The slice to read from, and how much of it is behind.
    slice: usize,
    offset: usize,
    remaining: usize,
}

impl Payload {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(bytes) => bytes.len(),
            Self::Many(cursor) => cursor.remaining,
        }
    }

    /// The bytes of `rope` from `start` up to but not including `end`.
    pub(crate) fn slice(rope: Rope, start: usize, end: usize) -> Self {
        assert!(
            start <= end && end <= rope.len(),
            "a range within what there is"
        );
        if start == end {
            return Self::Empty;
        }
        if let [only] = rope.slices() {
            return Self::One(only.slice(start..end));
        }
        let mut cursor = Cursor {
            rope,
            slice: 0,
            offset: 0,
            remaining: end,
        };
        cursor.advance(start);
        Self::Many(cursor)
    }
}

impl From<Rope> for Payload {
    fn from(rope: Rope) -> Self {
        let len = rope.len();
        Self::slice(rope, 0, len)
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::One(bytes)
        }
    }
}

impl Cursor {
    /// What is left of the slices, in order.
    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut offset = self.offset;
        let mut remaining = self.remaining;
        let slices = self.rope.slices().get(self.slice..).unwrap_or_default();
        slices.iter().map_while(move |slice| {
            let slice = &slice[std::mem::take(&mut offset)..];
            let slice = &slice[..slice.len().min(remaining)];
            remaining -= slice.len();
            (!slice.is_empty()).then_some(slice)
        })
    }

    fn advance(&mut self, count: usize) {
        self.remaining -= count;
        let mut ahead = self.offset + count;
        while let Some(slice) = self
            .rope
            .slices()
            .get(self.slice)
            .filter(|slice| slice.len() <= ahead)
        {
            ahead -= slice.len();
            self.slice += 1;
        }
        self.offset = ahead;
    }
}

/// The body that hyper drives.
#[derive(Debug)]
pub(crate) struct Body {
    inner: Inner,
    /// Held as long as the answer is not whole.
    _open: Option<Open>,
    link: Arc<Link>,
}

#[derive(Debug)]
enum Inner {
    Own(Option<Payload>),
    Router(axum::body::Body),
}

impl Body {
    pub(super) fn own(payload: Payload, link: Arc<Link>) -> Self {
        let payload = (payload.len() > 0).then_some(payload);
        Self {
            inner: Inner::Own(payload),
            _open: None,
            link,
        }
    }

    pub(super) fn router(body: axum::body::Body, link: Arc<Link>, open: Open) -> Self {
        Self {
            inner: Inner::Router(body),
            _open: Some(open),
            link,
        }
    }
}

impl HttpBody for Body {
    type Data = Data;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, axum::Error>>> {
        let this = self.get_mut();
        let link = &this.link;
        Poll::Ready(match &mut this.inner {
            Inner::Own(payload) => payload
                .take()
                .map(|payload| Ok(Frame::data(Data::new(payload, link)))),
            Inner::Router(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                frame.map(|frame| {
                    frame.map(|frame| frame.map_data(|bytes| Data::new(Payload::from(bytes), link)))
                })
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Own(payload) => payload.is_none(),
            Inner::Router(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Own(payload) => {
                SizeHint::with_exact(payload.as_ref().map_or(0, Payload::len) as u64)
            }
            Inner::Router(body) => body.size_hint(),
        }
    }
}

/// A piece of an answer in a queue; the connection's [`Link`] knows of it until it is sent or dropped.
#[derive(Debug)]
pub(crate) struct Data {
    payload: Payload,
    link: Arc<Link>,
}

impl Data {
    fn new(payload: Payload, link: &Arc<Link>) -> Self {
        link.queued();
        Self {
            payload,
            link: link.clone(),
        }
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        self.link.sent();
    }
}

impl Buf for Data {
    fn remaining(&self) -> usize {
        self.payload.len()
    }

    fn chunk(&self) -> &[u8] {
        match &self.payload {
            Payload::Empty => &[],
            Payload::One(bytes) => bytes,
            Payload::Many(cursor) => cursor.slices().next().unwrap_or_default(),
        }
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        match &self.payload {
            Payload::Empty => 0,
            Payload::One(bytes) => bytes.chunks_vectored(into),
            Payload::Many(cursor) => {
                let pairs = into.iter_mut().zip(cursor.slices());
                pairs
                    .map(|(into, slice)| *into = IoSlice::new(slice))
                    .count()
            }
        }
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining(), "only what was there is sent");
        match &mut self.payload {
            Payload::Empty => {}
            Payload::One(bytes) => bytes.advance(count),
            Payload::Many(cursor) => cursor.advance(count),
        }
    }
}

/// A request that is not answered, or whose answer still grows.
#[derive(Debug)]
pub(super) struct Open {
    link: Arc<Link>,
    answered: bool,
}

impl Open {
    pub(super) fn new(link: Arc<Link>) -> Self {
        link.opened();
        Self {
            link,
            answered: false,
        }
    }

    /// The answer's head is ready; dropping this is not the peer's doing any more.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.answered {
            self.link.abandoned();
        }
        self.link.closed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(slices: &[&'static str]) -> Data {
        let rope: Rope = slices
            .iter()
            .map(|text| Bytes::from_static(text.as_bytes()))
            .collect();
        Data::new(Payload::from(rope), &Arc::default())
    }

    fn rest(data: &Data) -> (String, usize) {
        let mut into = [IoSlice::new(&[]); 8];
        let count = data.chunks_vectored(&mut into);
        let text = into[..count]
            .iter()
            .map(|slice| std::str::from_utf8(slice).unwrap())
            .collect();
        (text, data.remaining())
    }

    #[test]
    fn slices_leave_in_order_whatever_the_kernel_takes() {
        for step in 1..=9 {
            let mut data = data(&["ab", "cde", "f", "ghi"]);
            let mut sent = String::new();
            while data.has_remaining() {
                let (text, remaining) = rest(&data);
                assert_eq!(text.len(), remaining);
                let count = step.min(remaining);
                sent.push_str(&text[..count]);
                data.advance(count);
            }
            assert_eq!(sent, "abcdefghi", "{step} at a time");
        }
    }

    #[test]
    fn any_stretch_can_be_sent() {
        let rope: Rope = ["ab", "cde", "f", "ghi"]
            .into_iter()
            .map(|text| Bytes::from_static(text.as_bytes()))
            .collect();
        for start in 0..=9 {
            for end in start..=9 {
                let data = Data::new(Payload::slice(rope.clone(), start, end), &Arc::default());
                assert_eq!(
                    rest(&data),
                    ("abcdefghi"[start..end].to_owned(), end - start)
                );
                assert_eq!(data.chunk().is_empty(), start == end);
            }
        }
    }

    #[test]
    fn no_more_slices_are_offered_than_there_is_room_for() {
        let data = data(&["ab", "cde", "f"]);
        let mut into = [IoSlice::new(&[]); 2];
        assert_eq!(data.chunks_vectored(&mut into), 2);
        assert_eq!(&*into[1], b"cde");
    }
}
