//! What should be: backends with their servers, and the maps. Made of what the registry said and, where that
//! is not to be believed, of what HAProxy has.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use flack_common::registry::{Balance, Exposure, InstanceEntry, PathPattern, ServiceDefinition};

use crate::{
    actual::{Actual, Duty},
    knowledge::Knowledge,
};

pub const MONOLITH: &str = "monolith";
/// Its connections last for hours, and are cut when their server goes down: others are near.
pub const WEBSOCKET: &str = "websocket";
const PERCENT_MAX: u8 = 100;
/// HAProxy's own limit.
const WEIGHT_MAX: u16 = 256;

/// Backends that are there from the first start, so that it needs no reload, with the locations they have until
/// they tell us themselves: a route must not fall to the monolith because its service has never run here.
const SERVICES_AT_START: [(&str, &[&str]); 6] = [
    (MONOLITH, &[]),
    ("ui", &["=/", "/static", "/stats", "/api/ui", "/api/docs"]),
    ("users", &["/api/users"]),
    ("tokens", &["/api/tokens"]),
    ("messages", &["/api/messages"]),
    (WEBSOCKET, &["/ws"]),
];

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    pub backends: BTreeMap<String, Backend>,
    pub maps: Maps,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    pub balance: Balance,
    pub servers: BTreeMap<String, Server>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub address: SocketAddr,
    pub weight: u16,
}

/// File name to keys and values.
pub type Maps = BTreeMap<&'static str, BTreeMap<String, String>>;

pub const EXACT: &str = "exact.map";
pub const PREFIX: &str = "prefix.map";
pub const PERCENT: &str = "percent.map";
pub const DOORS: &str = "doors.map";
pub const MAP_FILES: [&str; 4] = [EXACT, PREFIX, PERCENT, DOORS];

/// Instance addresses by the text in the registry; names are looked up before, this stays pure.
pub type Addresses = BTreeMap<String, SocketAddr>;

/// What should be. `actual` is none while HAProxy is away.
pub fn target(knowledge: &Knowledge, addresses: &Addresses, actual: Option<&Actual>) -> Target {
    let definitions = definitions(knowledge);
    let instances = knowledge.instances();
    let mut backends: BTreeMap<String, Backend> = definitions
        .iter()
        .map(|(name, definition)| {
            (name.clone(), Backend { balance: definition.balance, servers: BTreeMap::new() })
        })
        .collect();
    for (service, instance, entry) in &instances {
        if let Some(backend) = backends.get_mut(service)
            && let Some(server) = server(entry, addresses)
        {
            backend.servers.insert(instance.clone(), server);
        }
    }
    for (name, backend) in &mut backends {
        if backend.servers.is_empty() {
            let leaving = instances
                .iter()
                .filter(|(service, _, entry)| service == name && entry.draining)
                .map(|(_, instance, _)| instance.as_str())
                .collect();
            backend.servers = still_well(name, &leaving, knowledge, actual);
        }
    }
    let maps = maps(knowledge, &definitions);
    Target { backends, maps }
}

fn definitions(knowledge: &Knowledge) -> BTreeMap<String, ServiceDefinition> {
    let mut definitions: BTreeMap<String, ServiceDefinition> = SERVICES_AT_START
        .iter()
        .map(|(name, location)| ((*name).to_owned(), ServiceDefinition::public(name, location)))
        .collect();
    definitions.extend(knowledge.definitions());
    definitions
}

fn server(entry: &InstanceEntry, addresses: &Addresses) -> Option<Server> {
    let address = addresses.get(&entry.address).copied()?;
    (!entry.draining).then(|| Server { address, weight: entry.weight.min(WEIGHT_MAX) })
}

/// All instances of a service seem gone. Those that said farewell are; the others stay as long as their health
/// checks pass: rather the registry is wrong than all of them. HAProxy away: what it had at last.
fn still_well(
    service: &str,
    leaving: &BTreeSet<&str>,
    knowledge: &Knowledge,
    actual: Option<&Actual>,
) -> BTreeMap<String, Server> {
    let weight = 100;
    let stays = |instance: &&String| !leaving.contains(instance.as_str());
    match actual {
        Some(actual) => actual
            .backends
            .get(service)
            .into_iter()
            .flatten()
            .filter(|(instance, server)| stays(instance) && server.duty == Duty::Ready && server.healthy)
            .filter_map(|(instance, server)| {
                Some((instance.clone(), Server { address: server.address?, weight }))
            })
            .collect(),
        None => knowledge
            .servers
            .get(service)
            .into_iter()
            .flatten()
            .filter(|(instance, _)| stays(instance))
            .filter_map(|(instance, address)| {
                Some((instance.clone(), Server { address: address.parse().ok()?, weight }))
            })
            .collect(),
    }
}

fn maps(knowledge: &Knowledge, definitions: &BTreeMap<String, ServiceDefinition>) -> Maps {
    let mut maps: Maps = MAP_FILES.into_iter().map(|file| (file, BTreeMap::new())).collect();
    let mut set = |file: &'static str, key: String, value: String| {
        maps.entry(file).or_default().insert(key, value);
    };
    let mut percents: BTreeMap<&str, u8> = BTreeMap::new();
    for (name, route) in &knowledge.routes() {
        // A value that names no backend would silently mean the monolith, which does not own the data.
        let (Some(definition), Some((owner, _))) =
            (definitions.get(name), definitions.get_key_value(&route.owner))
        else {
            continue;
        };
        if owner == MONOLITH {
            continue;
        }
        // Two routes to one owner: the smaller share counts, it can only send less where less was meant.
        let percent = percents.entry(owner).or_insert(PERCENT_MAX);
        *percent = route.percentage.min(*percent);
        for location in &definition.paths {
            match location {
                PathPattern::Exact(path) => set(EXACT, path.clone(), owner.clone()),
                PathPattern::Prefix(path) => {
                    set(PREFIX, format!("{}/", path.trim_end_matches('/')), owner.clone());
                }
            }
        }
    }
    for (owner, percent) in percents {
        set(PERCENT, owner.to_owned(), percent.to_string());
    }
    for (name, definition) in definitions {
        if definition.exposure == Exposure::Internal {
            set(DOORS, name.clone(), "internal".to_owned());
        }
    }
    maps
}

#[cfg(test)]
mod tests;
