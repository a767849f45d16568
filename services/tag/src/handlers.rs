//! The operation of `api/openapi/tag.v1.yaml`.

use async_trait::async_trait;
use flack_api::{
    Context, Problem, TokenCaller,
    tag::{
        TagApi,
        types::{Matched, MessageIds, Tagged, TaggedList},
    },
};

use crate::store::{Found, Store};

/// Messages in a response without `limit`.
const MESSAGES_DEFAULT: i32 = 100;

/// The tag API over the service's database.
#[derive(Debug)]
pub struct Tag {
    store: Store,
}

impl Tag {
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[async_trait]
impl TagApi for Tag {
    async fn tag_messages(
        &self,
        _context: &Context,
        caller: TokenCaller,
        ids: Option<MessageIds>,
        limit: Option<i32>,
    ) -> Result<TaggedList, Problem> {
        // The pattern of `MessageIds` allows nothing else than numbers of 64 bits.
        let ids = ids.map(|ids| ids.split(',').filter_map(|id| id.parse().ok()).collect());
        let found = self.store.matching(caller.user_id, ids, limit.unwrap_or(MESSAGES_DEFAULT)).await?;
        Ok(TaggedList { messages: found.into_iter().map(Into::into).collect() })
    }
}

impl From<Found> for Tagged {
    fn from(Found { message_id, channel_id, words, people, topics }: Found) -> Self {
        Self { message_id, channel_id, matched: Matched { words, people, topics } }
    }
}
