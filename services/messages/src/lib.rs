//! Messages: channels, messages, their HTML, and previews of the pages that they link.
//!
//! Leaves to others: who a user is (users), issuing tokens (tokens), and delivery to connected clients (websocket). It
//! calls no other part; nicknames reach it by events.
//!
//! A library for two processes: `start` starts the part in the monolith and in the service, `build` starts the service.

pub mod config;
pub mod model;
mod markdown;
pub mod render;
mod page;
pub mod preview;
pub mod store;
pub mod handlers;
pub mod nicknames;
pub mod events;

use std::sync::Arc;

use flack_api::messages::{self, MessagesApi};
use flack_common::{
    auth::Verifier,
    authority::Ownership,
    database,
    events::{Consumer, Events, JetStream, Relay, partitions},
    fetch::PublicFetcher,
    process::{App, Background, Readiness},
    registry::Registry,
};
use sqlx::{PgPool, migrate::Migrator};
use tokio::sync::Notify;

use crate::{config::Config, handlers::Messages, nicknames::Nicknames, store::Store};

/// The tables of the part; those of the journal are in `flack_common`.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/messages");

/// The name of the part: its service, database, backend and stream.
pub const SERVICE: &str = "messages";

/// Starts the part over its database.
pub fn start(pool: &PgPool, ownership: Ownership, background: &Background) -> Arc<dyn MessagesApi> {
    let (store, fetcher, linked) = (Store::new(pool.clone()), PublicFetcher::new(), Arc::new(Notify::new()));
    let api = Arc::new(Messages::new(store.clone(), Arc::clone(&linked)));
    let stopping = background.stopping();
    background.supervise("previews", move || {
        preview::run(store.clone(), fetcher.clone(), Arc::clone(&linked), ownership.clone(), stopping.clone())
    });
    api
}

/// Connects to everything the service needs and starts it.
pub async fn build(config: Config, background: Background, registry: Registry) -> anyhow::Result<App> {
    let pool = database::connect(&config.database).await?;
    database::migrate(&pool, &MIGRATIONS).await?;
    let events = Events::JetStream(JetStream::connect(&config.events).await?);
    let verifier = Verifier::from_registry(&registry, &background).await?;

    let api = start(&pool, Ownership::always(), &background);
    // The owners of users before and after the migration.
    for (name, owner) in [("consumer of users", "users"), ("consumer of monolith", "monolith")] {
        let consumer = Consumer::new(owner, pool.clone(), events.clone(), Arc::new(Nicknames));
        background.spawn(name, consumer.only(nicknames::KIND).run(background.stopping()));
    }
    partitions::maintain(&background, pool.clone());
    let relay = Relay::new(SERVICE, pool.clone(), events, events::map);
    background.spawn("relay", relay.run(background.drained()));

    Ok(App { router: messages::router(api, verifier), readiness: Readiness::new().database(&pool) })
}
