//! The consumer: stores the events of a stream in the inbox, then processes them with a handler. The events of one
//! entity are processed in order.
//!
//! One instance of a service leads (`database::leader`). Lock, offset, inbox and the handler's writes share one
//! connection: so the order holds, and a new leader continues exactly where the last one stopped.

use std::{collections::HashSet, convert::Infallible, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures::FutureExt as _;
use metrics::counter;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres, Transaction};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{
    bus::{Events, Subscription},
    inbox::{self, StoredEvent},
    stream::{Received, StartOffset, StreamMessage, stream_name},
};
use crate::{database::leader, restart::restart_on_failure};

/// The number of messages that one transaction stores, and of events that one transaction processes.
const BATCH_MAX: usize = 256;
/// How long the first message of a batch waits for more. Under load batches fill while the previous one is processed.
const BATCH_WAIT: Duration = Duration::from_millis(2);
/// How often the inbox is read when no message arrives: an operator may have queued a dead letter again.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(5);
/// The retries of a failed event: ten attempts in about two minutes. Further attempts rarely succeed without an
/// operator.
const RETRIES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(200))
    .with_max_delay(Duration::from_mins(1))
    .with_max_times(9)
    .with_jitter();

/// Processes the events of a stream.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The kinds of events that it processes; empty for all. Others are not stored.
    fn kinds(&self) -> &'static [&'static str] {
        &[]
    }

    /// Writes in `transaction`. After an error its writes are rolled back, and the event is processed again later.
    async fn handle(&self, transaction: &mut Transaction<'_, Postgres>, event: &StoredEvent) -> anyhow::Result<()>;
}

/// Consumes one stream for one service.
pub struct Consumer {
    owner: &'static str,
    stream: String,
    pool: PgPool,
    events: Events,
    handler: Arc<dyn Handler>,
    retries: ExponentialBuilder,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl Consumer {
    /// Returns a consumer of the stream of `owner`; `pool` is the consumer's own database.
    pub fn new(owner: &'static str, pool: PgPool, events: Events, handler: Arc<dyn Handler>) -> Self {
        Self { owner, stream: stream_name(owner), pool, events, handler, retries: RETRIES }
    }

    /// Sets the retries of a failed event; after the last one it becomes a dead letter.
    #[must_use]
    pub fn retries(mut self, retries: ExponentialBuilder) -> Self {
        self.retries = retries;
        self
    }

    /// Consumes, or waits as a standby, until `stopping`.
    pub async fn run(self, stopping: CancellationToken) {
        let consuming = restart_on_failure(RESTART_DELAY_MAX, || async {
            self.lead().await.inspect_err(|problem| {
                warn!(stream = self.stream, error = format!("{problem:#}"), "the consumer failed; restarting it");
            })
        });
        stopping.run_until_cancelled(consuming).await;
    }

    async fn lead(&self) -> anyhow::Result<Infallible> {
        let stream = self.stream.as_str();
        // `process` uses it at least once per second, as a leader has to.
        let mut connection =
            leader::acquire(&self.pool, "inbox", stream).await.context("the database does not answer")?;
        let start = match inbox::offset(&mut connection, stream).await? {
            Some((incarnation, sequence)) => {
                StartOffset::After { incarnation, sequence: u64::try_from(sequence).unwrap_or(0) }
            }
            None => StartOffset::Earliest,
        };
        let mut subscription = self.events.subscribe_durable(self.owner, self.kind(), start);
        let mut incarnation = String::new();
        info!(stream, "consuming");
        loop {
            let next_due = self.process(&mut connection).await?;
            let opened = match timeout(next_due, subscription.next()).await {
                Err(_) | Ok(Received::StreamMissing) => None,
                Ok(Received::Opened { incarnation, after, .. }) => Some((incarnation, after)),
                Ok(Received::Message(first)) => {
                    let (messages, opened) = batch(&mut subscription, first).await;
                    self.store(&mut connection, &incarnation, &messages, &subscription).await?;
                    opened
                }
            };
            if let Some((opened, after)) = opened {
                incarnation = opened;
                inbox::set_offset(&mut connection, stream, &incarnation, i64::try_from(after)?).await?;
                inbox::set_kind(&mut connection, stream, self.kind()).await?;
            }
        }
    }

    async fn store(
        &self,
        connection: &mut PgConnection,
        incarnation: &str,
        messages: &[StreamMessage],
        subscription: &Subscription,
    ) -> anyhow::Result<()> {
        let Some(last) = messages.last().map(|message| message.sequence) else { return Ok(()) };
        let wanted: Vec<StreamMessage> =
            messages.iter().filter(|message| self.wants(&message.subject)).cloned().collect();
        let mut transaction = connection.begin().await?;
        let new = inbox::store(&mut transaction, &self.stream, &wanted).await?;
        inbox::set_offset(&mut transaction, &self.stream, incarnation, i64::try_from(last)?).await?;
        transaction.commit().await?;
        subscription.acknowledge(last);
        counter!("inbox_stored_total", "stream" => self.stream.clone()).increment(new);
        Ok(())
    }

    /// Returns the kind of a consumer that has only one: NATS sends no others.
    fn kind(&self) -> Option<&'static str> {
        if let [kind] = self.handler.kinds() { Some(*kind) } else { None }
    }

    fn wants(&self, subject: &str) -> bool {
        let kinds = self.handler.kinds();
        kinds.is_empty() || subject.split('.').nth(2).is_some_and(|kind| kinds.contains(&kind))
    }

    /// Processes all events that are due. Returns the time until the next one is, at most the poll interval.
    async fn process(&self, connection: &mut PgConnection) -> anyhow::Result<Duration> {
        loop {
            let due = inbox::due(connection, &self.stream, BATCH_MAX as i64).await?;
            if due.is_empty() {
                let seconds = inbox::next_due_seconds(connection, &self.stream).await?;
                return Ok(seconds
                    .map_or(POLL_INTERVAL, |seconds| Duration::from_secs_f64(seconds.max(0.001)).min(POLL_INTERVAL)));
            }
            self.process_batch(connection, &due).await?;
        }
    }

    async fn process_batch(&self, connection: &mut PgConnection, due: &[StoredEvent]) -> anyhow::Result<()> {
        let mut transaction = connection.begin().await?;
        inbox::lock_kind(&mut transaction, self.kind()).await?;
        let mut finished = Vec::with_capacity(due.len());
        for event in due {
            let Ok(done) = self.process_one(&mut transaction, event).await else {
                transaction.rollback().await?;
                return self.process_each(connection, due).await;
            };
            finished.push((event, done));
        }
        self.finish(transaction, &finished).await
    }

    /// Processes a batch in which an event fails: each event has a savepoint, so that a failure rolls back the writes
    /// of this event only. Savepoints cost two more round trips for each event.
    async fn process_each(&self, connection: &mut PgConnection, due: &[StoredEvent]) -> anyhow::Result<()> {
        let mut transaction = connection.begin().await?;
        inbox::lock_kind(&mut transaction, self.kind()).await?;
        let mut finished = Vec::with_capacity(due.len());
        let mut failing: HashSet<(&str, &str)> = HashSet::new();
        for event in due {
            let entity = (event.kind.as_str(), event.entity_id.as_str());
            // Events of an entity are processed in order: the failed event comes first.
            if failing.contains(&entity) {
                continue;
            }
            let mut savepoint = transaction.begin().await?;
            match self.process_one(&mut savepoint, event).await {
                Ok(done) => {
                    savepoint.commit().await?;
                    finished.push((event, done));
                }
                Err(problem) => {
                    savepoint.rollback().await?;
                    failing.insert(entity);
                    self.record_failure(&mut transaction, event, &problem).await?;
                }
            }
        }
        self.finish(transaction, &finished).await
    }

    async fn finish(
        &self,
        mut transaction: Transaction<'_, Postgres>,
        finished: &[(&StoredEvent, bool)],
    ) -> anyhow::Result<()> {
        inbox::finish(&mut transaction, finished).await?;
        transaction.commit().await?;
        let done = finished.iter().filter(|(_, done)| *done).count();
        counter!("inbox_processed_total", "stream" => self.stream.clone()).increment(done as u64);
        debug!(done, ignored = finished.len() - done, "processed");
        Ok(())
    }

    /// Returns false when the event is not newer than the last processed event of its entity.
    async fn process_one(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        event: &StoredEvent,
    ) -> anyhow::Result<bool> {
        if !inbox::advance(transaction, event).await? {
            return Ok(false);
        }
        // A panic fails this event only, not the consumer.
        AssertUnwindSafe(self.handler.handle(transaction, event))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(anyhow!("the handler panicked; the log has the location")))?;
        Ok(true)
    }

    async fn record_failure(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        event: &StoredEvent,
        problem: &anyhow::Error,
    ) -> anyhow::Result<()> {
        let failures = usize::try_from(event.attempts).unwrap_or(0);
        let (attempts, delay) = (failures + 1, self.retries.build().nth(failures));
        let text = format!("{problem:#}");
        if let Some(delay) = delay {
            warn!(
                stream = event.stream,
                event = event.message_id,
                attempts,
                delay_ms = delay.as_millis(),
                error = text,
                "an event failed; it is retried"
            );
        } else {
            error!(
                stream = event.stream,
                event = event.message_id,
                attempts,
                error = text,
                "an event failed for the last time; it is a dead letter"
            );
            counter!("inbox_dead_total", "stream" => event.stream.clone()).increment(1);
        }
        inbox::fail(transaction, event, &text, delay.map(|delay| delay.as_secs_f64())).await?;
        Ok(())
    }
}

/// Returns the first message with those that follow within [`BATCH_WAIT`], and the new offset if the stream was opened
/// again.
async fn batch(subscription: &mut Subscription, first: StreamMessage) -> (Vec<StreamMessage>, Option<(String, u64)>) {
    let deadline = Instant::now() + BATCH_WAIT;
    let mut messages = vec![first];
    while messages.len() < BATCH_MAX {
        match timeout_at(deadline, subscription.next()).await {
            Ok(Received::Message(message)) => messages.push(message),
            Ok(Received::Opened { incarnation, after, .. }) => return (messages, Some((incarnation, after))),
            Ok(Received::StreamMissing) | Err(_) => break,
        }
    }
    (messages, None)
}
