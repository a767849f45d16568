//! Websocket: the live connections. `GET /ws`, JSON text frames, everything once and in order.
//!
//! Owns the connections and a copy of recent events. What users and messages are is theirs: what a client wants done is
//! handed to their APIs in the user's name, what they tell of is handed on to every socket.
//!
//! A library for two processes: this service, and the monolith, whose websocket module it is. The seams are the same:
//! ```ignore
//! let hub = Hub::start("monolith", &events, Memory::default(), None, &background); // JetStream, or the process's own events
//! let seams = Seams { users, messages, verify, revocations };  // Arc<dyn UsersApi>, Arc<dyn MessagesApi>, Arc<dyn VerifyToken>
//! let router = flack_websocket::router(hub, seams, Limits::default()); // GET /ws, nothing else
//! ```
//!
//! Reading order: an event becomes an entry (`entry`), which stands in the one ring that all sockets read (`ring`), which the
//! hub fills from the streams (`hub`); beside it the keeper (`keeper`) fills the inbox (`inbox`) for those who come back late. A client comes in by the door (`door`), says hello and is served (`socket`), which
//! does what it asks for (`actions`) and writes to it (`outlet`).

pub mod config;
pub mod limits;
pub mod cursor;
mod entry;
mod twins;
mod ring;
pub mod inbox;
pub mod keeper;
pub mod hub;
mod connections;
mod door;
mod actions;
mod outlet;
mod socket;

use std::sync::Arc;

use flack_api::{messages::MessagesClient, users::UsersClient};
use flack_common::{
    auth::Verifier,
    database,
    events::{Events, JetStream},
    http,
    process::{App, Background, Readiness},
    registry::Registry,
};
use sqlx::migrate::Migrator;

use crate::config::Config;

pub use door::{Seams, router};
pub use hub::Hub;
pub use inbox::Inbox;
pub use limits::{Limits, Memory};

/// The tables of this service; the inbox comes from `flack_common`.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/websocket");

/// The name of the service, of its database, its backend, its signals.
pub const SERVICE: &str = "websocket";

/// Connects everything that this process is made of.
pub async fn build(config: Config, background: Background, registry: Registry) -> anyhow::Result<App> {
    let pool = database::connect(&config.database).await?;
    database::migrate(&pool, &MIGRATIONS).await?;
    let events = Events::JetStream(JetStream::connect(&config.events).await?);
    let verifier = Verifier::from_registry(&registry, &background).await?;
    let door = &config.internal_listener.url;
    let seams = Seams {
        users: Arc::new(UsersClient::new(door, http::client())),
        messages: Arc::new(MessagesClient::new(door, http::client())),
        revocations: verifier.revocations(),
        verify: verifier,
    };
    let inbox = Inbox::new(pool);
    background.spawn("inbox", keeper::keep(inbox.clone(), events.clone(), background.stopping()));
    background.spawn("partitions", keeper::maintain(inbox.clone(), background.stopping()));
    let hub = Hub::start(SERVICE, &events, Memory::default(), Some(inbox), &background);
    // The database is no part of readiness: without it live goes on, and who comes back late reloads.
    Ok(App { router: router(hub, seams, Limits::default()), readiness: Readiness::new() })
}
