//! Ui: the face. Serves the browser app; owns each user's preferences and read markers, in a database of its own.
//!
//! Leaves to others: everything that the app shows. The page talks to users, tokens, messages and websocket by itself;
//! this service calls nobody.

pub mod config;
pub mod pages;
pub mod assets;
pub mod model;
pub mod store;
pub mod handlers;
pub mod events;

use std::sync::Arc;

use axum::Router;
use flack_api::{VerifyToken, docs, ui};
use flack_common::{
    auth::Verifier,
    database,
    events::{Events, JetStream, Relay, partitions},
    process::{App, Background, Readiness},
    registry::Registry,
};
use sqlx::migrate::Migrator;

use crate::{config::Config, handlers::Ui, store::Store};

/// The tables of this service; the journal's come from `flack_common`.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/ui");

/// The name of the service, of its database, its backend, its events.
pub const SERVICE: &str = "ui";

/// Connects everything that this process is made of.
pub async fn build(config: Config, background: Background, registry: Registry) -> anyhow::Result<App> {
    let pool = database::connect(&config.database).await?;
    database::migrate(&pool, &MIGRATIONS).await?;
    let events = Events::JetStream(JetStream::connect(&config.events).await?);
    let verifier = Verifier::from_registry(&registry, &background).await?;

    let relay = Relay::new(SERVICE, pool.clone(), events, events::map);
    background.spawn("relay", relay.run(background.drained()));
    background.spawn("partitions", partitions::maintain(pool.clone(), background.stopping()));

    Ok(App {
        router: router(Store::new(pool.clone()), verifier),
        readiness: Readiness::new().database(&pool),
    })
}

/// All that this service answers: the pages, the API, and the documents of every API.
pub fn router(store: Store, verify: Arc<dyn VerifyToken>) -> Router {
    pages::router().merge(ui::router(Arc::new(Ui::new(store)), verify)).merge(docs::router())
}
