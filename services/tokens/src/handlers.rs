//! The operations of `api/openapi/tokens.v1.yaml`, in its order.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::Utc;
use flack_api::{
    BasicCaller, Context, Problem, TokenCaller,
    tokens::{TokensApi, types},
    users::UsersApi,
};
use flack_common::auth::SigningKey;
use secrecy::ExposeSecret;
use tracing::{info, warn};

use crate::{
    announce::Announcer,
    model::{self, TOKEN_LIFETIME, Token},
    store::Store,
};

/// The tokens API over this service's own database. Whose password it is, users knows: it is asked through its seam.
pub struct Tokens {
    pub store: Store,
    pub key: SigningKey,
    pub users: Arc<dyn UsersApi>,
    pub announcer: Arc<Announcer>,
}

#[async_trait]
impl TokensApi for Tokens {
    async fn create_token(&self, context: &Context, caller: BasicCaller) -> Result<types::Token, Problem> {
        // Before the password is checked: a change of it from now on counts as newer than this token.
        let issued_at = Utc::now();
        let user = self.users.get_me(context, caller).await?;
        let issued = self.key.issue(user.id, issued_at, TOKEN_LIFETIME)?;
        let token =
            Token { id: issued.id, user_id: user.id, issued_at, expires_at: issued.expires_at, revoked_at: None };
        if !self.store.insert(context, &token).await? {
            return Err(model::password_has_changed());
        }
        info!(user.id = user.id, token.id = %token.id, "issued a token");
        Ok(types::Token { token: issued.token.expose_secret().to_owned() })
    }

    async fn revoke_token(&self, context: &Context, caller: TokenCaller) -> Result<(), Problem> {
        self.store.revoke(context, &caller).await?;
        // 204 says that nobody accepts the token any more, so the registry has to have it first.
        self.announcer.revoke(context, &caller).await?;
        info!(user.id = caller.user_id, token.id = %caller.token_id, "revoked a token");
        Ok(())
    }
}
