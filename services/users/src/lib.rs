//! Users: who is who, and who is here.
//!
//! Owns nicknames, passwords and presence, in a database of its own. Leaves to others: tokens (tokens asks here whether
//! a nickname and a password belong together), and what users say and see (messages, ui, websocket).

pub mod config;
pub mod model;
pub mod store;
pub mod handlers;
pub mod presence;
pub mod events;

use std::sync::Arc;

use flack_api::users;
use flack_common::{
    auth::Verifier,
    database,
    events::{Events, JetStream, Relay, partitions},
    process::{App, Background, Readiness},
    registry::Registry,
};
use sqlx::migrate::Migrator;

use crate::{config::Config, handlers::Users, store::Store};

/// The tables of this service; the journal's come from `flack_common`.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/users");

/// The name of the service, of its database, its backend, its events.
pub const SERVICE: &str = "users";

/// Connects everything that this process is made of.
pub async fn build(config: Config, background: Background, registry: Registry) -> anyhow::Result<App> {
    let pool = database::connect(&config.database).await?;
    database::migrate(&pool, &MIGRATIONS).await?;
    let events = Events::JetStream(JetStream::connect(&config.events).await?);
    let verifier = Verifier::from_registry(&registry, &background).await?;
    let store = Store::new(pool.clone());

    let relay = Relay::new(SERVICE, pool.clone(), events, events::map);
    background.spawn("relay", relay.run(background.drained()));
    background.spawn("partitions", partitions::maintain(pool.clone(), background.stopping()));
    let (swept, stopping) = (store.clone(), background.stopping());
    background.supervise("presence", move || presence::run(swept.clone(), || true, stopping.clone()));

    let router = users::router(Arc::new(Users::new(store)), verifier);
    Ok(App { router, readiness: Readiness::new().database(&pool) })
}
