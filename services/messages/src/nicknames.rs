//! The projection `nicknames`, made from `user_changed`, so that a list of messages needs no call to users.
//!
//! Only the service runs it. In the monolith's database `nicknames` is a view over `users`.

use async_trait::async_trait;
use flack_api::events::{Event, Operation, UsersEvent};
use flack_common::events::{Handler, StoredEvent};
use sqlx::{Postgres, Transaction};

use crate::store::Store;

/// Handles `user_changed` of the streams USERS and MONOLITH, which have the same format.
#[derive(Debug)]
pub struct Nicknames;

#[async_trait]
impl Handler for Nicknames {
    fn kinds(&self) -> &'static [&'static str] {
        &["user_changed"]
    }

    async fn handle(&self, transaction: &mut Transaction<'_, Postgres>, event: &StoredEvent) -> anyhow::Result<()> {
        let event: Event<UsersEvent> = event.decode()?;
        let UsersEvent::UserChanged(user) = event.union;
        match event.operation {
            Operation::Delete => Store::delete_nickname(transaction, user.id).await?,
            Operation::Insert | Operation::Update => {
                Store::set_nickname(transaction, user.id, &user.nickname, event.version).await?;
            }
        }
        Ok(())
    }
}
