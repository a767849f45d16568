//! `mf events dead`: events that were not processed or not published, and how to retry or drop them.
//!
//! There are two kinds: events that a consumer failed to process are dead letters in its inbox (`messages:17`), and
//! journal rows that the owner's relay failed to make an event of are failed rows of its queue (`users:q3`).

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Local, Utc};
use clap::Subcommand;
use flack_catalogue::Service;
use serde::Serialize;
use serde_json::{Value, json};

use super::databases::Database;
use super::shortened;
use crate::failure::{Failure, Result};
use crate::help::examples;
use crate::output::{self, or_dash, print_json};
use crate::services;
use crate::stack::Stack;

/// Rows listed of each table. More rows than this have the same cause.
const LISTED_MAX: i64 = 1000;
const ERROR_CHARACTERS_MAX: usize = 80;

/// Show events that were not processed or published, and retry or drop them
///
/// A consumer tries an event ten times in about two minutes; then the event is a dead letter, and does not delay events
/// of other entities. Requeue it when the cause is repaired; if the consumer has processed a newer version by then, it
/// ignores the event. Drop an event that is not needed.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfevents dead list",
    "mfevents dead show messages:17",
    "mfevents dead requeue messages:17 messages:18",
    "mfevents dead requeue --all",
    "mfevents dead drop users:q3",
]))]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the dead letters of all consumers, and the failed rows of all owners
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one with its error and its data, as JSON
    Show {
        /// An id from `mfevents dead list`
        id: Id,
    },
    /// Process or publish it again
    Requeue(Choice),
    /// Do not try again: a dead letter stays in the inbox as ignored; a failed row is deleted from the queue
    Drop(Choice),
}

#[derive(Debug, clap::Args)]
struct Choice {
    /// Ids from `mfevents dead list`
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<Id>,
    /// All dead letters and failed rows
    #[arg(long)]
    all: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// `messages:17` in the inbox of messages, `users:q3` in the queue of users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Id {
    database: &'static Service,
    table: Table,
    number: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Inbox,
    Queue,
}

#[derive(Debug, Serialize, sqlx::FromRow)]
struct Dead {
    #[sqlx(skip)]
    id: String,
    #[serde(skip)]
    number: i64,
    /// `None` for a failed row: it is in no stream yet.
    stream: Option<String>,
    kind: String,
    entity_id: String,
    version: i64,
    message_id: Option<String>,
    since: Option<DateTime<Utc>>,
    attempts: i32,
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Value>,
}

const INBOX: &str = "select id as number, stream, kind, entity_id, version, message_id,
        coalesce(processed_at, received_at) as since,
        attempts, error, case when $1::bigint is not null then payload end as payload
    from inbox where state = 'dead' and ($1 is null or id = $1) order by stream, id limit $2";
const QUEUE: &str =
    "select queue.id as number, null as stream, journal.entity || '_changed' as kind, journal.entity_id,
        journal.version, null as message_id, queue.failed_at as since, 1 as attempts, queue.error,
        case when $1::bigint is not null then journal.row_data end as payload
    from journal_queue as queue
    inner join journal on journal.recorded_at = queue.recorded_at and journal.id = queue.journal_id
    where queue.failed_at is not null and ($1 is null or queue.id = $1) order by queue.id limit $2";

/// The statements of `requeue` or `drop`. `$1` is the number of one row; null selects all rows.
struct Action {
    done: &'static str,
    inbox: &'static str,
    queue: &'static str,
}

const REQUEUE: Action = Action {
    done: "requeued",
    // The consumer reads its inbox every second.
    inbox: "update inbox set state = 'waiting', attempts = 0, error = null, processed_at = null,
            next_attempt_at = clock_timestamp()
        where state = 'dead' and ($1::bigint is null or id = $1)",
    queue: "with requeued as (
            update journal_queue set failed_at = null, error = null
            where failed_at is not null and ($1::bigint is null or id = $1) returning id
        ), notified as (select pg_notify('journal', '') from (select from requeued limit 1) as any_row)
        select id from requeued left join notified on true",
};

const DROP: Action = Action {
    done: "dropped",
    // Not deleted: the row prevents that the event is processed when the stream is read again.
    inbox: "update inbox set state = 'ignored', processed_at = clock_timestamp()
        where state = 'dead' and ($1::bigint is null or id = $1)",
    queue: "delete from journal_queue where failed_at is not null and ($1::bigint is null or id = $1)",
};

pub(super) async fn run(stack: &Stack, args: Args) -> Result<()> {
    match args.command {
        Command::List { json } => list(stack, json).await,
        Command::Show { id } => {
            let mut database = Database::open_migrated(stack, id.database).await?;
            let found = find(&mut database, id.table, Some(id.number)).await?;
            print_json(found.first().ok_or_else(|| unknown(id))?);
            Ok(())
        }
        Command::Requeue(choice) => apply(stack, &choice, &REQUEUE).await,
        Command::Drop(choice) => apply(stack, &choice, &DROP).await,
    }
}

/// Returns the ids of dead letters and failed rows.
pub(super) async fn ids(stack: &Stack) -> Result<Vec<String>> {
    Ok(find_all(stack).await?.into_iter().map(|dead| dead.id).collect())
}

async fn find_all(stack: &Stack) -> Result<Vec<Dead>> {
    let mut all = Vec::new();
    for mut database in Database::open_all(stack).await? {
        for table in [Table::Inbox, Table::Queue] {
            all.extend(find(&mut database, table, None).await?);
        }
    }
    Ok(all)
}

async fn list(stack: &Stack, as_json: bool) -> Result<()> {
    let all = find_all(stack).await?;
    if as_json {
        print_json(&json!({ "dead": all }));
        return Ok(());
    }
    if all.is_empty() {
        print_line!("no dead letters, no failed rows");
        return Ok(());
    }
    let mut table = output::table(["ID", "STREAM", "TYPE", "ENTITY", "SINCE", "ATTEMPTS", "ERROR"]);
    for dead in all {
        table.add_row([
            dead.id,
            dead.stream.unwrap_or_else(|| "to be published".to_owned()),
            dead.kind,
            format!("{} v{}", dead.entity_id, dead.version),
            or_dash(dead.since.map(|since| since.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S"))),
            dead.attempts.to_string(),
            shortened(dead.error.as_deref().unwrap_or("-"), ERROR_CHARACTERS_MAX),
        ]);
    }
    print_line!("{table}");
    Ok(())
}

async fn find(database: &mut Database, table: Table, number: Option<i64>) -> Result<Vec<Dead>> {
    let statement = match table {
        Table::Inbox => INBOX,
        Table::Queue => QUEUE,
    };
    let query = sqlx::query_as(statement).bind(number).bind(LISTED_MAX);
    let found: sqlx::Result<Vec<Dead>> = query.fetch_all(&mut database.connection).await;
    let mut found = found.map_err(|error| database.failed(&error))?;
    for dead in &mut found {
        dead.id = Id { database: database.owner, table, number: dead.number }.to_string();
    }
    Ok(found)
}

async fn apply(stack: &Stack, choice: &Choice, action: &Action) -> Result<()> {
    let mut done = 0;
    if choice.all {
        for mut database in Database::open_all(stack).await? {
            for table in [Table::Inbox, Table::Queue] {
                done += execute(&mut database, action, table, None).await?;
            }
        }
    }
    for id in &choice.ids {
        let mut database = Database::open_migrated(stack, id.database).await?;
        let changed = execute(&mut database, action, id.table, Some(id.number)).await?;
        if changed == 0 {
            return Err(unknown(*id));
        }
        done += changed;
    }
    if choice.json {
        print_line!("{}", json!({ action.done: done }));
    } else {
        print_line!("{done} {}", action.done);
    }
    Ok(())
}

/// Returns the number of changed rows.
async fn execute(database: &mut Database, action: &Action, table: Table, number: Option<i64>) -> Result<u64> {
    let statement = match table {
        Table::Inbox => action.inbox,
        Table::Queue => action.queue,
    };
    let result = sqlx::query(statement).bind(number).execute(&mut database.connection).await;
    result.map(|result| result.rows_affected()).map_err(|error| database.failed(&error))
}

fn unknown(id: Id) -> Failure {
    failure!(Usage, "there is no {id} (any more). The existing ones: mfevents dead list")
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.table == Table::Queue { "q" } else { "" };
        write!(f, "{}:{prefix}{}", self.database, self.number)
    }
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || format!("`{text}` is not an id: mfevents dead list shows them, such as messages:17 or users:q3");
        let (database, number) = text.split_once(':').ok_or_else(wrong)?;
        let (table, number) = match number.strip_prefix('q') {
            Some(number) => (Table::Queue, number),
            None => (Table::Inbox, number),
        };
        Ok(Self { database: services::parse(database)?, table, number: number.parse().map_err(|_| wrong())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_database_table_and_row() {
        for text in ["messages:17", "users:q3"] {
            assert_eq!(text.parse::<Id>().map(|id| id.to_string()), Ok(text.to_owned()));
        }
        for wrong in ["17", "messages", "messages:x", "unknown:1", ""] {
            assert!(wrong.parse::<Id>().is_err(), "{wrong}");
        }
    }
}
