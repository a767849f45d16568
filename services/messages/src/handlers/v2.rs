//! The operations of `api/openapi/messages.v2.yaml`, in its order.

use async_trait::async_trait;
use flack_api::{
    Context, GENERAL_CHANNEL_ID, Problem, TokenCaller,
    messages_v2::{
        CreateChannelMessageResponse, CreateChannelResponse, MessagesV2Api,
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
    },
    store::ChannelChange,
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
        self.page(GENERAL_CHANNEL_ID, before, after, limit).await
    }

    async fn get_message_by_id(
        &self,
        _context: &Context,
        caller: Option<TokenCaller>,
        id: i64,
    ) -> Result<types::Message, Problem> {
        Ok(self.find_readable(caller.as_ref(), id).await?.into())
    }

    async fn edit_message(
        &self,
        context: &Context,
        caller: TokenCaller,
        id: i64,
        body: types::MessageEdit,
    ) -> Result<types::Message, Problem> {
        self.find_readable(Some(&caller), id).await?;
        self.edit(context, caller.user_id, id, &body.source).await?;
        Ok(self.find_readable(Some(&caller), id).await?.into())
    }

    async fn delete_message(&self, context: &Context, caller: TokenCaller, id: i64) -> Result<(), Problem> {
        self.find_readable(Some(&caller), id).await?;
        self.store.delete(context, caller.user_id, id).await?;
        info!(message.id = id, user.id = caller.user_id, "deleted a message");
        Ok(())
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
        let id = if body.kind == ChannelKind::Direct {
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
            self.store.create_channel(context, user_id, body.kind, &name, &topic).await?
        };
        info!(channel.id = id, user.id = user_id, kind = %body.kind, "created a channel, or found a direct one");
        let body = self.channel(user_id, id).await?;
        Ok(CreateChannelResponse { location: format!("/api/v2/channels/{id}"), body })
    }

    async fn get_channel(&self, _context: &Context, caller: TokenCaller, id: i64) -> Result<types::Channel, Problem> {
        self.channel(caller.user_id, id).await
    }

    async fn update_channel(
        &self,
        context: &Context,
        caller: TokenCaller,
        id: i64,
        body: types::ChannelUpdate,
    ) -> Result<types::Channel, Problem> {
        let change = ChannelChange { topic: body.topic.map(checked).transpose()?, is_archived: body.archived };
        self.store.update_channel(context, caller.user_id, id, &change).await?;
        info!(channel.id = id, user.id = caller.user_id, "changed a channel");
        self.channel(caller.user_id, id).await
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
        self.store.access(caller.user_id, id).await?;
        if user_id != caller.user_id {
            return Err(channels::only_oneself(user_id));
        }
        self.store.leave_channel(context, user_id, id).await?;
        info!(channel.id = id, user.id = user_id, "left a channel");
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
        self.page(id, before, after, limit).await
    }

    async fn create_channel_message(
        &self,
        context: &Context,
        caller: TokenCaller,
        id: i64,
        idempotency_key: Option<Uuid>,
        body: types::NewMessage,
    ) -> Result<CreateChannelMessageResponse, Problem> {
        let message = self.post(context, caller.user_id, id, &body.source, idempotency_key).await?;
        let location = format!("/api/v2/messages/{}", message.id);
        Ok(CreateChannelMessageResponse { location, body: message.into() })
    }
}

/// Returns the topic, unless PostgreSQL cannot store it.
fn checked(topic: types::Topic) -> Result<String, Problem> {
    if topic.contains('\0') { Err(channels::nul_in_topic()) } else { Ok(topic.into()) }
}
