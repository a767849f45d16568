//! The operation of `api/openapi/recommend.v1.yaml`.

use async_trait::async_trait;
use flack_api::{
    Context, Problem, TokenCaller,
    recommend::{
        RecommendApi,
        types::{Reason, ReasonKind, Recommendation, RecommendationList},
    },
};

use crate::store::{Found, Store};

/// Channels in a response without `limit`.
const CHANNELS_DEFAULT: i32 = 5;

/// The recommend API over the service's database.
#[derive(Debug)]
pub struct Recommend {
    store: Store,
}

impl Recommend {
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[async_trait]
impl RecommendApi for Recommend {
    async fn recommend_channels(
        &self,
        _context: &Context,
        caller: TokenCaller,
        limit: Option<i32>,
    ) -> Result<RecommendationList, Problem> {
        let found = self.store.recommend(caller.user_id, limit.unwrap_or(CHANNELS_DEFAULT)).await?;
        Ok(RecommendationList { channels: found.into_iter().map(Into::into).collect() })
    }
}

impl From<Found> for Recommendation {
    fn from(Found { channel_id, name, topic, words, messages }: Found) -> Self {
        let kind = if words.is_empty() { ReasonKind::Active } else { ReasonKind::SharedWords };
        Self { channel_id, name, topic, reason: Reason { kind, words, messages } }
    }
}
