//! What every request passes on its way in and out: a correlation id, a log line, figures, a deadline, a
//! limit, and an answer in the common form even when a handler panics.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use flack_api::{CORRELATION_ID, Problem, accepts_html, is_correlation_id, problem_page};
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::time::timeout;
use tracing::{Instrument, error, info, info_span, warn};
use uuid::Uuid;

use super::{body, probes, problems};
use crate::rate::RequestRate;

/// By then the balancer and whoever waits have given up. Websockets live on: their answer comes at once.
pub const REQUEST_SECONDS_MAX: u64 = 10;

const INSTANCE: HeaderName = HeaderName::from_static("x-flack-instance");
/// In place of a path that no route has: figures must not grow with what strangers ask for.
const UNMATCHED: &str = "unmatched";

/// Shared by all requests of a process.
#[derive(Debug)]
pub struct Edge {
    instance: HeaderValue,
    in_flight: AtomicUsize,
}

impl Edge {
    pub fn new(instance: &str) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self { instance: instance.parse()?, in_flight: AtomicUsize::new(0) }))
    }

    /// Requests that have not been answered yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// Counts down also when the client goes away and the request is dropped.
struct InFlight(Arc<Edge>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The middleware in front of everything.
pub async fn pass(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    edge.in_flight.fetch_add(1, Ordering::Relaxed);
    let in_flight = InFlight(Arc::clone(&edge));
    let correlation_id = correlation_id(request.headers());
    let accepts_html = accepts_html(request.headers());
    let header = HeaderValue::from_str(&correlation_id).expect("checked, or made of plain characters");
    // Handlers find it where clients put it.
    request.headers_mut().insert(CORRELATION_ID, header.clone());

    let span = info_span!("request", correlation_id);
    let mut response = observed(request, next, &correlation_id).instrument(span).await;
    drop(in_flight);
    if accepts_html {
        response = problem_page(response);
    }
    response.headers_mut().insert(CORRELATION_ID, header);
    response.headers_mut().insert(INSTANCE, edge.instance.clone());
    response
}

/// The client's, when it can stand in a log line and a header as it is; else a new one.
fn correlation_id(headers: &HeaderMap) -> String {
    headers
        .get(CORRELATION_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| is_correlation_id(id))
        .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

async fn observed(request: Request, next: Next, correlation_id: &str) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let is_probe = probes::PATHS.contains(&request.uri().path());

    let response = guarded(request, next, correlation_id).await;
    if !is_probe {
        let path = path.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
        tell(&method, path, &response, started.elapsed());
    }
    response
}

fn tell(method: &Method, path: &str, response: &Response, took: Duration) {
    let status = response.status();
    RequestRate::of_process().record();
    let labels = [
        // Any word can be a method; only the known ones become a label.
        ("method", if is_known(method) { method.to_string() } else { "other".to_owned() }),
        ("path", path.to_owned()),
        ("status", status.as_str().to_owned()),
    ];
    metrics::counter!("http_requests_total", &labels).increment(1);
    metrics::histogram!("http_request_duration_seconds", &labels).record(took.as_secs_f64());

    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if status.is_server_error() {
        warn!(method = %method, path, status = status.as_u16(), ms, "answered");
    } else {
        info!(method = %method, path, status = status.as_u16(), ms, "answered");
    }
}

fn is_known(method: &Method) -> bool {
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS]
        .contains(method)
}

/// Within the limits, and with an answer whatever happens.
async fn guarded(request: Request, next: Next, correlation_id: &str) -> Response {
    let path = request.uri().path().to_owned();
    let request = match body::read(request).await {
        Ok(request) => request,
        Err(problem) => return problems::answer(problem, correlation_id),
    };
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind();
    match timeout(Duration::from_secs(REQUEST_SECONDS_MAX), handled).await {
        Ok(Ok(response)) => problems::complete(response, &path, correlation_id),
        // The panic hook has logged it, with its place, inside the span of this request.
        Ok(Err(_)) => problems::answer(Problem::internal(), correlation_id),
        Err(_) => {
            error!(path, seconds = REQUEST_SECONDS_MAX, "a request ran into its deadline");
            problems::answer(Problem::unavailable("an answer in time"), correlation_id)
        }
    }
}

#[cfg(test)]
mod tests;
