//! Queues journal rows of an owner once more, not faster than its relay publishes them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use flack_catalogue::Service;
use serde_json::Value;
use sqlx::Acquire as _;
use tokio::time::{Instant, sleep};

use super::databases::Database;
use crate::failure::Result;
use crate::stack::Stack;

/// Rows per transaction, and the limit of replayed rows in the queue: new events wait behind them.
const BATCH_ROWS: i32 = 500;
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// If the queue does not get shorter for this long, no relay publishes.
const STALLED_AFTER: Duration = Duration::from_secs(15);
/// A batch that conflicts with locks of the app is rolled back and tried again.
const ATTEMPTS_MAX: u32 = 10;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct ReplayQueue {
    database: Database,
    /// The number of rows queued by this replay.
    pub(super) queued: i64,
    pub(super) last: Option<Last>,
}

/// The last row that was queued.
pub(super) struct Last {
    pub(super) recorded_at: DateTime<Utc>,
    /// The id that the relay gives the message.
    pub(super) message_id: String,
}

/// Which rows of the journal are replayed; `None` selects all.
pub(super) struct Selection<'a> {
    pub(super) entity: Option<&'a str>,
    pub(super) entity_id: Option<&'a str>,
    pub(super) from: Option<DateTime<Utc>>,
    pub(super) to: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct Batch {
    queued: i64,
    #[sqlx(default)]
    last_key: Option<Value>,
    last_time: DateTime<Utc>,
    last_id: i64,
    last_queue_id: i64,
}

impl ReplayQueue {
    pub(super) async fn open(stack: &Stack, owner: &'static Service) -> Result<Self> {
        Ok(Self { database: Database::open_migrated(stack, owner).await?, queued: 0, last: None })
    }

    /// Returns the entities that the owner publishes.
    pub(super) async fn entities(&mut self) -> Result<Vec<String>> {
        sqlx::query_scalar("select entity from journaled_entities()")
            .fetch_all(&mut self.database.connection)
            .await
            .map_err(|error| self.database.failed(&error))
    }

    /// Queues the selected rows of the journal.
    pub(super) async fn history(&mut self, selection: &Selection<'_>) -> Result<()> {
        let mut after: Option<(DateTime<Utc>, i64)> = None;
        loop {
            let batch: Option<Batch> = sqlx::query_as(
                "select queued, last_time, last_id, last_queue_id from replay_portion($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(selection.entity)
            .bind(selection.entity_id)
            .bind(selection.from)
            .bind(selection.to)
            .bind(after.map(|(time, _)| time))
            .bind(after.map(|(_, id)| id))
            .bind(BATCH_ROWS)
            .fetch_optional(&mut self.database.connection)
            .await
            .map_err(|error| self.database.failed(&error))?;
            let Some(batch) = batch else { return Ok(()) };
            after = Some((batch.last_time, batch.last_id));
            self.count(&batch).await?;
        }
    }

    /// Queues the present state of every row of the entity's table.
    pub(super) async fn snapshot(&mut self, entity: &str) -> Result<()> {
        let (mut after, mut attempt) = (None, 1);
        loop {
            match snapshot_batch(&mut self.database, entity, after.as_ref()).await {
                Ok(None) => return Ok(()),
                Ok(Some(batch)) => {
                    self.count(&batch).await?;
                    (after, attempt) = (batch.last_key, 1);
                }
                Err(error) if attempt < ATTEMPTS_MAX && is_lock_conflict(&error) => {
                    attempt += 1;
                    sleep(ATTEMPT_PAUSE).await;
                }
                Err(error) => return Err(self.database.failed(&error)),
            }
        }
    }

    /// Counts a batch, then waits until less than one batch of replayed rows is in the queue.
    async fn count(&mut self, batch: &Batch) -> Result<()> {
        let owner = self.database.owner;
        self.queued += batch.queued;
        self.last = Some(Last {
            recorded_at: batch.last_time,
            message_id: format!("{owner}-{}~{}", batch.last_id, batch.last_queue_id),
        });
        let mut fewest = i64::MAX;
        let mut progress = Instant::now();
        loop {
            let waiting: i64 = sqlx::query_scalar(
                "select count(*)
                from (select from journal_queue where replay and failed_at is null limit $1) as counted",
            )
            .bind(2 * BATCH_ROWS)
            .fetch_one(&mut self.database.connection)
            .await
            .map_err(|error| self.database.failed(&error))?;
            if waiting < i64::from(BATCH_ROWS) {
                return Ok(());
            }
            if waiting < fewest {
                (fewest, progress) = (waiting, Instant::now());
            }
            if progress.elapsed() > STALLED_AFTER {
                return Err(failure!(
                    Unavailable,
                    "{} events are queued, but are not published: \
                     does {owner} run, and NATS? See mfps and mfevents lag, then replay again",
                    self.queued
                ));
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}

async fn snapshot_batch(database: &mut Database, entity: &str, after: Option<&Value>) -> sqlx::Result<Option<Batch>> {
    let mut transaction = database.connection.begin().await?;
    // It locks rows that the app writes. In a deadlock PostgreSQL cancels the transaction that checks first: this one,
    // not the request of a user.
    for setting in [
        "set local deadlock_timeout = '20ms'",
        "set local lock_timeout = '1s'",
        "set local flack.correlation_id = 'mf-snapshot'",
    ] {
        sqlx::query(setting).execute(&mut *transaction).await?;
    }
    let batch =
        sqlx::query_as("select queued, last_key, last_time, last_id, last_queue_id from snapshot_portion($1, $2, $3)")
            .bind(entity)
            .bind(after)
            .bind(BATCH_ROWS)
            .fetch_optional(&mut *transaction)
            .await?;
    transaction.commit().await?;
    Ok(batch)
}

fn is_lock_conflict(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    // Deadlock detected; lock not available.
    code.is_some_and(|code| matches!(code.as_ref(), "40P01" | "55P03"))
}
