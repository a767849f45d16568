//! The projections, made from the events of users and messages, which the monolith publishes as long as it owns them.

use anyhow::Context as _;
use async_trait::async_trait;
use chrono::DateTime;
use flack_api::events::{ChannelModelKind, Event, MonolithEvent, Operation};
use flack_common::events::{Handler, StoredEvent};
use sqlx::{Postgres, Transaction};

use crate::store::Store;

/// The events that have projections. The streams have others, also of kinds that this version does not know.
const KINDS: [&str; 4] = ["user_changed", "channel_changed", "channel_member_changed", "message_changed"];

/// Handles events of the streams USERS, MESSAGES and MONOLITH. The last one has the events of the others, too, in the
/// same format.
#[derive(Debug)]
pub struct Projections;

#[async_trait]
impl Handler for Projections {
    fn kinds(&self) -> &'static [&'static str] {
        &KINDS
    }

    async fn handle(&self, transaction: &mut Transaction<'_, Postgres>, event: &StoredEvent) -> anyhow::Result<()> {
        let event: Event<MonolithEvent> = event.decode()?;
        let is_deleted = event.operation == Operation::Delete;
        match event.union {
            MonolithEvent::UserChanged(user) if is_deleted => Store::delete_nickname(transaction, user.id).await?,
            MonolithEvent::UserChanged(user) => Store::set_nickname(transaction, user.id, &user.nickname).await?,
            MonolithEvent::ChannelChanged(channel) if is_deleted => {
                Store::delete_channel(transaction, channel.id).await?;
            }
            MonolithEvent::ChannelChanged(channel) => {
                let kind = channel.kind.unwrap_or(ChannelModelKind::Public).to_string();
                Store::set_channel(transaction, channel.id, &channel.name, &kind).await?;
            }
            MonolithEvent::ChannelMemberChanged(member) if is_deleted || member.left_at.is_some() => {
                Store::delete_member(transaction, member.channel_id, member.user_id).await?;
            }
            MonolithEvent::ChannelMemberChanged(member) => {
                Store::set_member(transaction, member.channel_id, member.user_id).await?;
            }
            MonolithEvent::MessageChanged(message) if is_deleted || message.deleted_at.is_some() => {
                Store::delete_message(transaction, message.id).await?;
            }
            MonolithEvent::MessageChanged(message) => {
                let created_at = DateTime::from_timestamp(message.created_at, 0);
                let created_at = created_at.with_context(|| format!("created_at is {}", message.created_at))?;
                Store::set_message(transaction, &message, created_at).await?;
            }
            _ => {}
        }
        Ok(())
    }
}
