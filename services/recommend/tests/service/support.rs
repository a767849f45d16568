//! The recommend service under test.

use std::ops::Deref;

use flack_common::database;
use flack_recommend::{MIGRATIONS, projection, start};
use flack_testing::{Projected, TestService};
use http::StatusCode;
use serde_json::json;
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
        let http = TestService::new(|verifier| flack_api::recommend::router(start(&pool), verifier));
        let service = Projected::new(pool, http, |connection, event| {
            Box::pin(async move {
                let event = serde_json::from_value(event).expect("an event of the schema");
                projection::apply(connection, &event).await.expect("it is applied");
            })
        });
        service.channel(GENERAL, "general", json!({})).await;
        Self(service)
    }

    /// Returns the names of the recommended channels with their shared words.
    pub async fn recommended(&self, user_id: i64) -> Vec<(String, Vec<String>)> {
        let list = self.get_as(user_id, "/api/recommend?limit=20", StatusCode::OK).await;
        let channels = list["channels"].as_array().expect("a list");
        channels
            .iter()
            .map(|channel| {
                let words = serde_json::from_value(channel["reason"]["words"].clone()).expect("words");
                (channel["name"].as_str().expect("a name").to_owned(), words)
            })
            .collect()
    }

    /// Returns all counted words.
    pub async fn counted(&self) -> Vec<(i64, String, i64)> {
        sqlx::query_as("select channel_id, word, weight from channel_words order by channel_id, word")
            .fetch_all(&self.pool)
            .await
            .expect("rows")
    }
}
