//! What one pass leaves for the next.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use flack_common::registry::{Balance, Mirror};
use futures::future::join_all;
use tokio::{net::lookup_host, time::timeout};
use tracing::{info, warn};

use crate::{
    ServerName,
    actual::{Actual, AdminState},
    config::Config,
    desired::{Addresses, Desired},
    last_known::LastKnown,
    plan::{DrainTimes, Step},
    render,
    servers::instance_of,
    splits::MatchNames,
};

/// A draining instance with sessions is acknowledged after this time: it receives nothing new, and its sessions may
/// finish. Websockets would keep it waiting for hours.
const DRAIN_ACKNOWLEDGED_AFTER: Duration = Duration::from_millis(500);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) last_known: LastKnown,
    pub(super) marker_absent: bool,
    /// The failed structure, and when its reload failed.
    pub(super) failed_reload: Option<(String, Instant)>,
    /// The last error of writing the files, so that it is logged once.
    pub(super) save_error: Option<String>,
    pub(super) failed_steps: Vec<Step>,
    /// HAProxy's state at the end of the pass.
    pub(super) actual: Option<Actual>,
    addresses: Addresses,
    /// The structure of the pass before, and what it follows from.
    structure: Option<(BTreeMap<String, Balance>, MatchNames, String)>,
    /// Whether a host name could not be resolved.
    has_unresolved: bool,
    draining_since: BTreeMap<ServerName, Instant>,
    /// None before the first pass.
    haproxy_answers: Option<bool>,
}

impl State {
    pub(super) fn new(last_known: LastKnown) -> Self {
        Self { last_known, ..Self::default() }
    }

    /// Takes over the copy of the registry if it is current. Returns whether the desired state may have changed.
    pub(super) async fn update(&mut self, mirror: &Mirror) -> bool {
        if !mirror.is_current() {
            // This process may not have resolved the host names of the last known state yet.
            return self.resolve_addresses().await;
        }
        let before = self.last_known.clone();
        let marker_absent = self.last_known.update(&mirror.snapshot());
        let is_changed = before != self.last_known || marker_absent != self.marker_absent;
        self.marker_absent = marker_absent;
        if is_changed {
            self.resolve_addresses().await;
        }
        is_changed
    }

    /// Resolves host names that could not be resolved before.
    pub(super) async fn resolve_again(&mut self) {
        if self.has_unresolved {
            self.resolve_addresses().await;
        }
    }

    /// Returns whether an address has changed. A name that cannot be resolved keeps its address, also the one that
    /// HAProxy had before a restart of this process: its instance may work.
    async fn resolve_addresses(&mut self) -> bool {
        let before = std::mem::take(&mut self.addresses);
        let had_unresolved = std::mem::take(&mut self.has_unresolved);
        let instances = self.last_known.instances();
        let looked_up = join_all(instances.values().map(|entry| look_up(&entry.address))).await;
        for ((server, entry), address) in instances.into_iter().zip(looked_up) {
            let of_haproxy = || {
                let mut servers = self.last_known.servers.iter();
                servers.find(|(name, _)| instance_of(name) == server).and_then(|(_, address)| address.parse().ok())
            };
            self.has_unresolved |= address.is_none();
            match address.or_else(|| before.get(&entry.address).copied()).or_else(of_haproxy) {
                Some(address) => drop(self.addresses.insert(entry.address, address)),
                None if had_unresolved => {}
                None => warn!(server, address = entry.address, "the address of an instance cannot be resolved"),
            }
        }
        before != self.addresses
    }

    /// Returns the desired state, and remembers its servers for the time when HAProxy does not answer.
    pub(super) fn desired(&mut self, actual: Option<&Actual>) -> Desired {
        let desired = Desired::new(&self.last_known, &self.addresses, actual);
        let servers = desired.servers.iter().map(|(name, server)| (name.clone(), server.address.to_string()));
        self.last_known.servers = servers.collect();
        desired
    }

    /// Returns the structure of the configuration. Rendering it takes as long as the rest of a pass.
    pub(super) fn structure(&mut self, config: &Config, desired: &Desired) -> String {
        if let Some((backends, match_names, structure)) = &self.structure
            && *backends == desired.backends
            && *match_names == desired.match_names
        {
            return structure.clone();
        }
        let structure = render::structure(config, desired);
        self.structure = Some((desired.backends.clone(), desired.match_names.clone(), structure.clone()));
        structure
    }

    /// Logs when HAProxy begins or ceases to answer.
    pub(super) fn log_haproxy(&mut self, actual: &io::Result<Actual>) {
        if self.haproxy_answers.replace(actual.is_ok()) != Some(actual.is_ok()) {
            match actual {
                Ok(actual) => info!(structure = actual.structure, "HAProxy answers"),
                Err(error) => {
                    warn!(%error, "HAProxy does not answer; its files are kept up to date for its start");
                }
            }
        }
    }

    /// Returns how long the servers of instances that leave have been draining. A server whose instance has moved to
    /// the other backend of its service is not included: its sessions need not end.
    pub(super) fn drain_times(&mut self, desired: &Desired, actual: &Actual) -> DrainTimes {
        let now = Instant::now();
        let staying: BTreeSet<ServerName> = desired.servers.keys().map(|name| instance_of(name)).collect();
        let is_draining = |name: &ServerName| {
            actual.servers.get(name).is_some_and(|server| server.admin_state == AdminState::Drain)
                && !staying.contains(&instance_of(name))
        };
        self.draining_since.retain(|name, _| is_draining(name));
        for name in actual.servers.keys().filter(|name| is_draining(name)) {
            self.draining_since.entry(name.clone()).or_insert(now);
        }
        self.draining_since.iter().map(|(name, since)| (name.clone(), now - *since)).collect()
    }

    pub(super) fn is_draining(&self) -> bool {
        !self.draining_since.is_empty()
    }

    /// Returns the instances (`<service>/<instance>`) that receive requests, through whichever server.
    pub(super) fn receiving(&mut self, desired: &Desired, actual: &Actual) -> BTreeSet<ServerName> {
        let drain_times = self.drain_times(desired, actual);
        let receives = |name: &ServerName| match actual.servers[name].admin_state {
            AdminState::Ready => true,
            AdminState::Drain => {
                actual.servers[name].sessions > 0
                    && drain_times.get(name).is_none_or(|time| *time < DRAIN_ACKNOWLEDGED_AFTER)
            }
            AdminState::Maint => false,
        };
        actual.servers.keys().filter(|name| receives(name)).map(|name| instance_of(name)).collect()
    }
}

async fn look_up(address: &str) -> Option<SocketAddr> {
    if let Ok(address) = address.parse() {
        return Some(address);
    }
    timeout(LOOKUP_TIMEOUT, lookup_host(address)).await.ok()?.ok()?.next()
}

#[cfg(test)]
mod tests {
    use flack_common::registry::InstanceEntry;

    use super::*;
    use crate::{actual::ActualServer, desired::Server};

    #[tokio::test]
    async fn an_instance_whose_name_cannot_be_resolved_keeps_the_address_that_haproxy_had() {
        let mut last_known = LastKnown::default();
        let entry = serde_json::to_string(&InstanceEntry::new("nowhere.invalid:8000", "1")).expect("plain data");
        last_known.update(&[("/flack/services/users/users-1".to_owned(), entry)].into());
        last_known.servers = [("users.canary/users-1".to_owned(), "192.0.2.7:8000".to_owned())].into();
        let mut state = State::new(last_known);
        assert!(state.resolve_addresses().await && state.has_unresolved);
        assert_eq!(state.addresses["nowhere.invalid:8000"], SocketAddr::from(([192, 0, 2, 7], 8000)));
    }

    #[test]
    fn the_drain_of_a_moved_instance_is_timed_only_when_the_instance_leaves() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9001));
        let server = |admin_state| ActualServer {
            address: Some(address),
            weight: 100,
            admin_state,
            healthy: true,
            checked: true,
            sessions: 1,
        };
        let servers = [
            ("users/users-1".to_owned(), server(AdminState::Drain)),
            ("users.canary/users-1".to_owned(), server(AdminState::Ready)),
        ];
        let actual = Actual { servers: servers.into(), ..Actual::default() };
        let moved = [("users.canary/users-1".to_owned(), Server { address, weight: 100 })];
        let desired = Desired { servers: moved.into(), ..Desired::default() };
        let mut state = State::default();
        assert!(state.drain_times(&desired, &actual).is_empty() && !state.is_draining());
        assert_eq!(state.receiving(&desired, &actual), ["users/users-1".to_owned()].into());
        assert!(state.drain_times(&Desired::default(), &actual).contains_key("users/users-1") && state.is_draining());
    }
}
