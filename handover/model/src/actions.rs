//! What can happen next in a state.

use flack_handover::{
    Side, Stage,
    fence::{self, Role},
    operator::{self, Effect, Input, Phase, Step},
    replica::Replica,
};

use crate::{
    Handover, Mutant,
    state::{Message, State, Writer},
};

/// Each side has two processes that write.
pub(crate) const WRITERS_MAX: usize = 2;
/// The changes of one relay that are on their way.
const CHANGES_MAX: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Somebody starts an operator.
    Start(Step),
    /// The operator gets the result of an effect that only reads, or that cannot be lost.
    Observe {
        operator: u8,
    },
    /// The operator repeats its effect: command or answer were lost.
    Repeat {
        operator: u8,
    },
    Deliver(Message),
    /// The processes of a side read the present record.
    Watch(Side),
    /// The processes of a side pass the record that they have read on to the fence.
    Follow(Side),
    /// The owner's relay publishes a change.
    Publish {
        from: Side,
        position: i64,
    },
    /// A transaction commits.
    Commit(Side, Writer),
    /// A kept request is decided again.
    Retry(Side, Writer),
    /// The client sends its present request, or repeats it.
    Send(Side),
    /// In the mutant that takes the position too early: the lock is there, and the fence is closed.
    Lock(Side),

    // Faults.
    /// A message arrives, and will arrive once more.
    DeliverTwice(Message),
    Lose(Message),
    /// The client or an operator repeats a request though the first one is underway.
    SendAgain(Side),
    OperatorDies {
        operator: u8,
    },
    TimeOut {
        operator: u8,
    },
    /// The operator's terminal is interrupted.
    Interrupt {
        operator: u8,
    },
    /// The lock was not there within the timeout.
    LockTimeout(Message),
    /// The processes of a side crash; their transactions are rolled back.
    Crash(Side),
    /// The processes of a side start again, with an old record: their last known state.
    RestartWithOldRecord {
        side: Side,
        revision: i64,
    },
    /// The database of a replica crashes, and loses the changes that it has applied since its last durable commit.
    LoseAppliedChanges(Side),
    /// A request was kept for too long.
    GiveUp(Side, Writer),
}

impl Handover {
    pub(crate) fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible_without_faults(state, actions);
        if state.faults < self.bounds.faults {
            possible_faults(state, actions);
        }
    }

    fn possible_without_faults(&self, state: &State, actions: &mut Vec<Action>) {
        if state.operators_started < self.bounds.steps && state.operators.is_empty() {
            starts(state, actions);
        }
        for (number, operator) in &state.operators {
            match operator.phase {
                Phase::Putting { .. } | Phase::Closing { .. } if !is_waiting_for_message(state, *number) => {
                    actions.push(Action::Repeat { operator: *number });
                }
                _ if observe(state, *number).is_some() => actions.push(Action::Observe { operator: *number }),
                _ => {}
            }
        }
        for message in &state.network {
            if is_deliverable(self, state, message) {
                actions.push(Action::Deliver(*message));
            }
        }
        for side in Side::ALL {
            let database = state.database(side);
            if database.seen < state.revision() {
                actions.push(Action::Watch(side));
            }
            if self.follow(state, side) != database.fence {
                actions.push(Action::Follow(side));
            }
            actions.extend(publishable(state, side).map(|position| Action::Publish { from: side, position }));
            for writer in &database.writers {
                if writer.is_writing {
                    actions.push(Action::Commit(side, *writer));
                } else if self.is_decidable(state, side, *writer) {
                    actions.push(Action::Retry(side, *writer));
                }
            }
            if state.acknowledged < self.bounds.writes && !state.is_request_underway() {
                actions.push(Action::Send(side));
            }
            if database.taken.is_some() && !database.is_writing() {
                actions.push(Action::Lock(side));
            }
        }
    }

    /// Returns the fence after the processes of a side have passed on the record that they have read.
    pub(crate) fn follow(&self, state: &State, side: Side) -> fence::Fence {
        let (database, record) = (state.database(side), state.seen(side));
        let is_marker_applied = self.lacks(Mutant::NoMarkerCheck) || database.replica.has_applied(record.marker);
        fence::decide(&self.asked(database.fence), fence::Input::Record { side, record, is_marker_applied }).0
    }

    /// Returns the fence as its decision sees it: without an epoch in the mutant that does not compare epochs.
    pub(crate) fn asked(&self, fence: fence::Fence) -> fence::Fence {
        if self.lacks(Mutant::NoEpochCheck) { fence::Fence { epoch: 0, ..fence } } else { fence }
    }

    /// Whether a side accepts a client's write.
    pub(crate) fn accepts(&self, state: &State, side: Side) -> bool {
        if self.lacks(Mutant::NoFence) {
            let record = state.seen(side);
            record.owner == side && !record.stage.is_switching()
        } else {
            state.database(side).fence.accepts_writes()
        }
    }
}

fn starts(state: &State, actions: &mut Vec<Action>) {
    let record = state.record();
    let steps: &[Step] = match record.stage {
        Stage::CuttingOver | Stage::RollingBack => &[Step::Resume, Step::Abort],
        Stage::Following => &[Step::Verify],
        _ if record.read_percent < 100 => &[Step::Shift(100)],
        _ if record.owner == Side::Service => &[Step::RollBack],
        _ => &[Step::CutOver],
    };
    actions.extend(steps.iter().map(|step| Action::Start(*step)));
}

fn possible_faults(state: &State, actions: &mut Vec<Action>) {
    if state.operators.len() == 1 && state.record().stage.is_switching() {
        // Somebody takes the running operator for dead.
        actions.push(Action::Start(Step::Resume));
        actions.push(Action::Start(Step::Abort));
    }
    for (number, operator) in &state.operators {
        actions.push(Action::OperatorDies { operator: *number });
        if operator::decide(operator, &Input::TimedOut).0 != *operator {
            actions.push(Action::TimeOut { operator: *number });
        }
        if operator::decide(operator, &Input::AbortRequested).0 != *operator {
            actions.push(Action::Interrupt { operator: *number });
        }
    }
    for message in &state.network {
        actions.push(Action::Lose(*message));
        match message {
            Message::Close { side, .. } => {
                let is_writing = state.database(*side).is_writing();
                actions.push(if is_writing { Action::LockTimeout(*message) } else { Action::DeliverTwice(*message) });
            }
            Message::Request { side, .. } if state.database(*side).writers.len() < WRITERS_MAX => {
                actions.push(Action::DeliverTwice(*message));
            }
            Message::Put { .. } | Message::Change { .. } => actions.push(Action::DeliverTwice(*message)),
            // There is no process for the request now, and an answer belongs to one request: it cannot arrive twice.
            _ => {}
        }
    }
    for side in Side::ALL {
        let database = state.database(side);
        if !database.writers.is_empty() {
            actions.push(Action::Crash(side));
        }
        for revision in 1..database.seen {
            actions.push(Action::RestartWithOldRecord { side, revision });
        }
        if database.fence.role == Role::Replica && database.durable.applied < database.replica.applied {
            actions.push(Action::LoseAppliedChanges(side));
        }
        for writer in database.writers.iter().filter(|writer| !writer.is_writing) {
            actions.push(Action::GiveUp(side, *writer));
        }
        if state.is_request_underway() {
            actions.push(Action::SendAgain(side));
        }
    }
}

/// Whether a command of the operator, or an answer to it, is on its way.
pub(crate) fn is_waiting_for_message(state: &State, number: u8) -> bool {
    state.network.iter().any(|message| match message {
        Message::Put { operator, .. }
        | Message::PutAnswer { operator, .. }
        | Message::Close { operator, .. }
        | Message::Closed { operator, .. }
        | Message::CloseRefused { operator, .. } => *operator == number,
        _ => false,
    }) || state.databases.iter().any(|database| database.taken.is_some_and(|(operator, ..)| operator == number))
}

pub(crate) fn is_deliverable(model: &Handover, state: &State, message: &Message) -> bool {
    match message {
        // The command waits for the lock as long as a transaction of the part is open.
        Message::Close { side, .. } => {
            let database = state.database(*side);
            (model.lacks(Mutant::PositionBeforeLock) && database.taken.is_none())
                || model.lacks(Mutant::NoFence)
                || !database.is_writing()
        }
        Message::Request { side, .. } => state.database(*side).writers.len() < WRITERS_MAX,
        _ => true,
    }
}

/// Returns the positions that the relay of a side may publish: the changes that the other side needs next.
pub(crate) fn publishable(state: &State, from: Side) -> Option<i64> {
    let follower = from.other();
    let record = state.seen(follower);
    if !record.stage.is_followed() || !state.database(follower).fence.accepts_changes_of_the_owner() {
        return None;
    }
    let Replica { applied } = state.database(follower).replica;
    (1..=CHANGES_MAX as i64)
        .map(|ahead| applied + ahead)
        .find(|position| !state.is_on_its_way(&Message::Change { from, position: *position }))
        .filter(|position| *position <= state.database(from).journal_end())
}

/// Returns the input that an operator's reading effect has now; `None` while there is none.
pub(crate) fn observe(state: &State, number: u8) -> Option<Input> {
    let operator = state.operator(number)?;
    match operator.effect() {
        Effect::Read => Some(Input::Read { revision: state.revision(), record: state.record() }),
        Effect::Measure => Some(Input::Measured(crate::step::measure(state))),
        Effect::AwaitMarker { side, marker } => {
            state.database(side).replica.has_applied(Some(marker)).then_some(Input::MarkerApplied)
        }
        Effect::CompareTouched => {
            let [one, other] = &state.databases;
            Some(Input::Compared { rows_different: u64::from(one.table != other.table) })
        }
        Effect::MoveSequences { .. } => Some(Input::SequencesMoved),
        Effect::AwaitOpen { side, epoch } => {
            let fence = state.database(side).fence;
            (fence.role == Role::Owner && fence.epoch >= epoch).then_some(Input::Opened)
        }
        Effect::Put { .. } | Effect::Close { .. } | Effect::Finish(_) => None,
    }
}
