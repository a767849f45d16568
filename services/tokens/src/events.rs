//! What others hear of tokens: rows of the journal as events of the stream TOKENS.

use flack_api::events::TokensEvent;
use flack_common::events::{JournalRow, MappedEvent};

use crate::model::{SigningKeyRow, Token};

/// The relay asks this for every row of the journal.
pub fn map(row: &JournalRow) -> anyhow::Result<Option<MappedEvent>> {
    let event = match row.entity.as_str() {
        "token" => TokensEvent::TokenChanged(row.decode::<Token>()?.into()),
        "signing_key" => TokensEvent::SigningKeyChanged(row.decode::<SigningKeyRow>()?.into()),
        _ => return Ok(None),
    };
    MappedEvent::new(row, &event).map(Some)
}
