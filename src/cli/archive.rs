//! `tripline archive`: writes the changes of a topic to Parquet files.
//!
//! - this file: the command
//! - `status`: the archive's progress, and the files that it has written

mod status;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};

use super::Output;
use super::progress_bar::ProgressBar;
use super::run::print_counts;
use crate::app::{self, archive as application};
use crate::change::debezium::full_row::versions::Between;
use crate::failure::Failure;
use crate::job::gauge::Gauge;

pub(crate) const EXAMPLES: &str = "\
Examples:
  tripline archive --config archive.toml
  tripline archive --config archive.toml --until-end
  tripline archive status --config archive.toml

The first run writes everything that the topic has, later ones what is new; no row is written twice. docs/archive.md
has the columns, the files and how to read them.";

/// Arguments of `tripline archive`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ArchiveArgs {
    /// The subcommand. `None`: archive the changes.
    #[command(subcommand)]
    pub command: Option<ArchiveCommand>,

    /// The arguments for archiving.
    #[command(flatten)]
    pub write: Option<WriteArgs>,
}

/// The subcommands of `tripline archive`.
#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// Show both layers of offsets, what is left to read, and the files and rows of each date
    Status(StatusArgs),
}

/// Arguments of `tripline archive` alone.
#[derive(Debug, Args)]
pub struct WriteArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// Stop where the topic ended at the start, and print what was done as one line of JSON
    #[arg(long)]
    pub until_end: bool,

    /// Read records that may be from before or from after a change of the table's columns as from before or after it,
    /// rather than stop before them
    #[arg(long, value_name = "WHEN")]
    pub changed_columns: Option<When>,
}

/// Before or after a change of the table's columns.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum When {
    /// Read them by the columns that the table had before.
    Before,
    /// Read them by the columns that the table has had since.
    After,
}

impl From<When> for Between {
    fn from(when: When) -> Self {
        match when {
            When::Before => Self::Before,
            When::After => Self::After,
        }
    }
}

/// Arguments of `tripline archive status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,

    /// A table for people, or one JSON object
    #[arg(long, short, default_value = "table")]
    pub output: Output,
}

/// Archives changes, or shows the archive's progress.
///
/// # Errors
/// A [`Failure`] that says how the process is to end.
pub async fn archive(args: &ArchiveArgs) -> Result<(), Failure> {
    match (&args.command, &args.write) {
        (Some(ArchiveCommand::Status(args)), _) => status::status(args).await,
        (None, Some(args)) => write(args).await,
        (None, None) => Err(Failure::misconfigured("--config FILE is needed")),
    }
}

async fn write(args: &WriteArgs) -> Result<(), Failure> {
    let config = app::load_archive(&args.config)?;
    let gauge = Arc::new(Gauge::default());
    let bar = ProgressBar::start(Arc::clone(&gauge), "archiving", !args.until_end);
    let ended = application::run(&config, args.until_end, args.changed_columns.map(Between::from), gauge).await;
    bar.end().await;
    print_counts(ended?.filter(|_| args.until_end))
}
