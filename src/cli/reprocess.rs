//! `tripline reprocess`: reads everything again as another group, and compares what is open.
//!
//! - this file: the command
//! - `report`: the output, pure

mod report;

use std::sync::Arc;

use self::report::Report;
use super::progress_bar::{self, ProgressBar};
use super::terminal::{note, print};
use super::{Output, ReprocessArgs};
use crate::app;
use crate::app::reprocess::Reprocess;
use crate::failure::Failure;

/// Reads everything again as a new group, and compares the open episodes with those of the previous one.
///
/// # Errors
/// A [`Failure`] that says how the process is to end.
pub async fn reprocess(args: &ReprocessArgs) -> Result<(), Failure> {
    if args.shadow {
        return Err(Failure::misconfigured("--shadow was renamed; write --dry-run"));
    }
    let config = app::load(&args.config)?;
    let reprocess = Reprocess::new(config, args.to.as_deref(), args.dry_run)?;
    let prepared = reprocess.prepare().await?;
    let bar = ProgressBar::start(Arc::clone(&prepared.job.gauge), "reprocessing", false);
    // Standard output is for the comparison.
    let ended = reprocess.run(prepared, progress_bar::lines()).await;
    bar.end().await;
    let compared = ended?;
    let report = Report {
        old_group: &reprocess.old_group,
        new_group: reprocess.new_group(),
        dry_run: args.dry_run,
        as_of: compared.as_of,
        counts: &compared.counts,
        open: &compared.open,
    };
    print(&match args.output {
        Output::Table => report.table(),
        Output::Json => vec![report.json().to_string()],
    })?;
    let (old_group, new_group) = (&reprocess.old_group, reprocess.new_group());
    if compared.as_of.is_none() {
        note(&format!(
            "The recovery topic (checkpoint.episodes_topic) has no record of group {old_group}: every open episode counts as new."
        ));
    }
    note(&if args.dry_run {
        format!("This was a dry run: nothing was sent, and nothing of group {new_group} is kept.")
    } else {
        format!(
            "Group {new_group} has read everything. To go on with it, stop the run of {old_group}, set kafka.group_id = \"{new_group}\" and start `tripline run`: it reads only what is new."
        )
    });
    Ok(())
}
