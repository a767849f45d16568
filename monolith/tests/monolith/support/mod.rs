//! The monolith as a router, with shortcuts for frequent requests.

#[path = "../../../../services/users/tests/service/support/client.rs"]
pub mod client;
#[path = "../../../../services/tokens/tests/service/support/etcd.rs"]
pub mod etcd;

use std::{ops::Deref, time::Duration};

use axum::{Router, http::StatusCode};
use flack_common::{
    events::{Events, InProcess},
    process::Background,
    registry::Registry,
};
use flack_monolith::{SERVICE, start};
use serde_json::json;
use sqlx::PgPool;
use tokio::time::{Instant, sleep};

use self::client::Client;

pub const PASSWORD: &str = "correct horse";

/// Bound and interval of every wait for a condition.
const WAIT_MAX: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

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
        Self::start(pool, None).await
    }

    /// Starts a monolith beside services, with a registry.
    pub async fn beside(pool: &PgPool, registry: Registry) -> Self {
        Self::start(pool, Some(registry)).await
    }

    async fn start(pool: &PgPool, registry: Option<Registry>) -> Self {
        let events = Events::InProcess(InProcess::new(SERVICE));
        let background = Background::default();
        let app = start(pool.clone(), events.clone(), registry, &background).await.expect("it starts");
        let router = app.router;
        Self { client: Client::new(router.clone()), router, events, background }
    }

    pub async fn register(&self, nickname: &str) -> i64 {
        let body = json!({ "nickname": nickname, "password": PASSWORD });
        let user = self.post("/api/users").json(&body).expect(StatusCode::CREATED).await.json();
        user["id"].as_i64().expect("an id")
    }

    pub async fn sign_in(&self, nickname: &str, password: &str) -> String {
        let answer = self.post("/api/tokens").basic(nickname, password).expect(StatusCode::OK).await;
        answer.json()["token"].as_str().expect("a token").to_owned()
    }

    pub async fn say(&self, token: &str, source: &str) -> i64 {
        let call = self.post("/api/messages").bearer(token).json(&json!({ "source": source }));
        call.expect(StatusCode::CREATED).await.json()["id"].as_i64().expect("an id")
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub fn eventually(what: &str, condition: impl AsyncFn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + WAIT_MAX;
        while !condition().await {
            assert!(Instant::now() < deadline, "{caller}: {what}: not within {WAIT_MAX:?}");
            sleep(POLL_INTERVAL).await;
        }
    }
}
