//! The tables of the service, made from events of the owners of messages and ui.

use async_trait::async_trait;
use flack_api::events::{Event, MonolithEvent, Operation, PreferencesModel};
use flack_common::events::{Handler, StoredEvent};
use sqlx::{PgConnection, Postgres, Transaction};

use crate::store;

/// The events that it handles.
const KINDS: [&str; 4] = ["channel_changed", "channel_member_changed", "message_changed", "preferences_changed"];

/// Handles events of the streams MESSAGES, UI and MONOLITH, which have the same format.
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
pub async fn apply(connection: &mut PgConnection, event: &Event<MonolithEvent>) -> sqlx::Result<()> {
    let is_gone = event.operation == Operation::Delete;
    match &event.union {
        MonolithEvent::ChannelChanged(channel) if is_gone => store::delete_channel(connection, channel.id).await,
        MonolithEvent::ChannelChanged(channel) => store::set_channel(connection, channel).await,
        MonolithEvent::ChannelMemberChanged(member) if is_gone || member.left_at.is_some() => {
            store::delete_member(connection, member).await
        }
        MonolithEvent::ChannelMemberChanged(member) => store::set_member(connection, member).await,
        MonolithEvent::MessageChanged(message) if is_gone || message.deleted_at.is_some() => {
            store::delete_message(connection, message.id).await
        }
        MonolithEvent::MessageChanged(message) => store::set_message(connection, message).await,
        MonolithEvent::PreferencesChanged(preferences) if is_gone || !has_interests(preferences) => {
            store::delete_preferences(connection, preferences.user_id).await
        }
        MonolithEvent::PreferencesChanged(preferences) => store::set_preferences(connection, preferences).await,
        _ => Ok(()),
    }
}

fn has_interests(preferences: &PreferencesModel) -> bool {
    !(preferences.words.is_empty() && preferences.people.is_empty() && preferences.topics.is_empty())
}
