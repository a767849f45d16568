//! Configuration from environment variables.

use std::{net::SocketAddr, path::PathBuf, thread::available_parallelism};

use conf::Conf;
use flack_common::config::RegistryConfig;
use nix::sys::resource::{Resource, getrlimit};

use crate::{hosts::PublicHosts, last_known::is_name};

/// HAProxy opens two files for each connection, and some for reloads and checks.
const FILES_PER_CONNECTION: u64 = 5;
const CONNECTIONS_MAX_LEAST: u64 = 100;
/// More connections need tuning that the template does not have.
const CONNECTIONS_MAX_MOST: u64 = 20_000;
/// When the limit cannot be read.
const FILES_MAX_DEFAULT: u64 = 4_096;
/// One address can keep at most a quarter of the connections.
const ADDRESS_SHARE: u64 = 4;
/// A core checks about 25 passwords a second. One address can use all of it: users lets accounts take turns and keeps a
/// core for requests without failures, so a lower limit would only shut out those who share an address with a guesser.
const CREDENTIALS_PER_CORE_PER_10S: u32 = 250;

/// The agent's configuration.
#[derive(Conf, Debug, Clone)]
pub struct Config {
    #[conf(flatten)]
    pub registry: RegistryConfig,
    /// Folder that the agent and HAProxy share: configuration, maps, sockets
    #[conf(env = "HAPROXY_DIR")]
    pub dir: PathBuf,
    /// Name of this balancer, when the stack has several, such as `haproxy-1`
    #[conf(env = "BALANCER_NAME", value_parser = parse_name)]
    pub name: Option<String>,
    /// Address of the public listener
    #[conf(env = "PUBLIC_LISTEN", default_value = "127.0.0.1:8080")]
    pub public_listen: SocketAddr,
    /// Address of the internal listener
    #[conf(env = "INTERNAL_LISTEN", default_value = "127.0.0.1:8081")]
    pub internal_listen: SocketAddr,
    /// Address of the stats page and of the metrics for Prometheus
    #[conf(env = "STATS_LISTEN", default_value = "127.0.0.1:8404")]
    pub stats_listen: SocketAddr,
    /// Files that HAProxy may open; default: the limit of this process
    #[conf(env = "FILES_MAX")]
    pub files_max: Option<u64>,
    /// The program that checks a configuration before it is used
    #[conf(env = "HAPROXY_BIN")]
    pub program: Option<PathBuf>,
    /// Host names of the public listener, separated by commas, besides the loopback names and addresses; default: the
    /// name of this machine
    #[conf(env = "FLACK_PUBLIC_HOSTS")]
    pub public_hosts: Option<PublicHosts>,
    /// All requests per source address in ten seconds
    #[conf(env = "LIMIT_REQUESTS_PER_10S", default_value = "20000")]
    pub limit_requests_per_10s: u32,
    /// Writes (POST, PUT, PATCH, DELETE) per source address in ten seconds, without those with credentials
    #[conf(env = "LIMIT_WRITES_PER_10S", default_value = "5000")]
    pub limit_writes_per_10s: u32,
    /// Requests with a password (sign up, sign in) per source address in ten seconds; default: 250 for each core
    #[conf(env = "LIMIT_CREDENTIALS_PER_10S")]
    pub limit_credentials_per_10s: Option<u32>,
    /// Open connections per source address; default: a quarter of all
    #[conf(env = "LIMIT_CONNECTIONS_PER_ADDRESS")]
    pub limit_connections_per_address: Option<u64>,
}

impl Config {
    /// Returns HAProxy's `maxconn`.
    pub fn connections_max(&self) -> u64 {
        connections_max(
            self.files_max
                .unwrap_or_else(|| getrlimit(Resource::RLIMIT_NOFILE).map_or(FILES_MAX_DEFAULT, |(_soft, hard)| hard)),
        )
    }

    pub fn connections_per_address(&self) -> u64 {
        self.limit_connections_per_address.unwrap_or(self.connections_max() / ADDRESS_SHARE)
    }

    pub fn credentials_per_10s(&self) -> u32 {
        self.limit_credentials_per_10s.unwrap_or_else(|| {
            let cores = available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
            cores.saturating_mul(CREDENTIALS_PER_CORE_PER_10S)
        })
    }
}

/// The name becomes a part of a key.
fn parse_name(text: &str) -> Result<String, String> {
    is_name(text).then(|| text.to_owned()).ok_or_else(|| "use letters, digits and -, such as haproxy-1".to_owned())
}

fn connections_max(files_max: u64) -> u64 {
    (files_max / FILES_PER_CONNECTION).clamp(CONNECTIONS_MAX_LEAST, CONNECTIONS_MAX_MOST)
}

#[cfg(test)]
mod tests {
    use super::connections_max;

    #[test]
    fn connections_follow_from_the_open_files_limit() {
        assert_eq!(connections_max(20_000), 4_000);
        assert_eq!(connections_max(256), 100);
        assert_eq!(connections_max(u64::MAX), 20_000);
    }
}
