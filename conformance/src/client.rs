//! An HTTP client for tests: the expected status is an argument, and every answer is checked against the documents.

use std::{
    sync::{Arc, Once},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::{
    Method, StatusCode,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::contract::Contract;

/// The credentials of a request.
#[derive(Debug, Clone, Copy)]
pub enum Auth<'a> {
    None,
    Token(&'a str),
    Basic(&'a str, &'a str),
}

/// An answer of the stack.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// `null` when there was no body, a string when it was not JSON.
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The pause of `Retry-After`.
    pub fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after").parse().ok().map(Duration::from_secs)
    }
}

/// A user that was registered for a test.
#[derive(Debug, Clone)]
pub struct Person {
    pub id: i64,
    pub nickname: String,
    pub password: String,
    pub token: String,
}

/// Requests to one stack.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    contract: Arc<Contract>,
}

/// The timeout of every wait in the suite; a wait normally takes milliseconds.
pub const WAIT: Duration = Duration::from_mins(1);
/// How long a registration may be delayed by answers 429 in all.
const QUOTA_WAIT_MAX: Duration = Duration::from_mins(3);
/// A load reaches the limit many times a second.
static LIMIT_NOTICE: Once = Once::new();
/// The pause of [`wait_for`] between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

impl Client {
    pub fn new(base: &str, contract: Arc<Contract>) -> Result<Self> {
        let http = flack_api::http_client_builder().timeout(Duration::from_secs(15)).build()?;
        Ok(Self { http, base: base.to_owned(), contract })
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Prepares a request, to be sent with [`Client::send`].
    pub fn request(&self, method: Method, path: &str, auth: Auth<'_>) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match auth {
            Auth::None => request,
            Auth::Token(token) => request.bearer_auth(token),
            Auth::Basic(nickname, password) => request.basic_auth(nickname, Some(password)),
        }
    }

    /// Sends a request, and fails unless the answer has this status and matches the contract.
    pub async fn send(&self, request: reqwest::RequestBuilder, expected: StatusCode) -> Result<Answer> {
        let answer = self.send_any(request).await?;
        ensure!(answer.status == expected, "expected {expected}, got {}: {}", answer.status, answer.body);
        Ok(answer)
    }

    /// Sends a request as [`Client::send`] does. While the answer is 429, waits for the time of `Retry-After` and sends
    /// the request again.
    async fn send_within_quota(&self, request: reqwest::RequestBuilder, expected: StatusCode) -> Result<Answer> {
        let began = Instant::now();
        loop {
            let again = request.try_clone().context("a request with a stream as its body")?;
            let answer = self.send_any(again).await?;
            if answer.status != StatusCode::TOO_MANY_REQUESTS {
                ensure!(answer.status == expected, "expected {expected}, got {}: {}", answer.status, answer.body);
                return Ok(answer);
            }
            let pause = answer.retry_after().context("429 without Retry-After")?;
            ensure!(began.elapsed() + pause < QUOTA_WAIT_MAX, "still 429 after {QUOTA_WAIT_MAX:?}: {}", answer.body);
            LIMIT_NOTICE.call_once(|| {
                eprintln!("the limit of sign-ups and sign-ins is reached; such requests wait from now on");
            });
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request, and fails only if the answer does not match the contract.
    pub async fn send_any(&self, request: reqwest::RequestBuilder) -> Result<Answer> {
        let request = request.build()?;
        let (method, path) = (request.method().to_string(), request.url().path().to_owned());
        let response = self.http.execute(request).await.with_context(|| format!("{method} {path} got no answer"))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await?;
        let body = match bytes.as_ref() {
            [] => Value::Null,
            bytes => serde_json::from_slice(bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(bytes))),
        };
        let answer = Answer { status, headers, body };
        self.contract
            .check(&method, &path, status.as_u16(), answer.header(CONTENT_TYPE.as_str()), &answer.body)
            .with_context(|| format!("{method} {path}"))?;
        if status == StatusCode::UNAUTHORIZED {
            ensure!(
                answer.header("www-authenticate").starts_with("Bearer"),
                "{method} {path}: 401 without WWW-Authenticate: Bearer"
            );
        }
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            ensure!(!answer.header("retry-after").is_empty(), "{method} {path}: {status} without Retry-After");
        }
        Ok(answer)
    }

    pub async fn get(&self, path: &str, auth: Auth<'_>, expected: StatusCode) -> Result<Answer> {
        self.send(self.request(Method::GET, path, auth), expected).await
    }

    pub async fn post(&self, path: &str, auth: Auth<'_>, body: &Value, expected: StatusCode) -> Result<Answer> {
        self.send(self.request(Method::POST, path, auth).json(body), expected).await
    }

    pub async fn put(&self, path: &str, auth: Auth<'_>, body: &Value, expected: StatusCode) -> Result<Answer> {
        self.send(self.request(Method::PUT, path, auth).json(body), expected).await
    }

    pub async fn patch(&self, path: &str, auth: Auth<'_>, body: &Value, expected: StatusCode) -> Result<Answer> {
        self.send(self.request(Method::PATCH, path, auth).json(body), expected).await
    }

    /// Sends a PUT to an operation that takes no body.
    pub async fn put_without_body(&self, path: &str, auth: Auth<'_>, expected: StatusCode) -> Result<Answer> {
        self.send(self.request(Method::PUT, path, auth), expected).await
    }

    pub async fn delete(&self, path: &str, auth: Auth<'_>, expected: StatusCode) -> Result<Answer> {
        self.send(self.request(Method::DELETE, path, auth), expected).await
    }

    /// Registers a new user and gets a token.
    pub async fn person(&self, stem: &str) -> Result<Person> {
        let nickname = unique(stem);
        let password = format!("password of {nickname}");
        let body = json!({ "nickname": nickname, "password": password });
        let request = self.request(Method::POST, "/api/users", Auth::None).json(&body);
        let user = self.send_within_quota(request, StatusCode::CREATED).await?;
        let id = user.body["id"].as_i64().context("a user without an id")?;
        let token = self.token(&nickname, &password).await?;
        Ok(Person { id, nickname, password, token })
    }

    pub async fn token(&self, nickname: &str, password: &str) -> Result<String> {
        let request = self.request(Method::POST, "/api/tokens", Auth::Basic(nickname, password));
        let answer = self.send_within_quota(request, StatusCode::OK).await?;
        Ok(answer.body["token"].as_str().context("no token")?.to_owned())
    }

    /// Posts a message and returns its id.
    pub async fn message(&self, author: &Person, source: &str) -> Result<i64> {
        let body = json!({ "source": source });
        let answer = self.post("/api/messages", Auth::Token(&author.token), &body, StatusCode::CREATED).await?;
        answer.body["id"].as_i64().context("a message without an id")
    }
}

/// Returns a name that no other test uses.
pub fn unique(stem: &str) -> String {
    format!("{stem}-{}", &Uuid::new_v4().simple().to_string()[..12])
}

/// Polls until `poll` returns a value, for at most [`WAIT`]; returns the value and the time that it took.
pub async fn wait_for<T, F>(what: &str, mut poll: impl FnMut() -> F) -> Result<(T, Duration)>
where
    F: Future<Output = Result<Option<T>>>,
{
    let start = Instant::now();
    loop {
        if let Some(found) = poll().await? {
            return Ok((found, start.elapsed()));
        }
        if start.elapsed() > WAIT {
            bail!("timed out after {WAIT:?} waiting for {what}");
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
