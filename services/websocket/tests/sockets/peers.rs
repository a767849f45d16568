//! Users, messages and tokens, as far as a connection asks them.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use flack_api::{
    BasicCaller, Context, Problem, TokenCaller, VerifyToken,
    messages::{self, CreateMessageResponse, MessagesApi},
    users::{self, CreateUserResponse, UsersApi},
};
use flack_websocket::Seams;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::broadcast;
use uuid::Uuid;

/// What the peers were asked, and what they know.
pub struct Peers {
    pub online: Mutex<Vec<i64>>,
    /// By Idempotency-Key: who said what. The message's id is its place, from 1.
    pub said: Mutex<BTreeMap<Uuid, (i64, String)>>,
    pub revoked: Mutex<HashSet<String>>,
    pub away: Mutex<bool>,
    pub revocations: broadcast::Sender<Uuid>,
}

/// The id of `token-<user id>`.
pub fn token_id(user_id: i64) -> Uuid {
    Uuid::from_u64_pair(0, user_id.unsigned_abs())
}

impl Default for Peers {
    fn default() -> Self {
        Self {
            online: Mutex::default(),
            said: Mutex::default(),
            revoked: Mutex::default(),
            away: Mutex::default(),
            revocations: broadcast::Sender::new(4),
        }
    }
}

impl Peers {
    pub fn seams(self: &Arc<Self>) -> Seams {
        Seams {
            users: self.clone(),
            messages: self.clone(),
            verify: self.clone(),
            revocations: self.revocations.clone(),
        }
    }

    pub fn revoke(&self, token: &str) {
        self.revoked.lock().unwrap().insert(token.to_owned());
    }

    /// As the verifier does it: whoever listens hears of it.
    pub fn revoke_and_tell(&self, user_id: i64) {
        self.revoke(&format!("token-{user_id}"));
        // Nobody listens: nobody need be told.
        let _ = self.revocations.send(token_id(user_id));
    }

    fn is_there(&self, part: &str) -> Result<(), Problem> {
        if *self.away.lock().unwrap() { Err(Problem::unavailable(part)) } else { Ok(()) }
    }
}

#[async_trait]
impl VerifyToken for Peers {
    /// `token-7` is user 7's.
    async fn verify_token(&self, token: &SecretString) -> Result<TokenCaller, Problem> {
        let text = token.expose_secret();
        let user_id = text.strip_prefix("token-").and_then(|id| id.parse().ok());
        match user_id {
            Some(user_id) if !self.revoked.lock().unwrap().contains(text) => Ok(TokenCaller {
                user_id,
                token_id: token_id(user_id),
                expires_at: i64::MAX,
                token: token.clone(),
            }),
            _ => Err(Problem::unauthorized("this token is not good")),
        }
    }
}

#[async_trait]
impl MessagesApi for Peers {
    async fn create_message(
        &self,
        _: &Context,
        caller: TokenCaller,
        idempotency_key: Option<Uuid>,
        body: messages::types::NewMessage,
    ) -> Result<CreateMessageResponse, Problem> {
        self.is_there("messages")?;
        let key = idempotency_key.expect("a connection always has one");
        let mut said = self.said.lock().unwrap();
        said.entry(key).or_insert((caller.user_id, body.source.to_string()));
        let id = i64::try_from(said.keys().position(|known| *known == key).unwrap()).unwrap() + 1;
        let (user_id, source) = said[&key].clone();
        let links = messages::types::MessageLinks { self_: String::new(), user: String::new() };
        Ok(CreateMessageResponse {
            location: format!("/api/messages/{id}"),
            body: messages::types::Message {
                id,
                created_at: 1,
                updated_at: 1,
                html: source.clone(),
                source,
                user_id,
                nickname: None,
                links,
            },
        })
    }

    async fn list_messages(
        &self,
        _: &Context,
        _: Option<TokenCaller>,
        _: Option<i64>,
        _: Option<messages::types::ListMessagesInclude>,
    ) -> Result<messages::types::MessageList, Problem> {
        Err(Problem::internal())
    }

    async fn get_message(
        &self,
        _: &Context,
        _: Option<TokenCaller>,
        _: i64,
    ) -> Result<messages::types::Message, Problem> {
        Err(Problem::internal())
    }

    async fn update_message(
        &self,
        _: &Context,
        _: TokenCaller,
        _: i64,
        _: messages::types::MessageUpdate,
    ) -> Result<(), Problem> {
        Err(Problem::internal())
    }
}

#[async_trait]
impl UsersApi for Peers {
    async fn set_me_online(&self, _: &Context, caller: TokenCaller) -> Result<(), Problem> {
        self.is_there("users")?;
        self.online.lock().unwrap().push(caller.user_id);
        Ok(())
    }

    async fn list_users(
        &self,
        _: &Context,
        _: Option<TokenCaller>,
        _: Option<users::types::ListUsersOnline>,
        _: Option<i64>,
    ) -> Result<users::types::UserList, Problem> {
        Err(Problem::internal())
    }

    async fn create_user(
        &self,
        _: &Context,
        _: users::types::NewUser,
    ) -> Result<CreateUserResponse, Problem> {
        Err(Problem::internal())
    }

    async fn get_me(&self, _: &Context, _: BasicCaller) -> Result<users::types::User, Problem> {
        Err(Problem::internal())
    }

    async fn set_me_offline(&self, _: &Context, _: TokenCaller) -> Result<(), Problem> {
        Err(Problem::internal())
    }

    async fn get_user(
        &self,
        _: &Context,
        _: Option<TokenCaller>,
        _: i64,
    ) -> Result<users::types::User, Problem> {
        Err(Problem::internal())
    }

    async fn update_user(
        &self,
        _: &Context,
        _: TokenCaller,
        _: i64,
        _: users::types::UserUpdate,
    ) -> Result<(), Problem> {
        Err(Problem::internal())
    }
}
