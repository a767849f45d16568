//! What a user is, apart from where it is stored and how it is asked for. The monolith links this module too.

use std::time::Duration;

use chrono::{DateTime, Utc};
use flack_api::{
    Problem,
    events::UserModel,
    users::types::{self, Nickname},
};
use serde::Deserialize;

/// Whoever gives no sign for this long is no longer here.
pub const PRESENCE_SECONDS_MAX: Duration = Duration::from_mins(1);

/// A sign of life of somebody who is known to be here is written down at most this often. Every write is a
/// journal row and an event to all sockets; twelve of them within `PRESENCE_SECONDS_MAX` are more than enough.
pub const PRESENCE_WRITE_INTERVAL: Duration = Duration::from_secs(5);

/// `GET /api/users` answers at most so many; who wants more reads on with `updated_since`.
pub const LIST_USERS_MAX: i64 = 1_000;

/// A row of the table `users`, without the password's hash: that one is read only where a password is checked.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow, Deserialize)]
pub struct User {
    pub id: i64,
    pub nickname: String,
    pub online: bool,
    pub last_seen_at: DateTime<Utc>,
    pub password_changed_at: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Where a user is found.
pub fn user_path(id: i64) -> String {
    format!("/api/users/{id}")
}

impl From<User> for types::User {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            created_at: user.created_at.timestamp(),
            updated_at: user.updated_at.timestamp(),
            last_seen_at: user.last_seen_at.timestamp(),
            nickname: user.nickname,
            online: user.online,
            links: types::UserLinks {
                self_: user_path(user.id),
                messages: "/api/messages".to_owned(),
                tokens: "/api/tokens".to_owned(),
            },
        }
    }
}

impl From<User> for UserModel {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            created_at: user.created_at.timestamp(),
            updated_at: user.updated_at.timestamp(),
            last_seen_at: user.last_seen_at.timestamp(),
            password_changed_at: user.password_changed_at.timestamp_millis(),
            nickname: user.nickname,
            online: user.online,
        }
    }
}

pub fn nickname_taken(nickname: &Nickname) -> Problem {
    Problem::conflict(
        "nickname-taken",
        format!("the nickname {:?} is taken (case does not count); choose another", nickname.as_str()),
    )
}

pub fn no_such_user(id: i64) -> Problem {
    Problem::not_found(format!("there is no user {id}"))
}

/// The token is good, but whom it speaks for is gone.
pub fn caller_is_gone(id: i64) -> Problem {
    Problem::unauthorized(format!("user {id}, for whom this token speaks, no longer exists; register again"))
}

pub fn wrong_credentials() -> Problem {
    Problem::unauthorized("nickname and password do not belong together; check both, or register first")
}

pub fn not_your_user(id: i64) -> Problem {
    Problem::forbidden(format!("user {id} is somebody else; only users themselves can change what they are"))
}
