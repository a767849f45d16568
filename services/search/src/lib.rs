//! Search: finds messages by their words, in the channels that a user can read.
//!
//! Owns an index of words, and nothing else: all of its rows are projections of events of messages and users, and can
//! be rebuilt. It calls no other part, publishes no events, and is no part of the monolith: without it the chat works,
//! except for its search.

pub mod query;
pub mod cursor;
pub mod excerpt;
pub mod store;
pub mod handlers;
pub mod projections;

use std::{process::ExitCode, sync::Arc};

use flack_api::search;
use flack_catalogue::Service;
use flack_common::{
    config::ServiceConfig,
    events::{consume, partitions},
    process::{self, App, Background, Readiness},
    registry::Registry,
    service::Connections,
};
use sqlx::migrate::Migrator;

use crate::{handlers::Search, projections::Projections, store::Store};

/// The tables of the service; those of the inbox are in `flack_common`.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/search");

/// The name of the service, its database and its backend.
pub const SERVICE: &str = "search";

/// Runs the service as a process, until a signal or an error ends it.
pub async fn main() -> ExitCode {
    process::main(Service::named(SERVICE), |config: &ServiceConfig| config, build).await
}

/// Connects to everything the service needs and starts it.
pub async fn build(config: ServiceConfig, background: Background, registry: Registry) -> anyhow::Result<App> {
    let Connections { pool, events, verifier, .. } =
        Connections::open(SERVICE, &config, &MIGRATIONS, &registry, &background).await?;
    // It has no journal; the inbox has partitions, too.
    partitions::maintain(&background, pool.clone());
    consume(Service::named(SERVICE), &pool, &events, &Arc::new(Projections), &background);
    let router = search::router(Arc::new(Search::new(Store::new(pool.clone()))), verifier);
    Ok(App { router, readiness: Readiness::new().database(&pool) })
}
