//! What comes next on the way of a part to a side: a step, or something to wait for.

use flack_handover::guards::{Guard, Measurements, Shadow, unmet};
use flack_handover::operator::Step;
use flack_handover::protocol::Verification;
use flack_handover::{Record, Side, Stage};

/// The shares of the users whose reads move to the replica, one after the other.
const SHIFT_STEPS: [u8; 3] = [10, 50, 100];
const SHADOW_PERCENT: u8 = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The part is there.
    Done,
    Run(Step),
    /// Compare all rows, which takes a time in the background.
    Compare,
    /// Compare the rows that were touched since the last comparison.
    CompareTouched,
    /// Another attempt is in progress.
    Unfinished,
    /// These conditions are met by themselves, or never: the texts have the measured values.
    Wait(Vec<String>),
    /// It would never end by itself.
    Refused(Vec<String>),
}

/// Returns what comes next for a part whose owner shall be `to`.
pub fn next(record: Record, to: Side, measured: &Measurements, verification: Option<&Verification>) -> Next {
    let describe = |guards: &[Guard]| guards.iter().map(|guard| guard.describe(&record, measured)).collect::<Vec<_>>();
    if record.stage.is_switching() {
        return Next::Unfinished;
    }
    if record.owner == to {
        return Next::Done;
    }
    if !record.stage.is_followed() {
        return Next::Run(Step::Follow);
    }
    if !Guard::CopyIsDone.is_met(&record, measured) {
        return Next::Wait(describe(&[Guard::CopyIsDone]));
    }
    if verification.is_some_and(|verification| verification.is_running) {
        let (done, total) = verification.map_or((0, 0), |it| (it.rows_compared, it.rows_total));
        return Next::Wait(vec![format!("rows compared: {done} of {total}")]);
    }
    match measured.verified {
        None => return Next::Compare,
        Some(verified) if verified.rows_different > 0 => return Next::Refused(describe(&[Guard::SidesAreEqual])),
        Some(_) if !Guard::SidesAreEqual.is_met(&record, measured) => return Next::CompareTouched,
        Some(_) => {}
    }
    if record.stage == Stage::Following {
        return Next::Run(Step::Verify);
    }
    if let Shadow::Compared { mismatches, .. } = measured.shadow {
        if mismatches > 0 {
            return Next::Refused(describe(&[Guard::ShadowAgrees]));
        }
        if record.shadow_percent == 0 {
            return Next::Run(Step::Shadow(SHADOW_PERCENT));
        }
    }
    // Each change of a stage is acknowledged before the next one.
    let before_reads = [Guard::ShadowAgrees, Guard::StageIsAcknowledged, Guard::NobodyElseWrote, Guard::NoErrors];
    let unmet_before: Vec<Guard> = before_reads.into_iter().filter(|guard| !guard.is_met(&record, measured)).collect();
    if !unmet_before.is_empty() {
        return Next::Wait(describe(&unmet_before));
    }
    if let Some(percent) = SHIFT_STEPS.into_iter().find(|percent| *percent > record.read_percent) {
        return Next::Run(Step::Shift(percent));
    }
    match unmet(&record, measured) {
        guards if guards.is_empty() => Next::Run(change(to)),
        guards => Next::Wait(describe(&guards)),
    }
}

/// Returns the step that makes a side the owner.
pub const fn change(to: Side) -> Step {
    match to {
        Side::Service => Step::CutOver,
        Side::Monolith => Step::RollBack,
    }
}

#[cfg(test)]
mod tests {
    use flack_handover::guards::Verified;
    use flack_handover::operator::{Effect, Outcome};

    use super::*;
    use crate::migrate::plan::plan;

    /// Follows the steps to a side with measurements that meet every guard.
    fn path(mut record: Record, to: Side, measured: &Measurements) -> (Record, Vec<Step>) {
        let mut steps = Vec::new();
        loop {
            match next(record, to, measured, None) {
                Next::Run(step) => {
                    let (lines, outcome) = plan(flack_handover::Part::Users, step, record);
                    assert_eq!(outcome, Outcome::Done, "{step:?} at {record:?}");
                    for line in lines {
                        if let Effect::Put { record: written, .. } = line.effect {
                            record = written;
                        }
                    }
                    steps.push(step);
                }
                Next::Done => return (record, steps),
                other => panic!("{other:?} at {record:?}"),
            }
        }
    }

    #[test]
    fn a_part_goes_through_every_stage_to_its_service_and_back() {
        let shadow = Shadow::Compared { reads: 1000, mismatches: 0 };
        let measured = Measurements { shadow, ..Measurements::met() };
        let (there, steps) = path(Record::initial(Side::Monolith), Side::Service, &measured);
        let shifts = [Step::Shift(10), Step::Shift(50), Step::Shift(100)];
        let all = [&[Step::Follow, Step::Verify, Step::Shadow(100)][..], &shifts, &[Step::CutOver]].concat();
        assert_eq!((steps, there.owner, there.stage), (all, Side::Service, Stage::CutOver));
        let (back, steps) = path(there, Side::Monolith, &measured);
        assert_eq!(steps, [&[Step::Shadow(100)][..], &shifts, &[Step::RollBack]].concat());
        assert_eq!((back.owner, back.stage), (Side::Monolith, Stage::Following));
        // Also after the monolith has dropped its data.
        let (_, steps) = path(Record::initial(Side::Service), Side::Monolith, &Measurements::met());
        assert_eq!(steps.first(), Some(&Step::Follow));
    }

    #[test]
    fn differences_are_refused_and_everything_else_is_waited_for_with_its_value() {
        let record = Record::initial(Side::Monolith).at(Stage::Following);
        let next = |measured: Measurements| next(record, Side::Service, &measured, None);
        let met = Measurements::met();
        let copying = next(Measurements { rows_to_copy: Some(7), ..met.clone() });
        assert_eq!(copying, Next::Wait(vec!["rows left to copy: 7; required: 0".to_owned()]));
        assert_eq!(next(Measurements { verified: None, ..met.clone() }), Next::Compare);
        let old = Verified { rows_different: 0, age_seconds: 61 };
        assert_eq!(next(Measurements { verified: Some(old), ..met.clone() }), Next::CompareTouched);
        let different = Verified { rows_different: 1, age_seconds: 0 };
        assert!(matches!(next(Measurements { verified: Some(different), ..met }), Next::Refused(_)));
    }
}
