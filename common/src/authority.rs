//! Authority: which process owns the data of which part (users, tokens, messages, ui).
//!
//! A part has at most one owner at a time: two writers would produce two histories that cannot be merged. Therefore a
//! process owns a part only when the registry names it as the owner; without an entry, no process owns the part. A
//! process that runs without a registry owns everything.
//!
//! While the registry is unavailable its last known state is valid: owners change only through the registry.
//!
//! The registry's last known state may be old, so it decides only what a process tries to do. Whether a write commits
//! is decided by the fence in the database (`migrations/shared/0006_ownership.sql`), to which a process passes each
//! record that it reads.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use flack_api::Problem;
use flack_catalogue::MONOLITH;
use flack_handover::{Entry, Part, Record, Side};
use http::StatusCode;
use sqlx::PgPool;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use crate::{
    process::Background,
    registry::{Mirror, keys},
};

/// After a change of owner, the balancer's routes follow within milliseconds.
const RETRY_AFTER_SECONDS: u32 = 1;
/// How often the records are passed on to the database though none has changed: a fence may wait for a marker.
const FENCE_INTERVAL: Duration = Duration::from_secs(1);
const FENCE_RETRY_DELAY: Duration = Duration::from_millis(100);
const FENCE_START_TIMEOUT: Duration = Duration::from_secs(10);

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

    /// Passes the records of the registry on to the fences of the database: once before this returns, and then whenever
    /// a record changes. Without a registry the fences stay as they are; those of a new database are open.
    pub async fn keep_fences(&self, pool: &PgPool, background: &Background) -> anyhow::Result<()> {
        let Some(records) = self.records.clone() else { return Ok(()) };
        let side = if self.process == MONOLITH { Side::Monolith } else { Side::Service };
        let mut fences = Fences { pool: pool.clone(), side, records, roles: BTreeMap::new() };
        // A transaction of another instance may be open for longer than the lock timeout.
        let deadline = Instant::now() + FENCE_START_TIMEOUT;
        while let Err(problem) = fences.follow().await {
            if Instant::now() > deadline {
                return Err(problem).context("the records of the registry cannot be passed on to the database");
            }
            sleep(FENCE_RETRY_DELAY).await;
        }
        let stopping = background.drained();
        background.spawn("fences", async move {
            stopping.run_until_cancelled(fences.keep()).await;
        });
        Ok(())
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

/// The fences of a database, which follow the records.
struct Fences {
    pool: PgPool,
    side: Side,
    records: Mirror,
    /// The role of each part as this process last saw it, for the log.
    roles: BTreeMap<String, String>,
}

impl Fences {
    async fn keep(&mut self) {
        loop {
            match self.follow().await {
                Ok(()) => match timeout(FENCE_INTERVAL, self.records.changed()).await {
                    Ok(true) | Err(_) => {}
                    // The mirror has ended, because the process stops.
                    Ok(false) => sleep(FENCE_INTERVAL).await,
                },
                Err(problem) => {
                    warn!(error = %problem, "a record cannot be passed on to the database; trying again");
                    sleep(FENCE_RETRY_DELAY).await;
                }
            }
        }
    }

    /// Passes all records on.
    async fn follow(&mut self) -> sqlx::Result<()> {
        let parts: Vec<String> = sqlx::query_scalar("select part from ownership").fetch_all(&self.pool).await?;
        let records = self.records.snapshot();
        for name in parts {
            // Without a record nobody owns the part: the fence stays as it is, and no process tries to write.
            let Some(record) = Part::find(&name).and_then(|part| record_in(&records, part)) else { continue };
            let role: String = sqlx::query_scalar("select follow_record($1, $2, $3, $4, $5)")
                .bind(&name)
                .bind(record.owner == self.side)
                .bind(record.epoch)
                .bind(record.stage.is_switching())
                .bind(record.marker)
                .fetch_one(&self.pool)
                .await?;
            if self.roles.get(&name) != Some(&role) {
                info!(part = name, role, epoch = record.epoch, "the fence follows the record");
                self.roles.insert(name, role);
            }
        }
        Ok(())
    }
}

fn record_in(records: &BTreeMap<String, String>, part: Part) -> Option<Record> {
    let json = records.get(&keys::authority(part.service().name))?;
    Entry::decode(part, json)
        .inspect_err(|problem| error!(%part, error = %problem, "the record of the registry is not readable"))
        .ok()
        .map(|entry| entry.record)
}

fn owner_in(records: &BTreeMap<String, String>, part: &str) -> Option<String> {
    let part = Part::find(part)?;
    record_in(records, part).map(|record| record.owner.service_name(part).to_owned())
}

fn not_the_owner(part: &str, owner: Option<&str>) -> Problem {
    refused(match owner {
        Some(owner) => format!("{part} belongs to {owner} now; try again in a moment"),
        None => format!("no owner of {part} is registered; try again in a moment"),
    })
}

/// Returns 503 `not-the-owner`: the fence has refused a write, or this process knows that it would.
pub(crate) fn refused(detail: String) -> Problem {
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
