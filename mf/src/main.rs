//! `mf`: the operator's command line. What it does is in the library, so that tests reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    mf::run(std::env::args_os())
}
