//! The keeper: stores what clients are told into the inbox, beside the fast path.
//!
//! Of the instances one works (`database::leader`); its lock, the positions and the rows are on one connection. It reads the
//! streams behind what is stored: a crash costs nothing.

use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use flack_api::events::Operation;
use flack_common::{
    database::leader,
    events::{Events, Reader, Reading, Start, StreamMessage, partitions, stream_of},
};
use futures::future::select_all;
use metrics::counter;
use serde::Deserialize;
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    cursor::{OWNERS, STREAMS},
    entry::is_for_clients,
    inbox::{self, Extent, Inbox, Kept},
};

/// Messages stored in one transaction.
const BATCH_MESSAGES_MAX: usize = 1_000;
/// A message has at most 512 KiB.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a first message waits for company. Nobody waits for the inbox as long as memory reaches.
const BATCH_WAIT: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_secs(1);
const MAINTENANCE_INTERVAL: Duration = Duration::from_hours(1);
const MAINTENANCE_RETRY_INTERVAL: Duration = Duration::from_mins(1);

/// Works, or stands by, until `stopping`.
pub async fn keep(inbox: Inbox, events: Events, stopping: CancellationToken) {
    let mut was_well = true;
    while !stopping.is_cancelled() {
        let Some(result) = stopping.run_until_cancelled(lead(&inbox, &events, &mut was_well)).await else {
            break;
        };
        if let Err(problem) = result
            && std::mem::replace(&mut was_well, false)
        {
            warn!(
                error = format!("{problem:#}"),
                "the inbox cannot be written; resuming reaches as far as memory until it can"
            );
        }
        stopping.run_until_cancelled(sleep(PAUSE)).await;
    }
}

/// Partitions, and the floors before them: what may be dropped is not offered any more.
pub async fn maintain(inbox: Inbox, stopping: CancellationToken) {
    while !stopping.is_cancelled() {
        let maintained = async {
            inbox.raise_floors().await?;
            partitions::maintain_once(inbox.pool()).await
        };
        let pause = match maintained.await {
            Ok((made, dropped)) => {
                if made + dropped > 0 {
                    info!(made, dropped, "partitions of the inbox");
                }
                MAINTENANCE_INTERVAL
            }
            Err(error) => {
                warn!(%error, "partitions could not be made or dropped; trying again");
                MAINTENANCE_RETRY_INTERVAL
            }
        };
        stopping.run_until_cancelled(sleep(pause)).await;
    }
}

async fn lead(inbox: &Inbox, events: &Events, was_well: &mut bool) -> anyhow::Result<()> {
    let mut connection =
        leader::acquire(inbox.pool(), "inbox", "").await.context("the database does not answer")?;
    let extents = inbox::extents(&mut connection).await?;
    let mut readers = std::array::from_fn(|stream| {
        let start = extents[stream].as_ref().map_or(Start::Beginning, |extent| Start::After {
            incarnation: extent.incarnation.clone(),
            sequence: extent.position,
        });
        events.read(OWNERS[stream], None, start)
    });
    let mut keeping = Keeping { extents: extents.map(Option::unwrap_or_default) };
    info!("keeping the inbox");
    *was_well = true;
    loop {
        let batch = leader::keep_alive(&mut connection, next_batch(&mut readers)).await?;
        keeping.store(&mut connection, batch).await.context("the inbox was not written")?;
    }
}

/// What came, in the order in which it came: from which stream, and what.
type Batch = Vec<(usize, Reading)>;

/// Waits for one, and takes what comes right behind it.
async fn next_batch(readers: &mut [Reader; STREAMS]) -> Batch {
    let mut batch = vec![next(readers).await];
    let mut bytes = 0;
    let deadline = Instant::now() + BATCH_WAIT;
    while batch.len() < BATCH_MESSAGES_MAX && bytes < BATCH_BYTES_MAX {
        let Ok(more) = timeout_at(deadline, next(readers)).await else { break };
        if let (_, Reading::Message(message)) = &more {
            bytes += message.payload.len();
        }
        batch.push(more);
    }
    batch
}

/// May be dropped while it waits, as `Reader::next` may.
async fn next(readers: &mut [Reader; STREAMS]) -> (usize, Reading) {
    let waiting = readers.iter_mut().map(|reader| Box::pin(reader.next()));
    let (reading, stream, _) = select_all(waiting).await;
    (stream, reading)
}

/// What the inbox holds, as the one who writes it knows.
struct Keeping {
    extents: [Extent; STREAMS],
}

impl Keeping {
    async fn store(&mut self, connection: &mut PgConnection, batch: Batch) -> sqlx::Result<()> {
        let mut transaction = connection.begin().await?;
        let mut rows = Vec::new();
        let mut has_moved = [false; STREAMS];
        for (stream, reading) in batch {
            match reading {
                Reading::Absent => {}
                Reading::Opened { incarnation, after, .. } => {
                    // Those before it are numbered as before.
                    inbox::store(&mut transaction, &std::mem::take(&mut rows)).await?;
                    let (extent, begins_anew_behind) = opened(&self.extents[stream], incarnation, after);
                    if let Some(sequence) = begins_anew_behind {
                        inbox::forget_behind(&mut transaction, stream, sequence).await?;
                    }
                    self.extents[stream] = extent;
                    has_moved[stream] = true;
                }
                Reading::Message(message) => {
                    self.extents[stream].position = message.sequence;
                    has_moved[stream] = true;
                    rows.extend(kept(stream, &message));
                }
            }
        }
        let stored = inbox::store(&mut transaction, &rows).await?;
        for stream in (0..STREAMS).filter(|stream| has_moved[*stream]) {
            inbox::set_extent(&mut transaction, stream, &self.extents[stream]).await?;
        }
        transaction.commit().await?;
        counter!("websocket_inbox_stored_total").increment(stored);
        Ok(())
    }
}

/// How far the inbox holds a stream that is read on behind `after`; and behind what it must forget what it has.
fn opened(held: &Extent, incarnation: String, after: u64) -> (Extent, Option<u64>) {
    let floor = if held.incarnation != incarnation {
        return (Extent { incarnation, floor: after, position: after }, Some(0));
    } else if after < held.position {
        // Restored from an older copy: what came behind will be numbered again.
        return (Extent { incarnation, floor: held.floor.min(after), position: after }, Some(after));
    } else if after > held.position {
        // A gap: who stands before it cannot be told all.
        after
    } else {
        held.floor
    };
    (Extent { incarnation, floor, position: after }, None)
}

/// What the inbox must know of an event.
#[derive(Deserialize)]
struct Envelope {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    operation: Operation,
    time: DateTime<Utc>,
    version: i64,
}

/// `None`: clients are not told of it.
fn kept(stream: usize, message: &StreamMessage) -> Option<Kept> {
    // A replay is for those who rebuild a copy; sockets have had it.
    if message.is_replay() {
        return None;
    }
    let envelope: Envelope = match serde_json::from_slice(&message.payload) {
        Ok(envelope) => envelope,
        Err(problem) => {
            error!(stream = stream_of(OWNERS[stream]), sequence = message.sequence, %problem, "not an event; it is not kept");
            return None;
        }
    };
    let payload = std::str::from_utf8(&message.payload).ok()?;
    // PostgreSQL holds no NUL, so no owner can have told one.
    if !is_for_clients(&envelope.kind, envelope.operation) || payload.contains("\\u0000") {
        return None;
    }
    // flack.<owner>.<kind>.<entity id>
    let entity_id = message.subject.splitn(4, '.').nth(3).unwrap_or_default().to_owned();
    Some(Kept {
        stream,
        sequence: message.sequence,
        event_time: envelope.time,
        message_id: message.message_id.clone().unwrap_or(envelope.id),
        kind: envelope.kind,
        entity_id,
        version: envelope.version,
        payload: payload.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(incarnation: &str, floor: u64, position: u64) -> Extent {
        Extent { incarnation: incarnation.to_owned(), floor, position }
    }

    #[test]
    fn reading_on_changes_nothing_and_a_gap_raises_the_floor() {
        let held = extent("a", 5, 20);
        assert_eq!(opened(&held, "a".to_owned(), 20), (extent("a", 5, 20), None));
        assert_eq!(opened(&held, "a".to_owned(), 30), (extent("a", 30, 30), None));
    }

    #[test]
    fn what_will_be_numbered_again_is_forgotten() {
        let held = extent("a", 5, 20);
        assert_eq!(opened(&held, "b".to_owned(), 0), (extent("b", 0, 0), Some(0)));
        assert_eq!(opened(&held, "a".to_owned(), 12), (extent("a", 5, 12), Some(12)));
        assert_eq!(opened(&held, "a".to_owned(), 3), (extent("a", 3, 3), Some(3)));
    }
}
