//! NATS `JetStream`: one stream per owner, published in order.

use std::{future::IntoFuture as _, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use async_nats::{
    Client,
    connection::State,
    jetstream::{self, Context, context::PublishAckFuture, message::PublishMessage},
};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::broadcast;
use tracing::{debug, warn};

use super::{
    connection::{self, Counter, Counters},
    stream::{Outgoing, REPEATED, SIGNALS_BUFFERED_MAX, StreamEnd, stream_name},
    streams::{incarnation_of, is_missing},
};
use crate::config::EventsConfig;

/// A message without an acknowledgement within this time counts as lost, and is published again.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to NATS with its streams. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JetStream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    context: Context,
    counters: Counters,
}

impl JetStream {
    /// Connects in the background. Fails only when the configuration is invalid.
    pub async fn connect(config: &EventsConfig) -> anyhow::Result<Self> {
        let (client, counters) = connection::connect(config).await?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ACK_TIMEOUT);
        Ok(Self(Arc::new(Inner { client, context, counters })))
    }

    pub(super) fn context(&self) -> &Context {
        &self.0.context
    }

    pub(super) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(super) fn changes(&self) -> Counter {
        self.0.counters.changes.clone()
    }

    pub(super) fn dropped(&self) -> Counter {
        let mut dropped = self.0.counters.dropped.clone();
        dropped.mark_unchanged();
        dropped
    }

    pub(super) fn is_connected(&self) -> bool {
        self.0.client.connection_state() == State::Connected
    }

    /// Fails when NATS is unavailable, or does not have the owner's stream.
    pub(super) async fn require_stream(&self, owner: &str) -> anyhow::Result<StreamEnd> {
        if !self.is_connected() {
            return Err(anyhow!("NATS is unavailable"));
        }
        let name = stream_name(owner);
        let found = self.0.context.get_stream(&name).await;
        let stream = found.map_err(|error| match error.kind() {
            kind if is_missing(&kind) => anyhow!("stream {name} is missing; mfup makes it"),
            _ => anyhow::Error::from(error).context(format!("NATS returns no information about stream {name}")),
        })?;
        let info = stream.cached_info();
        Ok(StreamEnd { incarnation: incarnation_of(info), last: info.state.last_sequence })
    }

    /// Publishes without waiting between messages. Each message names its predecessor as the stream's last message:
    /// when one is lost, NATS refuses those after it, and the events of an entity keep their order.
    pub(super) async fn publish(&self, batch: &[Outgoing], last: Option<&str>) -> Vec<u64> {
        if !self.is_connected() {
            // The client would buffer the messages and send them much later.
            return Vec::new();
        }
        let mut changes = self.changes();
        changes.borrow_and_update();
        let mut acks = Vec::with_capacity(batch.len());
        let mut previous = last;
        for message in batch {
            let mut publish = publish_message(message);
            if let Some(previous) = previous {
                publish = publish.expected_last_message_id(previous);
            }
            match self.0.context.send_publish(message.subject.clone(), publish).await {
                Ok(ack) => acks.push(ack),
                Err(error) => {
                    debug!(%error, "a message was not sent");
                    break;
                }
            }
            previous = Some(&message.message_id);
        }
        let mut sequences = Vec::with_capacity(acks.len());
        for ack in acks {
            match acknowledged(ack, &mut changes).await {
                Ok(sequence) => sequences.push(sequence),
                Err(error) => {
                    debug!(%error, "a message was refused or lost; the rest is published one by one");
                    break;
                }
            }
        }
        sequences
    }

    pub(super) async fn publish_one(&self, message: &Outgoing) -> anyhow::Result<u64> {
        if !self.is_connected() {
            return Err(anyhow!("NATS is unavailable"));
        }
        let mut changes = self.changes();
        changes.borrow_and_update();
        let ack = self
            .0
            .context
            .send_publish(message.subject.clone(), publish_message(message))
            .await
            .context("NATS does not accept messages")?;
        acknowledged(ack, &mut changes).await.with_context(|| format!("NATS did not store {}", message.message_id))
    }

    pub(super) async fn signal(&self, subject: &str, payload: Bytes) {
        if self.is_connected()
            && let Err(error) = self.0.client.publish(subject.to_owned(), payload).await
        {
            debug!(%error, subject, "a signal was lost");
        }
    }

    pub(super) fn signals(&self, subjects: &[&str]) -> broadcast::Receiver<Bytes> {
        let (sender, receiver) = broadcast::channel(SIGNALS_BUFFERED_MAX);
        for subject in subjects {
            let (client, sender, subject) = (self.0.client.clone(), sender.clone(), (*subject).to_owned());
            // Ends when the client or the last receiver is dropped.
            tokio::spawn(async move {
                let mut subscription = match client.subscribe(subject.clone()).await {
                    Ok(subscription) => subscription,
                    Err(error) => {
                        return warn!(%error, subject, "signals of this subject are not received");
                    }
                };
                while let Some(message) = subscription.next().await {
                    if sender.send(message.payload).is_err() {
                        break;
                    }
                }
            });
        }
        receiver
    }
}

/// Awaits an acknowledgement, and returns the sequence of the message. Waits at most as long as the connection lasts: a
/// lost connection never delivers it.
async fn acknowledged(ack: PublishAckFuture, changes: &mut Counter) -> anyhow::Result<u64> {
    tokio::select! {
        answer = ack.into_future() => answer.map(|stored| stored.sequence).map_err(Into::into),
        _ = changes.changed() => Err(anyhow!("the connection to NATS was lost")),
    }
}

fn publish_message(message: &Outgoing) -> PublishMessage {
    let publish = PublishMessage::build().payload(message.payload.clone()).message_id(&message.message_id);
    if message.is_repeated { publish.header(REPEATED, "true") } else { publish }
}
