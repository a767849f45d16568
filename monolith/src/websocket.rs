//! Websocket, in the monolith: the live connections. Owns nothing but them.
//!
//! What a client wants done is handed to the other modules through their seams, in the user's name; what there is to tell
//! comes from the same events that everybody else gets. So there is nothing left that one process could make different,
//! and all of it is linked from the service; except the inbox: here clients resume as far back as memory reaches, and after a
//! restart of the monolith alone, whose events are in memory as well, they reload.

use axum::Router;
use flack_common::{events::Events, process::Background};
use flack_websocket::{Hub, Limits, Memory};

pub use flack_websocket::Seams;

/// What the module is made of, and what runs beside it.
pub fn start(events: &Events, seams: Seams, background: &Background) -> Router {
    let hub = Hub::start(crate::SERVICE, events, Memory::default(), None, background);
    flack_websocket::router(hub, seams, Limits::default())
}
