//! Reads a stream in order and without gap, from a position that the reader keeps itself.
//!
//! The position is not kept by NATS (no durable consumer, no acks): whoever stores what it reads also stores how far it
//! has read, in the same transaction. So nothing is handed out twice after a crash, and no late redelivery comes out of
//! order. The consumer in NATS is a throw-away one that is opened anew after anything unusual.

use std::{ops::ControlFlow, time::Duration};

use anyhow::{Context as _, anyhow};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use futures::StreamExt as _;
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use super::{
    bus::{Received, StartOffset, StreamMessage},
    connection::Changes,
    jetstream::{JetStream, incarnation_of, is_missing},
    stream_name,
};

/// Silence of twice this means that the server has forgotten us.
const HEARTBEAT: Duration = Duration::from_secs(2);
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// Sent ahead by the server; more would only fill memory.
const PULL_MESSAGES_MAX: usize = 500;
/// The server drops our consumer when we have not asked for so long.
const CONSUMER_INACTIVE: Duration = Duration::from_mins(1);
/// Between looks whether a stream is there, or NATS is back.
const OPEN_PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub struct JetStreamSubscription {
    jetstream: JetStream,
    stream: String,
    filter: String,
    start: StartOffset,
    open: Option<Open>,
    changes: Changes,
    /// So that waiting is logged once, not four times a second.
    waiting: bool,
    absent: bool,
}

/// A consumer that is being read.
struct Open {
    messages: pull::Stream,
    incarnation: String,
    /// Of this consumer; a step of more than one means that a message was lost on the way.
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
            waiting: false,
            absent: false,
        }
    }

    pub(super) async fn next(&mut self) -> Received {
        loop {
            if self.open.is_none() {
                match self.try_open().await {
                    Ok(ControlFlow::Break(opened)) => return opened,
                    Ok(ControlFlow::Continue(())) if !self.absent => {
                        self.absent = true;
                        return Received::StreamMissing;
                    }
                    Ok(ControlFlow::Continue(())) => self.wait("the stream is not there yet").await,
                    Err(error) => self.wait(&format!("{error:#}")).await,
                }
                continue;
            }
            match self.try_next().await {
                Ok(message) => return Received::Message(message),
                Err(error) => {
                    debug!(stream = self.stream, error = format!("{error:#}"), "reading is opened anew");
                    self.open = None;
                }
            }
        }
    }

    async fn try_next(&mut self) -> anyhow::Result<StreamMessage> {
        let open = self.open.as_mut().context("not open")?;
        let message = tokio::select! {
            message = open.messages.next() => message.context("the server ended it")??,
            _ = self.changes.changed() => return Err(anyhow!("the connection was lost or is back")),
        };
        let info =
            message.info().map_err(|error| anyhow!("a message without its place in the stream: {error}"))?;
        if info.consumer_sequence != open.delivered + 1 {
            return Err(anyhow!("a message was lost between the server and us"));
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

    /// `Continue` when there is no such stream.
    async fn try_open(&mut self) -> anyhow::Result<ControlFlow<Received>> {
        self.changes.borrow_and_update();
        if !self.jetstream.is_connected() {
            return Err(anyhow!("NATS is away"));
        }
        let stream = match self.jetstream.context().get_stream(&self.stream).await {
            Ok(stream) => stream,
            Err(error) if is_missing(&error.kind()) => return Ok(ControlFlow::Continue(())),
            Err(error) => return Err(error.into()),
        };
        let info = stream.cached_info();
        let incarnation = incarnation_of(info);
        let (first, last) = (info.state.first_sequence.max(1), info.state.last_sequence);
        let after = self.position(&incarnation, first, last);
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
            .context("NATS gives us no consumer")?;
        let messages = consumer
            .stream()
            .heartbeat(HEARTBEAT)
            .expires(PULL_EXPIRES)
            .max_messages_per_batch(PULL_MESSAGES_MAX)
            .messages()
            .await
            .context("NATS does not let us read")?;
        if self.waiting {
            info!(stream = self.stream, "the stream is read");
            self.waiting = false;
        }
        self.start = StartOffset::After { incarnation: incarnation.clone(), sequence: after };
        self.open = Some(Open { messages, incarnation: incarnation.clone(), delivered: 0 });
        Ok(ControlFlow::Break(Received::Opened { incarnation, after, last }))
    }

    /// Behind which sequence to read on.
    fn position(&self, incarnation: &str, first: u64, last: u64) -> u64 {
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
                        "messages that we have not read are gone from the stream; replay them from the owner's journal"
                    );
                }
                // A stream restored from an older copy ends before what we have read.
                (*sequence).clamp(before_first, last.max(before_first))
            }
            StartOffset::After { .. } => {
                warn!(stream = self.stream, "the stream began anew; it is read from its beginning");
                before_first
            }
        }
    }

    async fn wait(&mut self, reason: &str) {
        if !self.waiting {
            info!(stream = self.stream, reason, "waiting for the stream");
            self.waiting = true;
        }
        // A change of the connection is seen by the next try.
        sleep(OPEN_PAUSE).await;
    }
}
