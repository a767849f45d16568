//! The feed: reads the streams into the ring buffer and wakes the connections. Every event passes through it, so it
//! uses no database.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use flack_api::events::{Event, MonolithEvent};
use flack_common::{
    events::{self, Events, Received, StreamMessage},
    process::Background,
};
use tokio::{
    sync::watch,
    time::{Duration, timeout},
};
use tracing::warn;

use crate::{
    cursor::{Offset, SOURCES, STREAMS},
    limits::Retention,
    memberships::Memberships,
    ring::{
        Ring,
        frame::{Update, update_of},
    },
};

/// The ring buffer of a process, fed by its streams. Clones share it.
#[derive(Debug, Clone)]
pub struct Feed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ring: RwLock<Ring>,
    memberships: Memberships,
    /// The ring buffer's head. Connections wait for its changes.
    head: watch::Sender<u64>,
    /// For each stream, whether it was read up to the message that was its last one when the feed started.
    ready: watch::Sender<[bool; STREAMS]>,
}

impl Feed {
    fn new(retention: &Retention, memberships: Memberships) -> Self {
        Self(Arc::new(Inner {
            ring: RwLock::new(Ring::new(retention.clone())),
            memberships,
            head: watch::Sender::new(0),
            ready: watch::Sender::new([false; STREAMS]),
        }))
    }

    /// Starts one reading task per stream.
    pub fn start(events: &Events, retention: &Retention, memberships: Memberships, background: &Background) -> Self {
        let feed = Self::new(retention, memberships);
        for (stream, source) in SOURCES.iter().enumerate() {
            let (feed, events, stopping) = (feed.clone(), events.clone(), background.stopping());
            let tail = events::StartOffset::Last(retention.tail_messages_max);
            background.supervise(format!("feed from {source}"), move || {
                let (feed, events, stopping, tail) = (feed.clone(), events.clone(), stopping.clone(), tail.clone());
                async move {
                    stopping.run_until_cancelled(feed.read_stream(&events, stream, tail)).await;
                }
            });
        }
        feed
    }

    pub fn ring(&self) -> RwLockReadGuard<'_, Ring> {
        self.0.ring.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a receiver of the ring buffer's head. It is notified of each new entry, and when a stream is reset.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.head.subscribe()
    }

    /// Waits until every stream was read up to the end that it had at the start. Returns false after the timeout.
    pub async fn wait_until_ready(&self, ready_timeout: Duration) -> bool {
        let mut ready = self.0.ready.subscribe();
        timeout(ready_timeout, ready.wait_for(|ready| ready.iter().all(|stream| *stream)))
            .await
            .is_ok_and(|ready| ready.is_ok())
    }

    async fn read_stream(&self, events: &Events, stream: usize, tail: events::StartOffset) {
        // A task that was restarted continues where it stopped, so that no client has to reload.
        let start = match self.ring().offset(stream) {
            Offset { incarnation: Some(incarnation), sequence } => {
                events::StartOffset::After { incarnation: incarnation.to_string(), sequence: *sequence }
            }
            Offset { incarnation: None, .. } => tail,
        };
        let mut reader = events.subscribe(SOURCES[stream], None, start);
        let mut last_at_start = None;
        loop {
            match reader.next().await {
                Received::StreamMissing => last_at_start = Some(0),
                Received::Opened { incarnation, after, last } => {
                    if self.ring_mut().open_stream(stream, &incarnation, after, last) {
                        let source = SOURCES[stream];
                        warn!(source, after, "a stream was reset or has a gap; clients reload");
                        // Wakes the connections although the head is the same: their next read fails.
                        self.0.head.send_modify(|_| {});
                    }
                    last_at_start.get_or_insert(last);
                }
                Received::Message(message) => self.add(stream, &message),
            }
            if last_at_start.is_some_and(|last| self.ring().offset(stream).sequence >= last) {
                self.0.ready.send_if_modified(|ready| !std::mem::replace(&mut ready[stream], true));
            }
        }
    }

    fn add(&self, stream: usize, message: &StreamMessage) {
        // A replay is for consumers that rebuild a projection; clients have received it.
        let event = if message.is_replay() { None } else { self.decode(stream, message) };
        let mut ring = self.ring_mut();
        if message.is_repeated && ring.skip_repeated(stream, message.sequence) {
            return;
        }
        let update = event.and_then(|(id, update)| update.filter(|_| ring.insert_event_id(stream, &id)));
        ring.advance(stream, message.sequence, update.as_ref());
        let head = ring.head();
        drop(ring);
        // Thousands of connections wait: they are woken only for a new entry.
        self.0.head.send_if_modified(|last| std::mem::replace(last, head) != head);
    }

    /// Returns the event's id, and what clients receive for it; `None` if the event is not known here.
    fn decode(&self, stream: usize, message: &StreamMessage) -> Option<(String, Option<Update>)> {
        // The monolith's union holds the events of all services.
        let decoded = serde_json::from_slice::<Event<MonolithEvent>>(&message.payload).and_then(|event| {
            // Before the event is an entry: who has left receives nothing that follows, and who has joined everything.
            self.0.memberships.merge_event(&event);
            Ok((event.id.clone(), update_of(event)?))
        });
        // A newer release of the owner may publish events that this release does not know.
        decoded
            .inspect_err(|error| {
                let (source, sequence) = (SOURCES[stream], message.sequence);
                warn!(source, sequence, %error, "an unknown event was not delivered");
            })
            .ok()
    }

    fn ring_mut(&self) -> RwLockWriteGuard<'_, Ring> {
        self.0.ring.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use flack_testing::{Nats, WAIT_MAX};
    use serde_json::json;

    use super::*;
    use crate::audience::Recipient;

    #[tokio::test]
    async fn a_restarted_reading_task_continues_where_it_stopped() {
        let nats = Nats::start().await;
        let events = nats.events().await;
        let feed = Feed::new(&Retention::default(), Memberships::default());
        let mut position = feed.ring().position_at_head();
        for id in 1..=3 {
            let message = json!({ "id": id, "created_at": 1, "updated_at": 1, "user_id": 1, "channel_id": 1,
                "source": "x", "html": "<p>x</p>" });
            nats.publish("messages", "message_changed", message).await;
            let mut head = feed.subscribe();
            // The reading task is dropped after each message, as when it is restarted.
            tokio::select! {
                () = feed.read_stream(&events, 1, events::StartOffset::Last(10)) => {}
                read = timeout(WAIT_MAX, head.wait_for(|head| *head == id)) => drop(read.expect("it is read")),
            }
        }
        assert_eq!(feed.ring().read(&mut position, &Recipient::Version1).unwrap().len(), 3);
    }
}
