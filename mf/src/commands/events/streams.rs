//! The streams in NATS, read with the operator's account.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{Context, ErrorCode};
use flack_catalogue::Service;

use crate::failure::Result;
use crate::infra::nats;
use crate::stack::Stack;

/// NATS deletes a consumer for counting after this time, in case that `mf` is interrupted before it does.
const COUNTER_INACTIVE: Duration = Duration::from_secs(5);

/// Connects to NATS. The client reconnects automatically.
pub(super) async fn connect(stack: &Stack) -> Result<Context> {
    let client = nats::connect(&stack.ports, &stack.secrets).await.map_err(|error| {
        failure!(
            Unavailable,
            "NATS does not respond at {} ({error}). mfps shows what runs; mfup starts what is missing",
            stack.ports.nats_address()
        )
    })?;
    Ok(async_nats::jetstream::new(client))
}

pub(super) fn name(owner: &Service) -> String {
    owner.name.to_uppercase()
}

/// Returns `None` if there is no such stream: NATS has lost it, and `mf supervise` has not made it again.
pub(super) async fn find(context: &Context, name: &str) -> anyhow::Result<Option<Stream>> {
    match context.get_stream(name).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if is_missing(&error.kind()) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("stream {name} cannot be read from NATS")),
    }
}

fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Returns the incarnation: a stream that lost its data starts again with sequence 1 in another one. It is in
/// the stream's description, and consumers write it into `inbox_offset`.
pub(super) fn incarnation(stream: &Stream) -> &str {
    stream.cached_info().config.description.as_deref().unwrap_or_default()
}

/// Returns the number of messages after `sequence`, of one type of event or of all.
pub(super) async fn count_behind(stream: &Stream, sequence: u64, kind: Option<&str>) -> anyhow::Result<u64> {
    let info = stream.cached_info();
    if sequence >= info.state.last_sequence {
        return Ok(0);
    }
    let Some(kind) = kind else {
        // Some of them may be deleted already, because of their age.
        return Ok((info.state.last_sequence - sequence).min(info.state.messages));
    };
    // NATS counts the messages that match a consumer's filter.
    let consumer: PullConsumer = stream
        .create_consumer(pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: sequence + 1 },
            ack_policy: AckPolicy::None,
            filter_subject: format!("flack.{}.{kind}.>", info.config.name.to_lowercase()),
            inactive_threshold: COUNTER_INACTIVE,
            memory_storage: true,
            ..pull::Config::default()
        })
        .await
        .context("NATS cannot count the messages")?;
    let counter = consumer.cached_info();
    let _ = stream.delete_consumer(&counter.name).await;
    Ok(counter.num_pending)
}
