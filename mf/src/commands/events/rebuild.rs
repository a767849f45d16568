//! `mf events replay <owner> --rebuild <reader>`: clears and rebuilds a projection.
//!
//! Clearing comes first, in one transaction of the reader's database: the copy, and the reader's memory of what it has
//! seen (`inbox_entity`), without which the replay would be ignored. Then a snapshot, not the history: the journal
//! keeps 14 days, and a row that has not changed for longer would be missing from the copy. Interrupted anywhere, it
//! can be run again.

use std::time::Duration;

use flack_catalogue::Service;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::databases::Database;
use super::replay::{Feeder, Last};
use crate::failure::{Exit, Failure, Result};
use crate::stack::Stack;

/// For the reader to take everything in, after the last row was queued.
const TAKEN_IN_WITHIN: Duration = Duration::from_mins(1);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// As the reader declares it, in its own database.
#[derive(Debug, sqlx::FromRow)]
struct Copy {
    name: String,
    source: String,
    entity: String,
    part: String,
}

pub(super) async fn run(
    stack: &Stack,
    owner: &'static Service,
    reader: &'static Service,
    as_json: bool,
) -> Result<()> {
    let began = Instant::now();
    let mut database = Database::open_migrated(stack, reader).await?;
    let copies = copies(&mut database, owner).await?;
    refuse_if_not_owner(stack, owner, reader, &copies).await?;
    // Before anything is cleared: what is to fill it again must be there.
    let mut feeder = Feeder::open(stack, owner).await?;

    let cleared: i64 = sqlx::query_scalar("select clear_projections($1)")
        .bind(owner.name)
        .fetch_one(&mut database.connection)
        .await
        .map_err(|error| database.failed(&error))?;
    let mut entities: Vec<&str> = copies.iter().map(|copy| copy.entity.as_str()).collect();
    entities.dedup();
    for entity in entities {
        feeder.snapshot(entity).await?;
    }
    if let Some(last) = &feeder.last {
        wait_until_taken_in(&mut database, owner, last).await?;
    }

    let names: Vec<&str> = copies.iter().map(|copy| copy.name.as_str()).collect();
    let seconds = began.elapsed().as_secs_f64();
    if as_json {
        print_line!(
            "{}",
            json!({
                "owner": owner.name, "reader": reader.name, "copies": names, "cleared": cleared,
                "queued": feeder.queued,
                "seconds": seconds,
            })
        );
    } else {
        print_line!(
            "{} in {reader}: {cleared} rows cleared, rebuilt from {} of {owner}, in {seconds:.1} s",
            names.join(", "),
            feeder.queued
        );
    }
    Ok(())
}

/// What the reader keeps of this owner's data.
async fn copies(database: &mut Database, owner: &'static Service) -> Result<Vec<Copy>> {
    let all: Vec<Copy> =
        sqlx::query_as("select name, source, entity, part from projections order by entity, name")
            .fetch_all(&mut database.connection)
            .await
            .map_err(|error| database.failed(&error))?;
    let (wanted, others): (Vec<Copy>, Vec<Copy>) =
        all.into_iter().partition(|copy| copy.source == owner.name);
    if wanted.is_empty() {
        let others: Vec<String> =
            others.into_iter().map(|copy| format!("{} (from {})", copy.name, copy.source)).collect();
        let keeps = if others.is_empty() { "no projections".to_owned() } else { others.join(", ") };
        return Err(Failure::usage(format!(
            "{} has no projection of events of {owner}; it has {keeps}",
            database.owner
        )));
    }
    Ok(wanted)
}

/// On the road the data has one owner at a time; a copy made from the other side would be an old one.
async fn refuse_if_not_owner(
    stack: &Stack,
    owner: &'static Service,
    reader: &'static Service,
    copies: &[Copy],
) -> Result<()> {
    let registry = stack.registry().await?.snapshot().await?;
    for copy in copies {
        if let Some(authority) = registry.authority.get(&copy.part)
            && authority.owner != owner.name
        {
            return Err(Failure::new(
                Exit::Contradiction,
                format!(
                    "{} is owned by {} now. Use: mfevents replay {} --rebuild {reader}",
                    copy.part, authority.owner, authority.owner
                ),
            ));
        }
    }
    Ok(())
}

async fn wait_until_taken_in(database: &mut Database, owner: &'static Service, last: &Last) -> Result<()> {
    let deadline = Instant::now() + TAKEN_IN_WITHIN;
    loop {
        // The key of the inbox: found at once, however much is in there.
        let done: bool = sqlx::query_scalar(
            "select exists (
                select from inbox
                where event_time = $1 and stream = $2 and message_id = $3 and state <> 'waiting'
            )",
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
        if Instant::now() > deadline {
            let reader = database.owner;
            return Err(Failure::internal(format!(
                "{reader} has not processed every event within {TAKEN_IN_WITHIN:?}; \
                 it continues when {owner}, NATS and {reader} run. See mfevents lag"
            )));
        }
        sleep(LOOK_INTERVAL).await;
    }
}
