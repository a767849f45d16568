//! Bringing a database to the shape that this version of the process needs.
//!
//! The tables that every owning database has (journal, inbox) come first and have a version table of their
//! own, so that their numbers and a service's numbers do not meet. Several instances may start at once: a
//! lock in the database lets one migrate while the others wait.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use sqlx::{
    PgConnection, PgPool,
    migrate::{MigrateError, Migrator},
};
use tokio::time::timeout;

const SHARED_VERSIONS: &str = "_flack_shared_migrations";
/// One migration may rebuild a table; a process that cannot get there in this time says so instead of hanging.
const MIGRATE_TIMEOUT: Duration = Duration::from_mins(2);

/// Applies the shared migrations, then those of `service`; does nothing when all have been applied.
pub async fn migrate(pool: &PgPool, service: &Migrator) -> anyhow::Result<()> {
    timeout(MIGRATE_TIMEOUT, migrate_without_limit(pool, service)).await.map_err(|_| {
        anyhow!(
            "migrations have not ended within {} s; see pg_stat_activity for who holds the lock",
            MIGRATE_TIMEOUT.as_secs()
        )
    })?
}

async fn migrate_without_limit(pool: &PgPool, service: &Migrator) -> anyhow::Result<()> {
    let mut connection = pool.acquire().await.context("no connection to migrate with")?;
    // The migrator's lock belongs to the session. A migration that fails, or is given up, must not leave it
    // in the pool; neither should this connection's missing time limit get there.
    connection.close_on_drop();
    sqlx::query("set statement_timeout = 0").execute(&mut *connection).await?;

    let mut shared = sqlx::migrate!("../migrations/shared");
    shared.dangerous_set_table_name(SHARED_VERSIONS);
    apply("shared", shared, &mut connection).await?;
    apply("own", Migrator::with_migrations(service.iter().cloned().collect()), &mut connection).await
}

async fn apply(which: &str, mut migrator: Migrator, connection: &mut PgConnection) -> anyhow::Result<()> {
    // In a rolling upgrade, and after a step back, the database may be ahead of us. Migrations only add
    // until nobody needs the old shape, so an older instance can still work.
    migrator.set_ignore_missing(true);
    migrator.run_direct(None, connection, false).await.map_err(|problem| match problem {
        MigrateError::VersionMismatch(version) => anyhow!(
            "{which} migration {version} has changed since it was applied to this database. If the database was made by \
             an unreleased version, `bin/mfdown --purge` deletes the old data, and `bin/mfup` starts with an empty \
             database. If you edited a released migration, restore the file and add a new migration instead"
        ),
        problem => anyhow::Error::new(problem).context(format!("the {which} migrations failed")),
    })
}
