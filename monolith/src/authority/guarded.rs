//! The seams with the guard before them: each operation asks who owns the data, and only then does something.
//!
//! It stands at the seam and not at the HTTP door, so that another module of this process is stopped as well.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use flack_api::{
    BasicCaller, Context, Problem, TokenCaller,
    messages::{self, MessagesApi},
    tokens::{self, TokensApi},
    users::{self, UsersApi},
};
use uuid::Uuid;

use super::{Authority, Resource};

/// A module behind the guard.
pub struct Guarded<Api: ?Sized> {
    authority: Authority,
    inner: Arc<Api>,
}

impl<Api: ?Sized> Guarded<Api> {
    pub fn new(authority: Authority, inner: Arc<Api>) -> Self {
        Self { authority, inner }
    }
}

impl<Api: ?Sized> fmt::Debug for Guarded<Api> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Guarded").field("authority", &self.authority).finish_non_exhaustive()
    }
}

#[async_trait]
impl UsersApi for Guarded<dyn UsersApi> {
    async fn create_user(
        &self,
        context: &Context,
        body: users::types::NewUser,
    ) -> Result<users::CreateUserResponse, Problem> {
        self.authority.check(Resource::Users)?;
        self.inner.create_user(context, body).await
    }

    async fn list_users(
        &self,
        context: &Context,
        caller: Option<TokenCaller>,
        online: Option<users::types::ListUsersOnline>,
        updated_since: Option<i64>,
    ) -> Result<users::types::UserList, Problem> {
        self.authority.check(Resource::Users)?;
        self.inner.list_users(context, caller, online, updated_since).await
    }

    async fn get_me(&self, context: &Context, caller: BasicCaller) -> Result<users::types::User, Problem> {
        self.authority.check(Resource::Users)?;
        self.inner.get_me(context, caller).await
    }

    async fn set_me_online(&self, context: &Context, caller: TokenCaller) -> Result<(), Problem> {
        self.authority.check(Resource::Users)?;
        self.inner.set_me_online(context, caller).await
    }

    async fn set_me_offline(&self, context: &Context, caller: TokenCaller) -> Result<(), Problem> {
        self.authority.check(Resource::Users)?;
        self.inner.set_me_offline(context, caller).await
    }

    async fn get_user(
        &self,
        context: &Context,
        caller: Option<TokenCaller>,
        id: i64,
    ) -> Result<users::types::User, Problem> {
        self.authority.check(Resource::Users)?;
        self.inner.get_user(context, caller, id).await
    }

    async fn update_user(
        &self,
        context: &Context,
        caller: TokenCaller,
        id: i64,
        body: users::types::UserUpdate,
    ) -> Result<(), Problem> {
        self.authority.check(Resource::Users)?;
        self.inner.update_user(context, caller, id, body).await
    }
}

#[async_trait]
impl TokensApi for Guarded<dyn TokensApi> {
    async fn create_token(
        &self,
        context: &Context,
        caller: BasicCaller,
    ) -> Result<tokens::types::Token, Problem> {
        self.authority.check(Resource::Tokens)?;
        self.inner.create_token(context, caller).await
    }

    async fn revoke_token(&self, context: &Context, caller: TokenCaller) -> Result<(), Problem> {
        self.authority.check(Resource::Tokens)?;
        self.inner.revoke_token(context, caller).await
    }
}

#[async_trait]
impl MessagesApi for Guarded<dyn MessagesApi> {
    async fn create_message(
        &self,
        context: &Context,
        caller: TokenCaller,
        idempotency_key: Option<Uuid>,
        body: messages::types::NewMessage,
    ) -> Result<messages::CreateMessageResponse, Problem> {
        self.authority.check(Resource::Messages)?;
        self.inner.create_message(context, caller, idempotency_key, body).await
    }

    async fn list_messages(
        &self,
        context: &Context,
        caller: Option<TokenCaller>,
        updated_since: Option<i64>,
        include: Option<messages::types::ListMessagesInclude>,
    ) -> Result<messages::types::MessageList, Problem> {
        self.authority.check(Resource::Messages)?;
        self.inner.list_messages(context, caller, updated_since, include).await
    }

    async fn get_message(
        &self,
        context: &Context,
        caller: Option<TokenCaller>,
        id: i64,
    ) -> Result<messages::types::Message, Problem> {
        self.authority.check(Resource::Messages)?;
        self.inner.get_message(context, caller, id).await
    }

    async fn update_message(
        &self,
        context: &Context,
        caller: TokenCaller,
        id: i64,
        body: messages::types::MessageUpdate,
    ) -> Result<(), Problem> {
        self.authority.check(Resource::Messages)?;
        self.inner.update_message(context, caller, id, body).await
    }
}
