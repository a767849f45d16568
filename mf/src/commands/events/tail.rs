//! `mf events tail`: the events as they happen, one line each.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use chrono::{DateTime, Utc};
use flack_catalogue::{SERVICES, Service};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{parse_owner, shortened, streams};
use crate::failure::{Failure, Result};
use crate::help::examples;
use crate::signals::interrupted;
use crate::stack::Stack;

const LAST_DEFAULT: u64 = 10;
const LAST_MAX: u64 = 10_000;
/// Lines that are read ahead of a slow terminal.
const AHEAD_MAX: usize = 256;
/// Between looks for a stream that is not there, or NATS that is away.
const AGAIN: Duration = Duration::from_millis(500);
/// What is in a stream comes at once; longer means that NATS went away in between.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
const DATA_CHARACTERS_MAX: usize = 120;
const SHORT_ID_CHARACTERS: usize = 8;

/// Show events as they happen, one line each; Ctrl-C ends it
///
/// A line holds time, stream, type, entity id and version, operation, correlation id and the beginning of the data. An
/// event that was published once more by a replay is marked `replay`. With --json each line is one object with the
/// whole event.
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mfevents tail                                  # all streams",
    "mfevents tail messages --last 100",
    "mfevents tail --grep 7f3a9c                    # a correlation id, a nickname, any text",
    "mfevents tail users --from-start --no-follow --json | jq .event.data.nickname",
]))]
pub(super) struct Args {
    /// Whose events (users, tokens, messages, ui, monolith); nobody named means everybody's
    #[arg(value_parser = parse_owner)]
    stream: Option<&'static Service>,
    /// Only events that contain this text anywhere
    #[arg(long)]
    grep: Option<String>,
    /// Begin with the oldest event that is kept
    #[arg(long, conflicts_with = "last")]
    from_start: bool,
    /// How many events of the past, of each stream
    #[arg(short = 'n', long, default_value_t = LAST_DEFAULT,
        value_parser = clap::value_parser!(u64).range(..=LAST_MAX))]
    last: u64,
    /// End with the last event that is there now
    #[arg(long)]
    no_follow: bool,
    /// One JSON object a line, with the whole event
    #[arg(long)]
    json: bool,
}

/// An event with its place.
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
        // To stop looking is how this command ends.
        () = interrupted() => Ok(()),
    }
}

async fn show_all(context: &Context, args: &Args) -> Result<()> {
    let owners: Vec<&'static Service> = match args.stream {
        Some(owner) => vec![owner],
        None => SERVICES.iter().filter(|owner| owner.publishes_events).collect(),
    };
    let next = show_past(context, args, &owners).await?;
    if args.no_follow {
        return Ok(());
    }
    let (sender, mut lines) = mpsc::channel(AHEAD_MAX);
    for (owner, next) in owners.into_iter().zip(next) {
        tokio::spawn(follow(context.clone(), owner, next, sender.clone()));
    }
    while let Some(line) = lines.recv().await {
        args.show(&line);
    }
    Ok(())
}

/// Gives the sequence that comes next in each stream.
async fn show_past(context: &Context, args: &Args, owners: &[&'static Service]) -> Result<Vec<u64>> {
    let (sender, mut lines) = mpsc::channel(AHEAD_MAX);
    let reading = async {
        // Dropped at the end: that ends the printing too.
        let sender = sender;
        futures::future::try_join_all(owners.iter().map(|owner| past(context, args, owner, &sender))).await
    };
    let printing = async {
        let mut unsorted = Vec::new();
        while let Some(line) = lines.recv().await {
            if args.from_start {
                // May be too much to be sorted: each stream is in order, and that will do.
                args.show(&line);
            } else {
                unsorted.push(line);
            }
        }
        unsorted.sort_by_key(|line| line.time);
        for line in &unsorted {
            args.show(line);
        }
    };
    let (next, ()) = tokio::join!(reading, printing);
    next
}

/// Sends what is in the stream already, at most the `last` ones. Gives the sequence that comes next.
async fn past(
    context: &Context,
    args: &Args,
    owner: &'static Service,
    sender: &mpsc::Sender<Line>,
) -> Result<u64> {
    let name = streams::name(owner);
    let Some(stream) = streams::find(context, &name).await? else {
        if args.stream.is_some() {
            let message = format!("there is no stream {name} yet: {owner} never published anything");
            if args.no_follow {
                return Err(Failure::unavailable(message));
            }
            eprintln!("mf: {message}; waiting for it");
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
            .map_err(|_| Failure::unavailable(format!("NATS sent nothing of {name} for {READ_TIMEOUT:?}")))?;
        let Some(Ok(message)) = message else {
            return Err(Failure::unavailable(format!("NATS went away while {name} was read; try again")));
        };
        let line = Line::of(&name, &message)?;
        let sequence = line.sequence;
        let _ = sender.send(line).await;
        if sequence >= end {
            return Ok(sequence + 1);
        }
    }
}

/// Sends what comes from `next` on, for ever, also over a restart of NATS.
async fn follow(context: Context, owner: &'static Service, mut next: u64, sender: mpsc::Sender<Line>) {
    let name = streams::name(owner);
    loop {
        if let Ok(Some(stream)) = streams::find(&context, &name).await {
            let state = &stream.cached_info().state;
            if state.last_sequence + 1 < next {
                eprintln!("mf: stream {name} began anew");
                next = state.first_sequence.max(1);
            }
            if let Ok(mut messages) = open(&context, &name, next).await {
                while let Some(Ok(message)) = messages.next().await {
                    let Ok(line) = Line::of(&name, &message) else { break };
                    next = line.sequence + 1;
                    if sender.send(line).await.is_err() {
                        return;
                    }
                }
            }
        }
        sleep(AGAIN).await;
    }
}

async fn open(context: &Context, name: &str, first: u64) -> anyhow::Result<Ordered> {
    let stream = context.get_stream_no_info(name).await.context("NATS does not know the stream")?;
    let consumer = stream
        .create_consumer(OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: first },
            ..OrderedConfig::default()
        })
        .await
        .context("NATS gives no consumer")?;
    consumer.messages().await.context("NATS does not let us read")
}

impl Line {
    fn of(stream: &str, message: &async_nats::jetstream::Message) -> anyhow::Result<Self> {
        let info = message.info().map_err(|error| anyhow::anyhow!("a message without its place: {error}"))?;
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
            // As the relay marks them.
            replay: id.is_some_and(|id| id.contains('~')),
            payload: String::from_utf8_lossy(&message.payload).into_owned(),
        })
    }

    /// What is no event is shown as it is.
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
    let time = line.time.format("%H:%M:%S%.3f");
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
        assert_eq!(
            readable(&line(payload)),
            r#"22:13:20.000 USERS     user_changed 17 v3 update replay 01234567 {"nickname":"ada"}"#
        );
    }

    #[test]
    fn what_is_no_event_is_shown_as_such() {
        assert_eq!(readable(&line("{oops\n")), "22:13:20.000 USERS     user_changed 17 not an event: {oops ");
    }
}
