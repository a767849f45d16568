//! Hears of passwords that changed, and revokes the tokens that are older.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use chrono::DateTime;
use flack_api::events::UserModel;
use flack_common::events::{Handler, StoredEvent};
use serde::Deserialize;
use sqlx::{Postgres, Transaction};
use tracing::info;

use crate::{announce::Announcer, store};

/// The one kind of event that matters here; `users` and, before the hand-over, `monolith` publish it.
pub const KIND: &str = "user_changed";

/// Reads `user_changed` of either owner: their unions differ, this member of them does not.
#[derive(Debug, Deserialize)]
struct UserChanged {
    data: UserModel,
}

#[derive(Debug)]
pub struct PasswordChanges {
    announcer: Arc<Announcer>,
}

impl PasswordChanges {
    pub fn new(announcer: Arc<Announcer>) -> Self {
        Self { announcer }
    }
}

#[async_trait]
impl Handler for PasswordChanges {
    async fn handle(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        event: &StoredEvent,
    ) -> anyhow::Result<()> {
        let UserChanged { data: user } = event.decode()?;
        let changed_at = DateTime::from_timestamp_millis(user.password_changed_at)
            .with_context(|| format!("{} is no time", user.password_changed_at))?;
        let revoked = store::password_changed(transaction, user.id, changed_at).await?;
        if revoked > 0 {
            info!(user.id = user.id, tokens = revoked, "the password changed; revoked older tokens");
            self.announcer.wake();
        }
        Ok(())
    }
}
