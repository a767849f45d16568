//! Partitions of the journal and the inbox: created ahead, dropped after [`JOURNAL_RETENTION_DAYS`].

use std::time::Duration;

use sqlx::PgPool;
use tracing::info;

use super::stream::JOURNAL_RETENTION_DAYS;
use crate::process::Background;

/// Enough for a process that is down over a weekend; rows without a partition go to the default partition.
const DAYS_AHEAD: i32 = 3;
const INTERVAL: Duration = Duration::from_hours(1);

/// Starts the background task. Every instance has one; while one runs, those of the other instances do nothing.
pub fn maintain(background: &Background, pool: PgPool) {
    background.every("partitions", INTERVAL, move || {
        let pool = pool.clone();
        async move {
            let (created, dropped) = maintain_once(&pool).await?;
            if created + dropped > 0 {
                info!(created, dropped, "partitions of the journal and the inbox have changed");
            }
            Ok::<_, sqlx::Error>(())
        }
    });
}

/// Returns how many partitions were created and dropped.
pub async fn maintain_once(pool: &PgPool) -> sqlx::Result<(i32, i32)> {
    let mut transaction = pool.begin().await?;
    // Attaching and dropping lock the parent for a moment. If a long statement holds the lock, fail, and do not make
    // all other statements wait.
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
