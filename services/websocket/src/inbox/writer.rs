//! The inbox writer: stores the events that clients receive. It reads the streams itself, independently of the feed.
//!
//! One instance writes at a time (`database::leader`). It uses one database connection for its lock, the offsets and
//! the rows, so a leader that has lost its lock cannot write. It reads each stream from the end of the stored range, so
//! a crash loses nothing.

use std::{
    cmp::Ordering,
    convert::Infallible,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use anyhow::Context as _;
use backon::{ConstantBuilder, Retryable as _};
use chrono::{DateTime, Utc};
use flack_api::events::Operation;
use flack_common::{
    database::leader,
    events::{Events, Received, StartOffset, StreamMessage, Subscription, partitions, stream_name},
    process::Background,
};
use futures::future::select_all;
use metrics::counter;
use serde::Deserialize;
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, timeout_at};
use tracing::{error, info, warn};

use super::store::{self, Inbox, NewRow, StoredRange};
use crate::{
    cursor::{Offset, SOURCES, STREAMS},
    ring::frame::is_for_clients,
};

/// Messages stored in one transaction.
const BATCH_MESSAGES_MAX: usize = 1_000;
/// Bytes of the payloads in one transaction, above which no more is added. A message has at most 512 KiB.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a batch waits for more messages. Clients need the inbox only for what the ring buffer has dropped.
const BATCH_WAIT: Duration = Duration::from_millis(100);
/// The pause after a failure. It is short, so that clients can resume from the inbox soon after an outage.
const RETRY: ConstantBuilder = ConstantBuilder::new().with_delay(Duration::from_secs(1)).without_max_times();
const MAINTENANCE_INTERVAL: Duration = Duration::from_hours(1);

/// Starts the writer, and the maintenance of the partitions.
pub fn start(inbox: &Inbox, events: &Events, background: &Background) {
    let (for_writer, events, stopping) = (inbox.clone(), events.clone(), background.stopping());
    background.supervise("inbox writer", move || {
        let (inbox, events, stopping) = (for_writer.clone(), events.clone(), stopping.clone());
        async move {
            stopping.run_until_cancelled(write(&inbox, &events)).await;
        }
    });
    let inbox = inbox.clone();
    background.every("inbox partitions", MAINTENANCE_INTERVAL, move || {
        let inbox = inbox.clone();
        async move {
            // First the stored ranges, so that no client resumes from a partition that is being dropped.
            inbox.shorten_stored_ranges().await?;
            let (made, dropped) = partitions::maintain_once(&inbox.pool).await?;
            if made + dropped > 0 {
                info!(made, dropped, "maintained the partitions of the inbox");
            }
            anyhow::Ok(())
        }
    });
}

/// Writes, and starts again after a failure. Only the first of several failures in a row is logged.
async fn write(inbox: &Inbox, events: &Events) -> anyhow::Result<Infallible> {
    let is_failing = AtomicBool::new(false);
    let attempt = || write_until_error(inbox, events, &is_failing);
    let log_once = |error: &anyhow::Error, _| {
        if !is_failing.swap(true, Relaxed) {
            warn!(
                error = format!("{error:#}"),
                "the inbox cannot be written; clients resume from the ring buffer only"
            );
        }
    };
    attempt.retry(RETRY).notify(log_once).await
}

/// Waits to become the leader, then writes until something fails.
async fn write_until_error(inbox: &Inbox, events: &Events, is_failing: &AtomicBool) -> anyhow::Result<Infallible> {
    let mut connection = leader::acquire(&inbox.pool, "inbox", "").await.context("the database is unavailable")?;
    let ranges = store::stored_ranges(&mut connection).await?;
    let mut readers = std::array::from_fn(|stream| {
        let start = match ranges[stream].as_ref().map(|range| &range.last) {
            Some(Offset { incarnation: Some(incarnation), sequence }) => {
                StartOffset::After { incarnation: incarnation.to_string(), sequence: *sequence }
            }
            _ => StartOffset::Earliest,
        };
        events.subscribe(SOURCES[stream], None, start)
    });
    let mut ranges = ranges.map(Option::unwrap_or_default);
    if !is_failing.load(Relaxed) {
        info!("this instance writes the inbox");
    }
    loop {
        let batch = leader::keep_alive(&mut connection, next_batch(&mut readers)).await?;
        store_batch(&mut connection, &mut ranges, batch).await.context("a batch was not stored")?;
        is_failing.store(false, Relaxed);
    }
}

/// What was read from all streams, in order; each with its stream.
type Batch = Vec<(usize, Received)>;

/// Waits for one message, and adds those that follow within `BATCH_WAIT`.
async fn next_batch(readers: &mut [Subscription; STREAMS]) -> Batch {
    let mut batch = vec![next(readers).await];
    let mut bytes = 0;
    let deadline = Instant::now() + BATCH_WAIT;
    while batch.len() < BATCH_MESSAGES_MAX && bytes < BATCH_BYTES_MAX {
        let Ok(more) = timeout_at(deadline, next(readers)).await else { break };
        if let (_, Received::Message(message)) = &more {
            bytes += message.payload.len();
        }
        batch.push(more);
    }
    batch
}

/// Waits for the next message of any stream. It is cancel safe, because `Subscription::next` is.
async fn next(readers: &mut [Subscription; STREAMS]) -> (usize, Received) {
    let waiting = readers.iter_mut().map(|reader| Box::pin(reader.next()));
    let (received, stream, _) = select_all(waiting).await;
    (stream, received)
}

async fn store_batch(
    connection: &mut PgConnection,
    ranges: &mut [StoredRange; STREAMS],
    batch: Batch,
) -> sqlx::Result<()> {
    let mut transaction = connection.begin().await?;
    let mut rows = Vec::new();
    let mut has_changed = [false; STREAMS];
    for (stream, received) in batch {
        match received {
            Received::StreamMissing => continue,
            Received::Opened { incarnation, after, .. } => {
                // The rows that were read before it belong to the earlier incarnation.
                store::insert(&mut transaction, &std::mem::take(&mut rows)).await?;
                let (range, delete_after) = continued_range(&ranges[stream], &incarnation, after);
                if let Some(sequence) = delete_after {
                    store::delete_after(&mut transaction, stream, sequence).await?;
                }
                ranges[stream] = range;
            }
            Received::Message(message) => {
                ranges[stream].last.sequence = message.sequence;
                if message.is_repeated {
                    // As in the ring buffer: clients with an earlier cursor reload.
                    ranges[stream].after = message.sequence;
                } else {
                    rows.extend(row_of(stream, &message));
                }
            }
        }
        has_changed[stream] = true;
    }
    let stored = store::insert(&mut transaction, &rows).await?;
    for stream in (0..STREAMS).filter(|stream| has_changed[*stream]) {
        store::set_stored_range(&mut transaction, stream, &ranges[stream]).await?;
    }
    transaction.commit().await?;
    counter!("websocket_inbox_stored_total").increment(stored);
    Ok(())
}

/// Returns the stored range of a stream that is opened again and continues after `after`. Also returns the sequence
/// after which its rows must be deleted, if any must be.
fn continued_range(stored: &StoredRange, incarnation: &str, after: u64) -> (StoredRange, Option<u64>) {
    let last = Offset { incarnation: Some(incarnation.into()), sequence: after };
    if stored.last.incarnation != last.incarnation {
        return (StoredRange { after, last }, Some(0));
    }
    match after.cmp(&stored.last.sequence) {
        // The stream is shorter than what was stored: its next messages get the later sequences.
        Ordering::Less => (StoredRange { after: stored.after.min(after), last }, Some(after)),
        Ordering::Equal => (StoredRange { after: stored.after, last }, None),
        // A gap: a cursor before it cannot be resumed.
        Ordering::Greater => (StoredRange { after, last }, None),
    }
}

/// The members of an event that become columns of the inbox.
#[derive(Deserialize)]
struct Envelope {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    operation: Operation,
    time: DateTime<Utc>,
    version: i64,
}

/// Returns the row of an event; `None` if clients do not receive it.
fn row_of(stream: usize, message: &StreamMessage) -> Option<NewRow> {
    // A replay is for consumers that rebuild a projection; clients have received it.
    if message.is_replay() {
        return None;
    }
    let envelope: Envelope = match serde_json::from_slice(&message.payload) {
        Ok(envelope) => envelope,
        Err(error) => {
            let stream = stream_name(SOURCES[stream]);
            error!(stream, sequence = message.sequence, %error, "a message that is not an event was not stored");
            return None;
        }
    };
    let payload = std::str::from_utf8(&message.payload).ok()?;
    // PostgreSQL refuses NUL in JSON, and the batch would fail for ever. No owner's row can contain one.
    if !is_for_clients(&envelope.kind, envelope.operation) || has_nul(payload) {
        return None;
    }
    // flack.<owner>.<kind>.<entity id>
    let entity_id = message.subject.splitn(4, '.').nth(3).unwrap_or_default().to_owned();
    Some(NewRow {
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

/// Returns whether a JSON text has an escaped NUL. After an escaped backslash, the same characters are plain text.
fn has_nul(json: &str) -> bool {
    let is_escape = |at: usize| json[..at].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 0;
    json.match_indices("\\u0000").any(|(at, _)| is_escape(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_nul_is_found_and_a_backslash_before_the_same_text_is_not_one() {
        for text in ["\0", "\\\0", "a\0b"] {
            assert!(has_nul(&serde_json::json!(text).to_string()), "{text:?}");
        }
        for text in ["\\u0000", "\\\\u0000", "u0000", ""] {
            assert!(!has_nul(&serde_json::json!(text).to_string()), "{text:?}");
        }
    }

    fn range(incarnation: &str, after: u64, sequence: u64) -> StoredRange {
        StoredRange { after, last: Offset { incarnation: Some(incarnation.into()), sequence } }
    }

    #[test]
    fn a_continued_stream_keeps_its_range_and_a_gap_shortens_it() {
        let stored = range("a", 5, 20);
        assert_eq!(continued_range(&stored, "a", 20), (range("a", 5, 20), None));
        assert_eq!(continued_range(&stored, "a", 30), (range("a", 30, 30), None));
    }

    #[test]
    fn rows_whose_sequences_will_be_used_again_are_deleted() {
        let stored = range("a", 5, 20);
        assert_eq!(continued_range(&stored, "b", 0), (range("b", 0, 0), Some(0)));
        assert_eq!(continued_range(&stored, "a", 12), (range("a", 5, 12), Some(12)));
        assert_eq!(continued_range(&stored, "a", 3), (range("a", 3, 3), Some(3)));
    }
}
