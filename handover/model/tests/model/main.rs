//! The model check: what must always hold does, in every order of events, and every protection is needed.

use std::{fmt::Write as _, fs, time::Instant};

use flack_handover_model::{Action, Bounds, Handover, Mutant, State};
use stateright::{Checker as _, Expectation, HasDiscoveries, Model as _};

/// There and back and there again, without faults.
const THERE_AND_BACK: Bounds = Bounds { writes: 2, steps: 6, faults: 0 };
/// One change of the owner, with any fault at any moment, and the operator that completes or undoes it.
const ONE_FAULT: Bounds = Bounds { writes: 2, steps: 2, faults: 1 };
/// Two faults, which may meet: an operator is taken for dead, and a command of it arrives after the next one's. With
/// two steps there are 5.6 million states.
const TWO_FAULTS: Bounds = Bounds { writes: 1, steps: 1, faults: 2 };

const STATES_MIN: usize = 1_000_000;

/// Checks all states within the bounds. Returns their number, and the properties for which an example was found.
fn check(bounds: Bounds) -> (usize, Vec<&'static str>) {
    let started = Instant::now();
    let checker = Handover { bounds, mutant: None }.checker().threads(2).spawn_bfs().join();
    let discoveries = checker.discoveries();
    for property in checker.model().properties() {
        if let (Expectation::Always, Some(path)) = (property.expectation, discoveries.get(property.name)) {
            panic!("not always: {}\n{}", property.name, text(&path.clone().into_actions()));
        }
    }
    let states = checker.unique_state_count();
    println!("{bounds:?}: {states} states, depth {}, {:.1} s", checker.max_depth(), started.elapsed().as_secs_f32());
    (states, discoveries.into_keys().collect())
}

#[test]
fn no_order_of_events_breaks_a_hand_over() {
    let (mut states, mut examples) = (0, vec![]);
    for bounds in [THERE_AND_BACK, ONE_FAULT, TWO_FAULTS] {
        let (visited, found) = check(bounds);
        states += visited;
        examples.extend(found);
    }
    assert!(states > STATES_MIN, "only {states} states: the bounds are too narrow");
    let model = Handover { bounds: ONE_FAULT, mutant: None };
    for property in model.properties() {
        let is_example = property.expectation == Expectation::Sometimes;
        assert!(!is_example || examples.contains(&property.name), "never: {}", property.name);
    }
}

/// Returns the model without a protection, within bounds in which that fails.
fn without(mutant: Mutant) -> Handover {
    // Without a fence no fault is needed.
    let faults = u8::from(mutant != Mutant::NoFence);
    Handover { bounds: Bounds { writes: 1, steps: 2, faults }, mutant: Some(mutant) }
}

#[test]
fn the_checker_finds_each_mutant_and_the_kept_trace_is_the_shortest() {
    for (mutant, trace) in traces() {
        let model = without(mutant);
        // One thread: breadth first finds a shortest trace.
        let checker = model.checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let failed: Vec<_> = checker
            .discoveries()
            .into_iter()
            .filter(|(name, _)| checker.model().property(name).expectation == Expectation::Always)
            .collect();
        let (name, path) = failed.into_iter().next().unwrap_or_else(|| panic!("{mutant:?} was not found"));
        let found = text(&path.into_actions());
        assert_eq!(
            found.lines().count(),
            trace.lines().count(),
            "{mutant:?}: the shortest trace to {name:?} is another one now; write it to {}:\n{found}",
            file_of(mutant)
        );
    }
}

#[test]
fn each_kept_trace_breaks_its_mutant_and_not_the_complete_machine() {
    for (mutant, trace) in traces() {
        let model = without(mutant);
        let state = replay(&model, &trace).unwrap_or_else(|line| panic!("{mutant:?}: {line} is not possible"));
        assert!(!holds(&model, &state), "{mutant:?}: nothing is wrong after the trace");
        let complete = Handover { mutant: None, ..model };
        // The complete machine refuses a step of the trace, or nothing is wrong after it.
        assert!(replay(&complete, &trace).map_or(true, |state| holds(&complete, &state)), "{mutant:?}");
    }
}

fn file_of(mutant: Mutant) -> String {
    format!("{}/tests/traces/{mutant:?}.txt", env!("CARGO_MANIFEST_DIR"))
}

/// Returns the kept trace of each mutant: an action a line.
fn traces() -> Vec<(Mutant, String)> {
    let read = |mutant| (mutant, fs::read_to_string(file_of(mutant)).unwrap_or_default());
    Mutant::ALL.into_iter().map(read).collect()
}

fn text(actions: &[Action]) -> String {
    let mut text = String::new();
    for action in actions {
        writeln!(text, "{action:?}").expect("a String takes everything");
    }
    text
}

/// Executes a trace. Returns the line that is not possible when its turn comes.
fn replay(model: &Handover, trace: &str) -> Result<State, String> {
    let mut state = State::initial();
    for line in trace.lines() {
        let mut actions = vec![];
        model.actions(&state, &mut actions);
        let action = actions.into_iter().find(|action| format!("{action:?}") == line).ok_or(line)?;
        state = model.next_state(&state, action).ok_or(line)?;
    }
    Ok(state)
}

fn holds(model: &Handover, state: &State) -> bool {
    let always = model.properties().into_iter().filter(|property| property.expectation == Expectation::Always);
    always.into_iter().all(|property| (property.condition)(model, state))
}
