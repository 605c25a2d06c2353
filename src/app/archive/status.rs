//! The progress of an archive, and its files: checkpoint, group, lag, files and rows of each date.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::app::progress::GroupOffsets;
use crate::app::servers::cluster;
use crate::app::servers::{MissingTopic, wait_for_topic};
use crate::archive::names::Date;
use crate::archive::output::{self, Entry};
use crate::archive::parquet;
use crate::checkpoint::FolderView;
use crate::checkpoint::disk::{Disk, RealDisk};
use crate::config::ArchiveConfig;
use crate::failure::Failure;
use crate::job::JobError;
use crate::model::NextOffset;
use crate::progress::StartAt;
use crate::progress::Topics;

/// The status of an archive.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of the JSON object")]
pub struct Status {
    pub topic: String,
    pub group: String,
    pub checkpoint_dir: String,
    /// `None` where there is no checkpoint.
    pub lineage: Option<String>,
    pub epoch: Option<u64>,
    pub closed_at: Option<String>,
    pub running: bool,
    pub output_path: String,
    pub partitions: Vec<PartitionLag>,
    pub lag: i64,
    pub dates: Vec<DateFiles>,
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
    /// The first entry in the output that is not the archive's.
    pub stranger: Option<String>,
}

#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of the JSON object")]
pub struct PartitionLag {
    pub partition: i32,
    pub checkpoint: Option<NextOffset>,
    pub group: Option<NextOffset>,
    pub end: NextOffset,
    pub lag: i64,
}

#[derive(Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the names are those of the JSON object")]
pub struct DateFiles {
    pub date: String,
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
}

/// Reads the checkpoint, the group and the output. Nothing is locked or changed.
///
/// # Errors
/// A server cannot be reached, or a file is damaged.
pub async fn status(config: &ArchiveConfig) -> Result<Status, Failure> {
    let archive = &config.archive;
    let cluster = cluster(&config.kafka);
    let missing = MissingTopic::Fail(Duration::ZERO);
    wait_for_topic(&cluster, &archive.topic, "archive.topic", config.startup_wait, missing).await?;
    let folder = FolderView::read(&RealDisk, &archive.checkpoint_dir).map_err(JobError::from)?;
    let running = RealDisk.is_locked(&archive.checkpoint_dir.join("lock")).unwrap_or(false);
    let (lineage, newest) = match folder {
        Some(FolderView { lineage, newest }) => (Some(lineage.id), newest.map(|newest| newest.state)),
        None => (None, None),
    };
    let mut found = Vec::new();
    let topic =
        GroupOffsets::new(cluster, &archive.group_id, Topics::from(archive.topic.as_str()))?.topic_state().await?;
    for state in topic.partitions {
        let (partition, oldest, end) = (state.partition, state.low, state.high);
        let group = state.committed.map(|(next, _)| next);
        let checkpoint = newest.as_ref().and_then(|state| state.offsets.get(&partition)).copied();
        // Before the first epoch, an instant counts as the oldest offset, so the lag is never too small.
        let start = if archive.starting_offsets == StartAt::Latest { end } else { oldest };
        let next = checkpoint.or(group).unwrap_or(start).max(oldest);
        let lag = end.0.saturating_sub(next.0).max(0);
        found.push(PartitionLag { partition, checkpoint, group, end, lag });
    }
    let (dates, stranger) =
        if archive.output_path.exists() { files(&archive.output_path)? } else { Default::default() };
    let sum = |of: fn(&DateFiles) -> u64| dates.iter().map(of).sum();
    Ok(Status {
        topic: archive.topic.clone(),
        group: archive.group_id.clone(),
        checkpoint_dir: archive.checkpoint_dir.display().to_string(),
        lineage,
        epoch: newest.as_ref().map(|state| state.epoch),
        closed_at: newest.as_ref().map(|state| state.at.rfc3339()),
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

/// Counts files, rows and bytes of each date by the files' footers.
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
