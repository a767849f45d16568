//! Recommend: channels that a user may like, by the words of what the user reads.
//!
//! Leaves to others: channels and messages (messages), and joining a channel. It calls no other part; everything
//! reaches it by events, and a replay rebuilds it. It is not in the monolith.

pub mod projection;
pub mod store;
pub mod handlers;

use std::{process::ExitCode, sync::Arc};

use flack_api::recommend::{self, RecommendApi};
use flack_catalogue::Service;
use flack_common::{
    config::ServiceConfig,
    events::{consume, partitions},
    process::{self, App, Background, Readiness},
    registry::Registry,
    service::Connections,
};
use sqlx::{PgPool, migrate::Migrator};

use crate::{handlers::Recommend, projection::Projection, store::Store};

/// The tables of the service; those of the inbox are in `flack_common`.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/recommend");

/// The name of the service, of its database and its backend.
pub const SERVICE: &str = "recommend";

/// Returns the API over the service's database.
pub fn start(pool: &PgPool) -> Arc<dyn RecommendApi> {
    Arc::new(Recommend::new(Store::new(pool.clone())))
}

/// Runs the service as a process, until a signal or an error ends it.
pub async fn main() -> ExitCode {
    process::main(Service::named(SERVICE), |config: &ServiceConfig| config, build).await
}

/// Connects to everything the service needs and starts it.
pub async fn build(config: ServiceConfig, background: Background, registry: Registry) -> anyhow::Result<App> {
    let Connections { pool, events, verifier, .. } =
        Connections::open(SERVICE, &config, &MIGRATIONS, &registry, &background).await?;
    consume(Service::named(SERVICE), &pool, &events, &Arc::new(Projection), &background);
    partitions::maintain(&background, pool.clone());
    Ok(App { router: recommend::router(start(&pool), verifier), readiness: Readiness::new().database(&pool) })
}
