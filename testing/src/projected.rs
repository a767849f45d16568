//! A service under test that reads the events of messages, and these events.

use std::{fmt, ops::Deref};

use chrono::Utc;
use futures::future::BoxFuture;
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};

use crate::TestService;

/// Decodes an event and writes it to the projections of a service.
pub type Apply = for<'c> fn(&'c mut PgConnection, Value) -> BoxFuture<'c, ()>;

/// A [`TestService`] whose database is made from events of channels, members and messages.
pub struct Projected {
    pub pool: PgPool,
    service: TestService,
    apply: Apply,
}

impl Deref for Projected {
    type Target = TestService;

    fn deref(&self) -> &TestService {
        &self.service
    }
}

impl fmt::Debug for Projected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Projected").finish_non_exhaustive()
    }
}

impl Projected {
    pub fn new(pool: PgPool, service: TestService, apply: Apply) -> Self {
        Self { pool, service, apply }
    }

    /// Applies an event as the consumer does. `more` replaces and adds fields of `data`.
    pub async fn apply(&self, kind: &str, mut data: Value, more: Value) {
        let (Value::Object(fields), Value::Object(more)) = (&mut data, more) else { panic!("both are objects") };
        fields.extend(more);
        let event = json!({
            "id": "messages-1", "operation": "update", "time": "2026-11-21T21:20:00Z", "version": 1,
            "type": kind, "data": data,
        });
        let mut connection = self.pool.acquire().await.expect("a connection");
        (self.apply)(&mut connection, event).await;
    }

    /// `more` has the fields that differ from those of a public channel.
    pub async fn channel(&self, id: i64, name: &str, more: Value) {
        let data = json!({ "id": id, "name": name, "created_at": 1, "kind": "public", "topic": "" });
        self.apply("channel_changed", data, more).await;
    }

    pub async fn join(&self, channel_id: i64, user_id: i64) {
        self.member(channel_id, user_id, json!({})).await;
    }

    pub async fn leave(&self, channel_id: i64, user_id: i64) {
        self.member(channel_id, user_id, json!({ "left_at": 2 })).await;
    }

    async fn member(&self, channel_id: i64, user_id: i64, more: Value) {
        let data = json!({ "channel_id": channel_id, "user_id": user_id, "joined_at": 1, "last_read_message_id": 0 });
        self.apply("channel_member_changed", data, more).await;
    }

    pub async fn post(&self, id: i64, channel_id: i64, user_id: i64, source: &str) {
        self.message(id, channel_id, user_id, json!({ "source": source })).await;
    }

    pub async fn delete_message(&self, id: i64, channel_id: i64, user_id: i64) {
        self.message(id, channel_id, user_id, json!({ "deleted_at": 2 })).await;
    }

    /// `more` has the fields that differ from those of an empty message of this moment.
    pub async fn message(&self, id: i64, channel_id: i64, user_id: i64, more: Value) {
        let now = Utc::now().timestamp();
        let data = json!({
            "id": id, "channel_id": channel_id, "user_id": user_id, "created_at": now, "updated_at": now,
            "source": "", "html": "",
        });
        self.apply("message_changed", data, more).await;
    }

    /// Returns the body of an answer to a user.
    pub async fn get_as(&self, user_id: i64, path: &str, expected: StatusCode) -> Value {
        self.get(path).bearer(&self.token(user_id)).expect(expected).await.json()
    }
}
