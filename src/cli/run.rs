//! `tripline run`: the main job.

use super::RunArgs;
use super::terminal::print;
use crate::app::{self, run as application};
use crate::failure::Failure;

/// Runs the main job.
///
/// # Errors
/// A [`Failure`] that says how the process is to end.
pub async fn run(args: &RunArgs) -> Result<(), Failure> {
    let config = app::load(&args.config)?;
    let job = application::prepare(&config, args.until_end).await?;
    let _web = job.web().await?; // it ends with the run
    let counts = job.work(std::io::stdout()).await?;
    print_counts(counts.filter(|_| args.until_end))
}

/// Prints the counts of a run as one line of JSON.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn print_counts(counts: Option<impl serde::Serialize>) -> Result<(), Failure> {
    let line = counts.map(|counts| serde_json::to_string(&counts).unwrap_or_default());
    print(line.as_slice())
}
