//! The record of an upgrade: what any terminal needs to follow, continue, promote or abort it. Stored in etcd as JSON.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::options::Options;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub service: String,
    pub kind: Kind,
    /// The version of most instances before.
    pub from: String,
    pub to: String,
    pub phase: Phase,
    /// Why the upgrade is held, or was reverted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The version is bad, and is held because it must not be reverted automatically.
    #[serde(default)]
    pub is_bad: bool,
    pub judgement: Judgement,
    pub options: Options,
    /// Who gets the new version while it is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<Audience>,
    /// The index of the present step of a `try`.
    #[serde(default)]
    pub step: usize,
    /// How many instances ran at the start. Capacity does not fall below it.
    pub capacity: usize,
    pub members: Vec<Member>,
    pub users_saw: UsersSaw,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// Services that are upgraded after this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<String>,
    /// The terminal that wrote the record last.
    pub operator: String,
    pub started: DateTime<Utc>,
    /// The last time that an instance was started, judged or stopped.
    pub progressed: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Replaces instances one after the other.
    Roll,
    /// Gives the new version to a part of the users, until it is promoted or aborted.
    Try,
    /// Replaces instances by those of the version before.
    Undo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Rolling,
    Trying,
    /// The last step of a `try` is good: the operator promotes or aborts.
    Waiting,
    /// There is not enough traffic for a verdict; or the version is bad, and must not be reverted automatically.
    Held,
    Reverting,
    Done,
    Reverted,
}

/// What makes a new version good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// Enough requests, as good as those of the old version.
    Traffic,
    /// The same, but too few requests are good, too: the operator has promoted it.
    LittleTraffic,
    /// Instances that are ready and do not exit. For a version that ran before, for a service that gets no requests,
    /// and for a version that the operator has promoted although it is bad.
    Health,
}

/// The users that get the new version while it is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// One percentage after the other.
    Steps(Vec<u8>),
    /// Requests with this header.
    Header { name: String, value: String },
    /// These users.
    Users { nicknames: Vec<String>, ids: Vec<String> },
}

/// An instance that takes part in an upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: String,
    pub version: String,
    pub side: Side,
    pub state: MemberState,
    pub since: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Old,
    New,
    /// Started by a revert in place of an old instance.
    Restored,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    Starting,
    /// It serves requests, and is compared with the old version.
    Observed,
    Serving,
    Stopping,
    Stopped,
}

/// What users saw of the new version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsersSaw {
    pub requests: u64,
    pub failed: u64,
}

/// The last comparison of both versions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub new_requests: u64,
    pub new_failed: u64,
    pub old_requests: u64,
    pub old_failed: u64,
}

impl Phase {
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Reverted)
    }
}

impl Member {
    pub fn new(name: String, version: &str, side: Side, state: MemberState) -> Self {
        Self { name, version: version.to_owned(), side, state, since: Utc::now() }
    }
}

impl Record {
    /// Returns the phase in which a held upgrade continues.
    pub fn working_phase(&self) -> Phase {
        if self.audience.is_some() { Phase::Trying } else { Phase::Rolling }
    }

    /// Returns the names of a side's instances in one of these states.
    pub fn names(&self, side: Side, states: &[MemberState]) -> Vec<String> {
        let of_side = self.members.iter().filter(|member| member.side == side && states.contains(&member.state));
        of_side.map(|member| member.name.clone()).collect()
    }

    /// Returns how many instances serve requests.
    pub fn serving(&self) -> usize {
        use MemberState::{Observed, Serving};
        self.members.iter().filter(|member| matches!(member.state, Serving | Observed)).count()
    }

    /// Changes the state of an instance, which is progress.
    pub fn set(&mut self, name: &str, state: MemberState) {
        let now = Utc::now();
        for member in self.members.iter_mut().filter(|member| member.name == name && member.state != state) {
            (member.state, member.since) = (state, now);
            self.progressed = now;
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rolling => "rolling",
            Self::Trying => "trying",
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Reverting => "reverting",
            Self::Done => "done",
            Self::Reverted => "reverted",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Roll => "roll",
            Self::Try => "try",
            Self::Undo => "undo",
        })
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Old => "old",
            Self::New => "new",
            Self::Restored => "restored",
        })
    }
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Observed => "observed",
            Self::Serving => "serving",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        })
    }
}

impl Audience {
    /// Returns the share of the users at a step, besides those that are chosen otherwise; none after the last step.
    pub fn percentage(&self, step: usize) -> Option<u8> {
        match self {
            Self::Steps(steps) => steps.get(step).copied(),
            Self::Header { .. } | Self::Users { .. } => (step == 0).then_some(0),
        }
    }

    /// Returns who gets the version at a step.
    pub fn describe(&self, step: usize) -> String {
        match self {
            Self::Steps(steps) => {
                let percentage = steps.get(step).or(steps.last()).copied().unwrap_or(0);
                format!("{percentage} % of the users")
            }
            Self::Header { name, value } => format!("requests with {name}: {value}"),
            Self::Users { nicknames, .. } => nicknames.join(", "),
        }
    }
}

impl fmt::Display for UsersSaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.failed, self.requests) {
            (_, 0) => write!(f, "users sent no request to the new version"),
            (failed, requests) => {
                // In per mille, rounded up: "0.0 %" must mean none.
                let permille = (failed * 1_000).div_ceil(requests);
                write!(
                    f,
                    "users saw {failed} failed requests of {requests} to the new version ({}.{} %)",
                    permille / 10,
                    permille % 10
                )
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::upgrade::options::tests::options;

    pub fn record() -> Record {
        let member = |number, side, state| Member::new(format!("users-{number}"), "1", side, state);
        Record {
            service: "users".to_owned(),
            kind: Kind::Roll,
            from: "1".to_owned(),
            to: "2".to_owned(),
            phase: Phase::Rolling,
            reason: None,
            is_bad: false,
            judgement: Judgement::Traffic,
            options: options(&[]),
            audience: None,
            step: 0,
            capacity: 2,
            members: vec![
                member(1, Side::Old, MemberState::Stopped),
                member(2, Side::Old, MemberState::Serving),
                member(3, Side::New, MemberState::Serving),
                member(4, Side::New, MemberState::Observed),
                member(5, Side::New, MemberState::Starting),
            ],
            users_saw: UsersSaw::default(),
            comparison: None,
            then: Vec::new(),
            operator: "root@host (pid 1)".to_owned(),
            started: Utc::now(),
            progressed: DateTime::UNIX_EPOCH,
            ended: None,
        }
    }

    #[test]
    fn instances_that_serve_requests_count_as_capacity() {
        let record = record();
        assert_eq!(record.serving(), 3);
        assert_eq!(record.names(Side::Old, &[MemberState::Serving]), ["users-2"]);
    }

    #[test]
    fn a_change_of_a_state_is_progress_and_its_repetition_is_not() {
        let mut record = record();
        record.set("users-2", MemberState::Serving);
        assert_eq!(record.progressed, DateTime::UNIX_EPOCH);
        record.set("users-2", MemberState::Stopping);
        assert!(record.progressed > DateTime::UNIX_EPOCH);
        assert_eq!(record.names(Side::Old, &[MemberState::Stopping]), ["users-2"]);
    }

    #[test]
    fn a_record_is_the_same_after_it_was_stored_and_ignores_fields_of_a_newer_mf() {
        let record = record();
        let mut stored = serde_json::to_value(&record).expect("plain data");
        stored["of a newer version"] = 1.into();
        assert_eq!(serde_json::from_value::<Record>(stored).expect("a record"), record);
    }

    #[test]
    fn a_held_try_continues_as_a_try_until_it_is_promoted() {
        let mut record = Record { audience: Some(Audience::Steps(vec![5])), phase: Phase::Held, ..record() };
        assert_eq!(record.working_phase(), Phase::Trying);
        record.audience = None;
        assert_eq!(record.working_phase(), Phase::Rolling);
    }

    #[test]
    fn a_try_ends_after_its_last_step() {
        let audience = Audience::Steps(vec![5, 50]);
        assert_eq!([0, 1, 2].map(|step| audience.percentage(step)), [Some(5), Some(50), None]);
        assert_eq!(audience.describe(2), "50 % of the users");
        let header = Audience::Header { name: "X-Canary".to_owned(), value: "1".to_owned() };
        assert_eq!([0, 1].map(|step| header.percentage(step)), [Some(0), None]);
    }

    #[test]
    fn the_share_of_failed_requests_is_zero_only_if_none_failed() {
        let text = |failed, requests| UsersSaw { requests, failed }.to_string();
        assert!(text(0, 300).ends_with("0 failed requests of 300 to the new version (0.0 %)"), "{}", text(0, 300));
        assert!(text(1, 100_000).ends_with("(0.1 %)"), "{}", text(1, 100_000));
        assert!(text(14, 100).ends_with("(14.0 %)"), "{}", text(14, 100));
        assert_eq!(text(0, 0), "users sent no request to the new version");
    }
}
