//! `/api/docs`: the documents, to read in a browser, without the Internet.
//!
//! Operations in Swagger UI, events, frames and problems as plain pages, and every document as it is.

mod swagger;
mod page;
mod shapes;
mod events;
mod problems;

use axum::{Router, response::Redirect, routing::get};
use http::header;

use crate::{events as streams, frames, messages, tokens, ui, users};

const YAML: &str = "application/yaml";
const JSON_SCHEMA: &str = "application/schema+json";
const MARKDOWN: &str = "text/markdown; charset=utf-8";

/// Where, what kind, and the text. They refer to each other by relative paths, which are the same here as in `api/`.
const DOCUMENTS: [(&str, &str, &str); 9] = [
    ("/api/docs/openapi/users.v1.yaml", YAML, users::DOCUMENT),
    ("/api/docs/openapi/tokens.v1.yaml", YAML, tokens::DOCUMENT),
    ("/api/docs/openapi/messages.v1.yaml", YAML, messages::DOCUMENT),
    ("/api/docs/openapi/ui.v1.yaml", YAML, ui::DOCUMENT),
    (ASYNCAPI, YAML, streams::DOCUMENT),
    ("/api/docs/schemas/frames.schema.json", JSON_SCHEMA, frames::SCHEMA),
    ("/api/docs/schemas/events.schema.json", JSON_SCHEMA, streams::SCHEMA),
    ("/api/docs/schemas/envelope.schema.json", JSON_SCHEMA, streams::ENVELOPE_SCHEMA),
    ("/api/docs/problems.md", MARKDOWN, problems::TEXT),
];
const ASYNCAPI: &str = "/api/docs/asyncapi/events.v1.yaml";

pub fn router() -> Router {
    let operations = DOCUMENTS.iter().map(|(path, ..)| *path).filter(|path| path.contains("/openapi/"));
    let pages = Router::new()
        .route("/api/docs", get(async || Redirect::permanent("/api/docs/")))
        .route("/api/docs/events", get(async || page::answer(&events::PAGE)))
        .route("/api/docs/problems", get(async || page::answer(&problems::PAGE)))
        .route(
            "/api/docs/page.css",
            get(async || ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], page::STYLE)),
        )
        // Its `$ref`s are relative to where it really is.
        .route("/api/docs/asyncapi.yaml", get(async || Redirect::permanent(ASYNCAPI)))
        .merge(swagger::router(operations));
    DOCUMENTS.into_iter().fold(pages, |router, (path, kind, text)| {
        router.route(path, get(async move || ([(header::CONTENT_TYPE, kind)], text)))
    })
}
