//! The process's own database: connect, migrate, write with a correlation id, and say what went wrong.
//!
//! Statements are not here: each part keeps its SQL in its own `store.rs`.

pub mod leader;
mod error;
mod migrations;

use std::{str::FromStr, time::Duration};

use anyhow::bail;
use flack_api::{Context, is_correlation_id};
use secrecy::ExposeSecret;
use sqlx::{
    AssertSqlSafe, Connection as _, PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::{config::DatabaseConfig, telemetry};

pub use error::{OnConstraint, StoreError, StoreResult, problem};
pub use migrations::migrate;

/// How long a request waits for a free connection; a queue longer than that is better told to come back.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// No statement of a request takes longer; work that must sets its own limit with `set local statement_timeout`.
const STATEMENT_SECONDS_MAX: u32 = 5;
/// A transaction that nobody goes on with holds locks and old rows; the server ends it.
const IDLE_IN_TRANSACTION_SECONDS_MAX: u32 = 15;
/// A connection that was used so recently is taken as it is; one that was idle for longer is asked first.
const TRUSTED_IDLE_TIME: Duration = Duration::from_millis(500);
/// At the start of everything the database may be some seconds behind us; longer means that it is not there.
const CONNECT_SECONDS_MAX: u64 = 10;
const CONNECT_PAUSE: Duration = Duration::from_millis(250);

/// Opens the pool, and waits for the database a bounded time.
pub async fn connect(config: &DatabaseConfig) -> anyhow::Result<PgPool> {
    // The cause of a parse error may quote the URL, which holds the password.
    let options = PgConnectOptions::from_str(config.url.expose_secret()).map_err(|_| {
        anyhow::anyhow!(
            "DATABASE_URL is no database address; give postgres://user:password@host:port/database"
        )
    })?;
    let options = options.application_name(&telemetry::process_name()).options([
        ("statement_timeout", format!("{STATEMENT_SECONDS_MAX}s")),
        ("idle_in_transaction_session_timeout", format!("{IDLE_IN_TRANSACTION_SECONDS_MAX}s")),
        // No statement of ours is long enough to be worth compiling.
        ("jit", "off".to_owned()),
    ]);
    let place = format!(
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
            Box::pin(
                async move { Ok(metadata.idle_for < TRUSTED_IDLE_TIME || connection.ping().await.is_ok()) },
            )
        })
        .connect_lazy_with(options);

    let deadline = Instant::now() + Duration::from_secs(CONNECT_SECONDS_MAX);
    loop {
        let Err(problem) = pool.acquire().await else { return Ok(pool) };
        // The error's own words hold its cause; as a chain it would be told twice.
        if !is_worth_waiting(&problem) {
            bail!("{place} refuses us; check the user, password and database in DATABASE_URL: {problem}");
        }
        if Instant::now() >= deadline {
            bail!(
                "{place} has not answered for {CONNECT_SECONDS_MAX} s; start it, or correct DATABASE_URL: {problem}"
            );
        }
        warn!(error = %problem, "{place} does not answer yet; trying again");
        sleep(CONNECT_PAUSE).await;
    }
}

/// A transaction whose changes the journal records under the request's correlation id.
pub async fn begin(pool: &PgPool, context: &Context) -> sqlx::Result<Transaction<'static, Postgres>> {
    // Checked where it came in. What is no correlation id is not written into a statement.
    let correlation_id =
        Some(&*context.correlation_id).filter(|id| is_correlation_id(id)).unwrap_or_default();
    // Both at once: a way to the database and back less, while others wait for the connection.
    pool.begin_with(AssertSqlSafe(format!("begin; set local flack.correlation_id = '{correlation_id}'")))
        .await
}

/// Whether `pool` can serve: an idle connection answers, or all are at work (busy is not away).
pub(crate) async fn ping(pool: &PgPool) -> anyhow::Result<()> {
    let connection = match pool.try_acquire() {
        Some(connection) => connection,
        None if pool.size() >= pool.options().get_max_connections() => return Ok(()),
        None => pool.acquire().await?,
    };
    let mut connection = connection;
    let one: i32 = sqlx::query_scalar("select 1").fetch_one(&mut *connection).await?;
    if one != 1 {
        bail!("the database answered {one} for select 1");
    }
    Ok(())
}

/// While it starts (57P03), or is not there at all, the next try may succeed; a wrong password stays wrong.
fn is_worth_waiting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(database) => database.code().as_deref() == Some("57P03"),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
