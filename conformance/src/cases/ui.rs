//! The browser app's page and files, and each user's preferences and read markers.

use anyhow::{Context as _, Result, ensure};
use reqwest::StatusCode;
use serde_json::json;

use crate::{
    cases,
    client::Auth,
    suite::{Case, World},
};

pub fn cases() -> Vec<Case> {
    cases![
        the_page_has_a_strict_content_security_policy,
        every_file_that_the_page_links_exists,
        stats_return_the_request_rate,
        the_api_documents_are_served,
        parts_are_listed_with_owner_and_stage,
        preferences_are_stored_per_user,
        a_read_marker_never_moves_back,
        unknown_paths_are_not_found,
        a_valid_correlation_id_is_kept_and_an_invalid_one_replaced,
    ]
}

async fn the_page_has_a_strict_content_security_policy(World { client, .. }: World) -> Result<()> {
    let page = client.get("/", Auth::None, StatusCode::OK).await?;
    let policy = page.header("content-security-policy");
    ensure!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "policy: {policy}");
    ensure!(page.header("x-content-type-options") == "nosniff");
    Ok(())
}

async fn every_file_that_the_page_links_exists(World { client, .. }: World) -> Result<()> {
    let page = client.get("/", Auth::None, StatusCode::OK).await?;
    let text = page.body.as_str().context("the page is not text")?.to_owned();
    let files: Vec<_> = text.split('"').filter(|part| part.starts_with("/static/")).collect();
    ensure!(!files.is_empty(), "the page links no file");
    for file in files {
        client.get(file, Auth::None, StatusCode::OK).await.with_context(|| file.to_owned())?;
    }
    client.get("/static/no-such-file.js", Auth::None, StatusCode::NOT_FOUND).await?;
    client.get("/static/../Cargo.toml", Auth::None, StatusCode::NOT_FOUND).await?;
    Ok(())
}

async fn stats_return_the_request_rate(World { client, .. }: World) -> Result<()> {
    let stats = client.get("/stats", Auth::None, StatusCode::OK).await?;
    ensure!(stats.body["requests_per_second"].as_f64().is_some_and(|rate| rate >= 0.0));
    Ok(())
}

async fn the_api_documents_are_served(World { client, .. }: World) -> Result<()> {
    let page = client.get("/api/docs/", Auth::None, StatusCode::OK).await?;
    ensure!(page.body.as_str().is_some_and(|text| text.contains("swagger-ui")), "no Swagger UI");
    Ok(())
}

async fn preferences_are_stored_per_user(World { client, .. }: World) -> Result<()> {
    let (one, other) = (client.person("dark").await?, client.person("default").await?);
    let path = "/api/ui/preferences";
    let before = client.get(path, Auth::Token(&one.token), StatusCode::OK).await?;
    ensure!(before.body["theme"] == json!("system"));
    let body = json!({ "theme": "dark", "notifications": true });
    client.put(path, Auth::Token(&one.token), &body, StatusCode::NO_CONTENT).await?;
    ensure!(client.get(path, Auth::Token(&one.token), StatusCode::OK).await?.body == body);
    ensure!(client.get(path, Auth::Token(&other.token), StatusCode::OK).await?.body["theme"] == json!("system"));
    for bad in [json!({ "theme": "pink", "notifications": true }), json!({ "theme": "dark" }), json!([])] {
        client.put(path, Auth::Token(&one.token), &bad, StatusCode::BAD_REQUEST).await?;
    }
    Ok(())
}

async fn parts_are_listed_with_owner_and_stage(World { client, .. }: World) -> Result<()> {
    let reader = client.person("curious").await?;
    let list = client.get("/api/ui/parts", Auth::Token(&reader.token), StatusCode::OK).await?;
    let parts = list.body["parts"].as_array().context("there is no list")?;
    ensure!(parts.len() == 5, "{parts:?}");
    for part in parts {
        let is_owner = part["owner"] == json!("monolith") || part["owner"] == part["name"];
        ensure!(is_owner && part["stage"].is_string(), "{part}");
    }
    for header in ["x-flack-service", "x-flack-instance", "x-flack-version"] {
        ensure!(!list.header(header).is_empty(), "there is no {header}");
    }
    client.get("/api/ui/parts", Auth::None, StatusCode::UNAUTHORIZED).await?;
    Ok(())
}

async fn a_read_marker_never_moves_back(World { client, .. }: World) -> Result<()> {
    let reader = client.person("reader").await?;
    let auth = Auth::Token(&reader.token);
    for message_id in [5, 9, 7] {
        let body = json!({ "message_id": message_id });
        client.put("/api/ui/read_markers/general", auth, &body, StatusCode::NO_CONTENT).await?;
    }
    let list = client.get("/api/ui/read_markers", auth, StatusCode::OK).await?;
    ensure!(list.body["read_markers"][0]["message_id"] == json!(9), "{}", list.body);
    client.put("/api/ui/read_markers/general", auth, &json!({ "message_id": 0 }), StatusCode::BAD_REQUEST).await?;
    Ok(())
}

async fn unknown_paths_are_not_found(World { client, .. }: World) -> Result<()> {
    for path in ["/nowhere", "/api/nowhere", "/api/users/1/nothing", "/api/usersfoo"] {
        let answer = client.get(path, Auth::None, StatusCode::NOT_FOUND).await.with_context(|| path.to_owned())?;
        ensure!(answer.header("content-type").starts_with("application/problem+json"), "{path}");
    }
    // Internal endpoints are not reachable through the public listener.
    for path in ["/internal/anything", "/metrics", "/health", "/ready"] {
        client.get(path, Auth::None, StatusCode::NOT_FOUND).await.with_context(|| path.to_owned())?;
    }
    Ok(())
}

async fn a_valid_correlation_id_is_kept_and_an_invalid_one_replaced(World { client, .. }: World) -> Result<()> {
    let get = || client.request(reqwest::Method::GET, "/api/users/987654321987", Auth::None);
    let kept = client.send(get().header("X-Correlation-ID", "my-request-1"), StatusCode::NOT_FOUND).await?;
    ensure!(kept.header("x-correlation-id") == "my-request-1");
    ensure!(kept.body["correlation_id"] == json!("my-request-1"), "{}", kept.body);
    let made = client.send(get(), StatusCode::NOT_FOUND).await?;
    ensure!(!made.header("x-correlation-id").is_empty());
    let replaced = client.send(get().header("X-Correlation-ID", "<bad id>"), StatusCode::NOT_FOUND).await?;
    ensure!(replaced.header("x-correlation-id") != "<bad id>");
    Ok(())
}
