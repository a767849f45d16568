//! What this process can be told from outside, all of it by environment.

use flack_common::config::{
    DatabaseConfig, EventsConfig, InternalListenerConfig, ProcessConfig, RegistryConfig,
};

/// websocket: the live connections
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
    /// users and messages are called through it.
    #[conf(flatten)]
    pub internal_listener: InternalListenerConfig,
}
