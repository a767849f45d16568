//! The websocket: every change reaches every connected client once.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::StatusCode;
use serde_json::json;
use uuid::Uuid;

use crate::{
    cases,
    client::{Auth, unique},
    socket::{Socket, is_message},
    suite::{Case, World},
};

pub fn cases() -> Vec<Case> {
    cases![
        a_posted_message_reaches_every_socket_once,
        a_message_can_be_posted_over_the_websocket,
        a_repeated_post_creates_no_second_message,
        a_changed_nickname_is_delivered,
        a_resumed_connection_gets_exactly_what_it_missed,
        an_unknown_cursor_does_not_resume,
        a_connection_without_a_token_cannot_post,
        a_revoked_token_is_reported,
        a_new_password_is_reported_to_the_sockets_of_the_user,
        a_bad_token_is_refused_after_hello,
        bad_frames_are_answered_with_a_problem,
        an_unknown_channel_is_a_problem,
        typing_is_delivered_to_others,
    ]
}

/// How long a test waits for a duplicate.
const DUPLICATE_WAIT: Duration = Duration::from_millis(300);

async fn a_posted_message_reaches_every_socket_once(World { client, .. }: World) -> Result<()> {
    let author = client.person("speaker").await?;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(Socket::open(client.base(), None, None).await?);
    }
    let id = client.message(&author, "to *all*").await?;
    let read = client.get(&format!("/api/messages/{id}"), Auth::None, StatusCode::OK).await?;
    for socket in &mut sockets {
        let frame = socket.wait_for("the message", |frame| is_message(frame, id)).await?;
        ensure!(frame["model"] == read.body, "received {}, but the API returns {}", frame["model"], read.body);
        ensure!(frame["cursor"].is_string());
    }
    for socket in &mut sockets {
        while let Some(frame) = socket.next(DUPLICATE_WAIT).await? {
            ensure!(!is_message(&frame, id), "received twice");
        }
    }
    Ok(())
}

async fn a_message_can_be_posted_over_the_websocket(World { client, .. }: World) -> Result<()> {
    let author = client.person("typist").await?;
    let mut socket = Socket::open(client.base(), Some(&author.token), None).await?;
    ensure!(socket.welcome["user_id"] == json!(author.id), "{}", socket.welcome);
    let id = Uuid::new_v4().to_string();
    socket.send(&json!({ "type": "post_message", "id": id, "channel": "general", "source": "over the wire" })).await?;
    let frames = collect_answer(&mut socket, &id).await?;
    let message_id = frames.last().and_then(|frame| frame["message_id"].as_i64()).context("not posted")?;
    let read = client.get(&format!("/api/messages/{message_id}"), Auth::None, StatusCode::OK).await?;
    ensure!(read.body["source"] == json!("over the wire") && read.body["user_id"] == json!(author.id));
    Ok(())
}

async fn a_repeated_post_creates_no_second_message(World { client, .. }: World) -> Result<()> {
    let author = client.person("insistent").await?;
    let mut socket = Socket::open(client.base(), Some(&author.token), None).await?;
    let id = Uuid::new_v4().to_string();
    let post = json!({ "type": "post_message", "id": id, "channel": "general", "source": unique("once") });
    let mut answers = Vec::new();
    for _ in 0..2 {
        socket.send(&post).await?;
        let frames = collect_answer(&mut socket, &id).await?;
        answers.push(frames.last().map(|frame| frame["message_id"].clone()));
    }
    ensure!(answers[0] == answers[1], "{answers:?}");
    Ok(())
}

async fn a_changed_nickname_is_delivered(World { client, .. }: World) -> Result<()> {
    let person = client.person("unsettled").await?;
    let mut socket = Socket::open(client.base(), None, None).await?;
    let nickname = unique("settled");
    let body = json!({ "nickname": nickname });
    client.put(&format!("/api/users/{}", person.id), Auth::Token(&person.token), &body, StatusCode::NO_CONTENT).await?;
    socket
        .wait_for("the new nickname", |frame| frame["class"] == "User" && frame["model"]["nickname"] == json!(nickname))
        .await?;
    Ok(())
}

async fn a_resumed_connection_gets_exactly_what_it_missed(World { client, .. }: World) -> Result<()> {
    let author = client.person("patient").await?;
    let mut socket = Socket::open(client.base(), None, None).await?;
    let first = client.message(&author, "seen").await?;
    let frame = socket.wait_for("the first", |frame| is_message(frame, first)).await?;
    let cursor = frame["cursor"].as_str().context("no cursor")?.to_owned();
    drop(socket);
    let missed = [client.message(&author, "missed 1").await?, client.message(&author, "missed 2").await?];
    let mut socket = Socket::open(client.base(), None, Some(&cursor)).await?;
    ensure!(socket.welcome["resumed"] == json!(true), "{}", socket.welcome);
    let last = client.message(&author, "live again").await?;
    let frames = socket.collect_until("the last", |frame| is_message(frame, last)).await?;
    let received: Vec<_> = frames
        .iter()
        .filter(|frame| frame["class"] == "Message" && frame["model"]["user_id"] == json!(author.id))
        .filter_map(|frame| frame["model"]["id"].as_i64())
        .collect();
    ensure!(received == [missed[0], missed[1], last], "received {received:?}, posted {missed:?} and {last}");
    Ok(())
}

async fn an_unknown_cursor_does_not_resume(World { client, .. }: World) -> Result<()> {
    for cursor in ["nonsense", "0.0", "ffffffff.1-2-3", ""] {
        let socket = Socket::open(client.base(), None, Some(cursor)).await?;
        ensure!(socket.welcome["resumed"] == json!(false), "{cursor}: {}", socket.welcome);
    }
    Ok(())
}

async fn a_connection_without_a_token_cannot_post(World { client, .. }: World) -> Result<()> {
    let mut socket = Socket::open(client.base(), None, None).await?;
    let id = Uuid::new_v4().to_string();
    socket.send(&json!({ "type": "post_message", "id": id, "channel": "general", "source": "let me" })).await?;
    let frames = collect_answer(&mut socket, &id).await?;
    ensure!(frames.last().is_some_and(|frame| frame["status"] == json!(401)), "{frames:?}");
    Ok(())
}

async fn a_revoked_token_is_reported(World { client, .. }: World) -> Result<()> {
    let person = client.person("departing").await?;
    let mut socket = Socket::open(client.base(), Some(&person.token), None).await?;
    client.delete("/api/tokens", Auth::Token(&person.token), StatusCode::NO_CONTENT).await?;
    socket.wait_for("expired_token", |frame| frame["type"] == "expired_token").await?;
    Ok(())
}

async fn a_new_password_is_reported_to_the_sockets_of_the_user(World { client, .. }: World) -> Result<()> {
    let person = client.person("changing").await?;
    let mut socket = Socket::open(client.base(), Some(&person.token), None).await?;
    let body = json!({ "password": "another one", "current_password": person.password });
    client.put(&format!("/api/users/{}", person.id), Auth::Token(&person.token), &body, StatusCode::NO_CONTENT).await?;
    socket.wait_for("expired_token", |frame| frame["type"] == "expired_token").await?;
    Ok(())
}

async fn a_bad_token_is_refused_after_hello(World { client, .. }: World) -> Result<()> {
    let mut socket = Socket::connect(client.base()).await?;
    socket.send(&json!({ "type": "hello", "token": "not.a.token" })).await?;
    socket.wait_for("a refusal", |frame| frame["type"] == "expired_token" || frame["status"] == json!(401)).await?;
    Ok(())
}

async fn bad_frames_are_answered_with_a_problem(World { client, .. }: World) -> Result<()> {
    let person = client.person("garbler").await?;
    let mut socket = Socket::open(client.base(), Some(&person.token), None).await?;
    for text in [
        "{",
        "[]",
        "{\"type\":\"no_such_frame\"}",
        "{\"type\":\"post_message\",\"id\":\"not-a-uuid\",\"channel\":\"general\",\"source\":\"x\"}",
    ] {
        socket.send_text(text).await?;
        let problem = socket.wait_for("a problem", |frame| frame["type"] == "problem").await?;
        ensure!(problem["status"] == json!(400), "{text}: {problem}");
    }
    // The connection stays open.
    socket.send(&json!({ "type": "ping_user" })).await?;
    let id = client.message(&person, "still here").await?;
    socket.wait_for("the message", |frame| is_message(frame, id)).await?;
    Ok(())
}

async fn an_unknown_channel_is_a_problem(World { client, .. }: World) -> Result<()> {
    let person = client.person("lost").await?;
    let mut socket = Socket::open(client.base(), Some(&person.token), None).await?;
    let id = Uuid::new_v4().to_string();
    socket.send(&json!({ "type": "post_message", "id": id, "channel": "no-such-channel", "source": "hello?" })).await?;
    let frames = collect_answer(&mut socket, &id).await?;
    ensure!(frames.last().is_some_and(|frame| frame["status"] == json!(404)), "{frames:?}");
    Ok(())
}

async fn typing_is_delivered_to_others(World { client, .. }: World) -> Result<()> {
    let person = client.person("hesitant").await?;
    let mut other = Socket::open(client.base(), None, None).await?;
    let mut typist = Socket::open(client.base(), Some(&person.token), None).await?;
    typist.send(&json!({ "type": "typing", "channel": "general" })).await?;
    other.wait_for("typing", |frame| frame["type"] == "typing" && frame["user_id"] == json!(person.id)).await?;
    Ok(())
}

/// Returns all frames up to the answer to the `post_message` with this id.
async fn collect_answer(socket: &mut Socket, id: &str) -> Result<Vec<serde_json::Value>> {
    socket
        .collect_until("an answer", |frame| {
            (frame["type"] == "posted" || frame["type"] == "problem") && frame["id"] == json!(id)
        })
        .await
}
