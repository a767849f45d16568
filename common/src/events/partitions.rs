//! Partitions of journal and inbox: made ahead, dropped after `JOURNAL_RETENTION_DAYS`.

use std::time::Duration;

use sqlx::PgPool;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{JOURNAL_RETENTION_DAYS, relay::jittered};

/// A process may be down over a weekend; rows without a partition go to the default one.
const DAYS_AHEAD: i32 = 3;
const INTERVAL: Duration = Duration::from_hours(1);
/// After a failure, most likely a lock that was not to be had at once.
const RETRY_INTERVAL: Duration = Duration::from_mins(1);

/// Runs until `stopping`. Each instance of a service does; one at a time works, the others find nothing to do.
pub async fn maintain(pool: PgPool, stopping: CancellationToken) {
    while !stopping.is_cancelled() {
        let pause = match maintain_once(&pool).await {
            Ok((0, 0)) => INTERVAL,
            Ok((made, dropped)) => {
                info!(made, dropped, "partitions of journal and inbox");
                INTERVAL
            }
            Err(error) => {
                warn!(%error, "partitions could not be made or dropped; trying again");
                RETRY_INTERVAL
            }
        };
        stopping.run_until_cancelled(sleep(jittered(pause))).await;
    }
}

/// How many were made and dropped.
pub async fn maintain_once(pool: &PgPool) -> sqlx::Result<(i32, i32)> {
    let mut transaction = pool.begin().await?;
    // Attaching and dropping lock a parent for a moment: behind a long statement, give up instead of making all others wait.
    sqlx::query("set local lock_timeout = '2s'").execute(&mut *transaction).await?;
    sqlx::query("set local statement_timeout = '60s'").execute(&mut *transaction).await?;
    let counts = sqlx::query_as("select made, dropped from maintain_partitions($1, $2, $2)")
        .bind(DAYS_AHEAD)
        .bind(JOURNAL_RETENTION_DAYS)
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(counts)
}
