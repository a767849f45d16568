//! Connections for the most frequent reads, which are kept from one statement to the next. Opening and checking them is
//! left to the pool.
//!
//! sqlx pings each connection that returns to its pool, so that a statement costs two round trips and a task.

use std::sync::{Mutex, PoisonError};

use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use super::{ACQUIRE_TIMEOUT, TRUSTED_IDLE_TIME};

/// The rest of the pool's connections are left to other statements.
const POOL_SHARE: u32 = 2;

#[derive(Debug)]
pub struct Reads {
    pool: PgPool,
    permits: Semaphore,
    kept: Mutex<Vec<(PoolConnection<Postgres>, Instant)>>,
}

/// A connection for one statement. It returns to the pool unless [`Read::keep`] is called.
#[derive(Debug)]
pub struct Read<'a> {
    pub connection: PoolConnection<Postgres>,
    reads: &'a Reads,
    _permit: SemaphorePermit<'a>,
}

impl Reads {
    pub fn new(pool: PgPool) -> Self {
        let connections = (pool.options().get_max_connections() / POOL_SHARE).max(1);
        Self { pool, permits: Semaphore::new(connections as usize), kept: Mutex::default() }
    }

    /// Waits for a connection as long as the pool does.
    pub async fn acquire(&self) -> sqlx::Result<Read<'_>> {
        let permit = timeout(ACQUIRE_TIMEOUT, self.permits.acquire()).await.map_err(|_| sqlx::Error::PoolTimedOut)?;
        let permit = permit.map_err(|_| sqlx::Error::PoolClosed)?;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match kept {
            Some((connection, since)) if since.elapsed() < TRUSTED_IDLE_TIME && !self.pool.is_closed() => connection,
            _ => self.pool.acquire().await?,
        };
        Ok(Read { connection, reads: self, _permit: permit })
    }
}

impl Read<'_> {
    /// Keeps the connection for the next read, after its statement has succeeded.
    pub fn keep(self) {
        let Self { connection, reads, _permit } = self;
        reads.kept.lock().unwrap_or_else(PoisonError::into_inner).push((connection, Instant::now()));
    }
}
