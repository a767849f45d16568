//! Where a connection starts to read: in the ring buffer after its cursor, with a backfill from the inbox, or at the
//! head of the ring buffer.

mod backfill;

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::warn;

pub use self::backfill::Backfill;
use crate::{
    cursor::Cursor,
    feed::Feed,
    inbox::store::Inbox,
    limits::Retention,
    ring::{NotResumable, ReadPosition},
};

/// Between two checks whether this instance has read up to a cursor. Instances usually read a message within
/// milliseconds of each other.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Chooses where connections start to read.
#[derive(Debug)]
pub struct Resume {
    pub feed: Feed,
    /// `None`: clients resume only from the ring buffer.
    pub inbox: Option<Inbox>,
    pub retention: Retention,
}

/// Where a connection starts to read.
#[derive(Debug)]
pub struct Start {
    pub position: ReadPosition,
    /// Whether the client gets all events after its cursor. If not, it reloads.
    pub is_resumed: bool,
    /// Sent before the client reads the ring buffer. The client then reads from the position that
    /// [`Resume::resume_from_ring`] returns for [`Backfill::cursor`].
    pub backfill: Option<Box<Backfill>>,
}

impl Resume {
    /// Returns where a connection starts. `cursor` is what its client sent.
    pub async fn start(&self, cursor: Option<Cursor>) -> Start {
        if let Some(cursor) = cursor {
            match self.resume_from_ring(cursor.clone()).await {
                Ok(position) => return Start { position, is_resumed: true, backfill: None },
                Err(NotResumable::OtherIncarnation) => {}
                Err(NotResumable::TooOld) => {
                    let position = self.feed.ring().before_backfill(cursor);
                    if let Some(backfill) = self.prepare_backfill(&position.cursor).await {
                        return Start { position, is_resumed: true, backfill: Some(Box::new(backfill)) };
                    }
                }
            }
        }
        Start { position: self.feed.ring().position_at_head(), is_resumed: false, backfill: None }
    }

    /// Returns the read position after `cursor`. If the client was connected to an instance that has read more, waits
    /// until this instance has read as much.
    pub async fn resume_from_ring(&self, cursor: Cursor) -> Result<ReadPosition, NotResumable> {
        let reached = async {
            while !self.feed.ring().has_reached(&cursor) {
                sleep(POLL_INTERVAL).await;
            }
        };
        // After the timeout the client can start all the same: events that it has received are skipped.
        let _ = timeout(self.retention.resume_timeout, reached).await;
        self.feed.ring().resume(cursor)
    }

    /// Returns a backfill; `None` if the inbox does not hold all missed events, or is unavailable.
    pub async fn prepare_backfill(&self, cursor: &Cursor) -> Option<Backfill> {
        let retained = || self.feed.ring().retained();
        let prepared = Backfill::prepare(self.inbox.as_ref()?, cursor, retained, &self.retention).await;
        prepared.unwrap_or_else(|error| {
            warn!(%error, "the inbox is unavailable; a client has to reload");
            None
        })
    }
}
