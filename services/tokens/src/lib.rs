//! Tokens: proof of who is asking.
//!
//! Owns the signing keys and the issued and revoked tokens, in a database of its own, and announces keys and revocations
//! in the registry. Leaves to others: whose password it is (users), and checking a token (every process does that by
//! itself).

pub mod config;
pub mod model;
pub mod store;
pub mod announce;
pub mod keys;
pub mod handlers;
pub mod consumer;
pub mod cleanup;
pub mod events;

use std::sync::Arc;

use flack_api::{Context, tokens, users::UsersClient};
use flack_common::{
    auth::Verifier,
    database,
    events::{Consumer, Events, JetStream, Relay, partitions},
    http,
    process::{App, Background, Readiness},
    registry::Registry,
};
use sqlx::migrate::Migrator;

use crate::{
    announce::Announcer, config::Config, consumer::PasswordChanges, handlers::Tokens, keys::SigningKeys,
    store::Store,
};

/// The tables of this service; the journal's come from `flack_common`.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/tokens");

/// The name of the service, of its database, its backend, its events.
pub const SERVICE: &str = "tokens";

/// Connects everything that this process is made of.
pub async fn build(config: Config, background: Background, registry: Registry) -> anyhow::Result<App> {
    let pool = database::connect(&config.database).await?;
    database::migrate(&pool, &MIGRATIONS).await?;
    let events = Events::JetStream(JetStream::connect(&config.events).await?);
    let verifier = Verifier::from_registry(&registry, &background).await?;
    let users = Arc::new(UsersClient::new(&config.internal_listener.url, http::client()));
    let store = Store::new(pool.clone());
    let announcer = Arc::new(Announcer::new(store.clone(), verifier.clone(), Some(registry)));
    let keys = Arc::new(SigningKeys::new(store.clone(), announcer.clone()));
    // A first key is made, and announced, before anybody can ask for a token.
    keys.current(&Context::background()).await?;

    let relay = Relay::new(SERVICE, pool.clone(), events.clone(), events::map);
    background.spawn("relay", relay.run(background.drained()));
    for (name, owner) in [("consumer of users", "users"), ("consumer of monolith", "monolith")] {
        let handler = Arc::new(PasswordChanges::new(announcer.clone()));
        let consumer = Consumer::new(owner, pool.clone(), events.clone(), handler).only(consumer::KIND);
        background.spawn(name, consumer.run(background.stopping()));
    }
    background.spawn("partitions", partitions::maintain(pool.clone(), background.stopping()));
    let (cleaned, stopping) = (store.clone(), background.stopping());
    background.supervise("cleanup", move || cleanup::run(cleaned.clone(), || true, stopping.clone()));
    let (announcing, stopping) = (announcer.clone(), background.stopping());
    background.supervise("announcements", move || announcing.clone().run(|| true, stopping.clone()));

    let router = tokens::router(Arc::new(Tokens::new(store, keys, announcer, users)), verifier);
    Ok(App { router, readiness: Readiness::new().database(&pool) })
}
