//! The operations of `api/openapi/messages.v1.yaml`, in its order.

use std::sync::Arc;

use async_trait::async_trait;
use flack_api::{
    Context, Problem, TokenCaller,
    messages::{CreateMessageResponse, MessagesApi, types},
};
use tokio::sync::Notify;
use tracing::info;
use uuid::Uuid;

use crate::{model, render, store::Store};

/// The messages API over the part's database.
#[derive(Debug)]
pub struct Messages {
    store: Store,
    /// Wakes the preview worker of this process.
    linked: Arc<Notify>,
}

impl Messages {
    pub fn new(store: Store, linked: Arc<Notify>) -> Self {
        Self { store, linked }
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
        Ok(types::MessageList { messages: messages.into_iter().map(Into::into).collect() })
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
        self.store.update(context, caller.user_id, id, &render::message(&body.source)?).await?;
        self.linked.notify_one();
        info!(message.id = id, user.id = caller.user_id, "edited a message");
        Ok(())
    }
}
