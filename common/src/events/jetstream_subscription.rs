//! A subscription to a stream, in order and without gaps, from an offset that the subscriber stores.
//!
//! NATS does not store the offset (no durable consumer, no acknowledgements): a subscriber that stores events stores
//! the offset in the same transaction. So a crash delivers nothing twice, and no late redelivery breaks the order. The
//! consumer in NATS is ephemeral; the subscription opens a new one after every error or gap.

use std::{ops::ControlFlow, time::Duration};

use anyhow::{Context as _, anyhow};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use futures::StreamExt as _;
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use super::{
    connection::ConnectionChanges,
    jetstream::{JetStream, incarnation_of, is_missing},
    stream::{Received, StartOffset, StreamMessage, stream_name},
};

/// The subscription opens a new consumer when the server sends nothing for twice this time.
const HEARTBEAT: Duration = Duration::from_secs(2);
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// Messages that the server sends ahead; more would only use memory.
const PULL_MESSAGES_MAX: usize = 500;
/// The server deletes a consumer that has not pulled for this time.
const CONSUMER_INACTIVE: Duration = Duration::from_mins(1);
/// The interval at which a subscription tries to open a stream.
const OPEN_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub struct JetStreamSubscription {
    jetstream: JetStream,
    stream: String,
    filter: String,
    start: StartOffset,
    open: Option<Open>,
    changes: ConnectionChanges,
    /// Whether the wait for the stream is logged already.
    is_waiting: bool,
    is_missing_reported: bool,
}

/// An open consumer.
struct Open {
    messages: pull::Stream,
    incarnation: String,
    /// The number of messages of this consumer; a larger step means that a message was lost between server and client.
    delivered: u64,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("delivered", &self.delivered).finish_non_exhaustive()
    }
}

impl JetStreamSubscription {
    pub(super) fn new(jetstream: JetStream, owner: &str, kind: Option<&str>, start: StartOffset) -> Self {
        let changes = jetstream.changes();
        Self {
            stream: stream_name(owner),
            // One filter only: nats-server 2.9 silently ignores several.
            filter: kind.map_or_else(String::new, |kind| format!("flack.{owner}.{kind}.>")),
            jetstream,
            start,
            open: None,
            changes,
            is_waiting: false,
            is_missing_reported: false,
        }
    }

    pub(super) async fn next(&mut self) -> Received {
        loop {
            if self.open.is_none() {
                match self.try_open().await {
                    Ok(ControlFlow::Break(opened)) => return opened,
                    Ok(ControlFlow::Continue(())) if !self.is_missing_reported => {
                        self.is_missing_reported = true;
                        return Received::StreamMissing;
                    }
                    Ok(ControlFlow::Continue(())) => self.wait("the stream does not exist yet").await,
                    Err(error) => self.wait(&format!("{error:#}")).await,
                }
                continue;
            }
            match self.try_next().await {
                Ok(message) => return Received::Message(message),
                Err(error) => {
                    debug!(stream = self.stream, error = format!("{error:#}"), "a new consumer is opened");
                    self.open = None;
                }
            }
        }
    }

    async fn try_next(&mut self) -> anyhow::Result<StreamMessage> {
        let open = self.open.as_mut().context("not open")?;
        let message = tokio::select! {
            message = open.messages.next() => message.context("the server closed the consumer")??,
            _ = self.changes.changed() => return Err(anyhow!("the connection has changed")),
        };
        let info = message.info().map_err(|error| anyhow!("a message without stream metadata: {error}"))?;
        if info.consumer_sequence != open.delivered + 1 {
            return Err(anyhow!("a message was lost between the server and this client"));
        }
        open.delivered += 1;
        let sequence = info.stream_sequence;
        self.start = StartOffset::After { incarnation: open.incarnation.clone(), sequence };
        let message_id = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get(async_nats::header::NATS_MESSAGE_ID))
            .map(ToString::to_string);
        Ok(StreamMessage {
            sequence,
            subject: message.subject.to_string(),
            message_id,
            payload: message.message.payload,
        })
    }

    /// Opens a consumer; returns `Continue` when the stream does not exist.
    async fn try_open(&mut self) -> anyhow::Result<ControlFlow<Received>> {
        self.changes.borrow_and_update();
        if !self.jetstream.is_connected() {
            return Err(anyhow!("NATS is unavailable"));
        }
        let stream = match self.jetstream.context().get_stream(&self.stream).await {
            Ok(stream) => stream,
            Err(error) if is_missing(&error.kind()) => return Ok(ControlFlow::Continue(())),
            Err(error) => return Err(error.into()),
        };
        let info = stream.cached_info();
        let incarnation = incarnation_of(info);
        let (first, last) = (info.state.first_sequence.max(1), info.state.last_sequence);
        let after = self.offset_after(&incarnation, first, last);
        let consumer: PullConsumer = stream
            .create_consumer(pull::Config {
                deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
                ack_policy: AckPolicy::None,
                filter_subject: self.filter.clone(),
                inactive_threshold: CONSUMER_INACTIVE,
                memory_storage: true,
                num_replicas: 1,
                ..pull::Config::default()
            })
            .await
            .context("NATS creates no consumer")?;
        let messages = consumer
            .stream()
            .heartbeat(HEARTBEAT)
            .expires(PULL_EXPIRES)
            .max_messages_per_batch(PULL_MESSAGES_MAX)
            .messages()
            .await
            .context("NATS delivers no messages")?;
        if self.is_waiting {
            info!(stream = self.stream, "subscribed to the stream");
            self.is_waiting = false;
        }
        self.start = StartOffset::After { incarnation: incarnation.clone(), sequence: after };
        self.open = Some(Open { messages, incarnation: incarnation.clone(), delivered: 0 });
        Ok(ControlFlow::Break(Received::Opened { incarnation, after, last }))
    }

    /// Returns the sequence after which to read, for a stream with these first and last messages.
    fn offset_after(&self, incarnation: &str, first: u64, last: u64) -> u64 {
        let before_first = first - 1;
        match &self.start {
            StartOffset::Earliest => before_first,
            StartOffset::Last(count) => last.saturating_sub(*count).max(before_first),
            StartOffset::After { incarnation: known, sequence } if known == incarnation => {
                if *sequence < before_first {
                    error!(
                        stream = self.stream,
                        from = *sequence + 1,
                        to = before_first,
                        "the stream has deleted messages that were not read; replay them from the owner's journal"
                    );
                }
                // A stream that was restored from an older backup ends before the offset.
                (*sequence).clamp(before_first, last.max(before_first))
            }
            StartOffset::After { .. } => {
                warn!(stream = self.stream, "the stream has a new incarnation; it is read from its beginning");
                before_first
            }
        }
    }

    async fn wait(&mut self, reason: &str) {
        if !self.is_waiting {
            info!(stream = self.stream, reason, "waiting for the stream");
            self.is_waiting = true;
        }
        sleep(OPEN_INTERVAL).await;
    }
}
