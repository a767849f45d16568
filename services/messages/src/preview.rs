//! Fetches the pages that messages link, beside the requests, and survives a kill: what is to be done stands in the
//! database, in the row that will hold the result.
//!
//! The monolith links this module too; each side has its own `PreviewQueue`, over its own database.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use flack_api::Context;
use flack_common::fetch::{FetchError, PublicFetcher};
use tokio::{
    sync::Notify,
    task::{JoinError, JoinSet},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use url::Url;

use crate::{page, render::Preview};

/// A page is tried so often; then its link stays without preview.
pub const ATTEMPTS_MAX: i16 = 3;

/// Whoever takes a job has so long: far longer than a fetch may take, so that only the work of the dead is taken twice.
pub const LEASE: Duration = Duration::from_secs(30);

/// Before the second attempt; four times as long before the third.
const BACK_OFF: Duration = Duration::from_secs(15);

/// Pages fetched at once by one process.
const FETCHES_MAX: usize = 8;

/// How often to look for work that nobody told us of: what others left undone, and what is to be tried again.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// One page to fetch.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Job {
    pub id: i64,
    pub message_id: i64,
    pub url: String,
    /// With this one.
    pub attempts: i16,
    pub correlation_id: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing inside when the page says nothing of itself.
    Fetched(Option<Preview>),
    Failed,
    TryAgain(Duration),
}

impl Outcome {
    /// As `link_previews` stores it: state, title, description, seconds until the next attempt.
    pub fn columns(&self) -> (&'static str, Option<&str>, Option<&str>, f64) {
        match self {
            Self::Fetched(None) => ("fetched", None, None, 0.0),
            Self::Fetched(Some(preview)) => {
                ("fetched", Some(&preview.title), preview.description.as_deref(), 0.0)
            }
            Self::Failed => ("failed", None, None, 0.0),
            Self::TryAgain(delay) => ("pending", None, None, delay.as_secs_f64()),
        }
    }
}

/// Where the work is written down.
#[async_trait]
pub trait PreviewQueue: Send + Sync + 'static {
    /// Up to `limit` jobs whose time has come. They are ours for `LEASE`; each has at most `ATTEMPTS_MAX` attempts.
    async fn take(&self, limit: i64) -> sqlx::Result<Vec<Job>>;

    /// Stores the outcome and renders the message anew. A job that was finished or dropped meanwhile is none.
    async fn finish(&self, context: &Context, job: &Job, outcome: &Outcome) -> sqlx::Result<()>;
}

/// Works until `stopping`: at once when `linked` says that there may be work, at intervals else. Pauses while `owns` says
/// that messages belong to somebody else.
pub async fn run(
    queue: Arc<dyn PreviewQueue>,
    fetcher: PublicFetcher,
    linked: Arc<Notify>,
    owns: impl Fn() -> bool + Send,
    stopping: CancellationToken,
) {
    let mut running = JoinSet::new();
    while !stopping.is_cancelled() {
        let free = FETCHES_MAX - running.len();
        if free > 0 && owns() {
            match queue.take(i64::try_from(free).unwrap_or(1)).await {
                Ok(jobs) => {
                    for job in jobs {
                        running.spawn(work(Arc::clone(&queue), fetcher.clone(), job));
                    }
                }
                Err(error) => warn!(%error, "could not look for pages to preview; trying again"),
            }
        }
        tokio::select! {
            Some(ended) = running.join_next() => tell(ended),
            () = linked.notified() => {}
            () = sleep(LOOK_INTERVAL) => {}
            () = stopping.cancelled() => {}
        }
    }
    // What is under way takes some seconds at most; given up, it would wait for the end of its lease.
    while let Some(ended) = running.join_next().await {
        tell(ended);
    }
}

fn tell(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        warn!(%error, "a preview was given up; it is tried again when its time has come");
    }
}

/// Fetches one page and stores what came of it.
async fn work(queue: Arc<dyn PreviewQueue>, fetcher: PublicFetcher, job: Job) {
    let context = Context { correlation_id: job.correlation_id.clone(), traceparent: None, deadline: None };
    let outcome = fetch(&fetcher, &job).await;
    if let Err(error) = queue.finish(&context, &job, &outcome).await {
        warn!(%error, message.id = job.message_id, correlation_id = context.correlation_id, "could not store a preview; it is fetched again");
    }
}

async fn fetch(fetcher: &PublicFetcher, job: &Job) -> Outcome {
    match read(fetcher, &job.url).await {
        Ok(preview) => {
            debug!(
                message.id = job.message_id,
                correlation_id = job.correlation_id,
                found = preview.is_some(),
                "read a linked page"
            );
            Outcome::Fetched(preview)
        }
        Err(error) if error.is_retryable() && job.attempts < ATTEMPTS_MAX => {
            debug!(%error, message.id = job.message_id, correlation_id = job.correlation_id, "could not read a linked page; trying again later");
            Outcome::TryAgain(back_off(job.attempts))
        }
        Err(error) => {
            info!(%error, message.id = job.message_id, correlation_id = job.correlation_id, "no preview of a linked page");
            Outcome::Failed
        }
    }
}

async fn read(fetcher: &PublicFetcher, address: &str) -> Result<Option<Preview>, FetchError> {
    let page = fetcher.fetch(address).await?;
    // The link leads where the author wanted, whatever the page was redirected to today.
    Ok(Url::parse(address).ok().and_then(|url| page::preview(&url, &page.body)))
}

fn back_off(attempts: i16) -> Duration {
    BACK_OFF * 4_u32.pow(u32::from(attempts.unsigned_abs()).saturating_sub(1))
}
