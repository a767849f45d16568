//! Preferences and read markers: rows, their events and API models, limits, and problems.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use flack_api::{
    Problem,
    events::{PreferencesModel, ReadMarkerModel},
    ui::types,
};
use serde::Deserialize;

/// A user can have read markers in at most this many channels, so that no user fills the table.
pub const READ_MARKERS_PER_USER_MAX: i64 = 1_000;

/// A row of `preferences`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow, Deserialize)]
pub struct Preferences {
    pub user_id: i64,
    pub theme: String,
    pub notifications: bool,
}

/// A row of `read_markers`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow, Deserialize)]
pub struct ReadMarker {
    pub user_id: i64,
    pub channel: String,
    pub message_id: i64,
    pub updated_at: DateTime<Utc>,
}

/// The preferences of a user who has never set any.
pub fn default_preferences() -> types::Preferences {
    types::Preferences { theme: types::PreferencesTheme::System, notifications: false }
}

impl From<Preferences> for types::Preferences {
    fn from(preferences: Preferences) -> Self {
        Self {
            // After a downgrade the stored theme may be one that only the later version knows.
            theme: types::PreferencesTheme::from_str(&preferences.theme).unwrap_or(default_preferences().theme),
            notifications: preferences.notifications,
        }
    }
}

impl From<ReadMarker> for types::ReadMarker {
    fn from(marker: ReadMarker) -> Self {
        Self { channel: marker.channel, message_id: marker.message_id, updated_at: marker.updated_at.timestamp() }
    }
}

impl From<Preferences> for PreferencesModel {
    fn from(preferences: Preferences) -> Self {
        Self { user_id: preferences.user_id, theme: preferences.theme, notifications: preferences.notifications }
    }
}

impl From<ReadMarker> for ReadMarkerModel {
    fn from(marker: ReadMarker) -> Self {
        Self { user_id: marker.user_id, channel: marker.channel, message_id: marker.message_id }
    }
}

pub fn too_many_read_markers(user_id: i64) -> Problem {
    Problem::bad_request(format!(
        "user {user_id} has read markers in {READ_MARKERS_PER_USER_MAX} channels, which is the limit; \
         only markers in these channels can be moved"
    ))
}

/// The token is valid, but its user was deleted.
pub fn caller_is_gone(id: i64) -> Problem {
    Problem::unauthorized(format!("user {id} of this token no longer exists; register again"))
}
