//! `mf completions`: completions of the command line for a shell.

use clap_complete::{Shell, generate};

use crate::cli;
use crate::help::examples;

/// Print completions for a shell: of mf, and of all short names such as mfup
#[derive(Debug, clap::Args)]
#[command(after_help = examples(&[
    "source <(mf completions bash)                                   # in ~/.bashrc",
    "source <(mf completions zsh)                                    # in ~/.zshrc, after compinit",
    "mf completions fish > ~/.config/fish/conf.d/mf.fish",
]))]
pub struct Args {
    /// The shell
    shell: Shell,
}

pub fn run(args: &Args) {
    let mut scripts = Vec::new();
    for mut command in cli::all_names() {
        let name = command.get_name().to_owned();
        generate(args.shell, &mut command, name, &mut scripts);
    }
    print_line!("{}", String::from_utf8_lossy(&scripts).trim_end());
}
