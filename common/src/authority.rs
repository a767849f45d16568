//! Authority: which process owns the data of which part (users, tokens, messages).
//!
//! A part has at most one owner at a time: two writers would produce two histories that cannot be merged. Therefore a
//! process owns a part only when the registry names it as the owner; without an entry, no process owns the part. A
//! process that runs without a registry owns everything.
//!
//! While the registry is unavailable its last known state is valid: owners change only through the registry.

use std::collections::BTreeMap;

use flack_api::Problem;
use http::StatusCode;

use crate::registry::{AuthorityEntry, Mirror, keys};

/// After a change of owner, the balancer's routes follow within milliseconds.
const RETRY_AFTER_SECONDS: u32 = 1;

/// The owners of all parts, as this process last read them; cheap to clone.
#[derive(Debug, Clone)]
pub struct Authority {
    /// The name of this process's service.
    process: &'static str,
    /// A current copy of `/flack/authority/`; none without a registry.
    records: Option<Mirror>,
}

impl Authority {
    /// Returns the authority of a process that runs without a registry.
    pub fn standalone(process: &'static str) -> Self {
        Self { process, records: None }
    }

    /// Returns the authority that follows `records`, a mirror of `keys::AUTHORITY`.
    pub fn from_registry(process: &'static str, records: Mirror) -> Self {
        Self { process, records: Some(records) }
    }

    /// Whether this process owns `part` now.
    pub fn owns(&self, part: &str) -> bool {
        self.owner(part).as_deref() == Some(self.process)
    }

    /// Returns 503 `not-the-owner` unless this process owns `part` now.
    pub fn check(&self, part: &str) -> Result<(), Problem> {
        match self.owner(part) {
            Some(owner) if owner == self.process => Ok(()),
            owner => Err(not_the_owner(part, owner.as_deref())),
        }
    }

    /// Returns the ownership of one part, for handlers and background tasks.
    pub fn of(&self, part: &'static str) -> Ownership {
        Ownership(Some((self.clone(), part)))
    }

    fn owner(&self, part: &str) -> Option<String> {
        match &self.records {
            None => Some(self.process.to_owned()),
            Some(records) => owner_in(&records.snapshot(), part),
        }
    }
}

/// Whether this process owns one part. The owner can change at any time.
#[derive(Debug, Clone)]
pub struct Ownership(Option<(Authority, &'static str)>);

impl Ownership {
    /// Returns the ownership of a process whose part never has another owner.
    pub const fn always() -> Self {
        Self(None)
    }

    /// Whether this process owns the part now.
    pub fn is_held(&self) -> bool {
        self.0.as_ref().is_none_or(|(authority, part)| authority.owns(part))
    }

    /// Returns 503 `not-the-owner` unless this process owns the part now.
    pub fn check(&self) -> Result<(), Problem> {
        self.0.as_ref().map_or(Ok(()), |(authority, part)| authority.check(part))
    }
}

fn owner_in(records: &BTreeMap<String, String>, part: &str) -> Option<String> {
    let record = records.get(&keys::authority(part))?;
    serde_json::from_str::<AuthorityEntry>(record).ok().map(|record| record.owner)
}

fn not_the_owner(part: &str, owner: Option<&str>) -> Problem {
    let detail = match owner {
        Some(owner) => format!("{part} belongs to {owner} now; try again in a moment"),
        None => format!("no owner of {part} is registered; try again in a moment"),
    };
    let mut problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-the-owner", "Not the owner", detail);
    problem.retry_after_seconds = Some(RETRY_AFTER_SECONDS);
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_a_registry_owns_every_part() {
        let authority = Authority::standalone("monolith");
        assert!(authority.owns("users") && authority.of("messages").is_held());
        authority.check("tokens").unwrap();
    }

    #[test]
    fn a_part_without_a_readable_record_has_no_owner() {
        let records = BTreeMap::from([
            (keys::authority("users"), r#"{"owner":"monolith","epoch":1}"#.to_owned()),
            (keys::authority("tokens"), "not JSON".to_owned()),
        ]);
        assert_eq!(owner_in(&records, "users").as_deref(), Some("monolith"));
        assert_eq!(owner_in(&records, "tokens"), None);
        assert_eq!(owner_in(&records, "messages"), None);
    }

    #[test]
    fn a_request_to_a_process_that_is_not_the_owner_is_refused_with_503_and_may_be_retried() {
        let problem = not_the_owner("users", Some("monolith"));
        assert_eq!((problem.status, problem.retry_after_seconds), (503, Some(1)));
        assert!(problem.kind.ends_with("#not-the-owner") && problem.detail.contains("belongs to monolith"));
    }
}
