//! Pages of messages, in version 2: newest first, and on in both directions. Other cases post messages meanwhile.

use anyhow::{Context as _, Result, ensure};
use chrono::DateTime;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    cases,
    client::{Auth, Client, wait_for},
    suite::{Case, World},
};

pub fn cases() -> Vec<Case> {
    cases![
        the_page_without_a_cursor_has_the_newest_messages,
        pages_have_every_message_once_in_both_directions,
        an_edited_message_keeps_its_position,
        a_bad_page_cursor_or_limit_is_refused,
        a_page_has_nicknames_and_times_of_rfc_3339,
    ]
}

const PATH: &str = "/api/v2/messages";
const MESSAGES: usize = 7;
/// Another case may post many messages at the same time.
const PAGES_MAX: usize = 1_000;

async fn page(client: &Client, query: &str) -> Result<Value> {
    Ok(client.get(&format!("{PATH}{query}"), Auth::None, StatusCode::OK).await?.body)
}

fn ids(page: &Value) -> Vec<i64> {
    page["messages"].as_array().into_iter().flatten().filter_map(|message| message["id"].as_i64()).collect()
}

/// Follows `direction` from a page cursor until `last` was read, and returns the ids of each page.
async fn follow(client: &Client, parameter: &str, cursor: &Value, last: i64) -> Result<Vec<Vec<i64>>> {
    let (mut pages, mut cursor) = (Vec::<Vec<i64>>::new(), cursor.clone());
    while !pages.iter().flatten().any(|id| *id == last) {
        ensure!(pages.len() < PAGES_MAX, "{last} is on no page");
        let text = cursor.as_str().with_context(|| format!("the pages end before {last}"))?;
        let page = page(client, &format!("?limit=3&{parameter}={text}")).await?;
        pages.push(ids(&page));
        cursor = page[if parameter == "before" { "earlier" } else { "later" }].clone();
    }
    Ok(pages)
}

async fn the_page_without_a_cursor_has_the_newest_messages(World { client, .. }: World) -> Result<()> {
    let author = client.person("newest").await?;
    let id = client.message(&author, "the newest").await?;
    let page = page(&client, "").await?;
    let ids = ids(&page);
    ensure!(ids.len() <= 50 && ids.is_sorted(), "{ids:?}");
    ensure!(ids.last() >= Some(&id), "{id} is not on the page: {ids:?}");
    ensure!(page["later"].is_null(), "nothing is later: {}", page["later"]);
    let one = self::page(&client, "?limit=1").await?;
    ensure!(self::ids(&one).len() == 1 && one["earlier"].is_string(), "{one}");
    Ok(())
}

async fn pages_have_every_message_once_in_both_directions(World { client, .. }: World) -> Result<()> {
    let author = client.person("pager").await?;
    let mut posted = Vec::new();
    for number in 0..MESSAGES {
        posted.push(client.message(&author, &format!("page {number}")).await?);
    }
    let (first, last) = (posted[0], posted[MESSAGES - 1]);
    let newest = page(&client, "?limit=3").await?;
    let mut back = vec![ids(&newest)];
    if !back[0].contains(&first) {
        back.extend(follow(&client, "before", &newest["earlier"], first).await?);
    }
    // Pages go back; each is in the order of the ids.
    let back: Vec<i64> = back.into_iter().rev().flatten().collect();
    ensure!(back.is_sorted_by(|a, b| a < b), "{back:?}");
    ensure!(posted.iter().all(|id| back.contains(id)), "{posted:?} are not all in {back:?}");

    let start = page(&client, &format!("?limit=1&before={}", cursor_of(&client, first).await?)).await?;
    let later = if ids(&start).is_empty() { &newest["earlier"] } else { &start["later"] };
    let forth = follow(&client, "after", later, last).await?.concat();
    ensure!(forth.is_sorted_by(|a, b| a < b), "{forth:?}");
    ensure!(posted.iter().all(|id| forth.contains(id)), "{posted:?} are not all in {forth:?}");

    // Next to each other, without a gap and without the message itself.
    let cursor = cursor_of(&client, posted[3]).await?;
    let before = ids(&page(&client, &format!("?limit=1&before={cursor}")).await?);
    let after = ids(&page(&client, &format!("?limit=1&after={cursor}")).await?);
    ensure!(before[0] >= posted[2] && before[0] < posted[3] && after[0] > posted[3] && after[0] <= posted[4]);
    Ok(())
}

/// Returns the page cursor of a message that was posted a short time ago.
async fn cursor_of(client: &Client, id: i64) -> Result<String> {
    let page = page(client, "?limit=100").await?;
    let messages = page["messages"].as_array().context("no messages")?;
    let message = messages.iter().find(|message| message["id"] == json!(id)).context("it is not on the page")?;
    message["cursor"].as_str().map(str::to_owned).context("a message without a cursor")
}

async fn an_edited_message_keeps_its_position(World { client, .. }: World) -> Result<()> {
    let author = client.person("reviser").await?;
    let (first, second) = (client.message(&author, "draft").await?, client.message(&author, "other").await?);
    let body = json!({ "source": "*final*" });
    client.put(&format!("/api/messages/{first}"), Auth::Token(&author.token), &body, StatusCode::NO_CONTENT).await?;
    let page = page(&client, &format!("?limit=100&before={}", cursor_of(&client, second).await?)).await?;
    let messages = page["messages"].as_array().context("no messages")?;
    let edited = messages.iter().find(|message| message["id"] == json!(first)).context("it is not before the other")?;
    ensure!(edited["source"] == "*final*" && edited["html"] == "<p><em>final</em></p>\n", "{edited}");
    ensure!(edited["updated_at"].as_str() > edited["created_at"].as_str(), "{edited}");
    Ok(())
}

async fn a_bad_page_cursor_or_limit_is_refused(World { client, .. }: World) -> Result<()> {
    let author = client.person("guesser").await?;
    let cursor = cursor_of(&client, client.message(&author, "a cursor").await?).await?;
    for query in [
        "before=".to_owned(),
        "before=7".to_owned(),
        "after=%27".to_owned(),
        format!("after={cursor}AAAA"),
        format!("before={}", &cursor[1..]),
        format!("before={cursor}&after={cursor}"),
        "limit=0".to_owned(),
        "limit=101".to_owned(),
        "limit=ten".to_owned(),
        format!("before={}", "A".repeat(65)),
    ] {
        let request = client.request(Method::GET, &format!("{PATH}?{query}"), Auth::None);
        let answer = client.send(request, StatusCode::BAD_REQUEST).await.with_context(|| query.clone())?;
        ensure!(answer.body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{query}: {}", answer.body);
    }
    Ok(())
}

async fn a_page_has_nicknames_and_times_of_rfc_3339(World { client, .. }: World) -> Result<()> {
    let author = client.person("timekeeper").await?;
    let id = client.message(&author, "what time is it?").await?;
    let named = || {
        let (client, nickname) = (client.clone(), author.nickname.clone());
        async move {
            let page = page(&client, "?limit=100").await?;
            let messages = page["messages"].as_array().cloned().unwrap_or_default();
            Ok(messages.into_iter().find(|message| message["id"] == json!(id) && message["nickname"] == nickname))
        }
    };
    let (message, _) = wait_for("the author's nickname", named).await?;
    for field in ["created_at", "updated_at"] {
        let time = message[field].as_str().with_context(|| format!("no {field}"))?;
        DateTime::parse_from_rfc3339(time).with_context(|| time.to_owned())?;
        ensure!(time.ends_with('Z'), "{time} is not in UTC");
    }
    ensure!(message["user_id"] == json!(author.id), "{message}");
    Ok(())
}
