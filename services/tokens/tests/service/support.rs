//! The tokens part under test, with a mock server in the place of users.

use std::{net::TcpListener, ops::Deref, sync::Arc};

use axum::http::StatusCode;
use flack_api::{
    Problem, VerifyToken,
    users::{UsersClient, mock::MockServerExt, types},
};
use flack_common::{auth::Verifier, authority::Ownership, database, http, registry::Registry};
use flack_testing::Client;
use flack_tokens::{
    MIGRATIONS, consumer::PasswordChanges, handlers::Tokens, keys::SigningKeys, publisher::Publisher, store::Store,
};
use httpmock::MockServer;
use sqlx::PgPool;

pub const ADA: i64 = 17;
pub const PASSWORD: &str = "correct horse";

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
    /// An instance with or without a registry, and without background tasks. Its users has no users.
    pub async fn start(pool: &PgPool, registry: Option<Registry>) -> Self {
        let users = MockServer::start_async().await;
        let url = users.base_url();
        Self::start_with_users(pool, registry, users, &url).await
    }

    /// An instance that cannot connect to users.
    pub async fn start_without_users(pool: &PgPool) -> Self {
        let unused = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", unused.local_addr().expect("an address"));
        drop(unused);
        Self::start_with_users(pool, None, MockServer::start_async().await, &url).await
    }

    async fn start_with_users(pool: &PgPool, registry: Option<Registry>, users: MockServer, url: &str) -> Self {
        database::migrate(pool, &MIGRATIONS).await.expect("the migrations apply");
        let api = Arc::new(UsersClient::new(url, http::client()));
        let (store, verifier) = (Store::new(pool.clone()), Verifier::standalone());
        let publisher = Arc::new(Publisher::new(store.clone(), verifier.clone(), registry));
        let keys = Arc::new(SigningKeys::new(store.clone(), publisher.clone()));
        let tokens = Tokens::new(store.clone(), keys, publisher.clone(), api);
        let client = Client::new(flack_api::tokens::router(Arc::new(tokens), verifier.clone()));
        Self { client, users, verifier, publisher, store }
    }

    /// The handler of the owner of tokens.
    pub fn password_changes(&self) -> PasswordChanges {
        PasswordChanges::new(Arc::clone(&self.publisher), Ownership::always())
    }

    /// Users accepts all credentials as those of Ada.
    pub fn users_accepts_ada(&self) {
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

    pub fn users_refuses(&self) {
        self.users.get_me(|_, then| drop(then.unauthorized(&Problem::unauthorized("wrong"))));
    }

    pub fn users_is_unavailable(&self) {
        self.users.get_me(|_, then| drop(then.service_unavailable(&Problem::unavailable("users"))));
    }

    /// Returns a new token of Ada.
    pub async fn token(&self) -> String {
        let answer = self.post("/api/tokens").basic("ada", PASSWORD).expect(StatusCode::OK).await;
        answer.json()["token"].as_str().expect("a token").to_owned()
    }

    /// Returns the user of a token, or the status of the refusal.
    pub async fn verify(&self, token: &str) -> Result<i64, u16> {
        verify(&self.verifier, token).await
    }
}

pub async fn verify(verifier: &Verifier, token: &str) -> Result<i64, u16> {
    let caller = verifier.verify_token(&token.to_owned().into()).await;
    caller.map(|caller| caller.user_id).map_err(|problem| problem.status)
}
