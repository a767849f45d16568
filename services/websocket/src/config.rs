//! Configuration from environment variables.

use flack_common::config::{
    DatabaseConfig, EventsConfig, InternalListenerConfig, ProcessConfig, RegistryConfig,
};

/// websocket: the open connections of clients
#[derive(conf::Conf, Debug)]
pub struct Config {
    #[conf(flatten)]
    pub process: ProcessConfig,
    #[conf(flatten)]
    pub database: DatabaseConfig,
    #[conf(flatten)]
    pub registry: RegistryConfig,
    #[conf(flatten)]
    pub events: EventsConfig,
    /// For the calls to users and messages.
    #[conf(flatten)]
    pub internal_listener: InternalListenerConfig,
}
