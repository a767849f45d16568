//! `mf events replay`: publishes events once more, from the journal or from the present state of the tables.

use chrono::{DateTime, TimeDelta, Utc};
use flack_catalogue::Service;
use serde_json::json;

use super::replay_queue::{ReplayQueue, Selection};
use super::{parse_owner, rebuild};
use crate::failure::Result;
use crate::help::examples;
use crate::services;
use crate::stack::Stack;

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
    "mfevents replay users --type user --entity 17         # one user's history",
    "mfevents replay messages --from 2026-01-31T10:00:00Z --to 2026-01-31T11:00:00Z",
    "mfevents replay users --snapshot                      # all users as they are now",
    "mfevents replay users --rebuild messages              # rebuild the nicknames in messages",
    "mfevents replay users --rebuild tokens                # rebuild the password changes in tokens",
]))]
pub(super) struct Args {
    /// The owner of the events
    #[arg(value_parser = parse_owner)]
    owner: &'static Service,
    /// Only of this type, such as user or message
    #[arg(long = "type")]
    entity: Option<String>,
    /// Only of this entity, by its id
    #[arg(long = "entity")]
    entity_id: Option<String>,
    /// Only events recorded since: a time (RFC 3339), or how long ago (30m, 2h, 7d)
    #[arg(long, value_parser = parse_time)]
    from: Option<DateTime<Utc>>,
    /// Only events recorded before
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
    let mut queue = ReplayQueue::open(stack, args.owner).await?;
    let known = queue.entities().await?;
    if let Some(wanted) = args.entity.as_ref().filter(|entity| !known.contains(entity)) {
        return Err(failure!(Usage, "{} has no type `{wanted}`; it has {}", args.owner, known.join(", ")));
    }
    if args.snapshot {
        for entity in args.entity.map_or(known, |entity| vec![entity]) {
            queue.snapshot(&entity).await?;
        }
    } else {
        let selection = Selection {
            entity: args.entity.as_deref(),
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

/// Parses `2026-01-31T10:00:00Z`, or `2h` for two hours ago.
fn parse_time(text: &str) -> std::result::Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.with_timezone(&Utc));
    }
    let wrong = || format!("`{text}` is not a time: write 2026-01-31T10:00:00Z, or 30m, 2h, 7d for a time before now");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let count: i64 = text.trim_end_matches(unit).parse().map_err(|_| wrong())?;
    let ago = match unit {
        's' => TimeDelta::try_seconds(count),
        'm' => TimeDelta::try_minutes(count),
        'h' => TimeDelta::try_hours(count),
        'd' => TimeDelta::try_days(count),
        _ => None,
    };
    ago.filter(|_| count >= 0).and_then(|ago| Utc::now().checked_sub_signed(ago)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_relative_to_now() {
        assert_eq!(parse_time("2026-01-31T10:00:00Z").map(|time| time.timestamp()), Ok(1_769_853_600));
        let two_hours_ago = parse_time("2h").expect("a time");
        assert!((Utc::now() - two_hours_ago).num_minutes().abs_diff(120) <= 1);
        for wrong in ["", "2", "h", "-2h", "yesterday", "2026-01-31", "99999999999999d", "2ü"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }
}
