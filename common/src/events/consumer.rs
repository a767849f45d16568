//! The consumer: stores what a stream brings, then hands it to the handler, each entity's events in order.
//!
//! Of the instances of a service one works (`database::leader`); its lock, the reading position, the inbox and the handler's
//! writes are on one connection. That keeps the order, and a takeover goes on exactly where the other one ended.

use std::{collections::HashSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use futures::FutureExt as _;
use metrics::counter;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres, Transaction};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{
    Events, Received, StartOffset, StreamMessage, Subscription,
    inbox::{self, StoredEvent},
    relay::jittered,
    stream_name,
};
use crate::database::leader;

/// Messages stored in one transaction, and events processed in one.
const BATCH_MAX: usize = 256;
/// How long a first message waits for company. Under load batches fill while the one before is processed.
const BATCH_WAIT: Duration = Duration::from_millis(2);
/// Also without messages it looks at the inbox: an operator may have requeued a dead letter.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// When a failed event is tried again, and when it is given up.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    pub attempts_max: u32,
    pub pause_first: Duration,
    pub pause_max: Duration,
}

impl Default for RetryPolicy {
    /// Ten attempts over about two minutes: what has not passed by then needs somebody to look.
    fn default() -> Self {
        Self { attempts_max: 10, pause_first: Duration::from_millis(200), pause_max: Duration::from_mins(1) }
    }
}

impl RetryPolicy {
    /// The pause behind attempt number `attempts`, or `None` when it was the last.
    fn pause(&self, attempts: u32) -> Option<Duration> {
        (attempts < self.attempts_max).then(|| {
            let pause = self.pause_first.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1)));
            jittered(pause.min(self.pause_max))
        })
    }
}

/// What a service does with an event.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Writes in `transaction`. An error undoes what it wrote, is recorded, and the event is tried again.
    async fn handle(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        event: &StoredEvent,
    ) -> anyhow::Result<()>;
}

/// Reads one stream for one service.
pub struct Consumer {
    owner: &'static str,
    kind: Option<&'static str>,
    pool: PgPool,
    events: Events,
    handler: Arc<dyn Handler>,
    retry: RetryPolicy,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("owner", &self.owner)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Consumer {
    /// `owner` is whose stream it reads; `pool` is the reader's own database.
    pub fn new(owner: &'static str, pool: PgPool, events: Events, handler: Arc<dyn Handler>) -> Self {
        Self { owner, kind: None, pool, events, handler, retry: RetryPolicy::default() }
    }

    /// Leaves out all other kinds of events, already in NATS.
    #[must_use]
    pub fn only(mut self, kind: &'static str) -> Self {
        self.kind = Some(kind);
        self
    }

    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Works, or stands by, until `stopping`.
    pub async fn run(self, stopping: CancellationToken) {
        let mut pause = PAUSE_FIRST;
        while !stopping.is_cancelled() {
            let started = Instant::now();
            let Some(result) = stopping.run_until_cancelled(self.lead()).await else { break };
            if let Err(problem) = result {
                warn!(
                    stream = stream_name(self.owner),
                    error = format!("{problem:#}"),
                    "the consumer begins anew"
                );
            }
            pause = if started.elapsed() > PAUSE_MAX * 2 { PAUSE_FIRST } else { (pause * 2).min(PAUSE_MAX) };
            stopping.run_until_cancelled(sleep(jittered(pause))).await;
        }
    }

    async fn lead(&self) -> anyhow::Result<()> {
        let stream = stream_name(self.owner);
        // Spoken with every second at least, by `process`.
        let mut connection =
            leader::acquire(&self.pool, "inbox", &stream).await.context("the database does not answer")?;
        let start = match inbox::position(&mut connection, &stream).await? {
            Some((incarnation, sequence)) => {
                StartOffset::After { incarnation, sequence: u64::try_from(sequence).unwrap_or(0) }
            }
            None => StartOffset::Earliest,
        };
        let mut reader = self.events.subscribe_durable(self.owner, self.kind, start);
        let mut incarnation = String::new();
        info!(stream, "consuming");
        loop {
            let next_due = self.process(&mut connection, &stream).await?;
            match timeout(next_due, reader.next()).await {
                // Nothing new: see whether something is due again.
                Err(_) | Ok(Received::StreamMissing) => {}
                Ok(Received::Opened { incarnation: opened, after, .. }) => {
                    incarnation = opened;
                    inbox::set_position(&mut connection, &stream, &incarnation, i64::try_from(after)?)
                        .await?;
                    inbox::note_kind(&mut connection, &stream, self.kind).await?;
                }
                Ok(Received::Message(first)) => {
                    let (messages, opened) = batch(&mut reader, first).await;
                    self.store(&mut connection, &stream, &incarnation, &messages, &reader).await?;
                    if let Some((opened, after)) = opened {
                        incarnation = opened;
                        inbox::set_position(&mut connection, &stream, &incarnation, i64::try_from(after)?)
                            .await?;
                    }
                }
            }
        }
    }

    async fn store(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        incarnation: &str,
        messages: &[StreamMessage],
        reader: &Subscription,
    ) -> anyhow::Result<()> {
        let Some(last) = messages.last().map(|message| message.sequence) else { return Ok(()) };
        let wanted: Vec<StreamMessage> =
            messages.iter().filter(|message| self.wants(&message.subject)).cloned().collect();
        let mut transaction = connection.begin().await?;
        let new = inbox::store(&mut transaction, stream, &wanted).await?;
        inbox::set_position(&mut transaction, stream, incarnation, i64::try_from(last)?).await?;
        transaction.commit().await?;
        // Only what is stored counts as told.
        reader.confirm(last);
        counter!("inbox_stored_total", "stream" => stream.to_owned()).increment(new);
        Ok(())
    }

    fn wants(&self, subject: &str) -> bool {
        self.kind.is_none_or(|kind| subject.split('.').nth(2) == Some(kind))
    }

    /// Processes all that is due. Says when to look again at the latest.
    async fn process(&self, connection: &mut PgConnection, stream: &str) -> anyhow::Result<Duration> {
        loop {
            let due = inbox::due(connection, stream, BATCH_MAX as i64).await?;
            if due.is_empty() {
                let seconds = inbox::next_due_seconds(connection, stream).await?;
                return Ok(seconds.map_or(POLL_INTERVAL, |seconds| {
                    Duration::from_secs_f64(seconds.max(0.001)).min(POLL_INTERVAL)
                }));
            }
            self.process_batch(connection, &due).await?;
        }
    }

    async fn process_batch(&self, connection: &mut PgConnection, due: &[StoredEvent]) -> anyhow::Result<()> {
        let mut transaction = connection.begin().await?;
        let mut finished: Vec<(&StoredEvent, bool)> = Vec::with_capacity(due.len());
        let mut failing: HashSet<(&str, &str)> = HashSet::new();
        for event in due {
            let entity = (event.kind.as_str(), event.entity_id.as_str());
            // Its turn comes after the one that failed.
            if failing.contains(&entity) {
                continue;
            }
            // A savepoint each: one event's failure undoes its own writes alone.
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
        inbox::finish(&mut transaction, &finished).await?;
        transaction.commit().await?;
        let done = finished.iter().filter(|(_, done)| *done).count();
        counter!("inbox_processed_total", "stream" => stream_name(self.owner)).increment(done as u64);
        debug!(done, ignored = finished.len() - done, failed = failing.len(), "processed");
        Ok(())
    }

    /// False when the event is not newer than what was processed of its entity.
    async fn process_one(
        &self,
        savepoint: &mut Transaction<'_, Postgres>,
        event: &StoredEvent,
    ) -> anyhow::Result<bool> {
        if !inbox::advance(savepoint, event).await? {
            return Ok(false);
        }
        // What the handler writes is journaled under the correlation id of what caused it.
        sqlx::query("select set_config('flack.correlation_id', $1, true)")
            .bind(event.correlation_id().unwrap_or_default())
            .execute(&mut **savepoint)
            .await?;
        // A panic is a failure of this event, not the end of the consumer.
        AssertUnwindSafe(self.handler.handle(savepoint, event))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(anyhow!("the handler panicked; the log says where")))?;
        Ok(true)
    }

    async fn record_failure(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        event: &StoredEvent,
        problem: &anyhow::Error,
    ) -> anyhow::Result<()> {
        let attempts = u32::try_from(event.attempts).unwrap_or(0) + 1;
        let pause = self.retry.pause(attempts);
        let text = format!("{problem:#}");
        if let Some(pause) = pause {
            warn!(
                stream = event.stream,
                event = event.message_id,
                attempts,
                again_ms = pause.as_millis(),
                error = text,
                "an event failed"
            );
        } else {
            error!(
                stream = event.stream,
                event = event.message_id,
                attempts,
                error = text,
                "an event failed for the last time; it is a dead letter now"
            );
            counter!("inbox_dead_total", "stream" => event.stream.clone()).increment(1);
        }
        inbox::fail(transaction, event, &text, pause.map(|pause| pause.as_secs_f64())).await?;
        Ok(())
    }
}

/// The first message and those that come right behind it; and, if the stream was opened anew then, how.
async fn batch(
    reader: &mut Subscription,
    first: StreamMessage,
) -> (Vec<StreamMessage>, Option<(String, u64)>) {
    let deadline = Instant::now() + BATCH_WAIT;
    let mut messages = vec![first];
    while messages.len() < BATCH_MAX {
        match timeout_at(deadline, reader.next()).await {
            Ok(Received::Message(message)) => messages.push(message),
            Ok(Received::Opened { incarnation, after, .. }) => return (messages, Some((incarnation, after))),
            Ok(Received::StreamMissing) | Err(_) => break,
        }
    }
    (messages, None)
}
