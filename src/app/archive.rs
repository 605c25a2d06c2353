//! The archive job: checking it against the servers, wiring it, running it.
//!
//! - this file: the job
//! - [`columns`]: which columns the records have
//! - [`status`]: its progress, and the files that it has written

pub mod columns;
pub mod status;

use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;

use self::columns::Columns;
use super::servers::{self, MissingTopic, membership, wait_for_topic};
use crate::archive::open_batch::{Limits, MEMORY_MAX};
use crate::archive::output::{self, Entry, Output};
use crate::archive::{Archive, Counts, Settings, believed};
use crate::change::debezium::full_row::versions::Between;
use crate::checkpoint::disk::{PrivateDisk, RealDisk};
use crate::checkpoint::{CheckpointError, Folder};
use crate::clock::SystemClock;
use crate::config::{ArchiveConfig, OnBadRecord, WhenGroupIsMissing};
use crate::failure::{Exit, Failure};
use crate::host;
use crate::job::JobError;
use crate::job::gauge::Gauge;
use crate::kafka::Cluster;
use crate::progress::Topics;
use crate::sink::kafka::dead_letters::DeadLetters;
use crate::source::kafka::KafkaSource;
use crate::source::kafka::topics::ReadTopics;

/// Runs the job. `None`: it was asked to stop before it had joined the group.
///
/// # Errors
/// A server cannot be reached or refuses, or the run cannot recover from an error.
pub async fn run(
    config: &ArchiveConfig,
    until_end: bool,
    changed_columns: Option<Between>,
    gauge: Arc<Gauge>,
) -> Result<Option<Counts>, Failure> {
    let stop = host::stopped().shared();
    let cluster = servers::cluster(&config.kafka);
    tokio::select! {
        ready = prepare(config, &cluster, until_end) => ready?,
        () = stop.clone() => return Ok(None),
    }
    let (mut folder, mut output) = open(config)?;
    let limit = until_end.then_some(config.startup_wait);
    let mut columns = Columns::new(believed::table_versions(&folder)?, changed_columns);
    let mut counts = Counts::default();
    loop {
        tokio::select! {
            found = columns.find(config, &cluster, until_end) => found?,
            () = stop.clone() => return Ok(None),
        }
        let decoding = servers::decoding(&config.source, vec![(0, columns.decoder(config))])?;
        let membership = tokio::select! {
            membership = membership(&cluster, &config.archive.group_id, folder.path(), limit) => membership?,
            () = stop.clone() => return Ok(None),
        };
        let source = KafkaSource::join(&cluster, membership, ReadTopics::one(&config.archive.topic, decoding), limit)?;
        let dead_letters =
            DeadLetters::new(&cluster, &config.source.dead_letter_topic, &Topics::from(config.archive.topic.as_str()))?;
        let settings = settings(config, until_end);
        let (clock, gauge) = (SystemClock::default(), Arc::clone(&gauge));
        let believed = columns.believed(config);
        let mut archive = Archive { settings, source, dead_letters, clock, folder, output, counts, gauge, believed };
        let ended = archive.run(stop.clone()).await;
        archive.source.close().await;
        (folder, output, counts) = (archive.folder, archive.output, archive.counts);
        columns.keep(archive.believed);
        match ended {
            Ok(()) => return Ok(Some(counts)),
            Err(JobError::Columns(error)) if columns.may_be_read_again(config, &error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for the topic, and creates the dead-letter topic.
async fn prepare(config: &ArchiveConfig, cluster: &Cluster, until_end: bool) -> Result<(), Failure> {
    let missing = if until_end { MissingTopic::Fail(config.startup_wait) } else { MissingTopic::Wait };
    let topic = &config.archive.topic;
    wait_for_topic(cluster, topic, "archive.topic", config.startup_wait, missing).await?;
    Ok(cluster.create_topics(&[&config.source.dead_letter_topic], &[]).await?)
}

/// Opens and locks both folders.
fn open(config: &ArchiveConfig) -> Result<(Folder, Output), Failure> {
    let output_path = &config.archive.output_path;
    let path = std::path::absolute(output_path)
        .map_err(|error| Failure::misconfigured(format!("archive.output_path {}: {error}", output_path.display())))?;
    refuse_strangers(&path)?;
    let checkpoint = config.archive.checkpoint_dir.clone();
    let folder = Folder::open_at(PrivateDisk::at(checkpoint.clone()), checkpoint)
        .map_err(|error| unusable("archive.checkpoint_dir", error))?;
    let output = Output::open(Arc::new(RealDisk), path).map_err(|error| unusable("archive.output_path", error))?;
    let output = output.ok_or_else(|| {
        Failure::new(
            Exit::Protected,
            format!(
                "output_path {} is in use by another process: stop that one, or give this archive one of its own",
                output_path.display()
            ),
        )
    })?;
    Ok((folder, output))
}

/// Returns the error for a folder of the configuration that cannot be opened.
fn unusable(setting: &str, error: CheckpointError) -> Failure {
    match error {
        CheckpointError::Io { .. } => Failure::misconfigured(format!("{setting}: {error}")),
        other => JobError::from(other).into(),
    }
}

/// Fails if the folder has files of something else. The folder is not changed.
fn refuse_strangers(output_path: &Path) -> Result<(), Failure> {
    if !output_path.is_dir() || output::owner(&RealDisk, output_path).map_err(JobError::from)?.is_some() {
        return Ok(());
    }
    let mut stranger = None;
    let look = |entry| {
        if let Entry::Stranger(path) = entry {
            stranger.get_or_insert(path);
        }
    };
    output::each(&RealDisk, output_path, look).map_err(JobError::from)?;
    let Some(stranger) = stranger else { return Ok(()) };
    Err(Failure::new(
        Exit::Protected,
        format!(
            "output_path {} holds {stranger}, which is none of this archive's files: use an empty folder",
            output_path.display()
        ),
    ))
}

fn settings(config: &ArchiveConfig, until_end: bool) -> Settings {
    Settings {
        group: config.archive.group_id.clone(),
        topic: config.archive.topic.clone(),
        start_at: config.archive.starting_offsets,
        reprocess_without_group: config.archive.when_group_is_missing == WhenGroupIsMissing::Reprocess,
        limits: Limits {
            records: config.archive.max_offsets_per_trigger,
            memory: MEMORY_MAX,
            partition_by: config.archive.partition_by.clone(),
        },
        trigger_interval: config.archive.trigger_interval,
        stop_on_bad_record: config.source.on_bad_record == OnBadRecord::Stop,
        until_end,
    }
}
