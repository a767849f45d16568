//! Typing signals ("a user is typing"): core NATS messages to the connections of all instances. They are not stored and
//! may be lost.

use flack_api::frames::ServerFrame;
use flack_catalogue::Service;
use flack_common::{events::Events, process::Background};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tracing::{debug, error};

use crate::limits::TYPING_SIGNALS_MAX;

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
    /// The frame for clients.
    pub text: Utf8Bytes,
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

    pub async fn publish(&self, channel: &str, user_id: i64) {
        let frame = ServerFrame::Typing { channel: channel.to_owned(), user_id };
        match serde_json::to_vec(&frame) {
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
                // Clients receive only what is a typing frame.
                if let Ok(frame @ ServerFrame::Typing { user_id, .. }) = serde_json::from_slice(&payload)
                    && let Ok(text) = serde_json::to_string(&frame)
                {
                    // It fails while there is no connection.
                    let _ = received.send(Typing { user_id, text: text.into() });
                }
            }
            Err(RecvError::Lagged(missed)) => debug!(missed, "typing signals were dropped"),
            Err(RecvError::Closed) => return,
        }
    }
}
