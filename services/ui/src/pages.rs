//! The routes of the browser app: the page and its files, with security headers. They need no database.

use std::sync::LazyLock;

use askama::Template;
use axum::{
    Router,
    extract::Path,
    response::{IntoResponse, Response},
    routing::get,
};
use flack_api::Problem;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::{
    assets::ASSETS,
    bundle::{BUNDLE, Bundle, File},
};

/// Allows only our own files and nothing inline. The last two directives (Trusted Types) make the browser refuse HTML
/// that does not pass the one policy in dom.js.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src 'self' data: blob:; worker-src 'self'; base-uri 'none'; form-action 'none'; \
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

/// For a file whose name has the hash of its content: browsers keep it for a year and never ask for it again.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// For the page, and for files whose name does not say what they contain: revalidated at each request, nearly always
/// with 304.
const REVALIDATED: &str = "no-cache";

/// Rendered once: the page is the same for every request.
static PAGE: LazyLock<File> = LazyLock::new(|| {
    let page = Page { bundle: &BUNDLE }.render().expect("a template without conditions renders");
    File::new("text/html; charset=utf-8", page)
});

#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    bundle: &'static Bundle,
}

/// `GET /` and `GET /static/..`.
pub fn router() -> Router {
    Router::new().route("/", get(get_page)).route("/static/{*path}", get(get_static_file))
}

async fn get_page(headers: HeaderMap) -> Response {
    respond(&headers, &PAGE, REVALIDATED)
}

/// A path with the hash of another build gets the present content: during an upgrade the page may come from one version
/// and its files from the other. Files under their plain names are for the pages of versions before the bundle.
async fn get_static_file(headers: HeaderMap, Path(path): Path<String>) -> Response {
    if let Some((file, hash)) = BUNDLE.find(&path) {
        return respond(&headers, file, if hash == file.hash { IMMUTABLE } else { REVALIDATED });
    }
    match ASSETS.iter().find(|asset| asset.path == path) {
        Some(asset) => respond(&headers, &File::new(asset.kind, asset.bytes), REVALIDATED),
        None => secured(
            Problem::not_found(format!("there is no file /static/{path}; reload the page to load the present files"))
                .into_response(),
        ),
    }
}

fn respond(request: &HeaderMap, file: &File, cache_control: &'static str) -> Response {
    let is_compressed = values(request, header::ACCEPT_ENCODING).any(|coding| coding == "gzip");
    // Each form needs a tag of its own.
    let tag = if is_compressed { format!("\"{}-gzip\"", file.hash) } else { format!("\"{}\"", file.hash) };
    let is_known = values(request, header::IF_NONE_MATCH).any(|known| known.trim_start_matches("W/") == tag);
    let caching = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, cache_control.to_owned()),
        (header::VARY, header::ACCEPT_ENCODING.to_string()),
    ];
    let kind = [(header::CONTENT_TYPE, file.kind)];
    secured(if is_known {
        (StatusCode::NOT_MODIFIED, caching).into_response()
    } else if is_compressed {
        (caching, kind, [(header::CONTENT_ENCODING, "gzip")], file.gzip.clone()).into_response()
    } else {
        (caching, kind, file.plain.clone()).into_response()
    })
}

/// The values of a header that has a list. A coding with a parameter (`gzip;q=0`, which nothing sends) is not `gzip`.
fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|list| list.split(',')).map(str::trim)
}

fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
