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

use std::{collections::BTreeMap, future::pending, time::Duration};

use anyhow::Context as _;
use flack_api::Problem;
use flack_catalogue::MONOLITH;
use flack_handover::{
    Entry, Part, Record, Side, Stage,
    protocol::{Acknowledged, BALANCER},
};
use http::StatusCode;
use sqlx::{PgExecutor, PgPool};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{error, info, warn};

use crate::{
    process::Background,
    registry::{Mirror, Registry, keys},
};

/// After a change of owner, the balancer's routes follow within milliseconds.
const RETRY_AFTER_SECONDS: u32 = 1;
/// The kind of the problem, a heading in docs/problems.md.
const NOT_THE_OWNER: &str = "not-the-owner";
/// How often the records are passed on to the database though none has changed: a fence may wait for a marker.
const FENCE_INTERVAL: Duration = Duration::from_secs(1);
const FENCE_RETRY_DELAY: Duration = Duration::from_millis(100);
const FENCE_START_TIMEOUT: Duration = Duration::from_secs(10);

/// The owners of all parts, as this process last read them; cheap to clone.
#[derive(Debug, Clone)]
pub struct Authority {
    /// The name of this process's service.
    process: &'static str,
    /// With a current copy of `/flack/authority/`; none without a registry.
    registry: Option<(Registry, Mirror)>,
}

impl Authority {
    /// Returns the authority of a process that runs without a registry.
    pub fn standalone(process: &'static str) -> Self {
        Self { process, registry: None }
    }

    /// Returns the authority that follows the records of the registry.
    pub async fn from_registry(process: &'static str, registry: &Registry) -> anyhow::Result<Self> {
        let records = registry.mirror(keys::AUTHORITY).await?;
        Ok(Self { process, registry: Some((registry.clone(), records)) })
    }

    /// Returns the side of its parts that this process is.
    pub fn side(&self) -> Side {
        if self.process == MONOLITH { Side::Monolith } else { Side::Service }
    }

    /// Returns a handle to the records; none without a registry.
    pub(crate) fn records(&self) -> Option<Mirror> {
        self.registry.as_ref().map(|(_, records)| records.clone())
    }

    /// Whether this process owns `part` now.
    pub fn owns(&self, part: &str) -> bool {
        self.owner(part).as_deref() == Some(self.process)
    }

    /// Returns the ownership of one part, for handlers and background tasks.
    pub fn of(&self, part: &'static str) -> Ownership {
        Ownership(Some((self.clone(), part)))
    }

    /// Passes the records of the registry on to the fences of the database: once before this returns, and then whenever
    /// a record changes. Then the instance acknowledges them. Without a registry the fences stay as they are; those of
    /// a new database are open.
    pub async fn keep_fences(&self, pool: &PgPool, background: &Background) -> anyhow::Result<()> {
        let Some((registry, records)) = self.registry.clone() else { return Ok(()) };
        let parts = sqlx::query_scalar("select part from ownership").fetch_all(pool).await?;
        let followed = BTreeMap::new();
        let mut fences = Fences { pool: pool.clone(), side: self.side(), registry, records, parts, followed };
        // A transaction of another instance may be open for longer than the lock timeout.
        let deadline = Instant::now() + FENCE_START_TIMEOUT;
        while let Err(problem) = fences.follow(true).await {
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

    /// Passes the present record of one part on to the fence, such as when the marker of a new owner was applied.
    pub async fn follow(&self, executor: impl PgExecutor<'_>, part: Part) -> sqlx::Result<()> {
        if let Some(record) = self.record(part) {
            follow_record(executor, self.side(), part.service().name, &record).await?;
        }
        Ok(())
    }

    /// Returns the record of a part as this process last read it; none without a registry.
    pub fn record(&self, part: Part) -> Option<Record> {
        record_in(&self.registry.as_ref()?.1.snapshot(), part)
    }

    /// Returns the name, the owner's service and the stage of each part, as this process last read them. Without a
    /// registry, this process is the owner of all, at no stage.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, Option<&'static str>, Option<Stage>)> {
        let records = self.registry.as_ref().map(|(_, records)| records.snapshot());
        let process = self.process;
        Part::ALL.into_iter().map(move |part| {
            let record = records.as_ref().map(|records| record_in(records, part));
            let owner = match record {
                None => Some(process),
                Some(record) => record.map(|record| record.owner.service_name(part)),
            };
            (part.service().name, owner, record.flatten().map(|record| record.stage))
        })
    }

    fn owner(&self, part: &str) -> Option<String> {
        match &self.registry {
            None => Some(self.process.to_owned()),
            Some((_, records)) => owner_in(&records.snapshot(), part),
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

    /// Returns a handle that waits until the part's requests go to the other side.
    pub fn departure(&self) -> Departure {
        Departure(self.0.as_ref().and_then(|(authority, part)| {
            let (registry, records) = authority.registry.clone()?;
            let (side, part) = (authority.side(), Part::find(part)?);
            Some(Departing {
                side,
                part,
                records,
                balancers: registry.mirror_lazily(&keys::acknowledged(BALANCER, "")),
            })
        }))
    }
}

/// Waits until the other side owns a part and the balancers send its requests there.
#[derive(Debug)]
pub struct Departure(Option<Departing>);

#[derive(Debug)]
struct Departing {
    side: Side,
    part: Part,
    records: Mirror,
    /// What the balancers have acknowledged.
    balancers: Mirror,
}

impl Departure {
    /// Returns at once if it has happened already, and never if the part has no other side.
    pub async fn wait(&mut self) {
        let Some(Departing { side, part, records, balancers }) = &mut self.0 else { return pending().await };
        loop {
            let record = record_in(&records.snapshot(), *part).filter(|record| record.owner != *side);
            let expected = record.map(|record| record.acknowledgement());
            let acknowledged = balancers.values::<Acknowledged>();
            if expected.is_some()
                && balancers.is_complete()
                && acknowledged.values().all(|balancer| balancer.get(part) == expected.as_ref())
            {
                return;
            }
            let is_alive = tokio::select! {
                is_alive = records.changed() => is_alive,
                is_alive = balancers.changed() => is_alive,
            };
            if !is_alive {
                // The process stops.
                return pending().await;
            }
        }
    }
}

/// The fences of a database, which follow the records.
struct Fences {
    pool: PgPool,
    side: Side,
    registry: Registry,
    records: Mirror,
    /// The parts with a fence in this database.
    parts: Vec<String>,
    /// The record that each fence has followed, and the role that it had then.
    followed: BTreeMap<String, (Record, String)>,
}

impl Fences {
    async fn keep(&mut self) {
        loop {
            let due = Instant::now() + FENCE_INTERVAL;
            while let Ok(is_alive) = timeout_at(due, self.records.changed()).await {
                if !is_alive {
                    // The process stops.
                    return pending().await;
                }
                self.follow_or_retry(false).await;
            }
            self.follow_or_retry(true).await;
        }
    }

    async fn follow_or_retry(&mut self, also_unchanged: bool) {
        while let Err(problem) = self.follow(also_unchanged).await {
            warn!(error = %problem, "a record cannot be passed on to the database; trying again");
            sleep(FENCE_RETRY_DELAY).await;
        }
    }

    /// Passes records on, and acknowledges them. When one has changed, the others need not be passed on again: writes
    /// may wait for its fence.
    async fn follow(&mut self, also_unchanged: bool) -> sqlx::Result<()> {
        let records = self.records.snapshot();
        for name in &self.parts {
            // Without a record nobody owns the part: the fence stays as it is, and no process tries to write.
            let Some(record) = Part::find(name).and_then(|part| record_in(&records, part)) else { continue };
            let former = self.followed.get(name);
            if !also_unchanged && former.is_some_and(|(followed, _)| *followed == record) {
                continue;
            }
            let role = follow_record(&self.pool, self.side, name, &record).await?;
            if former.is_none_or(|(_, former)| *former != role) {
                info!(part = name, role, epoch = record.epoch, "the fence follows the record");
            }
            self.followed.insert(name.clone(), (record, role));
        }
        let followed = Part::ALL.into_iter().filter_map(|part| Some((part, record_in(&records, part)?)));
        let followed: Acknowledged = followed.map(|(part, record)| (part, record.acknowledgement())).collect();
        self.registry.acknowledge(serde_json::to_string(&followed).expect("texts are JSON"));
        Ok(())
    }
}

/// Passes a record on to the fence of a part. Returns the role of the database.
async fn follow_record(executor: impl PgExecutor<'_>, side: Side, part: &str, record: &Record) -> sqlx::Result<String> {
    sqlx::query_scalar("select follow_record($1, $2, $3, $4, $5, $6)")
        .bind(part)
        .bind(record.owner == side)
        .bind(record.epoch)
        .bind(record.stage.is_switching())
        .bind(record.marker)
        .bind(record.stage.is_followed())
        .fetch_one(executor)
        .await
}

/// Returns the record of a part in a copy of the registry.
pub(crate) fn record_in(records: &BTreeMap<String, String>, part: Part) -> Option<Record> {
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

/// Returns the answer to a request that was kept for too long.
pub(crate) fn not_the_owner(part: Part, record: Option<Record>) -> Problem {
    refused(match record {
        Some(record) => format!("{part} belongs to {} now; try again in a moment", record.owner.service_name(part)),
        None => format!("no owner of {part} is registered; try again in a moment"),
    })
}

/// Returns 503 `not-the-owner`: the fence has refused a write, or this process knows that it would.
pub(crate) fn refused(detail: String) -> Problem {
    let mut problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, NOT_THE_OWNER, "Not the owner", detail);
    problem.retry_after_seconds = Some(RETRY_AFTER_SECONDS);
    problem
}

/// Whether a problem is one of [`refused`], of this process or of another one.
pub(crate) fn is_refusal(problem: &Problem) -> bool {
    problem.kind.rsplit_once('#').is_some_and(|(_, kind)| kind == NOT_THE_OWNER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_a_registry_owns_every_part() {
        let authority = Authority::standalone("monolith");
        assert!(authority.owns("users") && authority.of("messages").is_held());
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
        let problem = not_the_owner(Part::Users, Some(Record::initial(Side::Monolith)));
        assert_eq!((problem.status, problem.retry_after_seconds), (503, Some(1)));
        assert!(is_refusal(&problem) && problem.detail.contains("belongs to monolith"));
        assert!(!is_refusal(&Problem::unavailable("users")));
    }
}
