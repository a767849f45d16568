//! The operations of `api/openapi/users.v1.yaml`, in its order.

use async_trait::async_trait;
use flack_api::{
    BasicCaller, Context, Problem, TokenCaller,
    users::{CreateUserResponse, UsersApi, types},
};
use flack_common::password;
use secrecy::SecretString;
use tracing::info;

use crate::{
    model,
    nickname::Nickname,
    store::{Change, Store},
};

/// The users API over the part's database.
#[derive(Debug)]
pub struct Users {
    store: Store,
}

impl Users {
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[async_trait]
impl UsersApi for Users {
    async fn create_user(&self, context: &Context, body: types::NewUser) -> Result<CreateUserResponse, Problem> {
        let nickname = Nickname::parse(&body.nickname)?;
        let hash = password::hash(SecretString::from(body.password.to_string())).await?;
        let user = self.store.insert(context, &nickname, &hash).await?;
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
        let stored = match types::Nickname::try_from(caller.nickname) {
            Ok(nickname) => self.store.find_credentials(&nickname).await?,
            Err(_) => None,
        };
        let Some((id, hash)) = stored else {
            // Takes as long as a wrong password, so that the time does not reveal which nicknames exist.
            password::verify_unknown_user(caller.password).await?;
            return Err(model::wrong_credentials());
        };
        if !password::verify(caller.password, &hash).await? {
            return Err(model::wrong_credentials());
        }
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
        let hash = match body.password {
            Some(new) => Some(password::hash(SecretString::from(new.to_string())).await?),
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
