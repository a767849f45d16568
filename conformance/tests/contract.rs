//! Version 1 of the contract, asked of both shapes.

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
            // Two of each that hold something in memory: what one instance learns, the other must know.
            ("services", || Stack::start(Stage::Services, "users=2,tokens=2,messages=2,websocket=2")),
        ],
        cases::all,
    )
}
