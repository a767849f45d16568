//! `mf events replay <owner> --rebuild <reader>`: clears and rebuilds a projection.
//!
//! First it clears the projection, and the versions that the reader has processed (`inbox_entity`), because the reader
//! would ignore the replay otherwise. Then it publishes a snapshot, not the history: the journal keeps 14 days, and the
//! last change of a row may be older. After an interruption it can be run again.

use std::time::Duration;

use flack_catalogue::Service;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::databases::Database;
use super::replay_queue::{Last, ReplayQueue};
use crate::failure::Result;
use crate::stack::Stack;

/// A reader that stores and processes no event for this time, although some are left, does not work.
const STALLED_AFTER: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A projection, declared by the reader in its own database.
#[derive(Debug, sqlx::FromRow)]
struct Projection {
    name: String,
    source: String,
    entity: String,
    part: String,
}

pub(super) async fn run(stack: &Stack, owner: &'static Service, reader: &'static Service, as_json: bool) -> Result<()> {
    let began = Instant::now();
    let mut database = Database::open_migrated(stack, reader).await?;
    let projections = projections(&mut database, owner).await?;
    check_authority(stack, owner, reader, &projections).await?;
    // Before the projection is cleared, because it fails if the owner's database has no tables.
    let mut queue = ReplayQueue::open(stack, owner).await?;

    let cleared: i64 = sqlx::query_scalar("select clear_projections($1)")
        .bind(owner.name)
        .fetch_one(&mut database.connection)
        .await
        .map_err(|error| database.failed(&error))?;
    let mut entities: Vec<&str> = projections.iter().map(|projection| projection.entity.as_str()).collect();
    entities.dedup();
    for entity in entities {
        queue.snapshot(entity).await?;
    }
    if let Some(last) = &queue.last {
        wait_until_processed(&mut database, owner, last).await?;
    }

    let names: Vec<&str> = projections.iter().map(|projection| projection.name.as_str()).collect();
    let (queued, seconds) = (queue.queued, began.elapsed().as_secs_f64());
    if as_json {
        let result = json!({
            "owner": owner.name, "reader": reader.name, "copies": names, "cleared": cleared, "queued": queued,
            "seconds": seconds,
        });
        print_line!("{result}");
    } else {
        let names = names.join(", ");
        print_line!("{names} in {reader}: {cleared} rows cleared, rebuilt from {queued} of {owner}, in {seconds:.1} s");
    }
    Ok(())
}

/// Returns the reader's projections of events of this owner; fails if there are none.
async fn projections(database: &mut Database, owner: &Service) -> Result<Vec<Projection>> {
    let all: Vec<Projection> =
        sqlx::query_as("select name, source, entity, part from projections order by entity, name")
            .fetch_all(&mut database.connection)
            .await
            .map_err(|error| database.failed(&error))?;
    let (of_owner, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.source == owner.name);
    if of_owner.is_empty() {
        let others: Vec<String> =
            others.iter().map(|other| format!("{} (from {})", other.name, other.source)).collect();
        let others = if others.is_empty() { "no projections".to_owned() } else { others.join(", ") };
        let reader = database.owner;
        return Err(failure!(Usage, "{reader} has no projection of events of {owner}; it has {others}"));
    }
    Ok(of_owner)
}

/// Fails if another service owns the data: a projection of this owner's rows would be outdated.
async fn check_authority(stack: &Stack, owner: &Service, reader: &Service, projections: &[Projection]) -> Result<()> {
    let registry = stack.registry().await?.snapshot().await?;
    for Projection { part, .. } in projections {
        if let Some(authority) = registry.authority.get(part).filter(|authority| authority.owner() != owner.name) {
            let current = authority.owner();
            return Err(failure!(
                Contradiction,
                "{part} is owned by {current} now. Use: mfevents replay {current} --rebuild {reader}"
            ));
        }
    }
    Ok(())
}

async fn wait_until_processed(database: &mut Database, owner: &Service, last: &Last) -> Result<()> {
    let (mut progress, mut progressed_at) = ((0, 0), Instant::now());
    loop {
        // The event by the key of the inbox, so that the query is fast in a large inbox.
        let (done, stored, first_waiting): (bool, i64, i64) = sqlx::query_as(
            "select
                exists (
                    select from inbox
                    where event_time = $1 and stream = $2 and message_id = $3 and state <> 'waiting'
                ),
                (select coalesce(max(sequence), 0) from inbox_offset where stream = $2),
                (select coalesce(min(id), 0) from inbox where stream = $2 and state = 'waiting')",
        )
        .bind(last.recorded_at)
        .bind(owner.name.to_uppercase())
        .bind(&last.message_id)
        .fetch_one(&mut database.connection)
        .await
        .map_err(|error| database.failed(&error))?;
        if done {
            return Ok(());
        }
        if (stored, first_waiting) != progress {
            (progress, progressed_at) = ((stored, first_waiting), Instant::now());
        } else if progressed_at.elapsed() > STALLED_AFTER {
            let reader = database.owner;
            return Err(failure!(
                Internal,
                "{reader} has processed no event for {STALLED_AFTER:?}, and has not processed all; \
                 it continues when {owner}, NATS and {reader} run. See mfevents lag"
            ));
        }
        sleep(POLL_INTERVAL).await;
    }
}
