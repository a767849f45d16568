//! All programs of Flack in one, for the container image: their common code is in the image once.
//!
//! It runs the program whose name it is started with: `flack-users` is a link to `flack`, as in `BusyBox`.

use std::{env, fs, future::Future, io, os::unix::fs::symlink, path::Path, pin::Pin, process::ExitCode};

use mimalloc::MiMalloc;

/// As in the programs of the monolith and of messages.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Process = fn() -> Pin<Box<dyn Future<Output = ExitCode>>>;

/// The operator's command line, which starts a runtime of its own.
const MF: &str = "mf";

/// The processes of a stack, by the names of their programs.
const PROCESSES: [(&str, Process); 10] = [
    ("flack-monolith", || Box::pin(flack_monolith::main())),
    ("flack-ui", || Box::pin(flack_ui::main())),
    ("flack-users", || Box::pin(flack_users::main())),
    ("flack-tokens", || Box::pin(flack_tokens::main())),
    ("flack-messages", || Box::pin(flack_messages::main())),
    ("flack-websocket", || Box::pin(flack_websocket::main())),
    ("flack-search", || Box::pin(flack_search::main())),
    ("flack-recommend", || Box::pin(flack_recommend::main())),
    ("flack-tag", || Box::pin(flack_tag::main())),
    ("flack-haproxy-agent", || Box::pin(flack_haproxy::main())),
];
const EXIT_CODE_USAGE: u8 = 64;
const EXIT_CODE_CANNOT_WRITE: u8 = 73;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().collect();
    let name = arguments.first().and_then(|path| Path::new(path).file_name()).unwrap_or_default();
    if name == MF {
        return mf::run(arguments);
    }
    if let Some((_, process)) = PROCESSES.iter().find(|(process, _)| name == *process) {
        return run(*process);
    }
    match arguments.get(1..) {
        Some([install, folder]) if install == "--install" => match add_links(Path::new(folder)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("flack: the links in {} cannot be made: {error}", folder.display());
                ExitCode::from(EXIT_CODE_CANNOT_WRITE)
            }
        },
        _ => {
            let names: Vec<_> = names().collect();
            eprintln!("flack: run it as one of {}, or make these links: flack --install <folder>", names.join(", "));
            ExitCode::from(EXIT_CODE_USAGE)
        }
    }
}

#[tokio::main]
async fn run(process: Process) -> ExitCode {
    process().await
}

fn names() -> impl Iterator<Item = &'static str> {
    PROCESSES.iter().map(|(name, _)| *name).chain([MF])
}

/// Makes a link to this program for each name. Existing files stay.
fn add_links(folder: &Path) -> io::Result<()> {
    let program = env::current_exe()?;
    for name in names() {
        let link = folder.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(&program, &link)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use flack_catalogue::SERVICES;

    use super::*;

    #[test]
    fn every_service_of_the_catalogue_is_included() {
        for service in &SERVICES {
            assert!(names().any(|name| name == service.program()), "{service} is missing");
        }
    }
}
