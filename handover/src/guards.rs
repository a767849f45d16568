//! The guards of a change of owner: what has to be measured, and why an attempt is refused.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::record::Record;

/// The p99 of the replica's lag in the last [`LAG_SECONDS`], unless the operator allows more. Clients' writes wait
/// until the replica has applied the marker: a larger lag is a longer wait.
pub const LAG_MS_MAX: u32 = 50;
/// The time for which the lag has to be small.
pub const LAG_SECONDS: u32 = 10;
/// An older comparison of both sides does not count.
pub const VERIFIED_AGE_SECONDS_MAX: u32 = 60;
/// An older proof of the way back does not count.
pub const WAY_BACK_AGE_SECONDS_MAX: u32 = 60;
/// Fewer repeated reads prove nothing.
pub const SHADOW_READS_MIN: u64 = 1000;
/// Reads move before writes.
pub const READ_PERCENT_MIN: u8 = 100;

/// What was measured before an attempt. `None`: it could not be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurements {
    /// Rows that the replica still has to copy.
    pub rows_to_copy: Option<u64>,
    /// The p99 of the lag in the last [`LAG_SECONDS`], over the batches that were applied.
    pub lag_ms: Option<u32>,
    /// The lag that the operator allows (`--max-lag`).
    pub lag_ms_max: u32,
    /// The rows that differ, and the age of the comparison.
    pub verified: Option<Verified>,
    pub shadow: Shadow,
    /// The age of the last marker that went to the replica and back.
    pub way_back_age_seconds: Option<u32>,
    /// Instances, and the balancer, that have not acknowledged the record's stage.
    pub behind_the_stage: Option<u32>,
    /// Rows of the replica that its applier has not written.
    pub foreign_writes: Option<u64>,
    /// Errors of copy and apply that are not resolved.
    pub errors: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub rows_different: u64,
    pub age_seconds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shadow {
    Compared {
        reads: u64,
        mismatches: u64,
    },
    /// The operator said so (`--no-shadow`).
    Omitted,
}

impl Measurements {
    /// Returns measurements with which every guard is met, except perhaps that of the record.
    pub const fn met() -> Self {
        Self {
            rows_to_copy: Some(0),
            lag_ms: Some(0),
            lag_ms_max: LAG_MS_MAX,
            verified: Some(Verified { rows_different: 0, age_seconds: 0 }),
            shadow: Shadow::Omitted,
            way_back_age_seconds: Some(0),
            behind_the_stage: Some(0),
            foreign_writes: Some(0),
            errors: Some(0),
        }
    }
}

/// A condition of a change of owner, in the order in which they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guard {
    CopyIsDone,
    LagIsSmall,
    SidesAreEqual,
    ShadowAgrees,
    WayBackWorks,
    StageIsAcknowledged,
    ReadsMovedFirst,
    NobodyElseWrote,
    NoErrors,
}

impl Guard {
    pub const ALL: [Self; 9] = [
        Self::CopyIsDone,
        Self::LagIsSmall,
        Self::SidesAreEqual,
        Self::ShadowAgrees,
        Self::WayBackWorks,
        Self::StageIsAcknowledged,
        Self::ReadsMovedFirst,
        Self::NobodyElseWrote,
        Self::NoErrors,
    ];

    pub fn is_met(self, record: &Record, measured: &Measurements) -> bool {
        match self {
            Self::CopyIsDone => measured.rows_to_copy == Some(0),
            Self::LagIsSmall => measured.lag_ms.is_some_and(|lag| lag <= measured.lag_ms_max),
            Self::SidesAreEqual => measured.verified.is_some_and(|verified| {
                verified.rows_different == 0 && verified.age_seconds <= VERIFIED_AGE_SECONDS_MAX
            }),
            Self::ShadowAgrees => match measured.shadow {
                Shadow::Compared { reads, mismatches } => mismatches == 0 && reads >= SHADOW_READS_MIN,
                Shadow::Omitted => true,
            },
            Self::WayBackWorks => measured.way_back_age_seconds.is_some_and(|age| age <= WAY_BACK_AGE_SECONDS_MAX),
            Self::StageIsAcknowledged => measured.behind_the_stage == Some(0),
            Self::ReadsMovedFirst => record.read_percent >= READ_PERCENT_MIN,
            Self::NobodyElseWrote => measured.foreign_writes == Some(0),
            Self::NoErrors => measured.errors == Some(0),
        }
    }

    /// Returns the measured value and the required one, for the operator.
    pub fn describe(self, record: &Record, measured: &Measurements) -> String {
        let known = |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
        match self {
            Self::CopyIsDone => format!("rows left to copy: {}; required: 0", known(measured.rows_to_copy)),
            Self::LagIsSmall => format!(
                "replication lag (p99 of the last {LAG_SECONDS} s): {} ms; allowed: {} ms (--max-lag)",
                known(measured.lag_ms.map(u64::from)),
                measured.lag_ms_max
            ),
            Self::SidesAreEqual => measured.verified.map_or_else(
                || "the sides were not compared; required: a comparison without differences".to_owned(),
                |Verified { rows_different, age_seconds }| {
                    format!(
                        "rows that differ: {rows_different}, compared {age_seconds} s ago; \
                         required: 0, at most {VERIFIED_AGE_SECONDS_MAX} s ago"
                    )
                },
            ),
            Self::ShadowAgrees => match measured.shadow {
                Shadow::Compared { reads, mismatches } => format!(
                    "repeated reads with another answer: {mismatches} of {reads}; \
                     required: 0 of at least {SHADOW_READS_MIN}"
                ),
                Shadow::Omitted => "reads were not repeated, because of --no-shadow".to_owned(),
            },
            Self::WayBackWorks => format!(
                "the last marker went to the replica and back {} s ago; allowed: {WAY_BACK_AGE_SECONDS_MAX} s",
                known(measured.way_back_age_seconds.map(u64::from))
            ),
            Self::StageIsAcknowledged => format!(
                "instances and balancers that have not acknowledged the stage: {}; required: 0",
                known(measured.behind_the_stage.map(u64::from))
            ),
            Self::ReadsMovedFirst => {
                format!("users that read at the replica: {} %; required: {READ_PERCENT_MIN} %", record.read_percent)
            }
            Self::NobodyElseWrote => {
                format!("rows of the replica that others wrote: {}; allowed: 0", known(measured.foreign_writes))
            }
            Self::NoErrors => format!("errors of copy and apply: {}; allowed: 0", known(measured.errors)),
        }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::CopyIsDone => "copy",
            Self::LagIsSmall => "lag",
            Self::SidesAreEqual => "verification",
            Self::ShadowAgrees => "shadow reads",
            Self::WayBackWorks => "way back",
            Self::StageIsAcknowledged => "acknowledged stage",
            Self::ReadsMovedFirst => "reads before writes",
            Self::NobodyElseWrote => "foreign writes",
            Self::NoErrors => "errors",
        })
    }
}

/// Returns the guards that are not met.
pub fn unmet(record: &Record, measured: &Measurements) -> Vec<Guard> {
    Guard::ALL.into_iter().filter(|guard| !guard.is_met(record, measured)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Side, Stage};

    #[test]
    fn each_guard_refuses_a_bad_value_and_an_unknown_one_and_says_both_values() {
        let record = Record { read_percent: 100, ..Record::initial(Side::Monolith).at(Stage::Shifting) };
        let met = Measurements::met();
        assert_eq!(unmet(&record, &met), []);
        let not_compared = Shadow::Compared { reads: 999, mismatches: 0 };
        let old = Verified { rows_different: 0, age_seconds: 61 };
        let cases = [
            (Guard::CopyIsDone, Measurements { rows_to_copy: None, ..met.clone() }),
            (Guard::LagIsSmall, Measurements { lag_ms: Some(51), ..met.clone() }),
            (Guard::SidesAreEqual, Measurements { verified: Some(old), ..met.clone() }),
            (Guard::ShadowAgrees, Measurements { shadow: not_compared, ..met.clone() }),
            (Guard::WayBackWorks, Measurements { way_back_age_seconds: None, ..met.clone() }),
            (Guard::StageIsAcknowledged, Measurements { behind_the_stage: Some(1), ..met.clone() }),
            (Guard::NobodyElseWrote, Measurements { foreign_writes: Some(1), ..met.clone() }),
            (Guard::NoErrors, Measurements { errors: Some(1), ..met.clone() }),
        ];
        for (guard, measured) in cases {
            assert_eq!(unmet(&record, &measured), [guard]);
        }
        assert_eq!(unmet(&Record { read_percent: 99, ..record }, &met), [Guard::ReadsMovedFirst]);
        let slow = Measurements { lag_ms: Some(51), ..met };
        let text = Guard::LagIsSmall.describe(&record, &slow);
        assert_eq!(text, "replication lag (p99 of the last 10 s): 51 ms; allowed: 50 ms (--max-lag)");
        assert_eq!(unmet(&record, &Measurements { lag_ms_max: 60, ..slow }), []);
    }
}
