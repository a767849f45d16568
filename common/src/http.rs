//! The HTTP client for calls between Flack's own processes, built only here (`clippy.toml` enforces it).
//!
//! For pages of the public internet use `fetch`.

use std::time::Duration;

use flack_api::CALL_DEADLINE;

/// Peers are on the same network.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Shorter than the balancer's keep-alive: the client closes idle connections first, never during a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
const IDLE_CONNECTIONS_PER_PEER_MAX: usize = 32;

/// Returns a client for internal calls. Clones share its connections, so one per process is enough.
pub fn client() -> reqwest::Client {
    flack_api::http_client_builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_DEADLINE)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_PEER_MAX)
        // No peer redirects; following a redirect would send a user's token elsewhere.
        .redirect(reqwest::redirect::Policy::none())
        // Internal calls must not use a proxy from the environment.
        .no_proxy()
        .user_agent(concat!("flack/", env!("CARGO_PKG_VERSION")))
        .build()
        .expect("fixed settings and a compiled-in TLS provider make a client")
}
