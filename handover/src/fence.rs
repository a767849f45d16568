//! The fence of a part in one database: whether its tables may be written.
//!
//! The database holds it in the table `ownership`. Writers read it inside their transactions, so no write can be missed
//! (`migrations/shared/`). The operator closes it; the processes of its side open it, when the record says so.

use serde::{Deserialize, Serialize};

use crate::record::{Record, Side};

/// What the database is for a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Its tables may be written.
    Owner,
    /// Only the applier of the owner's changes writes its tables.
    Replica,
    /// Nothing writes its tables. Its change log ends with a marker.
    Closed,
}

/// The fence of a part in one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    pub role: Role,
    /// The epoch of the last change. It never decreases.
    pub epoch: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The operator closes the fence for the attempt with this epoch. No write is in progress: the lock is exclusive.
    Close { epoch: i64 },
    /// A process of `side` has read the record, perhaps an old one. `is_marker_applied`: this database has all changes
    /// of the other side up to the record's marker.
    Record { side: Side, record: Record, is_marker_applied: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Write the marker into the change log, in the same transaction.
    WriteMarker { epoch: i64 },
    /// Answer that the fence is closed, with the id of this epoch's marker.
    AnswerClosed { epoch: i64 },
    /// Answer that the fence was not closed.
    AnswerRefused(Refusal),
}

/// Why a fence was not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    #[error("the command is of epoch {asked}, but the fence is at epoch {fence}: another attempt has begun since")]
    OldEpoch { asked: i64, fence: i64 },
    #[error("this database is a replica: only the owner's fence can be closed")]
    Replica,
    #[error("a transaction was open for longer than the lock timeout; nothing has changed")]
    LockTimeout,
}

impl Fence {
    /// Whether a client's write is accepted. Read inside the writing transaction.
    pub const fn accepts_writes(self) -> bool {
        matches!(self.role, Role::Owner)
    }

    /// Whether the applier may write.
    pub const fn accepts_changes_of_the_owner(self) -> bool {
        matches!(self.role, Role::Replica)
    }
}

pub fn decide(fence: &Fence, input: Input) -> (Fence, Vec<Effect>) {
    match input {
        Input::Close { epoch } => close(*fence, epoch),
        Input::Record { side, record, is_marker_applied } => (follow(*fence, side, &record, is_marker_applied), vec![]),
    }
}

fn close(fence: Fence, epoch: i64) -> (Fence, Vec<Effect>) {
    let closed = Fence { role: Role::Closed, epoch };
    if fence == closed {
        return (fence, vec![Effect::AnswerClosed { epoch }]);
    }
    if epoch <= fence.epoch {
        let refusal = Refusal::OldEpoch { asked: epoch, fence: fence.epoch };
        return (fence, vec![Effect::AnswerRefused(refusal)]);
    }
    if fence.role == Role::Replica {
        return (fence, vec![Effect::AnswerRefused(Refusal::Replica)]);
    }
    (closed, vec![Effect::WriteMarker { epoch }, Effect::AnswerClosed { epoch }])
}

fn follow(fence: Fence, side: Side, record: &Record, is_marker_applied: bool) -> Fence {
    if record.epoch < fence.epoch {
        return fence; // An old record: a later one was seen before.
    }
    let is_newer = record.epoch > fence.epoch;
    let role = if record.owner != side {
        // An intent has the epoch of the change that follows it, so only a newer record takes the ownership away.
        if fence.role == Role::Owner && !is_newer { Role::Owner } else { Role::Replica }
    } else if record.stage.is_switching() {
        return fence; // The operator closes it; the epoch must stay lower than the command's.
    } else {
        match fence.role {
            Role::Owner => Role::Owner,
            // Closed for an attempt that was undone since.
            Role::Closed if is_newer => Role::Owner,
            Role::Replica if is_marker_applied => Role::Owner,
            Role::Closed | Role::Replica => return fence,
        }
    };
    Fence { role, epoch: record.epoch }
}

/// Returns the epoch since which the database records the changes of a part, after a process of `side` has read a
/// record and the fence has changed from `before` to `after`. `held` is the epoch before.
pub fn followed_since(before: Fence, after: Fence, held: Option<i64>, side: Side, record: &Record) -> Option<i64> {
    let is_followed = record.stage.is_followed();
    if record.epoch < before.epoch {
        held
    } else if after.role == Role::Replica {
        None
    } else if after.role == Role::Closed || record.owner != side {
        held
    } else if before.role == Role::Replica {
        // The former owner follows since this epoch, in which both have the same rows.
        is_followed.then_some(record.epoch)
    } else if is_followed {
        // An attempt that was undone raises the epoch, and the replica goes on.
        held.or(Some(record.epoch))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Stage;

    const FENCE: Fence = Fence { role: Role::Owner, epoch: 4 };

    #[test]
    fn an_owner_is_closed_once_and_the_repeated_command_writes_no_second_marker() {
        let (closed, effects) = decide(&FENCE, Input::Close { epoch: 5 });
        assert_eq!(closed, Fence { role: Role::Closed, epoch: 5 });
        assert_eq!(effects, [Effect::WriteMarker { epoch: 5 }, Effect::AnswerClosed { epoch: 5 }]);
        assert_eq!(decide(&closed, Input::Close { epoch: 5 }), (closed, vec![Effect::AnswerClosed { epoch: 5 }]));
    }

    #[test]
    fn a_command_of_an_undone_attempt_is_refused() {
        let reopened = Fence { role: Role::Owner, epoch: 6 };
        let refused = Effect::AnswerRefused(Refusal::OldEpoch { asked: 5, fence: 6 });
        assert_eq!(decide(&reopened, Input::Close { epoch: 5 }), (reopened, vec![refused]));
    }

    #[test]
    fn an_old_record_opens_no_fence() {
        let closed = Fence { role: Role::Closed, epoch: 5 };
        let old = Record { epoch: 4, ..Record::initial(Side::Monolith) };
        let input = Input::Record { side: Side::Monolith, record: old, is_marker_applied: true };
        assert_eq!(decide(&closed, input).0, closed);
    }

    #[test]
    fn a_new_owner_opens_only_after_the_marker() {
        let replica = Fence { role: Role::Replica, epoch: 4 };
        let record = Record { epoch: 4, ..Record::initial(Side::Monolith).at(Stage::Following) }.intent().switched(9);
        let input = |is_marker_applied| Input::Record { side: Side::Service, record, is_marker_applied };
        assert_eq!(decide(&replica, input(false)).0, replica);
        assert_eq!(decide(&replica, input(true)).0, Fence { role: Role::Owner, epoch: 5 });
    }
}
