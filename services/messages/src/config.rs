//! Configuration from environment variables.

use flack_common::config::{DatabaseConfig, EventsConfig, ProcessConfig, RegistryConfig};

/// messages: messages, channels and link previews
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
