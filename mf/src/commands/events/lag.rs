//! `mf events lag`: how many events wait in each queue, stream and inbox.

use std::process::ExitCode;

use serde::Serialize;

use super::databases::Database;
use super::streams;
use crate::failure::Result;
use crate::help::examples;
use crate::output::{self, or_dash, print_json};
use crate::stack::Stack;

/// Show how many events wait to be published, and how far each consumer is behind
///
/// A journal row waits in the owner's queue until it is published to the stream. Then, for each consumer, the event
/// waits until it is in the consumer's inbox, and there until it is processed. One instance of a service runs the
/// relay, and one reads each stream. To retry failed rows and dead letters, see mfevents dead list.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfevents lag",
    "mfevents lag --max 100 || echo \"the pipeline is behind\"   # exit code 1 if more events wait in any one place",
    "mfevents lag --json | jq '.readers[] | select(.dead > 0)'",
]))]
pub(super) struct Args {
    /// Fail (exit code 1) if more events wait in any one place
    #[arg(long)]
    max: Option<u64>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct View {
    owners: Vec<Owner>,
    readers: Vec<Reader>,
    /// What could not be read.
    problems: Vec<String>,
}

#[derive(Debug, Serialize, sqlx::FromRow)]
struct Owner {
    name: String,
    /// The instance that runs the relay; `None` if there is none.
    instance: Option<String>,
    waiting: i64,
    oldest_seconds: Option<f64>,
    failed: i64,
    /// In the stream; `None` if there is no stream, or NATS does not respond.
    #[sqlx(skip)]
    messages: Option<u64>,
}

#[derive(Debug, Serialize, sqlx::FromRow)]
struct Reader {
    name: String,
    /// The instance that reads the stream; `None` if there is none.
    instance: Option<String>,
    stream: String,
    /// The last sequence that was read into the inbox.
    sequence: i64,
    #[serde(skip)]
    incarnation: String,
    /// The only type of event that the consumer reads; `None` means all.
    kind: Option<String>,
    /// In the stream, but not in the inbox; `None` if NATS does not respond.
    #[sqlx(skip)]
    behind: Option<u64>,
    waiting: i64,
    oldest_seconds: Option<f64>,
    dead: i64,
}

pub(super) async fn run(stack: &Stack, args: &Args) -> Result<ExitCode> {
    let view = collect(stack).await?;
    if args.json {
        print_json(&view);
    } else {
        print(&view);
    }
    let Some(max) = args.max else { return Ok(ExitCode::SUCCESS) };
    if let Some(problem) = view.problems.first() {
        return Err(failure!(Unavailable, "not everything could be read: {problem}"));
    }
    match view.most() {
        most if most > max => Err(failure!(TestsFailed, "{most} wait in one place; the limit is {max}")),
        _ => Ok(ExitCode::SUCCESS),
    }
}

async fn collect(stack: &Stack) -> Result<View> {
    let mut view = View { owners: Vec::new(), readers: Vec::new(), problems: Vec::new() };
    for mut database in Database::open_all(stack).await? {
        if database.owner.publishes_events {
            view.owners.push(owner(&mut database).await?);
        }
        view.readers.extend(readers(&mut database).await?);
    }
    // The databases are shown without NATS, too.
    if let Err(failure) = read_streams(stack, &mut view).await {
        view.problems.push(failure.message);
    }
    Ok(view)
}

async fn owner(database: &mut Database) -> Result<Owner> {
    let result = sqlx::query_as(
        "select $1 as name, leader_of('relay', '') as instance,
            count(*) filter (where failed_at is null) as waiting,
            extract(epoch from clock_timestamp() - min(recorded_at)
                filter (where failed_at is null and not replay))::float8
                as oldest_seconds,
            count(*) filter (where failed_at is not null) as failed
        from journal_queue",
    )
    .bind(database.owner.name)
    .fetch_one(&mut database.connection)
    .await;
    result.map_err(|error| database.failed(&error))
}

async fn readers(database: &mut Database) -> Result<Vec<Reader>> {
    let result = sqlx::query_as(
        "select $1 as name, read.stream, read.sequence, read.incarnation, read.kind,
            -- The websocket service reads all streams at once.
            coalesce(leader_of('inbox', read.stream), leader_of('inbox', '')) as instance,
            (select count(*) from inbox where inbox.stream = read.stream and state = 'waiting') as waiting,
            (select extract(epoch from clock_timestamp() - min(received_at))::float8
                from inbox where inbox.stream = read.stream and state = 'waiting') as oldest_seconds,
            (select count(*) from inbox where inbox.stream = read.stream and state = 'dead') as dead
        from inbox_offset as read
        order by read.stream",
    )
    .bind(database.owner.name)
    .fetch_all(&mut database.connection)
    .await;
    result.map_err(|error| database.failed(&error))
}

async fn read_streams(stack: &Stack, view: &mut View) -> Result<()> {
    let context = streams::connect(stack).await?;
    for owner in &mut view.owners {
        if let Some(stream) = streams::find(&context, &owner.name.to_uppercase()).await? {
            owner.messages = Some(stream.cached_info().state.messages);
        }
    }
    for reader in &mut view.readers {
        let Some(stream) = streams::find(&context, &reader.stream).await? else {
            reader.behind = Some(0);
            continue;
        };
        // Sequences of an earlier incarnation mean nothing in this one: all of it is still to be read.
        let sequence = if streams::incarnation(&stream) == reader.incarnation { reader.sequence } else { 0 };
        let sequence = u64::try_from(sequence).unwrap_or(0);
        reader.behind = Some(streams::count_behind(&stream, sequence, reader.kind.as_deref()).await?);
    }
    Ok(())
}

impl View {
    /// Returns the largest number of events that wait in one place.
    fn most(&self) -> u64 {
        let owners = self.owners.iter().map(|owner| owner.waiting);
        let inboxes = self.readers.iter().map(|reader| reader.waiting);
        let in_databases = owners.chain(inboxes).map(|waiting| u64::try_from(waiting).unwrap_or(0));
        let behind = self.readers.iter().filter_map(|reader| reader.behind);
        in_databases.chain(behind).max().unwrap_or(0)
    }
}

fn print(view: &View) {
    let mut owners =
        output::table(["OWNER", "RELAYED BY", "WAITING TO BE PUBLISHED", "OLDEST", "FAILED", "IN THE STREAM"]);
    for owner in &view.owners {
        owners.add_row([
            owner.name.clone(),
            or_dash(owner.instance.as_ref()),
            owner.waiting.to_string(),
            age(owner.oldest_seconds),
            owner.failed.to_string(),
            or_dash(owner.messages),
        ]);
    }
    let mut readers =
        output::table(["READER", "OF", "READ BY", "BEHIND THE STREAM", "WAITING IN THE INBOX", "OLDEST", "DEAD"]);
    for reader in &view.readers {
        readers.add_row([
            reader.name.clone(),
            reader.stream.clone(),
            or_dash(reader.instance.as_ref()),
            or_dash(reader.behind),
            reader.waiting.to_string(),
            age(reader.oldest_seconds),
            reader.dead.to_string(),
        ]);
    }
    print_line!("{owners}\n\n{readers}");
    for problem in &view.problems {
        print_line!("\n{problem}");
    }
    let failed = view.owners.iter().map(|owner| owner.failed);
    let stuck: i64 = failed.chain(view.readers.iter().map(|reader| reader.dead)).sum();
    if stuck > 0 {
        print_line!("\n{stuck} are not retried automatically: mfevents dead list");
    }
}

fn age(seconds: Option<f64>) -> String {
    or_dash(seconds.map(|seconds| format!("{seconds:.1}s")))
}
