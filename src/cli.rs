//! The command line: its arguments and exit codes.
//!
//! - [`run`]: `tripline run`

pub mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  unexpected failure
  2  command line or configuration wrong (unknown key, bad SQL, missing table or column)
  3  a server could not be reached
  4  a server refused (password, rights)
  5  stopped to protect data";

const EXAMPLES: &str = "\
Example:
  tripline run --config tripline.toml";

const RUN_EXAMPLES: &str = "\
Examples:
  tripline run --config tripline.toml
  TRIPLINE__POSTGRES__URL=postgres://… tripline run --config tripline.toml
  tripline run --config tripline.toml --until-end

Any setting but the rules can be given as an environment variable TRIPLINE__SECTION__KEY, which wins over the
file. RUST_LOG sets what is logged; NO_COLOR turns colours off.";

/// Threshold and fraud alerts over a Debezium change stream, each one confirmed by Postgres before it is raised
#[derive(Debug, Parser)]
#[command(name = "tripline", version, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch the change stream and raise alerts, until stopped by Ctrl-C or SIGTERM
    #[command(after_help = format!("{RUN_EXAMPLES}\n\n{EXIT_CODES}"))]
    Run(RunArgs),
}

/// Arguments of `tripline run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// Stop where the topic ended at the start, and print what was done as one line of JSON
    #[arg(long)]
    pub until_end: bool,
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: unexpected failure.
    Failed,
    /// 2: command line or configuration wrong. Clap's own errors end so, too.
    Misconfigured,
    /// 3: a server could not be reached.
    Unreachable,
    /// 4: a server refused: password or rights.
    Refused,
    /// 5: stopped to protect data.
    Protected,
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Misconfigured => 2,
            Self::Unreachable => 3,
            Self::Refused => 4,
            Self::Protected => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{Cli, Command, Exit, Parser};

    #[test]
    fn definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_takes_a_file() {
        let parsed =
            Cli::try_parse_from(["tripline", "run", "--config", "a.toml", "--until-end"]).map(|cli| cli.command);
        assert!(
            matches!(&parsed, Ok(Command::Run(run)) if run.config.as_os_str() == "a.toml" && run.until_end),
            "{parsed:?}"
        );
    }

    #[test]
    fn a_wrong_command_line_ends_like_a_wrong_configuration() {
        let error = Cli::try_parse_from(["tripline", "run"]).map(|_| ()).map_err(|error| error.exit_code());
        assert_eq!(error, Err(i32::from(Exit::Misconfigured.code())));
    }

    #[test]
    fn every_exit_code_is_in_the_help() {
        let help = Cli::command().render_help().to_string();
        for exit in [Exit::Done, Exit::Failed, Exit::Misconfigured, Exit::Unreachable, Exit::Refused, Exit::Protected] {
            assert!(help.contains(&format!("\n  {}  ", exit.code())), "{exit:?} in {help}");
        }
    }
}
