//! The door: `GET /ws`. Who may come in, before a word is said.

use std::sync::Arc;

use axum::{
    Router,
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use flack_api::{Problem, VerifyToken, messages::MessagesApi, method_not_allowed_fallback, users::UsersApi};
use tokio::sync::broadcast;
use tracing::warn;
use url::Url;
use uuid::Uuid;

use crate::{
    connections::Connections,
    hub::Hub,
    limits::{Limits, READ_BUFFER_BYTES, WRITE_BUFFER_BYTES},
    socket,
};

/// What is beyond us: who is who, what was said, and whether a token is good.
#[derive(Clone)]
pub struct Seams {
    pub users: Arc<dyn UsersApi>,
    pub messages: Arc<dyn MessagesApi>,
    pub verify: Arc<dyn VerifyToken>,
    /// Tells each token that is revoked, so that who holds a connection with it hears of it.
    pub revocations: broadcast::Sender<Uuid>,
}

impl std::fmt::Debug for Seams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seams").finish_non_exhaustive()
    }
}

/// All that a connection needs.
#[derive(Debug)]
pub struct House {
    pub hub: Hub,
    pub seams: Seams,
    pub limits: Limits,
    pub connections: Connections,
}

/// `GET /ws`, nothing else.
pub fn router(hub: Hub, seams: Seams, limits: Limits) -> Router {
    let connections = Connections::default();
    hub.spawn("revocations", follow_revocations(connections.clone(), seams.revocations.subscribe()));
    let house = Arc::new(House { hub, seams, limits, connections });
    Router::new().route("/ws", get(enter).fallback(method_not_allowed_fallback)).with_state(house)
}

async fn follow_revocations(connections: Connections, mut revoked: broadcast::Receiver<Uuid>) {
    loop {
        match revoked.recv().await {
            Ok(token_id) => connections.doubt(Some(token_id)),
            Err(broadcast::error::RecvError::Lagged(_)) => connections.doubt(None),
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

async fn enter(
    State(house): State<Arc<House>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        return Problem::bad_request("this is the door for websockets: connect with one").into_response();
    };
    if !is_same_origin(&headers) {
        return Problem::forbidden("a page of another site may not connect in the name of its visitor")
            .into_response();
    }
    let Some(place) = house.connections.enter(house.limits.connections_max) else {
        warn!(connections = house.limits.connections_max, "full; a connection was refused");
        return Problem {
            retry_after_seconds: Some(1),
            ..Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too-many-connections",
                "Too many connections",
                "this instance holds as many connections as it may; try again, another one may have room",
            )
        }
        .into_response();
    };
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_frame_size(house.limits.frame_bytes_max)
        .max_message_size(house.limits.frame_bytes_max)
        .on_failed_upgrade(|problem| warn!(%problem, "a websocket was not opened"))
        .on_upgrade(async move |socket| {
            socket::serve(house, socket).await;
            drop(place);
        })
}

/// Browsers always say where the page is from; others need not.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| Url::parse(origin).ok());
    let (Some(origin), Some(host)) = (origin, host) else { return false };
    let authority = &origin[url::Position::BeforeHost..url::Position::AfterPort];
    // A browser leaves out a port that is the scheme's own, in both headers.
    !authority.is_empty() && authority.eq_ignore_ascii_case(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_site_may_connect() {
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
