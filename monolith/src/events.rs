//! What others hear of the monolith: rows of the one journal as events of the stream MONOLITH.

use flack_api::events::MonolithEvent;
use flack_common::events::{JournalRow, MappedEvent};
use flack_messages::model::{Channel, Message};
use flack_tokens::model::{SigningKeyRow, Token};
use flack_ui::model::{Preferences, ReadMarker};
use flack_users::model::User;

/// The relay asks this for every row of the journal.
pub fn map(row: &JournalRow) -> anyhow::Result<Option<MappedEvent>> {
    let event = match row.entity.as_str() {
        "user" => MonolithEvent::UserChanged(row.decode::<User>()?.into()),
        "token" => MonolithEvent::TokenChanged(row.decode::<Token>()?.into()),
        "signing_key" => MonolithEvent::SigningKeyChanged(row.decode::<SigningKeyRow>()?.into()),
        "channel" => MonolithEvent::ChannelChanged(row.decode::<Channel>()?.into()),
        "message" => MonolithEvent::MessageChanged(row.decode::<Message>()?.into()),
        "preferences" => MonolithEvent::PreferencesChanged(row.decode::<Preferences>()?.into()),
        "read_marker" => MonolithEvent::ReadMarkerChanged(row.decode::<ReadMarker>()?.into()),
        // Link previews are told by the message that they change.
        _ => return Ok(None),
    };
    MappedEvent::new(row, &event).map(Some)
}
