//! Our copy of what users are called, made from users' events: no page of messages needs a call to users.

use async_trait::async_trait;
use flack_api::events::{Event, Operation, UsersEvent};
use flack_common::events::{Handler, StoredEvent};
use sqlx::{Postgres, Transaction};

use crate::store::Store;

/// Handles `user_changed`, from the users service and from the monolith alike: both tell it in the same words.
#[derive(Debug)]
pub struct Nicknames;

#[async_trait]
impl Handler for Nicknames {
    async fn handle(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        event: &StoredEvent,
    ) -> anyhow::Result<()> {
        let event: Event<UsersEvent> = event.decode()?;
        let UsersEvent::UserChanged(user) = event.union;
        match event.operation {
            Operation::Delete => Store::forget_nickname(transaction, user.id).await?,
            Operation::Insert | Operation::Update => {
                Store::set_nickname(transaction, user.id, &user.nickname, event.version).await?;
            }
        }
        Ok(())
    }
}
