//! `/api/docs`: the documents for a browser, without Internet access.
//!
//! Operations in Swagger UI; events, frames and problems as plain pages; every document as a file.

mod swagger;
mod page;
mod schemas;
mod events;
mod problems;

use axum::{Router, response::Redirect, routing::get};
use http::header;

use crate::{OPENAPI_DOCUMENTS, events as streams, frames, frames_v2};

const YAML: &str = "application/yaml";
const JSON_SCHEMA: &str = "application/schema+json";
const MARKDOWN: &str = "text/markdown; charset=utf-8";
const ASYNCAPI: &str = "/api/docs/asyncapi/events.v1.yaml";

/// Path, media type and text. The documents refer to each other by relative paths, which are the same as in `api/`.
const OTHER_DOCUMENTS: [(&str, &str, &str); 6] = [
    (ASYNCAPI, YAML, streams::DOCUMENT),
    ("/api/docs/schemas/frames.schema.json", JSON_SCHEMA, frames::SCHEMA),
    ("/api/docs/schemas/frames.v2.schema.json", JSON_SCHEMA, frames_v2::SCHEMA),
    ("/api/docs/schemas/events.schema.json", JSON_SCHEMA, streams::SCHEMA),
    ("/api/docs/schemas/envelope.schema.json", JSON_SCHEMA, streams::ENVELOPE_SCHEMA),
    ("/api/docs/problems.md", MARKDOWN, problems::TEXT),
];

pub fn router() -> Router {
    let openapi = OPENAPI_DOCUMENTS.iter().map(|(path, text)| (*path, YAML, *text));
    let pages = Router::new()
        .route("/api/docs", get(async || Redirect::permanent("/api/docs/")))
        .route("/api/docs/events", get(async || page::page(&events::PAGE)))
        .route("/api/docs/problems", get(async || page::page(&problems::PAGE)))
        .route("/api/docs/page.css", get(async || ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], page::STYLE)))
        // A redirect, because the document's `$ref`s are relative to its own path.
        .route("/api/docs/asyncapi.yaml", get(async || Redirect::permanent(ASYNCAPI)))
        .merge(swagger::router());
    openapi.chain(OTHER_DOCUMENTS).fold(pages, |router, (path, kind, text)| {
        router.route(path, get(async move || ([(header::CONTENT_TYPE, kind)], text)))
    })
}
