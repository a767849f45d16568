//! The operator: executes one step of a part's hand-over.
//!
//! It keeps nothing: all it needs to know is in the record. When it is killed, the next operator resumes the attempt or
//! undoes it. Two operators at once do no harm: each change of the record compares its revision, and the change of the
//! owner is one write.

use serde::{Deserialize, Serialize};

use crate::{
    fence::Refusal,
    guards::{Guard, Measurements, unmet},
    record::{Record, Side, Stage},
};

/// How often the operator asks the owner to close its fence, before it undoes the attempt.
pub const CLOSE_ATTEMPTS_MAX: u8 = 3;

/// What the operator was started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Follow,
    Verify,
    /// Percent of the reads.
    Shadow(u8),
    /// Percent of the users.
    Shift(u8),
    CutOver,
    RollBack,
    Retire,
    /// Complete the attempt that another operator has begun.
    Resume,
    /// Undo the attempt that another operator has begun.
    Abort,
}

/// What the operator waits for. Each phase has one effect, which may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    Reading,
    Measuring {
        revision: i64,
        record: Record,
    },
    /// A changed record is being written, if the registry still has the revision.
    Putting {
        revision: i64,
        record: Record,
    },
    Closing {
        revision: i64,
        record: Record,
        attempts: u8,
    },
    CatchingUp {
        revision: i64,
        record: Record,
        marker: i64,
    },
    Comparing {
        revision: i64,
        record: Record,
        marker: i64,
    },
    MovingSequences {
        revision: i64,
        record: Record,
        marker: i64,
    },
    /// The owner has changed, and opens its fence by itself.
    Opening {
        record: Record,
    },
    Finished(Outcome),
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    /// The owner is the same as before.
    Undone(UndoReason),
    /// Nothing has changed. `unmet` of the guards says which ones.
    GuardsUnmet,
    Refused(StepRefusal),
    /// Another operator has changed the record.
    Superseded,
    /// The owner has changed, but has not opened its fence in time. It will when it has applied the marker.
    NotOpenYet,
}

/// Why an attempt was undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum UndoReason {
    #[error("transactions of the owner were open for longer than the lock timeout, {CLOSE_ATTEMPTS_MAX} times")]
    LockTimeout,
    #[error("the replica has not applied the owner's last changes in time")]
    ReplicaIsBehind,
    #[error("the rows that changed last differ between the sides")]
    RowsDiffer,
    #[error("a step of the attempt took too long")]
    TooSlow,
    #[error("an operator has aborted the attempt")]
    Aborted,
}

/// Why a step was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum StepRefusal {
    #[error("another attempt to change the owner is in progress; resume or abort it")]
    AttemptInProgress,
    #[error("no attempt to change the owner is in progress")]
    NoAttempt,
    #[error("the part is at another stage")]
    WrongStage,
    #[error("the owner's database refused to close its fence: {0}")]
    Fence(Refusal),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    Read {
        revision: i64,
        record: Record,
    },
    Measured(Measurements),
    /// This record was written, and the registry has this revision now.
    Written {
        revision: i64,
        record: Record,
    },
    /// This record was not written: the registry has another revision.
    Conflict {
        record: Record,
    },
    Closed {
        epoch: i64,
        marker: i64,
    },
    CloseRefused(Refusal),
    MarkerApplied,
    Compared {
        rows_different: u64,
    },
    SequencesMoved,
    Opened,
    /// The result of the present effect has not arrived in time.
    TimedOut,
    /// The operator's terminal was interrupted.
    AbortRequested,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    Read,
    Measure,
    Put {
        if_revision: i64,
        record: Record,
    },
    Close {
        side: Side,
        epoch: i64,
    },
    AwaitMarker {
        side: Side,
        marker: i64,
    },
    /// Compare the ranges that changed since the last comparison.
    CompareTouched,
    /// Move the identity sequences of the new owner beyond the ids of the old one.
    MoveSequences {
        side: Side,
    },
    AwaitOpen {
        side: Side,
        epoch: i64,
    },
    Finish(Outcome),
}

/// An operator that executes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operator {
    pub step: Step,
    pub phase: Phase,
    /// The epoch of the attempt that this operator drives.
    pub attempt: Option<i64>,
    pub undo: Option<UndoReason>,
}

impl Operator {
    pub const fn new(step: Step) -> Self {
        Self { step, phase: Phase::Reading, attempt: None, undo: None }
    }

    /// Returns the effect of the present phase. It may be repeated: after a lost answer, say.
    pub fn effect(&self) -> Effect {
        match self.phase {
            Phase::Reading => Effect::Read,
            Phase::Measuring { .. } => Effect::Measure,
            Phase::Putting { revision, record } => Effect::Put { if_revision: revision, record },
            Phase::Closing { record, .. } => Effect::Close { side: record.owner, epoch: record.epoch },
            Phase::CatchingUp { record, marker, .. } => Effect::AwaitMarker { side: record.owner.other(), marker },
            Phase::Comparing { .. } => Effect::CompareTouched,
            Phase::MovingSequences { record, .. } => Effect::MoveSequences { side: record.owner.other() },
            Phase::Opening { record } => Effect::AwaitOpen { side: record.owner, epoch: record.epoch },
            Phase::Finished(outcome) => Effect::Finish(outcome),
        }
    }

    const fn at(self, phase: Phase) -> Self {
        Self { phase, ..self }
    }

    const fn finished(self, outcome: Outcome) -> Self {
        self.at(Phase::Finished(outcome))
    }

    const fn refused(self, refusal: StepRefusal) -> Self {
        self.finished(Outcome::Refused(refusal))
    }

    const fn putting(self, revision: i64, record: Record) -> Self {
        self.at(Phase::Putting { revision, record })
    }

    const fn closing(self, revision: i64, record: Record, attempts: u8) -> Self {
        Self { attempt: Some(record.epoch), ..self.at(Phase::Closing { revision, record, attempts }) }
    }

    const fn undoing(self, revision: i64, record: Record, reason: UndoReason) -> Self {
        Self { attempt: Some(record.epoch), undo: Some(reason), ..self.putting(revision, record.undone()) }
    }
}

/// Returns the state after an input, with the effect to execute. An input that the phase does not expect, such as a
/// delayed answer, changes nothing.
pub fn decide(operator: &Operator, input: &Input) -> (Operator, Vec<Effect>) {
    let next = next(*operator, input);
    if next == *operator { (next, vec![]) } else { (next, vec![next.effect()]) }
}

fn next(operator: Operator, input: &Input) -> Operator {
    match (operator.phase, input) {
        (Phase::Reading, Input::Read { revision, record }) => operator.read(*revision, *record),
        (Phase::Measuring { revision, record }, Input::Measured(measured)) => {
            operator.measured(revision, record, measured)
        }
        (Phase::Putting { record, .. }, Input::Written { revision, record: it }) if *it == record => {
            operator.written(*revision, record)
        }
        (Phase::Putting { record, .. }, Input::Conflict { record: it }) if *it == record => operator.at(Phase::Reading),
        (Phase::Closing { .. }, Input::CloseRefused(Refusal::OldEpoch { .. })) => operator.at(Phase::Reading),
        (Phase::Closing { revision, record, .. }, Input::Closed { epoch, marker }) if *epoch == record.epoch => {
            operator.at(Phase::CatchingUp { revision, record, marker: *marker })
        }
        (Phase::Closing { revision, record, attempts }, Input::CloseRefused(Refusal::LockTimeout)) => {
            if attempts < CLOSE_ATTEMPTS_MAX {
                operator.closing(revision, record, attempts + 1)
            } else {
                operator.undoing(revision, record, UndoReason::LockTimeout)
            }
        }
        (Phase::Closing { .. }, Input::CloseRefused(refusal)) => operator.refused(StepRefusal::Fence(*refusal)),
        (Phase::CatchingUp { revision, record, marker }, Input::MarkerApplied) => {
            operator.at(Phase::Comparing { revision, record, marker })
        }
        (Phase::Comparing { revision, record, marker }, Input::Compared { rows_different: 0 }) => {
            operator.at(Phase::MovingSequences { revision, record, marker })
        }
        (Phase::Comparing { revision, record, .. }, Input::Compared { .. }) => {
            operator.undoing(revision, record, UndoReason::RowsDiffer)
        }
        (Phase::MovingSequences { revision, record, marker }, Input::SequencesMoved) => {
            operator.putting(revision, record.switched(marker))
        }
        (Phase::Opening { .. }, Input::Opened) => operator.finished(Outcome::Done),
        (_, Input::TimedOut) => operator.timed_out(),
        (_, Input::AbortRequested) => operator.abort_requested(),
        _ => operator,
    }
}

impl Operator {
    fn read(self, revision: i64, record: Record) -> Self {
        let is_mine = self.attempt == Some(record.epoch);
        if self.attempt.is_some() && !is_mine {
            return self.finished(self.undo.map_or(Outcome::Superseded, Outcome::Undone));
        }
        if record.stage.is_switching() {
            return match self.step {
                Step::Abort => self.undoing(revision, record, UndoReason::Aborted),
                _ if is_mine && self.undo.is_some() => self.putting(revision, record.undone()),
                Step::Resume => self.closing(revision, record, 1),
                _ if is_mine => self.closing(revision, record, 1),
                _ => self.refused(StepRefusal::AttemptInProgress),
            };
        }
        if is_mine {
            // The change of the owner was written, by this operator before its answer was lost, or by another one.
            return self.at(Phase::Opening { record });
        }
        match self.step {
            Step::Resume if record.marker.is_some() => self.at(Phase::Opening { record }),
            Step::Resume | Step::Abort => self.refused(StepRefusal::NoAttempt),
            Step::Verify | Step::CutOver | Step::RollBack => {
                let side = if self.step == Step::RollBack { Side::Service } else { Side::Monolith };
                if record.stage.is_followed() && (self.step == Step::Verify || record.owner == side) {
                    self.at(Phase::Measuring { revision, record })
                } else {
                    self.refused(StepRefusal::WrongStage)
                }
            }
            Step::Follow | Step::Shadow(_) | Step::Shift(_) | Step::Retire => match changed(self.step, record) {
                Some(changed) => self.putting(revision, changed),
                None => self.refused(StepRefusal::WrongStage),
            },
        }
    }

    fn measured(self, revision: i64, record: Record, measured: &Measurements) -> Self {
        if self.step == Step::Verify {
            return match changed(Step::Verify, record) {
                Some(changed) if Guard::SidesAreEqual.is_met(&record, measured) => self.putting(revision, changed),
                _ => self.finished(Outcome::GuardsUnmet),
            };
        }
        if !unmet(&record, measured).is_empty() {
            return self.finished(Outcome::GuardsUnmet);
        }
        let intent = record.intent();
        Self { attempt: Some(intent.epoch), ..self.putting(revision, intent) }
    }

    fn written(self, revision: i64, record: Record) -> Self {
        match self.undo {
            Some(reason) => self.finished(Outcome::Undone(reason)),
            None if record.stage.is_switching() => self.closing(revision, record, 1),
            None if self.attempt.is_some() => self.at(Phase::Opening { record }),
            None => self.finished(Outcome::Done),
        }
    }

    fn timed_out(self) -> Self {
        match self.phase {
            Phase::Closing { revision, record, .. }
            | Phase::Comparing { revision, record, .. }
            | Phase::MovingSequences { revision, record, .. } => self.undoing(revision, record, UndoReason::TooSlow),
            Phase::CatchingUp { revision, record, .. } => self.undoing(revision, record, UndoReason::ReplicaIsBehind),
            Phase::Opening { .. } => self.finished(Outcome::NotOpenYet),
            // Nothing depends on them: the caller repeats the effect.
            Phase::Reading | Phase::Measuring { .. } | Phase::Putting { .. } | Phase::Finished(_) => self,
        }
    }

    fn abort_requested(self) -> Self {
        match self.phase {
            Phase::Closing { revision, record, .. }
            | Phase::CatchingUp { revision, record, .. }
            | Phase::Comparing { revision, record, .. }
            | Phase::MovingSequences { revision, record, .. } => self.undoing(revision, record, UndoReason::Aborted),
            // The intent may be written or not: the record says.
            Phase::Putting { record, .. } if record.stage.is_switching() => {
                Self { undo: Some(UndoReason::Aborted), ..self.at(Phase::Reading) }
            }
            Phase::Reading | Phase::Measuring { .. } if self.attempt.is_none() => {
                self.finished(Outcome::Undone(UndoReason::Aborted))
            }
            // The change of the owner, or the undoing, is on its way.
            _ => self,
        }
    }
}

/// Returns the record after a step that does not change the owner; `None` at a stage at which the step is not possible.
fn changed(step: Step, record: Record) -> Option<Record> {
    let is_service = record.owner == Side::Service;
    match (step, record.stage) {
        // A new epoch: the owner records changes since then, and a replica of an earlier following has to copy again.
        (Step::Follow, Stage::Monolith) => Some(Record { epoch: record.epoch + 1, ..record.at(Stage::Following) }),
        (Step::Follow, Stage::Retired) => Some(Record { epoch: record.epoch + 1, ..record.at(Stage::CutOver) }),
        // A new epoch here, too: a process with the record before cannot make the owner record changes again.
        (Step::Retire, Stage::CutOver) => Some(Record {
            epoch: record.epoch + 1,
            marker: None,
            read_percent: 0,
            shadow_percent: 0,
            ..record.at(Stage::Retired)
        }),
        // On the way back the stage is `cut_over` until the owner changes.
        (Step::Verify | Step::Shadow(_) | Step::Shift(_), stage) if !stage.is_followed() => None,
        (Step::Shadow(_) | Step::Shift(_), Stage::Following) => None,
        (Step::Verify, Stage::Following) => Some(record.at(Stage::Verified)),
        (Step::Verify, _) => Some(record),
        (Step::Shadow(percent), stage) => {
            let stage = if is_service || stage == Stage::Shifting { stage } else { Stage::Shadowing };
            (percent <= 100).then_some(Record { shadow_percent: percent, ..record.at(stage) })
        }
        (Step::Shift(percent), stage) => {
            let stage = if is_service { stage } else { Stage::Shifting };
            (percent <= 100).then_some(Record { read_percent: percent, ..record.at(stage) })
        }
        _ => None,
    }
}
