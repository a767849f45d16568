//! The messages part under test, and shortcuts for requests and queries.

use std::{ops::Deref, sync::Arc};

use flack_api::{messages, messages_v2};
use flack_common::database;
use flack_messages::{MIGRATIONS, handlers::Messages, store::Store};
use flack_testing::{Call, TestService, eventually};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::Notify;

pub mod pages;

pub const ADA: i64 = 1;
pub const BOB: i64 = 2;
pub const CAROL: i64 = 3;
const MESSAGE_BYTES_MAX: u32 = 1_000_000_000;
pub const CORRELATION_ID: &str = "test-correlation";

pub struct Service {
    pub pool: PgPool,
    pub store: Store,
    pub linked: Arc<Notify>,
    http: TestService,
}

impl Deref for Service {
    type Target = TestService;

    fn deref(&self) -> &TestService {
        &self.http
    }
}

impl Service {
    /// Without the preview worker.
    pub async fn start(pool: PgPool) -> Self {
        Self::limited(pool, MESSAGE_BYTES_MAX).await
    }

    /// Starts the service so that a user may send `bytes_max` bytes of messages in 10 s.
    pub async fn limited(pool: PgPool, bytes_max: u32) -> Self {
        database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply");
        let (store, linked) = (Store::new(pool.clone()), Arc::new(Notify::new()));
        let api = Arc::new(Messages::new(store.clone(), Arc::clone(&linked), bytes_max));
        let http = TestService::new(|verifier| {
            messages::router(Arc::clone(&api) as _, Arc::clone(&verifier) as _)
                .merge(messages_v2::router(api, verifier))
        });
        Self { pool, store, linked, http }
    }

    /// Starts a request with the tests' correlation id.
    pub fn request(&self, method: Method, path: &str) -> Call {
        self.http.request(method, path).header("X-Correlation-ID", CORRELATION_ID)
    }

    pub async fn get(&self, path: &str, expected: StatusCode) -> Value {
        self.request(Method::GET, path).expect(expected).await.json()
    }

    /// Sends a request of a user; null is no body.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        user_id: i64,
        body: Value,
        expected: StatusCode,
    ) -> (HeaderMap, Value) {
        let call = self.request(method, path).bearer(&self.token(user_id));
        let call = if body.is_null() { call } else { call.json(&body) };
        let answer = call.expect(expected).await;
        (answer.headers.clone(), answer.json())
    }

    /// Posts a message and returns it.
    pub async fn post(&self, user_id: i64, source: &str) -> Value {
        let body = json!({ "source": source });
        self.call(Method::POST, "/api/messages", user_id, body, StatusCode::CREATED).await.1
    }

    pub async fn put(&self, user_id: i64, id: &Value, source: &str, expected: StatusCode) -> Value {
        let path = format!("/api/messages/{id}");
        self.call(Method::PUT, &path, user_id, json!({ "source": source }), expected).await.1
    }

    /// Makes the users known, as the projection of their events does.
    pub async fn know_users(&self) {
        self.execute(
            "insert into nicknames (user_id, nickname, version) values (1, 'ada', 1), (2, 'bob', 1), (3, 'carol', 1)",
        )
        .await;
    }

    /// Creates a channel, and returns it.
    pub async fn channel(&self, user_id: i64, body: Value) -> Value {
        self.call(Method::POST, "/api/v2/channels", user_id, body, StatusCode::CREATED).await.1
    }

    /// Sends a request to a path below a channel, and returns the body of the answer.
    pub async fn at_channel(
        &self,
        method: Method,
        (channel, path): (&Value, &str),
        user_id: i64,
        body: Value,
        expected: StatusCode,
    ) -> Value {
        let path = format!("/api/v2/channels/{}{path}", channel["id"]);
        self.call(method, &path, user_id, body, expected).await.1
    }

    /// Posts a message to a channel, and returns it.
    pub async fn post_to(&self, channel: &Value, user_id: i64, source: &str) -> Value {
        let body = json!({ "source": source });
        self.at_channel(Method::POST, (channel, "/messages"), user_id, body, StatusCode::CREATED).await
    }

    /// Returns the channel as the user sees it.
    pub async fn seen(&self, channel: &Value, user_id: i64) -> Value {
        self.at_channel(Method::GET, (channel, ""), user_id, Value::Null, StatusCode::OK).await
    }

    /// Makes a user a member: the caller, or another one.
    pub async fn add(&self, channel: &Value, caller: i64, user_id: i64, expected: StatusCode) -> Value {
        self.at_channel(Method::PUT, (channel, &format!("/members/{user_id}")), caller, Value::Null, expected).await
    }

    pub async fn leave(&self, channel: &Value, caller: i64, user_id: i64, expected: StatusCode) -> Value {
        self.at_channel(Method::DELETE, (channel, &format!("/members/{user_id}")), caller, Value::Null, expected).await
    }

    /// Waits until the condition holds for the message, and returns it.
    pub async fn wait_for_message(&self, id: &Value, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/api/messages/{id}");
        eventually(what, async || holds(&self.get(&path, StatusCode::OK).await)).await;
        self.get(&path, StatusCode::OK).await
    }

    /// Waits until the query returns `expected` as its only value.
    pub async fn wait_for_row(&self, what: &str, query: &'static str, expected: &str) {
        eventually(what, async || {
            let found: Option<Option<String>> =
                sqlx::query_scalar(query).fetch_optional(&self.pool).await.expect("a query");
            found.flatten().as_deref() == Some(expected)
        })
        .await;
    }

    pub async fn row<T>(&self, query: &'static str) -> T
    where
        T: Send + Unpin + sqlx::Type<sqlx::Postgres> + for<'r> sqlx::Decode<'r, sqlx::Postgres>,
    {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.expect("one row")
    }

    /// Inserts `count` messages. `updated_at` is an SQL expression over the `number` of a message, from 1.
    pub async fn insert(&self, count: i64, source: &str, html: &str, updated_at: &'static str) {
        let statement = format!(
            "insert into messages (user_id, channel_id, source, html, updated_at)
             select 1, 1, $1, $2, {updated_at} from generate_series(1, $3) as number"
        );
        let inserted = sqlx::query(AssertSqlSafe(statement)).bind(source).bind(html).bind(count);
        inserted.execute(&self.pool).await.expect("messages");
    }

    pub async fn execute(&self, statement: &'static str) {
        sqlx::query(statement).execute(&self.pool).await.expect("a statement");
    }
}
