//! The values of the registry as JSON types.
//!
//! Two versions of a service run side by side and read each other's values: fields are only ever added, and unknown
//! fields are ignored.

use std::fmt;

use chrono::{DateTime, Utc};
pub use flack_catalogue::Exposure;
use flack_catalogue::Service;
use serde::{Deserialize, Serialize};

/// The definition of a service, which the balancer reads: `/flack/services/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDefinition {
    /// It is in the key, not in the value.
    #[serde(skip)]
    pub name: String,
    #[serde(rename = "location")]
    pub paths: Vec<PathPattern>,
    #[serde(default)]
    pub balance: Balance,
    #[serde(default)]
    pub exposure: Exposure,
}

impl ServiceDefinition {
    /// Returns the definition of a service of the catalogue.
    pub fn of(service: &Service) -> Self {
        Self::new(service.name, service.paths, service.exposure)
    }

    /// Returns the definition of a service that both listeners reach. Panics when a path pattern is malformed.
    pub fn public(name: &str, paths: &[&str]) -> Self {
        Self::new(name, paths, Exposure::Public)
    }

    /// Like [`Self::public`], for a service that only the internal listener reaches.
    pub fn internal(name: &str, paths: &[&str]) -> Self {
        Self::new(name, paths, Exposure::Internal)
    }

    fn new(name: &str, paths: &[&str], exposure: Exposure) -> Self {
        let parse =
            |text: &&str| PathPattern::try_from((*text).to_owned()).expect("the program's patterns are well formed");
        let paths = paths.iter().map(parse).collect();
        Self { name: name.to_owned(), paths, balance: Balance::default(), exposure }
    }
}

/// A pattern for request paths: `/api/users` matches that path and every path below it, `=/` matches exactly `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PathPattern {
    Exact(String),
    Prefix(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path pattern {0:?} is neither \"/path\" nor \"=/path\" in plain path characters")]
pub struct PathPatternError(String);

impl TryFrom<String> for PathPattern {
    type Error = PathPatternError;

    fn try_from(text: String) -> Result<Self, PathPatternError> {
        let path = text.strip_prefix('=').unwrap_or(&text);
        // The balancer's map files hold one path per line and split it at spaces.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
        if !path.starts_with('/') || !path.bytes().all(plain) {
            return Err(PathPatternError(text));
        }
        Ok(if text.starts_with('=') { Self::Exact(path.to_owned()) } else { Self::Prefix(path.to_owned()) })
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        match pattern {
            PathPattern::Exact(path) => format!("={path}"),
            PathPattern::Prefix(path) => path,
        }
    }
}

/// The balancer's algorithm for choosing an instance of a service.
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

/// The weight of an instance that configures none.
pub const WEIGHT_DEFAULT: u16 = 100;
/// The largest weight that HAProxy accepts.
pub const WEIGHT_MAX: u16 = 256;

/// An instance of a service: `/flack/services/<name>/<instance>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceEntry {
    /// `host:port` at which other processes reach the instance.
    pub address: String,
    pub version: String,
    /// The commit that the program was built from, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The share of the requests compared with other instances, 0 to 256.
    #[serde(default = "weight_default")]
    pub weight: u16,
    pub started: DateTime<Utc>,
    /// Whether the instance is about to stop and should get no new requests. The balancer needs it to distinguish a
    /// stopping instance from a registry that lost its data: in both cases the entry disappears.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
}

impl InstanceEntry {
    /// Returns the entry of an instance that starts now, with the default weight and without a commit.
    pub fn new(address: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            version: version.into(),
            commit: None,
            weight: WEIGHT_DEFAULT,
            started: Utc::now(),
            draining: false,
        }
    }
}

const fn weight_default() -> u16 {
    WEIGHT_DEFAULT
}

/// The owner of a service's paths: `/flack/routes/<name>`. A service without a route gets no traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The name of a service; with `monolith`, the default backend gets the paths.
    pub owner: String,
    /// The share of users whose requests the owner gets, in percent. All requests of one user go to the same service.
    pub percentage: u8,
}

/// Which requests of a service the instances of one version get: `/flack/splits/<service>`. The instances of all other
/// versions get the rest.
///
/// A request matches when its user is one of `users`, when it has the header or the cookie, or when its user belongs to
/// the percentage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    pub version: String,
    /// The share of users, in percent. All requests of one user go to the same version.
    #[serde(default)]
    pub percentage: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Match>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<Match>,
    /// The ids of users.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<MatchText>,
}

/// A header or a cookie with exactly this value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    pub name: MatchText,
    pub value: MatchText,
}

/// A text that the balancer's configuration, maps and commands can contain without quotes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MatchText(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a text of 1 to {MATCH_TEXT_BYTES_MAX} of the characters A-Z a-z 0-9 - . _ ~")]
pub struct MatchTextError(String);

const MATCH_TEXT_BYTES_MAX: usize = 64;

impl TryFrom<String> for MatchText {
    type Error = MatchTextError;

    fn try_from(text: String) -> Result<Self, MatchTextError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let fits = (1..=MATCH_TEXT_BYTES_MAX).contains(&text.len());
        if fits && text.bytes().all(plain) { Ok(Self(text)) } else { Err(MatchTextError(text)) }
    }
}

impl From<MatchText> for String {
    fn from(text: MatchText) -> Self {
        text.0
    }
}

impl fmt::Display for MatchText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The state of an instance in the balancer: `/flack/balancer/<service>/<instance>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalancerState {
    pub state: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_has_the_json_form_of_the_contract() {
        let definition = ServiceDefinition::public("ui", &["=/", "/static"]);
        let value = serde_json::to_value(&definition).expect("it is JSON");
        assert_eq!(
            value,
            serde_json::json!({"location": ["=/", "/static"], "balance": "leastconn", "exposure": "public"})
        );
        let back: ServiceDefinition = serde_json::from_value(value).expect("it is a definition");
        assert_eq!(back.paths, definition.paths);
    }

    #[test]
    fn a_path_pattern_that_would_break_a_map_file_is_refused() {
        for text in ["", "api", "/a b", "/a\nb", "=api", "/a#b"] {
            assert!(PathPattern::try_from(text.to_owned()).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_split_has_defaults_and_a_text_that_would_break_the_configuration_is_refused() {
        let split: Split = serde_json::from_str(r#"{"version":"2"}"#).expect("it is a split");
        assert_eq!((split.percentage, split.header, split.users), (0, None, Vec::new()));
        for text in ["", "a b", "a\nb", "a/b", "a,b", "a)b", "%[src]", "\"", "é", &"x".repeat(65)] {
            let header = serde_json::json!({"version": "2", "header": {"name": "x", "value": text}});
            assert!(serde_json::from_value::<Split>(header).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn an_unknown_field_of_a_newer_version_is_ignored() {
        let text = r#"{"address":"127.0.0.1:1","version":"2","started":"2026-01-01T00:00:00Z","zone":"b"}"#;
        let entry: InstanceEntry = serde_json::from_str(text).expect("it is an entry");
        assert_eq!((entry.weight, entry.commit), (100, None));
    }

    #[test]
    fn an_entry_without_a_commit_has_no_member_for_it() {
        let mut entry = InstanceEntry::new("127.0.0.1:1", "2");
        assert!(!serde_json::to_string(&entry).expect("it is JSON").contains("commit"));
        entry.commit = Some("4e57a53".to_owned());
        let text = serde_json::to_string(&entry).expect("it is JSON");
        assert_eq!(serde_json::from_str::<InstanceEntry>(&text).expect("it is an entry"), entry);
    }
}
