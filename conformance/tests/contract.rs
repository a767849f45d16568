//! All versions of the API, and the websocket protocol, in both shapes.

use std::process::ExitCode;

use flack_conformance::{
    cases,
    stack::{Stack, Stage},
    suite,
};

fn main() -> ExitCode {
    suite::main(
        &[
            ("monolith", || Stack::start(Stage::Monolith, "")),
            // Two instances of each service with state in memory: a change at one must be visible at the other.
            ("services", || Stack::start(Stage::Services, "users=2,tokens=2,messages=2,websocket=2")),
        ],
        cases::all,
    )
}
