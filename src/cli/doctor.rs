//! `tripline doctor`: examines everything that a run needs, and prints a fix for what is wrong.

use std::path::PathBuf;

use clap::Args;

use super::Output;
use super::terminal::print;
use crate::app::{self, doctor};
use crate::config;
use crate::failure::{Exit, Failure};

pub(super) const EXAMPLES: &str = "\
Examples:
  tripline doctor --config tripline.toml
  tripline doctor --config tripline.toml --connect http://localhost:8083
  tripline doctor --config tripline.toml --output json

Exit code 0: no problem, though perhaps warnings. Else 3 where a server did not answer, 4 where one refused, 2 where the
settings do not fit what is there, 5 for anything else that a run would stop at or report wrongly. docs/doctor.md has all
checks.";

/// Arguments of `tripline doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// The URL of Kafka Connect's REST interface. By default connect.url
    #[arg(long, value_name = "URL")]
    pub connect: Option<String>,

    /// A line per finding for people, or one JSON object
    #[arg(long, short, default_value = "table")]
    pub output: Output,
}

/// Examines everything and prints the findings.
///
/// # Errors
/// A [`Failure`] that says how the process is to end, if there is a problem.
pub async fn doctor(args: &DoctorArgs) -> Result<(), Failure> {
    // Not by the parser of the command line, whose error would repeat a password.
    if let Some(url) = &args.connect {
        config::check_connect_url(url).map_err(|wrong| Failure::misconfigured(format!("--connect {wrong}")))?;
    }
    let config = app::load(&args.config)?;
    let url = args.connect.as_ref().or(config.connect.as_ref().map(|connect| &connect.url));
    let report = doctor::examine(&config, url.map(String::as_str)).await;
    print(&match args.output {
        Output::Table => report.table(),
        Output::Json => vec![report.json().to_string()],
    })?;
    match report.exit() {
        Exit::Done => Ok(()),
        exit => Err(Failure::new(exit, report.summary())),
    }
}
