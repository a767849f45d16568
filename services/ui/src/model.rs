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
    // Journal rows of older versions do not have the rest.
    #[serde(default)]
    pub words: Vec<String>,
    #[serde(default)]
    pub people: Vec<i64>,
    #[serde(default)]
    pub topics: Vec<String>,
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
    types::Preferences { theme: types::PreferencesTheme::System, notifications: false, interests: None }
}

impl From<Preferences> for types::Preferences {
    fn from(preferences: Preferences) -> Self {
        let Preferences { words, people, topics, .. } = preferences;
        let has_interests = !(words.is_empty() && people.is_empty() && topics.is_empty());
        // After a downgrade a stored text may be one that only the later version allows.
        let texts = |stored: Vec<String>| stored.into_iter().filter_map(|text| text.parse().ok()).collect();
        let interests = types::Interests { words: texts(words), people, topics: texts(topics) };
        Self {
            // After a downgrade the stored theme may be one that only the later version knows.
            theme: types::PreferencesTheme::from_str(&preferences.theme).unwrap_or(default_preferences().theme),
            notifications: preferences.notifications,
            interests: has_interests.then_some(interests),
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
        let Preferences { user_id, theme, notifications, words, people, topics } = preferences;
        Self { user_id, theme, notifications, words, people, topics }
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
