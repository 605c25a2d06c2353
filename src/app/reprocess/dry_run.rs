//! A run that keeps nothing. It reads and confirms as any other run, but it is in no group, sends nothing, and has its
//! progress in a folder that is removed.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use crate::alert::Alert;
use crate::app::run::Prepared;
use crate::change::record::DeadLetter;
use crate::checkpoint::Folder;
use crate::config::Config;
use crate::failure::{CallError, Exit, Failure};
use crate::host::stopped;
use crate::job::JobError;
use crate::kafka::group::Member;
use crate::monitor::counts::Counts;
use crate::progress::Progress;
use crate::sink::{Sinks, Transaction};
use crate::source::kafka::KafkaSource;
use crate::unit::recovery::{EpisodeRecord, RecoveryState};

/// Reads these lanes to their end. Returns the open episodes as the recovery topic would have them.
pub(super) async fn run(
    config: &Config,
    job: Prepared<'_>,
    lanes: Vec<i32>,
) -> Result<(Counts, RecoveryState), Failure> {
    let group = &config.kafka.group_id;
    let temporary = Temporary::new()
        .map_err(|error| Failure::new(Exit::Failed, format!("a temporary folder cannot be created: {error}")))?;
    let folder = Folder::open(&temporary.0, group).map_err(JobError::from)?;
    let source = KafkaSource::open_without_group(&job.cluster, group, job.topics.clone(), lanes)?;
    let mut driven = job.drive(source, NoSinks::default(), folder, Counts::default(), Vec::new(), stopped()).await;
    match driven.ended {
        Ok(()) => Ok((driven.counts, driven.sinks.recovery().await?)),
        Err(JobError::BeforeTheEnd | JobError::Cut) => {
            Err(Failure::new(Exit::Failed, "stopped before the end was reached; a dry run keeps nothing to go on from"))
        }
        Err(JobError::Changed(changes)) => {
            let what = changes.join(", ");
            let text =
                format!("the table or its server has changed: {what}; a dry run keeps nothing, so start it again");
            Err(Failure::new(Exit::Protected, text))
        }
        Err(error) => Err(error.into()),
    }
}

/// A folder that only this user can read. It is removed on drop.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("tripline-dry-run-{}", uuid::Uuid::now_v7()));
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

/// Sinks that send nothing, and remember what the recovery topic would hold at the end.
#[derive(Default)]
struct NoSinks {
    prepared: Option<(Vec<EpisodeRecord>, Progress)>,
    open: BTreeMap<String, EpisodeRecord>,
    progress: Option<Progress>,
}

impl Sinks for NoSinks {
    type Member = Member;

    async fn fence(&mut self) -> Result<(), CallError> {
        Ok(())
    }

    async fn dead_letter(&mut self, _: &[DeadLetter]) -> Result<(), CallError> {
        Ok(())
    }

    async fn prepare(&mut self, _: &Member, transaction: &Transaction<'_>) -> Result<(), CallError> {
        self.prepared = Some((transaction.episodes.to_vec(), transaction.progress.clone()));
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), CallError> {
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

    async fn deliver(&mut self, _: &[Alert]) -> Result<(), CallError> {
        Ok(())
    }

    async fn recovery(&mut self) -> Result<RecoveryState, CallError> {
        Ok(RecoveryState { progress: self.progress.clone(), episodes: self.open.values().cloned().collect() })
    }
}
