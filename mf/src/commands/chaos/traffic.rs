//! What users notice: light traffic through the balancer during a run, by clients that repeat what fails, as the
//! browser app does.
//!
//! Reads are repeated because they are safe, messages because they have an `Idempotency-Key`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use crate::failure;

/// Clients that read, each once in `READ_INTERVAL`.
const READERS: usize = 4;
const READ_INTERVAL: Duration = Duration::from_millis(200);
const POST_INTERVAL: Duration = Duration::from_millis(500);
/// A sign-in hashes a password, and the balancer limits them.
const SIGN_IN_INTERVAL: Duration = Duration::from_secs(2);
/// An attempt without an answer in this time is repeated.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// A request that has not succeeded after this time, with all of its attempts, has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// A longer `Retry-After` is not waited for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(2);
/// Failed requests that are listed; the others are only counted.
const FAILURES_LISTED_MAX: usize = 20;
/// Each page of the history has 1,000 messages, or 1 MiB.
const PAGES_MAX: usize = 1_000;

/// Counts of all clients together.
#[derive(Debug, Default, Serialize)]
pub struct Counts {
    pub requests: u64,
    /// Requests that succeeded after more than one attempt.
    pub repeated: u64,
    pub failed: u64,
    /// The first failed requests.
    pub failures: Vec<String>,
    /// Attempts that failed, by reason.
    pub failed_attempts: BTreeMap<String, u64>,
    /// The longest time in which no request succeeded.
    pub longest_gap_milliseconds: u64,
    /// The longest time from a request to its success.
    pub slowest_milliseconds: u64,
}

/// What the history has of the messages that were posted.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Messages {
    pub acknowledged: usize,
    /// Acknowledged, but not in the history.
    pub lost: usize,
    /// More than once in the history.
    pub duplicated: usize,
}

/// The running traffic.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    user_id: i64,
    token: String,
    /// Unix seconds.
    began: i64,
    clients: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    http: Client,
    base: String,
    started: Instant,
    is_over: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    counts: Counts,
    last_success: Instant,
    /// Sources of acknowledged messages.
    acknowledged: BTreeSet<String>,
}

impl Traffic {
    /// Registers a user whose nickname begins with `stem`, and starts the clients.
    pub async fn start(base: String, stem: &str) -> failure::Result<Self> {
        let started = Instant::now();
        let state = State { counts: Counts::default(), last_success: started, acknowledged: BTreeSet::new() };
        let http = flack_common::http::client();
        let shared = Shared { http, base, started, is_over: AtomicBool::new(false), state: Mutex::new(state) };
        let shared = Arc::new(shared);
        let began = chrono::Utc::now().timestamp();
        let password = Uuid::new_v4().simple().to_string();
        let (nickname, user_id, token) = shared.sign_up(stem, &password).await.map_err(|problem| {
            failure!(Unavailable, "the traffic cannot start: {problem}. mfps shows what runs; mfup starts the rest")
        })?;
        let mut clients = JoinSet::new();
        for _ in 0..READERS {
            clients.spawn(read(Arc::clone(&shared), user_id));
        }
        clients.spawn(post(Arc::clone(&shared), nickname.clone(), token.clone()));
        clients.spawn(sign_in(Arc::clone(&shared), nickname, password));
        Ok(Self { shared, user_id, token, began, clients })
    }

    /// Waits for the present requests, and compares the history with what was acknowledged.
    pub async fn finish(mut self) -> failure::Result<(Counts, Messages)> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        let unreadable = |problem| failure!(Unavailable, "the messages cannot be read: {problem}. See mfps");
        let history = self.shared.history(self.user_id, self.began).await.map_err(unreadable)?;
        // Without counting: the run is over. The token expires anyway.
        let _ = self.shared.request(Method::DELETE, "/api/tokens").bearer_auth(&self.token).send().await;
        let mut state = self.shared.state();
        let messages = compare(&state.acknowledged, &history);
        Ok((std::mem::take(&mut state.counts), messages))
    }
}

async fn read(shared: Arc<Shared>, user_id: i64) {
    let paths =
        ["/".to_owned(), format!("/api/users/{user_id}"), "/api/messages?updated_since=253402300799".to_owned()];
    let mut ticks = interval(READ_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for path in paths.iter().cycle() {
        ticks.tick().await;
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        let _ = shared.send(&format!("GET {path}"), || shared.request(Method::GET, path)).await;
    }
}

async fn post(shared: Arc<Shared>, nickname: String, token: String) {
    let mut ticks = interval(POST_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 1.. {
        ticks.tick().await;
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        let (key, source) = (Uuid::new_v4().to_string(), format!("mfchaos: message {number} of {nickname}"));
        let request = || {
            let post = shared.request(Method::POST, "/api/messages").header("Idempotency-Key", &key);
            post.bearer_auth(&token).json(&json!({ "source": source }))
        };
        if shared.send("POST /api/messages", request).await.is_ok() {
            shared.state().acknowledged.insert(source);
        }
    }
}

/// Signs in again and again: this needs tokens and users. It is repeated because another token has no effect.
async fn sign_in(shared: Arc<Shared>, nickname: String, password: String) {
    let mut ticks = interval(SIGN_IN_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        let _ = shared.sign_in(&nickname, &password).await;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).timeout(ATTEMPT_TIMEOUT)
    }

    /// Registers a user, and returns its nickname, its id and a token.
    async fn sign_up(&self, stem: &str, password: &str) -> Result<(String, i64, String), String> {
        let register = || {
            // Another one for each attempt: one without an answer may have registered its user.
            let mut id = Uuid::new_v4().simple().to_string();
            id.truncate(8);
            let body = json!({ "nickname": format!("{stem}-{id}"), "password": password });
            self.request(Method::POST, "/api/users").json(&body)
        };
        let user = self.send("POST /api/users", register).await?;
        let id = user["id"].as_i64().ok_or("the answer to the registration has no id")?;
        let nickname = user["nickname"].as_str().ok_or("the answer to the registration has no nickname")?.to_owned();
        let token = self.sign_in(&nickname, password).await?;
        Ok((nickname, id, token))
    }

    /// Returns a token.
    async fn sign_in(&self, nickname: &str, password: &str) -> Result<String, String> {
        let request = || self.request(Method::POST, "/api/tokens").basic_auth(nickname, Some(password));
        let answer = self.send("POST /api/tokens", request).await?;
        answer["token"].as_str().map(str::to_owned).ok_or_else(|| "the answer to a sign-in has no token".to_owned())
    }

    /// Returns the sources of the user's messages.
    async fn history(&self, user_id: i64, began: i64) -> Result<Vec<String>, String> {
        let mut messages = BTreeMap::new();
        let mut since = began - 1;
        for _ in 0..PAGES_MAX {
            let path = format!("/api/messages?updated_since={since}");
            let page = self.send("GET /api/messages", || self.request(Method::GET, &path)).await?;
            let page = page["messages"].as_array().cloned().unwrap_or_default();
            let last = page.last().and_then(|message| message["updated_at"].as_i64()).unwrap_or(since);
            for message in page.into_iter().filter(|message| message["user_id"] == user_id) {
                let source = message["source"].as_str().unwrap_or_default().to_owned();
                messages.insert(message["id"].as_i64(), source);
            }
            if last == since {
                break;
            }
            since = last;
        }
        Ok(messages.into_values().collect())
    }

    /// Sends a request until it succeeds, and returns the body of the answer; null if it is not JSON.
    async fn send(&self, what: &str, request: impl Fn() -> RequestBuilder) -> Result<Value, String> {
        let began = Instant::now();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (problem, pause) = match attempt(request()).await {
                Ok(body) => {
                    self.succeeded(began, attempts);
                    return Ok(body);
                }
                Err(failed) => failed,
            };
            *self.state().counts.failed_attempts.entry(problem.clone()).or_default() += 1;
            let Some(pause) = pause.filter(|pause| began.elapsed() + *pause < REQUEST_TIMEOUT) else {
                let at = (began - self.started).as_secs_f64();
                self.failed(format!("{what} at {at:.1} s: {problem}, after {attempts} attempts"));
                return Err(problem);
            };
            sleep(pause).await;
        }
    }

    fn failed(&self, what: String) {
        let counts = &mut self.state().counts;
        counts.requests += 1;
        counts.failed += 1;
        if counts.failures.len() < FAILURES_LISTED_MAX {
            counts.failures.push(what);
        }
    }

    fn succeeded(&self, began: Instant, attempts: u32) {
        let mut state = self.state();
        let State { counts, last_success, .. } = &mut *state;
        let gap = last_success.elapsed();
        *last_success = Instant::now();
        counts.requests += 1;
        counts.repeated += u64::from(attempts > 1);
        counts.longest_gap_milliseconds = counts.longest_gap_milliseconds.max(milliseconds(gap));
        counts.slowest_milliseconds = counts.slowest_milliseconds.max(milliseconds(began.elapsed()));
    }
}

/// Sends a request once. Returns why it failed, and the pause after which it may be sent again, if it may.
async fn attempt(request: RequestBuilder) -> Result<Value, (String, Option<Duration>)> {
    let broken = |error: reqwest::Error| {
        let problem = if error.is_timeout() { "no answer in time" } else { "the connection failed" };
        (problem.to_owned(), Some(RETRY_PAUSE))
    };
    let answer = request.send().await.map_err(broken)?;
    let status = answer.status();
    if status.is_success() {
        let body = answer.bytes().await.map_err(broken)?;
        return Ok(serde_json::from_slice(&body).unwrap_or_default());
    }
    // As in a balancer's rule: these answers say that the request had no effect, or may be repeated with its key.
    let is_retryable = matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    let retry_after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let pause = retry_after.map_or(RETRY_PAUSE, Duration::from_secs).min(RETRY_AFTER_MAX);
    Err((format!("status {}", status.as_u16()), is_retryable.then_some(pause)))
}

fn compare(acknowledged: &BTreeSet<String>, history: &[String]) -> Messages {
    let mut times = BTreeMap::<&String, usize>::new();
    for source in history {
        *times.entry(source).or_default() += 1;
    }
    Messages {
        acknowledged: acknowledged.len(),
        lost: acknowledged.iter().filter(|source| !times.contains_key(source)).count(),
        duplicated: times.values().filter(|times| **times > 1).count(),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn an_acknowledged_message_that_is_missing_or_stored_twice_is_counted() {
        let text = |number: u32| format!("message {number}");
        let acknowledged = BTreeSet::from([text(1), text(2), text(3)]);
        // 4 was stored, but its answer was lost.
        let history = [text(1), text(1), text(3), text(4)];
        assert_eq!(compare(&acknowledged, &history), Messages { acknowledged: 3, lost: 1, duplicated: 1 });
    }

    /// Answers each request on a connection of its own; an empty answer ends the connection.
    async fn serve(answers: &'static [&'static str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        format!("http://{address}")
    }

    fn shared(base: String) -> Shared {
        let now = Instant::now();
        let state = State { counts: Counts::default(), last_success: now, acknowledged: BTreeSet::new() };
        let http = flack_common::http::client();
        Shared { http, base, started: now, is_over: AtomicBool::new(false), state: Mutex::new(state) }
    }

    #[tokio::test]
    async fn a_request_is_repeated_until_it_succeeds_and_a_failure_is_not_repeated() {
        const UNAVAILABLE: &str = "HTTP/1.1 503 x\r\nretry-after: 0\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        const OK: &str = "HTTP/1.1 200 x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
        const ERROR: &str = "HTTP/1.1 500 x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let shared = shared(serve(&[UNAVAILABLE, "", OK, ERROR]).await);
        let get = || shared.request(Method::GET, "/");
        assert_eq!(shared.send("GET /", get).await, Ok(json!({})));
        assert_eq!(shared.send("GET /", get).await, Err("status 500".to_owned()));
        let counts = &shared.state().counts;
        assert_eq!((counts.requests, counts.repeated, counts.failed), (2, 1, 1));
        assert_eq!(counts.failed_attempts.values().sum::<u64>(), 3, "{counts:?}");
        assert!(counts.failures[0].contains("status 500"), "{counts:?}");
    }
}
