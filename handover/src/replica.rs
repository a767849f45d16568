//! The replica of a part: how far it has applied the owner's change log. For the model check; the SQL of the replica is
//! in `handover/replication`.
//!
//! Position and rows are written in one transaction, so both survive a crash or neither does.

use crate::fence::Fence;

/// How far a database has applied the other side's changes of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Replica {
    /// The position of the last applied change in the other side's change log; 0 before the first one.
    pub applied: i64,
}

/// A change of the owner has arrived. `previous` is the position of the change before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    pub position: i64,
    pub previous: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Write the change's rows with the position, if the fence is still that of a replica.
    Apply,
    /// The change is applied already.
    Ignore,
    /// Changes are missing: read again after this position.
    ReadAgain { after: i64 },
    /// This side is not a replica now.
    Refuse,
}

impl Replica {
    /// Whether all changes up to a marker are applied.
    pub fn has_applied(self, marker: Option<i64>) -> bool {
        marker.is_none_or(|marker| self.applied >= marker)
    }
}

pub fn decide(replica: &Replica, fence: Fence, change: Change) -> (Replica, Effect) {
    if !fence.accepts_changes_of_the_owner() {
        (*replica, Effect::Refuse)
    } else if change.position <= replica.applied {
        (*replica, Effect::Ignore)
    } else if change.previous > replica.applied {
        (*replica, Effect::ReadAgain { after: replica.applied })
    } else {
        (Replica { applied: change.position }, Effect::Apply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fence::Role;

    #[test]
    fn changes_are_applied_in_order_and_once_and_only_by_a_replica() {
        let replica = Replica { applied: 4 };
        let fence = Fence { role: Role::Replica, epoch: 1 };
        let decide_at = |position, previous| decide(&replica, fence, Change { position, previous });
        assert_eq!(decide_at(7, 4), (Replica { applied: 7 }, Effect::Apply));
        assert_eq!(decide_at(4, 2), (replica, Effect::Ignore));
        assert_eq!(decide_at(9, 7), (replica, Effect::ReadAgain { after: 4 }));
        let owner = Fence { role: Role::Owner, epoch: 1 };
        assert_eq!(decide(&replica, owner, Change { position: 7, previous: 4 }), (replica, Effect::Refuse));
    }
}
