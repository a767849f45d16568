//! Events of the stream UI, made from journal rows.

use flack_api::events::UiEvent;
use flack_common::events::{JournalRow, MappedEvent};

use crate::model::{Preferences, ReadMarker};

/// Maps a journal row to its event.
pub fn map(row: &JournalRow) -> anyhow::Result<Option<MappedEvent>> {
    let event = match row.entity.as_str() {
        "preferences" => UiEvent::PreferencesChanged(row.decode::<Preferences>()?.into()),
        "read_marker" => UiEvent::ReadMarkerChanged(row.decode::<ReadMarker>()?.into()),
        _ => return Ok(None),
    };
    MappedEvent::new(row, &event).map(Some)
}
