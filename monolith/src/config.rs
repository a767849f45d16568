//! What this process can be told from outside, all of it by environment. Only the database must be there.

use std::net::{Ipv4Addr, SocketAddr};

use flack_common::config::{DatabaseConfig, EventsConfig, ProcessConfig, RegistryConfig};

/// Where a monolith listens that runs alone: somebody started it by hand and wants to open it in a browser.
const PORT_ALONE: u16 = 8000;

/// monolith: flack in one process and one database; alone with nothing but `DATABASE_URL`
#[derive(conf::Conf, Debug)]
#[conf(validation_predicate = all_or_alone)]
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
}

/// Beside others it needs both: a monolith that registers, but tells nobody of its changes, would leave every copy of its
/// data behind.
fn all_or_alone(config: &Config) -> Result<(), String> {
    match (&config.registry, &config.events) {
        (Some(_), None) => Err("ETCD_URL is set: set NATS_URL as well, or neither to run alone".to_owned()),
        (None, Some(_)) => Err("NATS_URL is set: set ETCD_URL as well, or neither to run alone".to_owned()),
        _ => Ok(()),
    }
}

impl Config {
    /// The process's part. Any free port is of no use to people, and nobody is told of it: a monolith that runs alone
    /// takes one that can be remembered, unless another was asked for.
    pub fn process(&self) -> ProcessConfig {
        let mut process = self.process.clone();
        if self.registry.is_none() && process.listen == SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) {
            process.listen.set_port(PORT_ALONE);
        }
        process
    }
}
