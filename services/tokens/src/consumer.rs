//! The consumer of `user_changed`: after a password change it revokes the tokens that were issued before.
//!
//! Users is not called and does not know tokens, in the monolith as little as in the services.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use flack_api::events::UserModel;
use flack_common::{
    authority::Ownership,
    events::{Handler, StoredEvent},
};
use serde::Deserialize;
use sqlx::{PgConnection, Postgres, Transaction};
use tracing::info;

use crate::{model::TOKEN_LIFETIME, publisher::Publisher, store};

/// `user_changed` of the streams USERS and MONOLITH, which have the same format.
#[derive(Debug, Deserialize)]
struct UserChanged {
    data: UserModel,
}

#[derive(Debug)]
pub struct PasswordChanges {
    publisher: Arc<Publisher>,
    ownership: Ownership,
}

impl PasswordChanges {
    pub fn new(publisher: Arc<Publisher>, ownership: Ownership) -> Self {
        Self { publisher, ownership }
    }

    /// Updates the projection `password_changes`. The owner of tokens also revokes the user's older tokens; returns how
    /// many.
    pub async fn apply(
        &self,
        connection: &mut PgConnection,
        user_id: i64,
        changed_at: DateTime<Utc>,
    ) -> sqlx::Result<u64> {
        // No valid token is older than such a change. Most events are not about passwords and end here.
        if (Utc::now() - changed_at).to_std().is_ok_and(|age| age > TOKEN_LIFETIME) {
            return Ok(0);
        }
        store::password_changed(connection, user_id, changed_at).await?;
        if !self.ownership.is_held() {
            return Ok(0);
        }
        store::revoke_issued_before(connection, user_id, changed_at).await
    }
}

#[async_trait]
impl Handler for PasswordChanges {
    fn kinds(&self) -> &'static [&'static str] {
        &["user_changed"]
    }

    async fn handle(&self, transaction: &mut Transaction<'_, Postgres>, event: &StoredEvent) -> anyhow::Result<()> {
        let UserChanged { data: user } = event.decode()?;
        let changed_at = DateTime::from_timestamp_millis(user.password_changed_at)
            .with_context(|| format!("password_changed_at is {}, which is no time", user.password_changed_at))?;
        let revoked = self.apply(transaction, user.id, changed_at).await?;
        if revoked > 0 {
            info!(user.id = user.id, tokens = revoked, "the password changed; revoked older tokens");
            self.publisher.wake();
        }
        Ok(())
    }
}
