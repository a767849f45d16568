//! Migrations at the start of a process.
//!
//! The shared tables (journal, inbox) come first; every database has them. They have a version table of their own, so
//! that their numbers cannot collide with those of a service. When several instances start at once, a lock in the
//! database lets one migrate while the others wait.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use sqlx::{
    PgConnection, PgPool,
    migrate::{MigrateError, Migrator},
};
use tokio::time::timeout;

const SHARED_VERSIONS: &str = "_flack_shared_migrations";
/// Enough for a migration that rebuilds a table.
const MIGRATE_TIMEOUT: Duration = Duration::from_mins(2);

/// Applies the shared migrations, then those of `service`. Applied migrations are skipped.
pub async fn migrate(pool: &PgPool, service: &Migrator) -> anyhow::Result<()> {
    timeout(MIGRATE_TIMEOUT, migrate_without_timeout(pool, service)).await.map_err(|_| {
        anyhow!(
            "migrations have not ended within {} s; pg_stat_activity shows which session holds the lock",
            MIGRATE_TIMEOUT.as_secs()
        )
    })?
}

async fn migrate_without_timeout(pool: &PgPool, service: &Migrator) -> anyhow::Result<()> {
    let mut connection = pool.acquire().await.context("no connection for the migrations")?;
    // The migrator's lock and the missing statement timeout belong to the session: it must not return to the pool.
    connection.close_on_drop();
    sqlx::query("set statement_timeout = 0").execute(&mut *connection).await?;

    let mut shared = sqlx::migrate!("../migrations/shared");
    shared.dangerous_set_table_name(SHARED_VERSIONS);
    apply("shared", shared, &mut connection).await?;
    apply("own", Migrator::with_migrations(service.iter().cloned().collect()), &mut connection).await
}

async fn apply(which: &str, mut migrator: Migrator, connection: &mut PgConnection) -> anyhow::Result<()> {
    // In a rolling upgrade, and after a rollback, the database may have newer migrations. They only add, so an older
    // instance works with them.
    migrator.set_ignore_missing(true);
    migrator.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::VersionMismatch(version) => anyhow!(
            "{which} migration {version} has changed since it was applied to this database. If an unreleased version \
             made the database, `bin/mfdown --purge` deletes the old data, and `bin/mfup` starts with an empty \
             database. If you edited a released migration, restore the file and add a new migration instead"
        ),
        error => anyhow::Error::new(error).context(format!("the {which} migrations failed")),
    })
}
