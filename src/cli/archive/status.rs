//! `tripline archive status`: prints an archive's progress.

use super::StatusArgs;
use crate::app::archive::status::{self as application, PartitionLag, Status};
use crate::app::{self};
use crate::cli::Output;
use crate::cli::terminal::{aligned, print};
use crate::failure::Failure;
use crate::model::NextOffset;

/// Shows the archive's progress.
///
/// # Errors
/// A [`Failure`] that says how the process is to end.
pub(super) async fn status(args: &StatusArgs) -> Result<(), Failure> {
    let config = app::load_archive(&args.config)?;
    let status = application::status(&config).await?;
    print(&match args.output {
        Output::Table => table(&status),
        Output::Json => vec![serde_json::to_string(&status).unwrap_or_default()],
    })
}

fn table(status: &Status) -> Vec<String> {
    let or_dash = |next: Option<NextOffset>| next.map_or("-".to_owned(), |next| next.0.to_string());
    let mut lines = vec![
        format!("topic       {}", status.topic),
        format!("group       {}", status.group),
        match (&status.lineage, status.epoch, &status.closed_at) {
            (Some(lineage), Some(epoch), Some(at)) => {
                format!("checkpoint  {}, lineage {lineage}, epoch {epoch} of {at}", status.checkpoint_dir)
            }
            (Some(lineage), ..) => format!("checkpoint  {}, lineage {lineage}, no epoch yet", status.checkpoint_dir),
            _ => format!("checkpoint  {}, nothing in it", status.checkpoint_dir),
        },
        format!("running     {}", if status.running { "yes" } else { "no" }),
        String::new(),
    ];
    let head = ["PARTITION", "CHECKPOINT", "GROUP", "END", "LAG"].map(str::to_owned);
    let row = |p: &PartitionLag| {
        [p.partition.to_string(), or_dash(p.checkpoint), or_dash(p.group), p.end.0.to_string(), p.lag.to_string()]
    };
    lines.extend(aligned(&std::iter::once(head).chain(status.partitions.iter().map(row)).collect::<Vec<_>>(), &[]));
    lines.push(String::new());
    let head = ["DATE", "FILES", "ROWS", "BYTES"].map(str::to_owned);
    let row = |date: &str, files: u64, rows: u64, bytes: u64| {
        [date.to_owned(), files.to_string(), rows.to_string(), bytes.to_string()]
    };
    let dates = status.dates.iter().map(|date| row(&date.date, date.files, date.rows, date.bytes));
    let total = row("total", status.files, status.rows, status.bytes);
    lines.extend(aligned(&std::iter::once(head).chain(dates).chain([total]).collect::<Vec<_>>(), &[0]));
    if let Some(stranger) = &status.stranger {
        lines.push(String::new());
        lines.push(format!("{}/{stranger} is none of the archive's files.", status.output_path));
    }
    lines
}
