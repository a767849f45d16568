//! The streams, which an administrator makes: a service may only publish to its own stream, and read others.
//!
//! NATS does not check what is inside a request. A service that may create or update its stream could add the subjects
//! of others to it; one that may create a consumer could have events delivered to any subject.

use std::{convert::Infallible, time::Duration};

use anyhow::Context as _;
use async_nats::{
    Client,
    connection::State,
    jetstream::{
        self, Context,
        context::{CreateStreamErrorKind, GetStreamErrorKind},
        stream::{Config, DiscardPolicy, Info, Republish, Source, StorageType, Stream},
    },
};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::stream::{JOURNAL_RETENTION_DAYS, stream_name};

/// The disk space of one stream; NATS deletes the oldest messages first. The journal still has them.
const STREAM_BYTES_MAX: i64 = 512 * 1024 * 1024;
/// NATS drops a message id that it has stored within this time. A standby relay takes over much earlier.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(2);
/// How often the administrator looks for missing streams. Writes wait in the journal queue meanwhile.
const KEEP_INTERVAL: Duration = Duration::from_millis(500);

const COPY_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// NATS begins to copy within a second.
const COPY_STALLED_AFTER: Duration = Duration::from_secs(5);

/// Returns the subjects on which NATS publishes each message again when it has stored it. No client may publish there.
pub fn live_subjects(owner: &str) -> String {
    format!("stream.{owner}.>")
}

/// Makes the owner's stream, or updates its configuration to that of this version. `client` is the administrator's.
/// A cluster stores the stream on this number of its servers (`replicas`).
pub async fn prepare_stream(client: &Client, owner: &str, replicas: usize) -> anyhow::Result<()> {
    let context = jetstream::new(client.clone());
    let (name, copy) = (stream_name(owner), format!("{}_COPY", stream_name(owner)));
    let mut present = find(&context, &name).await?;
    // A stream of an older version: nats-server 2.9 cannot add `republish` to an existing stream.
    if present.as_ref().is_some_and(|stream| stream.cached_info().config.republish.is_none()) {
        copy_messages(&context, &name, Config { name: copy.clone(), ..Config::default() }).await?;
        context.delete_stream(&name).await?;
        present = None;
    }
    // Exists after the lines above, also when they were interrupted. Readers read the new stream from its beginning.
    if find(&context, &copy).await?.is_some() {
        copy_messages(&context, &copy, config(owner, replicas, new_incarnation())).await?;
        context.delete_stream(&copy).await?;
        return Ok(());
    }
    let Some(stream) = present else { return create(&context, owner, replicas).await };
    let wanted = config(owner, replicas, incarnation_of(stream.cached_info()));
    context.update_stream(wanted).await.map(drop).with_context(|| format!("stream {name} cannot be updated"))
}

/// Copies all messages of a stream into another one, which it makes.
async fn copy_messages(context: &Context, from: &str, into: Config) -> anyhow::Result<()> {
    let failed = || format!("the messages of stream {from} cannot be copied");
    let wanted = find(context, from).await?.map_or(0, |stream| stream.cached_info().state.messages);
    let sources = Some(vec![Source { name: from.to_owned(), ..Source::default() }]);
    context.create_or_update_stream(Config { sources, ..into.clone() }).await.with_context(failed)?;
    let (mut copied, mut progress) = (0, Instant::now());
    while copied < wanted {
        sleep(COPY_POLL_INTERVAL).await;
        let stream = find(context, &into.name).await?.with_context(failed)?;
        let copy = stream.cached_info();
        if copy.state.messages > copied {
            (copied, progress) = (copy.state.messages, Instant::now());
        }
        if progress.elapsed() > COPY_STALLED_AFTER {
            // A message whose id exists already is not copied.
            anyhow::ensure!(copied > 0 && copy.sources.iter().all(|source| source.lag == 0), failed());
            break;
        }
    }
    context.update_stream(into).await.map(drop).with_context(failed)
}

/// Makes streams that NATS has lost, as long as the process runs. `client` is the administrator's.
pub async fn keep_streams(client: &Client, owners: &[&str], replicas: usize) -> Infallible {
    let context = jetstream::new(client.clone());
    let mut is_failing = false;
    loop {
        if client.connection_state() == State::Connected {
            let made = create_missing(&context, owners, replicas).await;
            if let Err(error) = &made
                && !is_failing
            {
                warn!(error = format!("{error:#}"), "missing streams cannot be made; events wait in the queues");
            }
            is_failing = made.is_err();
        }
        sleep(KEEP_INTERVAL).await;
    }
}

async fn create_missing(context: &Context, owners: &[&str], replicas: usize) -> anyhow::Result<()> {
    for owner in owners {
        if find(context, &stream_name(owner)).await?.is_none() {
            create(context, owner, replicas).await?;
            info!(stream = stream_name(owner), "made a missing stream");
        }
    }
    Ok(())
}

async fn find(context: &Context, name: &str) -> anyhow::Result<Option<Stream>> {
    match context.get_stream(name).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if is_missing(&error.kind()) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("NATS returns no information about stream {name}")),
    }
}

async fn create(context: &Context, owner: &str, replicas: usize) -> anyhow::Result<()> {
    match context.create_stream(config(owner, replicas, new_incarnation())).await {
        Ok(_) => Ok(()),
        // Another administrator has just made it, with another incarnation: `mf up` and its supervisor start together.
        Err(error) if exists(&error.kind()) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("stream {} cannot be created", stream_name(owner))),
    }
}

fn exists(kind: &CreateStreamErrorKind) -> bool {
    let CreateStreamErrorKind::JetStream(error) = kind else { return false };
    error.error_code() == jetstream::ErrorCode::STREAM_NAME_EXIST
}

fn new_incarnation() -> String {
    format!("{:x}", chrono::Utc::now().timestamp_micros())
}

fn config(owner: &str, replicas: usize, incarnation: String) -> Config {
    Config {
        name: stream_name(owner),
        description: Some(incarnation),
        // Four tokens: the stream does not store signals (`flack.<owner>.typing`).
        subjects: vec![format!("flack.{owner}.*.>")],
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        max_age: Duration::from_hours(24) * JOURNAL_RETENTION_DAYS.unsigned_abs(),
        max_bytes: STREAM_BYTES_MAX,
        duplicate_window: DUPLICATE_WINDOW,
        num_replicas: replicas,
        // Readers receive new messages by the one, and request older ones by the other.
        republish: Some(Republish {
            source: format!("flack.{owner}.>"),
            destination: live_subjects(owner),
            headers_only: false,
        }),
        allow_direct: true,
        ..Config::default()
    }
}

/// Returns the identity of a stream: it changes when NATS has lost the stream and it is made again.
///
/// It is in the description, because nats-server 2.9 does not keep the creation time: each restart writes its own time
/// to disk, and the next restart reads that.
pub(super) fn incarnation_of(info: &Info) -> String {
    match &info.config.description {
        Some(incarnation) if !incarnation.is_empty() => incarnation.clone(),
        _ => format!("{:x}", info.created.unix_timestamp_nanos() / 1000),
    }
}

pub(super) fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND)
}
