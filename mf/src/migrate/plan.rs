//! The effects of a step in words, before it is executed. They are those of the machine, whose inputs here are those of
//! a run without problems.

use flack_handover::guards::Measurements;
use flack_handover::operator::{Effect, Input, Operator, Outcome, Step, decide};
use flack_handover::{Part, Record};

/// A change that a step makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub effect: Effect,
    /// Who does it.
    pub actor: String,
    pub action: String,
}

/// Returns the changes of a step from this record, and how it ends.
pub fn plan(part: Part, step: Step, record: Record) -> (Vec<Line>, Outcome) {
    let (mut operator, mut present, mut revision) = (Operator::new(step), record, 0);
    let mut lines = Vec::new();
    loop {
        let effect = operator.effect();
        lines.extend(line(part, present, &effect));
        let input = match effect {
            Effect::Read => Input::Read { revision, record: present },
            Effect::Measure => Input::Measured(Measurements::met()),
            Effect::Put { record, .. } => {
                (present, revision) = (record, revision + 1);
                Input::Written { revision, record }
            }
            Effect::Close { epoch, .. } => Input::Closed { epoch, marker: 0 },
            Effect::AwaitMarker { .. } => Input::MarkerApplied,
            Effect::CompareTouched => Input::Compared { rows_different: 0 },
            Effect::MoveSequences { .. } => Input::SequencesMoved,
            Effect::AwaitOpen { .. } => Input::Opened,
            Effect::Finish(outcome) => return (lines, outcome),
        };
        operator = decide(&operator, &input).0;
    }
}

/// Returns whether an effect is the line with this number in the plan of a change of owner, counted from 1.
pub fn is_line(effect: &Effect, number: usize) -> bool {
    number
        == match effect {
            Effect::Put { record, .. } if record.stage.is_switching() => 1,
            Effect::Close { .. } => 2,
            Effect::AwaitMarker { .. } => 3,
            Effect::CompareTouched => 4,
            Effect::MoveSequences { .. } => 5,
            Effect::Put { record, .. } if record.marker.is_some() => 6,
            Effect::AwaitOpen { .. } => 7,
            Effect::Put { .. } | Effect::Read | Effect::Measure | Effect::Finish(_) => return false,
        }
}

fn line(part: Part, before: Record, effect: &Effect) -> Option<Line> {
    let owner = before.owner.service_name(part);
    let (actor, action) = match effect {
        Effect::Put { record, .. } => ("registry", written(part, before, *record)),
        Effect::Close { side, epoch } => (
            side.service_name(part),
            format!("closes its fence for epoch {epoch}; waits at most 1 s for open transactions; writes the marker"),
        ),
        Effect::AwaitMarker { side, .. } => (
            side.service_name(part),
            format!("applies all changes up to the marker; {owner} publishes its last events"),
        ),
        Effect::CompareTouched => {
            (before.owner.other().service_name(part), "compares the rows that changed last".to_owned())
        }
        Effect::MoveSequences { side } => {
            (side.service_name(part), format!("moves its identity sequences beyond those of {owner}"))
        }
        Effect::AwaitOpen { side, .. } => (side.service_name(part), "opens its fence (at most 5 s)".to_owned()),
        Effect::Read | Effect::Measure | Effect::Finish(_) => return None,
    };
    Some(Line { effect: effect.clone(), actor: actor.to_owned(), action })
}

/// Describes what is different in a record.
fn written(part: Part, before: Record, after: Record) -> String {
    let mut changes = Vec::new();
    if before.owner != after.owner {
        changes.push(format!("owner {}", after.owner.service_name(part)));
    }
    if before.stage != after.stage {
        let stage = serde_json::to_value(after.stage).expect("a stage is a word");
        changes.push(format!("stage {}", stage.as_str().unwrap_or_default()));
    }
    if before.epoch != after.epoch {
        changes.push(format!("epoch {}", after.epoch));
    }
    for (name, before, after) in [
        ("shadow_percent", before.shadow_percent, after.shadow_percent),
        ("read_percent", before.read_percent, after.read_percent),
    ] {
        if before != after {
            changes.push(format!("{name} {after}"));
        }
    }
    if changes.is_empty() {
        changes.push("the same record".to_owned());
    }
    format!("{}, if nobody else has changed it", changes.join(", "))
}

#[cfg(test)]
mod tests {
    use flack_handover::{Side, Stage};

    use super::*;

    #[test]
    fn every_line_of_a_cut_over_has_a_number_and_the_owner_changes_in_the_sixth() {
        let record = Record { read_percent: 100, ..Record::initial(Side::Monolith).at(Stage::Shifting) };
        let (lines, outcome) = plan(Part::Users, Step::CutOver, record);
        assert_eq!(outcome, Outcome::Done);
        assert_eq!(lines.len(), 7);
        for (number, line) in (1..).zip(&lines) {
            assert!(is_line(&line.effect, number), "{number}: {line:?}");
        }
        assert_eq!(lines[5].action, "owner users, stage cut_over, read_percent 0, if nobody else has changed it");
    }

    #[test]
    fn a_step_at_a_wrong_stage_has_no_line() {
        let (lines, outcome) = plan(Part::Users, Step::CutOver, Record::initial(Side::Monolith));
        assert!(lines.is_empty() && outcome != Outcome::Done, "{lines:?}");
    }
}
