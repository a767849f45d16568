//! What this process can be told from outside, all of it by environment.

use flack_common::config::{
    DatabaseConfig, EventsConfig, InternalListenerConfig, ProcessConfig, RegistryConfig,
};

/// tokens: proof of who is asking
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
    /// users is called through it.
    #[conf(flatten)]
    pub internal_listener: InternalListenerConfig,
}
