//! One of many instances does a work: the one that holds its advisory lock.
//!
//! Lock and work are on one connection, so that who has lost the one cannot go on with the other. PostgreSQL ends the
//! session of a leader that says nothing any more (its process is stopped, or its machine is gone), and another one leads.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::{pin, select, time::sleep};

/// A leader that has said nothing for so long leads no more. Longer than a busy machine lets a process wait.
const SILENCE_SECONDS_MAX: u32 = 5;
/// How often a leader speaks while it waits for something else than the database.
const SIGN_INTERVAL: Duration = Duration::from_secs(1);
/// How long the work waits when its leader died.
const STANDBY_INTERVAL: Duration = Duration::from_millis(250);

/// The connection of the one that leads `work` on `subject` ("" if there is only one); waits until that is us.
///
/// It has to be used, or [`hold`]ed, all the time. What it commits may be undone by a crash of the database, the latest first:
/// the work must be such that it can be done again.
pub async fn elect(pool: &PgPool, work: &str, subject: &str) -> sqlx::Result<PgConnection> {
    let silence = format!("{SILENCE_SECONDS_MAX}s");
    let options = PgConnectOptions::clone(&pool.connect_options()).options([
        ("idle_session_timeout", silence.as_str()),
        ("idle_in_transaction_session_timeout", silence.as_str()),
        // A crash of PostgreSQL may take back the last moments of the work, never one step without those behind it: they are
        // done again. So nobody waits for the disk here, and the disk has more time for those who must.
        ("synchronous_commit", "off"),
        // What a leader works on is a queue, empty most of the time. A plan that was made then, to read all of it, would be kept
        // when it has grown.
        ("enable_seqscan", "off"),
    ]);
    let mut connection = PgConnection::connect_with(&options).await?;
    // Asked again and again, not waited for in one statement: that would hold back vacuum as long as it waits.
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

/// Does something that does not need the connection, and keeps it meanwhile. An error says that we lead no more.
pub async fn hold<T>(connection: &mut PgConnection, waiting: impl Future<Output = T>) -> sqlx::Result<T> {
    pin!(waiting);
    loop {
        select! {
            outcome = &mut waiting => return Ok(outcome),
            () = sleep(SIGN_INTERVAL) => connection.ping().await?,
        }
    }
}
