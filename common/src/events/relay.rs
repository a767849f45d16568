//! The relay: takes what is queued in the owner's database to the owner's stream.
//!
//! One works, the other instances' stand by (`database::leader`). A row leaves the queue only after its message was stored.
//! Killed between the two, the next relay publishes it again under the same message id, and the stream drops it as a
//! duplicate.
//!
//! One that was stopped, replaced, and wakes up is refused by the stream: all that it sends in one go names the message
//! before it, and that is no longer the last one.

use std::{panic::catch_unwind, time::Duration};

use anyhow::{Context as _, anyhow};
use futures::FutureExt as _;
use metrics::{counter, gauge};
use sqlx::{Connection as _, PgConnection, PgPool, postgres::PgListener};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Events, JournalRow, MappedEvent, Outgoing, journal_row::message_id};
use crate::database::leader;

/// Rows that are published together: enough to hide the way to NATS and back, little enough to repeat.
const BATCH_ROWS_MAX: u16 = 256;
/// In the normal case a notification wakes the relay at commit; this is for a notification that was lost.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// NATS takes 1 MiB. A larger event would be refused for ever and stop all behind it.
const EVENT_BYTES_MAX: usize = 512 * 1024;
/// Counting a long queue costs; beyond this the gauge says "at least".
const COUNTED_ROWS_MAX: i64 = 100_000;
/// From here on the log says that the queue (`journal_queue_rows_max` in migrations/shared) fills up.
const FILLED_RATIO_WARN: f64 = 0.5;
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// Says what a row means; `None` when it is nothing to tell.
pub type Map = fn(&JournalRow) -> anyhow::Result<Option<MappedEvent>>;

/// What the one that works has.
struct Leading {
    connection: PgConnection,
    /// The message that it published last.
    published: Option<String>,
    measured: Option<Instant>,
}

impl Leading {
    async fn hold<T>(&mut self, waiting: impl Future<Output = T>) -> sqlx::Result<T> {
        leader::keep_alive(&mut self.connection, waiting).await
    }
}

/// Publishes one database's journal.
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

    /// Works, or stands by, until `stopping`.
    pub async fn run(self, stopping: CancellationToken) {
        let mut pause = PAUSE_FIRST;
        while !stopping.is_cancelled() {
            let started = Instant::now();
            let Some(result) = stopping.run_until_cancelled(Box::pin(self.lead())).await else { break };
            if let Err(problem) = result {
                warn!(owner = self.owner, error = format!("{problem:#}"), "the relay begins anew");
            }
            pause = if started.elapsed() > PAUSE_MAX * 4 { PAUSE_FIRST } else { (pause * 2).min(PAUSE_MAX) };
            stopping.run_until_cancelled(sleep(jittered(pause))).await;
        }
    }

    /// Waits for its turn, then publishes until something breaks.
    async fn lead(&self) -> anyhow::Result<()> {
        let connection =
            leader::acquire(&self.pool, "relay", "").await.context("the database does not answer")?;
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.eager_reconnect(false);
        listener.listen("journal").await?;
        info!(owner = self.owner, "relaying");

        let mut leading = Leading { connection, published: None, measured: None };
        self.prepare(&mut leading).await?;
        loop {
            self.drain(&mut leading).await?;
            self.measure(&mut leading).await?;
            if let Ok(notification) = timeout(POLL_INTERVAL, listener.try_recv()).await {
                notification?.context("the connection that listens was lost")?;
                // One look at the queue answers all the notifications that came meanwhile.
                while let Some(more) = listener.try_recv().now_or_never() {
                    more?.context("the connection that listens was lost")?;
                }
            }
        }
    }

    /// Until NATS is there, only the gauges move.
    async fn prepare(&self, leading: &mut Leading) -> anyhow::Result<()> {
        let mut pause = PAUSE_FIRST;
        while let Err(problem) = leading.hold(self.events.prepare(self.owner)).await? {
            if pause >= PAUSE_MAX {
                warn!(
                    owner = self.owner,
                    error = format!("{problem:#}"),
                    "the stream is not ready; changes wait in the queue"
                );
            }
            self.measure(leading).await?;
            leading.hold(sleep(jittered(pause))).await?;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Ok(())
    }

    /// Publishes until the queue is empty, however long NATS is away.
    async fn drain(&self, leading: &mut Leading) -> anyhow::Result<()> {
        let mut pause = PAUSE_FIRST;
        loop {
            let rows = queued(&mut leading.connection).await?;
            if rows.is_empty() {
                return Ok(());
            }
            let Some(problem) = self.publish(leading, &rows).await? else {
                if rows.len() < usize::from(BATCH_ROWS_MAX) {
                    // Whatever was committed since we looked has sent a notification, which is still to be heard.
                    return Ok(());
                }
                pause = PAUSE_FIRST;
                continue;
            };
            if pause >= PAUSE_MAX {
                warn!(
                    owner = self.owner,
                    error = format!("{problem:#}"),
                    "events cannot be published; they wait in the queue"
                );
            }
            self.measure(leading).await?;
            leading.hold(sleep(jittered(pause))).await?;
            pause = (pause * 2).min(PAUSE_MAX);
            // The stream may be what is missing.
            if let Err(problem) = leading.hold(self.events.prepare(self.owner)).await? {
                tracing::debug!(
                    owner = self.owner,
                    error = format!("{problem:#}"),
                    "the stream is not ready"
                );
            }
        }
    }

    /// Publishes these rows and takes out of the queue what was stored. `Some` says why not all were.
    async fn publish(
        &self,
        leading: &mut Leading,
        rows: &[JournalRow],
    ) -> anyhow::Result<Option<anyhow::Error>> {
        let mut batch = Vec::with_capacity(rows.len());
        let mut batch_ids = Vec::with_capacity(rows.len());
        let mut silent_ids = Vec::new();
        for row in rows {
            match self.outgoing(row) {
                Ok(Some(outgoing)) => {
                    batch.push(outgoing);
                    batch_ids.push(row.queue_id);
                }
                Ok(None) => silent_ids.push(row.queue_id),
                Err(problem) => self.set_aside(&mut leading.connection, row, &problem).await?,
            }
        }
        let (stored, problem) = self.send(leading, &batch).await?;
        if let Some(last) = batch[..stored].last() {
            leading.published = Some(last.message_id.clone());
        }
        batch_ids.truncate(stored);
        batch_ids.append(&mut silent_ids);
        sqlx::query("delete from journal_queue where id = any($1)")
            .bind(&batch_ids)
            .execute(&mut leading.connection)
            .await?;
        counter!("events_published_total", "owner" => self.owner).increment(stored as u64);
        Ok(problem)
    }

    /// All at once; and one by one those that were refused then, or lost. Says how many are stored, and why not all.
    async fn send(
        &self,
        leading: &mut Leading,
        batch: &[Outgoing],
    ) -> sqlx::Result<(usize, Option<anyhow::Error>)> {
        let Leading { connection, published, .. } = leading;
        let at_once = self.events.publish(batch, published.as_deref());
        let mut stored = leader::keep_alive(connection, at_once).await?;
        if stored < batch.len() {
            // Only if it was not another relay that came between.
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
        // A panic is a defect of this row's mapping, not the end of the relay.
        let map = self.map;
        let mapped = catch_unwind(|| map(row))
            .unwrap_or_else(|_| Err(anyhow!("the mapping panicked; the log says where")))?;
        let Some(mapped) = mapped else { return Ok(None) };
        let payload = mapped.payload(self.owner, row)?;
        anyhow::ensure!(
            payload.len() <= EVENT_BYTES_MAX,
            "the event has {} bytes, the most is {EVENT_BYTES_MAX}",
            payload.len()
        );
        Ok(Some(Outgoing {
            subject: format!(
                "flack.{}.{}.{}",
                self.owner,
                subject_part(&mapped.kind),
                subject_part(&mapped.entity_id)
            ),
            message_id: message_id(self.owner, row),
            payload: payload.into(),
        }))
    }

    /// A defect in the mapping must not stop everybody else's events.
    async fn set_aside(
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
            "a change cannot be told; it stays in journal_queue as failed"
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
            error!(
                owner = self.owner,
                "the queue of events is full: writes are refused until NATS takes events again"
            );
        } else if filled >= FILLED_RATIO_WARN {
            warn!(
                owner = self.owner,
                filled_percent = (filled * 100.0).floor(),
                "the queue of events fills up; when it is full, writes will be refused"
            );
        }
        Ok(())
    }
}

async fn queued(connection: &mut PgConnection) -> sqlx::Result<Vec<JournalRow>> {
    sqlx::query_as(
        "select queue.id as queue_id, queue.replay, journal.id, journal.recorded_at, journal.operation, journal.entity,
            journal.entity_id, journal.version, journal.row_data, journal.correlation_id
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

/// Dots, stars and blanks have a meaning in subjects.
fn subject_part(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':') { c } else { '_' })
        .collect()
}

/// Up to half longer, so that many who fail together do not come back together.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 + rand::random::<f64>() / 2.0)
}
