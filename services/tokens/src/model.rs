//! Tokens and signing keys: rows, their events, limits, and problems.

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

/// Lifetime of a token. Its revocation is kept for the rest of this time.
pub const TOKEN_LIFETIME: Duration = Duration::from_hours(1);

/// For this time a retired key verifies the tokens that it signed. Longer than a token is valid, because a token can be
/// stored while the statement that retires its key is running.
pub const RETIRED_KEY_LIFETIME: Duration = Duration::from_mins(65);

/// A row of `tokens` without `revocation_published_at`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow, Deserialize)]
pub struct Token {
    pub id: Uuid,
    pub user_id: i64,
    /// Taken before the password was checked.
    pub issued_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub revoked_at: Option<DateTime<Utc>>,
}

impl Token {
    /// Signs a token for a user. Returns the signed text and the row to store.
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

/// A journaled row of `signing_keys`, which has no private key.
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

/// The password was changed while it was checked.
pub fn password_has_changed() -> Problem {
    Problem::unauthorized("the password has just been changed; request a token with the new password")
}

/// The user was deleted.
pub fn user_is_gone(id: i64) -> Problem {
    Problem::unauthorized(format!("user {id} no longer exists; register again"))
}

/// The revocation is stored, but not published in the registry.
pub fn revocation_is_pending() -> Problem {
    let detail = "the token is marked as revoked, but the registry is unavailable: other services may accept the token \
                  until the registry is available again; the revocation is then published without another request";
    Problem { detail: detail.to_owned(), ..Problem::unavailable("the registry") }
}
