//! The model of a hand-over: two databases, the registry, operators, relays, followers, processes that write, and a
//! client that repeats its requests.
//!
//! Every decision is made by `decide` of flack-handover; the model only executes the effects. A state is checked in
//! every order of its actions. `Bounds` limits how often the environment misbehaves, so that there is an end.
//!
//! `Mutant` leaves out one protection. A test shows that the checker finds each of them: otherwise the check would
//! prove nothing.

mod state;
mod step;
mod actions;
mod recovery;
mod properties;

use stateright::{Model, Property};

pub use actions::Action;
pub use state::{Message, State};

/// How much happens in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The writes of the client.
    pub writes: u8,
    /// The steps that operators are started for.
    pub steps: u8,
    /// Faults of any kind: a crash, an old record, a duplicate, a loss, a delay beyond a timeout.
    pub faults: u8,
}

/// A protection that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Writers ask the record that their process has read, not the database.
    NoFence,
    /// The marker's position is taken before the lock.
    PositionBeforeLock,
    /// A fence does not compare epochs.
    NoEpochCheck,
    /// The registry does not compare revisions.
    NoRevisionCheck,
    /// A new owner opens its fence without comparing its position with the marker.
    NoMarkerCheck,
}

impl Mutant {
    pub const ALL: [Self; 5] =
        [Self::NoFence, Self::PositionBeforeLock, Self::NoEpochCheck, Self::NoRevisionCheck, Self::NoMarkerCheck];
}

/// A hand-over within bounds, complete or with a protection left out.
#[derive(Debug, Clone)]
pub struct Handover {
    pub bounds: Bounds,
    pub mutant: Option<Mutant>,
}

impl Handover {
    fn lacks(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

impl Model for Handover {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::initial()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.execute(&mut next, action);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
