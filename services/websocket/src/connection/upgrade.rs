//! `GET /ws`: the checks of a request, and its upgrade to a websocket.

use std::sync::Arc;

use anyhow::anyhow;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use flack_api::{Context, Problem, method_not_allowed_fallback};
use flack_common::process::Connection;
use hyper::upgrade::OnUpgrade;
use hyper_util::{rt::TokioIo, server::conn::auto::upgrade::downcast};
use metrics::counter;
use tokio::time::Instant;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::server::create_response_with_body,
        protocol::{Role, WebSocketConfig},
    },
};
use tracing::{debug, warn};
use url::{Position, Url};

use super::{
    context::SocketContext,
    hello, outgoing,
    permits::{ConnectionPermit, Refused},
    stream::{ClientStream, Socket},
};
use crate::limits::{Limits, READ_BUFFER_BYTES, WRITE_BUFFER_BYTES};

/// Returns the router of `GET /ws`.
pub fn router(context: SocketContext) -> Router {
    Router::new().route("/ws", get(upgrade).fallback(method_not_allowed_fallback)).with_state(Arc::new(context))
}

async fn upgrade(State(context): State<Arc<SocketContext>>, mut request: Request) -> Response {
    let Ok(response) = create_response_with_body(&request, Body::empty) else {
        return Problem::bad_request("only websockets are served here").into_response();
    };
    if !is_same_origin(request.headers()) {
        return Problem::forbidden("a page of another origin may not connect").into_response();
    }
    let address = Context::from_headers(request.headers()).client_address;
    let permit = match context.permits.acquire(address, &context.limits) {
        Ok(permit) => permit,
        Err(refused) => return too_many_connections(refused).into_response(),
    };
    let upgrading = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match socket(upgrading, &context.limits).await {
            Ok(socket) => serve(&context, permit, socket).await,
            Err(error) => warn!(error = format!("{error:#}"), "an upgrade to a websocket failed"),
        }
    });
    response
}

fn too_many_connections(refused: Refused) -> Problem {
    let problem = match refused {
        Refused::TooManyOfInstance => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too-many-connections",
            "Too many connections",
            "this instance holds as many connections as it may; try again, another instance may have room",
        ),
        Refused::TooManyOfAddress => Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-requests",
            "Too many requests",
            "your address has too many websockets; close some of them",
        ),
    };
    warn!(status = problem.status, "a connection was refused: there are too many");
    Problem { retry_after_seconds: Some(1), ..problem }
}

/// Waits until the HTTP server has sent the response, and returns the websocket.
async fn socket(upgrading: OnUpgrade, limits: &Limits) -> anyhow::Result<Socket> {
    let parts = downcast::<TokioIo<Connection>>(upgrading.await?)
        .map_err(|_| anyhow!("the listener is not a BoundedListener"))?;
    let stream = ClientStream::new(parts.io.into_inner(), &parts.read_buf, limits);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_frame_size(Some(limits.frame_bytes_max))
        .max_message_size(Some(limits.frame_bytes_max));
    Ok(WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await)
}

/// Serves a client until the connection ends.
async fn serve(context: &SocketContext, mut permit: ConnectionPermit, mut socket: Socket) {
    // A process that stops waits for the close frame.
    let _guard = context.background.shutdown_guard();
    let started = Instant::now();
    // Boxed: otherwise every idle connection would keep the memory that only its beginning needs.
    let reason = match Box::pin(hello::begin_session(context, &mut permit, &mut socket)).await {
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
