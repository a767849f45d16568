//! Swagger UI for the OpenAPI documents. The binary contains its files.

use askama::Template;
use axum::{Router, routing::get};
use serde_json::{Value, json};

use super::page::answer;
use crate::OPENAPI_DOCUMENTS;

include!(concat!(env!("OUT_DIR"), "/swagger_ui.rs"));

/// Swagger UI sets styles from its scripts and has its pictures in them. It loads nothing from other hosts.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'";

#[derive(Template)]
#[template(path = "swagger.html")]
struct Page;

#[derive(Template)]
#[template(path = "swagger-initializer.js", escape = "none")]
struct Initializer {
    /// The documents to show, as JSON.
    urls: Value,
}

pub fn router() -> Router {
    let urls = OPENAPI_DOCUMENTS.iter().map(|(path, _)| json!({ "name": path.rsplit('/').next(), "url": path }));
    let [page, initializer] = [Page.render(), Initializer { urls: urls.collect() }.render()]
        .map(|text| text.expect("the template has no filter that fails"));
    let pages = Router::new()
        .route("/api/docs/", get(async move || answer("text/html; charset=utf-8", POLICY, page)))
        .route("/api/docs/swagger-initializer.js", get(async move || answer("text/javascript", POLICY, initializer)));
    FILES.iter().fold(pages, |router, (name, kind, bytes)| {
        router.route(&format!("/api/docs/{name}"), get(async move || answer(kind, POLICY, *bytes)))
    })
}
