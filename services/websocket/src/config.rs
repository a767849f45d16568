//! Configuration from environment variables.

use flack_common::config::ServiceConfig;

use crate::limits::Limits;

/// websocket: the open connections of clients
#[derive(conf::Conf, Debug)]
pub struct Config {
    #[conf(flatten)]
    pub service: ServiceConfig,
    #[conf(flatten)]
    pub sockets: SocketLimits,
}

/// The limits of websockets that an operator can change, such as for a load test. The monolith has them too.
#[derive(conf::Conf, Debug, Clone)]
pub struct SocketLimits {
    /// Open websockets of one address at this instance; half of them may be anonymous [default: 1000]
    #[conf(env = "LIMIT_SOCKETS_PER_ADDRESS")]
    pub sockets_per_address: Option<usize>,
    /// Open websockets without a user at this instance [default: 2000]
    #[conf(env = "LIMIT_ANONYMOUS_SOCKETS")]
    pub anonymous_sockets: Option<usize>,
}

impl From<SocketLimits> for Limits {
    fn from(config: SocketLimits) -> Self {
        let defaults = Self::default();
        Self {
            connections_per_address_max: config.sockets_per_address.unwrap_or(defaults.connections_per_address_max),
            anonymous_connections_max: config.anonymous_sockets.unwrap_or(defaults.anonymous_connections_max),
            ..defaults
        }
    }
}
