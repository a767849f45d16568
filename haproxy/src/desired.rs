//! The desired state of HAProxy: backends, their servers, and the maps. Follows from the last known state of the
//! registry and, where the registry may be wrong, from the actual state.

use std::{collections::BTreeMap, net::SocketAddr};

use flack_catalogue::{SERVICES, Service};
use flack_common::registry::{Balance, ServiceDefinition, WEIGHT_DEFAULT, WEIGHT_MAX};

use crate::{
    ServerName,
    actual::{Actual, AdminState},
    last_known::LastKnown,
    maps::{self, Maps},
    service_of,
};

/// How HAProxy checks servers. Also in the configuration, because servers that are added later do not inherit it from
/// there.
pub const CHECK: &str = "inter 200ms fastinter 100ms downinter 300ms fall 2 rise 1 observe layer4 error-limit 1 \
                         on-error mark-down";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    pub backends: BTreeMap<String, Balance>,
    pub servers: BTreeMap<ServerName, Server>,
    pub maps: Maps,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub address: SocketAddr,
    pub weight: u16,
}

/// Socket addresses by the text in the registry. Host names are resolved before, so that this module stays pure.
pub type Addresses = BTreeMap<String, SocketAddr>;

impl Desired {
    /// Returns the desired state. `actual` is none while HAProxy does not answer.
    pub fn new(last_known: &LastKnown, addresses: &Addresses, actual: Option<&Actual>) -> Self {
        // Backends of the catalogue exist from the first start, because a new backend needs a reload. Their locations
        // exist too: a route must not fall back to the monolith because its service has never been started here.
        let mut definitions: BTreeMap<String, ServiceDefinition> =
            SERVICES.iter().map(|service| (service.name.to_owned(), ServiceDefinition::of(service))).collect();
        definitions.extend(last_known.definitions());
        let mut instances = last_known.instances();
        instances.retain(|name, _| definitions.contains_key(service_of(name)));
        let mut servers: BTreeMap<ServerName, Server> = instances
            .iter()
            .filter(|(_, entry)| !entry.draining)
            .filter_map(|(name, entry)| {
                let address = *addresses.get(&entry.address)?;
                Some((name.clone(), Server { address, weight: entry.weight.min(WEIGHT_MAX) }))
            })
            .collect();
        for name in definitions.keys() {
            if servers.keys().all(|server| service_of(server) != name) {
                let mut kept = remaining_servers(name, last_known, actual);
                kept.retain(|server, _| !instances.get(server).is_some_and(|entry| entry.draining));
                servers.extend(kept);
            }
        }
        let maps = maps::build(&last_known.routes(), &definitions);
        let backends = definitions.into_iter().map(|(name, definition)| (name, definition.balance)).collect();
        Self { backends, servers, maps }
    }
}

/// Returns the servers to keep for a service that has no instance in the registry: those whose health checks pass.
///
/// It is more likely that the registry is wrong than that all instances are gone. While HAProxy does not answer, its
/// last servers are kept.
fn remaining_servers(service: &str, last_known: &LastKnown, actual: Option<&Actual>) -> BTreeMap<ServerName, Server> {
    let addresses: Vec<(&ServerName, Option<SocketAddr>)> = match actual {
        Some(actual) => actual
            .servers
            .iter()
            .filter(|(_, server)| server.admin_state == AdminState::Ready && server.healthy)
            .map(|(name, server)| (name, server.address))
            .collect(),
        None => last_known.servers.iter().map(|(name, address)| (name, address.parse().ok())).collect(),
    };
    addresses
        .into_iter()
        .filter(|(name, _)| service_of(name) == service)
        .filter_map(|(name, address)| Some((name.clone(), Server { address: address?, weight: WEIGHT_DEFAULT })))
        .collect()
}

/// Returns the server option that closes all sessions of a server when it goes down: for websockets only.
///
/// With other services it makes reads fail that a retry on another server would have answered.
pub fn on_marked_down(service: &str) -> Option<&'static str> {
    Service::find(service).filter(|service| service.holds_connections).map(|_| "on-marked-down shutdown-sessions")
}

#[cfg(test)]
mod tests;
