//! Flack in one process and one database: the "before" of the story, and the default backend until the end of it.
//!
//! One module for each later service: ui, users, tokens, messages, websocket. They share a process and a database, whose
//! foreign keys and joins they use; but one touches another only through that one's API trait, exactly as if it were
//! somewhere else already. `modules.rs` is where they are wired, and the one place that knows more than one of them.
//!
//! Runs alone, or beside the services. Beside them it does nothing with data that the registry does not call its own:
//! see `authority.rs`.

pub mod config;
pub mod authority;
pub mod users;
pub mod tokens;
pub mod messages;
pub mod ui;
pub mod websocket;
pub mod events;
pub mod modules;

use flack_common::{
    auth::Verifier,
    database,
    events::{Events, JetStream, Local, Relay, partitions},
    process::{App, Background, Readiness},
    registry::{Registry, keys},
};
use sqlx::{PgPool, migrate::Migrator};

use crate::{authority::Authority, config::Config, modules::Modules};

/// The tables of all modules; the journal's come from `flack_common`.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/flack");

/// The name of the process, its backend, its events. Its database is called `flack`.
pub const SERVICE: &str = "monolith";

/// Connects everything that this process is made of.
pub async fn build(
    config: Config,
    background: Background,
    registry: Option<Registry>,
) -> anyhow::Result<App> {
    let pool = database::connect(&config.database).await?;
    let events = match &config.events {
        Some(config) => Events::JetStream(JetStream::connect(config).await?),
        None => Events::Local(Local::new(SERVICE)),
    };
    assemble(pool, events, registry, &background).await
}

/// The same over a database and a pipeline that are there already.
pub async fn assemble(
    pool: PgPool,
    events: Events,
    registry: Option<Registry>,
    background: &Background,
) -> anyhow::Result<App> {
    database::migrate(&pool, &MIGRATIONS).await?;
    let (verifier, authority) = match &registry {
        Some(registry) => {
            let verifier = Verifier::from_registry(registry, background).await?;
            (verifier, Authority::Shared(registry.mirror(keys::AUTHORITY).await?))
        }
        None => (Verifier::standalone(), Authority::Alone),
    };

    let relay = Relay::new(SERVICE, pool.clone(), events.clone(), events::map);
    background.spawn("relay", relay.run(background.drained()));
    background.spawn("partitions", partitions::maintain(pool.clone(), background.stopping()));

    let modules = Modules::start(&pool, &events, &verifier, registry, authority, background).await?;
    let router = modules.router(verifier, &events, background);
    Ok(App { router, readiness: Readiness::new().database(&pool) })
}
