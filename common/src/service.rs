//! The connections that every service opens before its part starts.

use std::sync::Arc;

use sqlx::{PgPool, migrate::Migrator};

use crate::{
    auth::Verifier,
    config::ServiceConfig,
    database,
    events::{Events, JetStream},
    process::Background,
    registry::Registry,
};

/// The connections of a service.
#[derive(Debug)]
pub struct Connections {
    pub pool: PgPool,
    pub events: Events,
    pub verifier: Arc<Verifier>,
}

impl Connections {
    /// Connects to the database and migrates it, connects to the events, and reads keys and revocations from the
    /// registry.
    pub async fn open(
        config: &ServiceConfig,
        migrations: &Migrator,
        registry: &Registry,
        background: &Background,
    ) -> anyhow::Result<Self> {
        let pool = database::connect(&config.database).await?;
        database::migrate(&pool, migrations).await?;
        let events = Events::JetStream(JetStream::connect(&config.events).await?);
        let verifier = Verifier::from_registry(registry, background).await?;
        Ok(Self { pool, events, verifier })
    }
}
