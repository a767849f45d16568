//! Messages: what was said, how it looks, and what the pages it links say of themselves.
//!
//! Owns channels, messages and link previews. Leaves to users who somebody is (it keeps a copy of their nicknames, made
//! from events), to tokens whose token it is, to websocket who hears of it.
//!
//! The monolith links `model`, `preview` and `store`: on the way out of the monolith this code was first moved into a
//! library that both sides use.

pub mod config;
pub mod model;
pub mod render;
pub mod preview;
pub mod store;
pub mod handlers;
pub mod nicknames;
pub mod events;

mod markdown;
mod page;

use std::sync::Arc;

use flack_api::messages;
use flack_common::{
    auth::Verifier,
    database,
    events::{Consumer, Events, JetStream, Relay, partitions},
    fetch::PublicFetcher,
    process::{App, Background, Readiness},
    registry::Registry,
};
use sqlx::migrate::Migrator;
use tokio::sync::Notify;

use crate::{config::Config, handlers::Messages, nicknames::Nicknames, store::Store};

/// The tables of this service; the journal's come from `flack_common`.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/messages");

/// The name of the service, of its database, its backend, its events.
pub const SERVICE: &str = "messages";

/// Whose events tell what users are called: whoever owns users, now and before the hand-over.
const OWNERS_OF_USERS: [&str; 2] = ["users", "monolith"];

/// Connects everything that this process is made of.
pub async fn build(config: Config, background: Background, registry: Registry) -> anyhow::Result<App> {
    let pool = database::connect(&config.database).await?;
    database::migrate(&pool, &MIGRATIONS).await?;
    let events = Events::JetStream(JetStream::connect(&config.events).await?);
    let verifier = Verifier::from_registry(&registry, &background).await?;
    let store = Store::new(pool.clone());
    let linked = Arc::new(Notify::new());

    let relay = Relay::new(SERVICE, pool.clone(), events.clone(), events::map);
    background.spawn("relay", relay.run(background.drained()));
    background.spawn("partitions", partitions::maintain(pool.clone(), background.stopping()));
    for owner in OWNERS_OF_USERS {
        let consumer =
            Consumer::new(owner, pool.clone(), events.clone(), Arc::new(Nicknames)).only("user_changed");
        background.spawn(owner, consumer.run(background.stopping()));
    }
    let (queue, fetcher, wake, stopping) =
        (Arc::new(store.clone()), PublicFetcher::new(), Arc::clone(&linked), background.stopping());
    background.supervise("previews", move || {
        preview::run(Arc::clone(&queue) as _, fetcher.clone(), Arc::clone(&wake), || true, stopping.clone())
    });

    let router = messages::router(Arc::new(Messages::new(store, linked)), verifier);
    Ok(App { router, readiness: Readiness::new().database(&pool) })
}
