//! Swagger UI, for the OpenAPI documents; its files are in our binary.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, header};
use tracing::error;
use utoipa_swagger_ui::{Config, Url};

use crate::{OPENAPI_DOCUMENTS, Problem};

/// Swagger UI sets styles from its scripts and carries its pictures in them; nothing else comes from elsewhere.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Put before Swagger UI's own part of its page: the way to what it cannot show.
const BEFORE: &str = r#"<div id="swagger-ui">"#;
const LINKS: &str = r#"<nav style="font: 1rem/1.5 sans-serif; padding: 0.75rem 1.25rem">Operations &middot; <a href="/api/docs/events">Events and frames</a> &middot; <a href="/api/docs/problems">Problems</a></nav>"#;

pub fn router() -> Router {
    let urls = OPENAPI_DOCUMENTS
        .iter()
        .map(|(path, _)| Url::new(path.rsplit('/').next().unwrap_or(path), path))
        .collect::<Vec<_>>();
    Router::new()
        .route("/api/docs/", get(async |config| answer(config, "")))
        .route("/api/docs/{file}", get(async |config, Path::<String>(file)| answer(config, &file)))
        .with_state(Arc::new(Config::new(urls)))
}

fn answer(State(config): State<Arc<Config<'static>>>, file: &str) -> Response {
    match utoipa_swagger_ui::serve(file, config) {
        Ok(Some(found)) => {
            let mut response = if file.is_empty() {
                let html = String::from_utf8_lossy(&found.bytes);
                html.replacen(BEFORE, &format!("{LINKS}{BEFORE}"), 1).into_response()
            } else {
                found.bytes.into_response()
            };
            let headers = response.headers_mut();
            if let Ok(kind) = found.content_type.parse() {
                headers.insert(header::CONTENT_TYPE, kind);
            }
            headers
                .insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            response
        }
        Ok(None) => Problem::not_found(format!("there is no file {file} of Swagger UI")).into_response(),
        Err(problem) => {
            error!(%problem, file, "Swagger UI cannot serve its own file");
            Problem::internal().into_response()
        }
    }
}
