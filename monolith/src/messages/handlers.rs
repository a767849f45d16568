//! The operations of `api/openapi/messages.v1.yaml`, in its order.

use std::sync::Arc;

use async_trait::async_trait;
use flack_api::{
    Context, Problem, TokenCaller,
    messages::{CreateMessageResponse, MessagesApi, types},
};
use flack_messages::{
    model,
    store::{Inserted, Store as SharedStore},
};
use tokio::sync::Notify;
use tracing::info;
use uuid::Uuid;

use super::store::Store;

/// The messages API over the monolith's database.
#[derive(Debug)]
pub struct Messages {
    pub(super) store: Store,
    pub(super) shared: SharedStore,
    /// Tells the preview worker of this process that there may be work.
    pub(super) linked: Arc<Notify>,
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
        let source = model::storable(&body.source)?;
        let Inserted { message, is_linked } =
            self.shared.insert(context, caller.user_id, source, idempotency_key).await?;
        if is_linked {
            self.linked.notify_one();
        }
        info!(message.id = message.id, user.id = caller.user_id, "posted");
        Ok(CreateMessageResponse { location: model::message_path(message.id), body: message.into() })
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
        self.shared.find(id).await?.map(Into::into).ok_or_else(|| model::no_such_message(id))
    }

    async fn update_message(
        &self,
        context: &Context,
        caller: TokenCaller,
        id: i64,
        body: types::MessageUpdate,
    ) -> Result<(), Problem> {
        let source = model::storable(&body.source)?;
        self.shared.update(context, caller.user_id, id, source).await?;
        self.linked.notify_one();
        info!(message.id = id, user.id = caller.user_id, "edited");
        Ok(())
    }
}
