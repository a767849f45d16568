//! The follower of a part in one database. One instance leads; lock, position and rows share one connection.
//!
//! While the database is the replica, it copies the owner's tables in chunks and applies the changed rows, strictly in
//! the order in which it fetched them. So a fetched row is newer than everything that was applied before, and needs no
//! version. While the database is the owner, it proves that the way back works, and adds foreign keys again.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use flack_common::{authority::Authority, database::leader, restart::restart_on_failure};
use flack_handover::{
    Part,
    fence::Role,
    guards::LAG_SECONDS,
    protocol::{Changes, ChangesQuery, Position, RowsRequest, Selection, What},
};
use futures::future::try_join_all;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use tokio::{
    join,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    apply::{self, ApplyError, Progress, Rows, Scope},
    change_log, foreign_keys,
    peer::{Peer, PeerError},
    replica::{self, Replica},
    tables::{self, Table},
    throttle::Throttle,
};

/// How often a process that is not needed asks the record again.
const RECORD_INTERVAL: Duration = Duration::from_millis(200);
/// How often the owner looks for work.
const OWNER_INTERVAL: Duration = Duration::from_millis(100);
/// How often the owner looks for foreign keys that it may add again, and at the length of its log.
const OWNER_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the owner proves the way back; a proof counts for a minute.
const WAY_BACK_INTERVAL: Duration = Duration::from_secs(10);
const WAY_BACK_TIMEOUT: Duration = Duration::from_secs(1);
const WAY_BACK_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Rows that violate a foreign key are checked again after this time.
const VALIDATE_INTERVAL: Duration = Duration::from_mins(1);
const RETRY_DELAY: Duration = Duration::from_millis(200);
const PAUSED_INTERVAL: Duration = Duration::from_millis(100);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(1);
/// The entries of the change log that are applied at once.
const CHANGES_MAX: u32 = 1_000;
/// How long the owner waits for a change before it answers.
const CHANGES_WAIT_MS: u32 = 1_000;
/// From the begin of a batch of changes to that of the next one. A batch costs three requests and a commit, and a
/// larger one costs hardly more. It is less than half of the lag that a change of owner allows.
const BATCH_INTERVAL: Duration = Duration::from_millis(20);
/// A request's body has at most 64 KiB.
const KEYS_BYTES_MAX: usize = 48 * 1024;
/// A batch whose rows collide is repeated together with later changes.
const COLLISIONS_MAX: u32 = 20;
/// The chunks that are copied before changes are applied again.
const CHUNKS_PER_TURN: u32 = 8;
const CHUNK_ROWS_FIRST: u32 = 2_000;
const CHUNK_ROWS_MAX: u32 = 20_000;
const CHUNK_BYTES: usize = 8 * 1024 * 1024;
/// The reports of a follower that has nothing to apply.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The follower of one part.
#[derive(Debug, Clone)]
pub(crate) struct Follower {
    part: Part,
    pool: PgPool,
    peer: Peer,
    authority: Authority,
}

/// Why a turn has failed. The next one repeats it.
#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error("the owner does not record changes yet")]
    NotRecording,
    #[error("the columns of {table} differ: here {here:?}, at the owner {owner:?}; upgrade both sides to one version")]
    ColumnsDiffer { table: String, here: Vec<String>, owner: Vec<String> },
    #[error("the owner has no table {table}; upgrade both sides to one version")]
    NoTable { table: String },
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl From<sqlx::Error> for TurnError {
    fn from(error: sqlx::Error) -> Self {
        Self::Apply(ApplyError::Database(error))
    }
}

/// The state of a leader.
struct Leading {
    connection: PgConnection,
    /// While this database is the replica, and the owner's epoch was compared.
    replicating: Option<Replicating>,
    checked_at: Option<Instant>,
    way_back_at: Option<Instant>,
    validated_at: Option<Instant>,
}

struct Replicating {
    tables: Vec<Table>,
    lags: VecDeque<(Instant, i32)>,
    reported_at: Instant,
    throttle: Throttle,
    chunk_rows: u32,
    /// Chunks that were fetched again because of a collision, one after another.
    collisions: u32,
}

impl Leading {
    /// Awaits something that does not use the connection.
    async fn keep_alive<T>(&mut self, waiting: impl Future<Output = T>) -> Result<T, TurnError> {
        Ok(leader::keep_alive(&mut self.connection, waiting).await?)
    }
}

/// The changes of a batch.
#[derive(Default)]
struct Batch {
    /// The keys of each table, as JSON.
    keys: BTreeMap<String, BTreeSet<String>>,
    position: Position,
    entries: usize,
    has_marker: bool,
    /// How old the oldest change was when the owner answered, and when that was.
    oldest: Option<(Duration, Instant)>,
}

impl Batch {
    fn add(&mut self, changes: Changes, received_at: Instant) {
        self.position = changes.position;
        self.entries += changes.changes.len();
        for change in changes.changes {
            if self.oldest.is_none() {
                self.oldest = Some((age(change.recorded_at, changes.answered_at), received_at));
            }
            match change.what {
                What::Row { table, key } => {
                    self.keys.entry(table).or_default().insert(key.to_string());
                }
                What::Marker { .. } => self.has_marker = true,
                What::Probe { .. } => {}
            }
        }
    }
}

/// Ends a batch before it has more large rows than fit into memory. Returns whether changes were left out.
fn shorten(changes: &mut Changes, tables: &[Table]) -> bool {
    let mut rows: BTreeMap<&str, u32> = BTreeMap::new();
    let end = changes.changes.iter().position(|change| {
        let What::Row { table, .. } = &change.what else { return false };
        let Some(table) = tables.iter().find(|known| known.name == *table) else { return false };
        let count = rows.entry(&table.name).or_default();
        *count += 1;
        *count > table.rows_max(CHANGES_MAX)
    });
    if let Some(last) = end.and_then(|end| changes.changes[..end].last()) {
        changes.position = last.position;
    }
    changes.changes.truncate(end.unwrap_or(changes.changes.len()));
    end.is_some()
}

fn age(recorded_at: DateTime<Utc>, answered_at: DateTime<Utc>) -> Duration {
    (answered_at - recorded_at).to_std().unwrap_or_default()
}

impl Follower {
    pub(crate) fn new(part: Part, pool: PgPool, peer: Peer, authority: Authority) -> Self {
        Self { part, pool, peer, authority }
    }

    /// Follows, or waits as a standby, until `stopping`.
    pub(crate) async fn run(self, stopping: CancellationToken) {
        let following = restart_on_failure(RESTART_DELAY_MAX, || async {
            Box::pin(self.lead()).await.inspect_err(|problem| {
                warn!(part = %self.part, error = format!("{problem:#}"), "the follower failed; restarting it");
            })
        });
        stopping.run_until_cancelled(following).await;
    }

    fn is_followed(&self) -> bool {
        self.authority.record(self.part).is_some_and(|record| record.stage.is_followed())
    }

    /// Whether clients' writes wait for this part, or may soon.
    fn is_switching(&self) -> bool {
        self.authority.record(self.part).is_none_or(|record| record.stage.is_switching())
    }

    async fn lead(&self) -> anyhow::Result<Infallible> {
        loop {
            // A part that does not move needs no connection.
            while !self.is_followed() {
                sleep(RECORD_INTERVAL).await;
            }
            let mut connection = leader::acquire(&self.pool, "handover", self.part.service().name).await?;
            for statement in [
                // The owner deletes the changes up to a position that was stored, so it must not be lost.
                "set synchronous_commit = on",
                "set statement_timeout = '60s'",
                // Reads of this replica wait behind a statement that waits for a table.
                "set lock_timeout = '1s'",
                // The leader's plans seem expensive, because they may not scan tables.
                "set jit = off",
            ] {
                sqlx::query(statement).execute(&mut connection).await?;
            }
            info!(part = %self.part, "leading the hand-over of this database");
            let mut leading =
                Leading { connection, replicating: None, checked_at: None, way_back_at: None, validated_at: None };
            while self.is_followed() {
                let (role, ..) = replica::ownership(&mut leading.connection, self.part).await?;
                let result = if role == Role::Replica {
                    self.replicate(&mut leading).await
                } else {
                    leading.replicating = None;
                    self.own(&mut leading, role).await
                };
                if let Err(problem) = result {
                    self.failed(&mut leading, &problem).await?;
                }
            }
        }
    }

    /// Decides what a failure means: the connection is lost, the copy begins again, or the turn is repeated.
    async fn failed(&self, leading: &mut Leading, problem: &TurnError) -> anyhow::Result<()> {
        match problem {
            TurnError::Apply(ApplyError::Changed) => return Ok(()),
            TurnError::Peer(PeerError::Gone) => leading.replicating = None,
            _ => {}
        }
        // The rows of a statement's error are not part of its text; of a value that does not fit its type they are.
        let text = match problem {
            TurnError::Apply(ApplyError::Database(sqlx::Error::Database(error)))
                if error.code().is_some_and(|code| code.starts_with("22")) =>
            {
                format!("a value does not fit its column (SQLSTATE {})", error.code().unwrap_or_default())
            }
            problem => problem.to_string(),
        };
        let state = replica::load(&mut leading.connection, self.part).await?;
        if state.error.as_deref() != Some(&text) {
            warn!(part = %self.part, error = text, "following failed; trying again");
        }
        replica::report(&mut leading.connection, self.part, None, state.throttled.as_deref(), Some(&text)).await?;
        leading.keep_alive(sleep(RETRY_DELAY)).await?;
        Ok(())
    }

    /// Does what an owner has to do beside its requests.
    async fn own(&self, leading: &mut Leading, role: Role) -> Result<(), TurnError> {
        let is_switching = self.is_switching();
        let is_check_due = leading.checked_at.is_none_or(|at| at.elapsed() > OWNER_CHECK_INTERVAL);
        if role == Role::Owner && !is_switching && is_check_due {
            leading.checked_at = Some(Instant::now());
            foreign_keys::restore_owned(&mut leading.connection, self.part).await?;
            if leading.validated_at.is_none_or(|at| at.elapsed() > VALIDATE_INTERVAL) {
                let are_valid = foreign_keys::validate(&mut leading.connection, self.part).await?;
                leading.validated_at = (!are_valid).then(Instant::now);
            }
            change_log::limit(&mut leading.connection, self.part).await?;
        }
        if role == Role::Owner && leading.way_back_at.is_none_or(|at| at.elapsed() > WAY_BACK_INTERVAL) {
            leading.way_back_at = Some(Instant::now());
            self.prove_way_back(leading).await?;
        }
        leading.keep_alive(sleep(OWNER_INTERVAL)).await
    }

    /// Sends a probe to the replica through the change log, and reads its position back through the operations by which
    /// this side would follow.
    async fn prove_way_back(&self, leading: &mut Leading) -> Result<(), TurnError> {
        let sent = change_log::probe(&mut leading.connection, self.part).await?;
        let returned = timeout(WAY_BACK_TIMEOUT, async {
            while self.peer.log().await.ok().and_then(|log| log.applied).is_none_or(|applied| applied < sent) {
                sleep(WAY_BACK_POLL_INTERVAL).await;
            }
        });
        if leading.keep_alive(returned).await?.is_ok() {
            sqlx::query(
                "insert into part_logs (part, way_back_at) values ($1, now())
                 on conflict (part) do update set way_back_at = excluded.way_back_at",
            )
            .bind(self.part.service().name)
            .execute(&mut leading.connection)
            .await?;
        }
        Ok(())
    }

    /// Makes one turn as the replica: some chunks of the copy, then the changes.
    async fn replicate(&self, leading: &mut Leading) -> Result<(), TurnError> {
        let mut state = replica::load(&mut leading.connection, self.part).await?;
        if state.is_paused {
            replica::report(&mut leading.connection, self.part, None, Some("an operator has paused it"), None).await?;
            return leading.keep_alive(sleep(PAUSED_INTERVAL)).await;
        }
        // It has no `since` when the part was retired and is followed again since the last turn.
        if leading.replicating.is_none() || state.since.is_none() {
            state = self.prepare(leading, state).await?;
        }
        let Some(since) = state.since else { return Err(TurnError::NotRecording) };
        let mut replicating = leading.replicating.take().expect("it was prepared");
        let result = self.turn(leading, &mut replicating, since, &state).await;
        leading.replicating = Some(replicating);
        result
    }

    async fn turn(
        &self,
        leading: &mut Leading,
        replicating: &mut Replicating,
        since: i64,
        state: &Replica,
    ) -> Result<(), TurnError> {
        let has_all = self.apply_changes(leading, replicating, since, state).await?;
        if !state.is_copied && has_all {
            self.copy(leading, replicating, since).await?;
        }
        let is_new = state.error.is_some() || state.throttled != replicating.throttle.reason;
        if is_new || replicating.reported_at.elapsed() > REPORT_INTERVAL {
            replicating.reported_at = Instant::now();
            let (connection, reason) = (&mut leading.connection, replicating.throttle.reason.as_deref());
            replica::report(connection, self.part, Some(replicating.lag()), reason, None).await?;
        }
        Ok(())
    }

    /// Compares the epoch since which the owner records changes with that of this replica, and begins a copy when they
    /// differ.
    async fn prepare(&self, leading: &mut Leading, state: Replica) -> Result<Replica, TurnError> {
        let owner = leading.keep_alive(self.peer.log()).await??;
        let since = owner.followed_since.ok_or(TurnError::NotRecording)?;
        let tables = tables::of_part(&self.pool, self.part).await?;
        let mut throttle = Throttle::default();
        // The owner answers 410 also when the epoch is the same, but the log begins after the position.
        let has_all = state.since == Some(since) && {
            let query = ChangesQuery { limit: 1, wait_ms: 0, ..query(since, state.position()) };
            match leading.keep_alive(self.peer.changes(&query)).await? {
                Ok(_) => true,
                Err(PeerError::Gone) => false,
                Err(problem) => return Err(problem.into()),
            }
        };
        if !has_all {
            let counts = leading.keep_alive(self.peer.tables(true)).await??;
            let mut rows = Vec::with_capacity(tables.len());
            for table in &tables {
                let Some(counted) = counts.iter().find(|counted| counted.name == table.name) else {
                    return Err(TurnError::NoTable { table: table.name.clone() });
                };
                let (mut here, mut owner) = (table.column_names(), counted.columns.clone());
                here.sort();
                owner.sort();
                if here != owner {
                    return Err(TurnError::ColumnsDiffer { table: table.name.clone(), here, owner });
                }
                rows.push((table.name.clone(), counted.rows.cast_signed()));
            }
            self.drop_keys(leading).await?;
            apply::begin(&mut leading.connection, self.part, since, &tables, &rows).await?;
            info!(part = %self.part, since, "copying the owner's tables");
        }
        let state = replica::load(&mut leading.connection, self.part).await?;
        if !state.is_copied {
            leading.keep_alive(throttle.calibrate(&self.peer)).await??;
        }
        let (lags, reported_at, chunk_rows) = (VecDeque::new(), Instant::now(), CHUNK_ROWS_FIRST);
        leading.replicating = Some(Replicating { tables, lags, reported_at, throttle, chunk_rows, collisions: 0 });
        Ok(state)
    }

    async fn drop_keys(&self, leading: &mut Leading) -> Result<(), TurnError> {
        foreign_keys::drop_of(&mut leading.connection, self.part, false).await?;
        Ok(replica::set_has_keys(&mut leading.connection, self.part, false).await?)
    }

    /// Fetches changes and applies them. Returns false when the owner has more of them.
    async fn apply_changes(
        &self,
        leading: &mut Leading,
        replicating: &mut Replicating,
        since: i64,
        state: &Replica,
    ) -> Result<bool, TurnError> {
        let wait_ms = if state.is_copied { CHANGES_WAIT_MS } else { 0 };
        let query = ChangesQuery { wait_ms, ..query(since, state.position()) };
        let mut changes = leading.keep_alive(self.peer.changes(&query)).await??;
        if changes.changes.is_empty() {
            replicating.add_lag(0);
            return Ok(true);
        }
        let is_full = changes.changes.len() >= CHANGES_MAX as usize;
        let has_more = shorten(&mut changes, &replicating.tables) || is_full;
        let mut batch = Batch::default();
        let began = Instant::now();
        batch.add(changes, began);
        // Not before there are rows: they exist again when this side is about to become the owner.
        if state.has_keys && !batch.keys.is_empty() {
            self.drop_keys(leading).await?;
        }
        let mut collisions = 0;
        loop {
            match self.apply_batch(leading, replicating, since, &batch).await {
                Ok(()) => break,
                // A row has a value that another one has given up since, in a change that is not in the batch.
                Err(TurnError::Apply(ApplyError::Collides { .. })) if collisions < COLLISIONS_MAX => {
                    collisions += 1;
                    let later = ChangesQuery { wait_ms: 0, ..self::query(since, batch.position) };
                    let changes = leading.keep_alive(self.peer.changes(&later)).await??;
                    batch.add(changes, Instant::now());
                }
                Err(problem) => return Err(problem),
            }
        }
        if let Some((age, received_at)) = batch.oldest {
            let lag = age + received_at.elapsed();
            replicating.add_lag(i32::try_from(lag.as_millis()).unwrap_or(i32::MAX));
        }
        if batch.has_marker {
            // The record may name this side as the owner already: its fence opens at once.
            self.authority.follow(&mut leading.connection, self.part).await?;
        } else if state.is_copied && batch.entries < CHANGES_MAX as usize && !self.is_switching() {
            leading.keep_alive(sleep_until(began + BATCH_INTERVAL)).await?;
        }
        Ok(!has_more)
    }

    /// Fetches the rows of a batch as they are now, and applies them with its position.
    async fn apply_batch(
        &self,
        leading: &mut Leading,
        replicating: &Replicating,
        since: i64,
        batch: &Batch,
    ) -> Result<(), TurnError> {
        let changed = replicating.tables.iter().filter_map(|table| Some((table, batch.keys.get(&table.name)?)));
        let rows = try_join_all(changed.map(async |(table, keys)| {
            Ok::<_, PeerError>(Rows { table, scope: Scope::Keys(keys), text: self.fetch(table, keys).await? })
        }));
        let rows = leading.keep_alive(rows).await??;
        let progress = Progress::Changes { position: batch.position };
        apply::apply(&mut leading.connection, self.part, since, &rows, &progress).await?;
        Ok(())
    }

    async fn fetch(&self, table: &Table, keys: &BTreeSet<String>) -> Result<Bytes, PeerError> {
        let mut texts = Vec::new();
        let mut keys = keys.iter().peekable();
        while keys.peek().is_some() {
            let (mut selected, mut bytes) = (Vec::new(), 0);
            let rows_max = table.rows_max(CHANGES_MAX) as usize;
            while let Some(key) = keys
                .next_if(|key| selected.is_empty() || (bytes + key.len() < KEYS_BYTES_MAX && selected.len() < rows_max))
            {
                bytes += key.len() + 1;
                selected.extend(serde_json::from_str::<Value>(key));
            }
            texts.push(self.peer.rows(&request(table, Selection::Keys(selected))).await?);
        }
        Ok(if texts.len() == 1 { texts.swap_remove(0) } else { texts.concat().into() })
    }

    /// Copies some chunks of the first table that is not copied. While one is written, the next one is fetched.
    async fn copy(&self, leading: &mut Leading, replicating: &mut Replicating, since: i64) -> Result<(), TurnError> {
        let open: Option<(String, Option<Value>)> = sqlx::query_as(
            "select copied.target, last_key
             from part_copies as copied
             inner join part_tables as ordered on ordered.part = copied.part and ordered.target::text = copied.target
             where copied.part = $1 and not is_done
             order by position limit 1",
        )
        .bind(self.part.service().name)
        .fetch_optional(&mut leading.connection)
        .await?;
        let Some((name, mut after)) = open else {
            sqlx::query("update part_replicas set is_copied = true where part = $1")
                .bind(self.part.service().name)
                .execute(&mut leading.connection)
                .await?;
            replicating.throttle.reason = None;
            // Changes that waited for chunks of the copy say nothing of those that follow.
            replicating.lags.clear();
            info!(part = %self.part, since, "the copy is complete");
            return Ok(());
        };
        let delay = replicating.throttle.delay();
        leading.keep_alive(sleep(delay)).await?;
        let Some(table) = replicating.tables.iter().find(|table| table.name == name) else {
            return Err(TurnError::NoTable { table: name });
        };
        let chunk = async |after: Option<Value>, limit: u32| {
            let selection = Selection::After { key: after, limit };
            let text = self.peer.rows(&request(table, selection)).await?;
            // In this format a line break in a value is written as \n.
            let rows = text.split(|byte| *byte == b'\n').count() - 1;
            Ok::<_, PeerError>((text, rows, limit))
        };
        let mut fetched = leading.keep_alive(chunk(after.clone(), table.rows_max(replicating.chunk_rows))).await??;
        for number in 1..=CHUNKS_PER_TURN {
            let (text, rows, limit) = fetched;
            let is_last = rows < limit as usize;
            let last_key = table.last_key(&text);
            replicating.chunk_rows = chunk_rows(text.len(), rows);
            let scope = Scope::Range { after: after.as_ref(), up_to: if is_last { None } else { last_key.as_ref() } };
            let items = [Rows { table, scope, text }];
            let progress = Progress::Chunk { last_key: last_key.as_ref(), is_last };
            let applying = apply::apply(&mut leading.connection, self.part, since, &items, &progress);
            let has_next = !is_last && number < CHUNKS_PER_TURN && delay.is_zero();
            let (after_it, limit) = (last_key.clone(), table.rows_max(replicating.chunk_rows));
            let next = async { if has_next { chunk(after_it, limit).await.map(Some) } else { Ok(None) } };
            let (applied, next, sampled) = join!(applying, next, replicating.throttle.sample(&self.peer));
            match applied {
                // Its unique value is that of a stale row here: the changes come first, then the chunk again.
                Err(ApplyError::Collides { .. }) if replicating.collisions < COLLISIONS_MAX => {
                    replicating.collisions += 1;
                    return Ok(());
                }
                applied => applied?,
            };
            replicating.collisions = 0;
            sampled?;
            let Some(next) = next? else { break };
            fetched = next;
            after = last_key;
        }
        Ok(())
    }
}

impl Replicating {
    fn add_lag(&mut self, lag_ms: i32) {
        self.lags.push_back((Instant::now(), lag_ms));
        while self.lags.front().is_some_and(|(at, _)| at.elapsed() > Duration::from_secs(LAG_SECONDS.into())) {
            self.lags.pop_front();
        }
    }

    fn lag(&self) -> i32 {
        p99(self.lags.iter().map(|(_, lag)| *lag).collect())
    }
}

/// Returns the lag that 99 of 100 batches did not exceed: one late batch says little of how long a change of owner
/// would take.
fn p99(mut lags: Vec<i32>) -> i32 {
    let rank = (lags.len() * 99).div_ceil(100).saturating_sub(1);
    if lags.is_empty() { 0 } else { *lags.select_nth_unstable(rank).1 }
}

/// Returns the rows of the next chunk.
fn chunk_rows(bytes: usize, rows: usize) -> u32 {
    let bytes_per_row = (bytes / rows.max(1)).max(1);
    u32::try_from(CHUNK_BYTES / bytes_per_row).unwrap_or(u32::MAX).clamp(100, CHUNK_ROWS_MAX)
}

fn query(since: i64, position: Position) -> ChangesQuery {
    let Position { transaction, id } = position;
    ChangesQuery { since, transaction, id, limit: CHANGES_MAX, wait_ms: CHANGES_WAIT_MS }
}

fn request(table: &Table, selection: Selection) -> RowsRequest {
    RowsRequest { table: table.name.clone(), columns: table.column_names(), selection }
}

#[cfg(test)]
mod tests {
    use flack_handover::protocol::Change;

    use super::*;

    #[test]
    fn a_batch_has_a_limited_number_of_large_rows() {
        let table = |name: &str, has_large_rows| {
            let (key, columns, secrets, identities) = (vec![], vec![], BTreeSet::new(), vec![]);
            Table { name: name.to_owned(), key, columns, secrets, identities, has_large_rows }
        };
        let tables = [table("files", true), table("messages", false)];
        let changes = |names: &[&str]| {
            let changes: Vec<_> = (1..)
                .zip(names)
                .map(|(id, name)| Change {
                    position: Position { transaction: 7, id },
                    recorded_at: DateTime::UNIX_EPOCH,
                    what: What::Row { table: (*name).to_owned(), key: Value::Null },
                })
                .collect();
            let position = changes.last().map(|change| change.position).unwrap_or_default();
            Changes { changes, position, is_complete: true, answered_at: DateTime::UNIX_EPOCH }
        };
        let mut small = changes(&["messages"; 500]);
        assert!(!shorten(&mut small, &tables) && small.changes.len() == 500 && small.position.id == 500);
        let mut mixed = changes(&[&["messages"; 5][..], &["files"; 20]].concat());
        assert!(shorten(&mut mixed, &tables));
        assert_eq!((mixed.changes.len(), mixed.position.id), (13, 13));
        assert!(!shorten(&mut mixed, &tables) && mixed.changes.len() == 13);
    }

    #[test]
    fn one_late_batch_of_a_hundred_does_not_count_and_a_second_one_does() {
        let mut lags = vec![5; 200];
        (lags[7], lags[150]) = (900, 800);
        assert_eq!(p99(lags.clone()), 5);
        lags[151] = 700;
        assert_eq!(p99(lags), 700);
        assert_eq!((p99(vec![]), p99(vec![3]), p99(vec![3, 900])), (0, 3, 900));
    }
}
