//! Mocks of users, messages and the token verifier.

mod messages_v2;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use flack_api::{
    BasicCaller, Context, Problem, TokenCaller, VerifyToken,
    messages::{self, CreateMessageResponse, MessagesApi},
    users::{self, CreateUserResponse, UsersApi},
};
use flack_websocket::Peers;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::broadcast;
use uuid::Uuid;

/// The id of a channel, the version of the membership, and whether the user is a member.
pub type Membership = (i64, i64, bool);

/// Channel, thread, user and source of a message.
type PostedIn = (i64, Option<i64>, i64, String);

/// The state of the mocks.
pub struct MockPeers {
    /// The calls of `set_me_online`.
    pub online: Mutex<Vec<i64>>,
    /// By Idempotency-Key: user and source of a message. Its id is its index here, from 1.
    pub posted: Mutex<BTreeMap<Uuid, (i64, String)>>,
    /// The lists of channels of each user.
    pub memberships: Mutex<HashMap<i64, Vec<Membership>>>,
    /// Messages that were posted by version 2.
    pub posted_in: Mutex<Vec<PostedIn>>,
    pub revoked: Mutex<HashSet<String>>,
    pub are_unavailable: Mutex<bool>,
    pub revocations: broadcast::Sender<Uuid>,
}

/// The id of `token-<user id>`.
pub fn token_id(user_id: i64) -> Uuid {
    Uuid::from_u64_pair(0, user_id.unsigned_abs())
}

impl Default for MockPeers {
    fn default() -> Self {
        Self {
            online: Mutex::default(),
            posted: Mutex::default(),
            memberships: Mutex::default(),
            posted_in: Mutex::default(),
            revoked: Mutex::default(),
            are_unavailable: Mutex::default(),
            revocations: broadcast::Sender::new(4),
        }
    }
}

impl MockPeers {
    pub fn as_peers(self: &Arc<Self>) -> Peers {
        Peers {
            users: self.clone(),
            messages: self.clone(),
            messages_v2: self.clone(),
            verify: self.clone(),
            revocations: self.revocations.clone(),
        }
    }

    pub fn revoke(&self, token: &str) {
        self.revoked.lock().unwrap().insert(token.to_owned());
    }

    /// Revokes a token, and reports it as the verifier does.
    pub fn revoke_and_report(&self, user_id: i64) {
        self.revoke(&format!("token-{user_id}"));
        // It fails while there is no receiver.
        let _ = self.revocations.send(token_id(user_id));
    }

    fn check_available(&self, part: &str) -> Result<(), Problem> {
        if *self.are_unavailable.lock().unwrap() { Err(Problem::unavailable(part)) } else { Ok(()) }
    }
}

#[async_trait]
impl VerifyToken for MockPeers {
    /// `token-7` is a token of user 7.
    async fn verify_token(&self, token: &SecretString) -> Result<TokenCaller, Problem> {
        let text = token.expose_secret();
        let user_id = text.strip_prefix("token-").and_then(|id| id.parse().ok());
        match user_id {
            Some(user_id) if !self.revoked.lock().unwrap().contains(text) => {
                let (token_id, token) = (token_id(user_id), token.clone());
                Ok(TokenCaller { user_id, token_id, issued_at: 0, expires_at: i64::MAX, token })
            }
            _ => Err(Problem::unauthorized("this token is not valid")),
        }
    }
}

#[async_trait]
impl MessagesApi for MockPeers {
    async fn create_message(
        &self,
        _: &Context,
        caller: TokenCaller,
        idempotency_key: Option<Uuid>,
        body: messages::types::NewMessage,
    ) -> Result<CreateMessageResponse, Problem> {
        self.check_available("messages")?;
        let key = idempotency_key.expect("a connection always has one");
        let mut posted = self.posted.lock().unwrap();
        posted.entry(key).or_insert((caller.user_id, body.source.to_string()));
        let id = i64::try_from(posted.keys().position(|known| *known == key).unwrap()).unwrap() + 1;
        let (user_id, source) = posted[&key].clone();
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
impl UsersApi for MockPeers {
    async fn set_me_online(&self, _: &Context, caller: TokenCaller) -> Result<(), Problem> {
        self.check_available("users")?;
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

    async fn create_user(&self, _: &Context, _: users::types::NewUser) -> Result<CreateUserResponse, Problem> {
        Err(Problem::internal())
    }

    async fn get_me(&self, _: &Context, _: BasicCaller) -> Result<users::types::User, Problem> {
        Err(Problem::internal())
    }

    async fn set_me_offline(&self, _: &Context, _: TokenCaller) -> Result<(), Problem> {
        Err(Problem::internal())
    }

    async fn get_user(&self, _: &Context, _: Option<TokenCaller>, _: i64) -> Result<users::types::User, Problem> {
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
