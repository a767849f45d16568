//! The relay: publishes the journal queue of the owner's database to the owner's stream.
//!
//! One instance leads, the others are standbys (`database::leader`). A row leaves the queue after NATS has stored its
//! message. When a relay is killed between these two steps, the next one publishes the row again under the same message
//! id, and NATS drops the duplicate.
//!
//! A relay that was frozen while another one took over cannot publish: each message of a batch names its predecessor,
//! and NATS refuses it when that is not the stream's last message.

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
    journal_row::{JournalRow, MappedEvent, message_id},
    stream::Outgoing,
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
    is_stream_known: bool,
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

        let mut leading = Leading { connection, is_stream_known: false, last_published: None, measured: None };
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
                    // The stream may be missing.
                    leading.is_stream_known = false;
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
        if !leading.is_stream_known {
            if let Err(problem) = leading.keep_alive(self.events.require_stream(self.owner)).await? {
                return Ok(Err(problem));
            }
            leading.is_stream_known = true;
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
        let (stored, problem) = self.send(leading, &batch).await?;
        if let Some(last) = batch[..stored].last() {
            leading.last_published = Some(last.message_id.clone());
        }
        batch_ids.truncate(stored);
        batch_ids.append(&mut unpublished_ids);
        sqlx::query("delete from journal_queue where id = any($1)")
            .bind(&batch_ids)
            .execute(&mut leading.connection)
            .await?;
        counter!("events_published_total", "owner" => self.owner).increment(stored as u64);
        Ok(problem.map_or(Ok(rows.len()), Err))
    }

    /// Publishes all messages at once, then one by one those that were refused or lost. Returns how many are stored,
    /// and the reason if not all are.
    async fn send(&self, leading: &mut Leading, batch: &[Outgoing]) -> sqlx::Result<(usize, Option<anyhow::Error>)> {
        let Leading { connection, last_published, .. } = leading;
        let at_once = self.events.publish(batch, last_published.as_deref());
        let mut stored = leader::keep_alive(connection, at_once).await?;
        if stored < batch.len() {
            // Another relay may lead now: the ping fails if this one has lost its lock.
            connection.ping().await?;
        }
        for message in &batch[stored..] {
            if let Err(problem) = leader::keep_alive(connection, self.events.publish_one(message)).await? {
                return Ok((stored, Some(problem)));
            }
            stored += 1;
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
        "select queue.id as queue_id, queue.replay, journal.id, journal.recorded_at, journal.operation, journal.entity,
            journal.entity_id, journal.version, journal.epoch, journal.row_data, journal.correlation_id
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
