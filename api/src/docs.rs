//! `/api/docs`: the documents, to read in Swagger UI, without the Internet.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use http::{HeaderValue, header};
use tracing::error;
use utoipa_swagger_ui::{Config, Url};

use crate::{Problem, messages, tokens, ui, users};

/// Swagger UI sets styles from its scripts and carries its pictures in them; nothing else comes from elsewhere.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const YAML: &str = "application/yaml";
const JSON_SCHEMA: &str = "application/schema+json";

/// Where, what kind, and the text.
const DOCUMENTS: [(&str, &str, &str); 6] = [
    ("/api/docs/openapi/users.v1.yaml", YAML, users::DOCUMENT),
    ("/api/docs/openapi/tokens.v1.yaml", YAML, tokens::DOCUMENT),
    ("/api/docs/openapi/messages.v1.yaml", YAML, messages::DOCUMENT),
    ("/api/docs/openapi/ui.v1.yaml", YAML, ui::DOCUMENT),
    ("/api/docs/schemas/frames.schema.json", JSON_SCHEMA, include_str!("../schemas/frames.schema.json")),
    ("/api/docs/schemas/events.schema.json", JSON_SCHEMA, include_str!("../schemas/events.schema.json")),
];

pub fn router() -> Router {
    let shown = DOCUMENTS.iter().filter(|(_, kind, _)| *kind == YAML);
    let urls: Vec<Url> =
        shown.map(|(path, ..)| Url::new(path.rsplit('/').next().unwrap_or(path), path)).collect();
    let pages = Router::new()
        .route("/api/docs", get(async || Redirect::permanent("/api/docs/")))
        .route("/api/docs/", get(async |config| page(config, "")))
        .route("/api/docs/{file}", get(async |config, Path::<String>(file)| page(config, &file)))
        .with_state(Arc::new(Config::new(urls)));
    DOCUMENTS.into_iter().fold(pages, |router, (path, kind, text)| {
        router.route(path, get(async move || ([(header::CONTENT_TYPE, kind)], text)))
    })
}

fn page(State(config): State<Arc<Config<'static>>>, file: &str) -> Response {
    match utoipa_swagger_ui::serve(file, config) {
        Ok(Some(file)) => {
            let mut response = file.bytes.into_response();
            let headers = response.headers_mut();
            if let Ok(kind) = file.content_type.parse() {
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
