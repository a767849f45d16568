//! `mf events replay`: publishes events once more, from the journal or from the present state of the tables.

use chrono::{DateTime, Utc};
use flack_catalogue::Service;
use serde_json::json;

use super::replay_queue::{ReplayQueue, Selection};
use super::{parse_owner, rebuild};
use crate::failure::Result;
use crate::help::examples;
use crate::services;
use crate::stack::Stack;
use crate::time;

/// The type of an event is its entity with this suffix.
const TYPE_SUFFIX: &str = "_changed";

/// Publish events once more, while the app runs
///
/// Replays the owner's journal, which keeps 14 days, oldest first. Consumers ignore events that they have processed,
/// and websockets do not receive them again: a replay only fills gaps.
///
/// --snapshot publishes the present state of every row instead, however old the row is.
///
/// --rebuild clears a service's projection and the versions that the service has processed, publishes a snapshot, and
/// waits until the service has processed it. Until then the service's responses lack the projected data.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfevents replay users --from 2h                       # the last two hours",
    "mfevents replay users --type user_changed --entity 17   # one user's history",
    "mfevents replay messages --from 2026-01-31T10:00:00Z --to 2026-01-31T11:00:00Z",
    "mfevents replay users --snapshot                      # all users as they are now",
    "mfevents replay users --rebuild messages              # rebuild the nicknames in messages",
    "mfevents replay users --rebuild tokens                # rebuild the password changes in tokens",
]))]
pub(super) struct Args {
    /// The owner of the events
    #[arg(value_parser = parse_owner)]
    owner: &'static Service,
    /// Only of this type, as mfevents tail shows it: `user_changed`, `message_changed`
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only of this entity, by its id
    #[arg(long = "entity")]
    entity_id: Option<String>,
    /// Only events recorded since: a time (2026-01-31T10:00:00Z, 10:30), or how long ago (30m, 2h, 7d)
    #[arg(long, value_parser = time::parse)]
    from: Option<DateTime<Utc>>,
    /// Only events recorded before
    #[arg(long, value_parser = time::parse)]
    to: Option<DateTime<Utc>>,
    /// The present state of every row, instead of the journal
    #[arg(long, conflicts_with_all = ["entity_id", "from", "to"])]
    snapshot: bool,
    /// The service whose projection is rebuilt
    #[arg(long, value_name = "READER", value_parser = services::argument(),
        conflicts_with_all = ["snapshot", "kind", "entity_id", "from", "to"])]
    rebuild: Option<&'static Service>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(stack: &Stack, args: Args) -> Result<()> {
    if let Some(reader) = args.rebuild {
        return rebuild::run(stack, args.owner, reader, args.json).await;
    }
    let mut queue = ReplayQueue::open(stack, args.owner).await?;
    let known = queue.entities().await?;
    let entity = args.kind.as_deref().map(|kind| entity_of(kind).to_owned());
    if let Some(wanted) = entity.as_ref().filter(|entity| !known.contains(entity)) {
        let types: Vec<String> = known.iter().map(|entity| format!("{entity}{TYPE_SUFFIX}")).collect();
        let wanted = format!("{wanted}{TYPE_SUFFIX}");
        return Err(failure!(Usage, "{} has no type `{wanted}`; it has {}", args.owner, types.join(", ")));
    }
    if args.snapshot {
        for entity in entity.map_or(known, |entity| vec![entity]) {
            queue.snapshot(&entity).await?;
        }
    } else {
        let selection = Selection {
            entity: entity.as_deref(),
            entity_id: args.entity_id.as_deref(),
            from: args.from,
            // Later events are published anyway.
            to: args.to.unwrap_or_else(Utc::now),
        };
        queue.history(&selection).await?;
    }
    let (owner, queued) = (args.owner, queue.queued);
    if args.json {
        print_line!("{}", json!({ "owner": owner.name, "queued": queued, "snapshot": args.snapshot }));
    } else if queued == 0 {
        print_line!("nothing to replay: the journal of {owner} has no such rows");
    } else {
        print_line!("{queued} events of {owner} are published once more");
    }
    Ok(())
}

/// Returns the entity of a type of event; an entity is accepted, too.
fn entity_of(kind: &str) -> &str {
    kind.strip_suffix(TYPE_SUFFIX).unwrap_or(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_accepted_as_mfevents_tail_shows_it_and_as_its_entity() {
        for text in ["user_changed", "user"] {
            assert_eq!(entity_of(text), "user");
        }
    }
}
