//! The steps from what is to what should be. Pure: the same question always gets the same answer, and the next
//! pass finds what this one could not do. Nothing is remembered but since when a server drains.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use crate::{
    actual::{Actual, ActualServer, Duty},
    target::{Backend, Maps, Server, Target, WEBSOCKET},
};

/// How servers are watched; also the `default-server` of the configuration, which servers that are added later
/// do not inherit.
pub const CHECK: &str = "inter 200ms fastinter 100ms downinter 300ms fall 2 rise 1 observe layer4 error-limit 1 \
                         on-error mark-down";
/// Only for websockets: on other backends it makes reads fail that a retry would have saved.
pub const CHECK_WEBSOCKET: &str = "on-marked-down shutdown-sessions";
/// A server that drains longer than this has a client that will not go; its sessions are cut.
const DRAIN_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Add {
        backend: String,
        server: String,
        address: SocketAddr,
        weight: u16,
    },
    /// Back to work: somebody drained it, stopped it, or switched its checks off.
    Ready {
        backend: String,
        server: String,
    },
    Weigh {
        backend: String,
        server: String,
        weight: u16,
    },
    /// Nothing new goes there; what runs may finish.
    Drain {
        backend: String,
        server: String,
    },
    /// Takes it out; `cut` ends the sessions that it still has.
    Remove {
        backend: String,
        server: String,
        cut: bool,
    },
    /// Replaces a whole map at once.
    Map {
        file: &'static str,
        entries: BTreeMap<String, String>,
    },
}

/// Since when a server drains, by backend and server.
pub type Draining = BTreeMap<(String, String), Duration>;

/// Everything that has to be done, in this order: servers come before the routes to them, and go after.
pub fn plan(target: &Target, actual: &Actual, draining: &Draining) -> Vec<Step> {
    let mut steps = Vec::new();
    for (name, backend) in &target.backends {
        come(name, backend, actual, &mut steps);
    }
    steps.extend(changed_maps(&target.maps, &actual.maps));
    for (backend, servers) in &actual.backends {
        for (server, is) in servers {
            let wanted =
                target.backends.get(backend).is_some_and(|backend| backend.servers.contains_key(server));
            if !wanted {
                steps.extend(go(backend, server, is, draining));
            }
        }
    }
    steps
}

fn come(name: &str, backend: &Backend, actual: &Actual, steps: &mut Vec<Step>) {
    for (server, wanted) in &backend.servers {
        let is = actual.backends.get(name).and_then(|servers| servers.get(server));
        steps.extend(towards(name, server, wanted, is));
    }
}

fn towards(backend: &str, server: &str, wanted: &Server, is: Option<&ActualServer>) -> Vec<Step> {
    let (backend, server) = (backend.to_owned(), server.to_owned());
    let add = Step::Add {
        backend: backend.clone(),
        server: server.clone(),
        address: wanted.address,
        weight: wanted.weight,
    };
    match is {
        None => vec![add],
        // The same name at another place: the old process is gone, there is nothing to wait for.
        Some(is) if is.address != Some(wanted.address) => {
            vec![Step::Remove { backend, server, cut: true }, add]
        }
        Some(is) => {
            let ready = (is.duty != Duty::Ready || !is.checked)
                .then(|| Step::Ready { backend: backend.clone(), server: server.clone() });
            let weigh = (is.weight != wanted.weight).then_some(Step::Weigh {
                backend,
                server,
                weight: wanted.weight,
            });
            ready.into_iter().chain(weigh).collect()
        }
    }
}

fn go(backend: &str, server: &str, is: &ActualServer, draining: &Draining) -> Option<Step> {
    let (backend, server) = (backend.to_owned(), server.to_owned());
    let age = draining.get(&(backend.clone(), server.clone())).copied().unwrap_or_default();
    match is.duty {
        _ if is.sessions == 0 && (is.duty != Duty::Ready || !is.healthy) => {
            Some(Step::Remove { backend, server, cut: false })
        }
        Duty::Ready => Some(Step::Drain { backend, server }),
        Duty::Draining if age < DRAIN_MAX => None,
        Duty::Draining | Duty::Maintenance => Some(Step::Remove { backend, server, cut: true }),
    }
}

fn changed_maps(wanted: &Maps, is: &Maps) -> Vec<Step> {
    let nothing = BTreeMap::new();
    wanted
        .iter()
        .filter(|(file, entries)| is.get(*file).unwrap_or(&nothing) != *entries)
        .map(|(file, entries)| Step::Map { file, entries: entries.clone() })
        .collect()
}

impl Step {
    /// What to say to HAProxy, and the word that must be in its answer (nothing: any answer but an error).
    /// A map is a conversation of its own; see `agent`.
    pub fn command(&self) -> Option<(String, &'static str)> {
        Some(match self {
            Self::Add { backend, server, address, weight } => {
                let more = if backend == WEBSOCKET { CHECK_WEBSOCKET } else { "" };
                let name = format!("{backend}/{server}");
                let add = format!("add server {name} {address} check {CHECK} {more} weight {weight}");
                (format!("{add}; enable health {name}; enable server {name}"), "registered")
            }
            Self::Ready { backend, server } => {
                (format!("set server {backend}/{server} state ready; enable health {backend}/{server}"), "")
            }
            Self::Weigh { backend, server, weight } => {
                (format!("set server {backend}/{server} weight {weight}"), "")
            }
            Self::Drain { backend, server } => (format!("set server {backend}/{server} state drain"), ""),
            Self::Remove { backend, server, cut } => {
                let name = format!("{backend}/{server}");
                let cut = if *cut { format!("shutdown sessions server {name}; ") } else { String::new() };
                (format!("set server {name} state maint; {cut}del server {name}"), "deleted")
            }
            Self::Map { .. } => return None,
        })
    }
}

#[cfg(test)]
mod tests;
