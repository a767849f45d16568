//! Events within one process: the same promises, without NATS. For the monolith alone.
//!
//! Nothing is kept over a restart. Sockets need no more: their clients reload. One that stores what it reads confirms it,
//! and the relay takes nothing out of the queue before that.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::{broadcast, watch};

use super::bus::{Outgoing, Received, SIGNALS_KEPT_MAX, StartOffset, StreamMessage};

/// A reader that falls further behind is told that it has missed something.
const MESSAGES_KEPT_MAX: usize = 10_000;

#[derive(Debug, Clone)]
pub struct InProcess(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    owner: String,
    incarnation: String,
    kept: Mutex<Kept>,
    last: watch::Sender<u64>,
    /// What each durable reader has stored, by its number.
    confirmed: watch::Sender<HashMap<u64, u64>>,
    signals: broadcast::Sender<Bytes>,
}

/// The last messages, and the number of the last one.
#[derive(Debug, Default)]
struct Kept {
    messages: VecDeque<Arc<StreamMessage>>,
    last: u64,
}

#[derive(Debug)]
pub struct InProcessSubscription {
    local: InProcess,
    prefix: Option<String>,
    /// Of another owner, which is not in this process: its stream never comes.
    foreign: bool,
    after: u64,
    opened: bool,
    last: watch::Receiver<u64>,
    durable: Option<u64>,
}

impl InProcess {
    pub fn new(owner: &str) -> Self {
        let started = chrono::Utc::now().timestamp_micros();
        Self(Arc::new(Inner {
            owner: owner.to_owned(),
            incarnation: format!("{started:x}"),
            kept: Mutex::default(),
            last: watch::Sender::new(0),
            confirmed: watch::Sender::default(),
            signals: broadcast::Sender::new(SIGNALS_KEPT_MAX),
        }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A panic while it was held cannot have left it half changed: one push, one number.
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn publish(&self, batch: &[Outgoing]) -> usize {
        let last = {
            let mut kept = self.kept();
            for message in batch {
                kept.last += 1;
                let message = StreamMessage {
                    sequence: kept.last,
                    subject: message.subject.clone(),
                    message_id: Some(message.message_id.clone()),
                    payload: message.payload.clone(),
                };
                kept.messages.push_back(Arc::new(message));
                if kept.messages.len() > MESSAGES_KEPT_MAX {
                    kept.messages.pop_front();
                }
            }
            kept.last
        };
        self.0.last.send_replace(last);
        // The sender is ours: waiting ends only with what it waits for.
        let _ = self
            .0
            .confirmed
            .subscribe()
            .wait_for(|all| all.values().all(|confirmed| *confirmed >= last))
            .await;
        batch.len()
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
            StartOffset::Last(count) => self.kept().last.saturating_sub(count),
            StartOffset::After { incarnation, sequence } if incarnation == self.0.incarnation => sequence,
            StartOffset::Earliest | StartOffset::After { .. } => 0,
        };
        let foreign = owner != self.0.owner;
        let mut number = None;
        if durable && !foreign {
            self.0.confirmed.send_modify(|all| {
                let next = all.keys().max().map_or(0, |highest| highest + 1);
                all.insert(next, after);
                number = Some(next);
            });
        }
        InProcessSubscription {
            // One that stores must get all, to confirm all; it leaves out by itself what it does not want.
            prefix: kind.filter(|_| !durable).map(|kind| format!("flack.{owner}.{kind}.")),
            foreign,
            local: self.clone(),
            after,
            opened: false,
            last,
            durable: number,
        }
    }

    pub(super) fn signal(&self, _subject: &str, payload: Bytes) {
        // Nobody listens: nobody misses it.
        let _ = self.0.signals.send(payload);
    }

    pub(super) fn signals(&self, _subjects: &[&str]) -> broadcast::Receiver<Bytes> {
        self.0.signals.subscribe()
    }
}

impl InProcessSubscription {
    pub(super) async fn next(&mut self) -> Received {
        if self.foreign {
            if !self.opened {
                self.opened = true;
                return Received::StreamMissing;
            }
            std::future::pending::<()>().await;
        }
        loop {
            if let Some(reading) = self.kept_next() {
                return reading;
            }
            if self.last.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn kept_next(&mut self) -> Option<Received> {
        let local = self.local.clone();
        let kept = local.kept();
        self.last.borrow_and_update();
        let before_first = kept.messages.front().map_or(kept.last, |message| message.sequence - 1);
        if !self.opened || self.after < before_first {
            self.opened = true;
            self.after = self.after.max(before_first);
            let incarnation = local.0.incarnation.clone();
            return Some(Received::Opened { incarnation, after: self.after, last: kept.last });
        }
        loop {
            let index = usize::try_from(self.after - before_first).ok()?;
            let message = kept.messages.get(index)?;
            self.after = message.sequence;
            if self.prefix.as_ref().is_none_or(|prefix| message.subject.starts_with(prefix)) {
                return Some(Received::Message(StreamMessage::clone(message)));
            }
        }
    }

    pub(super) fn confirm(&self, sequence: u64) {
        if let Some(number) = self.durable {
            self.local.0.confirmed.send_modify(|all| {
                all.insert(number, sequence);
            });
        }
    }
}

impl Drop for InProcessSubscription {
    fn drop(&mut self) {
        if let Some(number) = self.durable {
            self.local.0.confirmed.send_modify(|all| {
                all.remove(&number);
            });
        }
    }
}
