//! What the connections of a process share: the parts that they call, the feed, the limits and the permits.

use std::{fmt, sync::Arc};

use flack_api::{VerifyToken, messages::MessagesApi, messages_v2::MessagesV2Api, users::UsersApi};
use flack_common::process::Background;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::{channels::ChannelLists, draining::Draining, permits::Permits};
use crate::{feed::Feed, limits::Limits, resume::Resume, typing::TypingSignals};

/// The parts that websocket depends on: generated clients in the service, the parts themselves in the monolith.
#[derive(Clone)]
pub struct Peers {
    pub users: Arc<dyn UsersApi>,
    pub messages: Arc<dyn MessagesApi>,
    pub messages_v2: Arc<dyn MessagesV2Api>,
    pub verify: Arc<dyn VerifyToken>,
    /// Reports the id of each revoked token.
    pub revocations: broadcast::Sender<Uuid>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").finish_non_exhaustive()
    }
}

/// Everything that the connections of a process share.
#[derive(Debug)]
pub struct SocketContext {
    pub feed: Feed,
    pub resume: Resume,
    pub typing: TypingSignals,
    pub channels: ChannelLists,
    pub peers: Peers,
    pub limits: Limits,
    pub permits: Permits,
    pub draining: Draining,
    pub background: Background,
}
