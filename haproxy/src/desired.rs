//! The desired state of HAProxy: backends, their servers, the maps, and the rules of splits. Follows from the last
//! known state of the registry and, where the registry may be wrong, from the actual state.

use std::{collections::BTreeMap, net::SocketAddr};

use flack_catalogue::{SERVICES, Service};
use flack_common::registry::{Balance, ServiceDefinition, WEIGHT_DEFAULT, WEIGHT_MAX};
use flack_handover::protocol::Acknowledged;

use crate::{
    ServerName,
    actual::{Actual, AdminState},
    last_known::LastKnown,
    maps::{self, Maps},
    servers::{as_backup, as_canary, instance_of, is_backup, is_canary, service_of},
    splits::{self, MatchNames},
};

/// How HAProxy checks servers, and how many idle connections it keeps to each. Also in the configuration, because
/// servers that are added later do not inherit it from there. Without the options for the pool, HAProxy opens a
/// connection to them for each request.
pub const SERVER_OPTIONS: &str = "check inter 200ms fastinter 100ms downinter 300ms fall 2 rise 1 observe layer4 \
                                  error-limit 1 on-error mark-down pool-purge-delay 5s pool-max-conn 500";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    pub backends: BTreeMap<String, Balance>,
    pub servers: BTreeMap<ServerName, Server>,
    pub maps: Maps,
    pub match_names: MatchNames,
    /// The records from which the maps follow.
    pub acknowledged: Acknowledged,
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
        let (instances, splits, mut records) = (last_known.instances(), last_known.splits(), last_known.records());
        let mut servers = BTreeMap::new();
        for name in definitions.keys() {
            let split = splits.get(name);
            let of_service = instances.iter().filter(|(instance, _)| service_of(instance) == name);
            let mut members: Members = of_service
                .filter(|(_, entry)| !entry.draining)
                .filter_map(|(instance, entry)| {
                    let address = *addresses.get(&entry.address)?;
                    let server = Server { address, weight: entry.weight.min(WEIGHT_MAX) };
                    let is_canary = split.is_some_and(|split| split.version == entry.version);
                    Some((instance.clone(), Member { server, is_canary }))
                })
                .collect();
            if members.is_empty() {
                members = remaining_members(name, split.is_some(), last_known, actual);
                members.retain(|instance, _| !instances.get(instance).is_some_and(|entry| entry.draining));
            }
            servers.extend(servers_of(members));
        }
        let acknowledged = records.iter().map(|(part, record)| (*part, record.acknowledgement())).collect();
        for (part, record) in &mut records {
            // Reads stay at the owner while the replica has no instance.
            let replica = record.owner.other().service_name(*part);
            if !servers.keys().any(|server| service_of(server) == replica) {
                record.read_percent = 0;
            }
        }
        let mut maps = maps::build(&last_known.routes(), &records, &definitions);
        splits::add_to_maps(&mut maps, &splits, &definitions);
        let backends = definitions.into_iter().map(|(name, definition)| (name, definition.balance)).collect();
        Self { backends, servers, maps, match_names: MatchNames::new(&splits), acknowledged }
    }
}

/// An instance that should get requests.
struct Member {
    server: Server,
    /// Whether the split of its service names its version.
    is_canary: bool,
}

/// The members of a service, by instance (`<service>/<instance>`).
type Members = BTreeMap<ServerName, Member>;

/// Returns the servers of a service.
///
/// A split has an effect only while both of its sides have instances. Otherwise most requests would have no server as
/// soon as all instances have the version of a split that was left behind.
fn servers_of(members: Members) -> BTreeMap<ServerName, Server> {
    let canaries = members.values().filter(|member| member.is_canary).count();
    let is_split = (1..members.len()).contains(&canaries);
    let mut servers = BTreeMap::new();
    for (instance, Member { server, is_canary }) in members {
        if is_split && is_canary {
            servers.insert(as_canary(&instance), server);
            continue;
        }
        if is_split {
            servers.insert(as_backup(&instance), server.clone());
        }
        servers.insert(instance, server);
    }
    servers
}

/// Returns the members to keep for a service that has no instance in the registry: those whose health checks pass.
///
/// It is more likely that the registry is wrong than that all instances are gone. While HAProxy does not answer, its
/// last servers are kept. Their versions are unknown: with a split each one stays on its side.
fn remaining_members(service: &str, has_split: bool, last_known: &LastKnown, actual: Option<&Actual>) -> Members {
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
        .filter(|(name, _)| service_of(name) == service && !is_backup(name))
        .filter_map(|(name, address)| {
            let server = Server { address: address?, weight: WEIGHT_DEFAULT };
            Some((instance_of(name), Member { server, is_canary: has_split && is_canary(name) }))
        })
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
