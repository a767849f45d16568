//! The connections that every service opens before its part starts.

use std::sync::Arc;

use sqlx::{PgPool, migrate::Migrator};

use crate::{
    auth::Verifier,
    authority::Authority,
    config::ServiceConfig,
    database,
    events::{Events, JetStream},
    forward::Forwarding,
    process::Background,
    registry::Registry,
};

/// The connections of a service.
#[derive(Debug)]
pub struct Connections {
    pub pool: PgPool,
    pub events: Events,
    pub verifier: Arc<Verifier>,
    /// The fences of the database follow it already.
    pub authority: Authority,
    /// For the layer around the API of the service's part.
    pub forwarding: Forwarding,
}

impl Connections {
    /// Connects to the database and migrates it, connects to the events, and reads owners, keys and revocations from
    /// the registry. `service` is the process's service.
    pub async fn open(
        service: &'static str,
        config: &ServiceConfig,
        migrations: &Migrator,
        registry: &Registry,
        background: &Background,
    ) -> anyhow::Result<Self> {
        let pool = database::connect(&config.database).await?;
        database::migrate(&pool, migrations).await?;
        let authority = Authority::from_registry(service, registry).await?;
        authority.keep_fences(&pool, background).await?;
        let forwarding = Forwarding::new(&authority, Some(&config.internal_listener.url), &pool, background);
        let events = Events::JetStream(JetStream::connect(&config.events).await?);
        let verifier = Verifier::from_registry(registry, background).await?;
        Ok(Self { pool, events, verifier, authority, forwarding })
    }
}
