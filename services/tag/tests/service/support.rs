//! The tag service under test.

use std::ops::Deref;

use flack_common::database;
use flack_tag::{MIGRATIONS, projection, start};
use flack_testing::{Projected, TestService};
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

pub const ADA: i64 = 1;
pub const BOB: i64 = 2;
pub const GENERAL: i64 = 1;

pub struct Service(Projected);

impl Deref for Service {
    type Target = Projected;

    fn deref(&self) -> &Projected {
        &self.0
    }
}

impl Service {
    /// With the channel `general`.
    pub async fn start(pool: PgPool) -> Self {
        database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply");
        let http = TestService::new(|verifier| flack_api::tag::router(start(&pool), verifier));
        let service = Projected::new(pool, http, |connection, event| {
            Box::pin(async move {
                let event = serde_json::from_value(event).expect("an event of the schema");
                projection::apply(connection, &event).await.expect("it is applied");
            })
        });
        service.channel(GENERAL, "general", json!({})).await;
        Self(service)
    }

    pub async fn prefer(&self, user_id: i64, interests: Value) {
        let data = json!({ "user_id": user_id, "theme": "dark", "notifications": false });
        self.apply("preferences_changed", data, interests).await;
    }

    /// Returns the marked messages of the newest ones with what has matched.
    pub async fn marked(&self, user_id: i64) -> Value {
        self.marked_at("/api/tag", user_id).await
    }

    pub async fn marked_at(&self, path: &str, user_id: i64) -> Value {
        let list = self.get_as(user_id, path, StatusCode::OK).await;
        let messages = list["messages"].as_array().expect("a list").iter();
        messages.map(|message| json!([message["message_id"], message["matched"]])).collect()
    }
}
