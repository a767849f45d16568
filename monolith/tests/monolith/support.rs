//! The monolith as a router, with shortcuts for frequent requests.

use std::ops::Deref;

use axum::{Router, http::StatusCode};
use flack_common::{
    config::LimitsConfig,
    events::{Events, InProcess},
    process::Background,
    registry::Registry,
};
use flack_monolith::{SERVICE, start};
use flack_testing::Client;
use flack_users::config::GuessLimits;
use serde_json::json;
use sqlx::PgPool;

const WRITES_MAX: u32 = 1000;
pub const PASSWORD: &str = "correct horse";

pub struct Monolith {
    client: Client,
    pub router: Router,
    pub events: Events,
    background: Background,
}

impl Drop for Monolith {
    /// Ends its tasks, so that they return their connections.
    fn drop(&mut self) {
        self.background.stopping().cancel();
        self.background.drained().cancel();
    }
}

impl Deref for Monolith {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Monolith {
    /// Starts a monolith that has only a database.
    pub async fn alone(pool: &PgPool) -> Self {
        Self::start(pool, None, WRITES_MAX).await
    }

    /// Starts a monolith beside services, with a registry.
    pub async fn beside(pool: &PgPool, registry: Registry) -> Self {
        Self::start(pool, Some(registry), WRITES_MAX).await
    }

    /// Starts a monolith in which a user may write `writes_max` times in 10 s.
    pub async fn limited(pool: &PgPool, writes_max: u32) -> Self {
        Self::start(pool, None, writes_max).await
    }

    async fn start(pool: &PgPool, registry: Option<Registry>, writes_max: u32) -> Self {
        let events = Events::InProcess(InProcess::new(SERVICE));
        let background = Background::default();
        let limits = LimitsConfig { writes_per_user_per_10s: writes_max, message_bytes_per_user_per_10s: 1_000_000 };
        let (guesses, sockets) = (GuessLimits::default(), flack_websocket::Limits::default());
        let app = start(pool.clone(), events.clone(), registry, &limits, guesses, sockets, &background)
            .await
            .expect("it starts");
        let router = app.router;
        Self { client: Client::new(router.clone()), router, events, background }
    }

    /// Returns the id of a new user.
    pub async fn register(&self, nickname: &str) -> i64 {
        let body = json!({ "nickname": nickname, "password": PASSWORD });
        let user = self.post("/api/users").json(&body).expect(StatusCode::CREATED).await.json();
        user["id"].as_i64().expect("an id")
    }

    /// Returns a token.
    pub async fn sign_in(&self, nickname: &str, password: &str) -> String {
        let answer = self.post("/api/tokens").basic(nickname, password).expect(StatusCode::OK).await;
        answer.json()["token"].as_str().expect("a token").to_owned()
    }

    /// Posts a message and returns its id.
    pub async fn post_message(&self, token: &str, source: &str) -> i64 {
        let call = self.post("/api/messages").bearer(token).json(&json!({ "source": source }));
        call.expect(StatusCode::CREATED).await.json()["id"].as_i64().expect("an id")
    }
}
