//! The event bus: NATS `JetStream`, or an in-process bus for the monolith without NATS.

use anyhow::Context as _;
use bytes::Bytes;
use tokio::sync::broadcast;

use super::{
    connection::Counter,
    in_process::{InProcess, InProcessSubscription},
    jetstream::JetStream,
    jetstream_subscription::JetStreamSubscription,
    stream::{Outgoing, Received, StartOffset, StreamEnd},
};

/// The event bus of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Events {
    JetStream(JetStream),
    InProcess(InProcess),
}

impl Events {
    /// Returns the end of the owner's stream; none of a stream that ends with this process. Fails when it is missing.
    pub(super) async fn require_stream(&self, owner: &str) -> anyhow::Result<Option<StreamEnd>> {
        match self {
            Self::JetStream(jetstream) => jetstream.require_stream(owner).await.map(Some),
            Self::InProcess(_) => Ok(None),
        }
    }

    /// Returns a counter of the changes of the connection; none without one.
    pub(super) fn changes(&self) -> Option<Counter> {
        match self {
            Self::JetStream(jetstream) => Some(jetstream.changes()),
            Self::InProcess(_) => None,
        }
    }

    /// Publishes the messages in order, if `last` is the id of the stream's last message, or none. Returns the
    /// sequences of those that are stored: when one is refused or lost, all messages after it are refused.
    pub(super) async fn publish(&self, batch: &[Outgoing], last: Option<&str>) -> Vec<u64> {
        match self {
            Self::JetStream(jetstream) => jetstream.publish(batch, last).await,
            Self::InProcess(in_process) => in_process.publish(batch).await,
        }
    }

    /// Publishes a message, whatever the last message of the stream is. Returns its sequence.
    pub(super) async fn publish_one(&self, message: &Outgoing) -> anyhow::Result<u64> {
        match self {
            Self::JetStream(jetstream) => jetstream.publish_one(message).await,
            Self::InProcess(in_process) => {
                let stored = in_process.publish(std::slice::from_ref(message)).await;
                stored.first().copied().context("nothing was published")
            }
        }
    }

    /// Subscribes to the stream of `owner`: to all events, or to one kind.
    pub fn subscribe(&self, owner: &str, kind: Option<&str>, start: StartOffset) -> Subscription {
        self.subscribe_with(owner, kind, start, false)
    }

    /// Subscribes for a consumer that stores events: an event counts as published after [`Subscription::acknowledge`].
    pub(super) fn subscribe_durable(&self, owner: &str, kind: Option<&str>, start: StartOffset) -> Subscription {
        self.subscribe_with(owner, kind, start, true)
    }

    fn subscribe_with(&self, owner: &str, kind: Option<&str>, start: StartOffset, durable: bool) -> Subscription {
        match self {
            Self::JetStream(jetstream) => {
                Subscription::JetStream(Box::new(JetStreamSubscription::new(jetstream.clone(), owner, kind, start)))
            }
            Self::InProcess(in_process) => Subscription::InProcess(in_process.subscribe(owner, kind, start, durable)),
        }
    }

    /// Sends a signal to the present subscribers, at most once. `subject` is `flack.<service>.<signal>`.
    pub async fn signal(&self, subject: &str, payload: Bytes) {
        match self {
            Self::JetStream(jetstream) => jetstream.signal(subject, payload).await,
            Self::InProcess(in_process) => in_process.signal(subject, payload),
        }
    }

    /// Subscribes to the signals of these subjects.
    pub fn signals(&self, subjects: &[&str]) -> broadcast::Receiver<Bytes> {
        match self {
            Self::JetStream(jetstream) => jetstream.signals(subjects),
            Self::InProcess(in_process) => in_process.signals(subjects),
        }
    }
}

/// A subscription to one stream: ordered, without gaps and without end. Waits for a stream that does not exist yet.
#[derive(Debug)]
pub enum Subscription {
    JetStream(Box<JetStreamSubscription>),
    InProcess(InProcessSubscription),
}

impl Subscription {
    /// Receives the next message. Cancel safe.
    pub async fn next(&mut self) -> Received {
        match self {
            Self::JetStream(subscription) => subscription.next().await,
            Self::InProcess(subscription) => subscription.next().await,
        }
    }

    /// Acknowledges that the consumer has stored all messages up to `sequence`.
    pub(super) fn acknowledge(&self, sequence: u64) {
        // NATS keeps messages whether they are acknowledged or not.
        if let Self::InProcess(subscription) = self {
            subscription.acknowledge(sequence);
        }
    }
}
