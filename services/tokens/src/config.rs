//! Configuration from environment variables.

use flack_common::config::{
    DatabaseConfig, EventsConfig, InternalListenerConfig, ProcessConfig, RegistryConfig,
};

/// tokens: signed tokens, their keys and their revocation
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
    /// For calls to users.
    #[conf(flatten)]
    pub internal_listener: InternalListenerConfig,
}
