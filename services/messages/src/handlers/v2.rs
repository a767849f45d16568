//! The operations of `api/openapi/messages.v2.yaml`, in its order.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use axum::body::Bytes;
use flack_api::{
    Context, GENERAL_CHANNEL_ID, Problem, TokenCaller,
    messages_v2::{
        CreateChannelMessageResponse, CreateChannelResponse, EditMessageResponse, GetChannelResponse, GetFileResponse,
        GetMessageByIdResponse, MessagesV2Api, UpdateChannelResponse,
        types::{self, ChannelKind},
    },
};
use tracing::info;
use uuid::Uuid;

use super::Messages;
use crate::{
    model::{
        self, Message,
        channels::{self, DIRECT_PREFIX},
        files::{self, FILES_PER_MESSAGE_MAX},
        reactions,
    },
    render,
    store::{ChannelChange, List, NewMessage},
};

impl Messages {
    /// Returns a message of a channel that the caller can read.
    async fn find_readable(&self, caller: Option<&TokenCaller>, id: i64) -> Result<Message, Problem> {
        let message = self.store.find(id).await?.ok_or_else(|| model::no_such_message(id))?;
        if message.channel_id == GENERAL_CHANNEL_ID {
            return Ok(message);
        }
        let Some(caller) = caller else { return Err(model::no_such_message(id)) };
        match self.store.access(caller.user_id, message.channel_id).await.map_err(Problem::from) {
            Ok(_) => Ok(message),
            // Not the text of the channel: whether there is a message is not known either.
            Err(problem) if problem.status == 404 => Err(model::no_such_message(id)),
            Err(problem) => Err(problem),
        }
    }

    /// Returns a message of a channel of which the caller is a member.
    async fn find_as_member(&self, caller: &TokenCaller, id: i64) -> Result<Message, Problem> {
        let message = self.find_readable(Some(caller), id).await?;
        self.store.access(caller.user_id, message.channel_id).await?.as_member()?;
        Ok(message)
    }

    async fn channel(&self, user_id: i64, id: i64) -> Result<types::Channel, Problem> {
        Ok(self.store.find_channel(user_id, id).await?.ok_or_else(|| channels::no_such_channel(id))?.into())
    }
}

#[async_trait]
impl MessagesV2Api for Messages {
    async fn list_messages_page(
        &self,
        _context: &Context,
        _caller: Option<TokenCaller>,
        before: Option<types::PageCursor>,
        after: Option<types::PageCursor>,
        limit: Option<i32>,
    ) -> Result<types::MessagesPage, Problem> {
        self.page(List::Channel(GENERAL_CHANNEL_ID), before, after, limit).await
    }

    async fn preview_message(
        &self,
        _context: &Context,
        _caller: TokenCaller,
        body: types::MessageEdit,
    ) -> Result<types::MessagePreview, Problem> {
        Ok(types::MessagePreview { html: render::message(&body.source, BTreeMap::new())?.html })
    }

    async fn get_message_by_id(
        &self,
        _context: &Context,
        caller: Option<TokenCaller>,
        id: i64,
    ) -> Result<GetMessageByIdResponse, Problem> {
        let message = self.find_readable(caller.as_ref(), id).await?;
        Ok(GetMessageByIdResponse { e_tag: Some(entity_tag(message.version)), body: message.into() })
    }

    async fn edit_message(
        &self,
        context: &Context,
        caller: TokenCaller,
        id: i64,
        if_match: Option<types::EntityTag>,
        body: types::MessageEdit,
    ) -> Result<EditMessageResponse, Problem> {
        let message = self.find_readable(Some(&caller), id).await?;
        self.edit(context, caller.user_id, &message, version_of(if_match)?, &body.source).await?;
        let message = self.find_readable(Some(&caller), id).await?;
        Ok(EditMessageResponse { e_tag: Some(entity_tag(message.version)), body: message.into() })
    }

    async fn delete_message(
        &self,
        context: &Context,
        caller: TokenCaller,
        id: i64,
        if_match: Option<types::EntityTag>,
    ) -> Result<(), Problem> {
        self.find_readable(Some(&caller), id).await?;
        self.store.delete(context, caller.user_id, id, version_of(if_match)?).await?;
        info!(message.id = id, user.id = caller.user_id, "deleted a message");
        Ok(())
    }

    async fn list_replies(
        &self,
        _context: &Context,
        caller: Option<TokenCaller>,
        id: i64,
        before: Option<types::PageCursor>,
        after: Option<types::PageCursor>,
        limit: Option<i32>,
    ) -> Result<types::MessagesPage, Problem> {
        self.find_readable(caller.as_ref(), id).await?;
        self.page(List::Thread(id), before, after, limit).await
    }

    async fn add_reaction(
        &self,
        context: &Context,
        caller: TokenCaller,
        id: i64,
        emoji: types::Emoji,
    ) -> Result<(), Problem> {
        reactions::check_emoji(&emoji)?;
        let message = self.find_as_member(&caller, id).await?;
        self.count_bytes(context, caller.user_id, message.fan_out_bytes())?;
        let add = |reactions: &mut Vec<_>| reactions::add(reactions, caller.user_id, &emoji);
        Ok(self.store.change_reactions(context, id, add).await?)
    }

    async fn remove_reaction(
        &self,
        context: &Context,
        caller: TokenCaller,
        id: i64,
        emoji: types::Emoji,
    ) -> Result<(), Problem> {
        reactions::check_emoji(&emoji)?;
        let message = self.find_as_member(&caller, id).await?;
        if message.deleted_at.is_some() {
            return Ok(());
        }
        self.count_bytes(context, caller.user_id, message.fan_out_bytes())?;
        let remove = |reactions: &mut Vec<_>| Ok(reactions::remove(reactions, caller.user_id, &emoji));
        Ok(self.store.change_reactions(context, id, remove).await?)
    }

    async fn pin_message(&self, context: &Context, caller: TokenCaller, id: i64) -> Result<(), Problem> {
        let message = self.find_as_member(&caller, id).await?;
        self.count_bytes(context, caller.user_id, message.fan_out_bytes())?;
        self.store.pin(context, &message).await?;
        info!(message.id = id, user.id = caller.user_id, "pinned a message");
        Ok(())
    }

    async fn unpin_message(&self, context: &Context, caller: TokenCaller, id: i64) -> Result<(), Problem> {
        let message = self.find_as_member(&caller, id).await?;
        self.count_bytes(context, caller.user_id, message.fan_out_bytes())?;
        self.store.unpin(context, id).await?;
        info!(message.id = id, user.id = caller.user_id, "unpinned a message");
        Ok(())
    }

    async fn get_file(
        &self,
        _context: &Context,
        caller: Option<TokenCaller>,
        id: i64,
        file_id: i64,
    ) -> Result<GetFileResponse, Problem> {
        self.find_readable(caller.as_ref(), id).await?;
        self.file(id, file_id).await
    }

    async fn list_channels(
        &self,
        _context: &Context,
        caller: TokenCaller,
        include: Option<types::ListChannelsInclude>,
    ) -> Result<types::ChannelList, Problem> {
        let channels = self.store.list_channels(caller.user_id).await?.into_iter().map(Into::into).collect();
        let left = if include.is_some() { self.store.left_channels(caller.user_id).await? } else { Vec::new() };
        let left = left.into_iter().map(|(channel_id, version)| types::LeftChannel { channel_id, version });
        Ok(types::ChannelList { channels, left: left.collect() })
    }

    async fn create_channel(
        &self,
        context: &Context,
        caller: TokenCaller,
        body: types::NewChannel,
    ) -> Result<CreateChannelResponse, Problem> {
        let user_id = caller.user_id;
        let (id, is_new) = if body.kind == ChannelKind::Direct {
            let mut people = body.user_ids;
            if people.is_empty() {
                return Err(channels::people_are_missing());
            }
            people.push(user_id);
            people.sort_unstable();
            people.dedup();
            self.store.find_or_create_direct(context, user_id, &people).await?
        } else {
            let name = body.name.ok_or_else(channels::name_is_missing)?;
            if name.starts_with(DIRECT_PREFIX) {
                return Err(channels::name_is_reserved());
            }
            let topic = body.topic.map(checked).transpose()?.unwrap_or_default();
            (self.store.create_channel(context, user_id, body.kind, &name, &topic).await?, true)
        };
        info!(channel.id = id, user.id = user_id, kind = %body.kind, is_new, "created or found a channel");
        let body = self.channel(user_id, id).await?;
        Ok(CreateChannelResponse { is_new, location: format!("/api/v2/channels/{id}"), body })
    }

    async fn get_channel(
        &self,
        _context: &Context,
        caller: TokenCaller,
        id: i64,
    ) -> Result<GetChannelResponse, Problem> {
        let body = self.channel(caller.user_id, id).await?;
        Ok(GetChannelResponse { e_tag: Some(entity_tag(body.version)), body })
    }

    async fn update_channel(
        &self,
        context: &Context,
        caller: TokenCaller,
        id: i64,
        if_match: Option<types::EntityTag>,
        body: types::ChannelUpdate,
    ) -> Result<UpdateChannelResponse, Problem> {
        let change = ChannelChange { topic: body.topic.map(checked).transpose()?, is_archived: body.archived };
        self.store.update_channel(context, caller.user_id, id, version_of(if_match)?, &change).await?;
        info!(channel.id = id, user.id = caller.user_id, "changed a channel");
        let body = self.channel(caller.user_id, id).await?;
        Ok(UpdateChannelResponse { e_tag: Some(entity_tag(body.version)), body })
    }

    async fn list_members(
        &self,
        _context: &Context,
        caller: TokenCaller,
        id: i64,
    ) -> Result<types::MemberList, Problem> {
        self.store.access(caller.user_id, id).await?;
        if id == GENERAL_CHANNEL_ID {
            return Ok(types::MemberList { everyone: true, members: Vec::new() });
        }
        let members = self.store.list_members(id).await?.into_iter().map(Into::into).collect();
        Ok(types::MemberList { everyone: false, members })
    }

    async fn add_member(&self, context: &Context, caller: TokenCaller, id: i64, user_id: i64) -> Result<(), Problem> {
        self.store.add_member(context, caller.user_id, id, user_id).await?;
        info!(channel.id = id, user.id = caller.user_id, member.id = user_id, "added a member");
        Ok(())
    }

    async fn leave_channel(
        &self,
        context: &Context,
        caller: TokenCaller,
        id: i64,
        user_id: i64,
    ) -> Result<(), Problem> {
        self.store.remove_member(context, caller.user_id, id, user_id).await?;
        info!(channel.id = id, user.id = caller.user_id, member.id = user_id, "removed a member");
        Ok(())
    }

    async fn set_read_position(
        &self,
        context: &Context,
        caller: TokenCaller,
        id: i64,
        body: types::ReadPosition,
    ) -> Result<(), Problem> {
        Ok(self.store.set_read_position(context, caller.user_id, id, body.message_id).await?)
    }

    async fn list_channel_messages(
        &self,
        _context: &Context,
        caller: TokenCaller,
        id: i64,
        before: Option<types::PageCursor>,
        after: Option<types::PageCursor>,
        limit: Option<i32>,
    ) -> Result<types::MessagesPage, Problem> {
        self.store.access(caller.user_id, id).await?;
        self.page(List::Channel(id), before, after, limit).await
    }

    async fn create_channel_message(
        &self,
        context: &Context,
        caller: TokenCaller,
        id: i64,
        idempotency_key: Option<Uuid>,
        body: types::NewMessage,
    ) -> Result<CreateChannelMessageResponse, Problem> {
        // A call from the websocket part of the same process does not pass the router's checks.
        let different: BTreeSet<_> = body.file_ids.iter().collect();
        if body.file_ids.len() > FILES_PER_MESSAGE_MAX || different.len() < body.file_ids.len() {
            return Err(files::too_many_in_message());
        }
        if body.source.is_none() && body.file_ids.is_empty() {
            return Err(files::source_is_missing());
        }
        let source = body.source.as_deref().map_or("", String::as_str);
        let new = NewMessage { channel_id: id, thread_id: body.thread_id, source, file_ids: &body.file_ids };
        let message = self.post(context, caller.user_id, &new, idempotency_key).await?;
        let location = format!("/api/v2/messages/{}", message.id);
        Ok(CreateChannelMessageResponse { location, body: message.into() })
    }

    async fn create_file(
        &self,
        context: &Context,
        caller: TokenCaller,
        id: i64,
        name: types::FileName,
        idempotency_key: Option<Uuid>,
        body: Bytes,
    ) -> Result<types::File, Problem> {
        self.store.access(caller.user_id, id).await?.as_member()?;
        self.store_file(context, caller.user_id, id, &name, idempotency_key, &body).await
    }

    async fn list_pins(&self, _context: &Context, caller: TokenCaller, id: i64) -> Result<types::PinList, Problem> {
        self.store.access(caller.user_id, id).await?;
        Ok(types::PinList { messages: self.store.pinned(id).await?.into_iter().map(Into::into).collect() })
    }
}

/// Returns the header `ETag` of a version.
fn entity_tag(version: i64) -> String {
    format!("\"{version}\"")
}

/// Returns the version that the header `If-Match` names.
fn version_of(if_match: Option<types::EntityTag>) -> Result<Option<i64>, Problem> {
    let version = |tag: types::EntityTag| tag.trim_matches('"').parse::<i64>();
    if_match.map(version).transpose().map_err(|_| Problem::bad_request("`If-Match` is no `ETag` of a response"))
}

/// Returns the topic, unless PostgreSQL cannot store it.
fn checked(topic: types::Topic) -> Result<String, Problem> {
    if topic.contains('\0') { Err(channels::nul_in_topic()) } else { Ok(topic.into()) }
}
