//! Search, in a stack of services: a message is found some time after it was posted.

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
        a_message_is_found_until_it_is_deleted,
        a_private_message_is_found_by_members_only,
        a_bad_search_is_refused_with_the_reason,
    ]
}

const PATH: &str = "/api/search";

/// Waits until a search finds this number of messages, and returns them.
async fn found(client: &Client, person: &Person, q: &str, count: usize) -> Result<Vec<Value>> {
    let search = || async {
        let request = client.request(Method::GET, PATH, Auth::Token(&person.token)).query(&[("q", q)]);
        let page = client.send(request, StatusCode::OK).await?.body;
        Ok(page["results"].as_array().filter(|results| results.len() == count).cloned())
    };
    Ok(wait_for("the results", search).await?.0)
}

async fn a_message_is_found_until_it_is_deleted(World { client, .. }: World) -> Result<()> {
    let (author, word) = (client.person("searcher").await?, unique("w").replace('-', ""));
    let id = client.message(&author, &format!("a **{word}** to be found")).await?;
    let results = found(&client, &author, &word, 1).await?;
    ensure!(results[0]["message_id"] == json!(id) && results[0]["channel_name"] == "general", "{}", results[0]);
    let marked = json!({ "text": word, "marked": true });
    ensure!(results[0]["excerpt"].as_array().is_some_and(|all| all.contains(&marked)), "{}", results[0]);

    let (auth, path) = (Auth::Token(&author.token), format!("/api/v2/messages/{id}"));
    let edit = client.request(Method::PATCH, &path, auth).json(&json!({ "source": format!("another {word}x") }));
    client.send(edit, StatusCode::OK).await?;
    found(&client, &author, &word, 0).await?;
    found(&client, &author, &format!("{word}x"), 1).await?;
    client.send(client.request(Method::DELETE, &path, auth), StatusCode::NO_CONTENT).await?;
    found(&client, &author, &format!("{word}x"), 0).await?;
    Ok(())
}

async fn a_private_message_is_found_by_members_only(World { client, .. }: World) -> Result<()> {
    let (member, stranger) = (client.person("insider").await?, client.person("stranger").await?);
    let (name, word) = (unique("c"), unique("w").replace('-', ""));
    let (auth, body) = (Auth::Token(&member.token), json!({ "kind": "private", "name": name }));
    let channel = client.post("/api/v2/channels", auth, &body, StatusCode::CREATED).await?.body;
    let path = format!("/api/v2/channels/{}/messages", channel["id"]);
    client.post(&path, auth, &json!({ "source": word }), StatusCode::CREATED).await?;
    // In both channels, so that the stranger finds one as soon as both are indexed.
    let public = client.message(&member, &word).await?;
    found(&client, &member, &word, 2).await?;
    let results = found(&client, &stranger, &word, 1).await?;
    ensure!(results[0]["message_id"] == json!(public), "{}", results[0]);
    Ok(())
}

async fn a_bad_search_is_refused_with_the_reason(World { client, .. }: World) -> Result<()> {
    let person = client.person("typist").await?;
    for (q, reason) in [("before:2026-13-01", "no day"), ("\"open", "quotation mark"), ("-x", "excludes"), ("", "q")] {
        let request = client.request(Method::GET, PATH, Auth::Token(&person.token)).query(&[("q", q)]);
        let problem = client.send(request, StatusCode::BAD_REQUEST).await?.body;
        let detail = problem["detail"].as_str().context("a detail")?;
        ensure!(detail.contains(reason), "{q}: {detail}");
    }
    Ok(())
}
