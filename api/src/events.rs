//! Events: one union for each stream and one model for each event, generated from `schemas/events.schema.json`, and the
//! envelope around them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

mod personal_data;

pub use crate::generated::events::*;
pub use personal_data::{models_with_personal_fields, personal_fields};

/// The AsyncAPI document of the streams and the websocket.
pub const DOCUMENT: &str = include_str!("../asyncapi/events.v1.yaml");
/// The JSON Schema of the unions and models.
pub const SCHEMA: &str = include_str!("../schemas/events.schema.json");
/// The JSON Schema of the envelope.
pub const ENVELOPE_SCHEMA: &str = include_str!("../schemas/envelope.schema.json");

/// One change of one row. `union` is the kind of change with the row after the change, or before it for a delete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event<U> {
    /// `<owner>-<journal id>`. The id stays the same when the event is delivered again.
    pub id: String,
    pub operation: Operation,
    pub time: DateTime<Utc>,
    /// Version of the entity. A consumer ignores an event that is not newer than the version that it has stored.
    pub version: i64,
    /// Grows with each change of the entity's owner. Changes of one entity have the order (epoch, journal id). Absent
    /// in events of older versions: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// The request that made the change.
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
