//! What the services recommend and tag make of events: only at the stage `services`.

use anyhow::{Context as _, Result, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    cases,
    client::{Auth, Client, Person, unique, wait_for},
    suite::{Case, World},
};

pub fn cases() -> Vec<Case> {
    cases![
        a_channel_with_the_words_of_the_channels_of_a_reader_is_recommended,
        messages_that_match_the_interests_of_a_reader_are_tagged,
    ]
}

/// A word of letters that no other test uses.
fn word() -> String {
    let letter = |character: char| char::from_digit(character.to_digit(16)? + 10, 36);
    unique("").chars().filter_map(letter).collect()
}

/// Creates a channel with a message, and returns the ids of both.
async fn channel_with(client: &Client, author: &Person, kind: &str, source: &str) -> Result<(i64, i64)> {
    let (auth, body) = (Auth::Token(&author.token), json!({ "kind": kind, "name": unique("t") }));
    let channel = client.post("/api/v2/channels", auth, &body, StatusCode::CREATED).await?.body;
    let path = format!("/api/v2/channels/{}/messages", channel["id"]);
    let message = client.post(&path, auth, &json!({ "source": source }), StatusCode::CREATED).await?.body;
    Ok((channel["id"].as_i64().context("no id")?, message["id"].as_i64().context("no id")?))
}

async fn a_channel_with_the_words_of_the_channels_of_a_reader_is_recommended(world: World) -> Result<()> {
    let World { client, .. } = world;
    let (author, reader) = (client.person("author").await?, client.person("reader").await?);
    let topic = word();
    let (joined, _) = channel_with(&client, &author, "public", &topic).await?;
    let (similar, _) = channel_with(&client, &author, "public", &format!("More about **{topic}**")).await?;
    let (secret, _) = channel_with(&client, &author, "private", &topic).await?;
    let auth = Auth::Token(&reader.token);
    let member = format!("/api/v2/channels/{joined}/members/{}", reader.id);
    client.put_without_body(&member, auth, StatusCode::NO_CONTENT).await?;

    let (list, _) = wait_for("the similar channel is recommended", || async {
        let list = client.get("/api/recommend?limit=20", auth, StatusCode::OK).await?.body;
        let first = &list["channels"][0];
        // Before the membership arrives it may be the most active channel.
        Ok((first["channel_id"] == similar && first["reason"]["kind"] == "shared_words").then_some(list))
    })
    .await?;
    let reason = &list["channels"][0]["reason"];
    ensure!(reason["words"] == json!([topic]), "{reason}");
    let ids: Vec<_> = list["channels"].as_array().context("no list")?.iter().map(|one| &one["channel_id"]).collect();
    ensure!(!ids.iter().any(|id| **id == secret || **id == joined), "{list}");
    client.get("/api/recommend", Auth::None, StatusCode::UNAUTHORIZED).await?;
    Ok(())
}

async fn messages_that_match_the_interests_of_a_reader_are_tagged(World { client, .. }: World) -> Result<()> {
    let (author, reader) = (client.person("author").await?, client.person("reader").await?);
    let (first, second) = (word(), word());
    // Before the reader has interests.
    let (channel, public) = channel_with(&client, &author, "public", &format!("{first} and {second}")).await?;
    let (_, private) = channel_with(&client, &author, "private", &first).await?;
    let auth = Auth::Token(&reader.token);
    let tagged = async |expected: Value| {
        wait_for("the message is tagged", || async {
            let list = client.get(&format!("/api/tag?ids={public},{private}"), auth, StatusCode::OK).await?.body;
            Ok((list["messages"] == expected).then_some(()))
        })
        .await
    };
    let prefer = async |interests: Value| {
        let body = json!({ "theme": "dark", "notifications": false, "interests": interests });
        client.put("/api/ui/preferences", auth, &body, StatusCode::NO_CONTENT).await
    };
    let message = |matched: Value| json!([{ "message_id": public, "channel_id": channel, "matched": matched }]);

    prefer(json!({ "words": [first], "people": [author.id] })).await?;
    tagged(message(json!({ "words": [first], "people": [author.id], "topics": [] }))).await?;
    prefer(json!({ "words": [second] })).await?;
    tagged(message(json!({ "words": [second], "people": [], "topics": [] }))).await?;
    prefer(json!({})).await?;
    tagged(json!([])).await?;
    client.get("/api/tag", Auth::None, StatusCode::UNAUTHORIZED).await?;
    Ok(())
}
