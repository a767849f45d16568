//! HTTP middleware of every request: correlation id, log line, metrics, limits, headers against sniffing and caching,
//! and an error answer after a panic.

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
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tokio::time::timeout;
use tracing::{Instrument, debug, error, info, info_span, warn};
use uuid::Uuid;

use super::{
    body, probes,
    problems::{self, INSTANCE, SERVICE, VERSION},
};
use crate::rate::RequestRate;

/// The deadline of a request. Balancer and clients do not wait longer. A websocket may stay open: its HTTP answer (101)
/// is immediate.
pub const REQUEST_SECONDS_MAX: u64 = 10;

/// In the paths of the operations between the sides of a part that moves: some hundred calls in a second.
const HANDOVER: &str = "/handover/";

/// The label of all unknown paths: clients must not be able to create metrics.
const UNMATCHED_PATH: &str = "unmatched";

/// The state of the middleware, shared by all requests of a process.
#[derive(Debug)]
pub struct Requests {
    /// The headers of every answer that name this process.
    process: [(HeaderName, HeaderValue); 3],
    in_flight: AtomicUsize,
}

impl Requests {
    pub fn new(service: &str, instance: &str, version: &str) -> anyhow::Result<Arc<Self>> {
        let process = [(SERVICE, service.parse()?), (INSTANCE, instance.parse()?), (VERSION, version.parse()?)];
        Ok(Arc::new(Self { process, in_flight: AtomicUsize::new(0) }))
    }

    /// The number of requests without an answer.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// A counted request; the count also decreases when the client disconnects and the request is dropped.
struct InFlight(Arc<Requests>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The outermost middleware.
pub async fn handle(State(requests): State<Arc<Requests>>, mut request: Request, next: Next) -> Response {
    requests.in_flight.fetch_add(1, Ordering::Relaxed);
    let in_flight = InFlight(Arc::clone(&requests));
    let correlation_id = correlation_id(request.headers());
    let accepts_html = accepts_html(request.headers());
    let has_credentials = request.headers().contains_key(header::AUTHORIZATION);
    let header = HeaderValue::from_str(&correlation_id).expect("a correlation id has plain characters");
    // Handlers read it from the request's header.
    request.headers_mut().insert(CORRELATION_ID, header.clone());

    let span = info_span!("request", correlation_id);
    let mut response = observe(request, next, &correlation_id).instrument(span).await;
    drop(in_flight);
    if accepts_html {
        response = problem_page(response);
    }
    let headers = response.headers_mut();
    headers.insert(CORRELATION_ID, header);
    for (name, value) in &requests.process {
        headers.insert(name, value.clone());
    }
    // Texts of users must never be taken for a script or a page.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if has_credentials {
        // The answer may be a token, or data of this user. Without credentials everybody gets the same.
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    response
}

/// Returns the client's correlation id if it is valid, else a new one.
fn correlation_id(headers: &HeaderMap) -> String {
    headers
        .get(CORRELATION_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| is_correlation_id(id))
        .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

async fn observe(request: Request, next: Next, correlation_id: &str) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let is_probe = probes::PATHS.contains(&request.uri().path());

    let response = answer(request, next, correlation_id).await;
    if !is_probe {
        let path = path.as_ref().map_or(UNMATCHED_PATH, MatchedPath::as_str);
        record(&method, path, &response, started.elapsed());
    }
    response
}

fn record(method: &Method, path: &str, response: &Response, duration: Duration) {
    let status = response.status();
    RequestRate::of_process().record();
    let labels: [(&'static str, metrics::SharedString); 3] = [
        // HTTP allows any method name; only the standard ones become a label.
        ("method", standard_name(method).into()),
        ("path", path.to_owned().into()),
        ("status", status.as_str().to_owned().into()),
    ];
    metrics::counter!("http_requests_total", &labels).increment(1);
    metrics::histogram!("http_request_duration_seconds", &labels).record(duration.as_secs_f64());

    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if status.is_server_error() {
        warn!(method = %method, path, status = status.as_u16(), ms, "answered");
    } else if path.contains(HANDOVER) {
        debug!(method = %method, path, status = status.as_u16(), ms, "answered");
    } else {
        info!(method = %method, path, status = status.as_u16(), ms, "answered");
    }
}

fn standard_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Calls the handler within the limits; a timeout and a panic become problem details.
async fn answer(request: Request, next: Next, correlation_id: &str) -> Response {
    let path = request.uri().path().to_owned();
    let request = match body::read(request).await {
        Ok(request) => request,
        Err(problem) => return problems::respond(problem, correlation_id),
    };
    let handler = AssertUnwindSafe(next.run(request)).catch_unwind();
    match timeout(Duration::from_secs(REQUEST_SECONDS_MAX), handler).await {
        Ok(Ok(response)) => problems::complete(response, &path, correlation_id),
        // The panic hook has logged it, inside the span of this request.
        Ok(Err(_)) => problems::respond(Problem::internal(), correlation_id),
        Err(_) => {
            error!(path, seconds = REQUEST_SECONDS_MAX, "a request exceeded its deadline");
            problems::respond(Problem::unavailable("an answer in time"), correlation_id)
        }
    }
}

#[cfg(test)]
mod tests;
