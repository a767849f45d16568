//! One author: posts at its share of the rate, and does not give a message up before it is acknowledged.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use crate::client::{Auth, Client, Person, WAIT};

/// An acknowledged message. Times since the start of the run.
#[derive(Debug, Clone, Copy)]
pub struct Posted {
    pub id: i64,
    /// When it was first sent.
    pub sent: Duration,
    pub acknowledged: Duration,
    /// How often it had to be sent.
    pub attempts: u32,
}

/// Pause before a message that failed is sent again, under the same key.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

pub async fn post(
    client: Client,
    author: Person,
    start: Instant,
    delay: Duration,
    every: Duration,
    time: Duration,
) -> anyhow::Result<Vec<Posted>> {
    sleep(delay).await;
    let begin = Instant::now();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut posted = Vec::new();
    while begin.elapsed() < time {
        ticks.tick().await;
        posted.push(post_one(&client, &author, start).await?);
    }
    Ok(posted)
}

async fn post_one(client: &Client, author: &Person, start: Instant) -> anyhow::Result<Posted> {
    let key = Uuid::new_v4().to_string();
    let sent = start.elapsed();
    for attempts in 1.. {
        let request = client
            .request(Method::POST, "/api/messages", Auth::Token(&author.token))
            .header("Idempotency-Key", &key)
            .json(&json!({ "source": format!("message {key}") }));
        match client.send_any(request).await {
            Ok(answer) if answer.status == StatusCode::CREATED => {
                let id = answer.body["id"].as_i64().context("a message without an id")?;
                return Ok(Posted { id, sent, acknowledged: start.elapsed(), attempts });
            }
            Ok(answer) if answer.status.is_client_error() => bail!("refused: {}", answer.body),
            _ if start.elapsed() > sent + WAIT => bail!("message {key} was not taken within {WAIT:?}"),
            _ => sleep(RETRY_PAUSE).await,
        }
    }
    unreachable!("the loop ends by returning")
}
