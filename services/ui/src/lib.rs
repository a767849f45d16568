//! Ui: the browser app, and the preferences and read markers of its users.
//!
//! Leaves to others: everything that the app shows. The page itself calls users, tokens, messages and websocket; this
//! part calls no other.
//!
//! A library for two processes: `start` starts the part in the monolith and in the service, `build` starts the service.

pub mod pages;
pub mod bundle;
pub mod assets;
pub mod model;
pub mod store;
pub mod handlers;
pub mod events;

use std::{process::ExitCode, sync::Arc};

use axum::Router;
use flack_api::{
    Layered, VerifyToken, docs,
    ui::{self, UiApi, UiClient},
};
use flack_catalogue::Service;
use flack_common::{
    authority::Authority,
    config::ServiceConfig,
    events::publish_journal,
    process::{self, App, Background, Readiness},
    quota::WriteLimit,
    registry::Registry,
    service::Connections,
};
use sqlx::{PgPool, migrate::Migrator};

use crate::{handlers::Ui, store::Store};

/// The tables of the part; those of the journal are in `flack_common`.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/ui");

/// The name of the part: its service, database, backend and stream.
pub const SERVICE: &str = "ui";

/// Starts the part over its database. It has no background tasks.
pub fn start(pool: &PgPool, authority: &Authority) -> Arc<dyn UiApi> {
    Arc::new(Ui::new(Store::new(pool.clone()), authority.clone()))
}

/// The routes of the browser app, of the ui API, and of the documents of every API.
pub fn router(api: Arc<dyn UiApi>, verify: Arc<dyn VerifyToken>) -> Router {
    pages::router().merge(ui::router(api, verify)).merge(docs::router())
}

/// Runs the service as a process, until a signal or an error ends it.
pub async fn main() -> ExitCode {
    process::main(Service::named(SERVICE), |config: &ServiceConfig| config, build).await
}

/// Connects to everything the service needs and starts it.
pub async fn build(config: ServiceConfig, background: Background, registry: Registry) -> anyhow::Result<App> {
    let Connections { pool, events, verifier, authority, forwarding } =
        Connections::open(SERVICE, &config, &MIGRATIONS, &registry, &background).await?;
    let forward = forwarding.layer::<dyn UiApi>(SERVICE, |url, http| Arc::new(UiClient::new(url, http)));
    let api: Arc<dyn UiApi> = Arc::new(Layered::new(forward, start(&pool, &authority)));
    let api = Arc::new(Layered::new(WriteLimit::new(&config.limits), api));
    publish_journal(SERVICE, &pool, &events, events::map, &background);
    let (url, keys) = (&config.internal_listener.url, &config.handover);
    let handover = flack_replication::start(SERVICE, &pool, &authority, Some(url), keys, &background);
    let router = router(api, verifier).merge(handover);
    Ok(App { router, readiness: Readiness::new().database(&pool) })
}
