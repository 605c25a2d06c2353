//! `tripline completions` and `tripline man`: shell completions and manual pages, generated from the definition of the
//! command line.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::terminal::finish;
use crate::failure::{Exit, Failure};

pub(super) const EXAMPLES: &str = "\
Examples:
  tripline completions bash > ~/.local/share/bash-completion/completions/tripline
  tripline completions zsh > \"${fpath[1]}/_tripline\"
  tripline completions fish > ~/.config/fish/completions/tripline.fish";

pub(super) const MAN_EXAMPLES: &str = "\
Examples:
  tripline man /usr/local/share/man/man1
  man tripline-run";

/// Arguments of `tripline completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Arguments of `tripline man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder for the pages, which has to exist
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// Prints the script.
///
/// # Errors
/// The output cannot be written.
pub fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    // The script is generated in memory first, because the generator panics if a write fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tripline", &mut script);
    let mut out = io::stdout().lock();
    finish(out.write_all(&script).and_then(|()| out.flush()))
}

/// Writes `tripline.1` and a page for each command.
///
/// # Errors
/// The folder does not exist, or cannot be written.
pub fn man(args: &ManArgs) -> Result<(), Failure> {
    let written = clap_mangen::generate_to(Cli::command(), &args.folder);
    written.map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", args.folder.display())))
}
