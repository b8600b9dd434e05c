//! Heads of answers: caching, CORS, conditions, ranges.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW,
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_NONE_MATCH, IF_RANGE, RANGE, RETRY_AFTER,
};
use hyper::{Method, Request, Response, StatusCode};
use packager::Rope;

use crate::http::body::Payload;

/// Methods that anything below `/live/` answers.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");
/// RFC 9218: lower is more urgent. Without its playlist a player does not know what to ask for.
const PRIORITY: HeaderName = HeaderName::from_static("priority");

/// The fields that every answer below `/live/` carries, errors too: any page may read what is public (RFC 8216bis
/// appendix B.1), with no credentials.
pub(crate) fn cors() -> HeaderMap {
    let mut head = HeaderMap::with_capacity(12);
    head.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    head.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Age, Content-Length, Content-Range, Date, ETag"),
    );
    head
}

/// `Cache-Control` for an answer that caches may keep for `age`, rounded down to a second.
pub(crate) fn max_age(age: Duration) -> HeaderValue {
    HeaderValue::try_from(format!("max-age={}", age.as_secs())).expect("digits are a valid value")
}

/// The head of a playlist, but for what varies from state to state.
pub(crate) fn playlist(cache: HeaderValue) -> HeaderMap {
    let mut head = cors();
    head.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/vnd.apple.mpegurl"),
    );
    head.insert(CACHE_CONTROL, cache);
    head.insert(
        hyper::header::VARY,
        HeaderValue::from_static("Accept-Encoding"),
    );
    head.insert(PRIORITY, HeaderValue::from_static("u=1"));
    head
}

/// The head of media, but for its length and tag: the name will never stand for other bytes.
pub(crate) fn media(content_type: &'static str) -> HeaderMap {
    let mut head = cors();
    head.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    head.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("max-age=86400, immutable"),
    );
    head.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    head.insert(PRIORITY, HeaderValue::from_static("u=3"));
    head
}

/// What a request says about the form of its answer. All that a held request keeps of its fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    /// It takes gzip.
    pub(crate) gzip: bool,
    known: Option<HeaderValue>,
    range: Option<HeaderValue>,
    if_range: Option<HeaderValue>,
}

impl Conditions {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let fields = request.headers();
        Self {
            gzip: takes_gzip(fields),
            known: fields.get(IF_NONE_MATCH).cloned(),
            // RFC 9110 14.2: ranges are for GET.
            range: fields
                .get(RANGE)
                .filter(|_| request.method() == Method::GET)
                .cloned(),
            if_range: fields.get(IF_RANGE).cloned(),
        }
    }
}

/// `head` with `payload`, or 304 where the request already has what `tag` names.
pub(crate) fn with(
    head: &HeaderMap,
    tag: &HeaderValue,
    payload: Payload,
    conditions: &Conditions,
) -> Response<Payload> {
    let known = conditions
        .known
        .as_ref()
        .is_some_and(|tags| names(tags, tag));
    let mut response = Response::new(if known { Payload::Empty } else { payload });
    response.headers_mut().clone_from(head);
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().remove(CONTENT_TYPE);
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    response
}

/// Media named `tag`, or the range of it that the request asks for.
pub(crate) fn object(
    head: &HeaderMap,
    tag: HeaderValue,
    whole: Rope,
    conditions: &Conditions,
) -> Response<Payload> {
    let len = whole.len();
    let range = match &conditions.range {
        // RFC 9110 13.1.5: a range of something else is of no use.
        Some(_)
            if conditions
                .if_range
                .as_ref()
                .is_some_and(|given| *given != tag) =>
        {
            Range::Whole
        }
        Some(range) => Range::parse(range, len),
        None => Range::Whole,
    };
    let mut response = with(head, &tag, Payload::Empty, conditions);
    response.headers_mut().insert(ETAG, tag);
    if response.status() == StatusCode::NOT_MODIFIED {
        return response;
    }
    let (start, end) = match range {
        Range::Whole => (0, len),
        Range::Of(start, end) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let of = format!("bytes {start}-{}/{len}", end - 1);
            let of = HeaderValue::try_from(of).expect("digits are a valid value");
            response.headers_mut().insert(CONTENT_RANGE, of);
            (start, end)
        }
        Range::Outside => {
            let mut response = error(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "no such range\n",
                SHORTLY,
            );
            let of =
                HeaderValue::try_from(format!("bytes */{len}")).expect("digits are a valid value");
            response.headers_mut().insert(CONTENT_RANGE, of);
            return response;
        }
    };
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(end - start));
    *response.body_mut() = Payload::slice(whole, start, end);
    response
}

/// Which bytes a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    Whole,
    /// From, and up to but not including.
    Of(usize, usize),
    Outside,
}

impl Range {
    /// RFC 9110 section 14.1.2 and 14.2: what is not one well-formed range of bytes is ignored, several ranges too.
    fn parse(range: &HeaderValue, len: usize) -> Self {
        let Some((first, last)) = range
            .to_str()
            .ok()
            .and_then(|text| text.split_once('='))
            .filter(|(unit, _)| unit.eq_ignore_ascii_case("bytes"))
            .and_then(|(_, set)| set.trim().split_once('-'))
        else {
            return Self::Whole;
        };
        match (position(first), position(last)) {
            (Position::At(first), Position::At(last)) if first > last => Self::Whole,
            (Position::At(first), _) if first >= len => Self::Outside,
            (Position::At(first), Position::At(last)) => {
                Self::Of(first, last.saturating_add(1).min(len))
            }
            (Position::At(first), Position::None) => Self::Of(first, len),
            (Position::None, Position::At(0)) => Self::Outside,
            (Position::None, Position::At(_)) if len == 0 => Self::Outside,
            (Position::None, Position::At(count)) => Self::Of(len.saturating_sub(count), len),
            _ => Self::Whole,
        }
    }
}

enum Position {
    None,
    At(usize),
    Malformed,
}

fn position(text: &str) -> Position {
    if text.is_empty() {
        Position::None
    } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a length can have are past every end.
        Position::At(text.parse().unwrap_or(usize::MAX))
    } else {
        Position::Malformed
    }
}

/// Whether a list of entity tags has `tag`, compared weakly (RFC 9110 section 13.1.2).
fn names(tags: &HeaderValue, tag: &HeaderValue) -> bool {
    let tag = tag.as_bytes();
    tags.as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .any(|given| given == b"*" || given.strip_prefix(b"W/").unwrap_or(given) == tag)
}

/// How long caches may keep an answer that says no: a burst of the same question is asked once, and what appears a
/// moment later is found.
const SHORTLY: HeaderValue = HeaderValue::from_static("max-age=1");
const NOT_AT_ALL: HeaderValue = HeaderValue::from_static("no-store");

/// The answer to a preflight (and to anyone who asks what can be asked).
pub(crate) fn options() -> Response<Payload> {
    let mut response = Response::new(Payload::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    let head = response.headers_mut();
    *head = cors();
    head.insert(ALLOW, METHODS);
    head.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    head.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("If-None-Match, If-Range, Range"),
    );
    head.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    head.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=86400"));
    response
}

/// There is nothing there, now.
pub(crate) fn not_found() -> Response<Payload> {
    error(StatusCode::NOT_FOUND, "not found\n", SHORTLY)
}

/// The request is one that nobody should make.
pub(crate) fn bad_request(why: &'static str) -> Response<Payload> {
    error(StatusCode::BAD_REQUEST, why, SHORTLY)
}

/// Other methods than those that only read.
pub(crate) fn not_allowed(method: &Method) -> Response<Payload> {
    tracing::trace!(%method, "method not allowed");
    let mut response = error(
        StatusCode::METHOD_NOT_ALLOWED,
        "only GET, HEAD and OPTIONS\n",
        NOT_AT_ALL,
    );
    response.headers_mut().insert(ALLOW, METHODS);
    response
}

/// Not now, whoever asks; a second later perhaps.
pub(crate) fn overloaded() -> Response<Payload> {
    let mut response = error(StatusCode::SERVICE_UNAVAILABLE, "overloaded\n", NOT_AT_ALL);
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// It was held for as long as it may be.
pub(crate) fn held_too_long() -> Response<Payload> {
    let mut response = error(
        StatusCode::SERVICE_UNAVAILABLE,
        "it did not come in time\n",
        NOT_AT_ALL,
    );
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn error(status: StatusCode, text: &'static str, cache: HeaderValue) -> Response<Payload> {
    let mut response = Response::new(Payload::from(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let head = response.headers_mut();
    *head = cors();
    head.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    head.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    head.insert(CACHE_CONTROL, cache);
    response
}

/// Whether the peer takes gzip (RFC 9110 section 12.5.3).
fn takes_gzip(request: &HeaderMap) -> bool {
    let mut any = false;
    for value in request.get_all(hyper::header::ACCEPT_ENCODING) {
        for coding in value.as_bytes().split(|byte| *byte == b',') {
            let mut fields = coding.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = fields.next().unwrap_or_default();
            let refused = fields.any(|field| {
                let weight = field
                    .strip_prefix(b"q=")
                    .or_else(|| field.strip_prefix(b"Q="));
                weight.is_some_and(|weight| {
                    !weight.is_empty() && weight.iter().all(|byte| matches!(byte, b'0' | b'.'))
                })
            });
            if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") {
                return !refused;
            }
            any |= name == b"*" && !refused;
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_rfc_9110_has_them() {
        let check = |range: &'static str, len, expected| {
            assert_eq!(
                Range::parse(&HeaderValue::from_static(range), len),
                expected,
                "{range} of {len}"
            );
        };
        check("bytes=0-0", 10, Range::Of(0, 1));
        check("bytes=0-9", 10, Range::Of(0, 10));
        check("bytes=0-10", 10, Range::Of(0, 10));
        check("bytes=9-", 10, Range::Of(9, 10));
        check("bytes=10-", 10, Range::Outside);
        check("bytes=10-20", 10, Range::Outside);
        check("bytes=-3", 10, Range::Of(7, 10));
        check("bytes=-10", 10, Range::Of(0, 10));
        check("bytes=-11", 10, Range::Of(0, 10));
        check("bytes=-0", 10, Range::Outside);
        check("BYTES=1-2", 10, Range::Of(1, 3));
        check("bytes=0-99999999999999999999999999", 10, Range::Of(0, 10));
        check("bytes=99999999999999999999999999-", 10, Range::Outside);
        check("bytes=-99999999999999999999999999", 10, Range::Of(0, 10));
        check("bytes=0-", 0, Range::Outside);
        check("bytes=-1", 0, Range::Outside);
        for ignored in [
            "bytes=5-4",
            "bytes=-",
            "bytes=a-b",
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes",
            "bytes=--1",
            "",
        ] {
            check(ignored, 10, Range::Whole);
        }
    }

    #[test]
    fn entity_tags_compare_weakly() {
        let check = |tags: &'static str, expected| {
            let tag = HeaderValue::from_static("\"a\"");
            assert_eq!(
                names(&HeaderValue::from_static(tags), &tag),
                expected,
                "{tags}"
            );
        };
        check("\"a\"", true);
        check("W/\"a\"", true);
        check("\"b\", \"a\"", true);
        check("*", true);
        check("\"b\"", false);
        check("a", false);
        check("", false);
    }

    #[test]
    fn gzip_only_for_those_who_take_it() {
        let check = |value: &'static str, expected| {
            let mut request = HeaderMap::new();
            request.insert(
                hyper::header::ACCEPT_ENCODING,
                HeaderValue::from_static(value),
            );
            assert_eq!(takes_gzip(&request), expected, "{value}");
        };
        check("gzip", true);
        check("deflate, gzip;q=1.0, *;q=0.5", true);
        check("br, GZIP ; q=0.2", true);
        check("*", true);
        check("gzip;q=0", false);
        check("gzip;q=0.000", false);
        check("*;q=0", false);
        check("gzip;q=0, *", false);
        check("identity", false);
        check("br", false);
        check("", false);
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
