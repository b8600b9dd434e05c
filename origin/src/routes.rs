//! Requests below `/live/`: what a path names, and the answer.

use std::borrow::Cow;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response};
use packager::{Delta, Object};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::Origin;
use crate::directives::Directives;
use crate::http::body::Payload;
use crate::http::gate::Admitted;
use crate::live::{Kind, Over, Rendition, Session};
use crate::metrics::Route;
use crate::response::{self, Conditions};

/// All that the origin answers is below this.
pub(crate) const PREFIX: &str = "/live/";

/// Directives on anything else would fill caches with copies of one answer. Only what is there is refused so: whoever
/// polls a stream that is not there has to learn that.
const MISPLACED: &str = "directives are for media playlists\n";

/// Who asks, and what comes with the connection.
pub(crate) struct Asker<'a> {
    pub(crate) admitted: &'a Admitted,
    pub(crate) address: IpAddr,
    pub(crate) shutdown: &'a CancellationToken,
}

/// An answer, or the wait for one.
pub(crate) enum Answer {
    Now(Response<Payload>),
    Later(Pin<Box<dyn Future<Output = Response<Payload>> + Send>>),
}

/// What a path below `/live/` names. That it could exist does not mean that it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// `ID/index.m3u8`
    Multivariant {
        /// The stream's id.
        stream: Cow<'a, str>,
    },
    /// `ID/EPOCH/RENDITION/FILE`
    File {
        /// The stream's id.
        stream: Cow<'a, str>,
        /// `EPOCH/RENDITION/FILE`
        path: Cow<'a, str>,
    },
}

impl<'a> Target<'a> {
    /// Reads a request's path, percent escapes and all. They are undone once, and only where they stand for a
    /// character that needs none (RFC 3986 section 6.2.2.2); no name here has any other character. The names are
    /// looked up in maps and never reach a file system.
    #[must_use]
    pub fn parse(path: &'a str) -> Option<Self> {
        let path = path.strip_prefix(PREFIX)?;
        if !path.contains('%') {
            let (stream, path) = split(path)?;
            let stream = Cow::Borrowed(stream);
            return Some(match path {
                None => Self::Multivariant { stream },
                Some(path) => Self::File {
                    stream,
                    path: Cow::Borrowed(path),
                },
            });
        }
        let path = unescape(path)?;
        let (stream, path) = split(&path)?;
        let stream = Cow::Owned(stream.to_owned());
        Some(match path {
            None => Self::Multivariant { stream },
            Some(path) => Self::File {
                stream,
                path: Cow::Owned(path.to_owned()),
            },
        })
    }
}

/// `ID/index.m3u8` or `ID/EPOCH/RENDITION/FILE`, with nothing empty and nothing that climbs.
fn split(path: &str) -> Option<(&str, Option<&str>)> {
    let (stream, rest) = path.split_once('/')?;
    let named =
        |name: &str| !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_unreserved);
    if !named(stream) {
        return None;
    }
    if rest == "index.m3u8" {
        return Some((stream, None));
    }
    let mut names = rest.split('/');
    let three = [names.next()?, names.next()?, names.next()?];
    (names.next().is_none() && three.into_iter().all(named)).then_some((stream, Some(rest)))
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn unescape(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut pieces = path.split('%');
    out.push_str(pieces.next()?);
    for piece in pieces {
        let byte = u8::from_str_radix(piece.get(..2)?, 16)
            .ok()
            .filter(|byte| is_unreserved(*byte))?;
        // `from_str_radix` takes a sign.
        piece.as_bytes()[0].is_ascii_hexdigit().then_some(())?;
        out.push(char::from(byte));
        out.push_str(&piece[2..]);
    }
    Some(out)
}

impl Origin {
    /// Answers a request below [`PREFIX`].
    pub(crate) fn answer<B>(&self, request: &Request<B>, asker: &Asker<'_>) -> (Route, Answer) {
        let Some(target) = Target::parse(request.uri().path()) else {
            return (Route::Live, Answer::Now(response::not_found()));
        };
        let route = match &target {
            Target::Multivariant { .. } => Route::Multivariant,
            Target::File { path, .. } if path.ends_with("/index.m3u8") => Route::Playlist,
            Target::File { path, .. } if path.ends_with("/iframes.m3u8") => Route::Iframes,
            Target::File { .. } => Route::Media,
        };
        let answer = match *request.method() {
            Method::GET | Method::HEAD => match &target {
                Target::Multivariant { stream } => self.multivariant(stream, request, asker),
                Target::File { stream, path } => self.file(stream, path, route, request, asker),
            },
            Method::OPTIONS => Answer::Now(response::options()),
            ref method => Answer::Now(response::not_allowed(method)),
        };
        (route, answer)
    }

    fn multivariant<B>(&self, stream: &str, request: &Request<B>, asker: &Asker<'_>) -> Answer {
        let Ok(directives) = Directives::parse(request.uri().query()) else {
            return Answer::Now(response::bad_request("unknown query\n"));
        };
        let Some(session) = self.newest(stream) else {
            return Answer::Now(response::not_found());
        };
        if !directives.is_empty() {
            return Answer::Now(response::bad_request(MISPLACED));
        }
        let conditions = Conditions::of(request);
        let index = session.index.borrow().clone();
        if let Some(text) = index.text {
            // Not for long, even when the stream is over: the next one has the same address.
            return Answer::Now(text.answer(false, &conditions, &session.heads, &session.gzip));
        }
        if index.over != Over::Live {
            return Answer::Now(response::not_found());
        }
        // It began, and is about to be there: a player that waits here starts sooner than one that asks again.
        let mut changes = session.index.subscribe();
        hold(asker, session.target, async move {
            let ready = changes.wait_for(|index| index.text.is_some() || index.over != Over::Live);
            let index = ready
                .await
                .map_or_else(|_| None, |index| index.text.clone());
            let answer = |text: &crate::text::Text| {
                text.answer(false, &conditions, &session.heads, &session.gzip)
            };
            index.as_deref().map_or_else(response::not_found, answer)
        })
    }

    fn file<B>(
        &self,
        stream: &str,
        path: &str,
        route: Route,
        request: &Request<B>,
        asker: &Asker<'_>,
    ) -> Answer {
        let mut names = path.split('/');
        let (Some(epoch), Some(rendition)) = (names.next(), names.next()) else {
            return Answer::Now(response::not_found());
        };
        let playlist = route != Route::Media;
        let Ok(directives) = Directives::parse(request.uri().query()) else {
            return Answer::Now(response::bad_request("unknown query\n"));
        };
        let Some((session, viewers)) = self.session(stream, epoch) else {
            return Answer::Now(response::not_found());
        };
        let Some(rendition) = session.rendition(rendition) else {
            return Answer::Now(response::not_found());
        };
        let conditions = Conditions::of(request);
        if !playlist {
            if !directives.is_empty() {
                return Answer::Now(response::bad_request(MISPLACED));
            }
            return media(session, &rendition, path, conditions, asker);
        }
        let agent = request
            .headers()
            .get(USER_AGENT)
            .map_or(&[][..], HeaderValue::as_bytes);
        viewers.saw(asker.address, agent, Instant::now());
        if route == Route::Iframes && !rendition.video {
            return Answer::Now(response::not_found());
        }
        reload(session, rendition, route, directives, conditions, asker)
    }
}

/// A media or I-frame playlist, now or when it has what the directives ask for (RFC 8216bis section 6.2.5.2).
fn reload(
    session: Arc<Session>,
    rendition: Arc<Rendition>,
    route: Route,
    mut directives: Directives,
    conditions: Conditions,
    asker: &Asker<'_>,
) -> Answer {
    let state = rendition.state.borrow().clone();
    let mut kind = match directives.delta() {
        Delta::Full => Kind::Full,
        Delta::Skip => Kind::Skip,
        Delta::SkipV2 => Kind::SkipV2,
    };
    if route == Route::Iframes {
        // It lists whole segments only.
        kind = Kind::Iframes;
        if directives.msn.is_some() {
            directives.part = None;
        }
    }
    match state.over {
        Over::Live => {}
        // The playlist will not change: it is the answer to whatever is asked for, and the window leaves nothing out.
        Over::Ended => {
            return Answer::Now(rendition.answer(&session, &state, kind, true, &conditions));
        }
        Over::Broken => return Answer::Now(response::not_found()),
    }
    let wanted = match state.edge.wanted(directives) {
        Err(_) => return Answer::Now(response::bad_request("out of reach\n")),
        Ok(Some(wanted)) if !state.edge.has(wanted) => wanted,
        Ok(wanted) => {
            return Answer::Now(rendition.answer(
                &session,
                &state,
                kind,
                wanted.is_some(),
                &conditions,
            ));
        }
    };
    let mut changes = rendition.state.subscribe();
    hold(asker, session.target, async move {
        let changed = changes
            .wait_for(|state| state.over != Over::Live || state.edge.has(wanted))
            .await;
        let Ok(state) = changed.map(|state| state.clone()) else {
            return response::not_found();
        };
        rendition.answer(&session, &state, kind, true, &conditions)
    })
}

/// An initialization segment, a part or a segment; the hinted part as soon as all of it is there.
fn media(
    session: Arc<Session>,
    rendition: &Rendition,
    path: &str,
    conditions: Conditions,
    asker: &Asker<'_>,
) -> Answer {
    // Subscribed before the first look, so that no change falls between the two.
    let look = |session: &Session| session.window().object(path);
    let tag = HeaderValue::try_from(format!("\"{path}\""))
        .expect("a path that was parsed has plain characters");
    let video = rendition.video;
    match look(&session) {
        Object::Ready(bytes) => Answer::Now(response::object(
            session.media(video),
            tag,
            bytes,
            &conditions,
        )),
        Object::Unknown => Answer::Now(response::not_found()),
        Object::Hinted => {
            let mut changes = rendition.state.subscribe();
            let path = path.to_owned();
            hold(asker, session.target, async move {
                loop {
                    if changes.borrow_and_update().over == Over::Broken {
                        return response::not_found();
                    }
                    let object = session.window().object(&path);
                    match object {
                        Object::Ready(bytes) => {
                            return response::object(session.media(video), tag, bytes, &conditions);
                        }
                        Object::Unknown => return response::not_found(),
                        Object::Hinted => {}
                    }
                    if changes.changed().await.is_err() {
                        return response::not_found();
                    }
                }
            })
        }
    }
}

/// Holds a request until its answer is ready: at most three target durations, not beyond shutdown, and only when
/// there is a place.
fn hold<F>(asker: &Asker<'_>, target: Duration, answer: F) -> Answer
where
    F: Future<Output = Response<Payload>> + Send + 'static,
{
    let Some(place) = asker.admitted.hold() else {
        return Answer::Now(response::overloaded());
    };
    let shutdown = asker.shutdown.clone();
    Answer::Later(Box::pin(async move {
        let _place = place;
        // RFC 8216bis 6.2.5.2: a request that was held for three target durations fails.
        match shutdown
            .run_until_cancelled(timeout(target * 3, answer))
            .await
        {
            Some(Ok(response)) => response,
            Some(Err(_)) => response::held_too_long(),
            None => response::overloaded(),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_could_exist_are_looked_up() {
        let check = |path: &str, expected: Option<(&str, Option<&str>)>| {
            let target = Target::parse(path);
            let target = target.as_ref().map(|target| match target {
                Target::Multivariant { stream } => (&**stream, None),
                Target::File { stream, path } => (&**stream, Some(&**path)),
            });
            assert_eq!(target, expected, "{path}");
        };
        check("/live/a/index.m3u8", Some(("a", None)));
        check(
            "/live/a/e/r/index.m3u8",
            Some(("a", Some("e/r/index.m3u8"))),
        );
        check(
            "/live/a/e-1/720p/12.3.m4s",
            Some(("a", Some("e-1/720p/12.3.m4s"))),
        );
        check("/live/%61/index%2Em3u8", Some(("a", None)));
        check("/live/a/e/%72/1%2e2.m4s", Some(("a", Some("e/r/1.2.m4s"))));
        for nothing in [
            "/live/",
            "/live/a",
            "/live/a/",
            "/live//index.m3u8",
            "/live/a//index.m3u8",
            "/live/a/index.m3u8/",
            "/live/a/index.m3u8/x",
            "/live/a/b/index.m3u8",
            "/live/a/b/c/d/e",
            "/live/a/../index.m3u8",
            "/live/a/e/../index.m3u8",
            "/live/a/e/./x",
            "/live/a/%2e%2e/r/x",
            "/live/a/e%2fr/x/y",
            "/live/a%2findex.m3u8",
            "/live/a/e/r/x%00",
            "/live/a/e/r/x%5cy",
            "/live/a/e/r/x\\y",
            "/live/a/e/r/%2561",
            "/live/a/e/r/%",
            "/live/a/e/r/%4",
            "/live/a/e/r/%+4a",
            "/live/a/e/r/%zz",
            "/live/a/e/r/%c3%a9",
            "/live/a/e/r/é",
            "/live/a/e/r/%é",
            "/live/a/e/r/a b",
            "/Live/a/index.m3u8",
            "/vod/a/index.m3u8",
            "",
        ] {
            check(nothing, None);
        }
    }
}
