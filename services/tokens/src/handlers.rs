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
    keys::SigningKeys,
    model::{self, Token},
    publisher::Publisher,
    store::{Insertion, Store},
};

/// Attempts to sign a token. The second one succeeds unless keys are retired faster than tokens are signed.
const SIGNING_ATTEMPTS_MAX: u32 = 3;

/// The tokens API over the part's database. Users checks the password.
pub struct Tokens {
    store: Store,
    keys: Arc<SigningKeys>,
    publisher: Arc<Publisher>,
    users: Arc<dyn UsersApi>,
}

impl Tokens {
    pub fn new(store: Store, keys: Arc<SigningKeys>, publisher: Arc<Publisher>, users: Arc<dyn UsersApi>) -> Self {
        Self { store, keys, publisher, users }
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
        // Before the password is checked: a password change from now on counts as newer than this token.
        let issued_at = Utc::now();
        let user = self.users.get_me(context, caller).await?;
        for _ in 0..SIGNING_ATTEMPTS_MAX {
            let key = self.keys.current(context).await?;
            let (token, issued) = Token::issue(&key, user.id, issued_at);
            match self.store.insert(context, &issued, key.key_id()).await? {
                Insertion::Stored => {
                    info!(user.id = user.id, token.id = %issued.id, "issued a token");
                    return Ok(types::Token { token: token.expose_secret().to_owned() });
                }
                Insertion::PasswordHasChanged => return Err(model::password_has_changed()),
                Insertion::KeyIsRetired => self.keys.forget(&key).await,
            }
        }
        Err(Problem::unavailable("a signing key"))
    }

    async fn revoke_token(&self, context: &Context, caller: TokenCaller) -> Result<(), Problem> {
        self.store.revoke(context, &caller).await?;
        // 204 means that no process accepts the token, so the registry must have the revocation first.
        self.publisher.revoke(context, &caller).await?;
        info!(user.id = caller.user_id, token.id = %caller.token_id, "revoked a token");
        Ok(())
    }
}
