//! The ports of a stack. All follow from the public one, so that a second stack needs only one other number. In
//! containers each store has its usual port, and a host of its own: a name within their network, and an address from
//! outside.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use flack_catalogue::SERVICES;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    pub public: u16,
    pub internal: u16,
    pub etcd: u16,
    pub etcd_peer: u16,
    pub nats: u16,
    pub postgres: u16,
    pub stats: u16,
    hosts: Hosts,
    external: External,
}

/// Engines that somebody else runs, or that are clusters. Their URLs are separated by commas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct External {
    pub etcd: Option<&'static str>,
    pub nats: Option<&'static str>,
    /// The certificate of the CA of NATS.
    pub nats_ca: Option<&'static Path>,
}

/// Where the parts of a stack are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hosts {
    pub public: Host,
    pub haproxy: Host,
    pub etcd: Host,
    pub nats: Host,
    /// This machine, as the balancer reaches it.
    pub machine: Host,
    /// By service; none if its PostgreSQL does not run.
    pub postgres: [Option<Host>; SERVICES.len()],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    Name(&'static str),
    Address(Ipv4Addr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

const LOCAL: Host = Host::Address(Ipv4Addr::LOCALHOST);
/// The name in etcd's certificate, when it is reached at the address of its container.
pub const ETCD_NAME: &str = "etcd";

/// The largest public port for which all other ports are valid.
pub const PUBLIC_MAX: u16 = u16::MAX - STATS_OFFSET;
pub const STATS_OFFSET: u16 = 324;

impl Ports {
    pub fn of(public: u16) -> Self {
        Self {
            public,
            internal: public + 1,
            etcd: public + 10,
            etcd_peer: public + 11,
            nats: public + 12,
            postgres: public + 14,
            stats: public + STATS_OFFSET,
            hosts: Hosts {
                public: LOCAL,
                haproxy: LOCAL,
                etcd: LOCAL,
                nats: LOCAL,
                machine: LOCAL,
                postgres: [Some(LOCAL); _],
            },
            external: External::default(),
        }
    }

    /// Returns the ports in `docker-compose.yml`, with the names of the hosts as a container resolves them.
    pub fn in_containers() -> Self {
        let (haproxy, etcd, nats) = (Host::Name("haproxy"), Host::Name(ETCD_NAME), Host::Name("nats"));
        Self {
            public: 8080,
            internal: 8081,
            etcd: 2379,
            etcd_peer: 2380,
            nats: 4222,
            postgres: 5432,
            stats: 8404,
            // PostgreSQL's is its own container.
            hosts: Hosts { public: haproxy, haproxy, etcd, nats, machine: LOCAL, postgres: [Some(LOCAL); _] },
            external: External::default(),
        }
    }

    /// Returns the same ports with other engines.
    #[must_use]
    pub fn with_external(self, external: External) -> Self {
        Self { external, ..self }
    }

    /// Returns the ports in `docker-compose.yml`, reached from outside of the network.
    pub fn of_containers(hosts: Hosts, public: u16) -> Self {
        Self { public, hosts, ..Self::in_containers() }
    }

    pub fn public_address(&self) -> String {
        format!("{}:{}", self.hosts.public, self.public)
    }

    /// Returns where a process of this machine listens, so that the balancer reaches it.
    pub fn machine(&self) -> Host {
        self.hosts.machine
    }

    pub fn etcd_address(&self) -> String {
        format!("{}:{}", self.hosts.etcd, self.etcd)
    }

    pub fn nats_address(&self) -> String {
        format!("{}:{}", self.hosts.nats, self.nats)
    }

    pub fn internal_address(&self) -> String {
        format!("{}:{}", self.hosts.haproxy, self.internal)
    }

    pub fn stats_address(&self) -> String {
        format!("{}:{}", self.hosts.haproxy, self.stats)
    }

    /// Returns the host of a service's database; none if its PostgreSQL does not run.
    pub fn postgres_host(&self, database: &str) -> Option<Host> {
        let position = SERVICES.iter().position(|service| service.database == database);
        // PostgreSQL's own database is for the superuser, natively and in each container.
        position.map_or(Some(LOCAL), |position| self.hosts.postgres[position])
    }

    pub fn postgres_address(&self, database: &str) -> String {
        self.postgres_host(database)
            .map_or_else(|| "(does not run)".to_owned(), |host| format!("{host}:{}", self.postgres))
    }

    /// Returns the name that etcd's certificate must have, unless it is that of the URL.
    pub fn etcd_server_name(&self) -> Option<&'static str> {
        (self.hosts.etcd != LOCAL && matches!(self.hosts.etcd, Host::Address(_))).then_some(ETCD_NAME)
    }

    /// Returns the URLs of etcd's members, separated by commas.
    pub fn etcd_url(&self) -> String {
        let own = || format!("https://{}:{}", self.hosts.etcd, self.etcd);
        self.external.etcd.map_or_else(own, str::to_owned)
    }

    /// Returns the URLs of NATS's servers, separated by commas.
    pub fn nats_url(&self) -> String {
        let own = || format!("nats://{}:{}", self.hosts.nats, self.nats);
        self.external.nats.map_or_else(own, str::to_owned)
    }

    pub fn nats_ca(&self) -> Option<&'static Path> {
        self.external.nats_ca
    }

    pub fn named(&self) -> [(&'static str, u16); 7] {
        [
            ("the public listener", self.public),
            ("the internal listener", self.internal),
            ("etcd", self.etcd),
            ("etcd's peers", self.etcd_peer),
            ("NATS", self.nats),
            ("PostgreSQL", self.postgres),
            ("HAProxy's stats page", self.stats),
        ]
    }
}

pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Returns the process that listens on a port, if we may read its open files.
pub fn holder(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .find_map(|table| listening_inode(&table, port))?;
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?;
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        if descriptors.flatten().any(|descriptor| {
            fs::read_link(descriptor.path()).is_ok_and(|target| target.as_os_str() == socket.as_str())
        }) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

/// Returns the socket's inode from a table of `/proc/net`. Ports are hexadecimal there, and state 0A is listening.
fn listening_inode(table: &str, port: u16) -> Option<String> {
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
        (local.ends_with(&suffix) && *state == "0A").then(|| (*inode).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_uses_a_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        assert!(!is_free(port));
        let holder = holder(port).expect("our own process is visible");
        assert!(holder.ends_with(&format!("(pid {})", std::process::id())), "{holder}");
    }

    #[test]
    fn no_two_parts_of_a_stack_share_a_port() {
        let named = Ports::of(8080).named();
        let ports: std::collections::BTreeSet<u16> = named.iter().map(|(_, port)| *port).collect();
        assert_eq!(ports.len(), named.len());
        assert_eq!(Ports::of(8080).stats, 8404);
    }
}
