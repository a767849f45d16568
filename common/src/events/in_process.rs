//! The in-process bus: the guarantees of `JetStream` within one process, for the monolith without NATS.
//!
//! It keeps nothing across a restart. After one, websocket clients reload. A consumer that stores events
//! acknowledges them, and the relay removes no row from the queue before that.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::{broadcast, watch};

use super::stream::{Outgoing, Received, SIGNALS_BUFFERED_MAX, StartOffset, StreamMessage};

/// A subscription that is further behind misses messages, and receives `Opened` again.
const MESSAGES_RETAINED_MAX: usize = 10_000;

/// The bus of one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct InProcess(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    owner: String,
    incarnation: String,
    retained: Mutex<Retained>,
    last: watch::Sender<u64>,
    /// The acknowledged sequence of each durable subscription, by its name. An entry stays when a subscription ends:
    /// the consumer has failed, and the relay waits until the restarted consumer acknowledges.
    acknowledged: watch::Sender<HashMap<String, u64>>,
    signals: broadcast::Sender<Bytes>,
}

/// The last messages, and the sequence of the last one.
#[derive(Debug, Default)]
struct Retained {
    messages: VecDeque<Arc<StreamMessage>>,
    last: u64,
}

#[derive(Debug)]
pub struct InProcessSubscription {
    bus: InProcess,
    subject_prefix: Option<String>,
    /// Whether the stream has an owner outside this process: it never exists here.
    is_foreign: bool,
    after: u64,
    is_opened: bool,
    last: watch::Receiver<u64>,
    durable_name: Option<String>,
}

impl InProcess {
    pub fn new(owner: &str) -> Self {
        let started = chrono::Utc::now().timestamp_micros();
        Self(Arc::new(Inner {
            owner: owner.to_owned(),
            incarnation: format!("{started:x}"),
            retained: Mutex::default(),
            last: watch::Sender::new(0),
            acknowledged: watch::Sender::default(),
            signals: broadcast::Sender::new(SIGNALS_BUFFERED_MAX),
        }))
    }

    fn retained(&self) -> MutexGuard<'_, Retained> {
        // A panic cannot leave it half changed: each change is one push and one number.
        self.0.retained.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn publish(&self, batch: &[Outgoing]) -> Vec<u64> {
        let last = {
            let mut retained = self.retained();
            for message in batch {
                retained.last += 1;
                let message = StreamMessage {
                    sequence: retained.last,
                    subject: message.subject.clone(),
                    message_id: Some(message.message_id.clone()),
                    is_repeated: message.is_repeated,
                    payload: message.payload.clone(),
                };
                retained.messages.push_back(Arc::new(message));
                if retained.messages.len() > MESSAGES_RETAINED_MAX {
                    retained.messages.pop_front();
                }
            }
            retained.last
        };
        self.0.last.send_replace(last);
        // Cannot fail: `self` has the sender.
        let _ = self.0.acknowledged.subscribe().wait_for(|all| all.values().all(|sequence| *sequence >= last)).await;
        (last + 1 - batch.len() as u64..=last).collect()
    }

    pub(super) fn subscribe(
        &self,
        owner: &str,
        kind: Option<&str>,
        start: StartOffset,
        durable: bool,
    ) -> InProcessSubscription {
        let last = self.0.last.subscribe();
        let after = match start {
            StartOffset::Last(count) => self.retained().last.saturating_sub(count),
            StartOffset::After { incarnation, sequence } if incarnation == self.0.incarnation => sequence,
            StartOffset::Earliest | StartOffset::After { .. } => 0,
        };
        let is_foreign = owner != self.0.owner;
        // Two durable subscriptions of one process differ in their kind.
        let durable_name = (durable && !is_foreign).then(|| kind.unwrap_or_default().to_owned());
        if let Some(name) = &durable_name {
            self.0.acknowledged.send_modify(|all| {
                all.insert(name.clone(), after);
            });
        }
        InProcessSubscription {
            // A durable subscription receives all kinds, because it has to acknowledge all; the consumer filters.
            subject_prefix: kind.filter(|_| !durable).map(|kind| format!("flack.{owner}.{kind}.")),
            is_foreign,
            bus: self.clone(),
            after,
            is_opened: false,
            last,
            durable_name,
        }
    }

    pub(super) fn signal(&self, _subject: &str, payload: Bytes) {
        // Fails when there are no subscribers, which is no error.
        let _ = self.0.signals.send(payload);
    }

    pub(super) fn signals(&self, _subjects: &[&str]) -> broadcast::Receiver<Bytes> {
        self.0.signals.subscribe()
    }
}

impl InProcessSubscription {
    pub(super) async fn next(&mut self) -> Received {
        if self.is_foreign {
            if !self.is_opened {
                self.is_opened = true;
                return Received::StreamMissing;
            }
            std::future::pending::<()>().await;
        }
        loop {
            if let Some(received) = self.try_next() {
                return received;
            }
            if self.last.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn try_next(&mut self) -> Option<Received> {
        let bus = self.bus.clone();
        let retained = bus.retained();
        self.last.borrow_and_update();
        let before_first = retained.messages.front().map_or(retained.last, |message| message.sequence - 1);
        if !self.is_opened || self.after < before_first {
            self.is_opened = true;
            self.after = self.after.max(before_first);
            let incarnation = bus.0.incarnation.clone();
            return Some(Received::Opened { incarnation, after: self.after, last: retained.last });
        }
        loop {
            let index = usize::try_from(self.after - before_first).ok()?;
            let message = retained.messages.get(index)?;
            self.after = message.sequence;
            if self.subject_prefix.as_ref().is_none_or(|prefix| message.subject.starts_with(prefix)) {
                return Some(Received::Message(StreamMessage::clone(message)));
            }
        }
    }

    pub(super) fn acknowledge(&self, sequence: u64) {
        if let Some(name) = &self.durable_name {
            self.bus.0.acknowledged.send_modify(|all| {
                all.insert(name.clone(), sequence);
            });
        }
    }
}
