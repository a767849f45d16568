//! What others hear of messages: rows of the journal as events of the stream MESSAGES.

use flack_api::events::MessagesEvent;
use flack_common::events::{JournalRow, MappedEvent};

use crate::model::{Channel, Message};

/// The relay asks this for every row of the journal.
pub fn map(row: &JournalRow) -> anyhow::Result<Option<MappedEvent>> {
    let event = match row.entity.as_str() {
        "channel" => MessagesEvent::ChannelChanged(row.decode::<Channel>()?.into()),
        "message" => MessagesEvent::MessageChanged(row.decode::<Message>()?.into()),
        // A preview shows in the message's html, whose change is an event of its own.
        _ => return Ok(None),
    };
    MappedEvent::new(row, &event).map(Some)
}
