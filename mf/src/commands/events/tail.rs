//! `mf events tail`: events as they are published, one line each.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use chrono::{DateTime, Local, Utc};
use flack_catalogue::{SERVICES, Service};
use futures::StreamExt as _;
use futures::future::{join_all, try_join_all};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{parse_owner, shortened, streams};
use crate::failure::Result;
use crate::help::examples;
use crate::signals::interrupted;
use crate::stack::Stack;

const LAST_DEFAULT: u64 = 10;
const LAST_MAX: u64 = 10_000;
/// Between two attempts to read a stream that does not exist yet, or while NATS does not respond.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Messages of the past arrive at once; a longer wait means that the connection to NATS is lost.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
const DATA_CHARACTERS_MAX: usize = 120;
const SHORT_ID_CHARACTERS: usize = 8;

/// Show events as they are published, one line each; Ctrl-C ends it
///
/// A line has local time, stream, type, entity id and version, operation, correlation id and the beginning of the data.
/// An event that a replay published again is marked `replay`. With --json each line is one object with the whole event.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfevents tail                                  # all streams",
    "mfevents tail messages --last 100",
    "mfevents tail --grep 7f3a9c                    # a correlation id, a nickname, any text",
    "mfevents tail users --from-start --no-follow --json | jq .event.data.nickname",
]))]
pub(super) struct Args {
    /// The owner of the events (users, tokens, messages, ui, monolith); without it, all owners
    #[arg(value_parser = parse_owner)]
    stream: Option<&'static Service>,
    /// Only events that contain this text anywhere
    #[arg(long)]
    grep: Option<String>,
    /// Start with the oldest retained event
    #[arg(long, conflicts_with = "last")]
    from_start: bool,
    /// How many past events of each stream
    #[arg(short = 'n', long, default_value_t = LAST_DEFAULT,
        value_parser = clap::value_parser!(u64).range(..=LAST_MAX))]
    last: u64,
    /// End after the last event that is in the streams now
    #[arg(long)]
    no_follow: bool,
    /// One JSON object a line, with the whole event
    #[arg(long)]
    json: bool,
}

/// A message of a stream.
struct Line {
    time: DateTime<Utc>,
    stream: String,
    sequence: u64,
    subject: String,
    replay: bool,
    payload: String,
}

pub(super) async fn run(stack: &Stack, args: Args) -> Result<()> {
    let context = streams::connect(stack).await?;
    tokio::select! {
        result = show_all(&context, &args) => result,
        () = interrupted() => Ok(()),
    }
}

async fn show_all(context: &Context, args: &Args) -> Result<()> {
    let owners: Vec<&'static Service> = match args.stream {
        Some(owner) => vec![owner],
        None => SERVICES.iter().filter(|owner| owner.publishes_events).collect(),
    };
    let next = show_past(context, args, &owners).await?;
    if !args.no_follow {
        join_all(owners.iter().zip(next).map(|(owner, next)| follow(context, args, owner, next))).await;
    }
    Ok(())
}

/// Shows what is in the streams. Returns the next sequence of each stream.
async fn show_past(context: &Context, args: &Args, owners: &[&'static Service]) -> Result<Vec<u64>> {
    let lines = RefCell::new(Vec::new());
    let receive = |line: Line| {
        if args.from_start {
            // Too many to sort: only the order within a stream is kept.
            args.show(&line);
        } else {
            lines.borrow_mut().push(line);
        }
    };
    let next = try_join_all(owners.iter().map(|owner| read_past(context, args, owner, receive))).await;
    let mut lines = lines.take();
    lines.sort_by_key(|line| line.time);
    for line in &lines {
        args.show(line);
    }
    next
}

/// Reads the messages in a stream now, at most the `last` ones. Returns the next sequence.
async fn read_past(context: &Context, args: &Args, owner: &Service, receive: impl Fn(Line)) -> Result<u64> {
    let name = streams::name(owner);
    let Some(stream) = streams::find(context, &name).await? else {
        if args.stream.is_some() {
            let missing = failure!(Unavailable, "there is no stream {name} yet: {owner} has published nothing");
            if args.no_follow {
                return Err(missing);
            }
            eprintln!("mf: {missing}; waiting for it");
        }
        return Ok(1);
    };
    let state = &stream.cached_info().state;
    let end = state.last_sequence;
    let last = if args.from_start { u64::MAX } else { args.last };
    let first = (end + 1).saturating_sub(last).max(state.first_sequence).max(1);
    if state.messages == 0 || first > end {
        return Ok(end + 1);
    }
    let mut messages = open(context, &name, first).await?;
    loop {
        let message = timeout(READ_TIMEOUT, messages.next())
            .await
            .map_err(|_| failure!(Unavailable, "NATS sent nothing of {name} for {READ_TIMEOUT:?}"))?;
        let Some(Ok(message)) = message else {
            return Err(failure!(Unavailable, "the connection to NATS was lost while {name} was read; try again"));
        };
        let line = Line::of(&name, &message)?;
        let sequence = line.sequence;
        receive(line);
        if sequence >= end {
            return Ok(sequence + 1);
        }
    }
}

/// Shows messages from `next` on, and continues after a restart of NATS. Does not return.
async fn follow(context: &Context, args: &Args, owner: &Service, mut next: u64) {
    let name = streams::name(owner);
    loop {
        if let Ok(Some(stream)) = streams::find(context, &name).await {
            let state = &stream.cached_info().state;
            if state.last_sequence + 1 < next {
                eprintln!("mf: stream {name} lost its data and starts again");
                next = state.first_sequence.max(1);
            }
            if let Ok(mut messages) = open(context, &name, next).await {
                while let Some(Ok(message)) = messages.next().await {
                    let Ok(line) = Line::of(&name, &message) else { break };
                    next = line.sequence + 1;
                    args.show(&line);
                }
            }
        }
        sleep(RETRY_INTERVAL).await;
    }
}

async fn open(context: &Context, name: &str, first: u64) -> anyhow::Result<Ordered> {
    let config = OrderedConfig {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: first },
        ..OrderedConfig::default()
    };
    let stream = context.get_stream_no_info(name).await.context("the stream cannot be read from NATS")?;
    let consumer = stream.create_consumer(config).await.context("NATS creates no consumer")?;
    consumer.messages().await.context("NATS delivers no messages")
}

impl Line {
    fn of(stream: &str, message: &async_nats::jetstream::Message) -> anyhow::Result<Self> {
        let info = message.info().map_err(|error| anyhow::anyhow!("a message without its sequence: {error}"))?;
        let id = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get(async_nats::header::NATS_MESSAGE_ID))
            .map(ToString::to_string);
        Ok(Self {
            time: DateTime::from_timestamp_nanos(i64::try_from(info.published.unix_timestamp_nanos())?),
            stream: stream.to_owned(),
            sequence: info.stream_sequence,
            subject: message.subject.to_string(),
            // The relay marks the message ids of a replay with `~`.
            replay: id.is_some_and(|id| id.contains('~')),
            payload: String::from_utf8_lossy(&message.payload).into_owned(),
        })
    }

    /// Returns the payload as it is if it is not JSON.
    fn event(&self) -> Value {
        serde_json::from_str(&self.payload).unwrap_or_else(|_| json!(self.payload))
    }
}

impl Args {
    fn show(&self, line: &Line) {
        let wanted = self
            .grep
            .as_ref()
            .is_none_or(|text| line.payload.contains(text.as_str()) || line.subject.contains(text.as_str()));
        if !wanted {
            return;
        }
        if self.json {
            let whole = json!({
                "time": line.time, "stream": line.stream, "sequence": line.sequence, "subject": line.subject,
                "replay": line.replay, "event": line.event(),
            });
            print_line!("{whole}");
        } else {
            print_line!("{}", readable(line));
        }
    }
}

fn readable(line: &Line) -> String {
    let event = line.event();
    let time = line.time.with_timezone(&Local).format("%H:%M:%S%.3f");
    let (kind, id) = {
        let mut parts = line.subject.splitn(4, '.').skip(2);
        (parts.next().unwrap_or("?").to_owned(), parts.next().unwrap_or("?").to_owned())
    };
    if event.get("type").is_none() {
        let text = shortened(&line.payload, DATA_CHARACTERS_MAX);
        return format!("{time} {:<9} {kind} {id} not an event: {text}", line.stream);
    }
    let version = event["version"].as_i64().unwrap_or_default();
    let operation = event["operation"].as_str().unwrap_or("?");
    let correlation: String =
        event["correlation_id"].as_str().unwrap_or("-").chars().take(SHORT_ID_CHARACTERS).collect();
    let data = shortened(&event["data"].to_string(), DATA_CHARACTERS_MAX);
    let replay = if line.replay { " replay" } else { "" };
    format!("{time} {:<9} {kind} {id} v{version} {operation}{replay} {correlation} {data}", line.stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(payload: &str) -> Line {
        Line {
            time: DateTime::from_timestamp(1_700_000_000, 0).expect("a time"),
            stream: "USERS".to_owned(),
            sequence: 7,
            subject: "flack.users.user_changed.17".to_owned(),
            replay: true,
            payload: payload.to_owned(),
        }
    }

    #[test]
    fn an_event_is_one_readable_line() {
        let payload = r#"{"id":"users-9","type":"user_changed","operation":"update","version":3,
            "correlation_id":"0123456789","data":{"nickname":"ada"}}"#;
        let (time, event) =
            readable(&line(payload)).split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("two words");
        // The minutes depend on the time zone of the machine.
        assert!(time.ends_with(":20.000"), "{time}");
        assert_eq!(event, r#"USERS     user_changed 17 v3 update replay 01234567 {"nickname":"ada"}"#);
    }

    #[test]
    fn a_message_that_is_not_an_event_is_marked() {
        assert!(readable(&line("{oops\n")).ends_with(" USERS     user_changed 17 not an event: {oops "));
    }
}
