//! Events of the stream MESSAGES, made from journal rows.

use flack_api::events::MessagesEvent;
use flack_common::events::{JournalRow, MappedEvent};

use crate::model::{
    Message,
    channels::{Channel, Member},
};

/// Maps a journal row to its event.
pub fn map(row: &JournalRow) -> anyhow::Result<Option<MappedEvent>> {
    let event = match row.entity.as_str() {
        "channel" => MessagesEvent::ChannelChanged(row.decode::<Channel>()?.into()),
        "channel_member" => MessagesEvent::ChannelMemberChanged(row.decode::<Member>()?.into()),
        "message" => MessagesEvent::MessageChanged(row.decode::<Message>()?.into()),
        // A link preview has no event: it changes the message, and that is an event.
        _ => return Ok(None),
    };
    MappedEvent::new(row, &event).map(Some)
}
