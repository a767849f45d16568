//! The one mapping from an entity, as its events carry it, to its models in the REST API. REST handlers and websocket
//! frames use it.

use chrono::{DateTime, Utc};

use crate::{
    events::{
        ChannelMemberModel, ChannelModel, ChannelModelKind, FileModel, MessageModel, PreviewModel, ReactionModel,
        UserModel,
    },
    messages::types::{Message, MessageLinks},
    messages_v2::types as v2,
    page_cursor,
    users::types::{User, UserLinks},
    users_v2::types::Profile,
};

/// The channel `general`: everybody is its member, and it is the only channel of version 1.
pub const GENERAL_CHANNEL_ID: i64 = 1;

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

impl UserModel {
    /// Whether the profile is not empty.
    pub fn has_profile(&self) -> bool {
        self.display_name.is_some() || self.about.is_some() || self.hue.is_some()
    }
}

/// The version is that of the user.
impl From<(UserModel, i64)> for Profile {
    fn from((user, version): (UserModel, i64)) -> Self {
        Self {
            user_id: user.id,
            display_name: user.display_name.unwrap_or_default(),
            about: user.about.unwrap_or_default(),
            hue: user.hue,
            version,
        }
    }
}

/// Version 1, without the author's nickname: the message does not have it. Version 1 has no files: of a message without
/// text it says how many there are.
impl From<MessageModel> for Message {
    fn from(mut message: MessageModel) -> Self {
        let files = message.files.len();
        if files > 0 && message.source.is_empty() {
            message.source = format!("({files} {})", if files == 1 { "file" } else { "files" });
            message.html = format!("<p>{}</p>\n", message.source);
        }
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

/// Version 2, without the author's nickname, and with times of whole seconds: the event has no others. The version of
/// the message is the one of its event. The HTML ends where the quotations of linked pages begin.
impl From<(MessageModel, i64)> for v2::Message {
    fn from((mut message, version): (MessageModel, i64)) -> Self {
        if let Some(start) = message.previews_start.and_then(|start| usize::try_from(start).ok())
            && message.html.is_char_boundary(start)
        {
            message.html.truncate(start);
        }
        let (user_ids, everyone) = (message.mentioned_user_ids, message.mentions_everyone.unwrap_or_default());
        let has_mentions = everyone || !user_ids.is_empty();
        Self {
            id: message.id,
            version,
            cursor: page_cursor(message.id),
            created_at: time(message.created_at),
            updated_at: time(message.updated_at),
            edited_at: message.edited_at.map(time),
            deleted_at: message.deleted_at.map(time),
            channel_id: message.channel_id,
            user_id: message.user_id,
            nickname: None,
            source: message.source,
            html: message.html,
            previews: message.previews.into_iter().map(Into::into).collect(),
            mentions: has_mentions.then_some(v2::Mentions { user_ids, everyone }),
            reactions: message.reactions.into_iter().map(Into::into).collect(),
            thread_id: message.thread_id,
            reply_count: message.reply_count,
            last_reply_at: message.reply_count.and(message.last_reply_at).map(time),
            pinned_at: message.pinned_at.map(time),
            files: message.files.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<PreviewModel> for v2::LinkPreview {
    fn from(PreviewModel { url, title, description }: PreviewModel) -> Self {
        Self { url, title, description }
    }
}

impl From<FileModel> for v2::File {
    fn from(FileModel { id, name, type_, bytes, width, height }: FileModel) -> Self {
        Self { id, name, type_, bytes, width, height }
    }
}

impl From<ReactionModel> for v2::Reaction {
    fn from(ReactionModel { emoji, user_ids }: ReactionModel) -> Self {
        Self { emoji, count: i32::try_from(user_ids.len()).unwrap_or(i32::MAX), user_ids }
    }
}

/// Version 2, without what depends on the caller. The version of the channel is the one of its event.
impl From<(ChannelModel, i64)> for v2::Channel {
    fn from((channel, version): (ChannelModel, i64)) -> Self {
        Self {
            id: channel.id,
            name: channel.name,
            kind: match channel.kind {
                None | Some(ChannelModelKind::Public) => v2::ChannelKind::Public,
                Some(ChannelModelKind::Private) => v2::ChannelKind::Private,
                Some(ChannelModelKind::Direct) => v2::ChannelKind::Direct,
            },
            topic: channel.topic.unwrap_or_default(),
            created_at: time(channel.created_at),
            archived_at: channel.archived_at.map(time),
            version,
            member: None,
            user_ids: Vec::new(),
        }
    }
}

/// Version 2, without a nickname, and with the read position, which is only for the user. The version of the membership
/// is the one of its event.
impl From<(ChannelMemberModel, i64)> for v2::Member {
    fn from((member, version): (ChannelMemberModel, i64)) -> Self {
        Self {
            channel_id: member.channel_id,
            user_id: member.user_id,
            nickname: None,
            joined_at: time(member.joined_at),
            left_at: member.left_at.map(time),
            last_read_message_id: Some(member.last_read_message_id),
            version,
        }
    }
}

/// Returns the time of Unix seconds; the beginning of 1970 for seconds that no database row can have.
fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap_or_default()
}
