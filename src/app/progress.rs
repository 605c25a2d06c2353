//! The next start of a group, and its progress. Both are read from outside, without disturbing a run.

pub mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use view::ProgressView;

use crate::checkpoint::FolderView;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, WhenGroupIsMissing};
use crate::failure::{CallError, Failure};
use crate::job::JobError;
use crate::job::start::{Lookups, decide_with};
use crate::kafka::records::OpenTransaction;
use crate::kafka::{Client, Cluster, Isolation};
use crate::model::Timestamp;
use crate::progress::group::GroupState;
use crate::progress::start::{Answers, Known, Policy};
use crate::progress::{Offsets, Progress, TopicState, Topics, lag};
use crate::retry::Retry;
use crate::sink::kafka::recovery;

/// How long a command retries, for example while the group's coordinator is being elected.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads and moves a group's offsets in a cluster.
pub struct GroupOffsets {
    cluster: Cluster,
    /// The topics that the group reads.
    pub topics: Topics,
    /// A client that sees the records which a run would read.
    reader: Client,
    /// A client that sees the group's offsets even while an open transaction is about to move them.
    committer: Client,
}

impl GroupOffsets {
    /// Creates the clients without asking anything.
    ///
    /// # Errors
    /// librdkafka rejects a property.
    pub fn new(cluster: Cluster, group: &str, topics: Topics) -> Result<Self, Failure> {
        let reader = cluster.client(group, Isolation::Committed)?;
        let committer = cluster.client(group, Isolation::Uncommitted)?;
        Ok(Self { topics, cluster, reader, committer })
    }

    /// Reads every partition of the topics, with the offsets that the group has committed.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn topic_state(&self) -> Result<TopicState, CallError> {
        let topics = &self.topics;
        Retry::for_at_most(PATIENCE)
            .run("asking for the group's offsets", async || {
                let lanes = self.reader.lanes(topics).await?;
                let ends = self.reader.ends(topics, &lanes).await?;
                let mut committed = self.committer.committed(topics, &lanes).await?;
                let with = |mut state: crate::progress::PartitionState| {
                    state.committed = committed.remove(&state.partition);
                    state
                };
                let partitions = ends.partitions.into_iter().map(with).collect();
                Ok(TopicState { partitions, ..ends })
            })
            .await
    }

    /// Reads state and members of the group.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn group_state(&self) -> Result<GroupState, CallError> {
        let what = "asking for the group's members";
        Retry::for_at_most(PATIENCE).run(what, async || self.committer.group_state().await).await
    }

    /// Finds the first record of each partition that is not older than this, or the end.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub async fn since(&self, at: Timestamp, partitions: &[i32]) -> Result<Offsets, CallError> {
        let what = "asking for the offsets of an instant";
        let asked = async || self.reader.first_since(&self.topics, partitions, at).await;
        Retry::for_at_most(PATIENCE).run(what, asked).await
    }

    /// Moves the group to these offsets.
    ///
    /// # Errors
    /// The group has an active member, or the cluster does not answer, or refuses.
    pub async fn commit(&self, offsets: &Offsets) -> Result<(), CallError> {
        let what = "committing the group's offsets";
        let asked = async || self.committer.move_group(&self.topics, offsets).await;
        Retry::for_at_most(PATIENCE).run(what, asked).await
    }
}

/// Reads the state of a group from outside.
///
/// # Errors
/// A server does not answer or refuses, or a file of the folder is damaged.
pub async fn view(config: &Config) -> Result<ProgressView, Failure> {
    let group_id = &config.kafka.group_id;
    let offsets = GroupOffsets::new(super::servers::cluster(&config.kafka), group_id, topics_of(config))?;
    let state = offsets.topic_state().await?;
    // The folder is read after the group's offsets. A run writes the folder before it commits, so in the other order
    // the folder could look too old.
    let view = FolderView::of_group(&config.checkpoint.dir, group_id).map_err(JobError::from)?;
    let folder = view.and_then(|view| view.newest).map(|newest| newest.state);
    let group = offsets.group_state().await?;
    let now = SystemClock::default().now();
    let partitions: Vec<i32> = state.partitions.iter().map(|state| state.partition).collect();
    let mut known =
        Known { policy: policy(config, &offsets.topics), folder, topic: state, now, answers: Answers::default() };
    let mut lookups = CommandLookups { config, offsets: &offsets, partitions };
    let decision = decide_with(&mut known, &mut lookups).await?;
    let unread = lag::oldest_unread(&decision.from, &known.topic);
    let ages = lag::ages(&offsets.cluster.ages(&offsets.topics, &unread).await?, now);
    let Known { policy, folder, topic, .. } = known;
    Ok(ProgressView { policy, topic, group, folder, decision, ages, now })
}

/// Returns the topics of a configuration, at their places in the group's folder.
pub fn topics_of(config: &Config) -> Topics {
    let read: Vec<String> = config.sources.iter().map(|source| source.topic.clone()).collect();
    // The command that resumes from the folder reports what is wrong with it.
    let view = FolderView::of_group(&config.checkpoint.dir, &config.kafka.group_id).ok().flatten();
    match view.and_then(|view| view.newest) {
        Some(newest) => newest.state.topics.reading(&read),
        None => Topics::new(read),
    }
}

/// Returns the settings for a start.
fn policy(config: &Config, topics: &Topics) -> Policy {
    Policy {
        group: config.kafka.group_id.clone(),
        topics: topics.clone(),
        folder: folder(config).display().to_string(),
        start_at: config.kafka.auto_offset_reset,
        resume_without_group: config.kafka.when_group_is_missing == WhenGroupIsMissing::Resume,
    }
}

/// The group's checkpoint folder.
pub fn folder(config: &Config) -> PathBuf {
    config.checkpoint.dir.join(&config.kafka.group_id)
}

/// The look-ups of a decision for a command.
struct CommandLookups<'a> {
    config: &'a Config,
    offsets: &'a GroupOffsets,
    partitions: Vec<i32>,
}

impl Lookups for CommandLookups<'_> {
    type Error = Failure;

    async fn recovery(&mut self) -> Result<Option<Progress>, Failure> {
        let (topic, group) = (&self.config.checkpoint.episodes_topic, &self.config.kafka.group_id);
        // The next start fences out this group's open transaction, which ends it.
        let open = OpenTransaction::LeaveOut;
        let read = async || recovery::read(&self.offsets.cluster, topic, group, open).await;
        let found = Retry::for_at_most(PATIENCE).run("reading the recovery topic", read).await?.progress;
        Ok(found.map(|progress| progress.in_lanes_of(&self.offsets.topics)))
    }

    async fn retention(&mut self) -> Option<Duration> {
        self.offsets.cluster.offsets_retention().await
    }

    fn logged(&mut self, epoch: u64) -> Result<Option<(u32, Offsets)>, Failure> {
        let logged = FolderView::logged(&self.config.checkpoint.dir, &self.config.kafka.group_id, epoch);
        Ok(logged.map_err(JobError::from)?)
    }

    async fn timestamps(&mut self, offsets: &BTreeMap<i32, i64>) -> Result<BTreeMap<i32, i64>, Failure> {
        let read = async || self.offsets.cluster.timestamps(&self.offsets.topics, offsets).await;
        Ok(Retry::for_at_most(PATIENCE).run("reading the last records that were taken", read).await?)
    }

    async fn since(&mut self, at: Timestamp) -> Result<Offsets, Failure> {
        Ok(self.offsets.since(at, &self.partitions).await?)
    }
}
