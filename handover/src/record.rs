//! The record of a part: its owner, its epoch and its stage. One key in the registry, changed only by compare-and-swap.
//!
//! Routes, decorators and fences derive from it. There is no second place that says who owns a part.

use std::fmt;

use chrono::{DateTime, Utc};
use flack_catalogue::{MONOLITH, Service};
use serde::{Deserialize, Serialize, Serializer};

/// The prefix of the registry keys of all records.
pub const PREFIX: &str = "/flack/authority/";

/// Returns the registry key of the record of a part with this name.
pub fn key(part: &str) -> String {
    format!("{PREFIX}{part}")
}

/// What moves as a whole from the monolith to its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Users,
    Tokens,
    Messages,
    Ui,
    /// A part without data: only its route moves.
    Websocket,
}

impl Part {
    /// All parts, in the order of the catalogue.
    pub const ALL: [Self; 5] = [Self::Ui, Self::Users, Self::Tokens, Self::Messages, Self::Websocket];

    /// Returns the part's service in the catalogue. Part, service and database have one name.
    pub fn service(self) -> &'static Service {
        Service::named(match self {
            Self::Users => "users",
            Self::Tokens => "tokens",
            Self::Messages => "messages",
            Self::Ui => "ui",
            Self::Websocket => "websocket",
        })
    }

    /// Returns the part with this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.service().name == name)
    }

    /// Whether the part has tables, which only its owner may write.
    pub fn has_data(self) -> bool {
        self != Self::Websocket
    }
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.service().name)
    }
}

/// One of the two places where a part can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Monolith,
    Service,
}

impl Side {
    pub const ALL: [Self; 2] = [Self::Monolith, Self::Service];

    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Monolith => Self::Service,
            Self::Service => Self::Monolith,
        }
    }

    /// Returns the name of the service that is this side of `part`.
    pub fn service_name(self, part: Part) -> &'static str {
        match self {
            Self::Monolith => MONOLITH,
            Self::Service => part.service().name,
        }
    }
}

/// How far the hand-over of a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The monolith owns the part; the service has no data.
    Monolith,
    /// The monolith owns the part; the service copies it and applies its changes.
    Following,
    /// Both sides were compared, and are equal.
    Verified,
    /// A share of the reads is repeated at the service, and the answers are compared.
    Shadowing,
    /// A share of the users reads at the service.
    Shifting,
    /// The monolith still owns the part; the service is about to become the owner.
    CuttingOver,
    /// The service owns the part; the monolith follows.
    CutOver,
    /// The service still owns the part; the monolith is about to become the owner again.
    RollingBack,
    /// The service owns the part; the monolith has no rows, or old ones.
    Retired,
}

impl Stage {
    /// Whether the owner is about to change.
    pub const fn is_switching(self) -> bool {
        matches!(self, Self::CuttingOver | Self::RollingBack)
    }

    /// Whether the side that is not the owner follows the owner.
    pub const fn is_followed(self) -> bool {
        !matches!(self, Self::Monolith | Self::Retired)
    }

    /// Returns the owner that a record of this stage must have.
    pub const fn owner(self) -> Side {
        match self {
            Self::CutOver | Self::RollingBack | Self::Retired => Side::Service,
            _ => Side::Monolith,
        }
    }
}

/// The word of the registry.
impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
    }
}

/// The state of a part's hand-over, as the registry has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Record {
    pub owner: Side,
    /// Grows with each attempt to change the owner, also when it is undone, and when following begins or ends. No fence
    /// goes back to a lower one.
    pub epoch: i64,
    pub stage: Stage,
    /// The share of the users that read at the replica.
    pub read_percent: u8,
    /// The share of the reads that are repeated at the replica.
    pub shadow_percent: u8,
    /// The id in the change log at which the writes of the previous owner end. The owner opens its fence when it has
    /// applied the previous owner's changes up to this id.
    pub marker: Option<i64>,
}

impl Record {
    /// Returns the record of a stack that starts with this owner: the other side has no data.
    pub const fn initial(owner: Side) -> Self {
        let stage = match owner {
            Side::Monolith => Stage::Monolith,
            Side::Service => Stage::Retired,
        };
        Self { owner, epoch: 1, stage, read_percent: 0, shadow_percent: 0, marker: None }
    }

    /// Returns the record with another stage and the same owner.
    #[must_use]
    pub const fn at(self, stage: Stage) -> Self {
        Self { stage, ..self }
    }

    /// Returns the record that announces a change of owner. The epoch has one result: the change, or none.
    #[must_use]
    pub const fn intent(self) -> Self {
        let stage = match self.owner {
            Side::Monolith => Stage::CuttingOver,
            Side::Service => Stage::RollingBack,
        };
        Self { epoch: self.epoch + 1, stage, marker: None, ..self }
    }

    /// Returns the record with the new owner, whose predecessor's writes end at `marker`. All reads are at the owner
    /// again: the sides have changed.
    #[must_use]
    pub const fn switched(self, marker: i64) -> Self {
        let (owner, stage) = match self.owner {
            Side::Monolith => (Side::Service, Stage::CutOver),
            Side::Service => (Side::Monolith, Stage::Following),
        };
        Self { owner, stage, marker: Some(marker), read_percent: 0, shadow_percent: 0, ..self }
    }

    /// Returns what an instance or a balancer writes into the registry when it follows this record.
    pub fn acknowledgement(&self) -> String {
        let Self { epoch, stage, read_percent, shadow_percent, .. } = self;
        format!("{epoch} {stage:?} {read_percent} {shadow_percent}")
    }

    /// Returns the record that undoes an intent. The epoch is a new one, so that a delayed command of the undone
    /// attempt has no effect. A repeated attempt has to compare the sides again.
    #[must_use]
    pub const fn undone(self) -> Self {
        let stage = match self.owner {
            Side::Monolith => Stage::Following,
            Side::Service => Stage::CutOver,
        };
        Self { epoch: self.epoch + 1, stage, marker: None, read_percent: 0, shadow_percent: 0, ..self }
    }
}

/// A record with when and by whom it was written: the value of the registry key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// It is in the key, not in the value.
    pub part: Part,
    pub record: Record,
    pub updated_at: Option<DateTime<Utc>>,
    /// The user and the machine, for messages.
    pub updated_by: Option<String>,
}

/// Why a value of the registry is no record of a part.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("the owner is {owner:?}, but only monolith and {part} can own {part}")]
    Owner { part: Part, owner: String },
    #[error("the stage is {stage:?}, at which {owner} cannot be the owner")]
    Stage { stage: Stage, owner: String },
}

/// The JSON of an entry. Fields are only ever added. Entries of versions before the stages have only owner and epoch.
#[derive(Debug, Serialize, Deserialize)]
struct Wire {
    /// The name of a service.
    owner: String,
    epoch: i64,
    #[serde(default)]
    stage: Option<Stage>,
    #[serde(default)]
    read_percent: u8,
    #[serde(default)]
    shadow_percent: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    marker: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    updated_at: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    updated_by: Option<String>,
}

impl Entry {
    /// Returns the entry of a stack that starts with this owner.
    pub const fn initial(part: Part, owner: Side) -> Self {
        Self { part, record: Record::initial(owner), updated_at: None, updated_by: None }
    }

    /// Returns the name of the service that owns the part.
    pub fn owner(&self) -> &'static str {
        self.record.owner.service_name(self.part)
    }

    /// Parses the value of the registry key of `part`.
    pub fn decode(part: Part, json: &str) -> Result<Self, RecordError> {
        let wire: Wire = serde_json::from_str(json)?;
        let Some(owner) = Side::ALL.into_iter().find(|side| side.service_name(part) == wire.owner) else {
            return Err(RecordError::Owner { part, owner: wire.owner });
        };
        let stage = wire.stage.unwrap_or(Record::initial(owner).stage);
        if stage.owner() != owner {
            return Err(RecordError::Stage { stage, owner: wire.owner });
        }
        let Wire { epoch, read_percent, shadow_percent, marker, updated_at, updated_by, .. } = wire;
        let record = Record { owner, epoch, stage, read_percent, shadow_percent, marker };
        Ok(Self { part, record, updated_at, updated_by })
    }

    /// Returns the value of the registry key.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("an entry is JSON")
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Record { epoch, stage, read_percent, shadow_percent, marker, .. } = self.record;
        let wire = Wire {
            owner: self.owner().to_owned(),
            epoch,
            stage: Some(stage),
            read_percent,
            shadow_percent,
            marker,
            updated_at: self.updated_at,
            updated_by: self.updated_by.clone(),
        };
        wire.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_the_owners_service_and_is_read_back() {
        let record = Record::initial(Side::Monolith).at(Stage::Following).intent().switched(7);
        let (updated_at, updated_by) = (Some(DateTime::UNIX_EPOCH), Some("ada".to_owned()));
        let entry = Entry { part: Part::Users, record, updated_at, updated_by };
        let json = entry.encode();
        assert!(json.starts_with(r#"{"owner":"users","epoch":2,"stage":"cut_over""#), "{json}");
        assert_eq!(Entry::decode(Part::Users, &json).expect("it is an entry"), entry);
    }

    #[test]
    fn an_entry_without_a_stage_is_one_of_a_stack_in_which_nothing_moved() {
        let entry = Entry::decode(Part::Ui, r#"{"owner":"ui","epoch":1}"#).expect("it is an entry");
        assert_eq!(entry.record, Record::initial(Side::Service));
        let entry = Entry::decode(Part::Ui, r#"{"owner":"monolith","epoch":1}"#).expect("it is an entry");
        assert_eq!(entry.record, Record::initial(Side::Monolith));
    }

    #[test]
    fn an_owner_that_is_no_side_of_the_part_is_refused_with_both_names() {
        let error = Entry::decode(Part::Users, r#"{"owner":"tokens","epoch":1}"#).expect_err("tokens is no side");
        assert_eq!(error.to_string(), r#"the owner is "tokens", but only monolith and users can own users"#);
        let json = r#"{"owner":"users","epoch":1,"stage":"following"}"#;
        Entry::decode(Part::Users, json).expect_err("the service does not follow itself");
    }

    #[test]
    fn every_part_has_a_record_by_the_catalogue() {
        let recorded = flack_catalogue::SERVICES.iter().filter(|service| service.has_authority).map(|it| it.name);
        let parts = Part::ALL.into_iter().map(|part| part.service().name);
        assert_eq!(recorded.collect::<Vec<_>>(), parts.collect::<Vec<_>>());
        assert_eq!(Part::find("websocket"), Some(Part::Websocket));
    }

    #[test]
    fn every_change_of_a_record_keeps_stage_and_owner_consistent() {
        let mut record = Record::initial(Side::Monolith).at(Stage::Following);
        for _ in 0..3 {
            for next in [record.intent(), record.intent().undone(), record.intent().switched(1)] {
                assert_eq!(next.stage.owner(), next.owner, "{next:?}");
                assert!(next.epoch > record.epoch, "{next:?}");
            }
            record = record.intent().switched(1);
        }
    }
}
