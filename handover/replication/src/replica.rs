//! The state of one side of a part in its database: role, what a replica has applied, the last comparison.

use chrono::{DateTime, Utc};
use flack_handover::{
    Part,
    fence::Role,
    protocol::{Difference, Following, Position, ShadowReads, Status, Verification},
};
use sqlx::{Executor, FromRow, PgExecutor, PgPool, Postgres, types::Json};

/// An applier writes its state more often than this, also when nothing changes. An older lag is not known.
const SEEN_SECONDS_MAX: f64 = 3.0;
/// A comparison that has shown no progress for this time was interrupted.
pub(crate) const COMPARISON_SEEN_SECONDS_MAX: f64 = 30.0;
/// Counting a long queue takes time; from this number on, it means "at least".
const UNPUBLISHED_MAX: i64 = 100_000;

/// What a replica has applied, and what an operator has asked for.
#[derive(Debug, Clone, FromRow)]
#[expect(clippy::struct_excessive_bools, reason = "they are columns, and independent of each other")]
pub(crate) struct Replica {
    pub since: Option<i64>,
    transaction: String,
    id: i64,
    pub is_copied: bool,
    pub has_keys: bool,
    pub tracks_touched: bool,
    pub is_paused: bool,
    pub error: Option<String>,
    pub throttled: Option<String>,
}

impl Replica {
    pub(crate) fn position(&self) -> Position {
        Position { transaction: self.transaction.parse().unwrap_or(0), id: self.id }
    }
}

/// Returns the state of the replica. A database that became one in an earlier version has none yet.
pub(crate) async fn load(connection: &mut sqlx::PgConnection, part: Part) -> sqlx::Result<Replica> {
    let select = "select since, transaction::text, id, is_copied, has_keys, tracks_touched, is_paused, error, throttled
         from part_replicas where part = $1";
    if let Some(found) = sqlx::query_as(select).bind(part.service().name).fetch_optional(&mut *connection).await? {
        return Ok(found);
    }
    sqlx::query("insert into part_replicas (part) values ($1) on conflict do nothing")
        .bind(part.service().name)
        .execute(&mut *connection)
        .await?;
    sqlx::query_as(select).bind(part.service().name).fetch_one(connection).await
}

/// Returns role, epoch, marker and the last applied id.
pub(crate) async fn ownership(
    executor: impl PgExecutor<'_>,
    part: Part,
) -> sqlx::Result<(Role, i64, Option<i64>, i64)> {
    let (role, epoch, marker, applied): (String, i64, Option<i64>, i64) =
        sqlx::query_as("select role, epoch, marker, applied from ownership where part = $1")
            .bind(part.service().name)
            .fetch_one(executor)
            .await?;
    Ok((role_of(&role), epoch, marker, applied))
}

fn role_of(role: &str) -> Role {
    match role {
        "owner" => Role::Owner,
        "replica" => Role::Replica,
        _ => Role::Closed,
    }
}

pub(crate) async fn set_has_keys(executor: impl PgExecutor<'_>, part: Part, has_keys: bool) -> sqlx::Result<()> {
    sqlx::query("update part_replicas set has_keys = $2 where part = $1")
        .bind(part.service().name)
        .bind(has_keys)
        .execute(executor)
        .await
        .map(drop)
}

pub(crate) async fn set_paused(executor: impl PgExecutor<'_>, part: Part, is_paused: bool) -> sqlx::Result<()> {
    sqlx::query(
        "insert into part_replicas (part, is_paused) values ($1, $2)
         on conflict (part) do update set is_paused = excluded.is_paused",
    )
    .bind(part.service().name)
    .bind(is_paused)
    .execute(executor)
    .await
    .map(drop)
}

/// Records how the follower is doing: that it runs, its lag (`None` while it applies nothing), and what hinders it.
pub(crate) async fn report(
    executor: impl PgExecutor<'_>,
    part: Part,
    lag_ms: Option<i32>,
    throttled: Option<&str>,
    error: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query(
        "update part_replicas set seen_at = clock_timestamp(), lag_ms = $2, throttled = $3, error = $4 where part = $1",
    )
    .bind(part.service().name)
    .bind(lag_ms)
    .bind(throttled)
    .bind(error)
    .execute(executor)
    .await
    .map(drop)
}

/// Returns the last comparison.
pub(crate) async fn verification(executor: impl PgExecutor<'_>, part: Part) -> sqlx::Result<Option<Verification>> {
    type Row = (i64, i64, bool, i64, Option<f64>, Json<Vec<Difference>>);
    let found: Option<Row> = sqlx::query_as(
        "select rows_compared, rows_total,
             is_running and seen_at > clock_timestamp() - make_interval(secs => $2), rows_different,
             extract(epoch from clock_timestamp() - compared_at)::float8, differences
         from part_verifications where part = $1",
    )
    .bind(part.service().name)
    .bind(COMPARISON_SEEN_SECONDS_MAX)
    .fetch_optional(executor)
    .await?;
    Ok(found.map(|(compared, total, is_running, different, age, Json(differences))| Verification {
        rows_compared: compared.unsigned_abs(),
        rows_total: total.unsigned_abs(),
        is_running,
        rows_different: different.unsigned_abs(),
        age_seconds: age.map(seconds),
        differences,
    }))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an age in seconds")]
fn seconds(age: f64) -> u32 {
    age.clamp(0.0, f64::from(u32::MAX)).round() as u32
}

#[derive(FromRow)]
struct FollowingRow {
    rows_copied: i64,
    rows_to_copy: i64,
    is_copied: bool,
    lag_ms: Option<i32>,
    rows_applied: i64,
    is_paused: bool,
    throttled: Option<String>,
    error: Option<String>,
}

/// Returns everything that an operator needs to know.
pub(crate) async fn status(pool: &PgPool, service: &str, part: Part) -> sqlx::Result<Status> {
    let name = part.service().name;
    let (role, epoch, marker, applied, unpublished, way_back_at): (
        String,
        i64,
        Option<i64>,
        i64,
        i64,
        Option<DateTime<Utc>>,
    ) = sqlx::query_as(
        "select role, epoch, marker, applied, (
             select count(*) from (
                 select from journal_queue
                 where failed_at is null and not replay
                     -- The database of the monolith has the events of other parts, too, whose writes go on.
                     and (role <> 'closed' or journal_id <= (
                         select max(id) from journal where entity = 'ownership' and entity_id = $1
                     ))
                 limit $2
             ) as waiting
         ), way_back_at
         from ownership left join part_logs using (part) where part = $1",
    )
    .bind(name)
    .bind(UNPUBLISHED_MAX)
    .fetch_one(pool)
    .await?;
    let role = role_of(&role);
    let (mut following, mut compared) = (None, None);
    if role == Role::Replica {
        let row: Option<FollowingRow> = sqlx::query_as(
            "select coalesce(copied.done, 0) as rows_copied,
                 case when is_copied then 0 else coalesce(copied.total, 0) end as rows_to_copy,
                 is_copied,
                 case when seen_at > clock_timestamp() - make_interval(secs => $2) then lag_ms end as lag_ms,
                 rows_applied, is_paused, throttled, error
             from part_replicas
             left join (
                 select part, sum(rows_copied)::bigint as done, sum(rows_total)::bigint as total
                 from part_copies group by part
             ) as copied using (part)
             where part = $1",
        )
        .bind(name)
        .bind(SEEN_SECONDS_MAX)
        .fetch_optional(pool)
        .await?;
        following = row.map(|row| Following {
            rows_copied: row.rows_copied.unsigned_abs(),
            rows_to_copy: row.rows_to_copy.unsigned_abs(),
            is_copied: row.is_copied,
            lag_ms: row.lag_ms.map(i32::unsigned_abs),
            rows_applied: row.rows_applied.unsigned_abs(),
            is_paused: row.is_paused,
            throttled: row.throttled,
            error: row.error,
        });
        compared = verification(pool, part).await?;
    }
    let way_back_age = way_back_at.and_then(|at| u32::try_from((Utc::now() - at).num_seconds().max(0)).ok());
    Ok(Status {
        part,
        service: service.to_owned(),
        role,
        epoch,
        marker,
        applied,
        unpublished: unpublished.unsigned_abs(),
        following,
        verification: compared,
        shadow: if role == Role::Replica { ShadowReads::default() } else { shadow_reads(pool, part, epoch).await? },
        way_back_age_seconds: way_back_age,
    })
}

/// Returns what the processes of the owner have counted at this epoch (`flack_common::forward`).
async fn shadow_reads(pool: &PgPool, part: Part, epoch: i64) -> sqlx::Result<ShadowReads> {
    let counted: Option<(i64, i64, Json<Vec<serde_json::Value>>)> =
        sqlx::query_as("select reads, mismatches, examples from shadow_reads where part = $1 and epoch = $2")
            .bind(part.service().name)
            .bind(epoch)
            .fetch_optional(pool)
            .await?;
    Ok(counted.map_or_else(ShadowReads::default, |(reads, mismatches, Json(examples))| ShadowReads {
        reads: reads.unsigned_abs(),
        mismatches: mismatches.unsigned_abs(),
        examples,
    }))
}

/// Locks the state for a transaction of the applier, which ends when the part is no replica any more: the statement's
/// triggers see to that.
pub(crate) async fn lock<'c>(executor: impl Executor<'c, Database = Postgres>, part: Part) -> sqlx::Result<Replica> {
    sqlx::query_as(
        "select since, transaction::text, id, is_copied, has_keys, tracks_touched, is_paused, error, throttled,
             set_config('flack.applier', $1, true)
         from part_replicas where part = $1 for update",
    )
    .bind(part.service().name)
    .fetch_one(executor)
    .await
}
