//! Channels, in version 2: creating, joining and reading them, and who sees their messages.

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    cases,
    client::{Auth, Client, Person, unique, wait_for},
    suite::{Case, World},
};

pub fn cases() -> Vec<Case> {
    cases![
        general_is_the_first_channel_of_everybody,
        a_public_channel_is_joined_and_posted_to,
        a_private_channel_does_not_exist_for_a_stranger,
        the_same_people_have_one_direct_channel,
        unread_messages_are_counted_until_they_are_read,
        an_archived_channel_refuses_messages,
        a_message_of_version_2_is_edited_and_deleted,
    ]
}

const PATH: &str = "/api/v2/channels";

async fn create(client: &Client, person: &Person, kind: &str) -> Result<Value> {
    // At most 32 characters.
    let body = json!({ "kind": kind, "name": unique("c") });
    Ok(client.post(PATH, Auth::Token(&person.token), &body, StatusCode::CREATED).await?.body)
}

fn path_of(channel: &Value) -> String {
    format!("{PATH}/{}", channel["id"])
}

async fn post(client: &Client, person: &Person, channel: &Value, expected: StatusCode) -> Result<Value> {
    let (path, body) = (format!("{}/messages", path_of(channel)), json!({ "source": "*hello*" }));
    Ok(client.post(&path, Auth::Token(&person.token), &body, expected).await?.body)
}

/// Invites a user whom the part may not know yet: it learns of new users by events.
async fn invite(client: &Client, member: &Person, channel: &Value, other: &Person) -> Result<()> {
    let path = format!("{}/members/{}", path_of(channel), other.id);
    wait_for("the new user is known", || {
        let request = client.request(Method::PUT, &path, Auth::Token(&member.token));
        async move { Ok((client.send_any(request).await?.status == StatusCode::NO_CONTENT).then_some(())) }
    })
    .await?;
    Ok(())
}

async fn patch(client: &Client, person: &Person, path: &str, body: Value, expected: StatusCode) -> Result<Value> {
    let request = client.request(Method::PATCH, path, Auth::Token(&person.token)).json(&body);
    Ok(client.send(request, expected).await?.body)
}

async fn seen(client: &Client, person: &Person, channel: &Value) -> Result<Value> {
    Ok(client.get(&path_of(channel), Auth::Token(&person.token), StatusCode::OK).await?.body)
}

async fn general_is_the_first_channel_of_everybody(World { client, .. }: World) -> Result<()> {
    let person = client.person("newcomer").await?;
    let list = client.get(PATH, Auth::Token(&person.token), StatusCode::OK).await?.body;
    let general = &list["channels"][0];
    ensure!(general["id"] == 1 && general["name"] == "general" && general["kind"] == "public", "{general}");
    ensure!(general["member"]["version"] == 0, "{general}");
    post(&client, &person, general, StatusCode::CREATED).await?;
    Ok(())
}

async fn a_public_channel_is_joined_and_posted_to(World { client, .. }: World) -> Result<()> {
    let (founder, joiner) = (client.person("founder").await?, client.person("joiner").await?);
    let channel = create(&client, &founder, "public").await?;
    post(&client, &joiner, &channel, StatusCode::FORBIDDEN).await?;
    let member = format!("{}/members/{}", path_of(&channel), joiner.id);
    client.put_without_body(&member, Auth::Token(&joiner.token), StatusCode::NO_CONTENT).await?;
    let message = post(&client, &joiner, &channel, StatusCode::CREATED).await?;
    ensure!(message["channel_id"] == channel["id"] && message["html"] == "<p><em>hello</em></p>\n", "{message}");
    let page = format!("{}/messages", path_of(&channel));
    let page = client.get(&page, Auth::Token(&founder.token), StatusCode::OK).await?.body;
    ensure!(page["messages"].as_array().is_some_and(|messages| messages.len() == 1), "{page}");
    let v1 = format!("/api/messages/{}", message["id"]);
    client.get(&v1, Auth::Token(&joiner.token), StatusCode::NOT_FOUND).await?;
    client.delete(&member, Auth::Token(&joiner.token), StatusCode::NO_CONTENT).await?;
    ensure!(seen(&client, &joiner, &channel).await?.get("member").is_none(), "the joiner has left");
    Ok(())
}

async fn a_private_channel_does_not_exist_for_a_stranger(World { client, .. }: World) -> Result<()> {
    let (founder, stranger) = (client.person("secretive").await?, client.person("stranger").await?);
    let channel = create(&client, &founder, "private").await?;
    let message = post(&client, &founder, &channel, StatusCode::CREATED).await?;
    for path in [
        path_of(&channel),
        format!("{}/members", path_of(&channel)),
        format!("{}/messages", path_of(&channel)),
        format!("/api/v2/messages/{}", message["id"]),
    ] {
        client.get(&path, Auth::Token(&stranger.token), StatusCode::NOT_FOUND).await?;
        client.get(&path, Auth::Token(&founder.token), StatusCode::OK).await?;
    }
    post(&client, &stranger, &channel, StatusCode::NOT_FOUND).await?;
    invite(&client, &founder, &channel, &stranger).await?;
    post(&client, &stranger, &channel, StatusCode::CREATED).await?;
    Ok(())
}

async fn the_same_people_have_one_direct_channel(World { client, .. }: World) -> Result<()> {
    let (one, other) = (client.person("one").await?, client.person("other").await?);
    // Both are known when a member can invite them.
    let team = create(&client, &one, "private").await?;
    invite(&client, &one, &team, &other).await?;
    let of_one = json!({ "kind": "direct", "user_ids": [other.id] });
    let first = client.post(PATH, Auth::Token(&one.token), &of_one, StatusCode::CREATED).await?.body;
    invite(&client, &other, &team, &one).await?;
    let of_other = json!({ "kind": "direct", "user_ids": [one.id] });
    let second = client.post(PATH, Auth::Token(&other.token), &of_other, StatusCode::OK).await?.body;
    ensure!(first["id"] == second["id"], "{first} and {second}");
    ensure!(first["user_ids"] == json!([one.id.min(other.id), one.id.max(other.id)]), "{first}");
    Ok(())
}

async fn unread_messages_are_counted_until_they_are_read(World { client, .. }: World) -> Result<()> {
    let (author, reader) = (client.person("author").await?, client.person("reader").await?);
    let channel = create(&client, &author, "private").await?;
    invite(&client, &author, &channel, &reader).await?;
    post(&client, &author, &channel, StatusCode::CREATED).await?;
    let last = post(&client, &author, &channel, StatusCode::CREATED).await?;
    let member = seen(&client, &reader, &channel).await?["member"].clone();
    ensure!(member["unread"] == 2, "{member}");
    let (path, body) = (format!("{}/read", path_of(&channel)), json!({ "message_id": last["id"] }));
    client.put(&path, Auth::Token(&reader.token), &body, StatusCode::NO_CONTENT).await?;
    let member = seen(&client, &reader, &channel).await?["member"].clone();
    ensure!(member["unread"] == 0 && member["last_read_message_id"] == last["id"], "{member}");
    Ok(())
}

async fn an_archived_channel_refuses_messages(World { client, .. }: World) -> Result<()> {
    let person = client.person("archivist").await?;
    let channel = create(&client, &person, "public").await?;
    let change = json!({ "archived": true, "topic": "closed" });
    let changed = patch(&client, &person, &path_of(&channel), change, StatusCode::OK).await?;
    ensure!(changed["archived_at"].is_string() && changed["topic"] == "closed", "{changed}");
    let problem = post(&client, &person, &channel, StatusCode::CONFLICT).await?;
    ensure!(problem["type"].as_str().is_some_and(|kind| kind.ends_with("#channel-archived")), "{problem}");
    Ok(())
}

async fn a_message_of_version_2_is_edited_and_deleted(World { client, .. }: World) -> Result<()> {
    let (author, other) = (client.person("editor").await?, client.person("bystander").await?);
    let path = format!("/api/v2/messages/{}", client.message(&author, "draft").await?);
    let edit = json!({ "source": "final" });
    patch(&client, &other, &path, edit.clone(), StatusCode::FORBIDDEN).await?;
    let edited = patch(&client, &author, &path, edit, StatusCode::OK).await?;
    ensure!(edited["source"] == "final" && edited["edited_at"].is_string(), "{edited}");
    client.delete(&path, Auth::Token(&other.token), StatusCode::FORBIDDEN).await?;
    client.delete(&path, Auth::Token(&author.token), StatusCode::NO_CONTENT).await?;
    let deleted = client.get(&path, Auth::None, StatusCode::OK).await?.body;
    ensure!(deleted["source"] == "" && deleted["html"] == "" && deleted["deleted_at"].is_string(), "{deleted}");
    deleted["id"].as_i64().context("a deleted message keeps its id")?;
    Ok(())
}
