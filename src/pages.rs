//! The player page and the dashboard, embedded in the binary.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};

/// What `make web` built. A checkout without it still compiles and says so in the page's place.
#[derive(RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Built;

/// Everything the pages load comes from here; media is made of blobs. The player may be framed by other sites, the
/// dashboard by none.
const PLAYER_POLICY: &str = "default-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; \
     img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors *";
const DASHBOARD_POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
     frame-ancestors 'none'";

/// `/`, `/watch/ID` and `/assets/…`.
pub(crate) fn router() -> Router {
    Router::new()
        .route(
            "/",
            get(|headers: HeaderMap| async move { page("index.html", DASHBOARD_POLICY, &headers) }),
        )
        .route(
            "/watch/{id}",
            get(|headers: HeaderMap| async move { page("watch.html", PLAYER_POLICY, &headers) }),
        )
        .route("/assets/{name}", get(asset))
}

fn page(name: &str, policy: &'static str, headers: &HeaderMap) -> Response {
    let Some(file) = Built::get(name) else {
        let mend = "The pages are not part of this build. Run `make web` and build again.\n";
        return (StatusCode::SERVICE_UNAVAILABLE, mend).into_response();
    };
    let mut response = answer(name, file, headers, "no-cache");
    let security = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    response
        .headers_mut()
        .extend(security.map(|(name, value)| (name, header::HeaderValue::from_static(value))));
    response
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    // The name is looked up among the embedded ones; it never reaches a file system.
    match Built::get(&format!("assets/{name}")) {
        // Asset names carry a hash of their content.
        Some(file) => answer(
            &format!("assets/{name}"),
            file,
            &headers,
            "public, max-age=31536000, immutable",
        ),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The file, compressed where the build made it so and the reader takes it.
fn answer(name: &str, file: EmbeddedFile, headers: &HeaderMap, cache: &'static str) -> Response {
    let kind = file.metadata.mimetype().to_owned();
    let compressed = takes_gzip(headers)
        .then(|| Built::get(&format!("{name}.gz")))
        .flatten();
    let encoding = compressed
        .is_some()
        .then_some([(header::CONTENT_ENCODING, "gzip")]);
    let file = compressed.unwrap_or(file);
    let digest = file.metadata.sha256_hash();
    let tag = digest[..12]
        .iter()
        .fold(String::from("\""), |tag, byte| format!("{tag}{byte:02x}"))
        + "\"";
    let known = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|given| given.as_bytes() == tag.as_bytes());
    let shared = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, cache.to_owned()),
        (header::VARY, "Accept-Encoding".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, shared).into_response();
    }
    let kind = [(header::CONTENT_TYPE, kind)];
    let body = file.data.into_owned();
    match encoding {
        Some(encoding) => (shared, kind, encoding, body).into_response(),
        None => (shared, kind, body).into_response(),
    }
}

/// Whether `Accept-Encoding` names gzip and does not rule it out (RFC 9110 section 12.5.3).
fn takes_gzip(headers: &HeaderMap) -> bool {
    let codings = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.into_iter().any(|coding| {
        let mut parameters = coding.split(';').map(str::trim);
        let gzip = parameters
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parameters.find_map(|parameter| parameter.strip_prefix("q="));
        gzip && weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
    })
}

/// Whether this build holds the pages.
pub(crate) fn built() -> bool {
    Built::get("index.html").is_some() && Built::get("watch.html").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_where_it_is_named_and_not_ruled_out() {
        let takes = |value: &'static str| {
            let headers = [(
                header::ACCEPT_ENCODING,
                header::HeaderValue::from_static(value),
            )];
            takes_gzip(&headers.into_iter().collect())
        };
        assert!(takes("gzip") && takes("br, GZIP;q=0.5") && takes("deflate,gzip ; q=1.0"));
        assert!(!takes("") && !takes("br") && !takes("gzip;q=0") && !takes("gzip;q=0.0, br"));
    }
}
