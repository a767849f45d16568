//! The documents agree with the generated code.

use std::collections::BTreeSet;

use crate::support::everything;
use axum::{
    Router,
    body::{Body, to_bytes},
};
use flack_api::{OPENAPI_DOCUMENTS, docs};
use http::{Request, Response, StatusCode};
use openapiv3::OpenAPI;
use serde_json::json;
use tower::ServiceExt;

async fn send(router: Router, request: Request<Body>) -> Response<Body> {
    router.oneshot(request).await.expect("a router does not fail")
}

async fn get(path: &str) -> Response<Body> {
    send(docs::router(), Request::get(path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn every_operation_of_every_document_goes_through_router_trait_and_client() {
    // Good for every operation: what one does not know, it ignores.
    let body = json!({
        "nickname": "alice", "password": "secret", "source": "hello", "theme": "dark", "notifications": true,
        "message_id": 1, "kind": "public", "name": "general"
    });
    let router = everything();
    let mut operations = 0;
    for (part, document) in OPENAPI_DOCUMENTS {
        let document: OpenAPI = serde_yaml_ng::from_str(document).unwrap();
        for (path, method, operation) in document.operations() {
            let has_bytes = format!("{:?}", operation.request_body).contains("octet-stream");
            let path = path.replace("{id}", "1").replace("{user_id}", "1").replace("{channel}", "general");
            let basic = format!("{:?}", operation.security).contains("basic");
            let request = Request::builder()
                .method(method.to_uppercase().as_str())
                .uri(path.replace("{file_id}", "1") + "?name=a&q=a")
                .header("authorization", if basic { "Basic YWxpY2U6eA==" } else { "Bearer good" })
                .header("content-type", if has_bytes { "application/octet-stream" } else { "application/json" })
                .body(Body::from(body.to_string()))
                .unwrap();
            let status = send(router.clone(), request).await.status().as_u16();
            let id = operation.operation_id.as_deref().unwrap();
            if operation.extensions.contains_key("x-page") {
                assert_eq!(status, 404, "{id} is a page, which {part} serves without a generated handler");
                continue;
            }
            operations += 1;
            let unavailable = openapiv3::StatusCode::Code(503);
            let declared = operation.responses.responses.contains_key(&unavailable);
            assert_eq!(status, if declared { 503 } else { 500 }, "{id}: its peer is away");
        }
    }
    assert!(operations >= 18, "only {operations} operations were tried");
}

#[tokio::test]
async fn the_documents_and_schemas_are_served() {
    let others = [
        "/api/docs/schemas/frames.schema.json",
        "/api/docs/schemas/frames.v2.schema.json",
        "/api/docs/schemas/events.schema.json",
        "/api/docs/schemas/envelope.schema.json",
        "/api/docs/asyncapi/events.v1.yaml",
    ];
    for path in OPENAPI_DOCUMENTS.iter().map(|(path, _)| *path).chain(others) {
        let kind = if path.contains("/schemas/") { "application/schema+json" } else { "application/yaml" };
        let (kind_sent, text) = page(path).await;
        assert_eq!(kind_sent, kind);
        let file = path.replace("/api/docs", env!("CARGO_MANIFEST_DIR"));
        assert_eq!(text, std::fs::read_to_string(file).unwrap(), "{path}");
    }
}

pub async fn page(path: &str) -> (String, String) {
    let response = get(path).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (kind, String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test]
async fn swagger_ui_works_offline_and_under_a_strict_policy() {
    let redirect = get("/api/docs").await;
    assert_eq!(redirect.headers()["location"], "/api/docs/");

    let response = get("/api/docs/").await;
    let policy = response.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("script-src 'self';"), "{policy}");

    let (_, html) = page("/api/docs/").await;
    let mut files = BTreeSet::new();
    for tag in html.split('<').filter(|tag| tag.starts_with("script") || tag.starts_with("link")) {
        let source = tag.split_once("src=\"").or(tag.split_once("href=\"")).expect("nothing is inline").1;
        files.insert(source.split('"').next().unwrap().trim_start_matches("./"));
    }
    assert!(files.contains("swagger-initializer.js"), "{files:?}");
    for file in files {
        assert!(!file.contains("//"), "{file} comes from elsewhere");
        page(&format!("/api/docs/{file}")).await;
    }
    let (kind, initializer) = page("/api/docs/swagger-initializer.js").await;
    assert!(kind.contains("javascript"));
    for (path, _) in OPENAPI_DOCUMENTS {
        assert!(initializer.contains(path), "{initializer}");
    }
}

#[tokio::test]
async fn a_file_that_swagger_ui_does_not_have_is_not_found() {
    for path in ["/api/docs/nothing.js", "/api/docs/..%2fCargo.toml"] {
        let response = get(path).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn the_pages_of_operations_events_and_problems_link_to_each_other() {
    for path in ["/api/docs/", "/api/docs/events", "/api/docs/problems"] {
        let (_, html) = page(path).await;
        for link in ["/api/docs/events", "/api/docs/problems"] {
            assert!(html.contains(&format!("<a href=\"{link}\">")), "{path} does not link to {link}");
        }
    }
    let redirect = get("/api/docs/asyncapi.yaml").await;
    assert_eq!(redirect.headers()["location"], "/api/docs/asyncapi/events.v1.yaml");
}

#[tokio::test]
async fn our_own_pages_need_one_style_sheet_and_have_no_broken_link() {
    for path in ["/api/docs/events", "/api/docs/problems"] {
        let response = get(path).await;
        let policy = response.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'self';"), "{policy}");

        let (_, html) = page(path).await;
        for banned in ["<script", "style=\"", "onclick", "src=", "http://", "https://"] {
            assert!(!html.contains(banned), "{path} has {banned}");
        }
        for link in html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            match link.strip_prefix('#') {
                Some(anchor) => assert!(html.contains(&format!(" id=\"{anchor}\"")), "{path} has no {link}"),
                None => drop(page(link).await),
            }
        }
    }
}

#[tokio::test]
async fn the_page_of_events_lists_every_definition_of_the_schemas() {
    let (_, html) = page("/api/docs/events").await;
    for (schema, names) in [
        (flack_api::events::SCHEMA, ["UserModel", "TokenModel", "user_changed", "message_changed", "token_changed"]),
        (flack_api::frames::SCHEMA, ["client_hello", "client_typing", "server_typing", "server_welcome", "ModelClass"]),
        (
            flack_api::frames_v2::SCHEMA,
            ["client_v2_hello", "client_v2_typing", "server_v2_typing", "server_v2_welcome", "Token"],
        ),
    ] {
        for name in names {
            assert!(html.contains(&format!(" id=\"{name}\"")), "{name}");
        }
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        for (_, definition) in schema["definitions"].as_object().unwrap() {
            let alternatives = definition["oneOf"].as_array().into_iter().flatten().chain([definition]);
            for (member, _) in alternatives.filter_map(|shape| shape["properties"].as_object()).flatten() {
                assert!(member == "type" || html.contains(&format!("<code>{member}</code>")), "{member}");
            }
        }
    }
    assert!(html.contains("flack.users.{type}.{entity_id}") && html.contains("personal data"));
}
