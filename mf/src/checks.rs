//! Checks before anything is started. They report all problems at once.

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;

use crate::failure::Result;
use crate::home::Home;
use crate::infra::postgres::Server;
use crate::infra::programs;
use crate::ports::{self, Ports};

/// A new stack takes about 100 MB; JetStream, write-ahead logs and logs grow.
const DISK_FREE_BYTES_MIN: u64 = 500 * 1024 * 1024;
/// PostgreSQL and HAProxy need some hundreds, and each connection needs a few.
const OPEN_FILES_MIN: u64 = 1024;

/// Returns the PostgreSQL to use, or a failure with every problem.
pub fn before_start(home: &Home, ports: &Ports) -> Result<Server> {
    let mut problems = Vec::new();
    problems.extend(taken_ports(ports));
    if !problems.is_empty() {
        problems.push(format!("stop these processes, or use other ports: mfup --port {}", other_port(ports.public)));
    }
    problems.extend(missing_programs());
    let server = Server::find(home).map_err(|failure| problems.push(failure.message)).ok();
    problems.extend(disk(home));
    problems.extend(open_files());
    match server {
        Some(server) if problems.is_empty() => Ok(server),
        _ => Err(failure!(Unavailable, "the stack cannot be started:\n  - {}", problems.join("\n  - "))),
    }
}

/// Returns the ports that other processes use.
pub fn taken_ports(ports: &Ports) -> Vec<String> {
    let taken = ports.named().into_iter().filter(|(_, port)| !ports::is_free(*port));
    taken
        .map(|(purpose, port)| {
            let holder = ports::holder(port).unwrap_or_else(|| "another process".to_owned());
            format!("port {port}, for {purpose}, is in use by {holder}")
        })
        .collect()
}

/// Returns the programs that are not installed, besides PostgreSQL, and how to install them.
pub fn missing_programs() -> Vec<String> {
    let programs = [("etcd", "etcd-server"), ("nats-server", "nats-server"), ("haproxy", "haproxy")];
    let missing = programs.into_iter().filter(|(program, _)| programs::find(program).is_none());
    missing.map(|(program, package)| format!("{program} is missing. Install it: apt-get install {package}")).collect()
}

pub fn disk(home: &Home) -> Option<String> {
    let free = statvfs(home.path()).ok().map(|disk| disk.blocks_available().saturating_mul(disk.fragment_size()))?;
    let mib = |bytes: u64| bytes / (1024 * 1024);
    (free < DISK_FREE_BYTES_MIN).then(|| {
        format!(
            "only {} MiB are free on the disk of {}, but {} are needed. Make room, or set MF_HOME to another disk",
            mib(free),
            home.path().display(),
            mib(DISK_FREE_BYTES_MIN)
        )
    })
}

pub fn open_files() -> Option<String> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    (hard < OPEN_FILES_MIN).then(|| {
        format!("only {hard} open files are allowed, but {OPEN_FILES_MIN} are needed. Raise the limit (ulimit -Hn)")
    })
}

/// Returns a valid port to suggest.
pub fn other_port(port: u16) -> u16 {
    port.checked_add(1000).filter(|port| *port <= ports::PUBLIC_MAX).unwrap_or(ports::PUBLIC_MAX)
}
