//! The one place where HTTP clients get their TLS provider.

/// A builder of HTTP clients whose TLS is rustls with ring. Without a provider, building a client panics.
#[expect(clippy::disallowed_methods, reason = "clippy.toml sends everybody here")]
pub fn http_client_builder() -> reqwest::ClientBuilder {
    // Fails when it is installed already, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}
