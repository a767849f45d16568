//! Users: nicknames, passwords, presence and profiles.
//!
//! Limits the guesses of passwords.
//!
//! Leaves to others: tokens (it asks users whether a nickname and a password belong together), and what users write and
//! see (messages, ui, websocket). It calls no other part.
//!
//! A library for two processes: `start` starts the part in the monolith and in the service, `build` starts the service.

pub mod config;
pub mod model;
pub mod nickname;
pub mod passwords;
pub mod store;
pub mod guesses;
pub mod handlers;
pub mod presence;
pub mod nickname_keys;
pub mod events;

use std::{process::ExitCode, sync::Arc};

use flack_api::{
    Layered,
    users::{self, UsersApi, UsersClient},
    users_v2::{self, UsersV2Api, UsersV2Client},
};
use flack_catalogue::Service;
use flack_common::{
    authority::Ownership,
    events::publish_journal,
    process::{self, App, Background, Readiness},
    quota::WriteLimit,
    registry::Registry,
    service::Connections,
};
use sqlx::{PgPool, migrate::Migrator};

use crate::{
    config::{Config, GuessLimits},
    handlers::Users,
    store::Store,
};

/// The tables of the part; those of the journal are in `flack_common`.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/users");

/// The name of the part: its service, database, backend and stream.
pub const SERVICE: &str = "users";

/// Starts the part over its database. The result implements every version of the API. Every nickname has its keys
/// before the first registration.
pub async fn start(
    pool: &PgPool,
    limits: GuessLimits,
    ownership: Ownership,
    background: &Background,
) -> anyhow::Result<Arc<Users>> {
    let store = Store::new(pool.clone());
    nickname_keys::start(store.clone(), ownership.clone(), background).await?;
    presence::start(store.clone(), ownership.clone(), background);
    guesses::start_cleanup(store.clone(), ownership, background);
    Ok(Arc::new(Users::new(store, limits)))
}

/// Runs the service as a process, until a signal or an error ends it.
pub async fn main() -> ExitCode {
    process::main(Service::named(SERVICE), |config: &Config| &config.service, build).await
}

/// Connects to everything the service needs and starts it.
pub async fn build(config: Config, background: Background, registry: Registry) -> anyhow::Result<App> {
    let Connections { pool, events, verifier, authority, forwarding } =
        Connections::open(SERVICE, &config.service, &MIGRATIONS, &registry, &background).await?;
    let writes = WriteLimit::new(&config.service.limits);
    let v1 = start(&pool, config.limits, authority.of(SERVICE), &background).await?;
    let v2: Arc<dyn UsersV2Api> = Arc::clone(&v1) as _;
    let forward = forwarding.layer::<dyn UsersApi>(SERVICE, |url, http| Arc::new(UsersClient::new(url, http)));
    let v1: Arc<dyn UsersApi> = Arc::new(Layered::new(forward, v1 as _));
    let v1 = Arc::new(Layered::new(writes.clone(), v1));
    let forward = forwarding.layer::<dyn UsersV2Api>(SERVICE, |url, http| Arc::new(UsersV2Client::new(url, http)));
    let v2: Arc<dyn UsersV2Api> = Arc::new(Layered::new(forward, v2));
    let v2 = Arc::new(Layered::new(writes, v2));
    publish_journal(SERVICE, &pool, &events, events::map, &background);
    let (url, keys) = (&config.service.internal_listener.url, &config.service.handover);
    let handover = flack_replication::start(SERVICE, &pool, &authority, Some(url), keys, &background);
    let router = users::router(v1, Arc::clone(&verifier) as _).merge(users_v2::router(v2, verifier)).merge(handover);
    Ok(App { router, readiness: Readiness::new().database(&pool) })
}
