//! What others add to a message, in version 2: replies, reactions, mentions and pins; and the version of a message.

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, StatusCode, header::ETAG};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    cases,
    client::{Auth, Client, Person, wait_for},
    socket::{Socket, is_message},
    suite::{Case, World},
};

pub fn cases() -> Vec<Case> {
    cases![
        a_reply_is_in_its_thread_and_not_in_the_channel,
        a_reply_of_a_websocket_reaches_every_client,
        typing_in_a_thread_names_the_thread_to_clients_of_version_2,
        a_reaction_reaches_clients_of_version_2_alone,
        a_mentioned_user_has_an_unread_mention,
        a_pinned_message_is_listed_until_it_is_unpinned,
        a_change_of_an_old_content_is_refused,
        a_reaction_of_somebody_else_refuses_no_edit,
    ]
}

const GENERAL: &str = "/api/v2/channels/1";
const PARTY: &str = "%F0%9F%8E%89";

async fn post(client: &Client, person: &Person, body: &Value) -> Result<Value> {
    let path = format!("{GENERAL}/messages");
    Ok(client.post(&path, Auth::Token(&person.token), body, StatusCode::CREATED).await?.body)
}

fn path_of(message: &Value) -> String {
    format!("/api/v2/messages/{}", message["id"])
}

async fn seen(client: &Client, message: &Value) -> Result<Value> {
    Ok(client.get(&path_of(message), Auth::None, StatusCode::OK).await?.body)
}

fn id_of(message: &Value) -> Result<i64> {
    message["id"].as_i64().context("a message without an id")
}

/// Opens a websocket of version 2.
async fn open(client: &Client, person: &Person) -> Result<Socket> {
    let mut socket = Socket::connect(client.base()).await?;
    socket.send(&json!({ "type": "hello", "token": person.token, "version": 2 })).await?;
    socket.wait_for("a welcome", |frame| frame["type"] == "welcome").await?;
    Ok(socket)
}

async fn a_reply_is_in_its_thread_and_not_in_the_channel(World { client, .. }: World) -> Result<()> {
    let author = client.person("answering").await?;
    let first = post(&client, &author, &json!({ "source": "a question" })).await?;
    let reply = post(&client, &author, &json!({ "source": "an answer", "thread_id": first["id"] })).await?;
    ensure!(reply["thread_id"] == first["id"], "{reply}");
    let changed = seen(&client, &first).await?;
    ensure!(changed["reply_count"] == 1 && changed["last_reply_at"] == reply["created_at"], "{changed}");
    ensure!(changed["updated_at"] == first["updated_at"], "{changed}");
    let replies = format!("{}/replies", path_of(&first));
    let page = client.get(&replies, Auth::None, StatusCode::OK).await?.body;
    ensure!(page["messages"].as_array().is_some_and(|messages| messages.len() == 1), "{page}");
    let after = format!("/api/v2/messages?limit=100&after={}", first["cursor"].as_str().context("no cursor")?);
    let page = client.get(&after, Auth::None, StatusCode::OK).await?.body;
    let mut messages = page["messages"].as_array().context("no messages")?.iter();
    ensure!(messages.all(|message| message["id"] != reply["id"]), "{page}");
    let v1 = format!("/api/messages/{}", reply["id"]);
    client.get(&v1, Auth::None, StatusCode::OK).await?;
    Ok(())
}

async fn a_reply_of_a_websocket_reaches_every_client(World { client, .. }: World) -> Result<()> {
    let author = client.person("answering").await?;
    let first = post(&client, &author, &json!({ "source": "a question" })).await?;
    let (mut old, mut new) =
        (Socket::open(client.base(), Some(&author.token), None).await?, open(&client, &author).await?);
    let id = Uuid::new_v4().to_string();
    let post = json!({ "type": "post_message", "id": id, "channel_id": 1, "source": "yes", "thread_id": first["id"] });
    new.send(&post).await?;
    // The answer may arrive before or after the frames of the two messages.
    let (mut posted, mut reply, mut counted) = (None, None, false);
    while posted.is_none() || reply.is_none() || !counted {
        let frame = new.wait_for("the answer and both messages", |_| true).await?;
        let model = &frame["model"];
        ensure!(frame["type"] != "problem", "{frame}");
        if frame["type"] == "posted" {
            posted = frame["message_id"].as_i64();
        } else if model["thread_id"] == first["id"] {
            reply = model["id"].as_i64();
        }
        counted |= model["id"] == first["id"] && model["reply_count"] == 1;
    }
    ensure!(posted == reply, "{posted:?} and {reply:?}");
    let reply = reply.context("no reply")?;
    let frame = old.wait_for("the reply", |frame| is_message(frame, reply)).await?;
    ensure!(frame["model"]["source"] == "yes" && frame["model"].get("thread_id").is_none(), "{frame}");
    Ok(())
}

async fn typing_in_a_thread_names_the_thread_to_clients_of_version_2(World { client, .. }: World) -> Result<()> {
    let (author, reader) = (client.person("asking").await?, client.person("reading").await?);
    let first = post(&client, &author, &json!({ "source": "a question" })).await?;
    let (mut old, mut new) = (Socket::open(client.base(), None, None).await?, open(&client, &reader).await?);
    let mut typist = open(&client, &author).await?;
    typist.send(&json!({ "type": "typing", "channel_id": 1, "thread_id": first["id"] })).await?;
    let is_typing = |frame: &Value| frame["type"] == "typing" && frame["user_id"] == json!(author.id);
    let frame = new.wait_for("typing", is_typing).await?;
    ensure!(frame["channel_id"] == 1 && frame["thread_id"] == first["id"], "{frame}");
    let frame = old.wait_for("typing", is_typing).await?;
    ensure!(frame["channel"] == "general" && frame.get("thread_id").is_none(), "{frame}");
    Ok(())
}

async fn a_reaction_reaches_clients_of_version_2_alone(World { client, .. }: World) -> Result<()> {
    let (author, fan) = (client.person("author").await?, client.person("fan").await?);
    let message = post(&client, &author, &json!({ "source": "a success" })).await?;
    let id = id_of(&message)?;
    let mut new = open(&client, &author).await?;
    let mut old = Socket::open(client.base(), None, None).await?;
    let path = format!("{}/reactions/{PARTY}", path_of(&message));
    for _ in 0..2 {
        client.put_without_body(&path, Auth::Token(&fan.token), StatusCode::NO_CONTENT).await?;
    }
    let is_changed = |frame: &Value| is_message(frame, id) && frame["model"]["reactions"].is_array();
    let frame = new.wait_for("the reaction", is_changed).await?;
    let expected = json!([{ "emoji": "🎉", "count": 1, "user_ids": [fan.id] }]);
    ensure!(frame["model"]["reactions"] == expected, "{frame}");
    ensure!(seen(&client, &message).await?["reactions"] == expected, "a repetition counts");
    client.delete(&path, Auth::Token(&fan.token), StatusCode::NO_CONTENT).await?;
    ensure!(seen(&client, &message).await?.get("reactions").is_none(), "it is removed");
    let text = format!("{}/reactions/party", path_of(&message));
    client.put_without_body(&text, Auth::Token(&fan.token), StatusCode::BAD_REQUEST).await?;
    let last = client.message(&author, "the last one").await?;
    for frame in old.collect_until("the last message", |frame| is_message(frame, last)).await? {
        // The message itself may arrive late.
        ensure!(!is_message(&frame, id) || frame["model"].get("reactions").is_none(), "{frame}");
    }
    Ok(())
}

async fn a_mentioned_user_has_an_unread_mention(World { client, .. }: World) -> Result<()> {
    let (author, reader) = (client.person("caller").await?, client.person("called").await?);
    let body = json!({ "source": format!("@{}: hello", reader.nickname) });
    // The part learns of new users by events.
    let (message, _) = wait_for("the new user is known", || async {
        let message = post(&client, &author, &body).await?;
        Ok(message.get("mentions").is_some().then_some(message))
    })
    .await?;
    ensure!(message["mentions"] == json!({ "user_ids": [reader.id], "everyone": false }), "{message}");
    let mark = format!("<mark data-user-id=\"{}\">@{}</mark>", reader.id, reader.nickname);
    ensure!(message["html"].as_str().is_some_and(|html| html.contains(&mark)), "{message}");
    let mentions = async || -> Result<Value> {
        let channel = client.get(GENERAL, Auth::Token(&reader.token), StatusCode::OK).await?.body;
        Ok(channel["member"]["mentions"].clone())
    };
    // Other cases may mention everyone meanwhile.
    ensure!(mentions().await?.as_i64() >= Some(1), "{}", mentions().await?);
    let position = json!({ "message_id": message["id"] });
    client.put(&format!("{GENERAL}/read"), Auth::Token(&reader.token), &position, StatusCode::NO_CONTENT).await?;
    ensure!(mentions().await? == 0, "{}", mentions().await?);
    Ok(())
}

async fn a_pinned_message_is_listed_until_it_is_unpinned(World { client, .. }: World) -> Result<()> {
    let author = client.person("archivist").await?;
    let auth = Auth::Token(&author.token);
    let message = post(&client, &author, &json!({ "source": "keep this" })).await?;
    let pin = format!("{}/pin", path_of(&message));
    client.put_without_body(&pin, auth, StatusCode::NO_CONTENT).await?;
    let is_listed = async || -> Result<bool> {
        let list = client.get(&format!("{GENERAL}/pins"), auth, StatusCode::OK).await?.body;
        let mut pinned = list["messages"].as_array().context("no messages")?.iter();
        Ok(pinned.any(|pinned| pinned["id"] == message["id"] && pinned["pinned_at"].is_string()))
    };
    ensure!(is_listed().await?, "it is not listed");
    client.delete(&pin, auth, StatusCode::NO_CONTENT).await?;
    ensure!(!is_listed().await?, "it is still listed");
    Ok(())
}

async fn a_change_of_an_old_content_is_refused(World { client, .. }: World) -> Result<()> {
    let author = client.person("editor").await?;
    let auth = Auth::Token(&author.token);
    let message = post(&client, &author, &json!({ "source": "draft" })).await?;
    let path = path_of(&message);
    let read = client.get(&path, auth, StatusCode::OK).await?;
    let tag = read.header(ETAG.as_str()).to_owned();
    ensure!(tag == format!("\"{}\"", read.body["version"]), "{tag}: {}", read.body);
    for (source, expected) in [("final", StatusCode::OK), ("lost", StatusCode::PRECONDITION_FAILED)] {
        let request = client.request(Method::PATCH, &path, auth).header("If-Match", &tag);
        client.send(request.json(&json!({ "source": source })), expected).await?;
    }
    ensure!(seen(&client, &message).await?["source"] == "final", "the second edit was stored");
    let request = client.request(Method::DELETE, &path, auth).header("If-Match", &tag);
    client.send(request, StatusCode::PRECONDITION_FAILED).await?;
    Ok(())
}

async fn a_reaction_of_somebody_else_refuses_no_edit(World { client, .. }: World) -> Result<()> {
    let (author, other) = (client.person("editor").await?, client.person("cheerful").await?);
    let auth = Auth::Token(&author.token);
    let message = post(&client, &author, &json!({ "source": "draft" })).await?;
    let path = path_of(&message);
    let tag = client.get(&path, auth, StatusCode::OK).await?.header(ETAG.as_str()).to_owned();
    let reaction = format!("{path}/reactions/{PARTY}");
    client.put_without_body(&reaction, Auth::Token(&other.token), StatusCode::NO_CONTENT).await?;
    let request = client.request(Method::GET, &path, auth).header("If-None-Match", &tag);
    let present = client.send(request, StatusCode::OK).await?;
    ensure!(present.header(ETAG.as_str()) != tag, "the reaction did not change the tag {tag}");
    let request = client.request(Method::PATCH, &path, auth).header("If-Match", &tag);
    client.send(request.json(&json!({ "source": "final" })), StatusCode::OK).await?;
    Ok(())
}
