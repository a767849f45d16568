//! Executes an action: passes an input to `decide`, and executes the effects.

use flack_handover::{
    Side,
    fence::{self, Refusal},
    guards::Measurements,
    operator::{self, Effect, Input, Operator},
    replica,
    request::{self, Request},
};

use crate::{
    Handover, Mutant,
    actions::{Action, observe},
    state::{JournalRow, Key, Message, State, Writer},
};

/// Returns what an operator measures: the lag, and the way back.
pub(crate) fn measure(state: &State) -> Measurements {
    let owner = state.record().owner;
    let behind = state.database(owner).journal_end() - state.database(owner.other()).replica.applied;
    Measurements { lag_ms: (behind == 0).then_some(0), ..Measurements::met() }
}

impl Handover {
    pub(crate) fn execute(&self, state: &mut State, action: Action) {
        match action {
            Action::Start(step) => {
                if !state.operators.is_empty() {
                    state.faults += 1;
                }
                state.operators_started += 1;
                state.operators.push((state.operators_started, Operator::new(step)));
            }
            Action::Observe { operator } => {
                if let Some(input) = observe(state, operator) {
                    decide_operator(state, operator, &input);
                }
            }
            Action::Repeat { operator } => {
                if let Some(it) = state.operator(operator) {
                    send_effect(state, operator, &it.effect());
                }
            }
            Action::Deliver(message) => {
                state.remove(&message);
                self.deliver(state, message);
            }
            Action::Watch(side) => state.database_mut(side).seen = state.revision(),
            Action::Follow(side) => {
                let fence = self.follow(state, side);
                state.database_mut(side).set_fence(fence);
            }
            Action::Publish { from, position } => state.send(Message::Change { from, position }),
            Action::Commit(side, writer) => commit(state, side, writer),
            Action::Retry(side, writer) => {
                state.database_mut(side).remove_writer(&writer);
                self.decide_request(state, side, writer.key, writer.epoch);
            }
            Action::Send(side) => send_request(state, side),
            Action::Lock(side) => {
                if let Some((operator, epoch, marker)) = state.database_mut(side).taken.take() {
                    self.close(state, operator, side, epoch, Some(marker));
                }
            }
            fault => {
                state.faults += 1;
                self.execute_fault(state, fault);
            }
        }
    }

    fn execute_fault(&self, state: &mut State, fault: Action) {
        match fault {
            Action::DeliverTwice(message) => self.deliver(state, message),
            Action::Lose(message) => state.remove(&message),
            Action::SendAgain(side) => send_request(state, side),
            Action::OperatorDies { operator } => {
                state.operators.retain(|(number, _)| *number != operator);
                // Its commands may still arrive.
                state.network.retain(|message| !is_answer_to(message, operator));
            }
            Action::TimeOut { operator } => decide_operator(state, operator, &Input::TimedOut),
            Action::Interrupt { operator } => decide_operator(state, operator, &Input::AbortRequested),
            Action::LockTimeout(message) => {
                state.remove(&message);
                if let Message::Close { operator, .. } = message {
                    answer(state, operator, Message::CloseRefused { operator, refusal: Refusal::LockTimeout });
                }
            }
            Action::Crash(side) => state.database_mut(side).writers.clear(),
            Action::RestartWithOldRecord { side, revision } => {
                let database = state.database_mut(side);
                database.writers.clear();
                database.seen = revision;
            }
            Action::LoseAppliedChanges(side) => {
                let durable = state.database(side).durable;
                for position in durable.applied + 1..=state.database(side).replica.applied {
                    if let Some(JournalRow::Write(_)) = state.database(side.other()).row(position) {
                        state.database_mut(side).table.pop();
                    }
                }
                state.database_mut(side).replica = durable;
            }
            Action::GiveUp(side, writer) => {
                state.database_mut(side).remove_writer(&writer);
                state.send(Message::Answer { key: writer.key, is_acknowledged: false });
            }
            _ => {}
        }
    }

    fn deliver(&self, state: &mut State, message: Message) {
        match message {
            Message::Put { operator, if_revision, record } => {
                let is_current = if_revision == state.revision() || self.lacks(Mutant::NoRevisionCheck);
                if is_current {
                    state.records.push(record);
                }
                let revision = is_current.then(|| state.revision());
                answer(state, operator, Message::PutAnswer { operator, record, revision });
            }
            Message::PutAnswer { operator, record, revision } => {
                let input = revision.map_or(Input::Conflict { record }, |revision| Input::Written { revision, record });
                decide_operator(state, operator, &input);
            }
            Message::Close { operator, side, epoch } => {
                if self.lacks(Mutant::PositionBeforeLock) {
                    let position = state.database(side).journal_end();
                    state.database_mut(side).taken = Some((operator, epoch, position));
                } else {
                    self.close(state, operator, side, epoch, None);
                }
            }
            Message::Closed { operator, epoch, marker } => {
                decide_operator(state, operator, &Input::Closed { epoch, marker });
            }
            Message::CloseRefused { operator, refusal } => {
                decide_operator(state, operator, &Input::CloseRefused(refusal));
            }
            Message::Request { side, key, epoch } => self.decide_request(state, side, key, epoch),
            Message::Answer { key, is_acknowledged } => {
                if is_acknowledged && key == state.acknowledged + 1 {
                    state.acknowledged = key;
                }
            }
            Message::Change { from, position } => apply(state, from, position),
        }
    }

    /// Closes the fence of a side, with the lock. `taken` is the position in the mutant that has taken it before.
    fn close(&self, state: &mut State, operator: u8, side: Side, epoch: i64, taken: Option<i64>) {
        let database = state.database_mut(side);
        let (fence, effects) = fence::decide(&self.asked(database.fence), fence::Input::Close { epoch });
        for effect in effects {
            match effect {
                fence::Effect::WriteMarker { epoch } => {
                    database.journal.push(JournalRow::Marker { epoch });
                    database.set_fence(fence);
                }
                fence::Effect::AnswerClosed { epoch } => {
                    let is_marker = |row: &JournalRow| *row == JournalRow::Marker { epoch };
                    let index = database.journal.iter().rposition(is_marker).expect("a closed fence has a marker");
                    let marker = taken.unwrap_or(index as i64 + 1);
                    return answer(state, operator, Message::Closed { operator, epoch, marker });
                }
                fence::Effect::AnswerRefused(refusal) => {
                    return answer(state, operator, Message::CloseRefused { operator, refusal });
                }
            }
        }
    }

    fn decide_request(&self, state: &mut State, side: Side, key: Key, epoch: i64) {
        let (request, effect) = self.request(state, side, epoch);
        match effect {
            request::Effect::Forward => {
                state.has_forwarded = true;
                state.send(Message::Request { side: request.side, key, epoch: request.epoch });
            }
            request::Effect::Write | request::Effect::Wait => {
                let is_writing = effect == request::Effect::Write;
                state.database_mut(side).add_writer(Writer { key, epoch, is_writing });
            }
            request::Effect::Acknowledge | request::Effect::AnswerUnavailable => {}
        }
    }

    /// Decides a request that is ready. Its transaction begins only where writes are accepted.
    fn request(&self, state: &State, side: Side, epoch: i64) -> (Request, request::Effect) {
        let ready = request::decide(&Request { side, epoch }, request::Input::Ready);
        if ready.1 == request::Effect::Write && !self.accepts(state, side) {
            return request::decide(&ready.0, request::Input::Fenced(state.seen(side)));
        }
        ready
    }

    /// Whether a kept request would not be kept again.
    pub(crate) fn is_decidable(&self, state: &State, side: Side, writer: Writer) -> bool {
        self.request(state, side, writer.epoch).1 != request::Effect::Wait
    }
}

fn send_request(state: &mut State, side: Side) {
    state.send(Message::Request { side, key: state.acknowledged + 1, epoch: 0 });
}

fn commit(state: &mut State, side: Side, writer: Writer) {
    let database = state.database_mut(side);
    database.remove_writer(&writer);
    // The idempotency key is unique: a repeated request finds the row.
    if !database.table.contains(&writer.key) {
        database.table.push(writer.key);
        database.journal.push(JournalRow::Write(writer.key));
    }
    if writer.key > state.acknowledged {
        state.send(Message::Answer { key: writer.key, is_acknowledged: true });
    }
}

fn apply(state: &mut State, from: Side, position: i64) {
    let Some(row) = state.database(from).row(position) else { return };
    let database = state.database_mut(from.other());
    let change = replica::Change { position, previous: position - 1 };
    let (replica, effect) = replica::decide(&database.replica, database.fence, change);
    database.replica = replica;
    if let (replica::Effect::Apply, JournalRow::Write(key)) = (effect, row) {
        database.table.push(key);
    }
}

fn decide_operator(state: &mut State, number: u8, input: &Input) {
    let Some(index) = state.operators.iter().position(|(it, _)| *it == number) else { return };
    let (operator, effects) = operator::decide(&state.operators[index].1, input);
    state.operators[index].1 = operator;
    for effect in effects {
        send_effect(state, number, &effect);
    }
}

fn send_effect(state: &mut State, operator: u8, effect: &Effect) {
    match *effect {
        Effect::Put { if_revision, record } => state.send(Message::Put { operator, if_revision, record }),
        Effect::Close { side, epoch } => state.send(Message::Close { operator, side, epoch }),
        Effect::Finish(_) => state.operators.retain(|(number, _)| *number != operator),
        // The results of the others are observed.
        _ => {}
    }
}

/// Sends an answer, if its operator still runs.
fn answer(state: &mut State, operator: u8, message: Message) {
    if state.operator(operator).is_some() {
        state.send(message);
    }
}

fn is_answer_to(message: &Message, number: u8) -> bool {
    match message {
        Message::PutAnswer { operator, .. }
        | Message::Closed { operator, .. }
        | Message::CloseRefused { operator, .. } => *operator == number,
        _ => false,
    }
}
