//! The last known state of the registry.
//!
//! A deleted entry and a lost entry look the same. The agent therefore writes a marker key of its own. While the marker
//! is present, an absent entry was deleted. When the marker is absent too, the registry has lost its data: definitions,
//! routes, records and splits are retained until they are written again.

use std::collections::{BTreeMap, BTreeSet};

use flack_common::registry::{InstanceEntry, Route, ServiceDefinition, Split, keys};
use flack_handover::{Entry, Part, Record};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tracing::warn;

use crate::ServerName;

/// The marker key. It has one part below the prefix; acknowledgements have two.
pub const MARKER_KEY: &str = "/flack/balancer/mark";
const NAME_BYTES_MAX: usize = 64;

/// Kept across restarts of the agent as `state.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastKnown {
    entries: BTreeMap<String, String>,
    /// Keys of `entries` that the registry has lost.
    retained: BTreeSet<String>,
    /// The servers that HAProxy had last, with their addresses.
    pub servers: BTreeMap<ServerName, String>,
}

impl LastKnown {
    /// Replaces the state by a full copy of the registry. Returns whether the marker is absent.
    pub fn update(&mut self, copy: &BTreeMap<String, String>) -> bool {
        let lost = !copy.contains_key(MARKER_KEY);
        let before = std::mem::take(&mut self.entries);
        self.entries = copy
            .iter()
            .filter(|(key, _)| is_permanent(key) || keys::segments(key, keys::SERVICES).len() == 2)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        self.retained.retain(|key| !copy.contains_key(key));
        for (key, value) in before {
            let is_absent = is_permanent(&key) && !self.entries.contains_key(&key);
            if is_absent && (lost || self.retained.contains(&key)) {
                if self.retained.insert(key.clone()) {
                    warn!(key, "the registry lost this entry; it is retained until it is written again");
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

    /// Returns the readable records of parts.
    pub fn records(&self) -> BTreeMap<Part, Record> {
        let record = |part: Part| {
            let entry = Entry::decode(part, self.entries.get(&keys::authority(part.service().name))?);
            let entry = entry.inspect_err(|error| warn!(%part, %error, "the record cannot be read; it is ignored"));
            Some((part, entry.ok()?.record))
        };
        Part::ALL.into_iter().filter_map(record).collect()
    }

    pub fn splits(&self) -> BTreeMap<String, Split> {
        self.below(keys::SPLITS, 1)
    }

    pub fn instances(&self) -> BTreeMap<ServerName, InstanceEntry> {
        let mut instances: BTreeMap<ServerName, InstanceEntry> = self.below(keys::SERVICES, 2);
        instances.retain(|name, _| name.split('/').all(is_name));
        instances
    }

    /// Returns the readable entries with this number of key parts below `prefix`, by the rest of the key.
    fn below<T: DeserializeOwned>(&self, prefix: &str, parts: usize) -> BTreeMap<String, T> {
        self.entries
            .iter()
            .filter(|(key, _)| keys::segments(key, prefix).len() == parts)
            .filter_map(|(key, value)| match serde_json::from_str(value) {
                Ok(value) => Some((key[prefix.len()..].to_owned(), value)),
                Err(error) => {
                    warn!(key, %error, "an entry of the registry cannot be read; it is ignored");
                    None
                }
            })
            .collect()
    }
}

/// Definitions, routes, records and splits have no lease. Instances have one.
fn is_permanent(key: &str) -> bool {
    [keys::SERVICES, keys::ROUTES, keys::AUTHORITY, keys::SPLITS]
        .iter()
        .any(|prefix| keys::segments(key, prefix).len() == 1)
}

/// Names become words of a configuration and of commands: they must not need quoting.
pub fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: (&str, &str) = ("/flack/routes/users", r#"{"owner":"users","percentage":100}"#);
    const MARKER: (&str, &str) = (MARKER_KEY, "{}");

    fn update(state: &mut LastKnown, entries: &[(&str, &str)]) -> bool {
        state.update(&entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_deleted_route_is_removed() {
        let mut state = LastKnown::default();
        update(&mut state, &[ROUTE, MARKER]);
        update(&mut state, &[MARKER]);
        assert!(state.routes().is_empty());
    }

    #[test]
    fn a_lost_route_is_retained_until_it_is_written_again() {
        let mut state = LastKnown::default();
        assert!(!update(&mut state, &[ROUTE, MARKER]));
        assert!(update(&mut state, &[]), "the marker is absent");
        assert!(state.routes().contains_key("users"));
        update(&mut state, &[MARKER]);
        assert!(state.routes().contains_key("users"), "the new marker alone changes nothing");
        update(&mut state, &[ROUTE, MARKER]);
        update(&mut state, &[MARKER]);
        assert!(state.routes().is_empty(), "an entry that was written again can be deleted again");
    }

    #[test]
    fn a_lost_split_is_retained_and_a_deleted_one_is_removed() {
        let mut state = LastKnown::default();
        update(&mut state, &[("/flack/splits/users", r#"{"version":"2","percentage":5}"#), MARKER]);
        update(&mut state, &[]);
        assert_eq!(state.splits()["users"].percentage, 5);
        update(&mut state, &[("/flack/splits/users", r#"{"version":"2"}"#), MARKER]);
        update(&mut state, &[MARKER]);
        assert!(state.splits().is_empty());
    }

    #[test]
    fn a_lost_record_is_retained() {
        let mut state = LastKnown::default();
        update(&mut state, &[("/flack/authority/users", r#"{"owner":"users","epoch":3}"#), MARKER]);
        update(&mut state, &[]);
        assert_eq!(state.records()[&Part::Users].epoch, 3);
    }

    #[test]
    fn an_unreadable_entry_does_not_hide_the_others() {
        let mut state = LastKnown::default();
        update(&mut state, &[ROUTE, ("/flack/routes/ui", "nonsense"), MARKER]);
        assert_eq!(state.routes().len(), 1);
    }

    #[test]
    fn a_name_that_needs_quoting_is_refused() {
        for name in ["users;reload", "a b", "", "-x", "a\nb", "limit_requests"] {
            assert!(!is_name(name), "{name:?} was accepted");
        }
        assert!(is_name("users-1"));
    }
}
