//! `tripline demo`: runs the main job with the demo's own servers.
//!
//! - this file: the command
//! - `console`: the output while it runs
//! - `text`: the summary at the end

mod console;
mod text;

use std::time::Duration;

use clap::Args;

use super::Output;
use crate::app::demo::{self as application, Request};
use crate::failure::{Exit, Failure};
use crate::telemetry;
use console::Console;

pub(super) const EXAMPLES: &str = "\
Examples:
  tripline demo
  tripline demo --for 300
  tripline demo --for 15 --output json

A private PostgreSQL (this machine's, else one that is fetched), its changes read by logical decoding, and the same
pipeline as of `tripline run`; the Kafka broker is a stand-in inside of this process. Nothing is left behind but what was
fetched, in ~/.cache/tripline (/var/cache/tripline for root).";

/// Arguments of `tripline demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How long people buy, in seconds, up to 900. Ctrl-C ends the demo earlier
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=900))]
    pub seconds: u32,

    /// A summary for people, or one JSON object. With JSON, the lines before it go to standard error
    #[arg(long, short, default_value = "table")]
    pub output: Output,

    /// Fetch PostgreSQL even where this machine has one
    #[arg(long)]
    pub fetch: bool,
}

/// Runs the demo.
///
/// # Errors
/// A [`Failure`] that says how the process is to end.
pub async fn demo(args: &DemoArgs) -> Result<(), Failure> {
    let mut console = Console::new(args.output);
    // A line of the log would run into what is drawn.
    let level = if console.is_drawn() { "error" } else { "warn" };
    telemetry::init(level, telemetry::Format::Text).map_err(Failure::misconfigured)?;
    let request = Request { duration: Duration::from_secs(u64::from(args.seconds)), fetch: args.fetch };
    let Some(summary) = application::run(request, &mut console).await? else { return Ok(()) };
    console.summary(&summary)?;
    if summary.agrees() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        "what the pipeline has read, or the alerts that it has open, is not what the database has",
    ))
}
