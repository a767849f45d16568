//! Whether this instance can serve: a list of named checks, for the balancer and before registration.
//!
//! Only what every request needs belongs here. NATS does not: while it is unavailable, changes wait in the journal,
//! and requests are served.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use sqlx::PgPool;
use tokio::time::timeout;

use crate::database;

/// Short, because the balancer checks several times a second.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

type Check = Arc<dyn Fn() -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

/// The checks in their order.
#[derive(Clone, Default)]
pub struct Readiness {
    checks: Vec<(&'static str, Check)>,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.checks.iter().map(|(name, _)| name)).finish()
    }
}

impl Readiness {
    /// Returns a readiness without checks: always ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check; `/ready` shows `name` when it fails.
    #[must_use]
    pub fn check<F>(mut self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.checks.push((name, Arc::new(move || check().boxed())));
        self
    }

    /// Adds the check that the process's own database answers.
    #[must_use]
    pub fn database(self, pool: &PgPool) -> Self {
        let pool = pool.clone();
        self.check("database", move || {
            let pool = pool.clone();
            async move { Ok(database::ping(&pool).await?) }
        })
    }

    /// Returns name and error of the first check that fails.
    pub(super) async fn failing(&self) -> Option<(&'static str, String)> {
        for (name, check) in &self.checks {
            match timeout(CHECK_TIMEOUT, check()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Some((name, format!("{error:#}"))),
                Err(_) => return Some((name, format!("no answer within {} s", CHECK_TIMEOUT.as_secs()))),
            }
        }
        None
    }
}
