//! Users: nicknames, passwords and presence.
//!
//! Leaves to others: tokens (it asks users whether a nickname and a password belong together), and what users write and
//! see (messages, ui, websocket). It calls no other part.
//!
//! A library for two processes: `start` starts the part in the monolith and in the service, `build` starts the service.

pub mod config;
pub mod model;
pub mod store;
pub mod handlers;
pub mod presence;
pub mod events;

use std::sync::Arc;

use flack_api::users::{self, UsersApi};
use flack_common::{
    auth::Verifier,
    authority::Ownership,
    database,
    events::{Events, JetStream, Relay, partitions},
    process::{App, Background, Readiness},
    registry::Registry,
};
use sqlx::{PgPool, migrate::Migrator};

use crate::{config::Config, handlers::Users, store::Store};

/// The tables of the part; those of the journal are in `flack_common`.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/users");

/// The name of the part: its service, database, backend and stream.
pub const SERVICE: &str = "users";

/// Starts the part over its database.
pub fn start(pool: &PgPool, ownership: Ownership, background: &Background) -> Arc<dyn UsersApi> {
    let store = Store::new(pool.clone());
    presence::start(store.clone(), ownership, background);
    Arc::new(Users::new(store))
}

/// Connects to everything the service needs and starts it.
pub async fn build(config: Config, background: Background, registry: Registry) -> anyhow::Result<App> {
    let pool = database::connect(&config.database).await?;
    database::migrate(&pool, &MIGRATIONS).await?;
    let events = Events::JetStream(JetStream::connect(&config.events).await?);
    let verifier = Verifier::from_registry(&registry, &background).await?;

    let api = start(&pool, Ownership::always(), &background);
    partitions::maintain(&background, pool.clone());
    let relay = Relay::new(SERVICE, pool.clone(), events, events::map);
    background.spawn("relay", relay.run(background.drained()));

    Ok(App { router: users::router(api, verifier), readiness: Readiness::new().database(&pool) })
}
