//! The hub: fills the ring from the streams, and wakes the sockets. The fast path: no database between stream and socket.

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use axum::extract::ws::Utf8Bytes;
use flack_api::{
    events::{Event, MonolithEvent},
    frames::ServerFrame,
};
use flack_common::{
    events::{Events, Reading, Start, StreamMessage},
    process::Background,
};
use tokio::{
    sync::{broadcast, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::{
    cursor::{Cursor, OWNERS, STREAMS},
    entry::{self, Told},
    inbox::{Inbox, Recollection},
    limits::Memory,
    ring::{Lost, Reach, Refused, Ring, Stand},
};

/// Typing frames that a socket may be behind; it misses older ones, and nobody minds.
const TYPING_KEPT_MAX: usize = 32;
/// Between looks whether this instance has read what a client was told elsewhere. Milliseconds, if NATS is well.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(5);
/// Who publishes that somebody is typing: this service, and the monolith for its own sockets.
const TYPING_SUBJECTS: [&str; 2] = ["flack.websocket.typing", "flack.monolith.typing"];

/// The names of the reading tasks, in `/health`; in the order of `OWNERS`.
const TASKS: [&str; STREAMS] = ["sockets from users", "sockets from messages", "sockets from monolith"];

/// What all sockets of a process share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ring: RwLock<Ring>,
    memory: Memory,
    inbox: Option<Inbox>,
    head: watch::Sender<u64>,
    /// Of each stream: read to where it ended when we began, or known not to be there.
    ready: watch::Sender<[bool; STREAMS]>,
    typing: broadcast::Sender<Typing>,
    typing_subject: String,
    events: Events,
    background: Background,
}

/// Where a client begins.
#[derive(Debug)]
pub(crate) enum Joined {
    /// With what comes now.
    Anew(Stand),
    /// Exactly behind its cursor.
    Resumed(Stand),
    /// Exactly behind its cursor, and the first of it comes from the inbox.
    Recalling(Stand, Box<Recollection>),
}

/// Somebody types.
#[derive(Debug, Clone)]
pub struct Typing {
    pub user_id: i64,
    pub text: Utf8Bytes,
}

impl Hub {
    /// Begins to read. `service` is whose signals ours are: `websocket`, or `monolith`. Without an inbox, resuming
    /// reaches as far as memory.
    pub fn start(
        service: &str,
        events: &Events,
        memory: Memory,
        inbox: Option<Inbox>,
        background: &Background,
    ) -> Self {
        let hub = Self(Arc::new(Inner {
            ring: RwLock::new(Ring::new(memory.clone())),
            memory,
            inbox,
            head: watch::Sender::new(0),
            ready: watch::Sender::new([false; STREAMS]),
            typing: broadcast::Sender::new(TYPING_KEPT_MAX),
            typing_subject: format!("flack.{service}.typing"),
            events: events.clone(),
            background: background.clone(),
        }));
        for (stream, owner) in OWNERS.into_iter().enumerate() {
            let (hub, stopping) = (hub.clone(), background.stopping());
            background.supervise(TASKS[stream], move || {
                let (hub, stopping) = (hub.clone(), stopping.clone());
                async move {
                    stopping.run_until_cancelled(hub.read_stream(stream, owner)).await;
                }
            });
        }
        let typing = hub.clone();
        hub.spawn("typing", async move { typing.hear_typing().await });
        hub
    }

    /// A task that ends with the process.
    pub(crate) fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping();
        self.0.background.spawn(name, async move {
            stopping.run_until_cancelled(task).await;
        });
    }

    pub(crate) fn stopping(&self) -> CancellationToken {
        self.0.background.stopping()
    }

    /// The process does not end while this is held.
    pub(crate) fn hold(&self) -> impl Send + use<> {
        self.0.background.shutdown_guard()
    }

    /// Whether the streams have been read; waits for it.
    pub(crate) async fn is_ready(&self, patience: Duration) -> bool {
        let mut ready = self.0.ready.subscribe();
        timeout(patience, ready.wait_for(|ready| ready.iter().all(|stream| *stream)))
            .await
            .is_ok_and(|ready| ready.is_ok())
    }

    /// Where to begin for one who comes with this cursor.
    pub(crate) async fn join(&self, cursor: Option<Cursor>) -> Joined {
        let Some(cursor) = cursor else { return Joined::Anew(self.ring().join()) };
        let refused = self.resume(cursor.clone()).await;
        match refused {
            Ok(stand) => return Joined::Resumed(stand),
            Err(Refused::Foreign) => {}
            Err(Refused::TooOld) => {
                let stand = self.ring().await_resume(cursor);
                if let Some(recollection) = self.recall(&stand.cursor).await {
                    return Joined::Recalling(stand, Box::new(recollection));
                }
            }
        }
        Joined::Anew(self.ring().join())
    }

    /// From memory. Waits a moment, if the client comes from an instance that is ahead of us.
    pub(crate) async fn resume(&self, cursor: Cursor) -> Result<Stand, Refused> {
        let catching_up = async {
            while !self.ring().has_reached(&cursor) {
                sleep(CATCH_UP_PAUSE).await;
            }
        };
        // Still behind: what the client has had is left out when it comes.
        let _ = timeout(self.0.memory.resume_wait, catching_up).await;
        self.ring().resume(cursor)
    }

    /// From the inbox. `None` when it does not hold all of it, or does not answer.
    pub(crate) async fn recall(&self, cursor: &Cursor) -> Option<Recollection> {
        let memory = &self.0.memory;
        let recalled = self
            .0
            .inbox
            .as_ref()?
            .recall(cursor, || self.reach(), memory.resume_frames_max, memory.resume_wait)
            .await;
        recalled.unwrap_or_else(|error| {
            warn!(%error, "the inbox does not answer; a client reloads");
            None
        })
    }

    fn reach(&self) -> Reach {
        self.ring().reach()
    }

    pub(crate) fn read(&self, stand: &mut Stand) -> Result<Vec<Utf8Bytes>, Lost> {
        self.ring().read(stand)
    }

    /// Moves with every entry.
    pub(crate) fn head(&self) -> watch::Receiver<u64> {
        self.0.head.subscribe()
    }

    pub(crate) fn typing(&self) -> broadcast::Receiver<Typing> {
        self.0.typing.subscribe()
    }

    /// Tells the sockets of all instances.
    pub(crate) async fn tell_typing(&self, channel: &str, user_id: i64) {
        let frame = ServerFrame::Typing { channel: channel.to_owned(), user_id };
        match serde_json::to_vec(&frame) {
            Ok(payload) => self.0.events.signal(&self.0.typing_subject, payload.into()).await,
            Err(problem) => error!(%problem, "a typing frame cannot be written"),
        }
    }

    async fn read_stream(&self, stream: usize, owner: &'static str) {
        // After a panic of this task the ring is where it was; what came meanwhile leaves a gap, which `opened` sees.
        let mut reader = self.0.events.read(owner, None, Start::Tail(self.0.memory.tail_messages_max));
        let mut last_at_start = None;
        loop {
            match reader.next().await {
                Reading::Absent => last_at_start = Some(0),
                Reading::Opened { incarnation, after, last } => {
                    if self.ring_mut().opened(stream, &incarnation, after) {
                        warn!(owner, after, "the stream began anew or has a gap; clients reload");
                        self.wake();
                    }
                    last_at_start.get_or_insert(last);
                }
                Reading::Message(message) => self.tell(stream, owner, &message),
            }
            if last_at_start.is_some_and(|last| self.ring().sequence(stream) >= last) {
                self.0.ready.send_if_modified(|ready| !std::mem::replace(&mut ready[stream], true));
            }
        }
    }

    fn tell(&self, stream: usize, owner: &'static str, message: &StreamMessage) {
        // A replay is for those who rebuild a copy; sockets have had it.
        let (event_id, told) = if message.is_replay() { (None, None) } else { decode(owner, message) };
        let mut ring = self.ring_mut();
        let is_new = event_id.is_none_or(|id| ring.is_new(stream, &id));
        ring.advance(stream, message.sequence, told.filter(|_| is_new).as_ref());
        let head = ring.head();
        drop(ring);
        // Thousands sleep: they are woken only if there is something to tell.
        self.0.head.send_if_modified(|known| std::mem::replace(known, head) != head);
    }

    /// All of them see that the ring's generation is not theirs.
    fn wake(&self) {
        self.0.head.send_modify(|_| {});
    }

    async fn hear_typing(&self) {
        let mut signals = self.0.events.signals(&TYPING_SUBJECTS);
        loop {
            match signals.recv().await {
                Ok(payload) => {
                    // Only what is a typing frame may reach a browser.
                    if let Ok(frame @ ServerFrame::Typing { user_id, .. }) = serde_json::from_slice(&payload)
                        && let Ok(text) = serde_json::to_string(&frame)
                    {
                        // Nobody is connected: nobody is told.
                        let _ = self.0.typing.send(Typing { user_id, text: text.into() });
                    }
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => debug!(missed, "typing signals"),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn ring(&self) -> RwLockReadGuard<'_, Ring> {
        self.0.ring.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring_mut(&self) -> RwLockWriteGuard<'_, Ring> {
        self.0.ring.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The event's id, and what clients are told of it.
fn decode(owner: &'static str, message: &StreamMessage) -> (Option<String>, Option<Told>) {
    // The monolith's union holds all the others'.
    let decoded = serde_json::from_slice::<Event<MonolithEvent>>(&message.payload)
        .and_then(|event| Ok((event.id.clone(), entry::told_of(event)?)));
    match decoded {
        Ok((id, told)) => (Some(id), told),
        Err(problem) => {
            // A newer version of the owner may tell of what this one does not know yet.
            warn!(
                owner,
                sequence = message.sequence,
                %problem,
                "not an event that we know; clients are not told"
            );
            (None, None)
        }
    }
}
