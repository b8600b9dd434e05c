//! The ops port: metrics and health, apart from viewers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus::{Encoder as _, Registry, TextEncoder};
use serde::Serialize;

use crate::auth::AdminToken;

/// Whether the node takes publishers, and why not.
#[derive(Default)]
pub(crate) struct Readiness {
    draining: AtomicBool,
}

impl Readiness {
    /// From here on publishers should go elsewhere.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

/// What the ops port shows.
pub(crate) struct Ops {
    pub(crate) registry: Registry,
    pub(crate) readiness: Arc<Readiness>,
    /// Present when the port is not on loopback: then it asks for the admin token.
    pub(crate) token: Option<AdminToken>,
}

/// `/metrics`, `/healthz`, `/readyz`.
pub(crate) fn router(ops: Arc<Ops>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/readyz", get(ready))
        .layer(middleware::from_fn_with_state(ops.clone(), admit))
        .with_state(ops)
        .route("/healthz", get(|| async { "ok\n" }))
}

async fn admit(State(ops): State<Arc<Ops>>, request: Request, next: Next) -> Response {
    let authorization = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    match &ops.token {
        Some(token) if !token.admits(authorization) => StatusCode::UNAUTHORIZED.into_response(),
        _ => next.run(request).await,
    }
}

async fn metrics(State(ops): State<Arc<Ops>>) -> Response {
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    match encoder.encode(&ops.registry.gather(), &mut text) {
        Ok(()) => (
            [(header::CONTENT_TYPE, encoder.format_type().to_owned())],
            text,
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    dependencies: Dependencies,
}

#[derive(Serialize)]
struct Dependencies {
    publishing: &'static str,
}

async fn ready(State(ops): State<Arc<Ops>>) -> Response {
    let draining = ops.readiness.draining.load(Ordering::Relaxed);
    let (status, publishing) = if draining {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        (StatusCode::OK, "accepting")
    };
    (
        status,
        Json(Ready {
            ready: !draining,
            dependencies: Dependencies { publishing },
        }),
    )
        .into_response()
}
