//! The channels of a user who signs in on a connection of version 2: the list of the messages API, in the user's name.

use std::{fmt, sync::Arc};

use flack_api::{
    Context, Problem, TokenCaller,
    messages_v2::{MessagesV2Api, types::ListChannelsInclude},
};
use tokio::{
    sync::Semaphore,
    time::{Duration, timeout},
};

use crate::{
    limits::CHANNEL_LISTS_MAX,
    memberships::{Membership, Memberships, UserChannels},
};

/// Reads the channels of users, a limited number of lists at once.
pub struct ChannelLists {
    memberships: Memberships,
    messages: Arc<dyn MessagesV2Api>,
    reading: Semaphore,
}

impl fmt::Debug for ChannelLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelLists").finish_non_exhaustive()
    }
}

impl ChannelLists {
    pub fn new(memberships: Memberships, messages: Arc<dyn MessagesV2Api>) -> Self {
        Self { memberships, messages, reading: Semaphore::new(CHANNEL_LISTS_MAX) }
    }

    /// Returns the channels of the caller. Fails if they cannot be read in time.
    pub async fn read(
        &self,
        context: &Context,
        caller: TokenCaller,
        channels_timeout: Duration,
    ) -> Result<UserChannels, Problem> {
        // First, so that every change is in the list or merged as an event.
        let channels = self.memberships.register(caller.user_id);
        let reading = async {
            let _permit = self.reading.acquire().await;
            self.messages.list_channels(context, caller, Some(ListChannelsInclude::Left)).await
        };
        let list = timeout(channels_timeout, reading).await.map_err(|_| Problem::unavailable("messages"))??;
        let present = list.channels.into_iter().filter_map(|channel| {
            let version = channel.member?.version;
            Some(Membership { channel_id: channel.id, version, is_member: true })
        });
        let left = list.left.into_iter().map(|left| Membership {
            channel_id: left.channel_id,
            version: left.version,
            is_member: false,
        });
        channels.merge(present.chain(left));
        Ok(channels)
    }
}
