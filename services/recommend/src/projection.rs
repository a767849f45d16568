//! The tables of the service, made from events of the owner of messages.

use async_trait::async_trait;
use flack_api::events::{Event, MessagesEvent, Operation};
use flack_common::events::{Handler, StoredEvent};
use sqlx::{PgConnection, Postgres, Transaction};

use crate::store;

/// The events that it handles.
const KINDS: [&str; 3] = ["channel_changed", "channel_member_changed", "message_changed"];

/// Handles events of the streams MESSAGES and MONOLITH, which have the same format.
#[derive(Debug)]
pub struct Projection;

#[async_trait]
impl Handler for Projection {
    fn kinds(&self) -> &'static [&'static str] {
        &KINDS
    }

    async fn handle(&self, transaction: &mut Transaction<'_, Postgres>, event: &StoredEvent) -> anyhow::Result<()> {
        Ok(apply(transaction, &event.decode()?).await?)
    }
}

/// Writes the state of a row after its change. What was processed before is written again without an effect.
pub async fn apply(connection: &mut PgConnection, event: &Event<MessagesEvent>) -> sqlx::Result<()> {
    let is_gone = event.operation == Operation::Delete;
    match &event.union {
        MessagesEvent::ChannelChanged(channel) if is_gone => store::delete_channel(connection, channel.id).await,
        MessagesEvent::ChannelChanged(channel) => store::set_channel(connection, channel).await,
        MessagesEvent::ChannelMemberChanged(member) if is_gone || member.left_at.is_some() => {
            store::delete_member(connection, member).await
        }
        MessagesEvent::ChannelMemberChanged(member) => store::set_member(connection, member).await,
        MessagesEvent::MessageChanged(message) if is_gone || message.deleted_at.is_some() => {
            store::delete_message(connection, message.id).await
        }
        MessagesEvent::MessageChanged(message) => store::set_message(connection, message).await,
    }
}
