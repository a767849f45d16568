//! The preview worker: fetches the pages that messages link and adds their previews to the messages.
//!
//! Jobs are rows of `link_previews`, so that a killed process loses none: another worker takes the job when its lease
//! ends.

use std::{sync::Arc, time::Duration};

use flack_api::{Context, events::PreviewModel};
use flack_common::{
    authority::Ownership,
    fetch::{FetchError, PublicFetcher},
};
use tokio::{
    sync::Notify,
    task::{JoinError, JoinSet},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use url::Url;

use crate::{page, render, store::Store};

/// After this many attempts the link stays without a preview.
pub const ATTEMPTS_MAX: i16 = 3;

/// How long a worker owns a job. Much longer than a fetch, so that only jobs of killed workers are taken twice.
pub const LEASE: Duration = Duration::from_secs(30);

/// Pause before the second attempt; four times as long before the third.
const BACK_OFF: Duration = Duration::from_secs(15);

/// Pages that one process fetches at the same time.
const FETCHES_MAX: usize = 8;

/// Pause between two polls for jobs of killed workers and for repeated attempts.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// A page to fetch.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Job {
    pub id: i64,
    pub message_id: i64,
    pub url: String,
    /// Includes the current one.
    pub attempts: i16,
    pub correlation_id: String,
}

/// The outcome of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// None: the page has neither title nor description.
    Fetched(Option<PreviewModel>),
    Failed,
    TryAgain(Duration),
}

impl Outcome {
    /// Returns the columns of `link_previews`: state, title, description, seconds until the next attempt.
    pub fn columns(&self) -> (&'static str, Option<&str>, Option<&str>, f64) {
        match self {
            Self::Fetched(None) => ("fetched", None, None, 0.0),
            Self::Fetched(Some(preview)) => ("fetched", Some(&preview.title), preview.description.as_deref(), 0.0),
            Self::Failed => ("failed", None, None, 0.0),
            Self::TryAgain(delay) => ("pending", None, None, delay.as_secs_f64()),
        }
    }
}

/// Works until `stopping`, while this process owns messages. `linked` wakes it when there may be jobs.
pub async fn run(
    store: Store,
    fetcher: PublicFetcher,
    linked: Arc<Notify>,
    ownership: Ownership,
    stopping: CancellationToken,
) {
    let mut running = JoinSet::new();
    while !stopping.is_cancelled() {
        let free = FETCHES_MAX - running.len();
        if free > 0 && ownership.is_held() {
            match store.take(i64::try_from(free).unwrap_or(1)).await {
                Ok(jobs) => {
                    for job in jobs {
                        running.spawn(work(store.clone(), fetcher.clone(), job));
                    }
                }
                Err(error) => warn!(%error, "could not take preview jobs; trying again"),
            }
        }
        tokio::select! {
            Some(ended) = running.join_next() => log_panic(ended),
            () = linked.notified() => {}
            () = sleep(POLL_INTERVAL) => {}
            () = stopping.cancelled() => {}
        }
    }
    // Running fetches end within seconds; an abandoned job would have to wait for the end of its lease.
    while let Some(ended) = running.join_next().await {
        log_panic(ended);
    }
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        warn!(%error, "a preview job panicked; it is repeated when its lease ends");
    }
}

/// Fetches the page of a job and stores the outcome.
async fn work(store: Store, fetcher: PublicFetcher, job: Job) {
    let (message_id, correlation_id) = (job.message_id, &*job.correlation_id);
    let context = Context { correlation_id: correlation_id.to_owned(), ..Context::background() };
    let outcome = match fetch(&fetcher, &job.url).await {
        Ok(preview) => {
            debug!(message.id = message_id, correlation_id, found = preview.is_some(), "fetched a linked page");
            Outcome::Fetched(preview)
        }
        Err(error) if error.is_retryable() && job.attempts < ATTEMPTS_MAX => {
            debug!(%error, message.id = message_id, correlation_id, "cannot fetch a linked page; trying again later");
            Outcome::TryAgain(back_off(job.attempts))
        }
        Err(error) => {
            info!(%error, message.id = message_id, correlation_id, "no preview of a linked page");
            Outcome::Failed
        }
    };
    if let Err(error) = store.finish(&context, &job, &outcome, render::render).await {
        warn!(%error, message.id = message_id, correlation_id, "could not store a preview; it is fetched again");
    }
}

async fn fetch(fetcher: &PublicFetcher, address: &str) -> Result<Option<PreviewModel>, FetchError> {
    let page = fetcher.fetch(address).await?;
    // The preview links the author's address, not the one that it was redirected to.
    Ok(Url::parse(address).ok().and_then(|url| page::preview(&url, &page.body)))
}

fn back_off(attempts: i16) -> Duration {
    BACK_OFF * 4_u32.pow(u32::from(attempts.unsigned_abs()).saturating_sub(1))
}
