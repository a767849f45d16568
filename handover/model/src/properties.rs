//! What is always true, and what is possible.

use flack_handover::{Record, Side, fence::Role};
use stateright::Property;

use crate::{
    Handover,
    state::{JournalRow, Key, State},
};

pub(crate) fn all() -> Vec<Property<Handover>> {
    vec![
        Property::always("at most one side accepts writes", |model: &Handover, state: &State| {
            !Side::ALL.into_iter().all(|side| model.accepts(state, side))
        }),
        Property::always("every acknowledged write is at the owner, once, in order", |_, state: &State| {
            let written = owners_writes(state);
            let is_in_order = written.iter().zip(1..).all(|(key, expected)| *key == expected);
            is_in_order && written.len() >= usize::from(state.acknowledged)
        }),
        Property::always("the replica equals the owner up to its position", |_, state: &State| {
            let [one, other] = &state.databases;
            let common = one.table.len().min(other.table.len());
            one.table[..common] == other.table[..common]
        }),
        Property::always("nothing is refused for ever", |model: &Handover, state: &State| model.recovers(state)),
        Property::sometimes("cut over", |_, state: &State| state.record().owner == Side::Service),
        Property::sometimes("rolled back after new writes", |_, state: &State| is_rolled_back_with_writes(state)),
        Property::sometimes("cut over again", |_, state: &State| changes_of_owner(&state.records) >= 3),
        Property::sometimes("an attempt is undone after the fence was closed", |_, state: &State| {
            let has_marker = state.databases[0].journal.iter().any(|row| matches!(row, JournalRow::Marker { .. }));
            has_marker && state.databases[0].fence.role == Role::Owner && changes_of_owner(&state.records) == 0
        }),
        Property::sometimes("a write is passed on to the owner", |_, state: &State| state.has_forwarded),
        Property::sometimes("a write is kept while the fence is closed", |_, state: &State| {
            state.databases.iter().any(|database| {
                database.fence.role == Role::Closed && database.writers.iter().any(|writer| !writer.is_writing)
            })
        }),
    ]
}

/// Returns the writes of the owner's tables, with those that it has yet to apply before it opens its fence.
fn owners_writes(state: &State) -> Vec<Key> {
    let record = state.record();
    let owner = state.database(record.owner);
    let mut written = owner.table.clone();
    if owner.fence.role == Role::Replica {
        let former = state.database(record.owner.other());
        for position in owner.replica.applied + 1..=record.marker.unwrap_or(0) {
            if let Some(JournalRow::Write(key)) = former.row(position) {
                written.push(key);
            }
        }
    }
    written
}

fn changes_of_owner(records: &[Record]) -> usize {
    records.windows(2).filter(|pair| pair[0].owner != pair[1].owner).count()
}

fn is_rolled_back_with_writes(state: &State) -> bool {
    let has_written = state.databases[1].journal.iter().any(|row| matches!(row, JournalRow::Write(_)));
    has_written && state.record().owner == Side::Monolith && state.databases[0].fence.role == Role::Owner
}
