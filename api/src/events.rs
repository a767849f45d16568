//! What owners tell of their data: one union for each stream, one model for each event, made from
//! `schemas/events.schema.json`, and the envelope around them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use crate::generated::events::*;

/// One change of one row. `union` says of what kind, and holds the row as it is after the change (for a
/// delete: as it was before).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event<U> {
    /// `<owner>-<journal id>`; the same event has the same id, however often it arrives.
    pub id: String,
    pub operation: Operation,
    pub time: DateTime<Utc>,
    /// Of the entity: what is not newer than the version that one holds is old news.
    pub version: i64,
    /// Of the request that made the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    #[serde(flatten)]
    pub union: U,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    Insert,
    Update,
    Delete,
}
