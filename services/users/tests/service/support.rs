//! The users part under test, and shortcuts into its database.

use std::{ops::Deref, sync::Arc};

use axum::http::StatusCode;
use flack_common::database;
use flack_testing::TestService;
use flack_users::{MIGRATIONS, SERVICE, events, handlers::Users, store::Store};
use serde_json::{Value, json};
use sqlx::PgPool;

/// The password of every user that `register` creates.
pub const PASSWORD: &str = "correct horse";

pub struct Service(TestService);

impl Deref for Service {
    type Target = TestService;

    fn deref(&self) -> &TestService {
        &self.0
    }
}

impl Service {
    /// Without the presence task.
    pub async fn start(pool: &PgPool) -> Self {
        database::migrate(pool, &MIGRATIONS).await.expect("the migrations apply");
        let users = Arc::new(Users::new(Store::new(pool.clone())));
        Self(TestService::new(|verifier| flack_api::users::router(users, verifier)))
    }

    /// Returns the id of a new user, and a token.
    pub async fn register(&self, nickname: &str) -> (i64, String) {
        let body = json!({ "nickname": nickname, "password": PASSWORD });
        let user = self.post("/api/users").json(&body).expect(StatusCode::CREATED).await.json();
        let id = user["id"].as_i64().expect("an id");
        (id, self.token(id))
    }
}

/// Sets the last sign of life of a user.
pub async fn last_seen(pool: &PgPool, user_id: i64, seconds_ago: i32) {
    sqlx::query("update users set last_seen_at = now() - make_interval(secs => $2) where id = $1")
        .bind(user_id)
        .bind(f64::from(seconds_ago))
        .execute(pool)
        .await
        .expect("an update");
}

/// Returns the first events that the part publishes.
pub async fn published(pool: &PgPool, count: usize) -> Vec<Value> {
    let events = flack_testing::published(SERVICE, pool, events::map, count).await;
    events.into_iter().map(|(_, event)| event).collect()
}
