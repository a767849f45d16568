//! What the registry said last, and what of it still counts: the last good state.
//!
//! An entry that was deleted and an entry that was lost look the same. The agent therefore leaves a mark of its
//! own in the registry: as long as the mark is there, an absent entry was deleted; when the mark is gone too, the
//! registry has lost its data, and definitions and routes are held until somebody writes them again.

use std::collections::{BTreeMap, BTreeSet};

use flack_common::registry::{InstanceEntry, Route, ServiceDefinition, keys};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tracing::warn;

/// The agent's mark. One part below the prefix: acknowledgements have two.
pub const MARK_KEY: &str = "/flack/balancer/mark";

/// Survives a restart of the agent as `state.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knowledge {
    entries: BTreeMap<String, String>,
    /// Kept although the registry lost them.
    held: BTreeSet<String>,
    /// The servers that HAProxy had at last: service, instance, address.
    pub servers: BTreeMap<String, BTreeMap<String, String>>,
}

impl Knowledge {
    /// Takes in a full copy of the registry. True when the mark has to be written.
    pub fn learn(&mut self, copy: &BTreeMap<String, String>) -> bool {
        let lost = !copy.contains_key(MARK_KEY);
        let before = std::mem::take(&mut self.entries);
        self.entries = copy
            .iter()
            .filter(|(key, _)| is_lasting(key) || is_instance(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        self.held.retain(|key| !copy.contains_key(key));
        for (key, value) in before {
            if is_lasting(&key) && !self.entries.contains_key(&key) && (lost || self.held.contains(&key)) {
                if self.held.insert(key.clone()) {
                    warn!(key, "the registry lost this entry; holding it until it is written again");
                }
                self.entries.insert(key, value);
            }
        }
        lost
    }

    pub fn definitions(&self) -> BTreeMap<String, ServiceDefinition> {
        let mut definitions: BTreeMap<String, ServiceDefinition> = self.below(keys::SERVICES, 1);
        definitions.retain(|name, _| is_name(name));
        for (name, definition) in &mut definitions {
            definition.name.clone_from(name);
        }
        definitions
    }

    pub fn routes(&self) -> BTreeMap<String, Route> {
        self.below(keys::ROUTES, 1)
    }

    /// By service and instance.
    pub fn instances(&self) -> Vec<(String, String, InstanceEntry)> {
        self.below::<InstanceEntry>(keys::SERVICES, 2)
            .into_iter()
            .filter_map(|(rest, entry)| {
                let (service, instance) = rest.split_once('/')?;
                (is_name(service) && is_name(instance))
                    .then(|| (service.to_owned(), instance.to_owned(), entry))
            })
            .collect()
    }

    fn below<T: DeserializeOwned>(&self, prefix: &str, parts: usize) -> BTreeMap<String, T> {
        self.entries
            .iter()
            .filter(|(key, _)| keys::segments(key, prefix).len() == parts)
            .filter_map(|(key, value)| match serde_json::from_str(value) {
                Ok(value) => Some((key[prefix.len()..].to_owned(), value)),
                Err(error) => {
                    warn!(key, %error, "an entry of the registry cannot be read; going on without it");
                    None
                }
            })
            .collect()
    }
}

/// Written once and for good: definitions and routes. Instances come and go with their leases.
fn is_lasting(key: &str) -> bool {
    keys::segments(key, keys::SERVICES).len() == 1 || keys::segments(key, keys::ROUTES).len() == 1
}

fn is_instance(key: &str) -> bool {
    keys::segments(key, keys::SERVICES).len() == 2
}

const NAME_BYTES_MAX: usize = 64;

/// Names become words of a configuration and of commands: nothing that needs quoting gets that far.
fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    const ROUTE: (&str, &str) = ("/flack/routes/users", r#"{"owner":"users","percentage":100}"#);
    const MARK: (&str, &str) = (MARK_KEY, "{}");

    #[test]
    fn a_deleted_route_is_gone() {
        let mut knowledge = Knowledge::default();
        knowledge.learn(&copy(&[ROUTE, MARK]));
        knowledge.learn(&copy(&[MARK]));
        assert!(knowledge.routes().is_empty());
    }

    #[test]
    fn a_lost_route_is_held_until_it_is_written_again() {
        let mut knowledge = Knowledge::default();
        assert!(!knowledge.learn(&copy(&[ROUTE, MARK])));
        assert!(knowledge.learn(&copy(&[])), "the mark has to be written");
        assert!(knowledge.routes().contains_key("users"));
        knowledge.learn(&copy(&[MARK]));
        assert!(knowledge.routes().contains_key("users"), "the new mark alone changes nothing");
        knowledge.learn(&copy(&[ROUTE, MARK]));
        knowledge.learn(&copy(&[MARK]));
        assert!(knowledge.routes().is_empty(), "written again, it can be deleted again");
    }

    #[test]
    fn an_entry_that_cannot_be_read_does_not_hide_the_others() {
        let mut knowledge = Knowledge::default();
        knowledge.learn(&copy(&[ROUTE, ("/flack/routes/ui", "nonsense"), MARK]));
        assert_eq!(knowledge.routes().len(), 1);
    }

    #[test]
    fn a_name_that_could_be_a_command_is_no_name() {
        for name in ["users;reload", "a b", "", "-x", "a\nb", "limit_requests"] {
            assert!(!is_name(name), "{name:?} was taken");
        }
        assert!(is_name("users-1"));
    }
}
