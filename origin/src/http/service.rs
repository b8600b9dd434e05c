//! One request: what no request may be, who answers it, and what is counted.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::extract::ConnectInfo;
use axum::routing::future::RouteFuture;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::{HeaderMap, Method, Request, Response, Version};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use super::Front;
use super::body::{Body, Open, Payload};
use super::gate::Admitted;
use super::pace::Link;
use crate::metrics::Route;
use crate::response;
use crate::routes::{Answer, Asker};

/// Answers the requests of one connection.
pub(super) struct Service {
    front: Front,
    link: Arc<Link>,
    peer: SocketAddr,
    admitted: Admitted,
    shutdown: CancellationToken,
}

impl Service {
    pub(super) fn new(
        front: Front,
        link: Arc<Link>,
        peer: SocketAddr,
        admitted: Admitted,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            front,
            link,
            peer,
            admitted,
            shutdown,
        }
    }

    fn answer(&self, request: Request<Incoming>) -> (Route, Pending) {
        let version = request.version();
        if self.admitted.is_excess() {
            return (Route::Other, last(response::overloaded(), version));
        }
        if is_ambiguous(version, request.headers()) {
            return (
                Route::Other,
                last(response::bad_request("ambiguous request\n"), version),
            );
        }
        if request.uri().path().starts_with(crate::routes::PREFIX) {
            if !request.body().is_end_stream() {
                return (
                    Route::Live,
                    last(response::bad_request("no body is taken here\n"), version),
                );
            }
            let asker = Asker {
                admitted: &self.admitted,
                address: self.peer.ip(),
                shutdown: &self.shutdown,
            };
            let (route, answer) = self.front.inner.origin.answer(&request, &asker);
            return match answer {
                Answer::Now(response) => (route, Pending::Now(Some(response))),
                Answer::Later(response) => (route, Pending::Later(response)),
            };
        }
        let route = Route::of(request.uri().path());
        let mut request =
            request.map(|body| Bounded::new(body, Instant::now() + self.front.limits().body));
        request.extensions_mut().insert(ConnectInfo(self.peer));
        (
            route,
            Pending::Router(Box::pin(self.front.inner.router.clone().call(request))),
        )
    }
}

/// An answer after which an HTTP/1 connection ends.
fn last(mut response: Response<Payload>, version: Version) -> Pending {
    if version <= Version::HTTP_11 {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Pending::Now(Some(response))
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Respond;

    fn call(&self, request: Request<Incoming>) -> Respond {
        self.link.request_begins();
        let open = Open::new(self.link.clone());
        let head = request.method() == Method::HEAD;
        let (route, pending) = self.answer(request);
        Respond {
            head,
            pending,
            route,
            open: Some(open),
            link: self.link.clone(),
            front: self.front.clone(),
        }
    }
}

/// Whether the request could mean one thing to a proxy before us and another to us (RFC 9112 section 6.1 and 3.2).
///
/// hyper takes a request with both Content-Length and Transfer-Encoding by the latter and removes the former, so
/// that nothing tells such a request from a plain chunked one: both are refused. Nothing here needs chunked requests.
fn is_ambiguous(version: Version, headers: &HeaderMap) -> bool {
    if version > Version::HTTP_11 {
        return false;
    }
    let mut hosts = headers.get_all(HOST).iter();
    let hosts = (hosts.next().is_some(), hosts.next().is_some());
    headers.contains_key(TRANSFER_ENCODING) || hosts.1 || (!hosts.0 && version == Version::HTTP_11)
}

/// An answer on its way.
pub(super) struct Respond {
    pending: Pending,
    route: Route,
    /// The request is for the head alone.
    head: bool,
    open: Option<Open>,
    link: Arc<Link>,
    front: Front,
}

enum Pending {
    Now(Option<Response<Payload>>),
    Later(Pin<Box<dyn Future<Output = Response<Payload>> + Send>>),
    Router(Pin<Box<RouteFuture<Infallible>>>),
}

impl Future for Respond {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let response = match &mut this.pending {
            Pending::Now(response) => Ok(response
                .take()
                .expect("a future is not polled after it is ready")),
            Pending::Later(response) => Ok(ready!(response.as_mut().poll(cx))),
            Pending::Router(response) => Err(match ready!(response.as_mut().poll(cx)) {
                Ok(response) => response,
                Err(never) => match never {},
            }),
        };
        let mut open = this
            .open
            .take()
            .expect("a future is not polled after it is ready");
        open.answered();
        let response = match response {
            Ok(own) if this.head => own.map(|_| Body::own(Payload::Empty, this.link.clone())),
            Ok(own) => own.map(|payload| Body::own(payload, this.link.clone())),
            Err(router) => router.map(|body| Body::router(body, this.link.clone(), open)),
        };
        this.front.metrics().answered(this.route, response.status());
        Poll::Ready(Ok(response))
    }
}

/// A request body that has to arrive by a deadline.
struct Bounded {
    body: Incoming,
    deadline: Instant,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Bounded {
    fn new(body: Incoming, deadline: Instant) -> Self {
        Self {
            body,
            deadline,
            alarm: None,
        }
    }
}

impl hyper::body::Body for Bounded {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new)));
        }
        let alarm = this
            .alarm
            .get_or_insert_with(|| Box::pin(sleep_until(this.deadline)));
        ready!(alarm.as_mut().poll(cx));
        Poll::Ready(Some(Err(axum::Error::new(std::io::Error::from(
            std::io::ErrorKind::TimedOut,
        )))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
