//! The `updated_model` frames of an event. Each is serialised once for all connections that receive it.

use chrono::{DateTime, Utc};
use flack_api::{
    GENERAL_CHANNEL_ID,
    events::{ChannelMemberModel, ChannelModelKind, Event, MonolithEvent, Operation},
    frames_v2::ServerFrameClass as ModelClass,
    messages::types::Message,
    messages_v2::types as v2,
    users::types::User,
    users_v2::types::Profile,
};
use serde::Serialize;

use crate::{audience::Audience, cursor::Cursor, limits::MEMBERSHIP_CHANGE_SECONDS_MAX};

/// One version of one entity. The same change has the same value in every stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntityVersion {
    pub class: ModelClass,
    /// The id of the entity. A member has the ids of channel and user; the second one of other entities is 0.
    pub id: (i64, i64),
    pub version: i64,
}

/// A change that clients receive as one frame.
#[derive(Debug, Clone)]
pub struct Update {
    pub version: EntityVersion,
    /// A client receives the first one whose audience it belongs to, or none.
    pub frames: Vec<Frame>,
}

/// A frame for some clients.
#[derive(Debug, Clone)]
pub struct Frame {
    pub audience: Audience,
    /// The frame's text before the cursor.
    pub prefix: String,
}

/// The model of a user in version 2.
#[derive(Serialize)]
struct UserWithProfile {
    #[serde(flatten)]
    user: User,
    profile: Profile,
}

/// Returns the text of a frame: the prefix, the cursor, and the closing quote and brace.
pub fn with_cursor(prefix: &str, cursor: &Cursor) -> String {
    format!("{prefix}{cursor}\"}}")
}

/// Returns whether clients receive an event of this kind. The protocol has no frame for a deletion: a deleted message
/// and a membership that has ended are rows that stay.
pub fn is_for_clients(kind: &str, operation: Operation) -> bool {
    let kinds = ["user_changed", "message_changed", "channel_changed", "channel_member_changed"];
    kinds.contains(&kind) && operation != Operation::Delete
}

/// Returns what clients receive for this event; `None` if nobody receives anything.
pub fn update_of(event: Event<MonolithEvent>) -> serde_json::Result<Option<Update>> {
    if event.operation == Operation::Delete {
        return Ok(None);
    }
    let (class, id, frames) = match event.union {
        MonolithEvent::UserChanged(user) => {
            let class = ModelClass::User;
            let (id, has_profile) = ((user.id, 0), user.has_profile());
            let (profile, user) = (Profile::from((user.clone(), event.version)), User::from(user));
            let frames = if has_profile {
                let version_1 = frame(Audience::Version1, class, &user)?;
                vec![version_1, frame(Audience::Version2, class, &UserWithProfile { user, profile })?]
            } else {
                vec![frame(Audience::Everyone, class, &user)?]
            };
            (class, id, frames)
        }
        MonolithEvent::MessageChanged(message) => {
            let (class, id, channel_id) = (ModelClass::Message, message.id, message.channel_id);
            let mut frames = Vec::new();
            let mut audience = Audience::Members(channel_id);
            if channel_id == GENERAL_CHANNEL_ID {
                // Reactions, replies and pins do not exist in version 1: it would receive the same message again.
                if message.annotated_version != Some(event.version) {
                    frames.push(frame(Audience::Version1, class, &Message::from(message.clone()))?);
                }
                audience = Audience::Version2;
            }
            frames.push(frame(audience, class, &v2::Message::from((message, event.version)))?);
            (class, (id, 0), frames)
        }
        MonolithEvent::ChannelChanged(channel) => {
            let (class, id) = (ModelClass::Channel, channel.id);
            let audience = match channel.kind {
                None | Some(ChannelModelKind::Public) => Audience::SignedIn,
                Some(ChannelModelKind::Private | ChannelModelKind::Direct) => Audience::Members(id),
            };
            (class, (id, 0), vec![frame(audience, class, &v2::Channel::from((channel, event.version)))?])
        }
        MonolithEvent::ChannelMemberChanged(member) => {
            let class = ModelClass::Member;
            let (channel_id, user_id) = (member.channel_id, member.user_id);
            let is_for_members = is_for_members(&member, event.time);
            let mut member = v2::Member::from((member, event.version));
            let mut frames = vec![frame(Audience::User(user_id), class, &member)?];
            if is_for_members {
                member.last_read_message_id = None;
                frames.push(frame(Audience::Members(channel_id), class, &member)?);
            }
            (class, (channel_id, user_id), frames)
        }
        _ => return Ok(None),
    };
    Ok(Some(Update { version: EntityVersion { class, id, version: event.version }, frames }))
}

/// Returns whether the other members receive a change of a membership: the user has just joined or left. Otherwise the
/// read position has changed; if all members received that, each message would cause as many frames as the square of
/// the number of members. Nobody joins or leaves `general`: its rows hold read positions.
fn is_for_members(member: &ChannelMemberModel, changed_at: DateTime<Utc>) -> bool {
    let joined_or_left_at = member.left_at.unwrap_or(member.joined_at);
    member.channel_id != GENERAL_CHANNEL_ID
        && changed_at.timestamp() - joined_or_left_at <= MEMBERSHIP_CHANGE_SECONDS_MAX
}

/// Makes a frame. It is formatted as text, not serialised as a whole: so `type` comes first, and the cursor comes last
/// and can be replaced.
fn frame(audience: Audience, class: ModelClass, model: &impl Serialize) -> serde_json::Result<Frame> {
    let model = serde_json::to_string(model)?;
    Ok(Frame { audience, prefix: format!(r#"{{"type":"updated_model","class":"{class}","model":{model},"cursor":""#) })
}

#[cfg(test)]
mod tests;
