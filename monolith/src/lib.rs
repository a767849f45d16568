//! The monolith: all parts in one process over one database. The app before the migration, and the balancer's default
//! backend until every part has moved to its service.
//!
//! It contains no part's code: it starts the libraries of the services and connects them. What a service does with a
//! generated client, it does with a call in the process. What its database does differently is in `migrations/flack`.
//!
//! It runs alone or beside services. Beside services it works only on data that it owns according to the registry, and
//! passes requests for other data on (`flack_common::forward`).

pub mod config;
pub mod events;

use std::{process::ExitCode, sync::Arc};

use axum::Router;
use flack_api::{
    Layered, VerifyToken,
    messages::{self, MessagesApi, MessagesClient},
    messages_v2::{self, MessagesV2Api, MessagesV2Client},
    tokens::{self, TokensApi, TokensClient},
    ui::{UiApi, UiClient},
    users::{self, UsersApi, UsersClient},
    users_v2::{self, UsersV2Api, UsersV2Client},
};
use flack_catalogue::Service;
use flack_common::{
    auth::Verifier,
    authority::Authority,
    config::{HandoverKeys, LimitsConfig, parse_or_exit},
    database,
    events::{Events, InProcess, JetStream, publish_journal},
    forward::Forwarding,
    process::{self, App, Background, Readiness},
    quota::WriteLimit,
    registry::Registry,
    telemetry,
};
use flack_users::config::GuessLimits;
use flack_websocket::{Limits, Peers};
use sqlx::{PgPool, migrate::Migrator};

use crate::config::Config;

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
    let internal_url = config.internal_listener.as_ref().map(|listener| listener.url.as_str());
    let (limits, keys, sockets) = (&config.limits, &config.handover, config.sockets.into());
    start(pool, events, registry, internal_url, keys, limits, config.guesses, sockets, &background).await
}

/// Starts the parts, each after those that it calls. Tests pass their own database and events. Requests for parts of
/// other owners are passed on through the internal listener at `internal_url`.
#[expect(clippy::too_many_arguments, reason = "the dependencies of a whole app; only `build` and tests call it")]
pub async fn start(
    pool: PgPool,
    events: Events,
    registry: Option<Registry>,
    internal_url: Option<&str>,
    keys: &HandoverKeys,
    limits: &LimitsConfig,
    guesses: GuessLimits,
    sockets: Limits,
    background: &Background,
) -> anyhow::Result<App> {
    database::migrate(&pool, &MIGRATIONS).await?;
    let (verifier, authority) = match &registry {
        Some(registry) => {
            let verifier = Verifier::from_registry(registry, background).await?;
            (verifier, Authority::from_registry(SERVICE, registry).await?)
        }
        None => (Verifier::standalone(), Authority::standalone(SERVICE)),
    };
    authority.keep_fences(&pool, background).await?;
    publish_journal(SERVICE, &pool, &events, events::map, background);

    let forwarding = Forwarding::new(&authority, internal_url, &pool, background);
    // One quota of writes for all parts; a message that is posted on a websocket counts as well.
    let writes = WriteLimit::new(limits);
    let users = flack_users::start(&pool, guesses, authority.of(flack_users::SERVICE), background).await?;
    let users_v2: Arc<dyn UsersV2Api> = Arc::clone(&users) as _;
    let forward =
        forwarding.layer::<dyn UsersApi>(flack_users::SERVICE, |url, http| Arc::new(UsersClient::new(url, http)));
    let users: Arc<dyn UsersApi> = Arc::new(Layered::new(forward, users as _));
    let users: Arc<dyn UsersApi> = Arc::new(Layered::new(writes.clone(), users));
    let forward =
        forwarding.layer::<dyn UsersV2Api>(flack_users::SERVICE, |url, http| Arc::new(UsersV2Client::new(url, http)));
    let users_v2: Arc<dyn UsersV2Api> = Arc::new(Layered::new(forward, users_v2));
    let users_v2 = Arc::new(Layered::new(writes.clone(), users_v2));
    let tokens = flack_tokens::start(
        &pool,
        &events,
        Arc::clone(&users),
        Arc::clone(&verifier),
        registry,
        authority.of(flack_tokens::SERVICE),
        background,
    );
    let forward =
        forwarding.layer::<dyn TokensApi>(flack_tokens::SERVICE, |url, http| Arc::new(TokensClient::new(url, http)));
    let tokens: Arc<dyn TokensApi> = Arc::new(Layered::new(forward, tokens.await?));
    let tokens: Arc<dyn TokensApi> = Arc::new(Layered::new(writes.clone(), tokens));
    let messages = flack_messages::start(&pool, limits, authority.of(flack_messages::SERVICE), background);
    let messages_v2: Arc<dyn MessagesV2Api> = Arc::clone(&messages) as _;
    let forward = forwarding
        .layer::<dyn MessagesApi>(flack_messages::SERVICE, |url, http| Arc::new(MessagesClient::new(url, http)));
    let messages: Arc<dyn MessagesApi> = Arc::new(Layered::new(forward, messages as _));
    let messages: Arc<dyn MessagesApi> = Arc::new(Layered::new(writes.clone(), messages));
    let forward = forwarding
        .layer::<dyn MessagesV2Api>(flack_messages::SERVICE, |url, http| Arc::new(MessagesV2Client::new(url, http)));
    let messages_v2: Arc<dyn MessagesV2Api> = Arc::new(Layered::new(forward, messages_v2));
    let messages_v2: Arc<dyn MessagesV2Api> = Arc::new(Layered::new(writes.clone(), messages_v2));
    let forward = forwarding.layer::<dyn UiApi>(flack_ui::SERVICE, |url, http| Arc::new(UiClient::new(url, http)));
    let ui: Arc<dyn UiApi> = Arc::new(Layered::new(forward, flack_ui::start(&pool, &authority)));
    let ui = Arc::new(Layered::new(writes, ui));

    let verify: Arc<dyn VerifyToken> = Arc::clone(&verifier) as _;
    let peers = Peers {
        users: Arc::clone(&users),
        messages: Arc::clone(&messages),
        messages_v2: Arc::clone(&messages_v2),
        revocations: verifier.revocations(),
        verify: Arc::clone(&verify),
    };
    // Without an inbox: clients resume only from the ring buffer.
    let websocket = flack_websocket::start(
        SERVICE,
        &events,
        peers,
        None,
        sockets,
        &authority.of(flack_websocket::SERVICE),
        background,
    );
    let router = Router::new()
        .merge(websocket)
        .merge(users::router(users, Arc::clone(&verify)))
        .merge(users_v2::router(users_v2, Arc::clone(&verify)))
        .merge(tokens::router(tokens, Arc::clone(&verify)))
        .merge(messages::router(messages, Arc::clone(&verify)))
        .merge(messages_v2::router(messages_v2, Arc::clone(&verify)))
        .merge(flack_ui::router(ui, verify))
        .merge(flack_replication::start(SERVICE, &pool, &authority, internal_url, keys, background));
    Ok(App { router, readiness: Readiness::new().database(&pool) })
}
