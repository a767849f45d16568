//! Websocket: the open connections of clients at `GET /ws`. Each client receives every event once and in order, as JSON
//! text frames.
//!
//! Owns the connections, a copy of recent events, and a copy of the memberships of users who are connected. Leaves
//! users, channels, messages and tokens to their parts: it calls their APIs in the user's name, and delivers their
//! events to the connections that may receive them.
//!
//! The crate is a library for two processes, the websocket service and the monolith. Both call [`start`].
//! `docs/websocket.md` explains how an event becomes a frame, and how a client resumes.
//!
//! Reading order: a `cursor` holds one offset per stream. An `audience` says who receives a frame, and the
//! `memberships` which channels a user is a member of. The `feed` reads the streams into the `ring`, which is the ring
//! buffer. The `inbox` holds more history, in the database. `resume` chooses where a client starts to read. `typing`
//! sends signals that are not stored. A `connection` serves one client.

pub mod config;
pub mod limits;
pub mod cursor;
mod memberships;
mod audience;
mod ring;
mod feed;
mod inbox;
mod resume;
mod typing;
mod connection;

use std::{process::ExitCode, sync::Arc};

use axum::Router;
use flack_api::{messages::MessagesClient, messages_v2::MessagesV2Client, users::UsersClient};
use flack_catalogue::Service;
use flack_common::{
    authority::Ownership,
    events::Events,
    http,
    process::{self, App, Background, Readiness},
    registry::Registry,
    service::Connections,
};
use sqlx::{PgPool, migrate::Migrator};

use crate::{
    config::Config,
    connection::{ChannelLists, Draining, Permits, SocketContext, upgrade},
    feed::Feed,
    inbox::{store::Inbox, writer},
    memberships::Memberships,
    resume::Resume,
    typing::TypingSignals,
};

pub use connection::Peers;
pub use limits::{Limits, Retention};

/// The tables that only this service has. Every service has the table `inbox` (`migrations/shared`).
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/websocket");

/// The name of the service in the catalogue.
pub const SERVICE: &str = "websocket";

/// Starts to read the streams, and returns the router of `GET /ws`.
///
/// `service` is the name of this process in the catalogue: `websocket` or `monolith`. `inbox` is the database with the
/// inbox; if there is one, its writer is started too. Without an inbox, clients resume only from the ring buffer. When
/// the balancer sends new connections to the other side, those of this process are closed.
pub fn start(
    service: &str,
    events: &Events,
    peers: Peers,
    inbox: Option<PgPool>,
    limits: Limits,
    ownership: &Ownership,
    background: &Background,
) -> Router {
    let inbox = inbox.map(|pool| Inbox { pool });
    if let Some(inbox) = &inbox {
        writer::start(inbox, events, background);
    }
    let permits = Permits::default();
    let following = permits.clone().follow_revocations(peers.revocations.subscribe());
    let stopping = background.stopping();
    background.spawn("revocations", async move {
        stopping.run_until_cancelled(following).await;
    });
    let memberships = Memberships::default();
    let feed = Feed::start(events, &limits.retention, memberships.clone(), background);
    upgrade::router(SocketContext {
        feed: feed.clone(),
        resume: Resume { feed, inbox, retention: limits.retention.clone() },
        typing: TypingSignals::start(service, events, background),
        channels: ChannelLists::new(memberships, Arc::clone(&peers.messages_v2)),
        peers,
        limits,
        draining: Draining::start(&permits, ownership, background),
        permits,
        background: background.clone(),
    })
}

/// Runs the service as a process, until a signal or an error ends it.
pub async fn main() -> ExitCode {
    process::main(Service::named(SERVICE), |config: &Config| &config.service, build).await
}

/// Connects the service to its database, events and peers, and starts it.
pub async fn build(config: Config, background: Background, registry: Registry) -> anyhow::Result<App> {
    let Connections { pool, events, verifier, authority, .. } =
        Connections::open(SERVICE, &config.service, &MIGRATIONS, &registry, &background).await?;
    let url = &config.service.internal_listener.url;
    let peers = Peers {
        users: Arc::new(UsersClient::new(url, http::client())),
        messages: Arc::new(MessagesClient::new(url, http::client())),
        messages_v2: Arc::new(MessagesV2Client::new(url, http::client())),
        revocations: verifier.revocations(),
        verify: verifier,
    };
    let ownership = authority.of(SERVICE);
    let router = start(SERVICE, &events, peers, Some(pool), config.sockets.into(), &ownership, &background);
    // Readiness does not depend on the database: without it events are delivered, but old cursors are not resumed.
    Ok(App { router, readiness: Readiness::new() })
}
