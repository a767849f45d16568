//! A user that posts at its share of the rate, and repeats each message until it is acknowledged.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use super::Progress;
use crate::{
    client::{Auth, Client, Person},
    socket::Socket,
};

/// The protocol with which messages are posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    #[default]
    Rest,
    Websocket,
    /// Half of the authors each.
    Both,
}

impl Over {
    pub(super) fn by_socket(self, author: u32) -> bool {
        match self {
            Self::Rest => false,
            Self::Websocket => true,
            Self::Both => author % 2 == 1,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Websocket => "websocket",
            Self::Both => "both",
        }
    }
}

/// An acknowledged message, with times since the start of the run.
#[derive(Debug, Clone, Copy)]
pub struct Posted {
    pub id: i64,
    /// When it was first sent.
    pub sent: Duration,
    pub acknowledged: Duration,
    /// How often it was sent.
    pub attempts: u32,
}

pub struct Poster {
    client: Client,
    author: Person,
    start: Instant,
    by_socket: bool,
    socket: Option<Socket>,
}

/// The result of one attempt.
enum Answer {
    Stored(i64),
    Refused(String),
    /// A limit was reached; it is sent again after this time.
    Later(Duration),
    /// It is unknown whether the message was stored; it is sent again with the same key.
    Unknown,
}

/// The time within which a message must be acknowledged. A killed database may need many seconds to recover on a busy
/// machine; the latencies show this.
const ACKNOWLEDGEMENT_TIMEOUT: Duration = Duration::from_mins(1);
/// The pause before a failed message is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// The pause after a limit was reached, where the answer has no `Retry-After`: a frame has no headers.
const LIMIT_PAUSE: Duration = Duration::from_secs(1);
/// The timeout of one attempt over a socket: the server may be gone without a close frame.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// The channel to which version 1 of the API posts.
const CHANNEL: &str = "general";

impl Poster {
    pub fn new(client: Client, author: Person, start: Instant, by_socket: bool) -> Self {
        Self { client, author, start, by_socket, socket: None }
    }

    pub async fn post(
        mut self,
        delay: Duration,
        every: Duration,
        time: Duration,
        progress: &Progress,
    ) -> Result<Vec<Posted>> {
        sleep(delay).await;
        let begin = Instant::now();
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut posted = Vec::new();
        while begin.elapsed() < time && !progress.is_ended() {
            // Its socket receives all messages too. It is read, because the server closes a slow socket.
            tokio::select! {
                _ = ticks.tick() => {}
                () = drain(&mut self.socket) => unreachable!("it never returns"),
            }
            posted.push(self.post_one().await?);
            progress.count();
        }
        Ok(posted)
    }

    async fn post_one(&mut self) -> Result<Posted> {
        let key = Uuid::new_v4();
        let sent = self.start.elapsed();
        for attempts in 1.. {
            let answer = if self.by_socket {
                let answer = self.by_socket(key).await.unwrap_or(Answer::Unknown);
                if matches!(answer, Answer::Unknown) {
                    self.socket = None;
                }
                answer
            } else {
                self.by_rest(key).await?
            };
            match answer {
                Answer::Stored(id) => {
                    return Ok(Posted { id, sent, acknowledged: self.start.elapsed(), attempts });
                }
                Answer::Refused(why) => bail!("message {key} was refused: {why}"),
                Answer::Unknown | Answer::Later(_) if self.start.elapsed() > sent + ACKNOWLEDGEMENT_TIMEOUT => {
                    bail!("message {key} was not acknowledged within {ACKNOWLEDGEMENT_TIMEOUT:?}")
                }
                Answer::Unknown => sleep(RETRY_PAUSE).await,
                Answer::Later(pause) => sleep(pause).await,
            }
        }
        unreachable!("the loop ends by returning")
    }

    async fn by_rest(&self, key: Uuid) -> Result<Answer> {
        let request = self
            .client
            .request(Method::POST, "/api/messages", Auth::Token(&self.author.token))
            .header("Idempotency-Key", key.to_string())
            .json(&json!({ "source": source(key) }));
        match self.client.send_any(request).await {
            Ok(answer) if answer.status == StatusCode::CREATED => {
                Ok(Answer::Stored(answer.body["id"].as_i64().context("a message without an id")?))
            }
            Ok(answer) if answer.status == StatusCode::TOO_MANY_REQUESTS => {
                Ok(Answer::Later(answer.retry_after().unwrap_or(LIMIT_PAUSE)))
            }
            Ok(answer) if answer.status.is_client_error() => Ok(Answer::Refused(answer.body.to_string())),
            _ => Ok(Answer::Unknown),
        }
    }

    async fn by_socket(&mut self, key: Uuid) -> Result<Answer> {
        if self.socket.is_none() {
            self.socket = Some(Socket::open(self.client.base(), Some(&self.author.token), None).await?);
        }
        let socket = self.socket.as_mut().context("there is one now")?;
        socket.send(&json!({ "type": "post_message", "id": key, "channel": CHANNEL, "source": source(key) })).await?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        while let Some(frame) = socket.next(deadline.saturating_duration_since(Instant::now())).await? {
            if frame["type"] == "posted" && frame["id"] == json!(key) {
                return Ok(Answer::Stored(frame["message_id"].as_i64().context("posted without a message")?));
            }
            if frame["type"] == "problem" && frame["id"] == json!(key) {
                // A limit and a problem of the server pass; a problem of the message does not.
                return Ok(match frame["status"].as_u64() {
                    Some(429) => Answer::Later(LIMIT_PAUSE),
                    Some(400..500) => Answer::Refused(frame.to_string()),
                    _ => Answer::Unknown,
                });
            }
        }
        Ok(Answer::Unknown)
    }
}

fn source(key: Uuid) -> String {
    format!("message {key}")
}

/// Reads and drops frames; never returns.
async fn drain(socket: &mut Option<Socket>) {
    loop {
        match socket {
            Some(open) => {
                if open.next(ANSWER_TIMEOUT).await.is_err() {
                    *socket = None;
                }
            }
            None => std::future::pending().await,
        }
    }
}
