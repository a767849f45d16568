//! A backfill: the missed events that the ring buffer no longer holds, read from the inbox.

use std::{collections::HashSet, time::Duration};

use flack_api::events::{Event, MonolithEvent};
use serde::Deserialize as _;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tracing::error;

use crate::{
    audience::Recipient,
    cursor::{Cursor, SOURCES, STREAMS},
    inbox::store::{self, Inbox, InboxRow},
    limits::{BACKFILL_OVERLAP_MESSAGES, Retention},
    ring::{
        RetainedRange,
        frame::{EntityVersion, update_of, with_cursor},
    },
};

/// Between two checks whether the inbox holds the missed events. The inbox writer stores a batch every 100 ms.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// The backfill of one client.
#[derive(Debug)]
pub struct Backfill {
    inbox: Inbox,
    /// The client's cursor after the frames that `next` has returned.
    cursor: Cursor,
    /// For each stream, what the client had received before. The rows after these sequences are read.
    after: [u64; STREAMS],
    /// For each stream, the last sequence that is read; 0: no rows of this stream are read.
    until: [u64; STREAMS],
    /// The id of the last row that was read.
    last_id: i64,
    /// The versions of these frames.
    versions: HashSet<EntityVersion>,
}

impl Backfill {
    /// Prepares the backfill: the events after `cursor`, up to those that the ring buffer holds. `retained` returns
    /// what the ring buffer holds at present.
    ///
    /// Returns `None` if the inbox does not hold these events within `resume_timeout`, or if they are too many.
    pub async fn prepare(
        inbox: &Inbox,
        cursor: &Cursor,
        retained: impl Fn() -> RetainedRange,
        retention: &Retention,
    ) -> sqlx::Result<Option<Self>> {
        let stored = async {
            loop {
                match last_to_read(inbox, cursor, &retained()).await.transpose() {
                    Some(until) => return until,
                    None => sleep(POLL_INTERVAL).await,
                }
            }
        };
        let Ok(until) = timeout(retention.resume_timeout, stored).await else { return Ok(None) };
        let (until, after) = (until?, cursor.sequences());
        let max = retention.backfill_events_max;
        if inbox.count(after, until, max + 1).await? > max {
            return Ok(None);
        }
        let (inbox, cursor) = (inbox.clone(), cursor.clone());
        Ok(Some(Self { inbox, cursor, after, until, last_id: 0, versions: HashSet::new() }))
    }

    /// Returns the client's cursor after the frames that `next` has returned.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Returns the next frames for this client, in the order in which the events were stored; `None` at the end.
    pub async fn next(&mut self, recipient: &Recipient) -> sqlx::Result<Option<Vec<Utf8Bytes>>> {
        let rows = self.inbox.page(self.after, self.until, self.last_id).await?;
        let Some(last) = rows.last() else {
            for (offset, until) in self.cursor.0.iter_mut().zip(self.until) {
                offset.sequence = offset.sequence.max(until);
            }
            return Ok(None);
        };
        self.last_id = last.id;
        Ok(Some(rows.iter().filter_map(|row| self.frame(row, recipient)).collect()))
    }

    fn frame(&mut self, row: &InboxRow, recipient: &Recipient) -> Option<Utf8Bytes> {
        let (stream, sequence) = row.stream_and_sequence()?;
        self.cursor.0[stream].sequence = sequence;
        let update = match Event::<MonolithEvent>::deserialize(&row.payload).and_then(update_of) {
            Ok(update) => update?,
            Err(error) => {
                error!(source = SOURCES[stream], sequence, %error, "an unknown event in the inbox was skipped");
                return None;
            }
        };
        let is_new = self.versions.insert(update.version) && !row.is_duplicate;
        let frame = update.frames.iter().find(|frame| recipient.is_in(frame.audience))?;
        is_new.then(|| with_cursor(&frame.prefix, &self.cursor).into())
    }
}

/// Returns, for each stream, the last sequence that the backfill reads; the ring buffer holds the events after it.
/// Returns `None` if the inbox does not hold all events up to it.
async fn last_to_read(inbox: &Inbox, cursor: &Cursor, ring: &RetainedRange) -> sqlx::Result<Option<[u64; STREAMS]>> {
    let ranges = store::stored_ranges(&inbox.pool).await?;
    let mut until = [0; STREAMS];
    for (stream, range) in ranges.into_iter().enumerate() {
        let (sequence, ring_after) = (cursor.0[stream].sequence, ring.after[stream]);
        if sequence >= ring_after {
            continue;
        }
        let own = &ring.cursor.0[stream];
        let Some(range) = range.filter(|range| range.last.incarnation == own.incarnation) else {
            return Ok(None);
        };
        if sequence < range.after || range.last.sequence < ring_after {
            return Ok(None);
        }
        // Not beyond what this instance has read: if the ring buffer then got a duplicate of such an event first, the
        // client would receive the version twice.
        until[stream] = range.last.sequence.min(own.sequence).min(ring_after + BACKFILL_OVERLAP_MESSAGES);
    }
    Ok(Some(until))
}
