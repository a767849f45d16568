//! The operations of `api/openapi/messages.v1.yaml`, in its order.

mod files;
mod pages;
mod v2;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use flack_api::{
    Context, GENERAL_CHANNEL_ID, Problem, TokenCaller,
    messages::{CreateMessageResponse, MessagesApi, types},
};
use flack_common::quota::UserQuota;
use tokio::sync::Notify;
use tracing::info;
use uuid::Uuid;

use crate::{
    model::{self, Message, Rendered, files::FILE_BYTES_PER_10_SECONDS_MAX},
    render,
    store::{NewMessage, Store},
};

/// The messages API over the part's database.
#[derive(Debug)]
pub struct Messages {
    pub(crate) store: Store,
    /// Wakes the preview worker of this process.
    linked: Arc<Notify>,
    /// Every client receives every message. So each user may send a limited number of bytes.
    bytes: UserQuota,
    file_bytes: UserQuota,
}

impl Messages {
    /// `bytes_max` is the number of bytes that one user may send to all clients in 10 s.
    pub fn new(store: Store, linked: Arc<Notify>, bytes_max: u32) -> Self {
        let bytes = UserQuota::per_10_seconds("message-bytes", bytes_max);
        let file_bytes = UserQuota::per_10_seconds("file-bytes", FILE_BYTES_PER_10_SECONDS_MAX);
        Self { store, linked, bytes, file_bytes }
    }

    fn count_bytes(&self, context: &Context, user_id: i64, bytes: u32) -> Result<(), Problem> {
        let (rate_limit, taken) = self.bytes.take(user_id, bytes);
        // Only a refusal shows this quota: a client that is below it has nothing to do.
        taken.inspect_err(|_| context.rate_limits.report(rate_limit))
    }

    /// Renders a message of a channel. Only a message that may mention users needs the database.
    async fn render<'a>(&self, channel_id: i64, source: &'a str) -> Result<Rendered<'a>, Problem> {
        let names = render::candidates(source);
        let users = if names.is_empty() {
            BTreeMap::new()
        } else {
            self.store.users_with_nicknames(channel_id, &names).await?
        };
        render::message(source, users)
    }

    /// Posts a message to a channel.
    async fn post(
        &self,
        context: &Context,
        user_id: i64,
        new: &NewMessage<'_>,
        key: Option<Uuid>,
    ) -> Result<Message, Problem> {
        let channel_id = new.channel_id;
        let rendered = self.render(channel_id, new.source).await?;
        let mut bytes = rendered.fan_out_bytes(new.file_ids.len());
        if let Some(id) = new.thread_id {
            // Every client also receives the message with its new number of replies.
            bytes = bytes.saturating_add(self.store.find(id).await?.map_or(0, |first| first.fan_out_bytes()));
        }
        self.count_bytes(context, user_id, bytes)?;
        let message = self.store.insert(context, user_id, new, &rendered, key).await?;
        if !rendered.links.is_empty() {
            self.linked.notify_one();
        }
        info!(message.id = message.id, channel.id = channel_id, user.id = user_id, "posted a message");
        Ok(message)
    }

    /// Changes a message that the user can see.
    async fn edit(
        &self,
        context: &Context,
        user_id: i64,
        message: &Message,
        if_match: Option<i64>,
        source: &str,
    ) -> Result<(), Problem> {
        let rendered = self.render(message.channel_id, source).await?;
        self.count_bytes(context, user_id, rendered.fan_out_bytes(message.files.len()))?;
        self.store.update(context, user_id, message.id, if_match, &rendered).await?;
        self.linked.notify_one();
        info!(message.id = message.id, user.id = user_id, "edited a message");
        Ok(())
    }

    /// Returns a message of `general`. In version 1 there are no others.
    async fn find_in_general(&self, id: i64) -> Result<Message, Problem> {
        let found = self.store.find(id).await?.filter(|message| message.channel_id == GENERAL_CHANNEL_ID);
        found.ok_or_else(|| model::no_such_message(id))
    }
}

#[async_trait]
impl MessagesApi for Messages {
    async fn create_message(
        &self,
        context: &Context,
        caller: TokenCaller,
        idempotency_key: Option<Uuid>,
        body: types::NewMessage,
    ) -> Result<CreateMessageResponse, Problem> {
        let new = NewMessage { channel_id: GENERAL_CHANNEL_ID, thread_id: None, source: &body.source, file_ids: &[] };
        let message = self.post(context, caller.user_id, &new, idempotency_key).await?;
        let body = types::Message::from(message);
        Ok(CreateMessageResponse { location: body.links.self_.clone(), body })
    }

    async fn list_messages(
        &self,
        _context: &Context,
        _caller: Option<TokenCaller>,
        updated_since: Option<i64>,
        include: Option<types::ListMessagesInclude>,
    ) -> Result<types::MessageList, Problem> {
        let messages = self.store.list(updated_since, include.is_some()).await?;
        Ok(types::MessageList { messages: model::page(messages, updated_since) })
    }

    async fn get_message(
        &self,
        _context: &Context,
        _caller: Option<TokenCaller>,
        id: i64,
    ) -> Result<types::Message, Problem> {
        Ok(self.find_in_general(id).await?.into())
    }

    async fn update_message(
        &self,
        context: &Context,
        caller: TokenCaller,
        id: i64,
        body: types::MessageUpdate,
    ) -> Result<(), Problem> {
        let message = self.find_in_general(id).await?;
        self.edit(context, caller.user_id, &message, None, &body.source).await
    }
}
