//! What the values of the registry look like, as JSON. Written by one side, read by another: fields are only
//! ever added, and unknown ones are ignored, so that two versions can run side by side.

use std::fmt;

use chrono::{DateTime, Utc};
use flack_catalogue::{Exposure, Service};
use serde::{Deserialize, Serialize};

/// What a service is, whoever runs it: `services/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDefinition {
    /// Stands in the key, not in the value.
    #[serde(skip)]
    pub name: String,
    pub location: Vec<Location>,
    #[serde(default)]
    pub balance: Balance,
    #[serde(default)]
    pub door: Door,
}

impl ServiceDefinition {
    /// Returns the definition of a service of the catalogue.
    pub fn of(service: &Service) -> Self {
        match service.exposure {
            Exposure::Public => Self::public(service.name, service.paths),
            Exposure::Internal => Self::internal(service.name, service.paths),
        }
    }

    /// A service that the public door may reach. Locations are written as in [`Location`]; a malformed one
    /// is a defect of the program, found the first time it starts.
    pub fn public(name: &str, location: &[&str]) -> Self {
        let location = location
            .iter()
            .map(|text| Location::try_from((*text).to_owned()).expect("a location begins with / or =/"))
            .collect();
        Self { name: name.to_owned(), location, balance: Balance::default(), door: Door::Public }
    }

    /// The same, but behind the internal door only.
    pub fn internal(name: &str, location: &[&str]) -> Self {
        Self { door: Door::Internal, ..Self::public(name, location) }
    }
}

/// Which paths a service answers: `/api/users` is that path and all below it, `=/` exactly that path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Location {
    Exactly(String),
    Below(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the location {0:?} is neither \"/path\" nor \"=/path\" in plain path characters")]
pub struct LocationError(String);

impl TryFrom<String> for Location {
    type Error = LocationError;

    fn try_from(text: String) -> Result<Self, LocationError> {
        let path = text.strip_prefix('=').unwrap_or(&text);
        // These words end up in the balancer's map files, one a line, split at spaces.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
        if !path.starts_with('/') || !path.bytes().all(plain) {
            return Err(LocationError(text));
        }
        Ok(if text.starts_with('=') { Self::Exactly(path.to_owned()) } else { Self::Below(path.to_owned()) })
    }
}

impl From<Location> for String {
    fn from(location: Location) -> Self {
        match location {
            Location::Exactly(path) => format!("={path}"),
            Location::Below(path) => path,
        }
    }
}

/// How the balancer spreads requests over the instances of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Balance {
    #[default]
    LeastConn,
    RoundRobin,
}

impl fmt::Display for Balance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::LeastConn => "leastconn",
            Self::RoundRobin => "roundrobin",
        })
    }
}

/// Through which door a service may be reached. Everything may be reached through the internal one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    #[default]
    Public,
    Internal,
}

/// Where an instance listens: `services/<name>/<instance>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceEntry {
    /// `host:port`, as others reach it.
    pub address: String,
    pub version: String,
    #[serde(default = "weight_default")]
    pub weight: u16,
    pub started: DateTime<Utc>,
    /// Says farewell: no new requests, please. An entry that is just gone may be a registry that lost its
    /// data; this word is how the balancer tells one from the other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
}

const fn weight_default() -> u16 {
    100
}

/// Who gets the locations of a service: `routes/<name>`. Without a route a service gets no traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The name of a service; `monolith` gives its locations back to the default backend.
    pub owner: String,
    /// How many of a hundred users go there; one user is always on one side.
    pub percentage: u8,
}

/// Who owns a resource: `authority/<resource>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    pub owner: Owner,
    /// Grows by one with each hand-over; what was written under an older one is refused.
    pub epoch: i64,
}

/// The name of a service, or `monolith`.
pub type Owner = String;

/// What the balancer does with an instance: `balancer/<service>/<instance>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalancerState {
    pub state: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_written_as_the_contract_says() {
        let definition = ServiceDefinition::public("ui", &["=/", "/static"]);
        let value = serde_json::to_value(&definition).expect("it is JSON");
        assert_eq!(
            value,
            serde_json::json!({"location": ["=/", "/static"], "balance": "leastconn", "door": "public"})
        );
        let back: ServiceDefinition = serde_json::from_value(value).expect("it is a definition");
        assert_eq!(back.location, definition.location);
    }

    #[test]
    fn a_location_that_would_break_a_map_file_is_refused() {
        for text in ["", "api", "/a b", "/a\nb", "=api", "/a#b"] {
            assert!(Location::try_from(text.to_owned()).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn an_unknown_field_of_a_newer_version_is_ignored() {
        let text = r#"{"address":"127.0.0.1:1","version":"2","started":"2026-01-01T00:00:00Z","zone":"b"}"#;
        let entry: InstanceEntry = serde_json::from_str(text).expect("it is an entry");
        assert_eq!(entry.weight, 100);
    }
}
