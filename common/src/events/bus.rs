//! Where events go and come from: NATS's `JetStream`, or this process alone.

use bytes::Bytes;
use tokio::sync::broadcast;

use super::{
    in_process::{InProcess, InProcessSubscription},
    jetstream::JetStream,
    jetstream_subscription::JetStreamSubscription,
    journal_row::is_replay,
};

/// Signals (such as somebody typing) that a listener may miss when it is slow; they are worth nothing later.
pub(super) const SIGNALS_KEPT_MAX: usize = 256;

/// The pipeline, as all that publish or read have it. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Events {
    JetStream(JetStream),
    InProcess(InProcess),
}

/// A message on its way into the stream.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub subject: String,
    pub message_id: String,
    pub payload: Bytes,
}

/// A message as it stands in a stream.
#[derive(Debug, Clone)]
pub struct StreamMessage {
    pub sequence: u64,
    pub subject: String,
    /// `Nats-Msg-Id`; absent if somebody else than a relay published it.
    pub message_id: Option<String>,
    pub payload: Bytes,
}

impl StreamMessage {
    /// Published once more for those who rebuild a copy; everybody else has had it.
    pub fn is_replay(&self) -> bool {
        self.message_id.as_deref().is_some_and(is_replay)
    }
}

/// Where to begin to read.
#[derive(Debug, Clone)]
pub enum StartOffset {
    /// With the oldest message that is kept.
    Earliest,
    /// With the last so many messages.
    Last(u64),
    /// Behind `sequence`, if the stream is still the same `incarnation`; else at the beginning of the new one.
    After { incarnation: String, sequence: u64 },
}

/// What a reader tells.
#[derive(Debug, Clone)]
pub enum Received {
    /// What follows is all that the stream `incarnation` holds behind `after`. Told at the beginning, and again when the
    /// stream began anew, or when messages between were lost because they were too old.
    /// `last` is the sequence of the last message that was there then; 0 when there was none.
    Opened {
        incarnation: String,
        after: u64,
        last: u64,
    },
    /// The stream is not there yet; told once. Reading goes on when it is made.
    StreamMissing,
    Message(StreamMessage),
}

/// Reads one stream in order, without gap, for ever; waits for a stream that is not there yet.
#[derive(Debug)]
pub enum Subscription {
    JetStream(Box<JetStreamSubscription>),
    InProcess(InProcessSubscription),
}

impl Subscription {
    /// The next message. May be dropped while it waits.
    pub async fn next(&mut self) -> Received {
        match self {
            Self::JetStream(reader) => reader.next().await,
            Self::InProcess(reader) => reader.next().await,
        }
    }

    /// Says that everything up to `sequence` is stored by the reader.
    pub(super) fn confirm(&self, sequence: u64) {
        // NATS keeps its messages anyway.
        if let Self::InProcess(reader) = self {
            reader.confirm(sequence);
        }
    }
}

impl Events {
    /// Makes the owner's stream ready for publishing.
    pub(super) async fn prepare(&self, owner: &str) -> anyhow::Result<()> {
        match self {
            Self::JetStream(jetstream) => jetstream.prepare(owner).await,
            Self::InProcess(_) => Ok(()),
        }
    }

    /// Publishes all in order, behind the message `last` and no other if that is known. Says how many are stored; the first
    /// that is refused or lost takes with it those behind.
    pub(super) async fn publish(&self, batch: &[Outgoing], last: Option<&str>) -> usize {
        match self {
            Self::JetStream(jetstream) => jetstream.publish(batch, last).await,
            Self::InProcess(local) => local.publish(batch).await,
        }
    }

    /// Publishes it, whatever was before.
    pub(super) async fn publish_one(&self, message: &Outgoing) -> anyhow::Result<()> {
        match self {
            Self::JetStream(jetstream) => jetstream.publish_one(message).await,
            Self::InProcess(local) => {
                local.publish(std::slice::from_ref(message)).await;
                Ok(())
            }
        }
    }

    /// Reads the stream of `owner`, all of it or one kind of event.
    pub fn subscribe(&self, owner: &str, kind: Option<&str>, start: StartOffset) -> Subscription {
        match self {
            Self::JetStream(jetstream) => Subscription::JetStream(Box::new(JetStreamSubscription::new(
                jetstream.clone(),
                owner,
                kind,
                start,
            ))),
            Self::InProcess(local) => Subscription::InProcess(local.subscribe(owner, kind, start, false)),
        }
    }

    /// As `read`, for one that stores what it reads: nothing counts as published before it is confirmed.
    pub(super) fn subscribe_durable(
        &self,
        owner: &str,
        kind: Option<&str>,
        start: StartOffset,
    ) -> Subscription {
        match self {
            Self::JetStream(_) => self.subscribe(owner, kind, start),
            Self::InProcess(local) => Subscription::InProcess(local.subscribe(owner, kind, start, true)),
        }
    }

    /// Tells everybody who listens right now; not stored, may be lost. `subject` such as `flack.websocket.typing`.
    pub async fn signal(&self, subject: &str, payload: Bytes) {
        match self {
            Self::JetStream(jetstream) => jetstream.signal(subject, payload).await,
            Self::InProcess(local) => local.signal(subject, payload),
        }
    }

    /// What is signalled on these subjects from now on.
    pub fn signals(&self, subjects: &[&str]) -> broadcast::Receiver<Bytes> {
        match self {
            Self::JetStream(jetstream) => jetstream.signals(subjects),
            Self::InProcess(local) => local.signals(subjects),
        }
    }
}
