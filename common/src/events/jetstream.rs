//! NATS's `JetStream`: one stream per owner, published in order.

use std::{future::IntoFuture as _, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use async_nats::{
    Client,
    connection::State,
    jetstream::{
        self, Context,
        context::{GetStreamErrorKind, PublishAckFuture},
        message::PublishMessage,
        stream::{Config, DiscardPolicy, Info, StorageType},
    },
};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::broadcast;
use tracing::{debug, warn};

use super::{
    JOURNAL_RETENTION_DAYS, Outgoing,
    bus::SIGNALS_KEPT_MAX,
    connection::{self, Changes},
    stream_name,
};
use crate::config::EventsConfig;

/// Room that one stream may take on NATS's disk; the oldest messages go first. The journal still has them.
const STREAM_BYTES_MAX: i64 = 512 * 1024 * 1024;
/// Within this a message published twice is stored once. A relay that dies is replaced much faster.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(2);
/// A message whose ack takes longer counts as lost, and is published again.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct JetStream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    context: Context,
    changes: Changes,
}

impl JetStream {
    /// Does not wait for the server; fails only when the configuration cannot be right.
    pub async fn connect(config: &EventsConfig) -> anyhow::Result<Self> {
        let (client, changes) = connection::connect(config).await?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ACK_TIMEOUT);
        Ok(Self(Arc::new(Inner { client, context, changes })))
    }

    pub(super) fn context(&self) -> &Context {
        &self.0.context
    }

    pub(super) fn changes(&self) -> Changes {
        self.0.changes.clone()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.0.client.connection_state() == State::Connected
    }

    /// Creates the owner's stream, or brings it to this version's settings.
    pub(super) async fn prepare(&self, owner: &str) -> anyhow::Result<()> {
        if !self.is_connected() {
            return Err(anyhow!("NATS is away"));
        }
        let name = stream_name(owner);
        let config = Config {
            name: name.clone(),
            description: Some(self.incarnation_to_keep(&name).await?),
            // Four parts, so that signals (`flack.<owner>.typing`) are not stored.
            subjects: vec![format!("flack.{owner}.*.>")],
            storage: StorageType::File,
            discard: DiscardPolicy::Old,
            max_age: Duration::from_hours(24) * JOURNAL_RETENTION_DAYS.unsigned_abs(),
            max_bytes: STREAM_BYTES_MAX,
            duplicate_window: DUPLICATE_WINDOW,
            num_replicas: 1,
            ..Config::default()
        };
        self.0
            .context
            .create_or_update_stream(config)
            .await
            .map(|_| ())
            .with_context(|| format!("stream {name} cannot be created or updated"))
    }

    /// What the stream is called since it was made; for one that is still to be made, a name that no stream had before.
    async fn incarnation_to_keep(&self, name: &str) -> anyhow::Result<String> {
        match self.0.context.get_stream(name).await {
            Ok(stream) => Ok(incarnation_of(stream.cached_info())),
            Err(error) if is_missing(&error.kind()) => {
                Ok(format!("{:x}", chrono::Utc::now().timestamp_micros()))
            }
            Err(error) => Err(error).with_context(|| format!("NATS says nothing of stream {name}")),
        }
    }

    /// All at once, each naming the one before it as the last in the stream: when one is lost, those behind it are
    /// refused, and the order of an entity's events holds.
    pub(super) async fn publish(&self, batch: &[Outgoing], last: Option<&str>) -> usize {
        if !self.is_connected() {
            // Else the client would keep the messages and send them whenever it can, long after we gave up.
            return 0;
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
        let mut stored = 0;
        for ack in acks {
            if let Err(error) = acknowledged(ack, &mut changes).await {
                debug!(%error, "a message was refused or lost; the rest goes one by one");
                break;
            }
            stored += 1;
        }
        stored
    }

    pub(super) async fn publish_one(&self, message: &Outgoing) -> anyhow::Result<()> {
        if !self.is_connected() {
            return Err(anyhow!("NATS is away"));
        }
        let mut changes = self.changes();
        changes.borrow_and_update();
        let ack = self
            .0
            .context
            .send_publish(message.subject.clone(), publish_message(message))
            .await
            .context("NATS does not take messages")?;
        acknowledged(ack, &mut changes)
            .await
            .with_context(|| format!("NATS did not store {}", message.message_id))
    }

    pub(super) async fn signal(&self, subject: &str, payload: Bytes) {
        if self.is_connected()
            && let Err(error) = self.0.client.publish(subject.to_owned(), payload).await
        {
            debug!(%error, subject, "a signal was lost");
        }
    }

    pub(super) fn signals(&self, subjects: &[&str]) -> broadcast::Receiver<Bytes> {
        let (sender, receiver) = broadcast::channel(SIGNALS_KEPT_MAX);
        for subject in subjects {
            let (client, sender, subject) = (self.0.client.clone(), sender.clone(), (*subject).to_owned());
            // Ends with the client, or with the last listener.
            tokio::spawn(async move {
                let mut subscription = match client.subscribe(subject.clone()).await {
                    Ok(subscription) => subscription,
                    Err(error) => return warn!(%error, subject, "no signals will be heard"),
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

/// Tells a stream that lost its data and began anew from the one that readers know.
///
/// In its description, because nats-server 2.9 forgets when a stream was made: each restart writes its own time to the disk,
/// and the restart after that believes it.
pub(super) fn incarnation_of(info: &Info) -> String {
    match &info.config.description {
        Some(incarnation) if !incarnation.is_empty() => incarnation.clone(),
        _ => format!("{:x}", info.created.unix_timestamp_nanos() / 1000),
    }
}

pub(super) fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND)
}

/// An ack that was on its way when the connection went never comes: no need to wait for its deadline.
async fn acknowledged(ack: PublishAckFuture, changes: &mut Changes) -> anyhow::Result<()> {
    tokio::select! {
        answer = ack.into_future() => answer.map(|_| ()).map_err(Into::into),
        _ = changes.changed() => Err(anyhow!("the connection to NATS was lost")),
    }
}

fn publish_message(message: &Outgoing) -> PublishMessage {
    PublishMessage::build().payload(message.payload.clone()).message_id(&message.message_id)
}
