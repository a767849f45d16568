//! Tokens: signed tokens, their keys and their revocation.
//!
//! It publishes public keys and revocations in the registry. Leaves to others: passwords (users checks them), and
//! verifying a token (every process does it).
//!
//! A library for two processes: `start` starts the part in the monolith and in the service, `build` starts the service.

pub mod model;
pub mod store;
pub mod publisher;
pub mod keys;
pub mod handlers;
pub mod consumer;
pub mod cleanup;
pub mod events;

use std::{process::ExitCode, sync::Arc};

use flack_api::{
    Context, Layered,
    tokens::{self, TokensApi, TokensClient},
    users::{UsersApi, UsersClient},
};
use flack_catalogue::Service;
use flack_common::{
    auth::Verifier,
    authority::Ownership,
    config::ServiceConfig,
    events::{Events, consume, publish_journal},
    http,
    process::{self, App, Background, Readiness},
    quota::WriteLimit,
    registry::Registry,
    service::Connections,
};
use sqlx::{PgPool, migrate::Migrator};

use crate::{consumer::PasswordChanges, handlers::Tokens, keys::SigningKeys, publisher::Publisher, store::Store};

/// The tables of the part; those of the journal are in `flack_common`.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/tokens");

/// The name of the part: its service, database, backend and stream.
pub const SERVICE: &str = "tokens";

/// Starts the part over its database. The owner's signing key exists and is published when this returns.
pub async fn start(
    pool: &PgPool,
    events: &Events,
    users: Arc<dyn UsersApi>,
    verifier: Arc<Verifier>,
    registry: Option<Registry>,
    ownership: Ownership,
    background: &Background,
) -> anyhow::Result<Arc<dyn TokensApi>> {
    let store = Store::new(pool.clone());
    let publisher = Arc::new(Publisher::new(store.clone(), verifier, registry));
    let keys = Arc::new(SigningKeys::new(store.clone(), Arc::clone(&publisher)));
    if ownership.is_held() {
        keys.current(&Context::background()).await?;
    }
    let handler = Arc::new(PasswordChanges::new(Arc::clone(&publisher), ownership.clone()));
    consume(Service::named(SERVICE), pool, events, &handler, background);
    publisher.start(&ownership, background);
    cleanup::start(store.clone(), ownership, background);
    Ok(Arc::new(Tokens::new(store, keys, publisher, users)))
}

/// Runs the service as a process, until a signal or an error ends it.
pub async fn main() -> ExitCode {
    process::main(Service::named(SERVICE), |config: &ServiceConfig| config, build).await
}

/// Connects to everything the service needs and starts it.
pub async fn build(config: ServiceConfig, background: Background, registry: Registry) -> anyhow::Result<App> {
    let Connections { pool, events, verifier, authority, forwarding } =
        Connections::open(SERVICE, &config, &MIGRATIONS, &registry, &background).await?;

    let users = Arc::new(UsersClient::new(&config.internal_listener.url, http::client()));
    let api =
        start(&pool, &events, users, Arc::clone(&verifier), Some(registry), authority.of(SERVICE), &background).await?;
    let forward = forwarding.layer::<dyn TokensApi>(SERVICE, |url, http| Arc::new(TokensClient::new(url, http)));
    let api: Arc<dyn TokensApi> = Arc::new(Layered::new(forward, api));
    let api = Arc::new(Layered::new(WriteLimit::new(&config.limits), api));
    publish_journal(SERVICE, &pool, &events, events::map, &background);
    let (url, keys) = (&config.internal_listener.url, &config.handover);
    let handover = flack_replication::start(SERVICE, &pool, &authority, Some(url), keys, &background);
    let router = tokens::router(api, verifier).merge(handover);
    Ok(App { router, readiness: Readiness::new().database(&pool) })
}
