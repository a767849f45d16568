//! The event bus: NATS `JetStream`, or an in-process bus for the monolith without NATS.

use bytes::Bytes;
use tokio::sync::broadcast;

use super::{
    in_process::{InProcess, InProcessSubscription},
    jetstream::JetStream,
    jetstream_subscription::JetStreamSubscription,
    stream::{Outgoing, Received, StartOffset},
};

/// The event bus of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Events {
    JetStream(JetStream),
    InProcess(InProcess),
}

impl Events {
    /// Fails when the owner's stream is missing.
    pub(super) async fn require_stream(&self, owner: &str) -> anyhow::Result<()> {
        match self {
            Self::JetStream(jetstream) => jetstream.require_stream(owner).await,
            Self::InProcess(_) => Ok(()),
        }
    }

    /// Publishes the messages in order, if `last` is the id of the stream's last message, or none. Returns how many are
    /// stored: when one is refused or lost, all messages after it are refused.
    pub(super) async fn publish(&self, batch: &[Outgoing], last: Option<&str>) -> usize {
        match self {
            Self::JetStream(jetstream) => jetstream.publish(batch, last).await,
            Self::InProcess(in_process) => in_process.publish(batch).await,
        }
    }

    /// Publishes a message, whatever the last message of the stream is.
    pub(super) async fn publish_one(&self, message: &Outgoing) -> anyhow::Result<()> {
        match self {
            Self::JetStream(jetstream) => jetstream.publish_one(message).await,
            Self::InProcess(in_process) => {
                in_process.publish(std::slice::from_ref(message)).await;
                Ok(())
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
