//! Typing signals ("a user is typing"): core NATS messages to the connections of all instances. They are not stored and
//! may be lost.
//!
//! A signal in `general` is a frame of version 1, so that instances of older versions deliver it. A signal in another
//! channel or in a thread is a frame of version 2, which they ignore, or deliver without the thread. Version 1 has no
//! threads: its clients receive a signal in a thread of `general` as one in `general`.

use std::sync::Arc;

use flack_api::{GENERAL_CHANNEL_ID, frames, frames_v2};
use flack_catalogue::Service;
use flack_common::{events::Events, process::Background};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tracing::{debug, error};

use crate::{
    audience::{Audience, GENERAL},
    limits::TYPING_SIGNALS_MAX,
};

/// Sends and receives the typing signals of this process.
#[derive(Debug)]
pub struct TypingSignals {
    events: Events,
    /// The subject that this process publishes to.
    subject: String,
    /// The received signals, for the connections of this process.
    received: broadcast::Sender<Typing>,
}

/// A typing signal that was received.
#[derive(Debug, Clone)]
pub struct Typing {
    pub user_id: i64,
    /// A client receives the frame whose audience it belongs to, if there is one.
    pub frames: Arc<[(Audience, Utf8Bytes)]>,
}

impl TypingSignals {
    /// Starts to receive. `service` is the name of this process in the catalogue.
    pub fn start(service: &str, events: &Events, background: &Background) -> Self {
        let received = broadcast::Sender::new(TYPING_SIGNALS_MAX);
        let receiving = receive(events.clone(), received.clone());
        let stopping = background.stopping();
        background.spawn("typing signals", async move {
            stopping.run_until_cancelled(receiving).await;
        });
        Self { events: events.clone(), subject: format!("flack.{service}.typing"), received }
    }

    pub fn subscribe(&self) -> broadcast::Receiver<Typing> {
        self.received.subscribe()
    }

    pub async fn publish(&self, channel_id: i64, thread_id: Option<i64>, user_id: i64) {
        let payload = if channel_id == GENERAL_CHANNEL_ID && thread_id.is_none() {
            serde_json::to_vec(&frames::ServerFrame::Typing { channel: GENERAL.to_owned(), user_id })
        } else {
            serde_json::to_vec(&frames_v2::ServerFrame::Typing { channel_id, thread_id, user_id })
        };
        match payload {
            Ok(payload) => self.events.signal(&self.subject, payload.into()).await,
            Err(error) => error!(%error, "a typing frame could not be serialised"),
        }
    }
}

async fn receive(events: Events, received: broadcast::Sender<Typing>) {
    let mut signals = events.signals(Service::named("websocket").reads_signals);
    loop {
        match signals.recv().await {
            Ok(payload) => {
                if let Some(typing) = typing_of(&payload) {
                    // It fails while there is no connection.
                    let _ = received.send(typing);
                }
            }
            Err(RecvError::Lagged(missed)) => debug!(missed, "typing signals were dropped"),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Returns the signal; `None` for anything else than a typing frame, which clients do not receive.
fn typing_of(payload: &[u8]) -> Option<Typing> {
    let (channel_id, thread_id, user_id) =
        if let Ok(frames::ServerFrame::Typing { user_id, .. }) = serde_json::from_slice(payload) {
            (GENERAL_CHANNEL_ID, None, user_id)
        } else {
            let frame = serde_json::from_slice(payload).ok()?;
            let frames_v2::ServerFrame::Typing { channel_id, thread_id, user_id } = frame else { return None };
            (channel_id, thread_id, user_id)
        };
    let second = frames_v2::ServerFrame::Typing { channel_id, thread_id, user_id };
    let second = Utf8Bytes::from(serde_json::to_string(&second).ok()?);
    let frames = if channel_id == GENERAL_CHANNEL_ID {
        let first = frames::ServerFrame::Typing { channel: GENERAL.to_owned(), user_id };
        vec![(Audience::Version1, serde_json::to_string(&first).ok()?.into()), (Audience::Version2, second)]
    } else {
        vec![(Audience::Members(channel_id), second)]
    };
    Some(Typing { user_id, frames: frames.into() })
}
