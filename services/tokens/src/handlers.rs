//! The operations of `api/openapi/tokens.v1.yaml`, in its order.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use chrono::Utc;
use flack_api::{
    BasicCaller, Context, Problem, TokenCaller,
    tokens::{TokensApi, types},
    users::UsersApi,
};
use secrecy::ExposeSecret;
use tracing::info;

use crate::{
    announce::Announcer,
    keys::SigningKeys,
    model::{self, Token},
    store::Store,
};

/// The tokens API over this service's own database. Whose password it is, users knows: it is asked through its seam.
pub struct Tokens {
    store: Store,
    keys: Arc<SigningKeys>,
    announcer: Arc<Announcer>,
    users: Arc<dyn UsersApi>,
}

impl Tokens {
    pub fn new(
        store: Store,
        keys: Arc<SigningKeys>,
        announcer: Arc<Announcer>,
        users: Arc<dyn UsersApi>,
    ) -> Self {
        Self { store, keys, announcer, users }
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
        self.store.revoke(context, &caller).await?;
        // 204 says that nobody accepts the token any more, so the registry has to have it first.
        self.announcer.revoke(context, &caller).await?;
        info!(user.id = caller.user_id, token.id = %caller.token_id, "revoked a token");
        Ok(())
    }
}
