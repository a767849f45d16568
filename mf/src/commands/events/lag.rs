//! `mf events lag`: who is behind, and by how much.

use std::process::ExitCode;

use async_nats::jetstream::Context;
use serde::Serialize;

use super::databases::Database;
use super::streams;
use crate::failure::{Exit, Failure, Result};
use crate::help::examples;
use crate::output;
use crate::stack::Stack;

/// Show what waits on the way: to each stream, and to each reader
///
/// A row waits in the owner's queue until it is in the stream; then, for each reader, until it is in the reader's
/// inbox; and there until it is processed. Of the instances of a service one relays, and one reads each stream. Failed
/// rows and dead letters wait for you: see mfevents dead list.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfevents lag",
    "mfevents lag --max 100 || echo \"the pipeline is behind\"   # exit code 1 when more wait anywhere",
    "mfevents lag --json | jq '.readers[] | select(.dead > 0)'",
]))]
pub(super) struct Args {
    /// Fail (exit code 1) when more than so many wait at any place
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
    /// What could not be asked.
    problems: Vec<String>,
}

#[derive(Debug, Serialize, sqlx::FromRow)]
struct Owner {
    #[sqlx(skip)]
    name: String,
    /// Whose relay publishes; `None` while nobody's does.
    instance: Option<String>,
    waiting: i64,
    oldest_seconds: Option<f64>,
    failed: i64,
    /// In the stream; `None` when there is none, or NATS does not answer.
    #[sqlx(skip)]
    messages: Option<u64>,
}

#[derive(Debug, Serialize, sqlx::FromRow)]
struct Reader {
    #[sqlx(skip)]
    name: String,
    /// Which one reads; `None` while nobody does.
    instance: Option<String>,
    stream: String,
    /// The last sequence that is in the inbox.
    sequence: i64,
    #[serde(skip)]
    incarnation: String,
    /// Of event, that this reader takes in; `None` means all.
    kind: Option<String>,
    /// In the stream, but not in the inbox; `None` when NATS does not answer.
    #[sqlx(skip)]
    behind: Option<u64>,
    waiting: i64,
    oldest_seconds: Option<f64>,
    dead: i64,
}

pub(super) async fn run(stack: &Stack, args: &Args) -> Result<ExitCode> {
    let view = look(stack).await?;
    if args.json {
        print_line!("{}", serde_json::to_string_pretty(&view).expect("a view is plain data"));
    } else {
        print(&view);
    }
    let Some(max) = args.max else { return Ok(ExitCode::SUCCESS) };
    if let Some(problem) = view.problems.first() {
        return Err(Failure::unavailable(format!("not everything could be asked: {problem}")));
    }
    match view.most() {
        most if most > max => {
            Err(Failure::new(Exit::TestsFailed, format!("{most} wait at one place; the bound is {max}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

async fn look(stack: &Stack) -> Result<View> {
    let mut view = View { owners: Vec::new(), readers: Vec::new(), problems: Vec::new() };
    // The backlog in the databases is known without NATS.
    let context = match streams::connect(stack).await {
        Ok(context) => Some(context),
        Err(failure) => {
            view.problems.push(failure.message);
            None
        }
    };
    for mut database in Database::open_all(stack).await? {
        let name = database.owner.name.to_owned();
        if database.owner.publishes_events {
            let mut owner = owner(&mut database).await?;
            owner.name.clone_from(&name);
            view.owners.push(owner);
        }
        for mut reader in readers(&mut database).await? {
            reader.name.clone_from(&name);
            view.readers.push(reader);
        }
    }
    if let Some(context) = context
        && let Err(problem) = ask_nats(&context, &mut view).await
    {
        view.problems.push(format!("{problem:#}"));
    }
    Ok(view)
}

async fn owner(database: &mut Database) -> Result<Owner> {
    let result = sqlx::query_as(
        "select leader_of('relay', '') as instance,
            count(*) filter (where failed_at is null) as waiting,
            extract(epoch from clock_timestamp() - min(recorded_at)
                filter (where failed_at is null and not replay))::float8
                as oldest_seconds,
            count(*) filter (where failed_at is not null) as failed
        from journal_queue",
    )
    .fetch_one(&mut database.connection)
    .await;
    result.map_err(|error| database.failed(&error))
}

async fn readers(database: &mut Database) -> Result<Vec<Reader>> {
    let result = sqlx::query_as(
        "select place.stream, place.sequence, place.incarnation, place.kind,
            -- The websocket service reads all streams at once.
            coalesce(leader_of('inbox', place.stream), leader_of('inbox', '')) as instance,
            (select count(*) from inbox where inbox.stream = place.stream and state = 'waiting') as waiting,
            (select extract(epoch from clock_timestamp() - min(received_at))::float8
                from inbox where inbox.stream = place.stream and state = 'waiting') as oldest_seconds,
            (select count(*) from inbox where inbox.stream = place.stream and state = 'dead') as dead
        from inbox_offset as place
        order by place.stream",
    )
    .fetch_all(&mut database.connection)
    .await;
    result.map_err(|error| database.failed(&error))
}

async fn ask_nats(context: &Context, view: &mut View) -> anyhow::Result<()> {
    for owner in &mut view.owners {
        if let Some(stream) = streams::find(context, &owner.name.to_uppercase()).await? {
            owner.messages = Some(stream.cached_info().state.messages);
        }
    }
    for reader in &mut view.readers {
        let Some(stream) = streams::find(context, &reader.stream).await? else {
            reader.behind = Some(0);
            continue;
        };
        // In a stream that began anew, everything is still to be read.
        let sequence = if streams::incarnation(&stream) == reader.incarnation { reader.sequence } else { 0 };
        let sequence = u64::try_from(sequence).unwrap_or(0);
        reader.behind = Some(streams::count_behind(&stream, sequence, reader.kind.as_deref()).await?);
    }
    Ok(())
}

impl View {
    /// The most that wait at any one place.
    fn most(&self) -> u64 {
        let owners = self.owners.iter().map(|owner| u64::try_from(owner.waiting).unwrap_or(0));
        let readers = self
            .readers
            .iter()
            .flat_map(|reader| [u64::try_from(reader.waiting).unwrap_or(0), reader.behind.unwrap_or(0)]);
        owners.chain(readers).max().unwrap_or(0)
    }
}

fn print(view: &View) {
    let mut table = output::table([
        "OWNER",
        "RELAYED BY",
        "WAITING TO BE PUBLISHED",
        "OLDEST",
        "FAILED",
        "IN THE STREAM",
    ]);
    for owner in &view.owners {
        table.add_row([
            owner.name.clone(),
            instance(owner.instance.as_ref()),
            owner.waiting.to_string(),
            age(owner.oldest_seconds),
            owner.failed.to_string(),
            owner.messages.map_or_else(|| "-".to_owned(), |count| count.to_string()),
        ]);
    }
    print_line!("{table}\n");
    let mut table = output::table([
        "READER",
        "OF",
        "READ BY",
        "BEHIND THE STREAM",
        "WAITING IN THE INBOX",
        "OLDEST",
        "DEAD",
    ]);
    for reader in &view.readers {
        table.add_row([
            reader.name.clone(),
            reader.stream.clone(),
            instance(reader.instance.as_ref()),
            reader.behind.map_or_else(|| "-".to_owned(), |count| count.to_string()),
            reader.waiting.to_string(),
            age(reader.oldest_seconds),
            reader.dead.to_string(),
        ]);
    }
    print_line!("{table}");
    for problem in &view.problems {
        print_line!("\n{problem}");
    }
    let stuck: i64 = view.owners.iter().map(|owner| owner.failed).sum::<i64>()
        + view.readers.iter().map(|reader| reader.dead).sum::<i64>();
    if stuck > 0 {
        print_line!("\n{stuck} wait for you: mfevents dead list");
    }
}

fn instance(name: Option<&String>) -> String {
    name.map_or_else(|| "nobody".to_owned(), Clone::clone)
}

fn age(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}s"))
}
