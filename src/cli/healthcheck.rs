//! `tripline healthcheck`: whether a run of this configuration is alive here and makes progress, for containers.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::offsets::{self, Progress};
use super::{Exit, run};
use crate::checkpoint::Folder;
use crate::clock::{Clock, SystemClock};
use crate::job::JobError;
use crate::model::Timestamp;

pub(super) const NOTES: &str = "\
It is to run where the run does, as it looks at the lock of the checkpoint folder. With records unread for longer than
--stalled-after and no epoch closed in that time, a run makes no progress. While the broker is away, a run waits for it:
it is then alive, and no restart would help.

Exit codes, of which containers know only these:
  0  alive
  1  not alive, no progress, or not to be told";

/// Arguments of `tripline healthcheck`.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// Seconds that records may be unread while no epoch is closed
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..))]
    pub stalled_after: u32,
}

/// Looks, and says what it found.
///
/// # Errors
/// A [`Failure`] with exit code 1 always, as a container's engine knows no other.
pub async fn healthcheck(args: &HealthcheckArgs) -> Result<(), Failure> {
    let unhealthy = |message: String| Failure::new(Exit::Failed, message);
    let config = run::configured(&args.config).map_err(|failure| unhealthy(failure.message))?;
    let (dir, group) = (&config.checkpoint.dir, &config.kafka.group_id);
    let locked = Folder::is_locked(dir, group).map_err(|error| unhealthy(JobError::from(error).to_string()))?;
    if !locked {
        return Err(unhealthy(format!("no process works on {}: no run is alive here", dir.join(group).display())));
    }
    let progress = match offsets::progress(&config).await {
        Ok(progress) => progress,
        Err(Failure { exit: Exit::Unreachable, message }) => {
            return offsets::print(&[format!("alive; whether it makes progress cannot be told: {message}")]);
        }
        Err(failure) => return Err(unhealthy(failure.message)),
    };
    let shown = judge(&progress, SystemClock::default().now(), i64::from(args.stalled_after)).map_err(unhealthy)?;
    offsets::print(&[shown])
}

/// Whether a run that is alive makes progress.
fn judge(progress: &Progress, now: Timestamp, stalled_after: i64) -> Result<String, String> {
    let Progress { lag, seconds, epoch_at, .. } = progress;
    let since_epoch = epoch_at.map(|at| now.0.saturating_sub(at.0) / 1_000_000);
    let quiet = since_epoch.is_none_or(|since| since > stalled_after);
    match seconds {
        Some(seconds) if *lag > 0 && *seconds > stalled_after && quiet => {
            let epoch =
                since_epoch.map_or("none was ever closed".to_owned(), |since| format!("the last one {since} s ago"));
            Err(format!("no progress: {lag} records unread, the oldest {seconds} s old, and no epoch closed: {epoch}"))
        }
        _ => Ok(format!("alive; {lag} records unread")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_progress() {
        let check = |lag: i64, seconds: Option<i64>, epoch_at: Option<i64>, healthy: bool| {
            let progress = Progress {
                members: vec![],
                agreement: "agree",
                sentence: String::new(),
                unreadable: vec![],
                lag,
                seconds,
                epoch_at: epoch_at.map(|seconds| Timestamp(seconds * 1_000_000)),
            };
            let judged = judge(&progress, Timestamp(1_000_000_000), 120);
            assert_eq!(judged.is_ok(), healthy, "{progress:?}: {judged:?}");
        };
        check(0, None, Some(0), true); // nothing to do for long
        check(5, Some(121), Some(879), false);
        check(5, Some(121), Some(880), true); // works off a backlog
        check(5, Some(120), Some(0), true); // has just come
        check(5, None, Some(0), true); // not known how old
        check(5, Some(999), None, false);
    }
}
