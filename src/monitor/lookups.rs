//! The look-ups of a run for the decision where to resume: in the folder, in Kafka, in the recovery topic.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::checkpoint::Folder;
use crate::failure::CallError;
use crate::job::JobError;
use crate::job::start::Lookups;
use crate::model::Timestamp;
use crate::progress::start::FolderState;
use crate::progress::{Epoch, Offsets, Progress, Topics};
use crate::retry::Retry;
use crate::sink::Sinks;
use crate::source::Source;
use crate::unit::recovery::RecoveryState;
use crate::unit::stored::Decisions;

/// Returns the state of the folder. `None` without an epoch, since the folder has had no effect then.
pub(super) fn folder_state(folder: &Folder, newest: Option<Epoch<Decisions>>) -> Result<Option<FolderState>, JobError> {
    let (Some(lineage), Some(newest)) = (folder.lineage()?, newest) else { return Ok(None) };
    let is_first = folder.oldest_epoch()? == Some(newest.number);
    let is_starting = is_first && !folder.is_finished(newest.number)?;
    Ok(Some(lineage.state(newest, is_starting)))
}

pub(super) async fn read_recovery<K: Sinks>(sinks: &mut K) -> Result<RecoveryState, CallError> {
    Retry::WORKING.run("reading the recovery topic", async || sinks.recovery().await).await
}

/// The look-ups of a decision for a run.
pub(super) struct RunLookups<'a, S, K> {
    pub(super) source: &'a S,
    pub(super) sinks: &'a mut K,
    pub(super) folder: &'a Folder,
    pub(super) topics: Topics,
    pub(super) partitions: &'a [i32],
    /// The content of the recovery topic, once it was read.
    pub(super) recovery: Option<RecoveryState>,
}

impl<S: Source, K: Sinks> Lookups for RunLookups<'_, S, K> {
    type Error = JobError;

    async fn recovery(&mut self) -> Result<Option<Progress>, JobError> {
        let found = self.recovery.insert(read_recovery(self.sinks).await?);
        Ok(found.progress.clone().map(|progress| progress.in_lanes_of(&self.topics)))
    }

    async fn retention(&mut self) -> Option<Duration> {
        self.source.offsets_kept_for().await
    }

    fn logged(&mut self, epoch: u64) -> Result<Option<(u32, Offsets)>, JobError> {
        let logged = self.folder.logged::<Decisions>(epoch)?;
        Ok(logged.map(|(epoch, crc)| (crc, epoch.offsets)))
    }

    async fn timestamps(&mut self, offsets: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, JobError> {
        let what = "reading the last records that were taken";
        Ok(Retry::WORKING.run(what, async || self.source.timestamps(offsets).await).await?)
    }

    async fn since(&mut self, at: Timestamp) -> Result<Offsets, JobError> {
        let what = "asking for offsets by time";
        Ok(Retry::WORKING.run(what, async || self.source.first_since(self.partitions, at).await).await?)
    }
}
