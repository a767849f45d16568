//! Events of the stream TOKENS, made from journal rows.

use flack_api::events::TokensEvent;
use flack_common::events::{JournalRow, MappedEvent};

use crate::model::{SigningKeyRow, Token};

/// Maps a journal row to its event.
pub fn map(row: &JournalRow) -> anyhow::Result<Option<MappedEvent>> {
    let event = match row.entity.as_str() {
        "token" => TokensEvent::TokenChanged(row.decode::<Token>()?.into()),
        "signing_key" => TokensEvent::SigningKeyChanged(row.decode::<SigningKeyRow>()?.into()),
        _ => return Ok(None),
    };
    MappedEvent::new(row, &event).map(Some)
}
