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

/// Messages that one subscription has received and not read. The client drops what comes after them, so that a slow
/// subscriber neither uses more memory nor delays others.
pub(super) const MESSAGES_BUFFERED_MAX: usize = 512;

/// A counter that a task can wait for.
pub(super) type Counter = watch::Receiver<u64>;

/// What happens on a connection.
#[derive(Debug)]
pub(super) struct Counters {
    /// Connects and disconnects. A request that waits for an answer can stop waiting at a change.
    pub changes: Counter,
    /// Messages that were dropped because a subscription did not read them in time.
    pub dropped: Counter,
}

/// Returns without waiting for the server: a process works while NATS is unavailable, and its events wait in the queue.
///
/// The NATS permissions that a service's user needs (S is the stream of an owner that it reads):
/// - publish `flack.<user>.>` and, for its own stream, `$JS.API.STREAM.INFO.<STREAM>`;
/// - publish `$JS.API.STREAM.INFO.S`, `$JS.API.DIRECT.GET.S` and, in a cluster, `$JS.API.STREAM.MSG.GET.S`, subscribe
///   `stream.<owner>.>`;
/// - subscribe `_INBOX.<user>.>`: each user has its own prefix and cannot read the answers to others;
/// - for typing signals, publish `flack.<user>.typing`, subscribe `flack.websocket.typing` and `flack.monolith.typing`.
pub(super) async fn connect(config: &EventsConfig) -> anyhow::Result<(Client, Counters)> {
    let (change, changes) = watch::channel(0_u64);
    let (drop_message, dropped) = watch::channel(0_u64);
    let mut options = ConnectOptions::new()
        .retry_on_initial_connect()
        .max_reconnects(None)
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT_TIMEOUT)
        .subscription_capacity(MESSAGES_BUFFERED_MAX)
        .reconnect_delay_callback(|attempt| {
            let attempt = u32::try_from(attempt).unwrap_or(u32::MAX).min(16);
            (Duration::from_millis(10) * 2_u32.saturating_pow(attempt)).min(RECONNECT_DELAY_MAX)
        })
        .event_callback(move |event| {
            match event {
                Event::Connected | Event::Disconnected => change.send_modify(|count| *count += 1),
                Event::SlowConsumer(_) => drop_message.send_modify(|count| *count += 1),
                _ => {}
            }
            log(&event);
            std::future::ready(())
        });
    if let (Some(user), Some(password)) = (&config.user, &config.password) {
        options = options
            .custom_inbox_prefix(format!("_INBOX.{user}"))
            .user_and_password(user.clone(), password.expose_secret().to_owned());
    }
    let urls: Vec<&str> = config.url.split(',').collect();
    let client = with_tls(options, config)
        .connect(urls)
        .await
        .with_context(|| format!("{} is not a NATS address; correct NATS_URL", config.url))?;
    Ok((client, Counters { changes, dropped }))
}

/// Requires TLS if the URLs do, also of servers of the cluster that the client learns about later.
fn with_tls(mut options: ConnectOptions, config: &EventsConfig) -> ConnectOptions {
    options = options.require_tls(config.url.starts_with("tls:"));
    if let Some(ca) = &config.ca_file {
        options = options.add_root_certificates(ca.clone());
    }
    if let (Some(certificate), Some(key)) = (&config.cert_file, &config.key_file) {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    options
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
        // For each message. A subscription to a stream requests it; a signal may be lost.
        Event::SlowConsumer(_) => debug!(%event, "a message was dropped"),
        Event::ServerError(_) | Event::ClientError(_) => warn!(%event, "NATS reports a problem"),
        Event::Draining | Event::Closed => debug!(%event, "the NATS connection ends"),
    }
}
