//! Files of messages, in version 2.

use anyhow::{Context as _, Result, ensure};
use flack_api::FILE_BYTES_MAX;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    cases,
    client::{Answer, Auth, Client, Person, unique},
    socket::Socket,
    suite::{Case, World},
};

pub fn cases() -> Vec<Case> {
    cases![
        a_file_reaches_other_clients_with_its_message,
        a_stranger_does_not_read_the_file_of_a_private_channel,
        a_page_with_the_name_of_an_image_is_never_shown,
        a_file_that_is_too_large_is_refused,
        a_repeated_upload_is_one_file,
        a_deleted_message_has_no_files,
    ]
}

/// A PNG of 3 by 2 pixels, as far as its size is read.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x03\0\0\0\x02\x08\x02\0\0\0";

/// Posts a message with a file of the largest size, and returns the path of the file.
pub async fn post_largest(client: &Client, person: &Person) -> Result<String> {
    let file = upload(client, person, &json!(1), "largest", &vec![b'x'; FILE_BYTES_MAX]).await?.body;
    Ok(path_of(&post(client, person, &json!(1), &[&file]).await?, &file))
}

/// Fails unless the file that `post_largest` has posted can be read.
pub async fn ensure_largest(client: &Client, path: &str) -> Result<()> {
    let answer = client.get(path, Auth::None, StatusCode::OK).await?;
    ensure!(answer.body.as_str().is_some_and(|text| text == "x".repeat(FILE_BYTES_MAX)), "{path} is another file");
    Ok(())
}

async fn upload(client: &Client, person: &Person, channel: &Value, name: &str, content: &[u8]) -> Result<Answer> {
    upload_with(client, person, channel, name, content, Uuid::new_v4()).await
}

async fn upload_with(
    client: &Client,
    person: &Person,
    channel: &Value,
    name: &str,
    content: &[u8],
    key: Uuid,
) -> Result<Answer> {
    let path = format!("/api/v2/channels/{channel}/files?name={name}");
    let request = client.request(Method::POST, &path, Auth::Token(&person.token));
    let request = request.header("Idempotency-Key", key.to_string()).header("Content-Type", "application/octet-stream");
    client.send_any(request.body(content.to_vec())).await
}

async fn post(client: &Client, person: &Person, channel: &Value, files: &[&Value]) -> Result<Value> {
    let ids: Vec<_> = files.iter().map(|file| &file["id"]).collect();
    let (path, body) = (format!("/api/v2/channels/{channel}/messages"), json!({ "file_ids": ids }));
    Ok(client.post(&path, Auth::Token(&person.token), &body, StatusCode::CREATED).await?.body)
}

fn path_of(message: &Value, file: &Value) -> String {
    format!("/api/v2/messages/{}/files/{}", message["id"], file["id"])
}

async fn a_file_reaches_other_clients_with_its_message(World { client, .. }: World) -> Result<()> {
    let author = client.person("photographer").await?;
    let mut socket = Socket::connect(client.base()).await?;
    socket.send(&json!({ "type": "hello", "token": author.token, "version": 2 })).await?;
    socket.wait_for("a welcome", |frame| frame["type"] == "welcome").await?;
    let file = upload(&client, &author, &json!(1), "cat.png", PNG).await?.body;
    let expected = json!({ "id": file["id"], "name": "cat.png", "type": "image/png", "bytes": PNG.len(), "width": 3,
        "height": 2 });
    ensure!(file == expected, "{file}");
    let id = Uuid::new_v4();
    let frame = json!({ "type": "post_message", "id": id, "channel_id": 1, "source": "", "file_ids": [file["id"]] });
    socket.send(&frame).await?;
    let has_file = |frame: &Value| frame["class"] == "Message" && frame["model"]["files"] == json!([expected]);
    let frame = socket.wait_for("the message with its file", has_file).await?;
    let message = &frame["model"];
    let answer = client.get(&path_of(message, &file), Auth::None, StatusCode::OK).await?;
    ensure!(answer.body == json!(String::from_utf8_lossy(PNG)), "{answer:?}");
    for (name, expected) in [
        ("content-type", "image/png"),
        ("content-disposition", "inline; filename*=UTF-8''cat.png"),
        ("x-content-type-options", "nosniff"),
        ("vary", "Authorization"),
    ] {
        ensure!(answer.header(name) == expected, "{name}: {answer:?}");
    }
    ensure!(answer.header("content-security-policy").starts_with("sandbox; default-src 'none'"), "{answer:?}");
    ensure!(answer.header("cache-control").starts_with("private"), "{answer:?}");
    let v1 = client.get(&format!("/api/messages/{}", message["id"]), Auth::None, StatusCode::OK).await?.body;
    ensure!(v1["source"] == "(1 file)" && v1.get("files").is_none(), "{v1}");
    Ok(())
}

async fn a_stranger_does_not_read_the_file_of_a_private_channel(World { client, .. }: World) -> Result<()> {
    let (author, stranger) = (client.person("private").await?, client.person("stranger").await?);
    let body = json!({ "kind": "private", "name": unique("p") });
    let auth = Auth::Token(&author.token);
    let channel = client.post("/api/v2/channels", auth, &body, StatusCode::CREATED).await?.body["id"].clone();
    ensure!(upload(&client, &stranger, &channel, "a", PNG).await?.status == StatusCode::NOT_FOUND);
    let file = upload(&client, &author, &channel, "a.png", PNG).await?.body;
    let message = post(&client, &author, &channel, &[&file]).await?;
    let path = path_of(&message, &file);
    client.get(&path, auth, StatusCode::OK).await?;
    client.get(&path, Auth::Token(&stranger.token), StatusCode::NOT_FOUND).await?;
    client.get(&path, Auth::None, StatusCode::NOT_FOUND).await?;
    Ok(())
}

async fn a_page_with_the_name_of_an_image_is_never_shown(World { client, .. }: World) -> Result<()> {
    let author = client.person("liar").await?;
    for (name, content) in [
        ("photo.png", b"<!doctype html><script>alert(1)</script>".as_slice()),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
    ] {
        let file = upload(&client, &author, &json!(1), name, content).await?.body;
        ensure!(file["type"] == "application/octet-stream", "{file}");
        let message = post(&client, &author, &json!(1), &[&file]).await?;
        let answer = client.get(&path_of(&message, &file), Auth::None, StatusCode::OK).await?;
        ensure!(answer.header("content-type") == "application/octet-stream", "{answer:?}");
        ensure!(answer.header("content-disposition").starts_with("attachment; "), "{answer:?}");
    }
    Ok(())
}

async fn a_file_that_is_too_large_is_refused(World { client, .. }: World) -> Result<()> {
    let author = client.person("collector").await?;
    let largest = vec![7; FILE_BYTES_MAX];
    let file = upload(&client, &author, &json!(1), "largest", &largest).await?;
    ensure!(file.status == StatusCode::CREATED && file.body["bytes"] == FILE_BYTES_MAX, "{file:?}");
    let larger = [largest, vec![7]].concat();
    ensure!(upload(&client, &author, &json!(1), "a", &larger).await?.status == StatusCode::PAYLOAD_TOO_LARGE);
    ensure!(upload(&client, &author, &json!(1), "a", b"").await?.status == StatusCode::BAD_REQUEST);
    // Only this operation accepts so much.
    let request = client.request(Method::POST, "/api/v2/channels/1/messages", Auth::Token(&author.token));
    let body = json!({ "source": "x", "more": "x".repeat(100_000) });
    client.send(request.json(&body), StatusCode::PAYLOAD_TOO_LARGE).await?;
    Ok(())
}

async fn a_repeated_upload_is_one_file(World { client, .. }: World) -> Result<()> {
    let (author, key) = (client.person("repeater").await?, Uuid::new_v4());
    let first = upload_with(&client, &author, &json!(1), "a", b"once", key).await?;
    let again = upload_with(&client, &author, &json!(1), "a", b"once", key).await?;
    ensure!(again.status == StatusCode::CREATED && again.body == first.body, "{again:?}");
    let other = upload_with(&client, &author, &json!(1), "a", b"else", key).await?;
    ensure!(other.status == StatusCode::CONFLICT, "{other:?}");
    Ok(())
}

async fn a_deleted_message_has_no_files(World { client, .. }: World) -> Result<()> {
    let author = client.person("regretful").await?;
    let file = upload(&client, &author, &json!(1), "a.png", PNG).await?.body;
    let message = post(&client, &author, &json!(1), &[&file]).await?;
    let path = format!("/api/v2/messages/{}", message["id"]);
    client.delete(&path, Auth::Token(&author.token), StatusCode::NO_CONTENT).await?;
    client.get(&path_of(&message, &file), Auth::Token(&author.token), StatusCode::NOT_FOUND).await?;
    let deleted = client.get(&path, Auth::None, StatusCode::OK).await?.body;
    ensure!(deleted.get("files").is_none(), "{deleted}");
    let other =
        post(&client, &author, &json!(1), &[&upload(&client, &author, &json!(1), "b", b"x").await?.body]).await?;
    ensure!(other["files"].as_array().context("files")?.len() == 1, "{other}");
    Ok(())
}
