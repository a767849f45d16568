//! The relay: publishes the journal queue of the owner's database to the owner's stream.
//!
//! One instance leads, the others are standbys (`database::leader`). A row leaves the queue after NATS has stored its
//! message. When a relay is killed between these two steps, the next one publishes the row again under the same message
//! id, and NATS drops the duplicate.
//!
//! A relay that was frozen while another one took over cannot publish: each message of a batch names its predecessor,
//! and NATS refuses it when that is not the stream's last message.
//!
//! A stream may lose messages that it has acknowledged. Published rows stay recorded for a while, with their sequences.
//! Whenever the connection has changed, the relay compares the end of the stream with them, and publishes the rest
//! again.

use std::{convert::Infallible, panic::catch_unwind, time::Duration};

use anyhow::{Context as _, anyhow};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures::FutureExt as _;
use metrics::{counter, gauge};
use sqlx::{Connection as _, PgConnection, PgPool, postgres::PgListener};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    bus::Events,
    connection::Counter,
    journal_row::{JournalRow, MappedEvent, message_id},
    stream::{Outgoing, StreamEnd},
};
use crate::{database::leader, restart::restart_on_failure};

/// The rows of a batch: enough to hide the round trip to NATS, few enough to publish again.
const BATCH_ROWS_MAX: u16 = 256;
/// A notification wakes the relay at each commit; the poll is for a lost notification.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(1);
const PUBLISH_BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(50))
    .with_max_delay(Duration::from_secs(1))
    .with_jitter()
    .without_max_times();
/// The relay logs a warning after this number of failures: about two seconds, longer than NATS needs to restart.
const FAILURES_BEFORE_WARNING: u32 = 5;
/// NATS accepts 1 MiB. A larger event would be refused each time, and block all events after it.
const EVENT_BYTES_MAX: usize = 512 * 1024;
/// Counting a long queue takes time; beyond this number the gauge means "at least".
const COUNTED_ROWS_MAX: i64 = 100_000;
/// From this share of `journal_queue_rows_max()` on, the relay logs a warning.
const FILLED_RATIO_WARN: f64 = 0.5;
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// Maps a journal row to an event; `None` when the row is not published.
pub type Map = fn(&JournalRow) -> anyhow::Result<Option<MappedEvent>>;

/// The state of a leading relay.
struct Leading {
    connection: PgConnection,
    /// The published rows that left the queue are those that the stream has.
    is_stream_compared: bool,
    /// Whether the stream outlives this process, so that what it has lost can be published again.
    is_recorded: bool,
    /// Changes of the connection to NATS: it may have been restarted with another store.
    changes: Option<Counter>,
    /// The id of the last message that this relay has published.
    last_published: Option<String>,
    measured: Option<Instant>,
}

impl Leading {
    async fn keep_alive<T>(&mut self, waiting: impl Future<Output = T>) -> sqlx::Result<T> {
        leader::keep_alive(&mut self.connection, waiting).await
    }
}

/// Publishes the journal of one database.
#[derive(Debug, Clone)]
pub struct Relay {
    owner: &'static str,
    pool: PgPool,
    events: Events,
    map: Map,
}

impl Relay {
    pub fn new(owner: &'static str, pool: PgPool, events: Events, map: Map) -> Self {
        Self { owner, pool, events, map }
    }

    /// Publishes, or waits as a standby, until `stopping`.
    pub async fn run(self, stopping: CancellationToken) {
        let relaying = restart_on_failure(RESTART_DELAY_MAX, || async {
            Box::pin(self.lead()).await.inspect_err(|problem| {
                warn!(owner = self.owner, error = format!("{problem:#}"), "the relay failed; restarting it");
            })
        });
        stopping.run_until_cancelled(relaying).await;
    }

    async fn lead(&self) -> anyhow::Result<Infallible> {
        let connection = leader::acquire(&self.pool, "relay", "").await.context("the database does not answer")?;
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.eager_reconnect(false);
        listener.listen("journal").await?;
        info!(owner = self.owner, "relaying");

        let mut leading = Leading {
            connection,
            is_stream_compared: false,
            is_recorded: false,
            changes: self.events.changes(),
            last_published: None,
            measured: None,
        };
        loop {
            self.drain(&mut leading).await?;
            self.measure(&mut leading).await?;
            if let Ok(notification) = timeout(POLL_INTERVAL, listener.try_recv()).await {
                notification?.context("the LISTEN connection was lost")?;
                // One read of the queue serves all notifications that have arrived.
                while let Some(more) = listener.try_recv().now_or_never() {
                    more?.context("the LISTEN connection was lost")?;
                }
            }
        }
    }

    /// Publishes until the queue is empty, however long NATS is unavailable.
    async fn drain(&self, leading: &mut Leading) -> anyhow::Result<()> {
        let (mut delays, mut failures) = (PUBLISH_BACKOFF.build(), 0);
        loop {
            match self.publish_batch(leading).await? {
                // Rows that were committed since the read have sent a notification, which is not received yet.
                Ok(rows) if rows < usize::from(BATCH_ROWS_MAX) => return Ok(()),
                Ok(_) => (delays, failures) = (PUBLISH_BACKOFF.build(), 0),
                Err(problem) => {
                    // The stream may be missing, or shorter.
                    leading.is_stream_compared = false;
                    failures += 1;
                    if failures == FAILURES_BEFORE_WARNING {
                        let error = format!("{problem:#}");
                        warn!(owner = self.owner, error, "events cannot be published; they wait in the queue");
                    }
                    self.measure(leading).await?;
                    let delay = delays.next().expect("the back-off has no last delay");
                    leading.keep_alive(sleep(delay)).await?;
                }
            }
        }
    }

    /// Publishes a batch, and deletes the stored rows from the queue. Returns the number of rows that were read, or the
    /// reason why not all are stored.
    async fn publish_batch(&self, leading: &mut Leading) -> anyhow::Result<anyhow::Result<usize>> {
        if leading.changes.as_mut().is_some_and(|changes| changes.has_changed().unwrap_or(false)) {
            leading.is_stream_compared = false;
        }
        if !leading.is_stream_compared
            && let Err(problem) = self.compare_stream(leading).await?
        {
            return Ok(Err(problem));
        }
        let rows = queued(&mut leading.connection).await?;
        if rows.is_empty() {
            return Ok(Ok(0));
        }
        let mut batch = Vec::with_capacity(rows.len());
        let mut batch_ids = Vec::with_capacity(rows.len());
        let mut unpublished_ids = Vec::new();
        for row in &rows {
            match self.outgoing(row) {
                Ok(Some(outgoing)) => {
                    batch.push(outgoing);
                    batch_ids.push(row.queue_id);
                }
                Ok(None) => unpublished_ids.push(row.queue_id),
                Err(problem) => self.mark_failed(&mut leading.connection, row, &problem).await?,
            }
        }
        let (sequences, problem) = self.send(leading, &batch).await?;
        let stored = sequences.len();
        if let Some(last) = batch[..stored].last() {
            leading.last_published = Some(last.message_id.clone());
        }
        batch_ids.truncate(stored);
        if leading.is_recorded && stored > 0 {
            let sequences: Vec<i64> = sequences.into_iter().map(u64::cast_signed).collect();
            sqlx::query("select record_published($1, $2)")
                .bind(&batch_ids)
                .bind(&sequences)
                .execute(&mut leading.connection)
                .await?;
        } else {
            unpublished_ids.append(&mut batch_ids);
        }
        if !unpublished_ids.is_empty() {
            sqlx::query("delete from journal_queue where id = any($1)")
                .bind(&unpublished_ids)
                .execute(&mut leading.connection)
                .await?;
        }
        counter!("events_published_total", "owner" => self.owner).increment(stored as u64);
        Ok(problem.map_or(Ok(rows.len()), Err))
    }

    /// Compares the stream with what was published, and queues again what it has lost.
    async fn compare_stream(&self, leading: &mut Leading) -> anyhow::Result<anyhow::Result<()>> {
        if let Some(changes) = &mut leading.changes {
            changes.mark_unchanged();
        }
        let end = match leading.keep_alive(self.events.require_stream(self.owner)).await? {
            Ok(end) => end,
            Err(problem) => return Ok(Err(problem)),
        };
        leading.is_stream_compared = true;
        leading.is_recorded = end.is_some();
        let Some(StreamEnd { incarnation, last }) = end else { return Ok(Ok(())) };
        let (restored, missing): (i64, i64) = sqlx::query_as("select restored, missing from restore_lost($1, $2)")
            .bind(incarnation)
            .bind(last.cast_signed())
            .fetch_one(&mut leading.connection)
            .await?;
        if restored > 0 || missing > 0 {
            leading.last_published = None;
            warn!(owner = self.owner, last, restored, "NATS has lost messages; they are published again");
        }
        if missing > 0 {
            error!(
                owner = self.owner,
                missing,
                "NATS has lost messages that are not recorded any more; run mfevents replay <owner> --from <time>"
            );
        }
        Ok(Ok(()))
    }

    /// Publishes all messages at once, then one by one those that were refused or lost. Returns the sequences of those
    /// that are stored, and the reason if not all are.
    async fn send(&self, leading: &mut Leading, batch: &[Outgoing]) -> sqlx::Result<(Vec<u64>, Option<anyhow::Error>)> {
        let Leading { connection, last_published, changes, .. } = leading;
        let at_once = self.events.publish(batch, last_published.as_deref());
        let mut stored = leader::keep_alive(connection, at_once).await?;
        if stored.len() < batch.len() {
            // Another relay may lead now: the ping fails if this one has lost its lock.
            connection.ping().await?;
        }
        for message in &batch[stored.len()..] {
            // Before a message is added to a stream that may lack those before it.
            if changes.as_mut().is_some_and(|changes| changes.has_changed().unwrap_or(false)) {
                return Ok((stored, Some(anyhow!("the connection to NATS has changed"))));
            }
            match leader::keep_alive(connection, self.events.publish_one(message)).await? {
                Ok(sequence) => stored.push(sequence),
                Err(problem) => return Ok((stored, Some(problem))),
            }
        }
        Ok((stored, None))
    }

    fn outgoing(&self, row: &JournalRow) -> anyhow::Result<Option<Outgoing>> {
        // A panic fails this row only, not the relay.
        let map = self.map;
        let mapped = catch_unwind(|| map(row))
            .unwrap_or_else(|_| Err(anyhow!("the mapping panicked; the log has the location")))?;
        let Some(mapped) = mapped else { return Ok(None) };
        let payload = mapped.payload(self.owner, row)?;
        anyhow::ensure!(
            payload.len() <= EVENT_BYTES_MAX,
            "the event has {} bytes; the limit is {EVENT_BYTES_MAX}",
            payload.len()
        );
        Ok(Some(Outgoing {
            subject: format!("flack.{}.{}.{}", self.owner, subject_part(&mapped.kind), subject_part(&mapped.entity_id)),
            message_id: message_id(self.owner, row),
            is_repeated: row.is_repeated,
            payload: payload.into(),
        }))
    }

    /// Marks a row as failed, so that the relay skips it: a defect in the mapping must not block other events.
    async fn mark_failed(
        &self,
        connection: &mut PgConnection,
        row: &JournalRow,
        problem: &anyhow::Error,
    ) -> anyhow::Result<()> {
        error!(
            owner = self.owner,
            journal.id = row.id,
            entity = row.entity,
            entity.id = row.entity_id,
            error = format!("{problem:#}"),
            "a journal row cannot be published; it stays in journal_queue as failed"
        );
        sqlx::query("update journal_queue set failed_at = clock_timestamp(), error = $2 where id = $1")
            .bind(row.queue_id)
            .bind(format!("{problem:#}"))
            .execute(connection)
            .await?;
        Ok(())
    }

    async fn measure(&self, leading: &mut Leading) -> anyhow::Result<()> {
        if leading.measured.is_some_and(|at| at.elapsed() < MEASURE_INTERVAL) {
            return Ok(());
        }
        leading.measured = Some(Instant::now());
        sqlx::query(
            "delete from journal_published
             where sequence <= (select max(sequence) from journal_published) - journal_published_rows_max()",
        )
        .execute(&mut leading.connection)
        .await?;
        let (rows, oldest_seconds, failed, filled): (f64, Option<f64>, f64, f64) = sqlx::query_as(
            "select
                (select count(*)::float8 from (select from journal_queue where failed_at is null limit $1) as counted),
                (select extract(epoch from clock_timestamp() - recorded_at)::float8
                    from journal_queue where failed_at is null order by id limit 1),
                (select count(*)::float8 from journal_queue where failed_at is not null),
                (select coalesce(max(id) - min(id) + 1, 0)::float8 / journal_queue_rows_max()
                    from journal_queue where failed_at is null and not replay)",
        )
        .bind(COUNTED_ROWS_MAX)
        .fetch_one(&mut leading.connection)
        .await?;
        gauge!("journal_queue_rows", "owner" => self.owner).set(rows);
        gauge!("journal_queue_oldest_seconds", "owner" => self.owner).set(oldest_seconds.unwrap_or(0.0));
        gauge!("journal_queue_failed_rows", "owner" => self.owner).set(failed);
        gauge!("journal_queue_filled_ratio", "owner" => self.owner).set(filled);
        if filled >= 1.0 {
            error!(owner = self.owner, "the journal queue is full: writes are refused until NATS stores events again");
        } else if filled >= FILLED_RATIO_WARN {
            warn!(
                owner = self.owner,
                filled_percent = (filled * 100.0).floor(),
                "the journal queue fills up; when it is full, writes are refused"
            );
        }
        Ok(())
    }
}

async fn queued(connection: &mut PgConnection) -> sqlx::Result<Vec<JournalRow>> {
    sqlx::query_as(
        "select queue.id as queue_id, queue.replay, queue.is_repeated, journal.id, journal.recorded_at,
            journal.operation, journal.entity, journal.entity_id, journal.version, journal.epoch, journal.row_data,
            journal.correlation_id
        from journal_queue as queue
        inner join journal on journal.recorded_at = queue.recorded_at and journal.id = queue.journal_id
        where queue.failed_at is null
        order by queue.id
        limit $1",
    )
    .bind(i64::from(BATCH_ROWS_MAX))
    .fetch_all(connection)
    .await
}

/// Replaces characters that have a meaning in subjects, such as dots, stars and blanks.
fn subject_part(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':') { c } else { '_' }).collect()
}
