//! The catalogue of services: which services exist, and what each of them needs.
//!
//! This is the only list of services. Database accounts, etcd roles, NATS permissions, the balancer's first
//! configuration, routes, the start order, the operator's commands and the tests derive from it. To add a service, add
//! an entry here and follow `docs/guides/add-a-service.md`.
//!
//! Not here: which instances run (the registry), and which process owns which data (`/flack/authority/`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The service that owns everything before the migration, and the balancer's default backend.
pub const MONOLITH: &str = "monolith";

/// A service: one binary `flack-<name>`, one backend of the balancer, one database with a role of the same name, one
/// account in etcd and one in NATS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts of an entry, not states")]
pub struct Service {
    /// Lower-case letters. Also the name of the backend, the registry key, the route and the NATS subject prefix.
    pub name: &'static str,
    /// The database and the role that owns it.
    pub database: &'static str,
    /// Paths that the service answers: `/path` with everything below it, `=/path` exactly that path.
    pub paths: &'static [&'static str],
    pub exposure: Exposure,
    /// Whether the service publishes its journal as the JetStream stream `NAME` with the subjects `flack.<name>.>`.
    pub publishes_events: bool,
    /// Services whose streams it reads. Their order is the order of the offsets in a websocket cursor.
    pub reads_events_of: &'static [&'static str],
    /// Core NATS signals (not stored) that it publishes: `flack.<name>.<signal>`.
    pub publishes_signals: &'static [&'static str],
    /// Core NATS subjects that it subscribes to.
    pub reads_signals: &'static [&'static str],
    /// Whether it signs tokens: it may write `/flack/jwks/` and `/flack/revoked/` while it owns tokens.
    pub signs_tokens: bool,
    /// Whether its requests are connections that stay open (websockets). The balancer closes them when their instance
    /// goes down.
    pub holds_connections: bool,
    /// Whether it is a part that has exactly one owner at a time, recorded in `/flack/authority/<name>`: its service or
    /// the monolith. The paths of a part go to its owner.
    pub has_authority: bool,
}

/// Which listener of the balancer reaches a service. The internal listener reaches every service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exposure {
    #[default]
    Public,
    Internal,
}

/// All services, in start order.
pub static SERVICES: [Service; 9] = [
    Service {
        name: MONOLITH,
        // The database of the app before the migration; its name is the app's.
        database: "flack",
        // None of its own: the default backend gets every path that no route sends elsewhere.
        paths: &[],
        exposure: Exposure::Public,
        publishes_events: true,
        reads_events_of: &["users", "tokens", "messages", "ui", MONOLITH],
        publishes_signals: &["typing"],
        reads_signals: TYPING_SIGNALS,
        signs_tokens: true,
        // Its websockets end by themselves: closing all its sessions would fail requests that a retry can save.
        holds_connections: false,
        has_authority: false,
    },
    Service {
        paths: &["=/", "/static", "/stats", "/api/ui", "/api/docs"],
        publishes_events: true,
        has_authority: true,
        ..service("ui")
    },
    Service {
        paths: &["/api/users", "/api/v2/profiles"],
        publishes_events: true,
        has_authority: true,
        ..service("users")
    },
    Service {
        paths: &["/api/tokens"],
        publishes_events: true,
        reads_events_of: &["users", MONOLITH],
        signs_tokens: true,
        has_authority: true,
        ..service("tokens")
    },
    Service {
        paths: &["/api/messages", "/api/v2/messages", "/api/v2/channels"],
        publishes_events: true,
        reads_events_of: &["users", MONOLITH],
        has_authority: true,
        ..service("messages")
    },
    Service {
        paths: &["/ws"],
        reads_events_of: &["users", "messages", MONOLITH],
        publishes_signals: &["typing"],
        reads_signals: TYPING_SIGNALS,
        holds_connections: true,
        has_authority: true,
        ..service("websocket")
    },
    Service { paths: &["/api/search"], reads_events_of: &["users", "messages", MONOLITH], ..service("search") },
    Service { paths: &["/api/recommend"], reads_events_of: &["messages", MONOLITH], ..service("recommend") },
    Service { paths: &["/api/tag"], reads_events_of: &["messages", "ui", MONOLITH], ..service("tag") },
];

/// Published by every process that holds websocket connections.
const TYPING_SIGNALS: &[&str] = &["flack.websocket.typing", "flack.monolith.typing"];

/// The services beside the monolith, in start order: its parts, and those that are no part.
pub fn extracted() -> impl Iterator<Item = &'static Service> {
    SERVICES.iter().filter(|service| service.name != MONOLITH)
}

impl fmt::Display for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name)
    }
}

impl Service {
    /// The entry named `name`.
    pub fn find(name: &str) -> Option<&'static Self> {
        SERVICES.iter().find(|service| service.name == name)
    }

    /// The entry named `name`, at compile time: a name that is not in the catalogue does not compile.
    pub const fn named(name: &str) -> &'static Self {
        let mut index = 0;
        while index < SERVICES.len() {
            if equal(SERVICES[index].name, name) {
                return &SERVICES[index];
            }
            index += 1;
        }
        panic!("no service of this name is in the catalogue")
    }

    /// The name of its program, which is built beside `mf`.
    pub fn program(&self) -> String {
        format!("flack-{}", self.name)
    }

    /// The name of its JetStream stream.
    pub fn stream(&self) -> Option<String> {
        self.publishes_events.then(|| self.name.to_uppercase())
    }
}

/// A public service without events, whose database has its name.
const fn service(name: &'static str) -> Service {
    Service {
        name,
        database: name,
        paths: &[],
        exposure: Exposure::Public,
        publishes_events: false,
        reads_events_of: &[],
        publishes_signals: &[],
        reads_signals: &[],
        signs_tokens: false,
        holds_connections: false,
        has_authority: false,
    }
}

/// `==` for text is not available in constants.
const fn equal(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len() != right.len() {
        return false;
    }
    let mut index = 0;
    while index < left.len() {
        if left[index] != right[index] {
            return false;
        }
        index += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_databases_and_paths_are_unique() {
        let names: BTreeSet<&str> = SERVICES.iter().map(|service| service.name).collect();
        let databases: BTreeSet<&str> = SERVICES.iter().map(|service| service.database).collect();
        assert_eq!((names.len(), databases.len()), (SERVICES.len(), SERVICES.len()));
        let paths: Vec<&str> = SERVICES.iter().flat_map(|service| service.paths).copied().collect();
        assert_eq!(paths.iter().collect::<BTreeSet<_>>().len(), paths.len());
    }

    #[test]
    fn every_stream_that_is_read_is_published() {
        for service in &SERVICES {
            for source in service.reads_events_of {
                let source = Service::find(source).expect("a service of the catalogue");
                assert!(source.publishes_events, "{} reads {}", service.name, source.name);
            }
        }
    }

    #[test]
    fn every_signal_that_is_read_is_published() {
        let published: BTreeSet<String> = SERVICES
            .iter()
            .flat_map(|service| {
                service.publishes_signals.iter().map(|signal| format!("flack.{}.{signal}", service.name))
            })
            .collect();
        for signal in SERVICES.iter().flat_map(|service| service.reads_signals) {
            assert!(published.contains(*signal), "{signal}");
        }
    }
}
