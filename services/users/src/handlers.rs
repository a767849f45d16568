//! The operations of `api/openapi/users.v1.yaml`, in its order.

mod v2;

use async_trait::async_trait;
use chrono::Utc;
use flack_api::{
    BasicCaller, Context, Problem, TokenCaller,
    users::{CreateUserResponse, UsersApi, types},
};
use flack_common::quota::UserQuota;
use secrecy::SecretString;
use tracing::info;

use crate::{
    config::GuessLimits,
    guesses::{Account, Guesses},
    model::{self, PROFILE_CHANGES_PER_10_SECONDS_MAX, TOKEN_AGE_MAX},
    nickname::{self, Nickname},
    passwords,
    store::{Change, Store},
};

/// The users API over the part's database.
#[derive(Debug)]
pub struct Users {
    store: Store,
    guesses: Guesses,
    /// Every client receives every profile.
    profile_changes: UserQuota,
}

impl Users {
    pub fn new(store: Store, limits: GuessLimits) -> Self {
        let profile_changes = UserQuota::per_10_seconds("profile-changes", PROFILE_CHANGES_PER_10_SECONDS_MAX);
        Self { guesses: Guesses::new(store.clone(), limits), store, profile_changes }
    }

    /// Checks that a caller who wants to change the password is the user, not somebody who has found a token.
    async fn authorize_password_change(
        &self,
        context: &Context,
        caller: &TokenCaller,
        current: Option<&types::Password>,
    ) -> Result<(), Problem> {
        let id = caller.user_id;
        let Some(current) = current else {
            let age = Utc::now().timestamp().saturating_sub(caller.issued_at);
            return if age <= TOKEN_AGE_MAX.num_seconds() { Ok(()) } else { Err(model::token_is_too_old()) };
        };
        let password_hash = self.store.password_hash(id).await?.ok_or_else(|| model::no_such_user(id))?;
        let account = Account::Registered { id, password_hash };
        if self.guesses.check_password(context, account, secret(current)).await? {
            Ok(())
        } else {
            Err(model::wrong_current_password())
        }
    }
}

#[async_trait]
impl UsersApi for Users {
    async fn create_user(&self, context: &Context, body: types::NewUser) -> Result<CreateUserResponse, Problem> {
        let nickname = Nickname::parse(&body.nickname)?;
        if body.password_rules.is_some() {
            passwords::check(&body.password, nickname.as_str())?;
        }
        let hash = self.guesses.hash_of_new_account(context, nickname.as_str(), secret(&body.password)).await?;
        let user = self.store.insert(context, &nickname, &hash).await?;
        self.guesses.remember_address(context, user.id).await?;
        info!(user.id = user.id, "registered");
        let body = types::User::from(user);
        Ok(CreateUserResponse { location: body.links.self_.clone(), body })
    }

    async fn list_users(
        &self,
        _context: &Context,
        _caller: Option<TokenCaller>,
        online: Option<types::ListUsersOnline>,
        updated_since: Option<i64>,
    ) -> Result<types::UserList, Problem> {
        let online = online.map(|online| online == types::ListUsersOnline::X1);
        let users = self.store.list(online, updated_since).await?;
        Ok(types::UserList { users: users.into_iter().map(Into::into).collect() })
    }

    async fn get_me(&self, context: &Context, caller: BasicCaller) -> Result<types::User, Problem> {
        // An invalid nickname belongs to no user.
        let stored = match types::Nickname::try_from(caller.nickname.as_str()) {
            Ok(nickname) => self.store.find_credentials(&nickname).await?,
            Err(_) => None,
        };
        let id = stored.as_ref().map(|(id, _)| *id);
        let account = match stored {
            Some((id, password_hash)) => Account::Registered { id, password_hash },
            None => Account::Unknown(nickname::normal_form(&caller.nickname)),
        };
        let is_right = self.guesses.check_password(context, account, caller.password).await?;
        let id = id.filter(|_| is_right).ok_or_else(model::wrong_credentials)?;
        self.store.set_online(context, id).await?;
        let user = self.store.find(id).await?.ok_or_else(model::wrong_credentials)?;
        Ok(user.into())
    }

    async fn set_me_online(&self, context: &Context, caller: TokenCaller) -> Result<(), Problem> {
        let exists = self.store.set_online(context, caller.user_id).await?;
        exists.then_some(()).ok_or_else(|| model::caller_is_gone(caller.user_id))
    }

    async fn set_me_offline(&self, context: &Context, caller: TokenCaller) -> Result<(), Problem> {
        let exists = self.store.set_offline(context, caller.user_id).await?;
        exists.then_some(()).ok_or_else(|| model::caller_is_gone(caller.user_id))
    }

    async fn get_user(
        &self,
        _context: &Context,
        _caller: Option<TokenCaller>,
        id: i64,
    ) -> Result<types::User, Problem> {
        self.store.find(id).await?.map(Into::into).ok_or_else(|| model::no_such_user(id))
    }

    async fn update_user(
        &self,
        context: &Context,
        caller: TokenCaller,
        id: i64,
        body: types::UserUpdate,
    ) -> Result<(), Problem> {
        let user = self.store.find(id).await?.ok_or_else(|| model::no_such_user(id))?;
        if caller.user_id != id {
            return Err(model::not_your_user(id));
        }
        // The present nickname may be older than the rules for nicknames.
        let changed = body.nickname.as_ref().filter(|nickname| nickname.as_str() != user.nickname);
        let nickname = changed.map(Nickname::parse).transpose()?;
        let hash = match &body.password {
            Some(new) => {
                if body.password_rules.is_some() {
                    let nickname = nickname.as_ref().map_or(&*user.nickname, Nickname::as_str);
                    passwords::check(new, nickname)?;
                }
                self.authorize_password_change(context, &caller, body.current_password.as_ref()).await?;
                Some(self.guesses.hash_of_caller(context, id, secret(new)).await?)
            }
            None => None,
        };
        if body.nickname.is_none() && hash.is_none() {
            return Ok(());
        }
        let change = Change { nickname: nickname.as_ref(), password_hash: hash.as_deref() };
        if !self.store.update(context, id, change).await? {
            return Err(model::no_such_user(id));
        }
        info!(user.id = id, password = hash.is_some(), nickname = nickname.is_some(), "changed a user");
        Ok(())
    }
}

fn secret(password: &types::Password) -> SecretString {
    SecretString::from(password.to_string())
}
