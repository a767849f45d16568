//! The owner's change log: reading, waiting for changes, deleting what the replica has applied.

use std::{convert::Infallible, sync::Arc, time::Duration};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use flack_common::{process::Background, restart::restart_on_failure};
use flack_handover::{
    Part,
    protocol::{Change, Changes, ChangesQuery, Position, What},
};
use serde_json::Value;
use sqlx::{
    PgExecutor, PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};

/// The entries of one answer.
const CHANGES_MAX: u32 = 2_000;
/// An answer comes within this time, before the deadline of a request.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// How often committed entries are read again that an older transaction still holds back.
const HELD_BACK_INTERVAL: Duration = Duration::from_millis(2);
/// Entries that are deleted at once.
const DELETED_ROWS_MAX: i32 = 20_000;
/// A replica that does not follow for long copies again: the log must not fill the disk. About 1 GB.
const LOG_ROWS_MAX: i64 = 5_000_000;
const RESTART_DELAY_MAX: Duration = Duration::from_secs(1);

/// Notifications of commits that wrote to the change log. One connection for all parts of a process.
#[derive(Debug, Clone)]
pub(crate) struct Wakeups {
    /// Changes with each notification.
    commits: Arc<watch::Sender<u64>>,
    wanted: Arc<Notify>,
}

impl Wakeups {
    pub(crate) fn new(pool: &PgPool, background: &Background) -> Self {
        let this = Self { commits: Arc::new(watch::Sender::new(0)), wanted: Arc::new(Notify::new()) };
        let (wakeups, pool, stopping) = (this.clone(), pool.clone(), background.stopping());
        background.spawn("change log", async move {
            let listening = async {
                // A process that nobody follows needs no connection.
                wakeups.wanted.notified().await;
                restart_on_failure(RESTART_DELAY_MAX, || wakeups.listen(&pool)).await
            };
            stopping.run_until_cancelled(listening).await;
        });
        this
    }

    async fn listen(&self, pool: &PgPool) -> anyhow::Result<Infallible> {
        // Not a connection of the pool, which requests need.
        let options = pool.connect_options().as_ref().clone();
        let own = PgPoolOptions::new().max_connections(1).connect_with(options).await?;
        let mut listener = PgListener::connect_with(&own).await?;
        listener.eager_reconnect(false);
        listener.listen("part_changes").await?;
        loop {
            self.commits.send_modify(|commits| *commits += 1);
            listener.try_recv().await?.context("the LISTEN connection was lost")?;
        }
    }

    fn subscribe(&self) -> watch::Receiver<u64> {
        self.wanted.notify_one();
        self.commits.subscribe()
    }
}

/// The log is of another epoch, or begins after the asked position: changes are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone {
    pub followed_since: Option<i64>,
}

/// Reads the entries after a position; waits for one when there is none.
pub(crate) async fn read(
    pool: &PgPool,
    part: Part,
    query: &ChangesQuery,
    wakeups: &Wakeups,
) -> sqlx::Result<Result<Changes, Gone>> {
    let mut commits = wakeups.subscribe();
    let deadline = Instant::now() + Duration::from_millis(query.wait_ms.into()).min(WAIT_MAX);
    let after = Position { transaction: query.transaction, id: query.id };
    loop {
        commits.mark_unchanged();
        let (followed_since, is_deleted): (Option<i64>, bool) = sqlx::query_as(
            "select followed_since, coalesce(
                 (deleted_transaction, deleted_id) > ($2::text::xid8, $3) and ($2, $3) <> ('0', 0), false)
             from ownership left join part_logs using (part) where part = $1",
        )
        .bind(part.service().name)
        .bind(after.transaction.to_string())
        .bind(after.id)
        .fetch_one(pool)
        .await?;
        if followed_since != Some(query.since) || is_deleted {
            return Ok(Err(Gone { followed_since }));
        }
        let (changes, answered_at, is_held_back) =
            entries(pool, part, after, query.limit.clamp(1, CHANGES_MAX)).await?;
        let remaining = deadline.saturating_duration_since(Instant::now());
        if !changes.is_empty() || remaining.is_zero() {
            let is_complete = !is_held_back && changes.len() < query.limit.clamp(1, CHANGES_MAX) as usize;
            let position = changes.last().map_or(after, |last| last.position);
            return Ok(Ok(Changes { changes, position, is_complete, answered_at }));
        }
        if is_held_back {
            sleep(HELD_BACK_INTERVAL.min(remaining)).await;
        } else {
            // An error is a lost connection or the end of the process; the timeout limits the wait.
            let _ = timeout(remaining, commits.changed()).await;
        }
    }
}

/// Returns the readable entries, the time of the database, and whether there are others that are not readable yet.
async fn entries(
    pool: &PgPool,
    part: Part,
    after: Position,
    limit: u32,
) -> sqlx::Result<(Vec<Change>, DateTime<Utc>, bool)> {
    type Row = (Option<String>, Option<i64>, Option<String>, Option<String>, Option<Value>, Option<DateTime<Utc>>);
    // One statement has one snapshot: what is not readable in it is held back.
    let rows: Vec<(DateTime<Utc>, bool, sqlx::types::Json<Vec<Row>>)> = sqlx::query_as(
        "with entry as materialized (
             select transaction, id, kind, target, key, recorded_at
             from part_changes
             where part = $1 and (transaction, id) > ($2::text::xid8, $3)
                 and transaction < pg_snapshot_xmin(pg_current_snapshot())
             order by transaction, id limit $4
         )
         select clock_timestamp(), exists (
             select from part_changes
             where part = $1 and transaction >= pg_snapshot_xmin(pg_current_snapshot())
                 and (transaction, id) > ($2::text::xid8, $3)
         ), coalesce((
             select jsonb_agg(jsonb_build_array(transaction::text, id, kind, target, key, recorded_at)
                 order by transaction, id) from entry
         ), '[]')",
    )
    .bind(part.service().name)
    .bind(after.transaction.to_string())
    .bind(after.id)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    let Some((answered_at, is_held_back, sqlx::types::Json(rows))) = rows.into_iter().next() else {
        return Err(sqlx::Error::RowNotFound);
    };
    let changes = rows.into_iter().map(|(transaction, id, kind, target, key, recorded_at)| {
        let key = key?;
        let what = match kind?.as_str() {
            "marker" => What::Marker { epoch: key.get("epoch")?.as_i64()? },
            "probe" => What::Probe { nonce: key.get("nonce")?.as_str()?.to_owned() },
            _ => What::Row { table: target?, key },
        };
        let position = Position { transaction: transaction?.parse().ok()?, id: id? };
        Some(Change { position, recorded_at: recorded_at?, what })
    });
    let changes = changes.collect::<Option<Vec<_>>>();
    let changes = changes.ok_or_else(|| sqlx::Error::Protocol("an entry of the change log is malformed".into()))?;
    Ok((changes, answered_at, is_held_back))
}

/// Adds a probe, which arrives at the replica after all present changes. Returns its position. No change follows the
/// marker of a closed part, so its position is returned then: clients' writes wait, and a probe would take its time.
pub(crate) async fn probe(executor: impl PgExecutor<'_>, part: Part) -> sqlx::Result<Position> {
    let (transaction, id, _): (String, i64, Option<()>) = sqlx::query_as(
        "with marker as (
             select changed.transaction::text, id
             from part_changes as changed inner join ownership using (part)
             where part = $1 and role = 'closed' and kind = 'marker' and (key ->> 'epoch')::bigint = epoch
             order by changed.transaction desc, id desc limit 1
         ), probe as (
             insert into part_changes (part, kind, key)
             select $1, 'probe', jsonb_build_object('nonce', gen_random_uuid()) where not exists (select from marker)
             returning transaction::text, id
         )
         select transaction, id, pg_notify('part_changes', $1) from probe
         union all
         select transaction, id, null from marker",
    )
    .bind(part.service().name)
    .fetch_one(executor)
    .await?;
    Ok(Position { transaction: transaction.parse().unwrap_or(u64::MAX), id })
}

/// Deletes some of the entries that the replica has applied.
pub(crate) async fn delete_applied(pool: &PgPool, part: Part, applied: Position) -> sqlx::Result<i64> {
    sqlx::query_scalar("select delete_changes($1, $2::text::xid8, $3, $4)")
        .bind(part.service().name)
        .bind(applied.transaction.to_string())
        .bind(applied.id)
        .bind(DELETED_ROWS_MAX)
        .fetch_one(pool)
        .await
}

/// Deletes entries beyond [`LOG_ROWS_MAX`], which a replica has not applied. Counted by ids, so rolled back ones count.
pub(crate) async fn limit(executor: impl PgExecutor<'_>, part: Part) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select coalesce(sum(delete_changes(part, transaction, id, $2)), 0)::bigint
         from (
             select part, transaction, id from part_changes
             where part = $1 and id <= (select max(id) from part_changes where part = $1) - $3
             order by transaction, id
             limit 1 offset 10000
         ) as beyond",
    )
    .bind(part.service().name)
    .bind(DELETED_ROWS_MAX)
    .bind(LOG_ROWS_MAX)
    .fetch_one(executor)
    .await
}
