//! The connection to NATS: established in the background, and again whenever it is lost.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::{Client, ConnectOptions, Event};
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::config::EventsConfig;

/// After two pings without an answer the client reconnects, also when TCP reports no error.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(1);

/// A counter of connects and disconnects. A request that waits for an answer can stop waiting at a change.
pub(super) type ConnectionChanges = watch::Receiver<u64>;

/// Returns without waiting for the server: a process works while NATS is unavailable, and its events wait in the queue.
///
/// The NATS permissions that a service's user needs (S is a stream that it reads):
/// - publish `flack.<user>.>`, and for its own stream `$JS.API.STREAM.{INFO,CREATE,UPDATE}.<STREAM>`;
/// - publish `$JS.API.STREAM.INFO.S`, `$JS.API.CONSUMER.CREATE.S.>`, `$JS.API.CONSUMER.{INFO,DELETE,MSG.NEXT}.S.*`;
/// - subscribe `_INBOX.<user>.>`: each user has its own prefix and cannot read the answers to others;
/// - for typing signals, subscribe `flack.websocket.typing` and `flack.monolith.typing`.
pub(super) async fn connect(config: &EventsConfig) -> anyhow::Result<(Client, ConnectionChanges)> {
    let (change, changes) = watch::channel(0_u64);
    let mut options = ConnectOptions::new()
        .retry_on_initial_connect()
        .max_reconnects(None)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT_TIMEOUT)
        .reconnect_delay_callback(|attempt| {
            let attempt = u32::try_from(attempt).unwrap_or(u32::MAX).min(16);
            (Duration::from_millis(10) * 2_u32.saturating_pow(attempt)).min(RECONNECT_DELAY_MAX)
        })
        .event_callback(move |event| {
            if matches!(event, Event::Connected | Event::Disconnected) {
                change.send_modify(|count| *count += 1);
            }
            log(&event);
            std::future::ready(())
        });
    if let (Some(user), Some(password)) = (&config.user, &config.password) {
        options = options
            .custom_inbox_prefix(format!("_INBOX.{user}"))
            .user_and_password(user.clone(), password.expose_secret().to_owned());
    }
    let client = options
        .connect(&config.url)
        .await
        .with_context(|| format!("{} is not a NATS address; correct NATS_URL", config.url))?;
    Ok((client, changes))
}

fn log(event: &Event) {
    match event {
        Event::Connected => info!("connected to NATS"),
        Event::Disconnected | Event::LameDuckMode => {
            warn!(%event, "NATS is unavailable; events wait in the queue");
        }
        // Reported at each attempt to reconnect; the disconnect is logged already.
        Event::ClientError(error) if error.to_string().ends_with("IO error") => {
            debug!(%event, "NATS is still unavailable");
        }
        Event::ServerError(_) | Event::ClientError(_) | Event::SlowConsumer(_) => {
            warn!(%event, "NATS reports a problem");
        }
        Event::Draining | Event::Closed => debug!(%event, "the NATS connection ends"),
    }
}
