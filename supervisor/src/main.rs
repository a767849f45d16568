//! The supervisor as a program: `flack-supervisor <folder>`. The folder must have subfolders `log` and `run`.

use std::path::Path;
use std::process::ExitCode;

use flack_supervisor::{Paths, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: flack-supervisor <folder>");
        return ExitCode::from(64);
    };
    match run(Paths::in_folder(Path::new(&folder))).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flack-supervisor: {error}");
            ExitCode::FAILURE
        }
    }
}
