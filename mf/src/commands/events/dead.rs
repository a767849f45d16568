//! `mf events dead`: what could not be processed or published, and what to do with it.
//!
//! Two kinds of things end here: events that a reader failed at, which are dead letters in its inbox (`messages:17`),
//! and journal rows that their owner could not make an event of, which are failed rows of its queue (`users:q3`).

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use flack_catalogue::Service;
use serde::Serialize;
use serde_json::{Value, json};

use super::databases::Database;
use super::shortened;
use crate::failure::{Failure, Result};
use crate::help::examples;
use crate::output;
use crate::services;
use crate::stack::Stack;

/// Of each database; who has more has one cause for all of them.
const LISTED_MAX: i64 = 1000;
const ERROR_CHARACTERS_MAX: usize = 80;

/// Show what could not be processed, and try it again or drop it
///
/// A reader tries an event ten times in about two minutes; then it is a dead letter, and the events of all other
/// entities have long gone on. Requeue it when the cause is gone; an event that is older than what the reader holds by
/// then is ignored. Drop what will never be of use.
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
    /// List the dead letters of all readers, and the failed rows of all owners
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one with all that is known about it, as JSON
    Show {
        /// As `mfevents dead list` names it
        id: Id,
    },
    /// Try again
    Requeue(Choice),
    /// Give up: it is kept in the inbox as ignored; a failed row leaves the queue
    Drop(Choice),
}

#[derive(Debug, clap::Args)]
struct Choice {
    /// As `mfevents dead list` names them
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<Id>,
    /// All there are
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
    place: Place,
    number: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Inbox,
    Queue,
}

#[derive(Debug, Serialize, sqlx::FromRow)]
struct Dead {
    #[sqlx(skip)]
    id: String,
    #[serde(skip)]
    number: i64,
    /// Whose event it is: a stream, or for a failed row the entity.
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
    "select queue.id as number, null as stream, journal.entity as kind, journal.entity_id, journal.version,
        null as message_id, queue.failed_at as since, 1 as attempts, queue.error,
        case when $1::bigint is not null then journal.row_data end as payload
    from journal_queue as queue
    inner join journal on journal.recorded_at = queue.recorded_at and journal.id = queue.journal_id
    where queue.failed_at is not null and ($1 is null or queue.id = $1) order by queue.id limit $2";

pub(super) async fn run(stack: &Stack, args: Args) -> Result<()> {
    match args.command {
        Command::List { json } => list(stack, json).await,
        Command::Show { id } => show(stack, id).await,
        Command::Requeue(choice) => act(stack, &choice, Act::Requeue).await,
        Command::Drop(choice) => act(stack, &choice, Act::Drop).await,
    }
}

async fn list(stack: &Stack, as_json: bool) -> Result<()> {
    let mut all = Vec::new();
    for mut database in Database::open_all(stack).await? {
        for place in [Place::Inbox, Place::Queue] {
            all.extend(find(&mut database, place, None).await?);
        }
    }
    if as_json {
        print_line!(
            "{}",
            serde_json::to_string_pretty(&json!({ "dead": all })).expect("a list is plain data")
        );
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
            dead.since.map_or_else(|| "-".to_owned(), |since| since.format("%Y-%m-%d %H:%M:%S").to_string()),
            dead.attempts.to_string(),
            shortened(dead.error.as_deref().unwrap_or("-"), ERROR_CHARACTERS_MAX),
        ]);
    }
    print_line!("{table}");
    Ok(())
}

async fn show(stack: &Stack, id: Id) -> Result<()> {
    let mut database = Database::open_migrated(stack, id.database).await?;
    let found = find(&mut database, id.place, Some(id.number)).await?.pop().ok_or_else(|| not_there(id))?;
    print_line!("{}", serde_json::to_string_pretty(&found).expect("a dead letter is plain data"));
    Ok(())
}

async fn find(database: &mut Database, place: Place, number: Option<i64>) -> Result<Vec<Dead>> {
    let found: sqlx::Result<Vec<Dead>> = sqlx::query_as(match place {
        Place::Inbox => INBOX,
        Place::Queue => QUEUE,
    })
    .bind(number)
    .bind(LISTED_MAX)
    .fetch_all(&mut database.connection)
    .await;
    let mut found = found.map_err(|error| database.failed(&error))?;
    for dead in &mut found {
        dead.id = Id { database: database.owner, place, number: dead.number }.to_string();
    }
    Ok(found)
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Requeue,
    Drop,
}

impl Act {
    fn done(self) -> &'static str {
        match self {
            Self::Requeue => "requeued",
            Self::Drop => "dropped",
        }
    }

    fn statement(self, place: Place) -> &'static str {
        match (self, place) {
            // The reader looks at its inbox every second.
            (Self::Requeue, Place::Inbox) => {
                "update inbox set state = 'waiting', attempts = 0, error = null, processed_at = null,
                    next_attempt_at = clock_timestamp()
                where state = 'dead' and ($1::bigint is null or id = $1)"
            }
            // Not deleted: should the stream be read again, it must not come back to life.
            (Self::Drop, Place::Inbox) => {
                "update inbox set state = 'ignored', processed_at = clock_timestamp()
                where state = 'dead' and ($1::bigint is null or id = $1)"
            }
            (Self::Requeue, Place::Queue) => {
                "with requeued as (
                    update journal_queue set failed_at = null, error = null
                    where failed_at is not null and ($1::bigint is null or id = $1) returning id
                ), notified as (select pg_notify('journal', '') from (select from requeued limit 1) as any_row)
                select id from requeued left join notified on true"
            }
            (Self::Drop, Place::Queue) => {
                "delete from journal_queue where failed_at is not null and ($1::bigint is null or id = $1)"
            }
        }
    }
}

async fn act(stack: &Stack, choice: &Choice, act: Act) -> Result<()> {
    let mut done = 0;
    if choice.all {
        for mut database in Database::open_all(stack).await? {
            for place in [Place::Inbox, Place::Queue] {
                done += carry_out(&mut database, act.statement(place), None).await?;
            }
        }
    }
    for id in &choice.ids {
        let mut database = Database::open_migrated(stack, id.database).await?;
        let changed = carry_out(&mut database, act.statement(id.place), Some(id.number)).await?;
        if changed == 0 {
            return Err(not_there(*id));
        }
        done += changed;
    }
    if choice.json {
        print_line!("{}", json!({ act.done(): done }));
    } else {
        print_line!("{done} {}", act.done());
    }
    Ok(())
}

async fn carry_out(database: &mut Database, statement: &'static str, number: Option<i64>) -> Result<u64> {
    sqlx::query(statement)
        .bind(number)
        .execute(&mut database.connection)
        .await
        .map(|result| result.rows_affected())
        .map_err(|error| database.failed(&error))
}

fn not_there(id: Id) -> Failure {
    Failure::usage(format!("there is no {id} (any more). What there is: mfevents dead list"))
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.place {
            Place::Inbox => "",
            Place::Queue => "q",
        };
        write!(f, "{}:{mark}{}", self.database, self.number)
    }
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong =
            || format!("`{text}` is no id: mfevents dead list shows them, such as messages:17 or users:q3");
        let (database, number) = text.split_once(':').ok_or_else(wrong)?;
        let (place, number) = match number.strip_prefix('q') {
            Some(number) => (Place::Queue, number),
            None => (Place::Inbox, number),
        };
        Ok(Self { database: services::parse(database)?, place, number: number.parse().map_err(|_| wrong())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_where_it_is() {
        for text in ["messages:17", "users:q3"] {
            assert_eq!(text.parse::<Id>().map(|id| id.to_string()), Ok(text.to_owned()));
        }
        for wrong in ["17", "messages", "messages:x", "nobody:1", ""] {
            assert!(wrong.parse::<Id>().is_err(), "{wrong}");
        }
    }
}
