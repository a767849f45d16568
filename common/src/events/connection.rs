//! The connection to NATS: made in the background, kept for ever, its ups and downs in the log.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::{Client, ConnectOptions, Event};
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::config::EventsConfig;

/// A ping unanswered twice means that the connection is gone, although TCP has not noticed.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often the connection came or went. Whoever waits for an answer on it need not wait for the deadline.
pub(super) type Changes = watch::Receiver<u64>;

/// Does not wait for the server: a process is of use while NATS is away, its events wait in the queue.
///
/// What a service's NATS user needs, for the server's configuration (S is a stream that it reads):
/// - publish `flack.<user>.>`, and for its own stream `$JS.API.STREAM.{INFO,CREATE,UPDATE}.<STREAM>`;
/// - publish `$JS.API.STREAM.INFO.S`, `$JS.API.CONSUMER.CREATE.S.>`, `$JS.API.CONSUMER.{INFO,DELETE,MSG.NEXT}.S.*`;
/// - subscribe `_INBOX.<user>.>`: an inbox prefix per user, so that nobody can read another's answers;
/// - for typing, subscribe `flack.websocket.typing` and `flack.monolith.typing`.
pub(super) async fn connect(config: &EventsConfig) -> anyhow::Result<(Client, Changes)> {
    let (change, changes) = watch::channel(0_u64);
    let mut options = ConnectOptions::new()
        .retry_on_initial_connect()
        .max_reconnects(None)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT_TIMEOUT)
        .reconnect_delay_callback(|attempt| {
            let attempt = u32::try_from(attempt).unwrap_or(u32::MAX).min(16);
            (Duration::from_millis(10) * 2_u32.saturating_pow(attempt)).min(RECONNECT_PAUSE_MAX)
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
        .with_context(|| format!("{} is no address of NATS; correct NATS_URL", config.url))?;
    Ok((client, changes))
}

fn log(event: &Event) {
    match event {
        Event::Connected => info!("the events pipeline is connected"),
        Event::Disconnected | Event::LameDuckMode => {
            warn!(%event, "the events pipeline is away; changes wait in the queue");
        }
        // Each attempt while it is away: that it is away was said.
        Event::ClientError(error) if error.to_string().ends_with("IO error") => debug!(%event, "still away"),
        Event::ServerError(_) | Event::ClientError(_) | Event::SlowConsumer(_) => {
            warn!(%event, "the events pipeline complains");
        }
        Event::Draining | Event::Closed => debug!(%event, "the events pipeline"),
    }
}
