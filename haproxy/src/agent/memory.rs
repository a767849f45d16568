//! What the agent remembers between two passes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use flack_common::registry::Mirror;
use tokio::{net::lookup_host, time::timeout};
use tracing::{info, warn};

use crate::{
    actual::{Actual, ActualServer, Duty},
    knowledge::Knowledge,
    plan::{Draining, Step},
    target::{Addresses, Target},
};

/// An instance that drains is told that it was let go after this, whoever is still connected: these may finish,
/// and nobody new comes. Websockets would hold it up for hours.
const LET_GO_AFTER: Duration = Duration::from_millis(500);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// What a pass leaves to the next one.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) knowledge: Knowledge,
    pub(super) addresses: Addresses,
    pub(super) mark: bool,
    pub(super) draining: BTreeMap<(String, String), Instant>,
    /// `None`: not seen yet.
    pub(super) haproxy_is_there: Option<bool>,
    pub(super) reload_failed: Option<(String, Instant)>,
    /// What was said when the files could not be written; said once.
    pub(super) save_failed: Option<String>,
    /// Steps that did not work last time.
    pub(super) failed: Vec<Step>,
}

impl Memory {
    /// Takes in the copy of the registry, when there is a current one. True when that changes anything for us.
    pub(super) async fn learn(&mut self, mirror: &Mirror) -> bool {
        if !mirror.is_current() {
            // The last good state may have instances whose names have never been looked up by this process.
            return self.look_up().await;
        }
        let before = self.knowledge.clone();
        let copy = mirror.snapshot();
        let mark = self.knowledge.learn(&copy);
        let changed = before != self.knowledge || mark != self.mark;
        self.mark = mark;
        if changed {
            self.look_up().await;
        }
        changed
    }

    /// Addresses of instances that registered with a name. True when one is new.
    async fn look_up(&mut self) -> bool {
        let before = std::mem::take(&mut self.addresses);
        for (service, instance, entry) in self.knowledge.instances() {
            let found = match entry.address.parse::<SocketAddr>() {
                Ok(address) => Some(address),
                Err(_) => look_up(&entry.address).await.or_else(|| before.get(&entry.address).copied()),
            };
            if let Some(address) = found {
                self.addresses.insert(entry.address, address);
            } else {
                warn!(service, instance, address = entry.address, "cannot find the address of an instance");
            }
        }
        before != self.addresses
    }

    pub(super) fn note_haproxy(&mut self, actual: &io::Result<Actual>) {
        let is_there = actual.is_ok();
        if self.haproxy_is_there != Some(is_there) {
            match actual {
                Ok(actual) => info!(structure = actual.structure, "HAProxy is there"),
                Err(error) => {
                    warn!(%error, "HAProxy does not answer; its files are kept up to date for its start");
                }
            }
            self.haproxy_is_there = Some(is_there);
        }
    }

    pub(super) fn drain_ages(&mut self, actual: &Actual) -> Draining {
        let now = Instant::now();
        let is: BTreeSet<(String, String)> = servers(actual)
            .filter(|(_, _, server)| server.duty == Duty::Draining)
            .map(|(service, instance, _)| (service.clone(), instance.clone()))
            .collect();
        self.draining.retain(|key, _| is.contains(key));
        for key in is {
            self.draining.entry(key).or_insert(now);
        }
        self.draining.iter().map(|(key, since)| (key.clone(), now - *since)).collect()
    }

    pub(super) fn getting_traffic(&mut self, actual: &Actual) -> BTreeSet<(String, String)> {
        let ages = self.drain_ages(actual);
        servers(actual)
            .map(|(service, instance, server)| ((service.clone(), instance.clone()), server))
            .filter(|(key, server)| {
                let let_go = ages.get(key).is_some_and(|age| server.sessions == 0 || *age >= LET_GO_AFTER);
                match server.duty {
                    Duty::Ready => true,
                    Duty::Draining => !let_go,
                    Duty::Maintenance => false,
                }
            })
            .map(|(key, _)| key)
            .collect()
    }

    pub(super) fn remember_servers(&mut self, target: &Target) {
        self.knowledge.servers = target
            .backends
            .iter()
            .filter(|(_, backend)| !backend.servers.is_empty())
            .map(|(name, backend)| {
                let servers =
                    backend.servers.iter().map(|(name, server)| (name.clone(), server.address.to_string()));
                (name.clone(), servers.collect())
            })
            .collect();
    }
}

fn servers(actual: &Actual) -> impl Iterator<Item = (&String, &String, &ActualServer)> {
    actual.backends.iter().flat_map(|(service, servers)| {
        servers.iter().map(move |(instance, server)| (service, instance, server))
    })
}

async fn look_up(address: &str) -> Option<SocketAddr> {
    timeout(LOOKUP_TIMEOUT, lookup_host(address)).await.ok()?.ok()?.next()
}
