//! The one mapping from an entity, as its events carry it, to its model in version 1 of the REST API. REST handlers
//! and websocket frames use it.

use crate::{
    events::{MessageModel, UserModel},
    messages::types::{Message, MessageLinks},
    users::types::{User, UserLinks},
};

impl From<UserModel> for User {
    fn from(user: UserModel) -> Self {
        Self {
            id: user.id,
            created_at: user.created_at,
            updated_at: user.updated_at,
            last_seen_at: user.last_seen_at,
            nickname: user.nickname,
            online: user.online,
            links: UserLinks {
                self_: format!("/api/users/{}", user.id),
                messages: "/api/messages".to_owned(),
                tokens: "/api/tokens".to_owned(),
            },
        }
    }
}

/// Without the author's nickname: the message does not have it.
impl From<MessageModel> for Message {
    fn from(message: MessageModel) -> Self {
        Self {
            id: message.id,
            created_at: message.created_at,
            updated_at: message.updated_at,
            source: message.source,
            html: message.html,
            user_id: message.user_id,
            nickname: None,
            links: MessageLinks {
                self_: format!("/api/messages/{}", message.id),
                user: format!("/api/users/{}", message.user_id),
            },
        }
    }
}
