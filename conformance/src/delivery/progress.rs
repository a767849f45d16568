//! What a run does at the moment, for those who wait for it, and their wish to end it.

use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    step: &'static str,
    done: usize,
    /// 0 if it is not known.
    expected: usize,
    notes: Vec<String>,
    is_ended: bool,
}

impl Progress {
    pub(super) fn begin(&self, step: &'static str, expected: usize) {
        let mut state = self.state();
        (state.step, state.done, state.expected) = (step, 0, expected);
    }

    pub(super) fn count(&self) {
        self.state().done += 1;
    }

    pub(super) fn set(&self, done: usize) {
        self.state().done = done;
    }

    /// Adds a line that is printed once, such as an injected fault.
    pub(super) fn note(&self, text: String) {
        self.state().notes.push(text);
    }

    /// Ends the posting of messages before its time. What was posted is verified.
    pub fn end(&self) {
        self.state().is_ended = true;
    }

    pub(super) fn is_ended(&self) -> bool {
        self.state().is_ended
    }

    /// Returns the present step, as `posting messages: 120 of 400`.
    pub fn line(&self) -> String {
        match &*self.state() {
            State { step, done, expected: 0, .. } => format!("{step}: {done}"),
            State { step, done, expected, .. } => format!("{step}: {done} of {expected}"),
        }
    }

    /// Returns the notes since the last call.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.state().notes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic under the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_the_present_step_and_a_note_is_returned_once() {
        let progress = Progress::default();
        progress.begin("registering users", 3);
        progress.count();
        progress.note("nats killed".to_owned());
        assert_eq!(progress.line(), "registering users: 1 of 3");
        assert_eq!((progress.take_notes().len(), progress.take_notes().len()), (1, 0));
        progress.begin("connecting sockets", 2);
        assert_eq!(progress.line(), "connecting sockets: 0 of 2");
    }
}
