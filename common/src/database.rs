//! The process's own database: connection pool, migrations, transactions with a correlation id, errors.
//!
//! SQL statements are not here: each part has its own `store.rs`.

pub mod leader;
mod error;
mod migrations;

use std::{io, str::FromStr, time::Duration};

use anyhow::bail;
use backon::{ConstantBuilder, Retryable};
use flack_api::{Context, is_correlation_id};
use secrecy::ExposeSecret;
use sqlx::{
    AssertSqlSafe, Connection as _, PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::Instant;
use tracing::warn;

use crate::{config::DatabaseConfig, telemetry};

pub use error::{OnConstraint, StoreError, StoreResult};
pub use migrations::migrate;

/// The limit of every statement; longer work sets its own with `set local statement_timeout`.
const STATEMENT_SECONDS_MAX: u32 = 5;
/// How long a request waits for a free connection, or for a new one; after that it gets 503. A slow statement of
/// another request, or a slow disk, does not make it fail.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(STATEMENT_SECONDS_MAX as u64);
/// PostgreSQL ends an idle transaction, because it holds locks and prevents vacuum.
const IDLE_IN_TRANSACTION_SECONDS_MAX: u32 = 15;
/// A connection that was idle for longer is pinged before it is used.
const TRUSTED_IDLE_TIME: Duration = Duration::from_millis(500);
/// When the whole stack starts, the database may be ready some seconds later.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_INTERVAL: Duration = Duration::from_millis(250);

/// Opens the connection pool. Waits up to 10 s for the database; other errors return at once.
pub async fn connect(config: &DatabaseConfig) -> anyhow::Result<PgPool> {
    // The parse error may contain the URL, and with it the password.
    let options = PgConnectOptions::from_str(config.url.expose_secret()).map_err(|_| {
        anyhow::anyhow!("DATABASE_URL is not a database URL; use postgres://user:password@host:port/database")
    })?;
    let options = options.application_name(&telemetry::process_name()).options([
        ("statement_timeout", format!("{STATEMENT_SECONDS_MAX}s")),
        ("idle_in_transaction_session_timeout", format!("{IDLE_IN_TRANSACTION_SECONDS_MAX}s")),
        // Compilation takes longer than it saves: every statement is short.
        ("jit", "off".to_owned()),
    ]);
    let name = format!(
        "database {} at {}:{}",
        options.get_database().unwrap_or_else(|| options.get_username()),
        options.get_host(),
        options.get_port()
    );
    let pool = PgPoolOptions::new()
        .max_connections(config.connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, metadata| {
            Box::pin(async move { Ok(metadata.idle_for < TRUSTED_IDLE_TIME || connection.ping().await.is_ok()) })
        })
        .connect_lazy_with(options);

    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let connected = (async || pool.acquire().await.map(drop))
        .retry(ConstantBuilder::new().with_delay(CONNECT_INTERVAL).without_max_times())
        .when(|error| is_starting(error) && Instant::now() < deadline)
        .notify(|error, _| warn!(%error, "{name} does not answer yet; trying again"))
        .await;
    // The text of `sqlx::Error` contains its cause.
    match connected {
        Ok(()) => Ok(pool),
        Err(error) if is_starting(&error) => bail!(
            "{name} has not answered for {} s; start it, or correct DATABASE_URL: {error}",
            CONNECT_TIMEOUT.as_secs()
        ),
        Err(error) => {
            bail!("{name} cannot be used; check user, password, database and TLS in DATABASE_URL: {error}")
        }
    }
}

/// Begins a transaction; the journal records its changes with the request's correlation id.
pub async fn begin(pool: &PgPool, context: &Context) -> sqlx::Result<Transaction<'static, Postgres>> {
    // The id becomes part of a statement, so an invalid one is left out.
    let correlation_id = Some(&*context.correlation_id).filter(|id| is_correlation_id(id)).unwrap_or_default();
    // One statement saves a round trip.
    pool.begin_with(AssertSqlSafe(format!("begin; set local flack.correlation_id = '{correlation_id}'"))).await
}

/// Checks that the database answers. A pool whose connections are all in use counts as available.
pub(crate) async fn ping(pool: &PgPool) -> sqlx::Result<()> {
    let mut connection = match pool.try_acquire() {
        Some(connection) => connection,
        None if pool.size() >= pool.options().get_max_connections() => return Ok(()),
        None => pool.acquire().await?,
    };
    sqlx::query("select 1").execute(&mut *connection).await?;
    Ok(())
}

/// Whether the database may accept connections soon: it does not listen yet, or it is starting up (57P03).
fn is_starting(error: &sqlx::Error) -> bool {
    match error {
        // A certificate that is not trusted.
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => false,
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(database) => database.code().as_deref() == Some("57P03"),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
