//! `GET /ws`: the checks of a request, and its upgrade to a websocket.

use std::sync::Arc;

use axum::{
    Router,
    extract::{
        State,
        ws::{WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use flack_api::{Problem, method_not_allowed_fallback};
use metrics::counter;
use tokio::time::Instant;
use tracing::{debug, warn};
use url::{Position, Url};

use super::{context::SocketContext, hello, outgoing};
use crate::limits::{READ_BUFFER_BYTES, WRITE_BUFFER_BYTES};

/// Returns the router of `GET /ws`.
pub fn router(context: SocketContext) -> Router {
    Router::new().route("/ws", get(upgrade).fallback(method_not_allowed_fallback)).with_state(Arc::new(context))
}

async fn upgrade(
    State(context): State<Arc<SocketContext>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        return Problem::bad_request("only websockets are served here").into_response();
    };
    if !is_same_origin(&headers) {
        return Problem::forbidden("a page of another origin may not connect").into_response();
    }
    let limits = &context.limits;
    let Some(permit) = context.permits.acquire(limits.connections_max) else {
        warn!(connections = limits.connections_max, "a connection was refused: there are too many");
        return Problem {
            retry_after_seconds: Some(1),
            ..Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too-many-connections",
                "Too many connections",
                "this instance holds as many connections as it may; try again, another instance may have room",
            )
        }
        .into_response();
    };
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_frame_size(limits.frame_bytes_max)
        .max_message_size(limits.frame_bytes_max)
        .on_failed_upgrade(|error| warn!(%error, "an upgrade to a websocket failed"))
        .on_upgrade(async move |socket| {
            serve(&context, socket).await;
            drop(permit);
        })
}

/// Serves a client until the connection ends.
async fn serve(context: &SocketContext, mut socket: WebSocket) {
    // A process that stops waits for the close frame.
    let _guard = context.background.shutdown_guard();
    let started = Instant::now();
    // Boxed: otherwise every idle connection would keep the memory that only its beginning needs.
    let reason = match Box::pin(hello::begin_session(context, &mut socket)).await {
        Ok(mut session) => session.run().await,
        Err(reason) => reason,
    };
    outgoing::close(&mut socket, reason, &context.limits).await;
    counter!("websocket_closed_total", "reason" => reason.text()).increment(1);
    debug!(reason = reason.text(), seconds = started.elapsed().as_secs(), "a connection ended");
}

/// Returns whether the page of a browser has the origin of this server. Clients other than browsers send no origin.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| Url::parse(origin).ok());
    let (Some(origin), Some(host)) = (origin, host) else { return false };
    let authority = &origin[Position::BeforeHost..Position::AfterPort];
    // A browser leaves out the scheme's default port in both headers.
    !authority.is_empty() && authority.eq_ignore_ascii_case(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_same_origin_may_connect() {
        for (origin, host, allowed) in [
            (None, "flack.example", true),
            (Some("http://flack.example"), "flack.example", true),
            (Some("https://Flack.example"), "flack.EXAMPLE", true),
            (Some("http://127.0.0.1:8080"), "127.0.0.1:8080", true),
            (Some("http://127.0.0.1:8081"), "127.0.0.1:8080", false),
            (Some("http://evil.example"), "flack.example", false),
            (Some("http://flack.example.evil"), "flack.example", false),
            (Some("null"), "flack.example", false),
            (Some("file://"), "", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(is_same_origin(&headers), allowed, "{origin:?} {host}");
        }
    }
}
