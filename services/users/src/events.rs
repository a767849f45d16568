//! What others hear of users: rows of the journal as events of the stream USERS.

use flack_api::events::UsersEvent;
use flack_common::events::{JournalRow, MappedEvent};

use crate::model::User;

/// The relay asks this for every row of the journal.
pub fn map(row: &JournalRow) -> anyhow::Result<Option<MappedEvent>> {
    match row.entity.as_str() {
        "user" => {
            let event = UsersEvent::UserChanged(row.decode::<User>()?.into());
            MappedEvent::new(row, &event).map(Some)
        }
        _ => Ok(None),
    }
}
