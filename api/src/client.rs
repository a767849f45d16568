//! The common code of all generated clients: deadline, retries where they are safe, and errors.

mod builder;
mod call;
mod reply;

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use reqwest::Request;
use tracing::{error, warn};
use url::Url;

pub use builder::http_client_builder;
pub use call::Call;
use reply::Reply;

use crate::{Context, OperationInfo, Problem};

/// The longest duration of a call, including retries: longer than a change of owner keeps a write of the called service
/// (`flack_common::forward`), and shorter than the deadline of the request that makes the call
/// (`flack_common::process::REQUEST_SECONDS_MAX`).
pub const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// The balancer detects a dead instance within milliseconds, and a frozen one within a second: an attempt of a call
/// that can be repeated takes no longer, and at most half of the time that is left. The last attempt takes all of it,
/// and so does a call with a password: each attempt would be one more guess, and one more hash. More attempts would add
/// load to an overloaded service.
const ATTEMPT_MAX: Duration = Duration::from_secs(1);
const RETRIES_MAX: usize = 2;
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(20);

/// A service at a base URL.
#[derive(Debug, Clone)]
pub struct Peer {
    base_url: String,
    http: reqwest::Client,
}

/// Reason of a failed attempt.
enum Failure {
    /// No response, or an incomplete one.
    Away(reqwest::Error),
    /// A problem that the service returned.
    Answered(Problem),
}

impl Peer {
    pub fn new(base_url: &str, http: reqwest::Client) -> Self {
        Self { base_url: base_url.to_owned(), http }
    }

    /// Sends the call until there is a response, no retry is left, or the deadline is near.
    pub async fn send(&self, context: &Context, call: Call) -> Result<Reply, Problem> {
        let operation = call.operation;
        let base_url = Url::parse(&self.base_url).map_err(|problem| {
            let (service, base_url) = (operation.service, &self.base_url);
            error!(%problem, service, base_url, "the base URL of a service is not a URL");
            Problem::internal()
        })?;
        let safe_to_repeat = call.is_safe_to_repeat();
        let request = call.build(base_url, context);
        let end = context.deadline.into_iter().fold(Instant::now() + CALL_DEADLINE, Instant::min);
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(RETRY_PAUSE_MIN)
            .with_max_times(if safe_to_repeat { RETRIES_MAX } else { 0 })
            .with_jitter()
            .build();
        loop {
            let copy = request.try_clone().expect("a call's body is in memory");
            let pause = pauses.next();
            let left = end.saturating_duration_since(Instant::now());
            let time = if pause.is_some() && !operation.needs_password { (left / 2).min(ATTEMPT_MAX) } else { left };
            let failure = match self.attempt(copy, operation, time).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            let pause = pause.filter(|pause| failure.is_transient() && Instant::now() + *pause < end);
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(give_up(context, operation, failure)),
            }
        }
    }

    async fn attempt(
        &self,
        mut request: Request,
        operation: &'static OperationInfo,
        time: Duration,
    ) -> Result<Reply, Failure> {
        call::set_deadline(&mut request, time);
        let response = self.http.execute(request).await.map_err(Failure::Away)?;
        reply::read(response, operation).await
    }
}

fn give_up(context: &Context, operation: &OperationInfo, failure: Failure) -> Problem {
    match failure {
        Failure::Answered(problem) => problem,
        Failure::Away(error) => {
            warn!(
                service = operation.service,
                operation = operation.id,
                correlation_id = context.correlation_id,
                error = ?error.without_url(),
                "a service cannot be reached"
            );
            Problem::unavailable(operation.service)
        }
    }
}

impl Failure {
    fn is_transient(&self) -> bool {
        match self {
            Self::Away(_) => true,
            Self::Answered(problem) => problem.status == 503,
        }
    }
}
