//! The differences between the actual and the desired state, as steps in order. A pure function: a step that fails is
//! planned again by the next pass.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use crate::{
    ServerName,
    actual::{Actual, ActualServer, AdminState},
    desired::{Desired, Server},
};

/// The sessions of a server that has been draining for this time are closed.
const DRAIN_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Add {
        server: ServerName,
        address: SocketAddr,
        weight: u16,
    },
    /// Ends a drain or maintenance, and enables health checks.
    SetReady {
        server: ServerName,
    },
    SetWeight {
        server: ServerName,
        weight: u16,
    },
    /// Sends no new requests; current ones continue.
    Drain {
        server: ServerName,
    },
    Remove {
        server: ServerName,
        close_sessions: bool,
    },
    /// Replaces all entries of a map at once.
    ReplaceMap {
        file: &'static str,
        entries: BTreeMap<String, String>,
    },
}

/// How long each draining server has been draining.
pub type DrainTimes = BTreeMap<ServerName, Duration>;

/// Returns all steps. Servers are added before a map sends requests to them, and drained after it has stopped that.
pub fn plan(desired: &Desired, actual: &Actual, draining: &DrainTimes) -> Vec<Step> {
    let wanted = desired.servers.iter();
    let mut steps: Vec<Step> =
        wanted.flat_map(|(name, server)| add_or_correct(name, server, actual.servers.get(name))).collect();
    let maps = desired.maps.iter().filter(|(file, entries)| actual.maps.get(*file) != Some(entries));
    steps.extend(maps.map(|(file, entries)| Step::ReplaceMap { file, entries: entries.clone() }));
    let unwanted = actual.servers.iter().filter(|(name, _)| !desired.servers.contains_key(*name));
    steps.extend(unwanted.filter_map(|(name, server)| drain_or_remove(name, server, draining.get(name).copied())));
    steps
}

fn add_or_correct(name: &ServerName, wanted: &Server, actual: Option<&ActualServer>) -> Vec<Step> {
    let server = || name.clone();
    let weight = wanted.weight;
    let add = Step::Add { server: server(), address: wanted.address, weight };
    let Some(actual) = actual else { return vec![add] };
    if actual.address != Some(wanted.address) {
        // The process at the old address is gone: there is nothing to wait for.
        return vec![Step::Remove { server: server(), close_sessions: true }, add];
    }
    let mut steps = Vec::new();
    if actual.admin_state != AdminState::Ready || !actual.checked {
        steps.push(Step::SetReady { server: server() });
    }
    if actual.weight != weight {
        steps.push(Step::SetWeight { server: server(), weight });
    }
    steps
}

fn drain_or_remove(name: &ServerName, actual: &ActualServer, draining: Option<Duration>) -> Option<Step> {
    let server = name.clone();
    match actual.admin_state {
        state if actual.sessions == 0 && (state != AdminState::Ready || !actual.healthy) => {
            Some(Step::Remove { server, close_sessions: false })
        }
        AdminState::Ready => Some(Step::Drain { server }),
        AdminState::Drain if draining.unwrap_or_default() < DRAIN_MAX => None,
        AdminState::Drain | AdminState::Maint => Some(Step::Remove { server, close_sessions: true }),
    }
}

#[cfg(test)]
mod tests;
