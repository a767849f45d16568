//! Users: rows, their events and API models, limits, and problems.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use flack_api::{Problem, events::UserModel, users::types, users_v2::types::Profile};
use serde::Deserialize;

/// A user whose last sign of life (sign-in or `PUT /api/users/me`) is older is offline.
pub const PRESENCE_SECONDS_MAX: Duration = Duration::from_mins(1);

/// An online user's signs of life are stored at most this often. Every write is a journal row and an event to all
/// sockets; twelve writes within `PRESENCE_SECONDS_MAX` suffice.
pub const PRESENCE_WRITE_INTERVAL: Duration = Duration::from_secs(5);

/// `GET /api/users` returns at most this many users; a client reads on with `updated_since`.
pub const LIST_USERS_MAX: i64 = 1_000;

/// `GET /api/v2/profiles` returns at most this many profiles; a client reads on with `after`. Their JSON has at most
/// 565,264 bytes, so a list needs no limit of bytes: those of messages have about 1 MiB.
pub const LIST_PROFILES_MAX: i64 = 250;

/// A further change of the profile gets 429.
pub const PROFILE_CHANGES_PER_10_SECONDS_MAX: u32 = 10;

/// A password is changed without the current one only with a token that is younger: the user has just signed in.
pub const TOKEN_AGE_MAX: TimeDelta = TimeDelta::minutes(15);

/// Addresses from which strangers cannot lock a user out of signing in. Of more, the one used longest ago is forgotten.
pub const ADDRESSES_PER_USER_MAX: i64 = 10;

/// A row of `users` without the password hash, which is read only to check a password.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow, Deserialize)]
pub struct User {
    pub id: i64,
    pub nickname: String,
    pub online: bool,
    pub last_seen_at: DateTime<Utc>,
    pub password_changed_at: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    // Version 1 does not have the rest, nor have journal rows of older versions.
    #[sqlx(default)]
    #[serde(default)]
    pub display_name: String,
    #[sqlx(default)]
    #[serde(default)]
    pub about: String,
    /// In degrees.
    #[sqlx(default)]
    #[serde(default)]
    pub hue: Option<i16>,
    #[sqlx(default)]
    #[serde(default)]
    pub version: i64,
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
            display_name: Some(user.display_name).filter(|name| !name.is_empty()),
            about: Some(user.about).filter(|about| !about.is_empty()),
            hue: user.hue.map(Into::into),
        }
    }
}

impl From<User> for Profile {
    fn from(user: User) -> Self {
        let version = user.version;
        (UserModel::from(user), version).into()
    }
}

impl From<User> for types::User {
    fn from(user: User) -> Self {
        UserModel::from(user).into()
    }
}

pub fn nickname_taken(nickname: &str) -> Problem {
    Problem::conflict(
        "nickname-taken",
        format!(
            "the nickname {nickname:?} is taken, or confusable with one that is taken (upper and lower \
             case are equal); choose another one"
        ),
    )
}

pub fn no_such_user(id: i64) -> Problem {
    Problem::not_found(format!("there is no user {id}; check the id"))
}

/// The token is valid, but its user was deleted.
pub fn caller_is_gone(id: i64) -> Problem {
    Problem::unauthorized(format!("user {id} of this token no longer exists; register again"))
}

pub fn wrong_credentials() -> Problem {
    Problem::unauthorized("nickname or password is wrong; check both, or register first")
}

/// The wait ends when the next guess is possible. It does not grow with the number of guesses.
pub fn too_many_guesses(wait: Duration) -> Problem {
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    Problem::too_many_requests(format!("too many wrong passwords; try again in {seconds} s"), seconds)
}

/// 403, because clients take 401 for an invalid token.
pub fn wrong_current_password() -> Problem {
    Problem::forbidden("`current_password` is wrong; the password was not changed")
}

/// 401, so that a client of version 1 signs in again, and then can change the password.
pub fn token_is_too_old() -> Problem {
    Problem::unauthorized(format!(
        "a token that is older than {} minutes does not change the password; send `current_password`, or sign in again",
        TOKEN_AGE_MAX.num_minutes()
    ))
}

pub fn hidden_character(field: &str) -> Problem {
    Problem::bad_request(format!("`{field}` contains a character that is not seen, such as U+0000; remove it"))
}

pub fn not_your_user(id: i64) -> Problem {
    Problem::forbidden(format!("this token belongs to another user than {id}; users can change only themselves"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flack_api::users_v2::types::{About, DisplayName, ProfileList};

    #[test]
    fn no_list_of_profiles_is_longer_than_documented() {
        // A character has at most 4 bytes in JSON: control characters, which have 6, are refused.
        let [longest_name, longest_about] = [40, 500].map(|length| "😀".repeat(length));
        assert!(longest_name.parse::<DisplayName>().is_ok() && longest_about.parse::<About>().is_ok());
        assert!((longest_name.clone() + "x").parse::<DisplayName>().is_err());
        assert!((longest_about.clone() + "x").parse::<About>().is_err());
        let profile = Profile {
            user_id: i64::MAX,
            display_name: longest_name,
            about: longest_about,
            hue: Some(359),
            version: i64::MAX,
        };
        let profiles = vec![profile; usize::try_from(LIST_PROFILES_MAX).expect("a number")];
        let json = serde_json::to_string(&ProfileList { profiles }).expect("JSON");
        assert_eq!(json.len(), 565_264);
    }
}
