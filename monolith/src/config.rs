//! Configuration from environment variables. Only the database is required.

use std::net::{Ipv4Addr, SocketAddr};

use flack_common::config::{
    DatabaseConfig, EventsConfig, HandoverKeys, InternalListenerConfig, LimitsConfig, ProcessConfig, RegistryConfig,
};
use flack_users::config::GuessLimits;
use flack_websocket::config::SocketLimits;

/// The port of a monolith that runs alone, for a browser.
const PORT_ALONE: u16 = 8000;

/// monolith: all parts in one process and one database; runs alone with nothing but `DATABASE_URL`
#[derive(conf::Conf, Debug)]
#[conf(validation_predicate = both_or_alone)]
pub struct Config {
    #[conf(flatten)]
    pub process: ProcessConfig,
    #[conf(flatten)]
    pub database: DatabaseConfig,
    /// Absent when it runs alone.
    #[conf(flatten)]
    pub registry: Option<RegistryConfig>,
    /// Absent when it runs alone.
    #[conf(flatten)]
    pub events: Option<EventsConfig>,
    /// For requests that it passes on to the services that own their parts; absent when it runs alone.
    #[conf(flatten)]
    pub internal_listener: Option<InternalListenerConfig>,
    #[conf(flatten)]
    pub sockets: SocketLimits,
    #[conf(flatten)]
    pub limits: LimitsConfig,
    #[conf(flatten)]
    pub handover: HandoverKeys,
    #[conf(flatten)]
    pub guesses: GuessLimits,
}

/// Beside services both are required: without events, the services' projections would become stale.
fn both_or_alone(config: &Config) -> Result<(), String> {
    match (&config.registry, &config.events) {
        (Some(_), None) => Err("ETCD_URL is set: set NATS_URL as well, or neither to run alone".to_owned()),
        (None, Some(_)) => Err("NATS_URL is set: set ETCD_URL as well, or neither to run alone".to_owned()),
        _ => Ok(()),
    }
}

impl Config {
    /// Returns the process's configuration. Alone, port 0 becomes `PORT_ALONE`.
    pub fn process(&self) -> ProcessConfig {
        let mut process = self.process.clone();
        if self.registry.is_none() && process.listen == SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) {
            process.listen.set_port(PORT_ALONE);
        }
        process
    }
}
