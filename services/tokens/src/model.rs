//! What a token and a signing key are, apart from where they are stored. The monolith links this module too.

use std::time::Duration;

use chrono::{DateTime, Utc};
use flack_api::{
    Problem,
    events::{SigningKeyModel, TokenModel},
};
use flack_common::auth::SigningKey;
use secrecy::SecretString;
use serde::Deserialize;
use uuid::Uuid;

/// How long a token is good. A revocation is remembered everywhere for the rest of this time.
pub const TOKEN_LIFETIME: Duration = Duration::from_hours(1);

/// A row of the table `tokens`, as far as others may know it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow, Deserialize)]
pub struct Token {
    pub id: Uuid,
    pub user_id: i64,
    /// When the password was about to be checked.
    pub issued_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub revoked_at: Option<DateTime<Utc>>,
}

impl Token {
    /// Signs a token for a user: what the user gets, and the row that remembers it.
    pub fn issue(key: &SigningKey, user_id: i64, issued_at: DateTime<Utc>) -> (SecretString, Self) {
        let (token, id, expires_at) = key.issue(user_id, issued_at.timestamp(), TOKEN_LIFETIME);
        let expires_at = DateTime::from_timestamp(expires_at, 0).expect("an hour from now is a time");
        (token, Self { id, user_id, issued_at, expires_at, revoked_at: None })
    }
}

impl From<Token> for TokenModel {
    fn from(token: Token) -> Self {
        Self {
            id: token.id,
            user_id: token.user_id,
            issued_at: token.issued_at.timestamp_millis(),
            expires_at: token.expires_at.timestamp(),
            revoked_at: token.revoked_at.map(|moment| moment.timestamp()),
        }
    }
}

/// What the journal holds of a row of `signing_keys`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SigningKeyRow {
    pub id: String,
    pub created_at: DateTime<Utc>,
}

impl From<SigningKeyRow> for SigningKeyModel {
    fn from(key: SigningKeyRow) -> Self {
        Self { id: key.id, created_at: key.created_at.timestamp() }
    }
}

/// The password that the token was asked for with is no longer the password.
pub fn password_has_changed() -> Problem {
    Problem::unauthorized("the password was changed a moment ago; ask for a token with the new one")
}

/// The revocation is stored, but not everybody can have heard of it.
pub fn revocation_is_pending() -> Problem {
    let detail = "the token is marked as revoked, but the registry is unavailable at the moment: it is told as soon as it \
                  is back, and until then other parts may still accept the token; there is no need to ask again";
    Problem { detail: detail.to_owned(), ..Problem::unavailable("the registry") }
}
