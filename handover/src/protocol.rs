//! The internal operations by which the two sides of a part and the operator exchange data: paths and JSON types.
//!
//! An operation is `/internal/<service>/handover/<part>/<name>` at the balancer's internal listener. `<service>` is the
//! side that answers: `monolith` or the part's service. Every call has the part's key as a bearer token: the monolith
//! and the operator have the keys of all parts, a service that of its own part, and nobody else has one. Rows contain
//! secrets, so they are never logged and are no part of an error.
//!
//! Errors are problems; 409 `handover-refused` has a `Refusal` in its detail.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    fence::Role,
    record::{Part, Side},
};

/// At the owner, GET with [`ChangesQuery`]: which rows have changed after a position. Answers [`Changes`].
pub const CHANGES: &str = "changes";
/// At either side, POST [`RowsRequest`]: rows as they are now, in the text format of PostgreSQL's `COPY`.
pub const ROWS: &str = "rows";
/// At either side, POST [`DigestsRequest`]. Answers [`Digests`].
pub const DIGESTS: &str = "digests";
/// At the owner, POST [`CloseRequest`]: closes the fence. Answers [`Closed`]; 409 if it is refused.
pub const CLOSE: &str = "close";
/// At the replica, POST [`VerifyRequest`]: compares the sides. Answers 202 for a full comparison, which goes on in the
/// background (see [`Status::verification`]), and 200 with a [`Verification`] for the touched rows.
pub const VERIFY: &str = "verify";
/// At the replica, POST: moves the identity sequences beyond those of the owner. Answers 204.
pub const SEQUENCES: &str = "sequences";
/// At the replica, POST [`PauseRequest`]: pauses or continues copy and apply. Answers 204.
pub const PAUSE: &str = "pause";
/// At a replica whose following has ended, POST: deletes its rows. Answers 204; 409 while it follows.
pub const DISCARD: &str = "discard";
/// At either side, GET. Answers [`Status`]. It comes from the database: all instances of a side answer the same.
pub const STATUS: &str = "status";
/// At either side, GET. Answers [`LogState`].
pub const LOG: &str = "log";
/// At either side, GET with [`TablesQuery`]. Answers `Vec<TableState>`: a copy begins with it.
pub const TABLES: &str = "tables";
/// At the owner, POST: adds a probe to the change log. Answers its [`Position`].
pub const PROBE: &str = "probe";

/// Returns the path of an operation at one side of a part.
pub fn path(side: Side, part: Part, operation: &str) -> String {
    format!("/internal/{}/handover/{part}/{operation}", side.service_name(part))
}

/// The variables with keys of parts begin with this.
pub const HANDOVER_KEY_PREFIX: &str = "HANDOVER_KEY_";

/// The variable with a part's key: `HANDOVER_KEY_USERS`.
pub fn key_variable(part: Part) -> String {
    format!("{HANDOVER_KEY_PREFIX}{}", part.to_string().to_uppercase())
}

/// The prefix of the registry keys with which instances and balancers acknowledge the records that they follow.
pub const ACKNOWLEDGED: &str = "/flack/acknowledged/";
/// The balancers' name in these keys, in the place of a service. Without a name of its own, a balancer has this one.
pub const BALANCER: &str = "haproxy";

/// The value of such a key: `Record::acknowledgement` of each part. The key of an instance has the lease of its
/// registration. That of a balancer has none, because HAProxy works also without its agent.
pub type Acknowledged = BTreeMap<Part, String>;

/// Returns the key with which an instance of a service, or a balancer, acknowledges records.
pub fn acknowledged_key(service: &str, instance: &str) -> String {
    format!("{ACKNOWLEDGED}{service}/{instance}")
}

/// A position in the change log of a part. Transactions are read in the order of their ids, and only those before the
/// oldest one that still runs: so no change appears later at a position that was read already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Position {
    pub transaction: u64,
    pub id: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesQuery {
    /// The epoch since which the owner records changes, as the replica knows it. Another one is refused with 410:
    /// changes are missing, and the replica has to copy again.
    pub since: i64,
    /// The position that the replica has stored. The owner may delete the changes up to it.
    pub transaction: u64,
    pub id: i64,
    pub limit: u32,
    /// How long the owner waits for a change when there is none.
    pub wait_ms: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// In the order of positions. A row that has changed twice may appear twice.
    pub changes: Vec<Change>,
    /// The position to continue from.
    pub position: Position,
    /// No more changes were committed when the answer was made.
    pub is_complete: bool,
    /// By the clock that `Change::recorded_at` is from.
    pub answered_at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub position: Position,
    pub recorded_at: DateTime<Utc>,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The row with this key was inserted, updated or deleted.
    Row {
        table: String,
        /// The columns of the primary key with their values.
        key: Value,
    },
    /// The fence was closed for the attempt with this epoch: no change follows. Its id is the record's marker.
    Marker { epoch: i64 },
    /// A probe of the way to the replica and back.
    Probe { nonce: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsRequest {
    pub table: String,
    /// The columns, in the order in which the caller writes them.
    pub columns: Vec<String>,
    pub selection: Selection,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// The rows with these primary keys; those that do not exist are absent from the answer.
    Keys(Vec<Value>),
    /// The first `limit` rows after this primary key, in the order of keys; from the start without one.
    After { key: Option<Value>, limit: u32 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestsRequest {
    pub table: String,
    pub columns: Vec<String>,
    /// The range in which to compute: after this key, up to and including that one. `None`: without an end.
    pub after: Option<Value>,
    pub up_to: Option<Value>,
    pub rows_per_range: u32,
    pub ranges_max: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    pub ranges: Vec<RangeDigest>,
}

/// The digest of the rows of a key range; equal rows have equal digests in both databases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeDigest {
    pub after: Option<Value>,
    pub up_to: Option<Value>,
    pub rows: u64,
    pub digest: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseRequest {
    /// The epoch of the attempt: that of the record's intent.
    pub epoch: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    pub marker: i64,
    /// How long ago the first write may have met the fence: the time that closing it took.
    pub closing_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyRequest {
    /// Compare only the rows that were applied since the last full comparison.
    pub only_touched: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseRequest {
    pub is_paused: bool,
}

/// One side of a part, as its database has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub part: Part,
    /// The name of the side's service.
    pub service: String,
    pub role: Role,
    pub epoch: i64,
    /// The marker of the last time the fence was closed.
    pub marker: Option<i64>,
    /// The last applied id of the other side's change log.
    pub applied: i64,
    /// Journal rows that are not in the event stream yet; of a closed part those before its marker.
    pub unpublished: u64,
    /// At a replica.
    pub following: Option<Following>,
    /// At a replica: the last full comparison, updated by those of the touched rows.
    pub verification: Option<Verification>,
    /// At the owner.
    pub shadow: ShadowReads,
    /// The age of the last probe that went to the replica and back.
    pub way_back_age_seconds: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Following {
    pub rows_copied: u64,
    /// Exact, counted at the owner when the copy began. 0 when the copy is complete.
    pub rows_to_copy: u64,
    pub is_copied: bool,
    /// The p99 of the time from a change's commit to its commit here, over the batches of the last
    /// `guards::LAG_SECONDS`.
    pub lag_ms: Option<u32>,
    pub rows_applied: u64,
    pub is_paused: bool,
    /// Why the copy is slower than it could be.
    pub throttled: Option<String>,
    /// The present error of copy or apply, which is repeated until it succeeds.
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Between 0 and `rows_total` while a comparison runs.
    pub rows_compared: u64,
    pub rows_total: u64,
    pub is_running: bool,
    pub rows_different: u64,
    /// When all rows were known to be equal or different; none before the first comparison has ended.
    pub age_seconds: Option<u32>,
    /// The first differences.
    pub differences: Vec<Difference>,
}

/// A row that is not equal at both sides. Secret columns are shown as digests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    pub table: String,
    pub key: Value,
    /// `None`: the row does not exist there.
    pub owner: Option<Value>,
    pub replica: Option<Value>,
}

/// Reads that were repeated at the replica since the owner has its present epoch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ShadowReads {
    pub reads: u64,
    pub mismatches: u64,
    /// The last mismatches: operation, and both answers.
    pub examples: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogState {
    /// The epoch since which this side records changes; none if it does not.
    pub followed_since: Option<i64>,
    /// At a replica: the position that it has applied.
    pub applied: Option<Position>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablesQuery {
    /// Whether to count the rows. It takes long for large tables.
    pub counts_rows: bool,
}

/// A table of the part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableState {
    pub name: String,
    pub columns: Vec<String>,
    /// 0 when they were not counted.
    pub rows: u64,
    /// The last value of each identity column.
    pub identities: BTreeMap<String, i64>,
}
