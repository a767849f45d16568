//! Configuration from environment variables.

use flack_common::config::{DatabaseConfig, EventsConfig, ProcessConfig, RegistryConfig};

/// users: nicknames, passwords and presence
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
}
