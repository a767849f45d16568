//! Migrations at the start of a process.
//!
//! The shared tables (journal, inbox) come first; every database has them. They have a version table of their own, so
//! that their numbers cannot collide with those of a service. When several instances start at once, a lock in the
//! database lets one migrate while the others wait.
//!
//! Other instances use the tables meanwhile. So a migration waits for a table for a short time only, gives up, and is
//! repeated: while it waits, every later statement on the table waits behind it. What a migration must not contain is
//! checked by `bin/mfcheck migrations`.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use backon::{ConstantBuilder, Retryable};
use sqlx::{
    AssertSqlSafe, PgConnection, PgPool,
    migrate::{MigrateError, Migration, Migrator},
};
use tokio::time::{sleep, timeout};
use tracing::warn;

const SHARED_VERSIONS: &str = "_flack_shared_migrations";
/// Enough for a migration that builds an index of a large table.
const MIGRATE_TIMEOUT: Duration = Duration::from_mins(2);
/// Statements of other instances wait at most this long because of a migration that waits for a table.
const LOCK_TIMEOUT_MS: u32 = 1_000;
/// The time between two attempts, in which the other instances' statements run.
const LOCKED_INTERVAL: Duration = Duration::from_secs(1);
/// How often an instance asks whether another one has ended its migrations.
const TURN_INTERVAL: Duration = Duration::from_millis(20);

/// Applies the shared migrations, then those of `service`. Applied migrations are skipped.
pub async fn migrate(pool: &PgPool, service: &Migrator) -> anyhow::Result<()> {
    let attempts = (|| migrate_once(pool, service))
        .retry(ConstantBuilder::new().with_delay(LOCKED_INTERVAL).without_max_times())
        .when(is_lock_timeout)
        .notify(|error, _| warn!(error = format!("{error:#}"), "a table is in use; trying again"));
    timeout(MIGRATE_TIMEOUT, attempts).await.map_err(|_| {
        anyhow!(
            "migrations have not ended within {} s; pg_stat_activity shows which session holds the lock",
            MIGRATE_TIMEOUT.as_secs()
        )
    })?
}

async fn migrate_once(pool: &PgPool, service: &Migrator) -> anyhow::Result<()> {
    let mut connection = pool.acquire().await.context("no connection for the migrations")?;
    // The locks and timeouts belong to the session: it must not return to the pool.
    connection.close_on_drop();
    sqlx::query("set statement_timeout = 0").execute(&mut *connection).await?;
    wait_for_turn(&mut connection).await?;

    apply("shared", sqlx::migrate!("../migrations/shared").iter(), Some(SHARED_VERSIONS), &mut connection).await?;
    apply("own", service.iter(), None, &mut connection).await
}

/// Waits until no other instance migrates this database. The migrator has a lock as well, but whoever waits for that
/// one is a running statement, for which `create index concurrently` waits: a deadlock.
async fn wait_for_turn(connection: &mut PgConnection) -> sqlx::Result<()> {
    let mut take = async || {
        sqlx::query_scalar("select pg_try_advisory_lock(hashtext('flack migrations'), 0)")
            .fetch_one(&mut *connection)
            .await
    };
    while !take().await? {
        sleep(TURN_INTERVAL).await;
    }
    Ok(())
}

async fn apply(
    which: &str,
    migrations: impl Iterator<Item = &Migration>,
    versions: Option<&'static str>,
    connection: &mut PgConnection,
) -> anyhow::Result<()> {
    let migrations: Vec<Migration> = migrations.cloned().collect();
    for group in migrations.chunk_by(|one, next| one.no_tx == next.no_tx) {
        if group[0].no_tx {
            prepare_without_transaction(connection).await?;
        } else {
            sqlx::query(AssertSqlSafe(format!("set lock_timeout = {LOCK_TIMEOUT_MS}")))
                .execute(&mut *connection)
                .await?;
        }
        let mut migrator = Migrator::with_migrations(group.to_vec());
        if let Some(versions) = versions {
            migrator.dangerous_set_table_name(versions);
        }
        // In a rolling upgrade, and after a rollback, the database may have newer migrations. They only add, so an
        // older instance works with them. The other groups are missing as well.
        migrator.set_ignore_missing(true);
        migrator.run_direct(None, connection, false).await.map_err(|error| match error {
            MigrateError::VersionMismatch(version) => anyhow!(
                "{which} migration {version} has changed since it was applied to this database. If an unreleased \
                 version made the database, `bin/mfdown --purge` deletes the old data, and `bin/mfup` starts with an \
                 empty database. If you edited a released migration, restore the file and add a new migration instead"
            ),
            error => anyhow::Error::new(error).context(format!("the {which} migrations failed")),
        })?;
    }
    Ok(())
}

/// Prepares for `create index concurrently`, which blocks no statement, but waits for all older transactions. An
/// attempt that was interrupted leaves an invalid index, which would make the next one fail.
async fn prepare_without_transaction(connection: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::query("set lock_timeout = 0").execute(&mut *connection).await?;
    // The indexes of partitioned tables (relkind I) are invalid until every partition has one.
    let invalid: Vec<String> = sqlx::query_scalar(
        "select indexrelid::regclass::text
         from pg_index inner join pg_class on pg_class.oid = indexrelid
         where not indisvalid and relkind = 'i' and relnamespace = current_schema()::regnamespace",
    )
    .fetch_all(&mut *connection)
    .await?;
    for index in invalid {
        warn!(index, "dropping an index whose creation was interrupted");
        // A name from the catalog, quoted by `regclass`.
        sqlx::query(AssertSqlSafe(format!("drop index concurrently {index}"))).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Whether the error is PostgreSQL's `lock_not_available`.
fn is_lock_timeout(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<sqlx::Error>())
        .any(|error| error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() == Some("55P03"))
}
