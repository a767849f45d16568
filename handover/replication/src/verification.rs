//! The comparison of both sides of a part, made at the replica.
//!
//! First digests of key ranges, then the rows of unequal ranges. Both sides change meanwhile, so a row counts as
//! different only when the replica had applied everything that the owner had when its row was read, and has not
//! changed since.
//! Afterwards only the rows that were applied since the last comparison are compared again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use flack_handover::{
    Part,
    protocol::{DIGESTS, Difference, Digests, DigestsRequest, Position, RangeDigest, RowsRequest, Selection},
};
use futures::{TryStreamExt as _, future::try_join_all};
use ring::digest;
use serde_json::{Map, Value};
use sqlx::{PgPool, types::Json};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::{
    peer::Peer,
    replica, rows,
    tables::{self, Table, fields},
};

const ROWS_PER_RANGE: u32 = 1_000;
const RANGES_MAX: u32 = 50;
/// Of a table with large rows: the digests of all ranges are one statement, which has 5 s.
const LARGE_RANGES_MAX: u32 = 4;
/// The rows of an unequal range whose digests are read at once.
const ROW_DIGESTS_MAX: u32 = 5_000;
/// The rows that are read from both sides at once; their keys fit into a request.
const ROWS_MAX: u32 = 250;
/// A row that changes all the time is read again so often.
const ROUNDS_MAX: usize = 10;
/// The differences that are kept with both values.
const DIFFERENCES_MAX: usize = 20;
/// Of a longer value, such as the content of a file, only the digest is kept.
const SHOWN_BYTES_MAX: usize = 262_144;
/// How long the replica may take to apply what the owner had.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(5);
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(2);

/// Compares the replica in `pool` with the owner behind `peer`.
#[derive(Debug, Clone)]
pub(crate) struct Comparison {
    part: Part,
    pool: PgPool,
    peer: Peer,
}

/// The result for some rows.
#[derive(Default)]
struct Compared {
    differences: Vec<Difference>,
    /// They changed in each round. The applier has recorded them as touched.
    unsettled: Vec<Value>,
}

impl Comparison {
    pub(crate) fn new(part: Part, pool: PgPool, peer: Peer) -> Self {
        Self { part, pool, peer }
    }

    /// Returns false when a comparison is running already.
    pub(crate) async fn begin(&self) -> anyhow::Result<bool> {
        let is_copied: Option<bool> = sqlx::query_scalar("select is_copied from part_replicas where part = $1")
            .bind(self.name())
            .fetch_optional(&self.pool)
            .await?;
        if is_copied != Some(true) {
            bail!("the copy of {} is not complete: there is nothing to compare", self.part);
        }
        let begun = sqlx::query(
            "insert into part_verifications as running (part) values ($1)
             on conflict (part) do update
             set is_running = true, seen_at = excluded.seen_at, rows_compared = 0, rows_total = 0
             where not running.is_running or running.seen_at < clock_timestamp() - make_interval(secs => $2)",
        )
        .bind(self.name())
        .bind(replica::COMPARISON_SEEN_SECONDS_MAX)
        .execute(&self.pool)
        .await?;
        Ok(begun.rows_affected() == 1)
    }

    /// Compares all rows, and records the progress and the result.
    pub(crate) async fn of_all_rows(self) -> anyhow::Result<()> {
        let result = self.compare_all().await;
        sqlx::query("update part_verifications set is_running = false where part = $1")
            .bind(self.name())
            .execute(&self.pool)
            .await?;
        result
    }

    async fn compare_all(&self) -> anyhow::Result<()> {
        let mut transaction = self.pool.begin().await?;
        replica::lock(&mut *transaction, self.part).await?;
        for statement in [
            "update part_replicas set tracks_touched = true where part = $1",
            "delete from part_touched where part = $1",
        ] {
            sqlx::query(statement).bind(self.name()).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;

        let total: u64 = self.peer.tables(true).await?.iter().map(|table| table.rows).sum();
        let (mut rows_compared, mut different, mut shown, mut unsettled) = (0, 0, Vec::new(), 0);
        for table in tables::of_part(&self.pool, self.part).await? {
            let mut after = None;
            let ranges_max = if table.has_large_rows { LARGE_RANGES_MAX } else { RANGES_MAX };
            loop {
                let digests = self.digests(&table, after, None, table.rows_max(ROWS_PER_RANGE), ranges_max).await?;
                for range in &digests {
                    let (from, to) = (range.after.as_ref(), range.up_to.as_ref());
                    let (rows, digest) = rows::digest_of_range(&self.pool, &table, from, to).await?;
                    if (rows, &digest) != (range.rows, &range.digest) {
                        let keys = self.unequal_rows(&table, range).await?;
                        let compared = self.compare(&table, keys).await?;
                        different += compared.differences.len();
                        unsettled += compared.unsettled.len();
                        shown.extend(compared.differences);
                        shown.truncate(DIFFERENCES_MAX);
                    }
                    rows_compared += range.rows;
                }
                self.record_progress(rows_compared, total.max(rows_compared)).await?;
                after = digests.last().and_then(|last| last.up_to.clone());
                if after.is_none() {
                    break;
                }
            }
        }
        self.record_result(different, &shown).await?;
        info!(part = %self.part, rows_compared, different, unsettled, "both sides were compared");
        Ok(())
    }

    /// Compares the rows that were applied since the last comparison, and those that differed.
    pub(crate) async fn of_touched_rows(&self) -> anyhow::Result<()> {
        let last: Option<(i64, Json<Vec<Difference>>)> = sqlx::query_as(
            "select rows_different, differences from part_verifications where part = $1 and compared_at is not null",
        )
        .bind(self.name())
        .fetch_optional(&self.pool)
        .await?;
        let Some((different, Json(shown))) = last else {
            bail!("the sides were never compared: compare all rows first");
        };
        let hidden = usize::try_from(different).unwrap_or_default().saturating_sub(shown.len());
        // A change that the owner has committed is among the touched rows after this.
        self.catch_up().await?;
        let touched: Vec<(String, Value)> = sqlx::query_as("select target, key from part_touched where part = $1")
            .bind(self.name())
            .fetch_all(&self.pool)
            .await?;
        let mut keys: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (table, key) in touched.into_iter().chain(shown.into_iter().map(|shown| (shown.table, shown.key))) {
            keys.entry(table).or_default().push(key);
        }
        let tables = tables::of_part(&self.pool, self.part).await?;
        // All tables at once: clients' writes may wait for the result.
        let compared = tables.iter().filter_map(|table| Some((table, keys.remove(&table.name)?)));
        let compared = compared.map(async |(table, keys)| {
            let compared = self.compare(table, keys).await?;
            if let Some(key) = compared.unsettled.first() {
                bail!("row {key} of {} changes too often to be compared; try again", table.name);
            }
            Ok(compared.differences)
        });
        let mut differences = try_join_all(compared).await?.concat();
        let different = hidden + differences.len();
        differences.truncate(DIFFERENCES_MAX);
        self.record_result(different, &differences).await
    }

    /// Compares rows, and forgets those as touched that are settled.
    async fn compare(&self, table: &Table, mut keys: Vec<Value>) -> anyhow::Result<Compared> {
        let mut compared = Compared::default();
        let mut unique = BTreeSet::new();
        keys.retain(|key| unique.insert(text_of(key)));
        for keys in keys.chunks(table.rows_max(ROWS_MAX) as usize) {
            let mut open = keys.to_vec();
            for _ in 0..ROUNDS_MAX {
                let started: DateTime<Utc> =
                    sqlx::query_scalar("select clock_timestamp()").fetch_one(&self.pool).await?;
                let selection = Selection::Keys(open.clone());
                let request = RowsRequest { table: table.name.clone(), columns: table.column_names(), selection };
                let owner = by_key(table, &self.peer.rows(&request).await?);
                self.catch_up().await?;
                let stream = rows::copy_out(&self.pool, table, &request.selection).await?;
                let replica: BytesMut = stream.try_collect().await?;
                let replica = by_key(table, &replica.freeze());
                // Changed since the owner's row was read.
                let changed: Vec<Value> = sqlx::query_scalar(
                    "select key from part_touched
                     where part = $1 and target = $2 and touched_at >= $3
                         and key in (select wanted from jsonb_array_elements($4) as wanted)",
                )
                .bind(self.name())
                .bind(&table.name)
                .bind(started)
                .bind(Value::Array(open.clone()))
                .fetch_all(&self.pool)
                .await?;
                let changed: BTreeSet<String> = changed.iter().map(text_of).collect();
                let (mut again, mut settled) = (Vec::new(), Vec::new());
                for key in open {
                    let text = text_of(&key);
                    let (ours, theirs) = (replica.get(&text), owner.get(&text));
                    if ours != theirs && changed.contains(&text) {
                        again.push(key);
                        continue;
                    }
                    if ours != theirs {
                        compared.differences.push(Difference {
                            table: table.name.clone(),
                            key: key.clone(),
                            owner: theirs.map(|row| shown(table, row)),
                            replica: ours.map(|row| shown(table, row)),
                        });
                    }
                    settled.push(key);
                }
                sqlx::query(
                    "delete from part_touched
                     where part = $1 and target = $2 and touched_at < $3
                         and key in (select settled from jsonb_array_elements($4) as settled)",
                )
                .bind(self.name())
                .bind(&table.name)
                .bind(started)
                .bind(Value::Array(settled))
                .execute(&self.pool)
                .await?;
                open = again;
                if open.is_empty() {
                    break;
                }
            }
            compared.unsettled.extend(open);
        }
        Ok(compared)
    }

    /// Returns the keys of the rows of a range whose digests differ, and of those that only one side has.
    async fn unequal_rows(&self, table: &Table, range: &RangeDigest) -> anyhow::Result<Vec<Value>> {
        let mut differing: BTreeMap<String, (Value, String)> = BTreeMap::new();
        for is_owner in [true, false] {
            let mut after = range.after.clone();
            loop {
                let up_to = range.up_to.clone();
                let rows = if is_owner {
                    self.digests(table, after, up_to, 1, ROW_DIGESTS_MAX).await?
                } else {
                    let request = digests_request(table, after, up_to, 1, ROW_DIGESTS_MAX);
                    rows::digests(&self.pool, table, &request).await?.ranges
                };
                let next = rows.last().filter(|last| last.rows == 1).and_then(|last| last.up_to.clone());
                for row in rows.into_iter().filter(|row| row.rows == 1) {
                    let Some(key) = row.up_to else { continue };
                    let text = text_of(&key);
                    match differing.get(&text) {
                        Some((_, digest)) if *digest == row.digest => {
                            differing.remove(&text);
                        }
                        _ => {
                            differing.insert(text, (key, row.digest));
                        }
                    }
                }
                // The last answer ends with an empty range.
                let Some(next) = next else { break };
                after = Some(next);
            }
        }
        Ok(differing.into_values().map(|(key, _)| key).collect())
    }

    async fn digests(
        &self,
        table: &Table,
        after: Option<Value>,
        up_to: Option<Value>,
        rows_per_range: u32,
        ranges_max: u32,
    ) -> anyhow::Result<Vec<RangeDigest>> {
        let request = digests_request(table, after, up_to, rows_per_range, ranges_max);
        let Digests { ranges } = self.peer.post(DIGESTS, &request).await?;
        Ok(ranges)
    }

    /// Waits until the replica has applied all changes that the owner has now.
    async fn catch_up(&self) -> anyhow::Result<()> {
        let present = self.peer.probe().await?;
        let deadline = Instant::now() + CATCH_UP_TIMEOUT;
        loop {
            let (transaction, id): (String, i64) =
                sqlx::query_as("select transaction::text, id from part_replicas where part = $1")
                    .bind(self.name())
                    .fetch_one(&self.pool)
                    .await?;
            let applied = Position { transaction: transaction.parse().context("a transaction id")?, id };
            if applied >= present {
                return Ok(());
            }
            if Instant::now() > deadline {
                warn!(part = %self.part, "the replica is behind: the sides cannot be compared");
                bail!("the replica has not applied the owner's changes within {CATCH_UP_TIMEOUT:?}");
            }
            sleep(CATCH_UP_INTERVAL).await;
        }
    }

    async fn record_progress(&self, compared: u64, total: u64) -> sqlx::Result<()> {
        sqlx::query(
            "update part_verifications set rows_compared = $2, rows_total = $3, seen_at = clock_timestamp()
             where part = $1",
        )
        .bind(self.name())
        .bind(compared.cast_signed())
        .bind(total.cast_signed())
        .execute(&self.pool)
        .await
        .map(drop)
    }

    async fn record_result(&self, different: usize, shown: &[Difference]) -> anyhow::Result<()> {
        sqlx::query(
            "update part_verifications
             set rows_different = $2, differences = $3, compared_at = clock_timestamp() where part = $1",
        )
        .bind(self.name())
        .bind(i64::try_from(different)?)
        .bind(Json(shown))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    fn name(&self) -> &'static str {
        self.part.service().name
    }
}

fn digests_request(
    table: &Table,
    after: Option<Value>,
    up_to: Option<Value>,
    rows_per_range: u32,
    ranges_max: u32,
) -> DigestsRequest {
    let (table, columns) = (table.name.clone(), table.column_names());
    DigestsRequest { table, columns, after, up_to, rows_per_range, ranges_max }
}

type Row = Vec<Option<String>>;

/// Returns the rows by the text of their keys.
fn by_key(table: &Table, text: &Bytes) -> BTreeMap<String, Row> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(fields).map(|row| (text_of(&table.key_of(&row)), row)).collect()
}

/// Returns a key as text: the change log has numbers, rows have only text.
fn text_of(key: &Value) -> String {
    let Value::Object(columns) = key else { return key.to_string() };
    let texts = columns.iter().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (name.clone(), Value::String(value))
    });
    Value::Object(texts.collect()).to_string()
}

/// Returns a row for the operator, with digests of its secrets and of long values.
fn shown(table: &Table, row: &Row) -> Value {
    let columns = table.columns.iter().zip(row).map(|(column, value)| {
        let value = value.as_ref().map_or(Value::Null, |value| {
            let is_hidden = table.secrets.contains(&column.name) || value.len() > SHOWN_BYTES_MAX;
            Value::String(if is_hidden { fingerprint(value) } else { value.clone() })
        });
        (column.name.clone(), value)
    });
    Value::Object(columns.collect::<Map<_, _>>())
}

/// Returns the start of the SHA-256 digest of a secret.
fn fingerprint(secret: &str) -> String {
    let digest = digest::digest(&digest::SHA256, secret.as_bytes());
    let start = digest.as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    format!("sha256:{start:016x}")
}
