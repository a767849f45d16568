//! Profiles and the preview of a message, in version 2.

use anyhow::{Result, ensure};
use reqwest::StatusCode;
use serde_json::json;

use crate::{
    cases,
    client::Auth,
    socket::Socket,
    suite::{Case, World},
};

pub fn cases() -> Vec<Case> {
    cases![a_profile_reaches_clients_of_version_2, a_preview_is_the_html_of_the_message]
}

async fn a_profile_reaches_clients_of_version_2(World { client, .. }: World) -> Result<()> {
    let person = client.person("profile").await?;
    let auth = Auth::Token(&person.token);
    let mut socket = Socket::connect(client.base()).await?;
    socket.send(&json!({ "type": "hello", "token": person.token, "version": 2 })).await?;
    socket.wait_for("a welcome", |frame| frame["type"] == "welcome").await?;
    let path = format!("/api/v2/profiles/{}", person.id);
    let body = json!({ "display_name": "A. Person", "about": "Here.", "hue": 200 });
    let changed = client.patch(&path, auth, &body, StatusCode::OK).await?.body;
    ensure!(changed["display_name"] == "A. Person" && changed["hue"] == 200, "{changed}");
    let is_own = |frame: &serde_json::Value| frame["class"] == "User" && frame["model"]["profile"] == changed;
    socket.wait_for("the profile", is_own).await?;
    ensure!(client.get(&path, Auth::None, StatusCode::OK).await?.body == changed);
    let list = client.get(&format!("/api/v2/profiles?after={}", person.id - 1), Auth::None, StatusCode::OK).await?.body;
    ensure!(list["profiles"][0] == changed, "{list}");
    let v1 = client.get(&format!("/api/users/{}", person.id), Auth::None, StatusCode::OK).await?.body;
    ensure!(v1.get("display_name").is_none() && v1["nickname"] == json!(person.nickname), "{v1}");
    let stranger = client.person("stranger").await?;
    client.patch(&path, Auth::Token(&stranger.token), &body, StatusCode::FORBIDDEN).await?;
    client.patch(&path, auth, &json!({ "hue": 360 }), StatusCode::BAD_REQUEST).await?;
    Ok(())
}

async fn a_preview_is_the_html_of_the_message(World { client, .. }: World) -> Result<()> {
    let person = client.person("preview").await?;
    let auth = Auth::Token(&person.token);
    let body = json!({ "source": "*so* <script>alert(1)</script> `it` is" });
    let preview = client.post("/api/v2/messages/preview", auth, &body, StatusCode::OK).await?.body;
    let message = client.post("/api/v2/channels/1/messages", auth, &body, StatusCode::CREATED).await?.body;
    ensure!(preview["html"] == message["html"], "{preview}");
    client.post("/api/v2/messages/preview", Auth::None, &body, StatusCode::UNAUTHORIZED).await?;
    Ok(())
}
