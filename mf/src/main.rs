//! `mf`: the operator's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    mf::run(std::env::args_os())
}
