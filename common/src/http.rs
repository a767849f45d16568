//! The client for calls between Flack's own processes: the only place that builds one (`clippy.toml` sees to it).
//!
//! Whoever calls strangers uses `fetch`, which guards against what strangers answer.

use std::time::Duration;

/// Peers are on the same network: one that does not accept by then is away.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Shorter than the deadline of the request on whose behalf the call is made (`process::REQUEST_SECONDS_MAX`).
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than the balancer's keep-alive, so that it is we who close an idle connection, not it under our feet.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
const IDLE_CONNECTIONS_PER_PEER_MAX: usize = 32;

/// A client for internal calls. Make one in a process and hand clones on: they share its connections.
pub fn client() -> reqwest::Client {
    flack_api::http_client_builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_PEER_MAX)
        // A peer that redirects is a mistake, and following it would carry a user's token elsewhere.
        .redirect(reqwest::redirect::Policy::none())
        // Internal calls do not go through a proxy that happens to be in the environment.
        .no_proxy()
        .user_agent(concat!("flack/", env!("CARGO_PKG_VERSION")))
        .build()
        .expect("fixed settings and a compiled-in TLS provider make a client")
}
