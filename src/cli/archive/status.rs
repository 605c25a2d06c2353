//! `tripline archive status`: both layers of offsets, what is left to read, and the files and rows of each date. Looks
//! only: nothing is locked or changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use serde::Serialize;

use super::{StatusArgs, configured, wrong};
use crate::archive::names::Date;
use crate::archive::output::{self, Entry};
use crate::archive::parquet;
use crate::checkpoint::disk::{Disk, RealDisk};
use crate::checkpoint::{Folder, Look};
use crate::cli::Output;
use crate::cli::failure::Failure;
use crate::cli::offsets::{aligned, partitions, print};
use crate::cli::run::find_topic;
use crate::config::{ArchiveConfig, OffsetReset};
use crate::job::JobError;
use crate::model::NextOffset;
use crate::source::kafka::client_config;

/// What there is to show.
#[derive(Debug, Serialize)]
struct Status {
    topic: String,
    group: String,
    checkpoint_dir: String,
    /// `None` where there is no checkpoint.
    lineage: Option<String>,
    epoch: Option<u64>,
    closed_at: Option<String>,
    running: bool,
    output_path: String,
    partitions: Vec<Partition>,
    lag: i64,
    dates: Vec<DateFiles>,
    files: u64,
    rows: u64,
    bytes: u64,
    /// What is in the output and none of the archive's.
    stranger: Option<String>,
}

#[derive(Debug, Serialize)]
struct Partition {
    partition: i32,
    checkpoint: Option<NextOffset>,
    group: Option<NextOffset>,
    end: NextOffset,
    lag: i64,
}

#[derive(Debug, Default, Serialize)]
struct DateFiles {
    date: String,
    files: u64,
    rows: u64,
    bytes: u64,
}

/// Shows how far the archive is.
///
/// # Errors
/// A [`Failure`] that says how the process is to end.
pub(super) async fn status(args: &StatusArgs) -> Result<(), Failure> {
    let config = configured(&args.config)?;
    let client = client_config(&config.kafka.bootstrap_servers, &config.kafka.properties);
    find_topic(&config.kafka, &config.archive.topic, "archive.topic", &client, config.startup_wait, true).await?;
    let status = look(&config).await?;
    print(&match args.output {
        Output::Table => status.table(),
        Output::Json => vec![serde_json::to_string(&status).map_err(|e| wrong(e.to_string()))?],
    })
}

async fn look(config: &ArchiveConfig) -> Result<Status, Failure> {
    let archive = &config.archive;
    let folder = Folder::look_on(&RealDisk, &archive.checkpoint_dir).map_err(JobError::from)?;
    let running = RealDisk.is_locked(&archive.checkpoint_dir.join("lock")).unwrap_or(false);
    let (lineage, epoch) = match folder {
        Some(Look { lineage, epoch }) => (Some(lineage.id), epoch),
        None => (None, None),
    };
    let mut found = Vec::new();
    for (partition, oldest, end, group) in partitions(&config.kafka, &archive.topic).await? {
        let checkpoint = epoch.as_ref().and_then(|(_, next, ..)| next.get(&partition)).copied();
        // Before it has begun, an instant counts as the oldest offset: no less than that is left.
        let start = if archive.starting_offsets == OffsetReset::Latest { end } else { oldest };
        let next = checkpoint.or(group).unwrap_or(start).max(oldest);
        let lag = end.0.saturating_sub(next.0).max(0);
        found.push(Partition { partition, checkpoint, group, end, lag });
    }
    let (dates, stranger) =
        if archive.output_path.exists() { files(&archive.output_path)? } else { Default::default() };
    let sum = |of: fn(&DateFiles) -> u64| dates.iter().map(of).sum();
    Ok(Status {
        topic: archive.topic.clone(),
        group: archive.group_id.clone(),
        checkpoint_dir: archive.checkpoint_dir.display().to_string(),
        lineage,
        epoch: epoch.as_ref().map(|(number, ..)| *number),
        closed_at: epoch.as_ref().map(|(_, _, at, _)| at.rfc3339()),
        running,
        output_path: archive.output_path.display().to_string(),
        lag: found.iter().map(|partition| partition.lag).sum(),
        partitions: found,
        files: sum(|date| date.files),
        rows: sum(|date| date.rows),
        bytes: sum(|date| date.bytes),
        dates,
        stranger,
    })
}

/// What the footers say, by date.
fn files(root: &Path) -> Result<(Vec<DateFiles>, Option<String>), Failure> {
    let (mut files, mut stranger) = (Vec::new(), None);
    let sort = |entry| match entry {
        Entry::File(file) => files.push(file),
        Entry::Stranger(path) => {
            stranger.get_or_insert(path);
        }
    };
    output::each(&RealDisk, root, sort).map_err(JobError::from)?;
    let mut dates: BTreeMap<Date, DateFiles> = BTreeMap::new();
    for found in files {
        let path = root.join(found.date.folder()).join(found.name.to_string());
        let damaged = |problem: String| JobError::Unsafe(format!("{}: {problem}", path.display()));
        let file = File::open(&path).map_err(|e| damaged(e.to_string()))?;
        let bytes = file.metadata().map_err(|e| damaged(e.to_string()))?.len();
        let footer = parquet::footer(&file).map_err(|e| damaged(e.to_string()))?;
        let date = dates.entry(found.date).or_default();
        date.files += 1;
        date.rows += footer.rows;
        date.bytes += bytes;
    }
    let named = |(date, files): (Date, DateFiles)| DateFiles { date: date.to_string(), ..files };
    Ok((dates.into_iter().map(named).collect(), stranger))
}

impl Status {
    fn table(&self) -> Vec<String> {
        let or_dash = |next: Option<NextOffset>| next.map_or("-".to_owned(), |next| next.0.to_string());
        let mut lines = vec![
            format!("topic       {}", self.topic),
            format!("group       {}", self.group),
            match (&self.lineage, self.epoch, &self.closed_at) {
                (Some(lineage), Some(epoch), Some(at)) => {
                    format!("checkpoint  {}, lineage {lineage}, epoch {epoch} of {at}", self.checkpoint_dir)
                }
                (Some(lineage), ..) => format!("checkpoint  {}, lineage {lineage}, no epoch yet", self.checkpoint_dir),
                _ => format!("checkpoint  {}, nothing in it", self.checkpoint_dir),
            },
            format!("running     {}", if self.running { "yes" } else { "no" }),
            String::new(),
        ];
        let head = ["PARTITION", "CHECKPOINT", "GROUP", "END", "LAG"].map(str::to_owned);
        let row = |p: &Partition| {
            [p.partition.to_string(), or_dash(p.checkpoint), or_dash(p.group), p.end.0.to_string(), p.lag.to_string()]
        };
        lines.extend(aligned(&std::iter::once(head).chain(self.partitions.iter().map(row)).collect::<Vec<_>>(), &[]));
        lines.push(String::new());
        let head = ["DATE", "FILES", "ROWS", "BYTES"].map(str::to_owned);
        let row = |date: &str, files: u64, rows: u64, bytes: u64| {
            [date.to_owned(), files.to_string(), rows.to_string(), bytes.to_string()]
        };
        let dates = self.dates.iter().map(|date| row(&date.date, date.files, date.rows, date.bytes));
        let total = row("total", self.files, self.rows, self.bytes);
        lines.extend(aligned(&std::iter::once(head).chain(dates).chain([total]).collect::<Vec<_>>(), &[0]));
        if let Some(stranger) = &self.stranger {
            lines.push(String::new());
            lines.push(format!("{}/{stranger} is none of the archive's files.", self.output_path));
        }
        lines
    }
}
