//! The monolith as a router, with shortcuts for frequent requests.

use std::ops::Deref;

use axum::{Router, http::StatusCode};
use flack_common::{
    config::{HandoverKeys, LimitsConfig},
    events::{Events, InProcess},
    process::Background,
    registry::Registry,
};
use flack_monolith::{SERVICE, start};
use flack_testing::Client;
use flack_users::config::GuessLimits;
use serde_json::json;
use sqlx::PgPool;

pub const WRITES_MAX: u32 = 1000;
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

/// Returns limits with which a user may write `writes_max` times in 10 s.
pub fn limits(writes_max: u32) -> LimitsConfig {
    LimitsConfig { writes_per_user_per_10s: writes_max, message_bytes_per_user_per_10s: 1_000_000 }
}

impl Monolith {
    /// Starts a monolith that has only a database.
    pub async fn alone(pool: &PgPool) -> Self {
        Self::start(pool, Events::InProcess(InProcess::new(SERVICE)), None, None, WRITES_MAX).await
    }

    /// Starts a monolith beside services, with a registry. It passes no request on.
    pub async fn beside(pool: &PgPool, registry: Registry) -> Self {
        Self::start(pool, Events::InProcess(InProcess::new(SERVICE)), Some(registry), None, WRITES_MAX).await
    }

    /// Starts a monolith in which a user may write `writes_max` times in 10 s.
    pub async fn limited(pool: &PgPool, writes_max: u32) -> Self {
        Self::start(pool, Events::InProcess(InProcess::new(SERVICE)), None, None, writes_max).await
    }

    pub async fn start(
        pool: &PgPool,
        events: Events,
        registry: Option<Registry>,
        internal_url: Option<&str>,
        writes_max: u32,
    ) -> Self {
        let background = Background::default();
        let limits = limits(writes_max);
        let (guesses, sockets) = (GuessLimits::default(), flack_websocket::Limits::default());
        let keys = HandoverKeys::default();
        let app =
            start(pool.clone(), events.clone(), registry, internal_url, &keys, &limits, guesses, sockets, &background)
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
