//! Hears of passwords that changed, and revokes the tokens that are older. Although users is in the same process and the
//! same database, it does not reach into the tables of tokens: it tells, and tokens acts.

use std::sync::Arc;

use async_trait::async_trait;
use flack_api::events::UserModel;
use flack_common::events::{Handler, StoredEvent};
use flack_tokens::announce::Announcer;
use serde::Deserialize;
use sqlx::{Postgres, Transaction};
use tracing::info;

use super::store;
use crate::authority::{Authority, Resource};

#[derive(Debug, Deserialize)]
struct UserChanged {
    data: UserModel,
}

#[derive(Debug)]
pub struct PasswordChanges {
    announcer: Arc<Announcer>,
    authority: Authority,
}

impl PasswordChanges {
    pub fn new(announcer: Arc<Announcer>, authority: Authority) -> Self {
        Self { announcer, authority }
    }
}

#[async_trait]
impl Handler for PasswordChanges {
    async fn handle(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        event: &StoredEvent,
    ) -> anyhow::Result<()> {
        // Who owns tokens hears of it too.
        if !self.authority.owns(Resource::Tokens) {
            return Ok(());
        }
        let UserChanged { data: user } = event.decode()?;
        let revoked = store::revoke_outdated(transaction, user.id).await?;
        if revoked > 0 {
            info!(user.id = user.id, tokens = revoked, "the password changed; revoked older tokens");
            self.announcer.wake();
        }
        Ok(())
    }
}
