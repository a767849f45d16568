//! The operations of `api/openapi/ui.v1.yaml`, in its order, without the two that return files (`pages.rs`).

use async_trait::async_trait;
use flack_api::{
    Context, Problem, TokenCaller,
    ui::{UiApi, types},
};
use flack_common::{authority::Authority, rate::RequestRate};

use crate::{model, store::Store};

/// The ui API over the part's database.
#[derive(Debug)]
pub struct Ui {
    store: Store,
    authority: Authority,
}

impl Ui {
    pub fn new(store: Store, authority: Authority) -> Self {
        Self { store, authority }
    }
}

#[async_trait]
impl UiApi for Ui {
    async fn get_stats(&self, _context: &Context) -> Result<types::Stats, Problem> {
        Ok(types::Stats { requests_per_second: RequestRate::of_process().per_second() })
    }

    async fn list_parts(&self, _context: &Context, _caller: TokenCaller) -> Result<types::PartList, Problem> {
        let parts = self.authority.parts().map(|(name, owner, stage)| types::Part {
            name: name.to_owned(),
            owner: owner.map(str::to_owned),
            stage: stage.map(|stage| stage.to_string()),
        });
        Ok(types::PartList { parts: parts.collect() })
    }

    async fn get_preferences(&self, _context: &Context, caller: TokenCaller) -> Result<types::Preferences, Problem> {
        let stored = self.store.find_preferences(caller.user_id).await?;
        Ok(stored.map_or_else(model::default_preferences, Into::into))
    }

    async fn set_preferences(
        &self,
        context: &Context,
        caller: TokenCaller,
        body: types::Preferences,
    ) -> Result<(), Problem> {
        Ok(self.store.set_preferences(context, caller.user_id, &body).await?)
    }

    async fn list_read_markers(
        &self,
        _context: &Context,
        caller: TokenCaller,
    ) -> Result<types::ReadMarkerList, Problem> {
        let markers = self.store.list_read_markers(caller.user_id).await?;
        Ok(types::ReadMarkerList { read_markers: markers.into_iter().map(Into::into).collect() })
    }

    async fn set_read_marker(
        &self,
        context: &Context,
        caller: TokenCaller,
        channel: types::ChannelName,
        body: types::NewReadMarker,
    ) -> Result<(), Problem> {
        Ok(self.store.set_read_marker(context, caller.user_id, &channel, body.message_id).await?)
    }
}
