//! The control API under `/api/v1`: JSON, behind the admin token.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use media::{Format, StreamId, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::auth::{self, AdminToken, Keys};
use crate::clock;
use crate::events::{self, Entry, What};
use crate::sessions::{Session, Sessions};

mod problem;
mod sse;

pub(crate) use problem::Problem;

/// The longest request body.
const BODY_BYTES_MAX: usize = 64 << 10;
/// The most entries of one page of events.
const EVENTS_PAGE: usize = 1_000;

/// What the API reads and steers.
pub(crate) struct Api {
    pub(crate) token: AdminToken,
    pub(crate) keys: Arc<Keys>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) events: Arc<events::Log>,
    pub(crate) origin: origin::Origin,
    pub(crate) started: Utc,
    pub(crate) rtmp: Option<SocketAddr>,
    pub(crate) rtmps: Option<SocketAddr>,
    /// Ends the event streams at shutdown.
    pub(crate) stop: CancellationToken,
}

/// The routes of the API.
pub(crate) fn router(api: Arc<Api>) -> Router {
    let behind_token = Router::new()
        .route("/server", get(server))
        .route("/streams", get(list_streams).post(create_stream))
        .route("/streams/{id}", get(show_stream).delete(delete_stream))
        .route("/streams/{id}/kick", post(kick_stream))
        .route("/events", get(list_events))
        .fallback(|| async {
            Problem::new(StatusCode::NOT_FOUND, "there is no such path in the API")
        })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "the path exists, but not with this method",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(api.clone(), admit))
        .with_state(api);
    Router::new()
        .route("/api/v1/openapi.json", get(openapi))
        .nest("/api/v1", behind_token)
}

async fn admit(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let authorization = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if !api.token.admits(authorization) {
        let detail = "send the admin token, kept in the file admin-token of the data dir: Authorization: Bearer …";
        return Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        let detail = "send the body without a Content-Encoding";
        return Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).into_response();
    }
    let mut response = next.run(request).await;
    response
        .headers_mut()
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn openapi() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        include_str!("openapi.json"),
    )
}

#[derive(Serialize)]
struct Server {
    version: &'static str,
    started: String,
    ingest: BTreeMap<&'static str, String>,
}

async fn server(State(api): State<Arc<Api>>) -> Json<Server> {
    Json(Server {
        version: env!("CARGO_PKG_VERSION"),
        started: clock::rfc3339(api.started),
        ingest: api.ingest(),
    })
}

#[derive(Serialize)]
struct List<T> {
    items: Vec<T>,
    next: Option<u64>,
}

async fn list_streams(State(api): State<Arc<Api>>) -> Json<List<Stream>> {
    let newest_first = api.keys.ids().into_iter().rev();
    Json(List {
        items: newest_first.map(|id| api.stream(&id)).collect(),
        next: None,
    })
}

async fn show_stream(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<Stream>, Problem> {
    Ok(Json(api.stream(&api.known(&id)?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewStream {
    id: String,
}

#[derive(Serialize)]
struct CreatedStream {
    id: String,
    /// Shown this once; only its keyed hash is kept.
    key: String,
    ingest: BTreeMap<&'static str, String>,
}

async fn create_stream(
    State(api): State<Arc<Api>>,
    body: Result<Json<NewStream>, JsonRejection>,
) -> Result<(StatusCode, Json<CreatedStream>), Problem> {
    let Json(new) =
        body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let invalid =
        |error: media::InvalidId| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string());
    let id: StreamId = new.id.parse().map_err(invalid)?;
    let key = api.keys.create(id.clone())?;
    api.events.append(&id, None, What::StreamCreated {});
    let created = CreatedStream {
        id: id.to_string(),
        key: key.expose().to_owned(),
        ingest: api.ingest(),
    };
    Ok((StatusCode::CREATED, Json(created)))
}

async fn delete_stream(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = api.known(&id)?;
    api.keys.delete(&id)?;
    if let Some(session) = api.sessions.get(&id) {
        session.kick.cancel();
    }
    api.events.append(&id, None, What::StreamDeleted {});
    Ok(StatusCode::NO_CONTENT)
}

async fn kick_stream(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = api.known(&id)?;
    let idle = || {
        Problem::new(
            StatusCode::CONFLICT,
            format!("nobody publishes on {id} now"),
        )
    };
    api.sessions.get(&id).ok_or_else(idle)?.kick.cancel();
    Ok(StatusCode::ACCEPTED)
}

#[derive(Deserialize)]
struct EventsQuery {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

async fn list_events(
    State(api): State<Arc<Api>>,
    query: Result<Query<EventsQuery>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(query) =
        query.map_err(|rejection| Problem::new(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    let accepts = |kind: &str| {
        headers
            .get_all(header::ACCEPT)
            .iter()
            .any(|value| value.to_str().is_ok_and(|text| text.contains(kind)))
    };
    if accepts("text/event-stream") {
        // A reconnecting reader names the last entry it saw (HTML Standard, 9.2.4).
        let last_seen = headers
            .get("last-event-id")
            .and_then(|id| id.to_str().ok()?.parse().ok());
        return Ok(sse::response(api, last_seen.unwrap_or(query.after)));
    }
    let limit = query.limit.unwrap_or(EVENTS_PAGE).clamp(1, EVENTS_PAGE);
    let items = api.events.after(query.after, limit);
    let next = (items.len() == limit)
        .then(|| items.last().map(|entry: &Entry| entry.id))
        .flatten();
    Ok(Json(List { items, next }).into_response())
}

impl From<auth::Error> for Problem {
    fn from(error: auth::Error) -> Self {
        let status = match &error {
            auth::Error::Exists(_) | auth::Error::Declared(_) => StatusCode::CONFLICT,
            auth::Error::Unknown(_) => StatusCode::NOT_FOUND,
            auth::Error::Save(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl Api {
    fn known(&self, id: &str) -> Result<StreamId, Problem> {
        let known = id
            .parse::<StreamId>()
            .ok()
            .filter(|id| self.keys.contains(id));
        known.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such stream"))
    }

    /// Publish addresses; `HOST` stands for the name under which the reader reaches this server.
    fn ingest(&self) -> BTreeMap<&'static str, String> {
        let url = |scheme: &'static str, address: Option<SocketAddr>| {
            address.map(|address| (scheme, format!("{scheme}://HOST:{}/live", address.port())))
        };
        url("rtmp", self.rtmp)
            .into_iter()
            .chain(url("rtmps", self.rtmps))
            .collect()
    }

    fn stream(&self, id: &StreamId) -> Stream {
        let Some(session) = self.sessions.get(id) else {
            return Stream {
                id: id.to_string(),
                ..Stream::default()
            };
        };
        let status = session.transcoder.borrow().clone();
        let mut warnings = input_warnings(&session);
        warnings.extend(
            status
                .warnings
                .iter()
                .map(|message| Warning::new("transcoder", message.clone())),
        );
        Stream {
            id: id.to_string(),
            state: Liveness::Live,
            session: Some(session.id.clone()),
            started: Some(clock::rfc3339(session.started)),
            input: Some(input(&session)),
            rungs: status.rungs.iter().map(Rung::from).collect(),
            viewers: self.origin.viewers(id),
            warnings,
        }
    }
}

/// A stream as the API shows it.
#[derive(Default, Serialize)]
struct Stream {
    id: String,
    state: Liveness,
    session: Option<String>,
    started: Option<String>,
    input: Option<Input>,
    rungs: Vec<Rung>,
    viewers: usize,
    warnings: Vec<Warning>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "lowercase")]
enum Liveness {
    #[default]
    Idle,
    Live,
}

#[derive(Serialize)]
struct Input {
    protocol: &'static str,
    encoder: Option<String>,
    video: Option<VideoInput>,
    audio: Option<AudioInput>,
    bitrate: u64,
}

#[derive(Serialize)]
struct VideoInput {
    codec: &'static str,
    width: u16,
    height: u16,
    fps: Option<f64>,
}

#[derive(Serialize)]
struct AudioInput {
    codec: &'static str,
    sample_rate: u32,
    channels: u8,
}

#[derive(Serialize)]
struct Rung {
    name: String,
    codec: &'static str,
    width: u16,
    height: u16,
    /// As the encoder was told; unknown for what is passed through.
    bitrate: Option<u32>,
    passthrough: bool,
}

#[derive(Serialize)]
struct Warning {
    code: &'static str,
    message: String,
}

impl Warning {
    fn new(code: &'static str, message: String) -> Self {
        Self { code, message }
    }
}

impl From<&transcoder::Rung> for Rung {
    fn from(rung: &transcoder::Rung) -> Self {
        Self {
            name: rung.name.to_string(),
            codec: rung.codec,
            width: rung.width,
            height: rung.height,
            bitrate: rung.bitrate_bps,
            passthrough: rung.passthrough,
        }
    }
}

fn input(session: &Session) -> Input {
    let known = session.input();
    let tracks = known.meter.tracks().cloned().unwrap_or_else(|| [].into());
    let video = tracks.iter().find_map(|track| match track.format {
        Format::Video(video) => Some(VideoInput {
            codec: track.codec.name(),
            width: video.width,
            height: video.height,
            fps: known.meter.fps().map(|fps| (fps * 100.0).round() / 100.0),
        }),
        Format::Audio(_) => None,
    });
    let audio = tracks.iter().find_map(|track| match track.format {
        Format::Audio(audio) => Some(AudioInput {
            codec: track.codec.name(),
            sample_rate: audio.sample_rate,
            channels: audio.channels,
        }),
        Format::Video(_) => None,
    });
    let bitrate = known.meter.bits_per_second();
    Input {
        protocol: session.protocol,
        encoder: session.encoder.clone(),
        video,
        audio,
        bitrate,
    }
}

fn input_warnings(session: &Session) -> Vec<Warning> {
    let known = session.input();
    let slow = known.meter.slow_keyframes().map(|interval| {
        let seconds = interval.as_secs();
        let mend =
            "set the keyframe interval to 2 s in your encoder (OBS: Output, Keyframe Interval)";
        Warning::new(
            "keyframe_interval",
            format!("Keyframes every {seconds} s: {mend}."),
        )
    });
    let ingest = known
        .warnings
        .iter()
        .map(|message| Warning::new("ingest", message.clone()));
    slow.into_iter().chain(ingest).collect()
}
