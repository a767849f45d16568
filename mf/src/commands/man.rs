//! `mf man`: the manual pages of all commands.

use std::fs;
use std::path::PathBuf;

use clap_mangen::generate_to;
use nix::sys::stat::{Mode, umask};

use crate::cli;
use crate::failure::{Failure, Result};
use crate::help::examples;

/// Write the manual pages of all commands into a folder: mf-up.1, and mfup.1 for its short name
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "mf man ~/.local/share/man/man1 && man mfup",
]))]
pub struct Args {
    /// The folder; it is created if it does not exist
    folder: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    let folder = &args.folder;
    // Manual pages are for every user of the machine.
    umask(Mode::from_bits_truncate(0o022));
    fs::create_dir_all(folder).map_err(Failure::cannot_write(folder))?;
    for command in cli::all_names() {
        generate_to(command, folder).map_err(Failure::cannot_write(folder))?;
    }
    let pages = fs::read_dir(folder).map_err(Failure::cannot_write(folder))?.count();
    print_line!("{pages} pages in {}; read one with: man -l {}/mfup.1", folder.display(), folder.display());
    Ok(())
}
