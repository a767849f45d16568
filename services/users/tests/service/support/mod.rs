//! The service as a router, tokens for it, and shortcuts into its database.

pub mod client;

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::http::StatusCode;
use chrono::Utc;
use flack_common::{
    auth::{SigningKey, Verifier},
    database,
    events::{Events, InProcess, Received, Relay, StartOffset},
};
use flack_users::{MIGRATIONS, SERVICE, events, handlers::Users, store::Store};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::client::Client;

/// Of every user that `register` makes.
pub const PASSWORD: &str = "correct horse";

/// How long a test waits for what should come at once.
const PATIENCE: Duration = Duration::from_secs(10);

const LIFETIME: Duration = Duration::from_mins(1);

pub struct Service {
    client: Client,
    verifier: Arc<Verifier>,
    key: SigningKey,
}

impl Deref for Service {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Service {
    pub async fn start(pool: &PgPool) -> Self {
        database::migrate(pool, &MIGRATIONS).await.expect("the migrations apply");
        let key = SigningKey::generate().expect("a key");
        let verifier = Verifier::standalone();
        verifier.add_key(key.key_id(), &key.public_jwk()).expect("its public half");
        let users = Users::new(Store::new(pool.clone()));
        let client = Client::new(flack_api::users::router(Arc::new(users), verifier.clone()));
        Self { client, verifier, key }
    }

    /// A token such as tokens would issue.
    pub fn token(&self, user_id: i64) -> String {
        self.key.issue(user_id, Utc::now().timestamp(), LIFETIME).0.expose_secret().to_owned()
    }

    pub fn expired_token(&self, user_id: i64) -> String {
        self.key.issue(user_id, Utc::now().timestamp() - 120, LIFETIME).0.expose_secret().to_owned()
    }

    /// A token that is refused from now on.
    pub fn revoked_token(&self, user_id: i64) -> String {
        let (token, id, expires_at) = self.key.issue(user_id, Utc::now().timestamp(), LIFETIME);
        self.verifier.revoke(id, expires_at);
        token.expose_secret().to_owned()
    }

    /// The id of a new user, and a token.
    pub async fn register(&self, nickname: &str) -> (i64, String) {
        let body = json!({ "nickname": nickname, "password": PASSWORD });
        let user = self.post("/api/users").json(&body).expect(StatusCode::CREATED).await.json();
        let id = user["id"].as_i64().expect("an id");
        (id, self.token(id))
    }
}

/// Makes a user look as if the last sign of life were that old.
pub async fn last_seen(pool: &PgPool, user_id: i64, seconds_ago: i32) {
    sqlx::query("update users set last_seen_at = now() - make_interval(secs => $2) where id = $1")
        .bind(user_id)
        .bind(f64::from(seconds_ago))
        .execute(pool)
        .await
        .expect("an update");
}

/// The first events that leave the database, as others get them.
pub async fn published(pool: &PgPool, count: usize) -> Vec<Value> {
    let local = Events::InProcess(InProcess::new(SERVICE));
    let mut reader = local.subscribe(SERVICE, None, StartOffset::Earliest);
    let stopping = CancellationToken::new();
    let relay = tokio::spawn(Relay::new(SERVICE, pool.clone(), local, events::map).run(stopping.clone()));
    let mut published = Vec::new();
    while published.len() < count {
        if let Received::Message(message) = timeout(PATIENCE, reader.next()).await.expect("an event") {
            published.push(serde_json::from_slice(&message.payload).expect("JSON"));
        }
    }
    stopping.cancel();
    relay.await.expect("the relay ends");
    published
}
