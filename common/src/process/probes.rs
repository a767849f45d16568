//! `/health`, `/ready` and `/metrics`.

use std::sync::{Arc, OnceLock};

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Background, Readiness};

/// The buckets of the histograms: from a cached read to a request near its deadline.
const SECONDS_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Requested several times a second, therefore neither logged nor counted.
pub const PATHS: [&str; 3] = ["/health", "/ready", "/metrics"];

/// The metrics of the process. A process can have one recorder only, and a test starts several servers in one process.
static METRICS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

#[derive(Debug)]
pub struct Probes {
    pub service: String,
    pub instance: String,
    pub version: String,
    pub commit: Option<String>,
    pub readiness: Readiness,
    pub background: Background,
    pub shutdown: CancellationToken,
}

pub fn router(probes: Probes) -> Router {
    install_metrics();
    Router::new()
        .route(PATHS[0], get(health))
        .route(PATHS[1], get(ready))
        .route(PATHS[2], get(metrics))
        .with_state(Arc::new(probes))
}

/// Returns 200 whenever requests are answered, whatever the status of the tasks is.
async fn health(State(probes): State<Arc<Probes>>) -> Response {
    Json(json!({
        "status": "ok",
        "service": probes.service,
        "instance": probes.instance,
        "version": probes.version,
        "commit": probes.commit,
        "tasks": probes.background.statuses(),
    }))
    .into_response()
}

/// Returns 200, or 503 with the failing check, or 404 while draining.
///
/// With `http-check disable-on-404` HAProxy sends no new requests to a server that answers 404, but keeps its
/// connections. Any other error marks the server as down and closes its websockets before they can resume elsewhere.
async fn ready(State(probes): State<Arc<Probes>>) -> Response {
    if probes.shutdown.is_cancelled() {
        return not_ready(StatusCode::NOT_FOUND, "shutdown", "this instance is stopping");
    }
    match probes.readiness.failing().await {
        None => Json(json!({ "status": "ready" })).into_response(),
        Some((check, error)) => not_ready(StatusCode::SERVICE_UNAVAILABLE, check, &error),
    }
}

fn not_ready(status: StatusCode, check: &str, error: &str) -> Response {
    let body = json!({ "status": "not ready", "failing": check, "error": error });
    (status, [(header::RETRY_AFTER, "1")], Json(body)).into_response()
}

async fn metrics() -> Response {
    match install_metrics() {
        Some(metrics) => {
            metrics.run_upkeep();
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn install_metrics() -> Option<&'static PrometheusHandle> {
    METRICS
        .get_or_init(|| {
            PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
                .and_then(PrometheusBuilder::install_recorder)
                .inspect_err(|error| tracing::error!(%error, "this process has no metrics"))
                .ok()
        })
        .as_ref()
}
