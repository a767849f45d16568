//! Configuration from environment variables.

use flack_common::config::{InternalListenerConfig, ServiceConfig};

/// tokens: signed tokens, their keys and their revocation
#[derive(conf::Conf, Debug)]
pub struct Config {
    #[conf(flatten)]
    pub service: ServiceConfig,
    /// For calls to users.
    #[conf(flatten)]
    pub internal_listener: InternalListenerConfig,
}
