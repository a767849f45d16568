//! Channels and their members: rows, their events and API models, limits, and problems.

use chrono::{DateTime, Utc};
use flack_api::{
    GENERAL_CHANNEL_ID, Problem,
    events::{ChannelMemberModel, ChannelModel, ChannelModelKind},
    messages_v2::types::{self, ChannelKind},
};
use serde::Deserialize;

/// Public channels of a stack. With the next limit it bounds the list of channels, which has no pages.
pub const PUBLIC_CHANNELS_MAX: i64 = 1_000;

/// Channels of which a user is or was a member, except `general`.
pub const CHANNELS_PER_USER_MAX: i64 = 500;

/// Members of a channel, except `general`.
pub const MEMBERS_PER_CHANNEL_MAX: i64 = 1_000;

/// Unread messages and mentions are counted up to this number, which means "or more".
pub const UNREAD_MAX: i64 = 100;

/// Messages of a channel that are read to count the unread ones, and those with mentions to count the mentions. The
/// user's own messages do not count.
pub const UNREAD_SCANNED_MAX: i64 = 1_000;

/// The names of direct channels begin with it. No other channel may have such a name.
pub const DIRECT_PREFIX: &str = "direct-";

/// A row of `channels`.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow, Deserialize)]
pub struct Channel {
    pub id: i64,
    pub name: String,
    pub created_at: DateTime<Utc>,
    // Journal rows of older versions do not have the rest.
    #[sqlx(try_from = "String")]
    #[serde(default = "public")]
    pub kind: ChannelKind,
    #[serde(default)]
    pub topic: String,
    #[serde(default)]
    pub archived_at: Option<DateTime<Utc>>,
}

fn public() -> ChannelKind {
    ChannelKind::Public
}

/// A channel as a user sees it.
#[derive(Debug, sqlx::FromRow)]
pub struct ChannelView {
    #[sqlx(flatten)]
    channel: Channel,
    version: i64,
    /// Null if the user is no member. The next four as well.
    joined_at: Option<DateTime<Utc>>,
    last_read_message_id: Option<i64>,
    unread: Option<i32>,
    mentions: Option<i32>,
    member_version: Option<i64>,
    /// Null if it is no direct channel.
    user_ids: Option<Vec<i64>>,
}

/// A row of `channel_members`.
#[derive(Debug, sqlx::FromRow, Deserialize)]
pub struct Member {
    pub channel_id: i64,
    pub user_id: i64,
    pub joined_at: DateTime<Utc>,
    pub left_at: Option<DateTime<Utc>>,
    pub last_read_message_id: i64,
    pub version: i64,
    /// In lists.
    #[sqlx(default)]
    #[serde(default)]
    pub nickname: Option<String>,
}

/// What a user may do in a channel that exists for this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Access {
    pub channel_id: i64,
    #[sqlx(try_from = "String")]
    pub kind: ChannelKind,
    pub is_member: bool,
}

impl Access {
    /// 403 for a user who can read the channel, but is no member.
    pub fn as_member(self) -> Result<Self, Problem> {
        if self.is_member { Ok(self) } else { Err(members_only(self.channel_id)) }
    }

    /// Whether nobody leaves or archives the channel.
    pub fn is_permanent(self) -> bool {
        self.channel_id == GENERAL_CHANNEL_ID || self.kind == ChannelKind::Direct
    }
}

impl From<Channel> for ChannelModel {
    fn from(channel: Channel) -> Self {
        Self {
            id: channel.id,
            name: channel.name,
            created_at: channel.created_at.timestamp(),
            kind: Some(match channel.kind {
                ChannelKind::Public => ChannelModelKind::Public,
                ChannelKind::Private => ChannelModelKind::Private,
                ChannelKind::Direct => ChannelModelKind::Direct,
            }),
            topic: Some(channel.topic),
            archived_at: channel.archived_at.map(|time| time.timestamp()),
        }
    }
}

impl From<Member> for ChannelMemberModel {
    fn from(member: Member) -> Self {
        Self {
            channel_id: member.channel_id,
            user_id: member.user_id,
            joined_at: member.joined_at.timestamp(),
            left_at: member.left_at.map(|time| time.timestamp()),
            last_read_message_id: member.last_read_message_id,
        }
    }
}

impl From<ChannelView> for types::Channel {
    fn from(view: ChannelView) -> Self {
        let ChannelView { channel, version, joined_at, last_read_message_id, unread, mentions, .. } = view;
        Self {
            id: channel.id,
            name: channel.name,
            kind: channel.kind,
            topic: channel.topic,
            created_at: channel.created_at,
            archived_at: channel.archived_at,
            version,
            member: joined_at.map(|joined_at| types::Membership {
                joined_at,
                last_read_message_id: last_read_message_id.unwrap_or_default(),
                unread: unread.unwrap_or_default(),
                mentions: mentions.unwrap_or_default(),
                version: view.member_version.unwrap_or_default(),
            }),
            user_ids: view.user_ids.unwrap_or_default(),
        }
    }
}

/// Without the read position, which only the user sees.
impl From<Member> for types::Member {
    fn from(member: Member) -> Self {
        Self {
            channel_id: member.channel_id,
            user_id: member.user_id,
            nickname: member.nickname,
            joined_at: member.joined_at,
            left_at: member.left_at,
            last_read_message_id: None,
            version: member.version,
        }
    }
}

/// Also for a channel that the caller cannot see: both have the same answer.
pub fn no_such_channel(id: i64) -> Problem {
    Problem::not_found(format!("there is no channel {id}; check its id"))
}

pub fn members_only(id: i64) -> Problem {
    Problem::forbidden(format!("only members of channel {id} can do this; join it first"))
}

/// Everybody can join a public channel again, so removing a member would have no effect.
pub fn only_oneself(id: i64) -> Problem {
    Problem::forbidden(format!("user {id} can only be removed from a private channel, by one of its members"))
}

pub fn no_such_user(id: i64) -> Problem {
    Problem::not_found(format!("there is no user {id}; check the id"))
}

pub fn name_is_missing() -> Problem {
    Problem::bad_request("`name` is missing; only a direct channel has none")
}

pub fn name_is_reserved() -> Problem {
    Problem::bad_request(format!("`name` begins with `{DIRECT_PREFIX}`, which is reserved; choose another name"))
}

pub fn people_are_missing() -> Problem {
    Problem::bad_request("`user_ids` is missing; name the other people of the direct channel")
}

pub fn nul_in_topic() -> Problem {
    Problem::bad_request("`topic` contains a NUL character (U+0000), which cannot be stored; remove it")
}

pub fn name_taken(name: &str) -> Problem {
    Problem::conflict("channel-name-taken", format!("another channel has the name {name}; choose another one"))
}

pub fn is_archived(id: i64) -> Problem {
    Problem::conflict(
        "channel-archived",
        format!("channel {id} is archived and accepts no messages; a member can use it again"),
    )
}

/// `what` nobody can do, such as `left`.
pub fn is_permanent(id: i64, what: &str) -> Problem {
    Problem::conflict("channel-is-permanent", format!("channel {id} cannot be {what}; create another channel"))
}

pub fn too_many_public_channels() -> Problem {
    Problem::conflict(
        "too-many-channels",
        format!("there are {PUBLIC_CHANNELS_MAX} public channels, which is the limit; use one of them"),
    )
}

pub fn too_many_channels_of(user_id: i64) -> Problem {
    Problem::conflict(
        "too-many-channels",
        format!("user {user_id} is or was a member of {CHANNELS_PER_USER_MAX} channels, which is the limit"),
    )
}

pub fn too_many_members(id: i64) -> Problem {
    Problem::conflict(
        "too-many-channels",
        format!("channel {id} has {MEMBERS_PER_CHANNEL_MAX} members, which is the limit; create another channel"),
    )
}
