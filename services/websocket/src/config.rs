//! Configuration from environment variables.

use flack_common::config::{InternalListenerConfig, ServiceConfig};

/// websocket: the open connections of clients
#[derive(conf::Conf, Debug)]
pub struct Config {
    #[conf(flatten)]
    pub service: ServiceConfig,
    /// For the calls to users and messages.
    #[conf(flatten)]
    pub internal_listener: InternalListenerConfig,
}
