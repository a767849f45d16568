//! Configuration from environment variables.

use std::{net::SocketAddr, path::PathBuf};

use conf::Conf;
use flack_common::config::RegistryConfig;
use nix::sys::resource::{Resource, getrlimit};

/// HAProxy opens two files for each connection, and some for reloads and checks.
const FILES_PER_CONNECTION: u64 = 5;
const CONNECTIONS_MAX_LEAST: u64 = 100;
/// More connections need tuning that the template does not have.
const CONNECTIONS_MAX_MOST: u64 = 20_000;
/// When the limit cannot be read.
const FILES_MAX_DEFAULT: u64 = 4_096;

/// The agent's configuration.
#[derive(Conf, Debug, Clone)]
pub struct Config {
    #[conf(flatten)]
    pub registry: RegistryConfig,
    /// Folder that the agent and HAProxy share: configuration, maps, sockets
    #[conf(env = "HAPROXY_DIR")]
    pub dir: PathBuf,
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
    /// Requests with credentials (sign up, sign in) per source address in ten seconds
    #[conf(env = "LIMIT_CREDENTIALS_PER_10S", default_value = "1000")]
    pub limit_credentials_per_10s: u32,
    /// All requests per source address in ten seconds
    #[conf(env = "LIMIT_REQUESTS_PER_10S", default_value = "1000000")]
    pub limit_requests_per_10s: u32,
}

impl Config {
    /// Returns HAProxy's `maxconn`.
    pub fn connections_max(&self) -> u64 {
        connections_max(
            self.files_max
                .unwrap_or_else(|| getrlimit(Resource::RLIMIT_NOFILE).map_or(FILES_MAX_DEFAULT, |(_soft, hard)| hard)),
        )
    }
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
