//! The users part under test, and shortcuts into its database.

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::http::StatusCode;
use flack_common::database;
use flack_testing::{Answer, TestService};
use flack_users::{MIGRATIONS, SERVICE, config::GuessLimits, events, handlers::Users, store::Store};
use serde_json::{Value, json};
use sqlx::PgPool;

/// The password of every user that `register` creates.
pub const PASSWORD: &str = "correct horse";

/// The address from which `register` registers.
pub const HOME: &str = "192.0.2.1";
pub const ELSEWHERE: &str = "198.51.100.1";

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
        let limits = GuessLimits { refusal_delay: Duration::ZERO, ..GuessLimits::default() };
        let users = Arc::new(Users::new(Store::new(pool.clone()), limits));
        Self(TestService::new(|verifier| {
            flack_api::users::router(Arc::clone(&users) as _, Arc::clone(&verifier) as _)
                .merge(flack_api::users_v2::router(users, verifier))
        }))
    }

    /// Returns the id of a new user, and a token.
    pub async fn register(&self, nickname: &str) -> (i64, String) {
        self.register_from(HOME, nickname).await
    }

    pub async fn register_from(&self, address: &str, nickname: &str) -> (i64, String) {
        let body = json!({ "nickname": nickname, "password": PASSWORD });
        let call = self.post("/api/users").header("x-forwarded-for", address).json(&body);
        let user = call.expect(StatusCode::CREATED).await.json();
        let id = user["id"].as_i64().expect("an id");
        (id, self.token(id))
    }
}

impl Service {
    /// Returns the answer to a sign-in.
    pub async fn sign_in(&self, address: &str, nickname: &str, password: &str) -> Answer {
        self.get("/api/users/me").header("x-forwarded-for", address).basic(nickname, password).send().await
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
