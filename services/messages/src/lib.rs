//! Messages: channels, messages with their files, their HTML, and previews of the pages that they link.
//!
//! Leaves to others: who a user is (users), issuing tokens (tokens), and delivery to connected clients (websocket). It
//! calls no other part; nicknames reach it by events.
//!
//! A library for two processes: `start` starts the part in the monolith and in the service, `build` starts the service.

pub mod model;
pub mod mentions;
mod markdown;
pub mod render;
pub mod page;
pub mod preview;
pub mod store;
pub mod handlers;
pub mod nicknames;
pub mod unused_files;
pub mod events;

use std::{process::ExitCode, sync::Arc};

use flack_api::{
    Layered,
    messages::{self, MessagesApi, MessagesClient},
    messages_v2::{self, MessagesV2Api, MessagesV2Client},
};
use flack_catalogue::Service;
use flack_common::{
    authority::Ownership,
    config::{LimitsConfig, ServiceConfig},
    events::{consume, publish_journal},
    fetch::PublicFetcher,
    process::{self, App, Background, Readiness},
    quota::WriteLimit,
    registry::Registry,
    service::Connections,
};
use sqlx::{PgPool, migrate::Migrator};
use tokio::sync::Notify;

use crate::{handlers::Messages, nicknames::Nicknames, store::Store};

/// The tables of the part; those of the journal are in `flack_common`.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/messages");

/// The name of the part: its service, database, backend and stream.
pub const SERVICE: &str = "messages";

/// Starts the part over its database. The result implements every version of the API.
pub fn start(pool: &PgPool, limits: &LimitsConfig, ownership: Ownership, background: &Background) -> Arc<Messages> {
    let (store, fetcher, linked) = (Store::new(pool.clone()), PublicFetcher::new(), Arc::new(Notify::new()));
    let bytes_max = limits.message_bytes_per_user_per_10s;
    let api = Arc::new(Messages::new(store.clone(), Arc::clone(&linked), bytes_max));
    unused_files::start(store.clone(), ownership.clone(), background);
    let stopping = background.stopping();
    background.supervise("previews", move || {
        preview::run(store.clone(), fetcher.clone(), Arc::clone(&linked), ownership.clone(), stopping.clone())
    });
    api
}

/// Runs the service as a process, until a signal or an error ends it.
pub async fn main() -> ExitCode {
    process::main(Service::named(SERVICE), |config: &ServiceConfig| config, build).await
}

/// Connects to everything the service needs and starts it.
pub async fn build(config: ServiceConfig, background: Background, registry: Registry) -> anyhow::Result<App> {
    let Connections { pool, events, verifier, authority, forwarding } =
        Connections::open(SERVICE, &config, &MIGRATIONS, &registry, &background).await?;
    let writes = WriteLimit::new(&config.limits);
    let v1 = start(&pool, &config.limits, authority.of(SERVICE), &background);
    let v2: Arc<dyn MessagesV2Api> = Arc::clone(&v1) as _;
    let forward = forwarding.layer::<dyn MessagesApi>(SERVICE, |url, http| Arc::new(MessagesClient::new(url, http)));
    let v1: Arc<dyn MessagesApi> = Arc::new(Layered::new(forward, v1 as _));
    let v1 = Arc::new(Layered::new(writes.clone(), v1));
    let forward =
        forwarding.layer::<dyn MessagesV2Api>(SERVICE, |url, http| Arc::new(MessagesV2Client::new(url, http)));
    let v2: Arc<dyn MessagesV2Api> = Arc::new(Layered::new(forward, v2));
    let v2 = Arc::new(Layered::new(writes, v2));
    let service = Service::named(SERVICE);
    consume(service, &pool, &events, &Arc::new(Nicknames), &background);
    publish_journal(SERVICE, &pool, &events, events::map, &background);
    let (url, keys) = (&config.internal_listener.url, &config.handover);
    let handover = flack_replication::start(SERVICE, &pool, &authority, Some(url), keys, &background);
    let router = messages::router(v1, Arc::clone(&verifier) as _).merge(messages_v2::router(v2, verifier));
    let router = router.merge(handover);
    Ok(App { router, readiness: Readiness::new().database(&pool) })
}
