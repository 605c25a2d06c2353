//! `tripline healthcheck`: checks for a container engine whether a run of this configuration is alive here and makes
//! progress.

use std::path::PathBuf;

use clap::Args;

use super::terminal::print;
use crate::app::{self, health};
use crate::failure::{Exit, Failure};

pub(super) const NOTES: &str = "\
Run it on the same host or in the same container as `tripline run`. With [web] it asks the run itself, by /readyz: alive,
unless the run says that it is stalled. A standby, and a run that rebuilds its windows, waits for Postgres or pauses at a
limit, is alive. Without [web] it examines the lock of the checkpoint folder and Kafka: with records unread for longer
than --stalled-after and no epoch closed in that time, a run makes no progress. While the broker is unreachable a run waits
for it, and no restart would help: it is alive.

Exit codes, of which containers know only these:
  0  alive
  1  not alive, stalled, or unknown";

/// Arguments of `tripline healthcheck`.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// Seconds that records may be unread while no epoch is closed. Only used without `[web]`
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..))]
    pub stalled_after: u32,
}

/// Examines the run and prints the findings.
///
/// # Errors
/// A [`Failure`] whose exit code is always 1, because container engines know no other.
pub async fn healthcheck(args: &HealthcheckArgs) -> Result<(), Failure> {
    let unhealthy = |message: String| Failure::new(Exit::Failed, message);
    let config = app::load(&args.config).map_err(|failure| unhealthy(failure.message))?;
    let found = health::check(&config, i64::from(args.stalled_after)).await;
    print(&[found.map_err(unhealthy)?])
}
