//! The routes of the browser app: the page and its files, with security headers. They need no database.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};

use askama::Template;
use axum::{
    Router,
    extract::Path,
    response::{IntoResponse, Response},
    routing::get,
};
use flack_api::Problem;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::assets::{ASSETS, Asset};

/// Allows only our own files and nothing inline. The last two directives (Trusted Types) make the browser refuse HTML
/// that does not pass the one policy in dom.js.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src 'self' data:; worker-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types flack";

/// Set on every response of this module.
const SECURITY_HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The browser revalidates every file, nearly always with 304. File names have no version, so a cache could otherwise
/// combine the page of one build with modules of another.
const CACHE_CONTROL: &str = "no-cache";

const HTML: &str = "text/html; charset=utf-8";

/// Rendered once: the page is the same for every request.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    Page { styles: paths_of("css/"), modules: paths_of("js/").into_iter().filter(|path| is_module(path)).collect() }
        .render()
        .expect("a template without conditions renders")
});

#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    styles: Vec<String>,
    modules: Vec<String>,
}

/// `GET /` and `GET /static/..`.
pub fn router() -> Router {
    Router::new().route("/", get(get_page)).route("/static/{*path}", get(get_static_file))
}

async fn get_page(headers: HeaderMap) -> Response {
    cached(&headers, HTML, PAGE.as_bytes())
}

async fn get_static_file(headers: HeaderMap, Path(path): Path<String>) -> Response {
    match ASSETS.iter().find(|asset| asset.path == path) {
        Some(Asset { kind, bytes, .. }) => cached(&headers, kind, bytes),
        None => secured(
            Problem::not_found(format!("there is no file /static/{path}; reload the page to load the present files"))
                .into_response(),
        ),
    }
}

fn cached(request: &HeaderMap, kind: &'static str, bytes: &'static [u8]) -> Response {
    let tag = entity_tag(bytes);
    let asked = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = asked.flat_map(|value| value.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag);
    let caching = [(header::ETAG, tag), (header::CACHE_CONTROL, CACHE_CONTROL.to_owned())];
    secured(if is_known {
        (StatusCode::NOT_MODIFIED, caching).into_response()
    } else {
        (caching, [(header::CONTENT_TYPE, kind)], bytes).into_response()
    })
}

fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Returns the same tag for the same content on every instance. It needs no cryptographic hash.
fn entity_tag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

fn paths_of(folder: &str) -> Vec<String> {
    ASSETS
        .iter()
        .filter(|asset| asset.path.starts_with(folder))
        .map(|asset| format!("/static/{}", asset.path))
        .collect()
}

/// Whether a script is a module. Two are not: one runs before the first paint, one is a worker.
fn is_module(path: &str) -> bool {
    !["theme-first.js", "heartbeat.js"].iter().any(|name| path.ends_with(name))
}
