//! Bad input for every operation of the documents: the answer is a 4xx with a problem that explains it.

use anyhow::{Context as _, Result, ensure};
use flack_catalogue::Service;
use reqwest::{Method, RequestBuilder, StatusCode, header::CONTENT_TYPE};

use crate::{
    cases,
    client::{Auth, Client, Person},
    contract::Operation,
    stack::Stage,
    suite::{Case, World},
};

pub fn cases() -> Vec<Case> {
    cases![
        a_body_that_is_not_json_is_refused_by_every_operation,
        a_body_of_the_wrong_shape_is_refused_by_every_operation,
        a_body_of_another_media_type_is_refused_by_every_operation,
        a_body_that_is_too_large_is_refused_by_every_operation,
        a_missing_or_bad_token_is_refused_by_every_operation,
        an_id_that_is_not_a_number_is_refused_by_every_operation,
        bad_query_parameters_are_refused,
        another_method_is_refused,
    ]
}

async fn a_body_that_is_not_json_is_refused_by_every_operation(World { client, .. }: World) -> Result<()> {
    let person = client.person("malformed").await?;
    for operation in with_body(&client) {
        for body in [
            "",
            "{",
            "{\"source\": \"x\"",
            "\u{0}",
            "{'single': 'quotes'}",
            "{} trailing",
            "\"text\"",
            "null",
            "[]",
            "7",
        ] {
            let request = request(&client, &operation, &person)?.header(CONTENT_TYPE, "application/json").body(body);
            refused(&client, request, StatusCode::BAD_REQUEST)
                .await
                .with_context(|| format!("{}: {body:?}", operation.id))?;
        }
        let request =
            request(&client, &operation, &person)?.header(CONTENT_TYPE, "application/json").body(vec![0xff_u8, 0xfe]);
        refused(&client, request, StatusCode::BAD_REQUEST)
            .await
            .with_context(|| format!("{}: not UTF-8", operation.id))?;
    }
    Ok(())
}

async fn a_body_of_the_wrong_shape_is_refused_by_every_operation(World { client, .. }: World) -> Result<()> {
    let person = client.person("misshapen").await?;
    let members =
        ["nickname", "password", "source", "theme", "notifications", "message_id", "kind", "topic", "archived"];
    for operation in with_body(&client) {
        for wrong in ["[]", "{}", "7.5", "[[[[[]]]]]"] {
            let body = format!("{{{}}}", members.map(|member| format!("\"{member}\": {wrong}")).join(", "));
            let request = request(&client, &operation, &person)?.header(CONTENT_TYPE, "application/json").body(body);
            refused(&client, request, StatusCode::BAD_REQUEST)
                .await
                .with_context(|| format!("{}: {wrong}", operation.id))?;
        }
    }
    Ok(())
}

async fn a_body_of_another_media_type_is_refused_by_every_operation(World { client, .. }: World) -> Result<()> {
    let person = client.person("formal").await?;
    for operation in with_body(&client) {
        for media in ["text/plain", "application/x-www-form-urlencoded", "application/xml"] {
            let request = request(&client, &operation, &person)?.header(CONTENT_TYPE, media).body("{}");
            refused(&client, request, StatusCode::UNSUPPORTED_MEDIA_TYPE)
                .await
                .with_context(|| operation.id.clone())?;
        }
        let bare = request(&client, &operation, &person)?.body("{}");
        refused(&client, bare, StatusCode::UNSUPPORTED_MEDIA_TYPE).await.with_context(|| operation.id.clone())?;
    }
    Ok(())
}

async fn a_body_that_is_too_large_is_refused_by_every_operation(World { client, .. }: World) -> Result<()> {
    let person = client.person("verbose").await?;
    for operation in with_body(&client) {
        let body = format!("{{\"source\": \"{}\"}}", "x".repeat(70_000));
        let request = request(&client, &operation, &person)?.header(CONTENT_TYPE, "application/json").body(body);
        refused(&client, request, StatusCode::PAYLOAD_TOO_LARGE).await.with_context(|| operation.id.clone())?;
    }
    Ok(())
}

async fn a_missing_or_bad_token_is_refused_by_every_operation(World { client, stack }: World) -> Result<()> {
    for operation in client.contract().operations.clone() {
        // Without an instance, nothing checks the token.
        let is_part = Service::find(operation.part).is_some_and(|service| service.has_authority);
        if stack.stage == Stage::Monolith && !is_part {
            continue;
        }
        let path = concrete(&operation.path, "1");
        let method: Method = operation.method.parse()?;
        let secured = operation.security.iter().any(|name| name == "bearer" || name == "basic");
        if !secured {
            continue;
        }
        let optional = operation.security.iter().any(|name| name == "optional");
        let none = Auth::None;
        for auth in
            [Auth::Token("x"), Auth::Token("eyJhbGciOiJFZERTQSJ9.e30.AAAA"), Auth::Basic("nobody-at-all", "wrong")]
        {
            let request = client.request(method.clone(), &path, auth);
            refused(&client, request, StatusCode::UNAUTHORIZED)
                .await
                .with_context(|| format!("{} {auth:?}", operation.id))?;
        }
        if !optional {
            refused(&client, client.request(method, &path, none), StatusCode::UNAUTHORIZED)
                .await
                .with_context(|| operation.id.clone())?;
        }
    }
    Ok(())
}

async fn an_id_that_is_not_a_number_is_refused_by_every_operation(World { client, .. }: World) -> Result<()> {
    let person = client.person("indexer").await?;
    for operation in client.contract().operations.clone() {
        if operation.integer_path_parameter.is_none() {
            continue;
        }
        for id in ["abc", "0", "-1", "1.5", "99999999999999999999", "%00", "1%20or%201"] {
            let path = concrete(&operation.path, id);
            let request = client.request(operation.method.parse()?, &path, Auth::Token(&person.token));
            let request =
                if operation.has_body { request.json(&serde_json::json!({ "source": "x" })) } else { request };
            refused(&client, request, StatusCode::BAD_REQUEST)
                .await
                .with_context(|| format!("{}: {id}", operation.id))?;
        }
    }
    Ok(())
}

async fn bad_query_parameters_are_refused(World { client, .. }: World) -> Result<()> {
    for path in [
        "/api/users?online=2",
        "/api/users?online=yes",
        "/api/users?updated_since=yesterday",
        "/api/users?updated_since=-1",
        "/api/users?updated_since=99999999999999999999",
        "/api/messages?updated_since=1e9",
        "/api/messages?updated_since=",
        "/api/messages?include=password",
    ] {
        refused(&client, client.request(Method::GET, path, Auth::None), StatusCode::BAD_REQUEST)
            .await
            .with_context(|| path.to_owned())?;
    }
    client.get("/api/users?unheard_of=1", Auth::None, StatusCode::OK).await?;
    Ok(())
}

async fn another_method_is_refused(World { client, .. }: World) -> Result<()> {
    for (method, path) in [(Method::PATCH, "/api/users"), (Method::PUT, "/api/messages"), (Method::GET, "/api/tokens")]
    {
        let request = client.request(method, path, Auth::None);
        refused(&client, request, StatusCode::METHOD_NOT_ALLOWED).await.with_context(|| path.to_owned())?;
    }
    Ok(())
}

fn with_body(client: &Client) -> Vec<Operation> {
    client.contract().operations.iter().filter(|operation| operation.has_body).cloned().collect()
}

/// Prepares a valid request to this operation, without the body.
fn request(client: &Client, operation: &Operation, person: &Person) -> Result<RequestBuilder> {
    let path = concrete(&operation.path, &person.id.to_string());
    let auth = if operation.security.is_empty() { Auth::None } else { Auth::Token(&person.token) };
    Ok(client.request(operation.method.parse()?, &path, auth))
}

/// Replaces the parameters of a path.
fn concrete(template: &str, id: &str) -> String {
    let path = template.replace("{id}", id).replace("{user_id}", id).replace("{file_id}", id);
    path.replace("{channel}", "general").replace("{path}", "app.css")
}

/// Sends a request, and expects a problem with a detail.
async fn refused(client: &Client, request: RequestBuilder, expected: StatusCode) -> Result<()> {
    let answer = client.send(request, expected).await?;
    ensure!(
        answer.header("content-type").starts_with("application/problem+json"),
        "not problem+json: {:?}",
        answer.headers
    );
    ensure!(answer.body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "no detail: {}", answer.body);
    ensure!(answer.body["status"] == expected.as_u16(), "another status in the body: {}", answer.body);
    Ok(())
}
