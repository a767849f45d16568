//! Whether a state recovers: no more faults, an operator that resumes what is left, and everything that is due happens.

use flack_handover::{
    Side,
    operator::{Phase, Step},
};

use crate::{
    Handover,
    actions::{Action, is_deliverable, is_waiting_for_message, observe, publishable},
    state::State,
};

/// Far more than any state needs.
const STEPS_MAX: usize = 300;

impl Handover {
    /// Whether every write of the client is acknowledged in the end, by an owner that accepts writes.
    pub(crate) fn recovers(&self, state: &State) -> bool {
        let mut state = state.clone();
        for _ in 0..STEPS_MAX {
            let Some(action) = self.due(&state) else { break };
            self.execute(&mut state, action);
        }
        let owner = state.record().owner;
        state.acknowledged == self.bounds.writes && self.accepts(&state, owner) && self.due(&state).is_none()
    }

    /// Returns what happens next when nothing goes wrong.
    fn due(&self, state: &State) -> Option<Action> {
        for side in Side::ALL {
            if let Some(writer) = state.database(side).writers.iter().find(|writer| writer.is_writing) {
                return Some(Action::Commit(side, *writer));
            }
        }
        if let Some(message) = state.network.iter().find(|message| is_deliverable(self, state, message)) {
            return Some(Action::Deliver(*message));
        }
        for side in Side::ALL {
            let database = state.database(side);
            if database.taken.is_some() {
                return Some(Action::Lock(side));
            }
            if database.seen < state.revision() {
                return Some(Action::Watch(side));
            }
            if self.follow(state, side) != database.fence {
                return Some(Action::Follow(side));
            }
            if let Some(position) = publishable(state, side) {
                return Some(Action::Publish { from: side, position });
            }
            if let Some(writer) = database.writers.iter().find(|writer| self.is_decidable(state, side, **writer)) {
                return Some(Action::Retry(side, *writer));
            }
        }
        for (operator, it) in &state.operators {
            let operator = *operator;
            match it.phase {
                Phase::Putting { .. } | Phase::Closing { .. } if !is_waiting_for_message(state, operator) => {
                    return Some(Action::Repeat { operator });
                }
                _ if observe(state, operator).is_some() => return Some(Action::Observe { operator }),
                _ => {}
            }
        }
        if state.operators.is_empty() && state.record().stage.is_switching() {
            return Some(Action::Start(Step::Resume));
        }
        let is_left = state.acknowledged < self.bounds.writes && !state.is_request_underway();
        is_left.then(|| Action::Send(state.record().owner))
    }
}
