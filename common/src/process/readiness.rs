//! Whether this instance can serve: a list of named checks. The balancer and the registry go by it.
//!
//! Only what every request needs belongs here. The events pipeline does not: when it is away, changes wait
//! in the journal, and requests are served as ever.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use sqlx::PgPool;
use tokio::time::timeout;

use crate::database;

/// A check that takes longer has failed: the balancer asks several times a second.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

type Check = Arc<dyn Fn() -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

/// The checks, in the order in which they are made.
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
    /// Ready from the start; add what has to be checked.
    pub fn new() -> Self {
        Self::default()
    }

    /// `name` is what people are told when it fails.
    #[must_use]
    pub fn check<F>(mut self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.checks.push((name, Arc::new(move || check().boxed())));
        self
    }

    /// The process's own database answers.
    #[must_use]
    pub fn database(self, pool: &PgPool) -> Self {
        let pool = pool.clone();
        self.check("database", move || {
            let pool = pool.clone();
            async move { database::ping(&pool).await }
        })
    }

    /// The name of the first check that fails, and why.
    pub(super) async fn failing(&self) -> Option<(&'static str, String)> {
        for (name, check) in &self.checks {
            match timeout(CHECK_TIMEOUT, check()).await {
                Ok(Ok(())) => {}
                Ok(Err(problem)) => return Some((name, format!("{problem:#}"))),
                Err(_) => return Some((name, format!("no answer within {} s", CHECK_TIMEOUT.as_secs()))),
            }
        }
        None
    }
}
