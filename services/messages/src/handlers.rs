//! The operations of `api/openapi/messages.v1.yaml`, in its order.

use std::sync::Arc;

use async_trait::async_trait;
use flack_api::{
    Context, Problem, TokenCaller,
    messages::{CreateMessageResponse, MessagesApi, types},
};
use flack_common::quota::UserQuota;
use tokio::sync::Notify;
use tracing::info;
use uuid::Uuid;

use crate::{
    model::{self, Rendered},
    render,
    store::Store,
};

/// The messages API over the part's database.
#[derive(Debug)]
pub struct Messages {
    store: Store,
    /// Wakes the preview worker of this process.
    linked: Arc<Notify>,
    /// Every client receives every message. So each user may send a limited number of bytes.
    bytes: UserQuota,
}

impl Messages {
    /// `bytes_max` is the number of bytes that one user may send to all clients in 10 s.
    pub fn new(store: Store, linked: Arc<Notify>, bytes_max: u32) -> Self {
        Self { store, linked, bytes: UserQuota::per_10_seconds("message-bytes", bytes_max) }
    }

    fn count_bytes(&self, context: &Context, user_id: i64, rendered: &Rendered<'_>) -> Result<(), Problem> {
        let (rate_limit, taken) = self.bytes.take(user_id, rendered.fan_out_bytes());
        // Only a refusal shows this quota: a client that is below it has nothing to do.
        taken.inspect_err(|_| context.rate_limits.report(rate_limit))
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
        let rendered = render::message(&body.source)?;
        self.count_bytes(context, caller.user_id, &rendered)?;
        let message = self.store.insert(context, caller.user_id, &rendered, idempotency_key).await?;
        if !rendered.links.is_empty() {
            self.linked.notify_one();
        }
        info!(message.id = message.id, user.id = caller.user_id, "posted a message");
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
        self.store.find(id).await?.map(Into::into).ok_or_else(|| model::no_such_message(id))
    }

    async fn update_message(
        &self,
        context: &Context,
        caller: TokenCaller,
        id: i64,
        body: types::MessageUpdate,
    ) -> Result<(), Problem> {
        let rendered = render::message(&body.source)?;
        self.count_bytes(context, caller.user_id, &rendered)?;
        self.store.update(context, caller.user_id, id, &rendered).await?;
        self.linked.notify_one();
        info!(message.id = id, user.id = caller.user_id, "edited a message");
        Ok(())
    }
}
