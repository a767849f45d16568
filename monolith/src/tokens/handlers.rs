//! The operations of `api/openapi/tokens.v1.yaml`, over the one database.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use chrono::Utc;
use flack_api::{
    BasicCaller, Context, Problem, TokenCaller,
    tokens::{TokensApi, types},
    users::UsersApi,
};
use flack_tokens::{
    announce::Announcer,
    keys::SigningKeys,
    model::{self, Token},
};
use secrecy::ExposeSecret;
use tracing::info;

use super::store::Store;

/// Whose password it is, users knows: it is asked through its seam, as if it were far away.
pub struct Tokens {
    pub(super) store: Store,
    pub(super) shared: flack_tokens::store::Store,
    pub(super) keys: Arc<SigningKeys>,
    pub(super) announcer: Arc<Announcer>,
    pub(super) users: Arc<dyn UsersApi>,
}

impl Tokens {
    /// Makes the first key if there is none, and announces what is known, before anybody shows a token that was issued
    /// before a restart.
    pub async fn prepare(&self) -> Result<(), Problem> {
        self.keys.current(&Context::background()).await.map(|_| ())
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tokens").finish_non_exhaustive()
    }
}

#[async_trait]
impl TokensApi for Tokens {
    async fn create_token(&self, context: &Context, caller: BasicCaller) -> Result<types::Token, Problem> {
        // Before the password is checked: a change of it from now on counts as newer than this token.
        let issued_at = Utc::now();
        let user = self.users.get_me(context, caller).await?;
        let key = self.keys.current(context).await?;
        let (token, issued) = Token::issue(key, user.id, issued_at);
        if !self.store.insert(context, &issued).await? {
            return Err(model::password_has_changed());
        }
        info!(user.id = user.id, token.id = %issued.id, "issued a token");
        Ok(types::Token { token: token.expose_secret().to_owned() })
    }

    async fn revoke_token(&self, context: &Context, caller: TokenCaller) -> Result<(), Problem> {
        self.shared.revoke(context, &caller).await?;
        self.announcer.revoke(context, &caller).await?;
        info!(user.id = caller.user_id, token.id = %caller.token_id, "revoked a token");
        Ok(())
    }
}
