//! A part under test: its router, with tokens for its users.

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use axum::Router;
use chrono::Utc;
use flack_common::auth::{SigningKey, Verifier};
use secrecy::ExposeSecret;

use crate::Client;

const TOKEN_LIFETIME: Duration = Duration::from_mins(1);

/// A [`Client`] of a router that accepts the tokens made here.
pub struct TestService {
    client: Client,
    verifier: Arc<Verifier>,
    key: SigningKey,
}

impl Deref for TestService {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl fmt::Debug for TestService {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TestService").finish_non_exhaustive()
    }
}

impl TestService {
    pub fn new(router: impl FnOnce(Arc<Verifier>) -> Router) -> Self {
        let key = SigningKey::generate().expect("a key");
        let verifier = Verifier::standalone();
        verifier.add_key(key.key_id(), &key.public_jwk()).expect("its public half");
        Self { client: Client::new(router(Arc::clone(&verifier))), verifier, key }
    }

    pub fn token(&self, user_id: i64) -> String {
        self.key.issue(user_id, Utc::now().timestamp(), TOKEN_LIFETIME).0.expose_secret().to_owned()
    }

    /// Returns a token that was issued some time ago, and is still valid.
    pub fn token_of_age(&self, user_id: i64, age: Duration) -> String {
        let issued_at = Utc::now().timestamp() - age.as_secs().cast_signed();
        self.key.issue(user_id, issued_at, age + TOKEN_LIFETIME).0.expose_secret().to_owned()
    }

    pub fn expired_token(&self, user_id: i64) -> String {
        self.key.issue(user_id, Utc::now().timestamp() - 3600, TOKEN_LIFETIME).0.expose_secret().to_owned()
    }

    pub fn revoked_token(&self, user_id: i64) -> String {
        let (token, id, expires_at) = self.key.issue(user_id, Utc::now().timestamp(), TOKEN_LIFETIME);
        self.verifier.revoke(id, expires_at);
        token.expose_secret().to_owned()
    }
}
