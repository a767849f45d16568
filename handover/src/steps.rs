//! The recorded inputs and effects of operators, and the check that they are a path of the machine.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::operator::{Effect, Input, Operator, Step, decide};

/// A line of the log of a part. A run begins with a line without an input. It ends anywhere when its operator is
/// killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub at: DateTime<Utc>,
    /// Distinguishes the runs of two operators at the same time.
    pub run: u32,
    pub step: Step,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    /// The effect that the operator executes after the input.
    pub effect: Effect,
}

/// Why recorded lines are no path of the machine. Lines count from 1.
#[derive(Debug, thiserror::Error)]
pub enum StepsError {
    #[error("line {line}: {source}")]
    Json { line: usize, source: serde_json::Error },
    #[error("line {line}: run {run} has not begun")]
    NotBegun { line: usize, run: u32 },
    #[error("line {line}: the machine decides {decided:?}, but the operator has executed {executed:?}")]
    Differs { line: usize, decided: Box<Effect>, executed: Box<Effect> },
}

/// Passes the inputs of each run to the machine again. Returns how many runs have finished.
pub fn check(log: &str) -> Result<usize, StepsError> {
    let mut operators: Vec<(u32, Operator)> = Vec::new();
    let mut finished = 0;
    for (line, text) in (1..).zip(log.lines()) {
        let Line { run, step, input, effect, .. } =
            serde_json::from_str(text).map_err(|source| StepsError::Json { line, source })?;
        let before = operators.iter().position(|(other, _)| *other == run).map(|index| operators.swap_remove(index).1);
        let operator = match (input, before) {
            (None, _) => Operator::new(step),
            (Some(input), Some(before)) => decide(&before, &input).0,
            (Some(_), None) => return Err(StepsError::NotBegun { line, run }),
        };
        if operator.effect() != effect {
            let (decided, executed) = (Box::new(operator.effect()), Box::new(effect));
            return Err(StepsError::Differs { line, decided, executed });
        }
        if matches!(effect, Effect::Finish(_)) {
            finished += 1;
        } else {
            operators.push((run, operator));
        }
    }
    Ok(finished)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        operator::Outcome,
        record::{Record, Side, Stage},
    };

    fn line(run: u32, input: Option<Input>, effect: Effect) -> String {
        let line = Line { at: DateTime::UNIX_EPOCH, run, step: Step::Follow, input, effect };
        serde_json::to_string(&line).expect("a line is JSON")
    }

    #[test]
    fn lines_of_a_run_are_a_path_and_a_changed_effect_is_none() {
        let record = Record::initial(Side::Monolith);
        let following = Record { epoch: 2, ..record.at(Stage::Following) };
        let put = Effect::Put { if_revision: 7, record: following };
        let lines = [
            line(1, None, Effect::Read),
            // The operator of run 2 was killed.
            line(2, None, Effect::Read),
            line(1, Some(Input::Read { revision: 7, record }), put.clone()),
            line(1, Some(Input::Written { revision: 8, record: following }), Effect::Finish(Outcome::Done)),
        ];
        assert_eq!(check(&lines.join("\n")).expect("it is a path"), 1);
        let wrong =
            [line(1, None, Effect::Read), line(1, Some(Input::Measured(crate::guards::Measurements::met())), put)];
        check(&wrong.join("\n")).expect_err("nothing was read");
    }
}
