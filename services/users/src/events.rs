//! Events of the stream USERS, made from journal rows.

use flack_api::events::UsersEvent;
use flack_common::events::{JournalRow, MappedEvent};

use crate::model::User;

/// Maps a journal row to its event.
pub fn map(row: &JournalRow) -> anyhow::Result<Option<MappedEvent>> {
    let event = match row.entity.as_str() {
        "user" => UsersEvent::UserChanged(row.decode::<User>()?.into()),
        _ => return Ok(None),
    };
    MappedEvent::new(row, &event).map(Some)
}
