//! A run of which nothing stays: it reads and asks as any other does, but is in no group, sends nothing, and keeps its
//! progress in a folder that is removed.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use crate::alert::Alert;
use crate::checkpoint::Folder;
use crate::cli::Exit;
use crate::cli::failure::Failure;
use crate::cli::run::{Job, stopped};
use crate::config::Config;
use crate::job::JobError;
use crate::sink::{SinkError, Sinks, Transaction};
use crate::source::DeadLetter;
use crate::source::kafka::{KafkaSource, Member};
use crate::unit::Counts;
use crate::unit::backup::{Backup, EpisodeRecord, Progress};

/// Reads these partitions to their end. What is open then comes as the topic of episodes would have it.
pub(super) async fn run(config: &Config, job: Job<'_>, partitions: Vec<i32>) -> Result<(Counts, Backup), Failure> {
    let (group, topic) = (&config.kafka.group_id, &config.source.topic);
    let temporary = Temporary::new()
        .map_err(|error| Failure::new(Exit::Failed, format!("a temporary folder cannot be made: {error}")))?;
    let folder = Folder::open(&temporary.0, group).map_err(JobError::from)?;
    let source = KafkaSource::alone(&job.client, group, topic, job.decoder.clone(), partitions)
        .map_err(|error| Failure::new(Exit::Misconfigured, format!("kafka.properties: {error}")))?;
    let (ended, mut sinks) = job.drive(source, Shadow::default(), folder, stopped()).await;
    match ended {
        Ok(counts) => Ok((counts, sinks.backup().await.map_err(JobError::from)?)),
        Err(JobError::BeforeTheEnd | JobError::Cut) => {
            Err(Failure::new(Exit::Failed, "stopped before the end was reached; a shadow keeps nothing to go on from"))
        }
        Err(error) => Err(error.into()),
    }
}

/// A folder that nobody else may look into, removed when it is dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("tripline-shadow-{}", uuid::Uuid::now_v7()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "the temporary folder was not removed");
        }
    }
}

/// Sinks that keep for themselves what the topic of episodes would hold in the end, and send nothing.
#[derive(Default)]
struct Shadow {
    prepared: Option<(Vec<EpisodeRecord>, Progress)>,
    open: BTreeMap<String, EpisodeRecord>,
    progress: Option<Progress>,
}

impl Sinks for Shadow {
    type Member = Member;

    async fn fence(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn bury(&mut self, _: &[DeadLetter]) -> Result<(), SinkError> {
        Ok(())
    }

    async fn prepare(&mut self, _: &Member, transaction: &Transaction<'_>) -> Result<(), SinkError> {
        self.prepared = Some((transaction.episodes.to_vec(), transaction.progress.clone()));
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), SinkError> {
        let Some((episodes, progress)) = self.prepared.take() else { return Ok(()) };
        for episode in episodes {
            if episode.is_resolved() {
                self.open.remove(&episode.record_key());
            } else {
                self.open.insert(episode.record_key(), episode);
            }
        }
        self.progress = Some(progress);
        Ok(())
    }

    async fn tell(&mut self, _: &[Alert]) -> Result<(), SinkError> {
        Ok(())
    }

    async fn backup(&mut self) -> Result<Backup, SinkError> {
        Ok(Backup { progress: self.progress.clone(), episodes: self.open.values().cloned().collect() })
    }
}
