//! Messages: post, list, edit, render.

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    cases,
    client::{Auth, unique, wait_for},
    suite::{Case, World},
};

pub fn cases() -> Vec<Case> {
    cases![
        a_posted_message_is_stored_and_rendered,
        html_is_sanitized,
        an_address_becomes_a_link,
        a_repeated_idempotency_key_creates_no_second_message,
        messages_are_listed_oldest_change_first,
        a_list_includes_nicknames_on_request,
        an_unknown_message_is_not_found,
        an_author_can_edit_a_message,
        another_user_cannot_edit_a_message,
        a_link_to_an_internal_address_is_not_fetched,
    ]
}

async fn a_posted_message_is_stored_and_rendered(World { client, .. }: World) -> Result<()> {
    let author = client.person("author").await?;
    let body = json!({ "source": "hello *world*" });
    let posted = client.post("/api/messages", Auth::Token(&author.token), &body, StatusCode::CREATED).await?;
    let id = posted.body["id"].as_i64().context("no id")?;
    ensure!(posted.header("location").ends_with(&format!("/api/messages/{id}")));
    ensure!(posted.body["source"] == json!("hello *world*"));
    ensure!(posted.body["html"].as_str().is_some_and(|html| html.contains("<em>world</em>")), "{}", posted.body);
    ensure!(posted.body["user_id"] == json!(author.id));
    ensure!(posted.body["_links"]["user"] == json!(format!("/api/users/{}", author.id)));
    let read = client.get(&format!("/api/messages/{id}"), Auth::None, StatusCode::OK).await?;
    ensure!(read.body == posted.body, "read {} differs from posted {}", read.body, posted.body);
    Ok(())
}

async fn html_is_sanitized(World { client, .. }: World) -> Result<()> {
    let author = client.person("crook").await?;
    for source in [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[click](javascript:alert(1))",
        "<a href=\"data:text/html,x\">x</a>",
        "<svg/onload=alert(1)>",
        "<iframe src=//example.org></iframe>",
        "<style>*{display:none}</style>",
    ] {
        let body = json!({ "source": source });
        let posted = client.post("/api/messages", Auth::Token(&author.token), &body, StatusCode::CREATED).await?;
        let html = posted.body["html"].as_str().context("no html")?.to_lowercase();
        for bad in ["<script", "<img", "<svg", "<iframe", "<style", "<a href=\"data:", "<a href=\"javascript:"] {
            ensure!(!html.contains(bad), "{source} became {html}");
        }
    }
    Ok(())
}

async fn an_address_becomes_a_link(World { client, .. }: World) -> Result<()> {
    let author = client.person("linker").await?;
    let body = json!({ "source": "see https://example.invalid/page, please" });
    let posted = client.post("/api/messages", Auth::Token(&author.token), &body, StatusCode::CREATED).await?;
    let html = posted.body["html"].as_str().context("no html")?;
    ensure!(html.contains("href=\"https://example.invalid/page\""), "{html}");
    Ok(())
}

async fn a_repeated_idempotency_key_creates_no_second_message(World { client, .. }: World) -> Result<()> {
    let (author, other) = (client.person("twice").await?, client.person("same-key").await?);
    let key = Uuid::new_v4().to_string();
    let post = |token: &str, source: &str| {
        client
            .request(Method::POST, "/api/messages", Auth::Token(token))
            .header("Idempotency-Key", &key)
            .json(&json!({ "source": source }))
    };
    let first = client.send(post(&author.token, "once"), StatusCode::CREATED).await?;
    let again = client.send(post(&author.token, "once"), StatusCode::CREATED).await?;
    ensure!(first.body["id"] == again.body["id"], "two messages from one key");
    client.send(post(&author.token, "something else"), StatusCode::CONFLICT).await?;
    let foreign = client.send(post(&other.token, "once"), StatusCode::CREATED).await?;
    ensure!(foreign.body["id"] != first.body["id"], "a key belongs to its user");
    Ok(())
}

async fn messages_are_listed_oldest_change_first(World { client, .. }: World) -> Result<()> {
    let author = client.person("chronicler").await?;
    let first = client.message(&author, "first").await?;
    let second = client.message(&author, "second").await?;
    let since = client.get(&format!("/api/messages/{first}"), Auth::None, StatusCode::OK).await?.body["updated_at"]
        .as_i64()
        .context("no updated_at")?;
    let list = client.get(&format!("/api/messages?updated_since={}", since - 2), Auth::None, StatusCode::OK).await?;
    let messages = list.body["messages"].as_array().context("no list")?;
    let position = |id| messages.iter().position(|message| message["id"] == json!(id));
    ensure!(position(first).is_some() && position(first) < position(second), "out of order");
    ensure!(
        messages.iter().all(|message| message.get("nickname").is_none()),
        "v1 lists carry no nickname unless asked"
    );
    let none = client.get(&format!("/api/messages?updated_since={}", since + 3600), Auth::None, StatusCode::OK).await?;
    ensure!(none.body["messages"] == json!([]));
    Ok(())
}

async fn a_list_includes_nicknames_on_request(World { client, .. }: World) -> Result<()> {
    let author = client.person("named").await?;
    let id = client.message(&author, "who is the author?").await?;
    let since = client.get(&format!("/api/messages/{id}"), Auth::None, StatusCode::OK).await?.body["updated_at"]
        .as_i64()
        .context("no updated_at")?;
    let named = |nickname: String| {
        let (client, path) = (client.clone(), format!("/api/messages?include=nickname&updated_since={}", since - 2));
        async move {
            let list = client.get(&path, Auth::None, StatusCode::OK).await?;
            let messages = list.body["messages"].as_array().cloned().unwrap_or_default();
            let wanted = |message: &&Value| message["id"] == json!(id) && message["nickname"] == json!(nickname);
            Ok(messages.iter().find(wanted).map(|_| ()))
        }
    };
    wait_for("the author's nickname", || named(author.nickname.clone())).await?;
    let nickname = unique("renamed");
    let body = json!({ "nickname": nickname });
    client.put(&format!("/api/users/{}", author.id), Auth::Token(&author.token), &body, StatusCode::NO_CONTENT).await?;
    wait_for("the author's new nickname", || named(nickname.clone())).await?;
    Ok(())
}

async fn an_unknown_message_is_not_found(World { client, .. }: World) -> Result<()> {
    let person = client.person("seeker").await?;
    client.get("/api/messages/987654321987", Auth::None, StatusCode::NOT_FOUND).await?;
    let body = json!({ "source": "x" });
    client.put("/api/messages/987654321987", Auth::Token(&person.token), &body, StatusCode::NOT_FOUND).await?;
    Ok(())
}

async fn an_author_can_edit_a_message(World { client, .. }: World) -> Result<()> {
    let author = client.person("editor").await?;
    let id = client.message(&author, "teh").await?;
    let path = format!("/api/messages/{id}");
    client.put(&path, Auth::Token(&author.token), &json!({ "source": "**the**" }), StatusCode::NO_CONTENT).await?;
    let read = client.get(&path, Auth::None, StatusCode::OK).await?;
    ensure!(read.body["source"] == json!("**the**"));
    ensure!(read.body["html"].as_str().is_some_and(|html| html.contains("<strong>the</strong>")));
    Ok(())
}

async fn another_user_cannot_edit_a_message(World { client, .. }: World) -> Result<()> {
    let (author, other) = (client.person("owner").await?, client.person("stranger").await?);
    let path = format!("/api/messages/{}", client.message(&author, "mine").await?);
    let body = json!({ "source": "yours?" });
    client.put(&path, Auth::Token(&other.token), &body, StatusCode::FORBIDDEN).await?;
    client.put(&path, Auth::None, &body, StatusCode::UNAUTHORIZED).await?;
    ensure!(client.get(&path, Auth::None, StatusCode::OK).await?.body["source"] == json!("mine"));
    Ok(())
}

async fn a_link_to_an_internal_address_is_not_fetched(World { client, stack }: World) -> Result<()> {
    let author = client.person("prober").await?;
    // The balancer's page has a title, which a preview would quote.
    let source = format!("look: {}/ and {}/stats", stack.url(), stack.stats_url());
    let id = client.message(&author, &source).await?;
    // By the time a second message is stored, the preview worker has had time for the first.
    client.message(&author, "and now?").await?;
    let read = client.get(&format!("/api/messages/{id}"), Auth::None, StatusCode::OK).await?;
    ensure!(!read.body["html"].as_str().unwrap_or("").contains("<blockquote"), "{}", read.body);
    Ok(())
}
