//! Checks of the registry: whether its entries contradict each other, or the processes that run.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{TimeDelta, Utc};
use flack_catalogue::{MONOLITH, SERVICES, Service};
use flack_common::registry::{InstanceEntry, Route, keys};
use flack_handover::{Entry, Part};
use flack_supervisor::State;
use serde_json::Value;

use crate::failure::Result;
use crate::runtime::Runtime;
use crate::stack::Stack;

/// An instance that has just started is not registered yet.
const START_SECONDS_MAX: i64 = 30;

/// What the registry has, and what runs.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// By service and name.
    instances: BTreeMap<(String, String), InstanceEntry>,
    in_balancer: BTreeSet<(String, String)>,
    /// Of services that are no parts. The paths of a part go to its owner.
    routes: BTreeMap<String, Route>,
    authority: BTreeMap<String, Entry>,
    splits: BTreeMap<String, Value>,
    upgrades: BTreeMap<String, Value>,
    /// Services whose upgrade a terminal drives.
    operated: BTreeSet<String>,
    /// Entries that are not what their keys name.
    invalid: Vec<String>,
    /// Instances that have run for a while, by service and name.
    running: BTreeSet<(String, String)>,
}

impl Facts {
    pub(super) async fn read(stack: &Stack, runtime: &Runtime) -> Result<Self> {
        let mut facts = Self::of(&stack.registry().await?.entries().await?);
        let is_old = |started| Utc::now() - started > TimeDelta::seconds(START_SECONDS_MAX);
        let listed = runtime.list().await?.into_iter();
        facts.running = listed
            .filter(|process| process.state == State::Running && is_old(process.started))
            .filter(|process| Service::find(&process.group).is_some())
            .map(|process| (process.group, process.name))
            .collect();
        Ok(facts)
    }

    fn of(entries: &BTreeMap<String, String>) -> Self {
        let mut facts = Self::default();
        for (key, value) in entries {
            let segments = keys::segments(key, keys::ROOT);
            let is_valid = match segments.as_slice() {
                ["services", service, instance] => insert(&mut facts.instances, pair(service, instance), value),
                ["balancer", service, instance] => {
                    facts.in_balancer.insert(pair(service, instance));
                    true
                }
                ["routes", service] if Part::find(service).is_none() => {
                    insert(&mut facts.routes, (*service).to_owned(), value)
                }
                ["authority", part] => match Part::find(part).and_then(|part| Entry::decode(part, value).ok()) {
                    Some(entry) => facts.authority.insert((*part).to_owned(), entry).is_none(),
                    None => false,
                },
                ["splits", service] => insert(&mut facts.splits, (*service).to_owned(), value),
                ["upgrades", service] => insert(&mut facts.upgrades, (*service).to_owned(), value),
                ["upgrades", service, "operator"] => {
                    facts.operated.insert((*service).to_owned());
                    true
                }
                _ => true,
            };
            if !is_valid {
                facts.invalid.push(key.clone());
            }
        }
        facts
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self
            .invalid
            .iter()
            .map(|key| format!("{key} is not valid JSON of this version. See what uses it: mfps, mflogs agent"))
            .collect();
        self.check_routes(&mut problems);
        self.check_owners(&mut problems);
        self.check_instances(&mut problems);
        self.check_versions(&mut problems);
        problems
    }

    fn has_instance(&self, service: &str) -> bool {
        self.instances.keys().any(|(of, _)| of == service)
    }

    /// A service that is no part may be without an instance: a stack can be started without it.
    fn check_routes(&self, problems: &mut Vec<String>) {
        for (name, Route { owner, .. }) in &self.routes {
            if Service::find(name).is_none() || Service::find(owner).is_none() {
                problems
                    .push(format!("the route of {name} to {owner} names no service. Restart the stack: mfdown, mfup"));
            }
        }
    }

    fn check_owners(&self, problems: &mut Vec<String>) {
        for part in SERVICES.iter().filter(|service| service.has_authority) {
            let Some(authority) = self.authority.get(part.name) else {
                problems.push(format!("nobody owns {part}: no process may write its data. Write its owner: mfup"));
                continue;
            };
            let owner = authority.owner();
            if !self.has_instance(owner) {
                problems.push(format!("the paths of {part} go to {owner}, which has no instance: {}", start(owner)));
            }
        }
    }

    fn check_instances(&self, problems: &mut Vec<String>) {
        for (key @ (service, name), entry) in &self.instances {
            if !entry.draining && !self.in_balancer.contains(key) {
                problems.push(format!(
                    "{name} of {service} is registered, but not in the balancer. See why: mflogs agent {name}"
                ));
            }
        }
        for (_, name) in self.running.iter().filter(|key| !self.instances.contains_key(key)) {
            problems.push(format!("{name} runs, but is not registered: it gets no requests. See why: mflogs {name}"));
        }
    }

    fn check_versions(&self, problems: &mut Vec<String>) {
        for (service, split) in &self.splits {
            let version = split["version"].as_str().unwrap_or_default();
            let runs = self.instances.iter().any(|((of, _), entry)| of == service && entry.version == version);
            if !runs {
                problems.push(format!(
                    "users of {service} are sent to version {version}, of which no instance runs; the others answer. \
                     Remove it: mfroutes clear {service}"
                ));
            }
        }
        for (service, upgrade) in &self.upgrades {
            if upgrade["ended"].is_null() && !self.operated.contains(service) {
                let phase = upgrade["phase"].as_str().unwrap_or("not complete");
                problems.push(format!(
                    "the upgrade of {service} is {phase}, and no terminal drives it. \
                     Continue or end it: mfupgrade resume {service}, mfupgrade abort {service}"
                ));
            }
        }
    }
}

fn start(service: &str) -> String {
    if service == MONOLITH { "mfup".to_owned() } else { format!("mfrun {service}") }
}

fn pair(service: &str, instance: &str) -> (String, String) {
    (service.to_owned(), instance.to_owned())
}

/// Returns whether the value is valid.
fn insert<K: Ord, V: for<'de> serde::Deserialize<'de>>(into: &mut BTreeMap<K, V>, key: K, value: &str) -> bool {
    serde_json::from_str(value).map(|value| into.insert(key, value)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entries of a stack of services with one instance of each.
    fn entries() -> BTreeMap<String, String> {
        let mut entries = BTreeMap::new();
        for service in &SERVICES {
            let name = format!("{service}-1");
            let entry = r#"{"address":"127.0.0.1:1","version":"1","started":"2026-01-01T00:00:00Z"}"#;
            entries.insert(keys::instance(service.name, &name), entry.to_owned());
            entries.insert(keys::balancer(service.name, &name), "{}".to_owned());
            if service.has_authority {
                entries.insert(keys::authority(service.name), format!(r#"{{"owner":"{service}","epoch":1}}"#));
            }
        }
        entries
    }

    /// Returns the problems after a change of one entry; without a value it is removed.
    fn after(key: &str, value: Option<&str>) -> Vec<String> {
        let mut entries = entries();
        match value {
            Some(value) => entries.insert(key.to_owned(), value.to_owned()),
            None => entries.remove(key),
        };
        Facts::of(&entries).problems()
    }

    #[test]
    fn a_whole_stack_of_either_stage_has_no_problem() {
        assert_eq!(Facts::of(&entries()).problems(), Vec::<String>::new());
        let mut monolith = entries();
        for (key, value) in &mut monolith {
            if key.starts_with(keys::AUTHORITY) {
                *value = r#"{"owner":"monolith","epoch":1}"#.to_owned();
            }
        }
        assert_eq!(Facts::of(&monolith).problems(), Vec::<String>::new());
    }

    #[test]
    fn each_contradiction_is_one_problem_with_a_command() {
        let old = r#"{"address":"127.0.0.1:1","version":"1","started":"2026-01-01T00:00:00Z"}"#;
        for (key, value, expected) in [
            ("/flack/routes/usres", Some(r#"{"owner":"users","percentage":100}"#), "names no service"),
            ("/flack/routes/monolith", Some(r#"{"owner":"nobody","percentage":100}"#), "names no service"),
            ("/flack/authority/tokens", None, "nobody owns tokens"),
            ("/flack/authority/websocket", None, "nobody owns websocket"),
            ("/flack/authority/tokens", Some(r#"{"owner":"x","epoch":2}"#), "/flack/authority/tokens is not valid"),
            ("/flack/authority/tokens", Some("{"), "/flack/authority/tokens is not valid"),
            ("/flack/services/ui/ui-1", None, "which has no instance: mfrun ui"),
            ("/flack/services/users/users-2", Some(old), "users-2 of users is registered, but not in the balancer"),
            ("/flack/splits/users", Some(r#"{"version":"2","percentage":5}"#), "mfroutes clear users"),
            ("/flack/upgrades/users", Some(r#"{"phase":"rolling"}"#), "mfupgrade resume users"),
        ] {
            let problems = after(key, value);
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{key} {value:?}: {problems:?}");
        }
    }

    #[test]
    fn what_is_about_to_change_is_no_problem() {
        let draining = r#"{"address":"127.0.0.1:1","version":"1","started":"2026-01-01T00:00:00Z","draining":true}"#;
        for (key, value) in [
            ("/flack/services/users/users-2", draining),
            ("/flack/splits/users", r#"{"version":"1","percentage":5}"#),
            ("/flack/upgrades/users", r#"{"phase":"done","ended":"2026-01-01T00:00:00Z"}"#),
            ("/flack/routes/users", r#"{"owner":"monolith","percentage":100}"#),
        ] {
            assert_eq!(after(key, Some(value)), Vec::<String>::new(), "{key}");
        }
        let mut without_search = entries();
        without_search.insert(keys::route("search"), r#"{"owner":"search","percentage":100}"#.to_owned());
        without_search.remove(&keys::instance("search", "search-1"));
        assert_eq!(Facts::of(&without_search).problems(), Vec::<String>::new());
        let mut driven = entries();
        driven.insert("/flack/upgrades/users".to_owned(), r#"{"phase":"rolling"}"#.to_owned());
        driven.insert("/flack/upgrades/users/operator".to_owned(), "{}".to_owned());
        assert_eq!(Facts::of(&driven).problems(), Vec::<String>::new());
    }

    #[test]
    fn an_instance_that_runs_without_a_registration_is_a_problem() {
        let running = BTreeSet::from([pair("users", "users-1"), pair("users", "users-7")]);
        let problems = Facts { running, ..Facts::of(&entries()) }.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("users-7 runs, but is not registered"), "{problems:?}");
    }
}
