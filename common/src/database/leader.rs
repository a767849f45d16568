//! Leader election: of many instances, the one that holds an advisory lock does the work.
//!
//! Lock and work share one connection, so a process that has lost the lock cannot continue the work. PostgreSQL ends
//! the session of a leader that sends nothing (its process is stopped, or its machine is gone); then a standby leads.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::{pin, select, time::sleep};

/// PostgreSQL ends the session of a leader that sends nothing for this time. A leader on a busy
/// machine sends something more often.
const IDLE_SECONDS_MAX: u32 = 5;
/// How often a leader pings while it waits for something other than the database.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How often a standby tries to get the lock.
const STANDBY_INTERVAL: Duration = Duration::from_millis(250);

/// Waits until this process is the leader of `work` on `subject` ("" if there is only one), such as the inbox of one
/// stream. Returns the connection that holds the lock.
///
/// The connection has to be in use, or in [`keep_alive`], all the time. A crash of the database may undo its latest
/// commits, so the work must be repeatable.
pub async fn acquire(pool: &PgPool, work: &str, subject: &str) -> sqlx::Result<PgConnection> {
    let idle_max = format!("{IDLE_SECONDS_MAX}s");
    let options = PgConnectOptions::clone(&pool.connect_options()).options([
        ("idle_session_timeout", idle_max.as_str()),
        ("idle_in_transaction_session_timeout", idle_max.as_str()),
        // A commit does not wait for the disk. A crash of PostgreSQL may undo the latest commits, never one without all
        // later ones, and the leader repeats this work.
        ("synchronous_commit", "off"),
        // The work is a queue that is usually empty. A plan that is cached then would scan the whole table when the
        // queue has grown.
        ("enable_seqscan", "off"),
    ]);
    let mut connection = PgConnection::connect_with(&options).await?;
    // Polled: a statement that waits for the lock would hold back vacuum all the time.
    while !sqlx::query_scalar::<_, bool>("select pg_try_advisory_lock(hashtext($1), hashtext($2))")
        .bind(work)
        .bind(subject)
        .fetch_one(&mut connection)
        .await?
    {
        sleep(STANDBY_INTERVAL).await;
    }
    Ok(connection)
}

/// Awaits something that does not use the connection, and pings meanwhile. An error means that the lock is lost.
pub async fn keep_alive<T>(connection: &mut PgConnection, waiting: impl Future<Output = T>) -> sqlx::Result<T> {
    pin!(waiting);
    loop {
        select! {
            output = &mut waiting => return Ok(output),
            () = sleep(PING_INTERVAL) => connection.ping().await?,
        }
    }
}
