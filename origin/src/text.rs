//! A playlist as it stands at one time, rendered once for all who ask.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress};
use hyper::Response;
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue};
use packager::Rope;

use crate::http::body::Payload;
use crate::response::{self, Conditions};

/// The heads of a stream's playlists, by how long caches may keep them.
#[derive(Debug)]
pub(crate) struct Heads {
    /// For a request that takes the playlist as it is.
    pub(crate) plain: HeaderMap,
    /// For a request that names what it waited for: the same question has the same answer.
    pub(crate) blocking: HeaderMap,
}

/// One text in both of its forms.
#[derive(Debug)]
pub(crate) struct Text {
    plain: Form,
    gzip: OnceLock<Form>,
}

#[derive(Debug)]
struct Form {
    body: Rope,
    tag: HeaderValue,
    plain: HeaderMap,
    blocking: HeaderMap,
}

impl Form {
    fn new(body: Rope, tag: String, heads: &Heads, gzip: bool) -> Self {
        let tag = HeaderValue::try_from(tag).expect("hexadecimal digits are a valid value");
        let complete = |head: &HeaderMap| {
            let mut head = head.clone();
            head.insert(ETAG, tag.clone());
            head.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
            if gzip {
                head.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            head
        };
        Self {
            plain: complete(&heads.plain),
            blocking: complete(&heads.blocking),
            tag,
            body,
        }
    }
}

impl Text {
    pub(crate) fn new(mut body: Rope, heads: &Heads) -> Self {
        if body.len() <= WHOLE_BYTES_MAX {
            body = body.to_bytes().into();
        }
        let mut crc = Crc::new();
        body.slices().iter().for_each(|slice| crc.update(slice));
        let tag = format!("\"{:x}-{:08x}\"", body.len(), crc.sum());
        Self {
            plain: Form::new(body, tag, heads, false),
            gzip: OnceLock::new(),
        }
    }

    /// The answer to a request for this text.
    pub(crate) fn answer(
        &self,
        blocking: bool,
        conditions: &Conditions,
        heads: &Heads,
        gzip: &Gzip,
    ) -> Response<Payload> {
        let form = if conditions.gzip {
            self.gzip.get_or_init(|| {
                let body = gzip.gzip(&self.plain.body);
                let tag = self
                    .plain
                    .tag
                    .to_str()
                    .expect("made of digits")
                    .trim_end_matches('"')
                    .to_owned();
                Form::new(body, tag + "-gz\"", heads, true)
            })
        } else {
            &self.plain
        };
        let head = if blocking {
            &form.blocking
        } else {
            &form.plain
        };
        response::with(
            head,
            &form.tag,
            Payload::from(form.body.clone()),
            conditions,
        )
    }

    pub(crate) fn is(&self, body: &Bytes) -> bool {
        matches!(self.plain.body.slices(), [only] if only == body)
    }
}

/// Compresses one kind of playlist of one rendition, and remembers what it made of the long-lived pieces: a new part
/// costs as much in a window of two hours as in one of a minute.
///
/// A gzip stream (RFC 1952) is one deflate stream, and that may be put together from runs of blocks that were
/// compressed apart, as long as none refers back to another and each ends at a byte (RFC 1951 section 3.2.4). The
/// checksums of the runs combine into that of the whole.
#[derive(Debug, Default)]
pub(crate) struct Gzip {
    runs: Mutex<HashMap<(usize, usize), Run>>,
}

#[derive(Debug)]
struct Run {
    /// Keeps the memory from being reused, so that place and length stand for the content.
    _text: Bytes,
    deflated: Bytes,
    crc: Crc,
    used: bool,
}

/// Shorter pieces are not worth remembering, or a run of their own: they are compressed together.
const RUN_BYTES_MIN: usize = 1024;
/// Longer slices are cut where their address is a multiple of this. A window slides by cutting its oldest slice from the
/// front; all runs of it but the first then stay as they are.
const RUN_BYTES_MAX: usize = 16 * 1024;
/// Longer texts are not copied into one piece.
const WHOLE_BYTES_MAX: usize = 64 * 1024;

/// ID, deflate, no flags, no time, no hints, unknown system (RFC 1952 section 2.3).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// An empty last block with fixed codes (RFC 1951 section 3.2.6).
const LAST_BLOCK: [u8; 2] = [3, 0];

thread_local! {
    /// A compressor's tables take a quarter of a megabyte: one a thread, not one a playlist.
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(Compression::new(6), false));
}

impl Gzip {
    /// `text` as a gzip stream.
    pub(crate) fn gzip(&self, text: &Rope) -> Rope {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.values_mut().for_each(|run| run.used = false);
        let mut stream = Stream {
            out: vec![Bytes::from_static(&HEADER)],
            whole: Crc::new(),
            short: Vec::new(),
        };
        for slice in text.slices().iter().flat_map(pieces) {
            if slice.len() < RUN_BYTES_MIN {
                stream.short.extend_from_slice(&slice);
                continue;
            }
            stream.end_short();
            let run = runs
                .entry((slice.as_ptr().addr(), slice.len()))
                .or_insert_with(|| {
                    let mut crc = Crc::new();
                    crc.update(&slice);
                    Run {
                        _text: slice.clone(),
                        deflated: deflate(&slice),
                        crc,
                        used: true,
                    }
                });
            run.used = true;
            stream.whole.combine(&run.crc);
            stream.out.push(run.deflated.clone());
        }
        runs.retain(|_, run| run.used);
        stream.end()
    }
}

fn pieces(slice: &Bytes) -> impl Iterator<Item = Bytes> {
    let slice = slice.clone();
    let mut start = 0;
    std::iter::from_fn(move || {
        let address = slice.as_ptr().addr() + start;
        let end = slice
            .len()
            .min(start + RUN_BYTES_MAX - address % RUN_BYTES_MAX);
        let piece = (start < end).then(|| slice.slice(start..end));
        start = end;
        piece
    })
}

struct Stream {
    out: Vec<Bytes>,
    whole: Crc,
    short: Vec<u8>,
}

impl Stream {
    fn end_short(&mut self) {
        if !self.short.is_empty() {
            self.whole.update(&self.short);
            self.out.push(deflate(&self.short));
            self.short.clear();
        }
    }

    fn end(mut self) -> Rope {
        self.end_short();
        let mut trailer = LAST_BLOCK.to_vec();
        trailer.extend_from_slice(&self.whole.sum().to_le_bytes());
        trailer.extend_from_slice(&self.whole.amount().to_le_bytes());
        self.out.push(trailer.into());
        self.out.into_iter().collect()
    }
}

/// Blocks that hold `text`, ending at a byte, with none of them the last.
fn deflate(text: &[u8]) -> Bytes {
    COMPRESS.with_borrow_mut(|compress| {
        compress.reset();
        // Text shrinks; what does not is stored, in blocks that cost five bytes each.
        let mut out = Vec::with_capacity(text.len() + text.len() / 1000 + 64);
        loop {
            let at = usize::try_from(compress.total_in()).expect("no longer than the text");
            let status = compress.compress_vec(&text[at..], &mut out, FlushCompress::Full);
            status
                .map_err(io::Error::from)
                .expect("a compressor takes any input");
            // The flush is complete when it leaves room in what it was given.
            if compress.total_in() == text.len() as u64 && out.len() < out.capacity() {
                break;
            }
            out.reserve(1024);
        }
        Bytes::copy_from_slice(&out)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn gunzip(bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        flate2::bufread::GzDecoder::new(bytes)
            .read_to_end(&mut text)
            .unwrap();
        text
    }

    fn line(number: u64) -> String {
        format!("#EXTINF:2.00000,\n{number}.m4s\n")
    }

    fn block(number: u64) -> Bytes {
        (number..number + 64).map(line).collect::<String>().into()
    }

    #[test]
    fn long_and_short_pieces_make_one_stream() {
        let check = |slices: &[Bytes]| {
            let text: Rope = slices.iter().cloned().collect();
            let gzip = Gzip::default();
            for _ in 0..2 {
                assert_eq!(gunzip(&gzip.gzip(&text).to_bytes()), text.to_bytes());
            }
        };
        let short = |text: &'static str| Bytes::from_static(text.as_bytes());
        check(&[]);
        check(&[short("#EXTM3U\n")]);
        check(&[block(1)]);
        check(&[
            short("#EXTM3U\n"),
            block(1),
            block(65),
            short("a\n"),
            short("b\n"),
            block(129),
            short("c"),
        ]);
        // What cannot be compressed is stored, and still comes back.
        let mut state = 1_u64;
        let noise = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[0]
        });
        check(&[noise.take(300_000).collect::<Vec<_>>().into()]);
    }

    #[test]
    fn a_sliding_window_keeps_no_more_than_it_shows() {
        let gzip = Gzip::default();
        let blocks: Vec<_> = (0..20).map(|number| block(number * 64)).collect();
        let mut most = 0;
        for start in 0..10 {
            let text: Rope = blocks[start..start + 10].iter().cloned().collect();
            assert_eq!(gunzip(&gzip.gzip(&text).to_bytes()), text.to_bytes());
            most = most.max(gzip.runs.lock().unwrap().len());
        }
        assert!(
            most <= 20,
            "{most} runs for ten blocks, some of which cross a boundary"
        );
    }

    #[test]
    fn remembered_pieces_are_not_compressed_again() {
        let gzip = Gzip::default();
        let page: Bytes = (0..10_000).map(line).collect::<String>().into();
        let made = |text: Bytes| -> Vec<usize> {
            let rope = gzip.gzip(&[text].into_iter().collect());
            rope.slices()
                .iter()
                .map(|slice| slice.as_ptr().addr())
                .collect()
        };
        let before = made(page.clone());
        let after = made(page.slice(500..));
        let again = after
            .iter()
            .filter(|address| !before.contains(address))
            .count();
        assert!(before.len() > 10, "{} runs", before.len());
        // The oldest run is another now, and there is a trailer; the header is always the same bytes.
        assert!(again <= 3, "{again} of {} are new", after.len());
    }
}
