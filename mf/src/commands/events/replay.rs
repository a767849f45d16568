//! `mf events replay`: events are published once more, from the journal or from the present state of the tables.

use std::time::Duration;

use chrono::{DateTime, Utc};
use flack_catalogue::Service;
use serde_json::json;
use sqlx::{Acquire as _, Postgres, Transaction};
use tokio::time::{Instant, sleep};

use super::databases::Database;
use super::{parse_owner, rebuild};
use crate::failure::{Failure, Result};
use crate::help::examples;
use crate::services;
use crate::stack::Stack;

/// Rows that a replay has in the queue at most, about: what happens meanwhile waits behind them.
const PORTION_ROWS: i32 = 500;
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// When the queue has not moved for so long, nobody publishes.
const STALLED_AFTER: Duration = Duration::from_secs(15);
/// A portion that met the app's own locks gives way, and is tried again.
const ATTEMPTS_MAX: u32 = 10;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(100);

/// Publish events once more, while the app runs
///
/// Replays the owner's journal, which keeps 14 days, oldest first. Readers that have seen an event ignore it, and
/// websockets do not get them again: a replay only fills gaps.
///
/// --snapshot publishes the present state of every row instead, however old the row is.
///
/// --rebuild clears a reader's projection and the versions that the reader has seen, publishes a snapshot, and waits
/// until the reader has processed it. Until then the reader's responses lack the projected data.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfevents replay users --from 2h                       # the last two hours",
    "mfevents replay users --type user --entity 17         # one user's history",
    "mfevents replay messages --from 2026-01-31T10:00:00Z --to 2026-01-31T11:00:00Z",
    "mfevents replay users --snapshot                      # all users as they are now",
    "mfevents replay users --rebuild messages              # the nicknames in messages, from nothing",
    "mfevents replay users --rebuild tokens                # what tokens knows of changed passwords",
]))]
pub(super) struct Args {
    /// Whose events
    #[arg(value_parser = parse_owner)]
    owner: &'static Service,
    /// Only of this type, such as user or message
    #[arg(long = "type")]
    entity: Option<String>,
    /// Only of this entity, by its id
    #[arg(long = "entity")]
    entity_id: Option<String>,
    /// Only what was recorded since: a time (RFC 3339), or how long ago (30m, 2h, 7d)
    #[arg(long, value_parser = parse_time)]
    from: Option<DateTime<Utc>>,
    /// Only what was recorded before
    #[arg(long, value_parser = parse_time)]
    to: Option<DateTime<Utc>>,
    /// The present state of every row, instead of the journal
    #[arg(long, conflicts_with_all = ["entity_id", "from", "to"])]
    snapshot: bool,
    /// The service whose projection is rebuilt
    #[arg(long, value_name = "READER", value_parser = services::argument(),
        conflicts_with_all = ["snapshot", "entity", "entity_id", "from", "to"])]
    rebuild: Option<&'static Service>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(stack: &Stack, args: Args) -> Result<()> {
    if let Some(reader) = args.rebuild {
        return rebuild::run(stack, args.owner, reader, args.json).await;
    }
    let mut feeder = Feeder::open(stack, args.owner).await?;
    let known = feeder.entities().await?;
    if let Some(wanted) = &args.entity
        && !known.contains(wanted)
    {
        return Err(Failure::usage(format!(
            "{} has no type `{wanted}`; it has {}",
            args.owner,
            known.join(", ")
        )));
    }
    if args.snapshot {
        for entity in args.entity.as_ref().map_or(known, |entity| vec![entity.clone()]) {
            feeder.snapshot(&entity).await?;
        }
    } else {
        feeder.history(&args).await?;
    }
    if args.json {
        print_line!(
            "{}",
            json!({ "owner": args.owner.name, "queued": feeder.queued, "snapshot": args.snapshot })
        );
    } else if feeder.queued == 0 {
        print_line!("nothing to replay: the journal of {} has no such rows", args.owner);
    } else {
        print_line!("{} events of {} are published once more", feeder.queued, args.owner);
    }
    Ok(())
}

/// Fills the owner's queue, not faster than it empties.
pub(super) struct Feeder {
    database: Database,
    pub(super) queued: i64,
    pub(super) last: Option<Last>,
}

/// The last row that was queued.
#[derive(Debug, Clone)]
pub(super) struct Last {
    pub(super) recorded_at: DateTime<Utc>,
    /// As the relay names the message.
    pub(super) message_id: String,
}

#[derive(sqlx::FromRow)]
struct Portion {
    queued: i64,
    #[sqlx(default)]
    last_key: Option<serde_json::Value>,
    last_time: DateTime<Utc>,
    last_id: i64,
    last_queue_id: i64,
}

impl Feeder {
    pub(super) async fn open(stack: &Stack, owner: &'static Service) -> Result<Self> {
        Ok(Self { database: Database::open_migrated(stack, owner).await?, queued: 0, last: None })
    }

    async fn entities(&mut self) -> Result<Vec<String>> {
        sqlx::query_scalar("select entity from journaled_entities()")
            .fetch_all(&mut self.database.connection)
            .await
            .map_err(|error| self.database.failed(&error))
    }

    async fn history(&mut self, args: &Args) -> Result<()> {
        // What is recorded from now on is published by itself.
        let to = args.to.unwrap_or_else(Utc::now);
        let mut behind: Option<(DateTime<Utc>, i64)> = None;
        loop {
            let portion: Option<Portion> = sqlx::query_as(
                "select queued, last_time, last_id, last_queue_id from replay_portion($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(&args.entity)
            .bind(&args.entity_id)
            .bind(args.from)
            .bind(to)
            .bind(behind.map(|(time, _)| time))
            .bind(behind.map(|(_, id)| id))
            .bind(PORTION_ROWS)
            .fetch_optional(&mut self.database.connection)
            .await
            .map_err(|error| self.database.failed(&error))?;
            let Some(portion) = portion else { return Ok(()) };
            behind = Some((portion.last_time, portion.last_id));
            self.note(&portion).await?;
        }
    }

    /// Every row of the table, as it is now.
    pub(super) async fn snapshot(&mut self, entity: &str) -> Result<()> {
        let mut behind = None;
        while let Some(portion) = self.snapshot_portion(entity, behind.as_ref()).await? {
            self.note(&portion).await?;
            behind = portion.last_key;
        }
        Ok(())
    }

    async fn snapshot_portion(
        &mut self,
        entity: &str,
        behind: Option<&serde_json::Value>,
    ) -> Result<Option<Portion>> {
        for attempt in 1.. {
            match try_snapshot(&mut self.database, entity, behind).await {
                Ok(portion) => return Ok(portion),
                Err(error) if attempt < ATTEMPTS_MAX && gave_way(&error) => sleep(ATTEMPT_PAUSE).await,
                Err(error) => return Err(self.database.failed(&error)),
            }
        }
        unreachable!("the loop ends by returning")
    }

    async fn note(&mut self, portion: &Portion) -> Result<()> {
        self.queued += portion.queued;
        self.last = Some(Last {
            recorded_at: portion.last_time,
            message_id: format!("{}-{}~{}", self.database.owner, portion.last_id, portion.last_queue_id),
        });
        self.wait_for_room().await
    }

    /// Until less than a portion of replayed rows is in the queue.
    async fn wait_for_room(&mut self) -> Result<()> {
        let mut fewest = i64::MAX;
        let mut moved = Instant::now();
        loop {
            let waiting: i64 = sqlx::query_scalar(
                "select count(*)
                from (select from journal_queue where replay and failed_at is null limit $1) as counted",
            )
            .bind(2 * PORTION_ROWS)
            .fetch_one(&mut self.database.connection)
            .await
            .map_err(|error| self.database.failed(&error))?;
            if waiting < i64::from(PORTION_ROWS) {
                return Ok(());
            }
            if waiting < fewest {
                (fewest, moved) = (waiting, Instant::now());
            }
            if moved.elapsed() > STALLED_AFTER {
                let owner = self.database.owner;
                return Err(Failure::unavailable(format!(
                    "{} events are queued, but are not published: \
                     does {owner} run, and NATS? See mfps and mfevents lag, then replay again",
                    self.queued
                )));
            }
            sleep(LOOK_INTERVAL).await;
        }
    }
}

async fn try_snapshot(
    database: &mut Database,
    entity: &str,
    behind: Option<&serde_json::Value>,
) -> sqlx::Result<Option<Portion>> {
    let mut transaction: Transaction<'_, Postgres> = database.connection.begin().await?;
    // It locks rows that the app writes. In a deadlock the one who looks first gives way: that must be us, not a user's
    // request.
    sqlx::query("set local deadlock_timeout = '20ms'").execute(&mut *transaction).await?;
    sqlx::query("set local lock_timeout = '1s'").execute(&mut *transaction).await?;
    sqlx::query("select set_config('flack.correlation_id', 'mf-snapshot', true)")
        .execute(&mut *transaction)
        .await?;
    let portion = sqlx::query_as(
        "select queued, last_key, last_time, last_id, last_queue_id from snapshot_portion($1, $2, $3)",
    )
    .bind(entity)
    .bind(behind)
    .bind(PORTION_ROWS)
    .fetch_optional(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(portion)
}

/// To a lock of the app's.
fn gave_way(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        // Deadlock detected; lock not available.
        .is_some_and(|code| matches!(code.as_ref(), "40P01" | "55P03"))
}

/// `2026-01-31T10:00:00Z`, or `2h` for two hours ago.
fn parse_time(text: &str) -> std::result::Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.with_timezone(&Utc));
    }
    let wrong = || {
        format!(
            "`{text}` is no time: write it like 2026-01-31T10:00:00Z, or like 30m, 2h, 7d for so long ago"
        )
    };
    let unit = text.chars().last().ok_or_else(wrong)?;
    let count: i64 = text.trim_end_matches(unit).parse().map_err(|_| wrong())?;
    let ago = match unit {
        's' => chrono::TimeDelta::try_seconds(count),
        'm' => chrono::TimeDelta::try_minutes(count),
        'h' => chrono::TimeDelta::try_hours(count),
        'd' => chrono::TimeDelta::try_days(count),
        _ => None,
    };
    ago.filter(|_| count >= 0).and_then(|ago| Utc::now().checked_sub_signed(ago)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_so_long_ago() {
        assert_eq!(parse_time("2026-01-31T10:00:00Z").map(|time| time.timestamp()), Ok(1_769_853_600));
        let two_hours_ago = parse_time("2h").expect("a time");
        assert!((Utc::now() - two_hours_ago).num_minutes().abs_diff(120) <= 1);
        for wrong in ["", "2", "h", "-2h", "yesterday", "2026-01-31", "99999999999999d", "2ü"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }
}
