//! The monolith: all parts in one process over one database. The app before the migration, and the balancer's default
//! backend until every part has moved to its service.
//!
//! It contains no part's code: it starts the libraries of the services and connects them. What a service does with a
//! generated client, it does with a call in the process. What its database does differently is in `migrations/flack`.
//!
//! It runs alone or beside services. Beside services it works only on data that it owns according to the registry: see
//! `guard.rs`.

pub mod config;
pub mod guard;
pub mod events;

use std::{process::ExitCode, sync::Arc};

use axum::Router;
use flack_api::{
    Layered, VerifyToken,
    messages::{self, MessagesApi},
    tokens::{self, TokensApi},
    ui::UiApi,
    users::{self, UsersApi},
};
use flack_catalogue::Service;
use flack_common::{
    auth::Verifier,
    authority::Authority,
    config::{LimitsConfig, parse_or_exit},
    database,
    events::{Events, InProcess, JetStream, publish_journal},
    process::{self, App, Background, Readiness},
    quota::WriteLimit,
    registry::{Registry, keys},
    telemetry,
};
use flack_users::config::GuessLimits;
use flack_websocket::{Limits, Peers};
use sqlx::{PgPool, migrate::Migrator};

use crate::{config::Config, guard::Guard};

/// The tables of all parts; those of the journal are in `flack_common`.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/flack");

/// The name of the process, its backend and its stream. Its database is called `flack`.
pub const SERVICE: &str = flack_catalogue::MONOLITH;

/// Runs the monolith as a process, until a signal or an error ends it.
pub async fn main() -> ExitCode {
    telemetry::init(SERVICE);
    let config: Config = parse_or_exit();
    let (process, registry) = (config.process(), config.registry.clone());
    // In a box, because the future is large.
    Box::pin(process::run(Service::named(SERVICE), &process, registry.as_ref(), |background, registry| {
        build(config, background, registry)
    }))
    .await
}

/// Connects to everything the process needs and starts it.
pub async fn build(config: Config, background: Background, registry: Option<Registry>) -> anyhow::Result<App> {
    let pool = database::connect(&config.database).await?;
    let events = match &config.events {
        Some(config) => Events::JetStream(JetStream::connect(config).await?),
        None => Events::InProcess(InProcess::new(SERVICE)),
    };
    start(pool, events, registry, &config.limits, config.guesses, config.sockets.into(), &background).await
}

/// Starts the parts, each after those that it calls. Tests pass their own database and events.
pub async fn start(
    pool: PgPool,
    events: Events,
    registry: Option<Registry>,
    limits: &LimitsConfig,
    guesses: GuessLimits,
    sockets: Limits,
    background: &Background,
) -> anyhow::Result<App> {
    database::migrate(&pool, &MIGRATIONS).await?;
    let (verifier, authority) = match &registry {
        Some(registry) => {
            let verifier = Verifier::from_registry(registry, background).await?;
            (verifier, Authority::from_registry(SERVICE, registry.mirror(keys::AUTHORITY).await?))
        }
        None => (Verifier::standalone(), Authority::standalone(SERVICE)),
    };
    authority.keep_fences(&pool, background).await?;
    publish_journal(SERVICE, &pool, &events, events::map, background);

    let guard = Guard(authority.clone());
    // One quota of writes for all parts; a message that is posted on a websocket counts as well.
    let writes = WriteLimit::new(limits);
    let users = flack_users::start(&pool, guesses, authority.of(flack_users::SERVICE), background);
    let users: Arc<dyn UsersApi> = Arc::new(Layered::new(writes.clone(), users.await?));
    let users: Arc<dyn UsersApi> = Arc::new(Layered::new(guard.clone(), users));
    let tokens = flack_tokens::start(
        &pool,
        &events,
        Arc::clone(&users),
        Arc::clone(&verifier),
        registry,
        authority.of(flack_tokens::SERVICE),
        background,
    );
    let tokens: Arc<dyn TokensApi> = Arc::new(Layered::new(writes.clone(), tokens.await?));
    let tokens: Arc<dyn TokensApi> = Arc::new(Layered::new(guard.clone(), tokens));
    let messages = flack_messages::start(&pool, limits, authority.of(flack_messages::SERVICE), background);
    let messages: Arc<dyn MessagesApi> = Arc::new(Layered::new(writes.clone(), messages));
    let messages: Arc<dyn MessagesApi> = Arc::new(Layered::new(guard.clone(), messages));
    let ui: Arc<dyn UiApi> = Arc::new(Layered::new(writes, flack_ui::start(&pool)));
    let ui = Arc::new(Layered::new(guard, ui));

    let verify: Arc<dyn VerifyToken> = Arc::clone(&verifier) as _;
    let peers = Peers {
        users: Arc::clone(&users),
        messages: Arc::clone(&messages),
        revocations: verifier.revocations(),
        verify: Arc::clone(&verify),
    };
    // Without an inbox: clients resume only from the ring buffer.
    let websocket = flack_websocket::start(SERVICE, &events, peers, None, sockets, background);
    let router = Router::new()
        .merge(websocket)
        .merge(users::router(users, Arc::clone(&verify)))
        .merge(tokens::router(tokens, Arc::clone(&verify)))
        .merge(messages::router(messages, Arc::clone(&verify)))
        .merge(flack_ui::router(ui, verify));
    Ok(App { router, readiness: Readiness::new().database(&pool) })
}
