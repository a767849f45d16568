//! What preferences and read markers are, apart from where they are stored. The monolith may link this module too.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use flack_api::{
    Problem,
    events::{PreferencesModel, ReadMarkerModel},
    ui::types,
};
use serde::Deserialize;

/// Channels in which one user can have a marker: nobody reads more, and what users can add to must end somewhere.
pub const READ_MARKERS_PER_USER_MAX: i64 = 1_000;

/// A row of the table `preferences`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow, Deserialize)]
pub struct Preferences {
    pub user_id: i64,
    pub theme: String,
    pub notifications: bool,
}

/// A row of the table `read_markers`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow, Deserialize)]
pub struct ReadMarker {
    pub user_id: i64,
    pub channel: String,
    pub message_id: i64,
    pub updated_at: DateTime<Utc>,
}

/// Of everybody who has never said anything else.
pub fn default_preferences() -> types::Preferences {
    types::Preferences { theme: types::PreferencesTheme::System, notifications: false }
}

impl From<Preferences> for types::Preferences {
    fn from(preferences: Preferences) -> Self {
        Self {
            // A theme of a later version, after a step back: better its default than no answer.
            theme: types::PreferencesTheme::from_str(&preferences.theme)
                .unwrap_or(default_preferences().theme),
            notifications: preferences.notifications,
        }
    }
}

impl From<ReadMarker> for types::ReadMarker {
    fn from(marker: ReadMarker) -> Self {
        Self {
            channel: marker.channel,
            message_id: marker.message_id,
            updated_at: marker.updated_at.timestamp(),
        }
    }
}

impl From<Preferences> for PreferencesModel {
    fn from(preferences: Preferences) -> Self {
        Self {
            user_id: preferences.user_id,
            theme: preferences.theme,
            notifications: preferences.notifications,
        }
    }
}

impl From<ReadMarker> for ReadMarkerModel {
    fn from(marker: ReadMarker) -> Self {
        Self { user_id: marker.user_id, channel: marker.channel, message_id: marker.message_id }
    }
}

pub fn too_many_read_markers(user_id: i64) -> Problem {
    Problem::bad_request(format!(
        "user {user_id} has read markers in {READ_MARKERS_PER_USER_MAX} channels already; that is the limit"
    ))
}
