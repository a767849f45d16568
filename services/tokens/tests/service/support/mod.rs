//! The service as a router, with users replaced by the mock server that is made from users' document.

#[path = "../../../../users/tests/service/support/client.rs"]
#[expect(dead_code, reason = "tokens has no operation with a body, and none by GET or PUT")]
pub mod client;
pub mod etcd;

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::http::StatusCode;
use flack_api::{
    Problem,
    users::{UsersClient, mock::MockServerExt, types},
};
use flack_common::{auth::Verifier, authority::Ownership, database, http, registry::Registry};
use flack_tokens::{
    MIGRATIONS, consumer::PasswordChanges, handlers::Tokens, keys::SigningKeys, publisher::Publisher,
    store::Store,
};
use httpmock::MockServer;
use sqlx::PgPool;
use tokio::time::{Instant, sleep};

use self::client::Client;

pub const ADA: i64 = 17;
pub const PASSWORD: &str = "correct horse";

/// How long a test waits for what should come soon, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

pub struct Service {
    client: Client,
    pub users: MockServer,
    pub verifier: Arc<Verifier>,
    pub publisher: Arc<Publisher>,
    pub store: Store,
}

impl Deref for Service {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Service {
    /// An instance beside a registry, or without one. Its users are played by a server that knows nobody yet.
    pub async fn start(pool: &PgPool, registry: Option<Registry>) -> Self {
        let users = MockServer::start_async().await;
        let url = users.base_url();
        Self::start_with_users(pool, registry, users, &url).await
    }

    /// An instance whose users are expected where nobody listens.
    pub async fn start_without_users(pool: &PgPool) -> Self {
        let nowhere = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", nowhere.local_addr().expect("an address"));
        drop(nowhere);
        Self::start_with_users(pool, None, MockServer::start_async().await, &url).await
    }

    async fn start_with_users(
        pool: &PgPool,
        registry: Option<Registry>,
        users: MockServer,
        url: &str,
    ) -> Self {
        database::migrate(pool, &MIGRATIONS).await.expect("the migrations apply");
        let seam = Arc::new(UsersClient::new(url, http::client()));
        let (store, verifier) = (Store::new(pool.clone()), Verifier::standalone());
        let publisher = Arc::new(Publisher::new(store.clone(), verifier.clone(), registry));
        let keys = Arc::new(SigningKeys::new(store.clone(), publisher.clone()));
        let tokens = Tokens::new(store.clone(), keys, publisher.clone(), seam);
        let client = Client::new(flack_api::tokens::router(Arc::new(tokens), verifier.clone()));
        Self { client, users, verifier, publisher, store }
    }

    /// The handler of the owner of tokens.
    pub fn password_changes(&self) -> PasswordChanges {
        PasswordChanges::new(Arc::clone(&self.publisher), Ownership::always())
    }

    /// Users say that this is Ada, whoever asks.
    pub fn users_know_ada(&self) {
        let links = types::UserLinks { self_: String::new(), messages: String::new(), tokens: String::new() };
        let ada = types::User {
            id: ADA,
            created_at: 1,
            updated_at: 1,
            last_seen_at: 1,
            nickname: "ada".to_owned(),
            online: true,
            links,
        };
        self.users.get_me(|_, then| drop(then.ok(&ada)));
    }

    pub fn users_refuse(&self) {
        self.users.get_me(|_, then| drop(then.unauthorized(&Problem::unauthorized("wrong"))));
    }

    pub fn users_are_away(&self) {
        self.users.get_me(|_, then| drop(then.service_unavailable(&Problem::unavailable("users"))));
    }

    /// A new token for Ada.
    pub async fn token(&self) -> String {
        let answer = self.post("/api/tokens").basic("ada", PASSWORD).expect(StatusCode::OK).await;
        answer.json()["token"].as_str().expect("a token").to_owned()
    }

    /// What somebody is told who shows this token.
    pub async fn shows(&self, token: &str) -> Result<i64, u16> {
        shows(&self.verifier, token).await
    }
}

pub async fn shows(verifier: &Verifier, token: &str) -> Result<i64, u16> {
    use flack_api::VerifyToken;
    let caller = verifier.verify_token(&token.to_owned().into()).await;
    caller.map(|caller| caller.user_id).map_err(|problem| problem.status)
}

/// Looks until `condition` holds, for a bounded time.
#[track_caller]
pub fn eventually(what: &str, condition: impl AsyncFn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + PATIENCE;
        while !condition().await {
            assert!(Instant::now() < deadline, "{caller}: {what}: not within {PATIENCE:?}");
            sleep(LOOK_INTERVAL).await;
        }
    }
}
