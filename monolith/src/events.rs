//! Events of the stream MONOLITH, made from the rows of the one journal. Each part maps its own rows.

use flack_common::events::{JournalRow, MappedEvent};

/// Maps a journal row to its event.
pub fn map(row: &JournalRow) -> anyhow::Result<Option<MappedEvent>> {
    for map in [flack_users::events::map, flack_tokens::events::map, flack_messages::events::map, flack_ui::events::map]
    {
        if let Some(event) = map(row)? {
            return Ok(Some(event));
        }
    }
    Ok(None)
}
