//! The service over a database of its own, without a process around it; and who talks to it.

pub mod pages;

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use chrono::Utc;
use flack_api::messages;
use flack_common::{
    auth::{SigningKey, Verifier},
    database,
};
use flack_messages::{MIGRATIONS, handlers::Messages, store::Store};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::{sync::Notify, time::Instant};
use tower::ServiceExt;

pub const TOKEN_LIFETIME: Duration = Duration::from_mins(1);

/// Bound of every wait for something that happens in the background.
const WAIT_MAX: Duration = Duration::from_secs(10);

pub const ADA: i64 = 1;
pub const BOB: i64 = 2;
pub const CORRELATION_ID: &str = "test-correlation";

pub struct Service {
    pub pool: PgPool,
    pub store: Store,
    pub linked: Arc<Notify>,
    pub verifier: Arc<Verifier>,
    pub key: SigningKey,
    router: Router,
}

impl Service {
    pub async fn start(pool: PgPool) -> Self {
        database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply to an empty database");
        let key = SigningKey::generate().expect("a key");
        let verifier = Verifier::standalone();
        verifier.add_key(key.key_id(), &key.public_jwk()).expect("our own key is usable");
        let store = Store::new(pool.clone());
        let linked = Arc::new(Notify::new());
        let api = Arc::new(Messages::new(store.clone(), Arc::clone(&linked)));
        let router = messages::router(api, Arc::clone(&verifier) as _);
        Self { pool, store, linked, verifier, key, router }
    }

    pub fn token(&self, user_id: i64) -> String {
        let (token, ..) = self.key.issue(user_id, Utc::now().timestamp(), TOKEN_LIFETIME);
        token.expose_secret().to_owned()
    }

    /// Sends anything, and reads the answer as JSON (null when it is empty).
    pub async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
        let answer = self.router.clone().oneshot(request).await.expect("a router does not fail");
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.expect("a body in memory").to_bytes();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
        (parts.status, parts.headers, body)
    }

    pub async fn get(&self, path: &str, expected: StatusCode) -> Value {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let (status, _, body) = self.send(request).await;
        assert_eq!(status, expected, "GET {path}: {body}");
        body
    }

    pub async fn call(
        &self,
        method: Method,
        path: &str,
        user_id: i64,
        body: Value,
        expected: StatusCode,
    ) -> (HeaderMap, Value) {
        let request = request(method, path, &body)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token(user_id)));
        let (status, headers, answer) =
            self.send(request.body(body.to_string().into()).expect("a request")).await;
        assert_eq!(status, expected, "{path} {body}: {answer}");
        (headers, answer)
    }

    /// Posts as this user, and gives the message.
    pub async fn post(&self, user_id: i64, source: &str) -> Value {
        let body = json!({ "source": source });
        self.call(Method::POST, "/api/messages", user_id, body, StatusCode::CREATED).await.1
    }

    pub async fn put(&self, user_id: i64, id: &Value, source: &str, expected: StatusCode) -> Value {
        let path = format!("/api/messages/{id}");
        self.call(Method::PUT, &path, user_id, json!({ "source": source }), expected).await.1
    }

    /// Waits until the message looks as it should, and gives it.
    pub async fn wait_for_message(&self, id: &Value, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let message = self.get(&format!("/api/messages/{id}"), StatusCode::OK).await;
            if is_so(&message) {
                return message;
            }
            assert!(Instant::now() < deadline, "waited in vain: {what}: {message}");
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the only query result is what it should be.
    pub async fn wait_for_row(&self, what: &str, query: &'static str, expected: &str) {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let found: Option<Option<String>> =
                sqlx::query_scalar(query).fetch_optional(&self.pool).await.expect("a query");
            let found = found.flatten();
            if found.as_deref() == Some(expected) {
                return;
            }
            assert!(Instant::now() < deadline, "waited in vain: {what}: {found:?}, not {expected:?}");
            tokio::task::yield_now().await;
        }
    }

    pub async fn row<T>(&self, query: &'static str) -> T
    where
        T: Send + Unpin + sqlx::Type<sqlx::Postgres> + for<'r> sqlx::Decode<'r, sqlx::Postgres>,
    {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.expect("one row")
    }

    pub async fn execute(&self, statement: &'static str) {
        sqlx::query(statement).execute(&self.pool).await.expect("a statement");
    }
}

/// Begins a request; a body that is not null will be JSON.
pub fn request(method: Method, path: &str, body: &Value) -> http::request::Builder {
    let builder = Request::builder().method(method).uri(path).header("X-Correlation-ID", CORRELATION_ID);
    if body.is_null() { builder } else { builder.header(header::CONTENT_TYPE, "application/json") }
}
