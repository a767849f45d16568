//! The streams in NATS, as the operator's account sees them.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::ConnectOptions;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{Context, ErrorCode};
use flack_catalogue::Service;

use crate::failure::{Failure, Result};
use crate::secrets::OPERATOR;
use crate::stack::Stack;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// NATS drops a consumer that only counted, should we not come to delete it.
const COUNTER_INACTIVE: Duration = Duration::from_secs(5);

/// The pipeline; once connected, the client finds its way back by itself.
pub(super) async fn connect(stack: &Stack) -> Result<Context> {
    let client = ConnectOptions::new()
        .user_and_password(OPERATOR.to_owned(), stack.secrets.account(OPERATOR).nats.clone())
        .connection_timeout(CONNECT_TIMEOUT)
        .max_reconnects(None)
        // What went wrong is said by whoever wanted something.
        .event_callback(|_| std::future::ready(()))
        .connect(format!("nats://127.0.0.1:{}", stack.ports.nats))
        .await
        .map_err(|error| {
            Failure::unavailable(format!(
                "NATS does not answer on port {} ({error}). mfps shows what runs; mfup starts what is missing",
                stack.ports.nats
            ))
        })?;
    Ok(async_nats::jetstream::new(client))
}

pub(super) fn name(owner: &Service) -> String {
    owner.name.to_uppercase()
}

/// `None` when there is no such stream: its owner has not connected yet.
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

/// Which of the streams by this name it is: a stream that lost its data begins anew, and its numbers mean nothing then.
/// As the relay writes it in the stream's description, and the consumers in `inbox_offset`.
pub(super) fn incarnation(stream: &Stream) -> &str {
    stream.cached_info().config.description.as_deref().unwrap_or_default()
}

/// How many messages of this kind stand behind `sequence`; of all kinds, when none is named.
pub(super) async fn count_behind(stream: &Stream, sequence: u64, kind: Option<&str>) -> anyhow::Result<u64> {
    let info = stream.cached_info();
    if sequence >= info.state.last_sequence {
        return Ok(0);
    }
    let Some(kind) = kind else {
        // Some of them may be too old to be kept.
        return Ok((info.state.last_sequence - sequence).min(info.state.messages));
    };
    // NATS counts for a consumer what it would be sent.
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
        .context("NATS does not count")?;
    let counter = consumer.cached_info();
    let _ = stream.delete_consumer(&counter.name).await;
    Ok(counter.num_pending)
}
