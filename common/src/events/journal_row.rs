//! The journal row, and the event that the owner maps it to.

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// A change that the trigger has written.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct JournalRow {
    /// The id of the queue row.
    pub(super) queue_id: i64,
    pub(super) replay: bool,
    pub(super) is_repeated: bool,
    pub id: i64,
    pub recorded_at: DateTime<Utc>,
    /// `insert`, `update` or `delete`.
    pub operation: String,
    /// The argument of `attach_journal`.
    pub entity: String,
    pub entity_id: String,
    pub version: i64,
    /// The epoch of the part at the time of the change.
    pub epoch: i64,
    /// The columns without the omitted ones; for a delete, the row before it.
    pub row_data: Value,
    pub correlation_id: Option<String>,
}

impl JournalRow {
    /// Parses the columns as the owner's type; timestamps are RFC 3339 text.
    pub fn decode<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        T::deserialize(&self.row_data).with_context(|| {
            format!("the journal row of {} {} does not have the expected columns", self.entity, self.entity_id)
        })
    }
}

/// The event of a journal row, without its envelope.
#[derive(Debug, Clone)]
pub struct MappedEvent {
    /// The type of the event, such as `user_changed`; also the third token of the subject.
    pub kind: String,
    pub entity_id: String,
    pub(super) union: Value,
}

/// The JSON of `flack_api::events::Event`; a test there and one here check that both agree.
#[derive(Serialize)]
struct Envelope<'a> {
    id: String,
    operation: &'a str,
    time: String,
    version: i64,
    epoch: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(flatten)]
    union: &'a Value,
}

impl MappedEvent {
    /// Maps a row to `event`, a value of the owner's union with the tag `type`.
    pub fn new(row: &JournalRow, event: &impl Serialize) -> anyhow::Result<Self> {
        let union = serde_json::to_value(event).context("the event cannot be written as JSON")?;
        let kind = union.get("type").and_then(Value::as_str).context("the event has no `type`")?.to_owned();
        Ok(Self { kind, entity_id: row.entity_id.clone(), union })
    }

    pub(super) fn payload(&self, owner: &str, row: &JournalRow) -> anyhow::Result<Vec<u8>> {
        let envelope = Envelope {
            id: event_id(owner, row.id),
            operation: &row.operation,
            time: row.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true),
            version: row.version,
            epoch: row.epoch,
            correlation_id: row.correlation_id.as_deref(),
            union: &self.union,
        };
        serde_json::to_vec(&envelope).context("the event cannot be written as JSON")
    }
}

/// Returns the id of an event; a replay has the same id.
pub(super) fn event_id(owner: &str, journal_id: i64) -> String {
    format!("{owner}-{journal_id}")
}

/// Separates event id and queue id in the message id of a replay: NATS must not drop it as a duplicate.
const REPLAY_MARK: char = '~';

/// Returns the `Nats-Msg-Id`.
pub(super) fn message_id(owner: &str, row: &JournalRow) -> String {
    let id = event_id(owner, row.id);
    if row.replay { format!("{id}{REPLAY_MARK}{}", row.queue_id) } else { id }
}

/// Whether the message was published by a replay.
pub(super) fn is_replay(message_id: &str) -> bool {
    message_id.contains(REPLAY_MARK)
}

/// Returns the journal id in an event id; it grows with the changes of one entity.
pub(super) fn journal_id(event_id: &str) -> Option<i64> {
    event_id.rsplit_once('-')?.1.parse().ok()
}
