//! Where the monitor resumes, from a comparison of the checkpoint folder, the consumer group and the recovery topic.
//! Pure.
//!
//! One function decides, for the run and for every command that shows what the next start does. If it needs a fact that
//! is not known yet, it returns a [`Lookup`]. The caller looks that up and calls again.

mod from;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::checks::{self, Advice, Mismatch};
use super::topics::place_of;
use super::{Committed, EpochRef, LastRecords, Offsets, Progress, StartAt, TopicState, Topics};
use crate::model::Timestamp;
use from::{From, from};

/// Advice for a topic that is not the one that was read.
pub const ADVICE: Advice = Advice {
    cluster: "use a new group id, or move the folder away to go by what the group has committed here",
    reread: "to read what is there now from its beginning: tripline offsets reset --to-earliest --execute, or a new group id",
};

/// The settings for a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The consumer group.
    pub group: String,
    /// The topics to read.
    pub topics: Topics,
    /// The path of the checkpoint folder.
    pub folder: String,
    /// `kafka.auto_offset_reset`
    pub start_at: StartAt,
    /// `kafka.when_group_is_missing = "resume"`
    pub resume_without_group: bool,
}

/// The state of the checkpoint folder. A folder without an epoch has had no effect and counts as none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderState {
    /// The id of the lineage.
    pub lineage: String,
    /// The topics that were read.
    pub topics: Topics,
    /// The id of the Kafka cluster, if it is known.
    pub cluster: Option<String>,
    /// The group's commit when the lineage came into this folder.
    pub origin: Option<Committed>,
    /// The number of the newest epoch.
    pub epoch: u64,
    /// The next offsets after that epoch.
    pub offsets: Offsets,
    /// The next offsets of topics that were no longer read.
    pub kept: Offsets,
    /// The last records taken.
    pub last_records: LastRecords,
    /// When the epoch was closed.
    pub at: Timestamp,
    /// Whether the newest epoch is the folder's first and is not finished, because a start was interrupted.
    pub is_starting: bool,
}

/// A fact that a decision depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The group's progress in the recovery topic: [`Answers::recovery`].
    Recovery,
    /// How long the broker keeps the offsets of a group without members: [`Answers::retention`].
    Retention,
    /// The folder's epoch with this number: [`Answers::logged`].
    Logged(u64),
    /// The timestamps of the records at these offsets by partition: [`Answers::timestamps`].
    Timestamps(BTreeMap<i32, i64>),
    /// The first offset of each partition that is not older than this: [`Answers::since`].
    Since(Timestamp),
}

/// Answers to [`Lookup`]s. `None`: not looked up yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// The group's progress. `Some(None)` where the topic has none.
    pub recovery: Option<Option<Progress>>,
    /// The retention. `Some(None)` where the broker does not report it.
    pub retention: Option<Option<Duration>>,
    /// The checksum and next offsets of the epoch. `Some(None)` where the folder has no such epoch.
    pub logged: Option<Option<(u32, Offsets)>>,
    /// The timestamps in milliseconds since 1970. Offsets without a record are left out.
    pub timestamps: Option<BTreeMap<i32, i64>>,
    /// Offsets by partition.
    pub since: Option<Offsets>,
}

/// The facts that are known at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The settings.
    pub policy: Policy,
    /// The state of the folder. `None` without an epoch.
    pub folder: Option<FolderState>,
    /// The broker's facts about topic and group.
    pub topic: TopicState,
    /// The current time.
    pub now: Timestamp,
    /// The answers to look-ups.
    pub answers: Answers,
}

/// The action of the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Resumes after the folder's newest epoch.
    Resume {
        /// The newest epoch that Kafka has. `None` where the group has no offsets of this lineage.
        committed: Option<u64>,
    },
    /// Resumes at the group's offsets in the same lineage. Windows and episodes come from elsewhere.
    Rebuild {
        /// The group's epoch.
        epoch: EpochRef,
        /// The group's progress in the recovery topic. `None` where that has another epoch, and the start stops.
        progress: Option<Progress>,
    },
    /// Begins a new lineage.
    NewLineage,
}

/// The reason for the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is neither a checkpoint nor a committed offset.
    Nothing,
    /// The group is at the folder's newest epoch.
    Agree,
    /// The number of the folder's epochs that the group does not have yet.
    FolderAhead(u64),
    /// The first start of this lineage here was interrupted before its commit.
    StartInterrupted,
    /// The group has no offsets, and the settings say to resume from the folder.
    GroupMissing,
    /// The group's offsets were deleted.
    GroupDeleted,
    /// The group is at this epoch, and there is no checkpoint.
    FolderMissing(EpochRef),
    /// The group is at this epoch, which the folder does not have.
    FolderBehind(EpochRef),
    /// The group is at this epoch, and the folder has another one of the same number.
    FolderDiverged(EpochRef),
    /// The group is at this epoch of another lineage than the folder's.
    OtherLineage(EpochRef),
    /// The group's offsets were set manually.
    MovedByHand,
}

/// Why the start stops, to protect data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The folder holds progress in these other topics.
    OtherTopic(String),
    /// The topic is not the one that was read, or no longer has the next records.
    Mismatch(Mismatch),
    /// The recovery topic has another epoch than the group, or nothing of the group.
    NotInRecoveryTopic {
        /// The epoch that the group has committed.
        epoch: EpochRef,
        /// The epoch in the recovery topic. `None`: it has nothing of the group.
        found: Option<String>,
    },
}

/// The action of the next start, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The action of the start.
    pub start: Start,
    /// The reason.
    pub reason: Reason,
    /// The next offset of each lane after the windows have been rebuilt.
    pub from: Offsets,
    /// The lanes of topics that the group has never read, while it has progress in others. Up to their ends at the time
    /// of the start, these topics only fill windows.
    pub fresh: BTreeSet<i32>,
    /// The next offsets of topics that are no longer read.
    pub kept: Offsets,
    /// The group's commit, or the last one if the offsets have expired.
    pub committed: Option<Committed>,
    /// The time of the last commit, if the group's offsets have expired or count as expired.
    pub expired: Option<Timestamp>,
    /// Why the start stops instead.
    pub stop: Option<Stop>,
}

/// Decides where to resume.
///
/// # Errors
/// A fact that has to be looked up first.
pub fn decide(known: &Known) -> Result<Decision, Lookup> {
    let mut committed = committed(known);
    let mut expired = None;
    if committed.is_none()
        && let Some(progress) = last_commit(known)?
    {
        committed = Some(progress.committed());
        expired = Some(progress.at);
    }
    let (start, reason) = compare(known, committed.as_ref())?;
    let From { offsets: from, fresh, kept } = from(known, &start, &reason, committed.as_ref())?;
    let stop = stop(known, &start, &reason, &from)?;
    Ok(Decision { start, reason, from, fresh, kept, committed, expired, stop })
}

/// Returns the group's commit. If the folder does not know a topic, offsets that were set for it manually say nothing
/// about other topics.
fn committed(known: &Known) -> Option<Committed> {
    let is_new = |lane: i32| {
        let name = known.policy.topics.name(lane);
        known.folder.as_ref().is_some_and(|folder| folder.topics.place(name).is_none())
    };
    let by_hand = |text: &str| EpochRef::parse(text).is_none();
    let mut partitions = known.topic.partitions.clone();
    for state in &mut partitions {
        let lane = state.partition;
        state.committed = state.committed.take().filter(|(_, text)| !(is_new(lane) && by_hand(text)));
    }
    Committed::of(&partitions)
}

/// Returns the last commit of a group without offsets, if the offsets have expired and were not deleted, or if the
/// settings treat them so.
fn last_commit(known: &Known) -> Result<Option<&Progress>, Lookup> {
    let recovery = known.answers.recovery.as_ref().ok_or(Lookup::Recovery)?;
    let has_read = |progress: &&Progress| progress.topics.shares(&known.policy.topics);
    let Some(progress) = recovery.as_ref().filter(has_read) else { return Ok(None) };
    if known.policy.resume_without_group {
        return Ok(Some(progress));
    }
    let retention = known.answers.retention.ok_or(Lookup::Retention)?;
    let age = Duration::from_micros(u64::try_from(known.now.0.saturating_sub(progress.at.0)).unwrap_or(0));
    Ok(retention.is_some_and(|retention| age >= retention).then_some(progress))
}

/// Compares folder and group.
fn compare(known: &Known, committed: Option<&Committed>) -> Result<(Start, Reason), Lookup> {
    let rebuild = |epoch: EpochRef| {
        let found = known.answers.recovery.as_ref().ok_or(Lookup::Recovery)?.as_ref();
        let name = epoch.to_string();
        let progress = found.filter(|progress| progress.name == name).cloned();
        Ok(Start::Rebuild { epoch, progress })
    };
    let named = committed.and_then(|committed| EpochRef::parse(&committed.metadata));
    let Some(folder) = &known.folder else {
        return Ok(match (committed, named) {
            (None, _) => (Start::NewLineage, Reason::Nothing),
            (Some(_), None) => (Start::NewLineage, Reason::MovedByHand),
            (Some(_), Some(epoch)) => (rebuild(epoch.clone())?, Reason::FolderMissing(epoch)),
        });
    };
    if folder.is_starting && folder.origin.as_ref() == committed {
        return Ok((Start::Resume { committed: None }, Reason::StartInterrupted));
    }
    let Some(committed) = committed else {
        return Ok(if known.policy.resume_without_group {
            (Start::Resume { committed: None }, Reason::GroupMissing)
        } else {
            (Start::NewLineage, Reason::GroupDeleted)
        });
    };
    let Some(epoch) = named else { return Ok((Start::NewLineage, Reason::MovedByHand)) };
    if epoch.lineage != folder.lineage {
        return Ok((rebuild(epoch.clone())?, Reason::OtherLineage(epoch)));
    }
    match known.answers.logged.as_ref().ok_or(Lookup::Logged(epoch.epoch))? {
        None => Ok((rebuild(epoch.clone())?, Reason::FolderBehind(epoch))),
        Some((crc, _)) if *crc != epoch.crc => Ok((rebuild(epoch.clone())?, Reason::FolderDiverged(epoch))),
        // The text is from a commit of Tripline, but the offsets are not, so they were set manually.
        Some((_, offsets)) if !known.topic.are_committed(offsets, &committed.offsets) => {
            Ok((Start::NewLineage, Reason::MovedByHand))
        }
        Some(_) => {
            let reason = match folder.epoch.saturating_sub(epoch.epoch) {
                0 => Reason::Agree,
                epochs => Reason::FolderAhead(epochs),
            };
            Ok((Start::Resume { committed: Some(epoch.epoch) }, reason))
        }
    }
}

/// Returns why the start stops, if resuming would lose or repeat something.
fn stop(known: &Known, start: &Start, reason: &Reason, from: &Offsets) -> Result<Option<Stop>, Lookup> {
    if let Some(folder) = known.folder.as_ref().filter(|folder| !folder.topics.shares(&known.policy.topics)) {
        return Ok(Some(Stop::OtherTopic(folder.topics.text())));
    }
    let held = match (start, &known.folder) {
        (Start::Rebuild { epoch, progress: None }, _) => {
            let found = known.answers.recovery.as_ref().and_then(Option::as_ref).map(|progress| progress.name.clone());
            return Ok(Some(Stop::NotInRecoveryTopic { epoch: epoch.clone(), found }));
        }
        (Start::Rebuild { progress: Some(progress), .. }, _) => Some((&progress.cluster, &progress.last_records)),
        (Start::NewLineage, _) if *reason == Reason::MovedByHand => None,
        (Start::Resume { .. } | Start::NewLineage, Some(folder)) => Some((&folder.cluster, &folder.last_records)),
        (Start::Resume { .. } | Start::NewLineage, None) => None,
    };
    if let Some((cluster, last_records)) = held {
        if let Err(mismatch) = checks::same_cluster(cluster.as_ref(), known.topic.cluster.as_ref()) {
            return Ok(Some(Stop::Mismatch(mismatch)));
        }
        let last_records = &known.policy.topics.of_read(last_records);
        match checks::to_compare(last_records, &known.topic) {
            Err(mismatch) => return Ok(Some(Stop::Mismatch(mismatch))),
            Ok(compared) if compared.is_empty() => {}
            Ok(compared) => {
                let timestamps = known.answers.timestamps.as_ref().ok_or(Lookup::Timestamps(compared))?;
                if let Err(mismatch) = checks::same_records(last_records, timestamps) {
                    return Ok(Some(Stop::Mismatch(mismatch)));
                }
            }
        }
    }
    Ok(checks::readable(from, &known.topic).err().map(Stop::Mismatch))
}

impl Decision {
    /// Returns the relation of checkpoint and group, as a word for programs.
    pub fn relation(&self) -> &'static str {
        match self.reason {
            _ if self.expired.is_some() => "group-expired",
            Reason::Nothing => "nothing-yet",
            Reason::Agree => "agree",
            Reason::FolderAhead(_) => "checkpoint-ahead",
            Reason::StartInterrupted => "start-interrupted",
            Reason::GroupMissing | Reason::GroupDeleted => "group-missing",
            Reason::FolderMissing(_) => "checkpoint-missing",
            Reason::FolderBehind(_) => "group-ahead",
            Reason::FolderDiverged(_) => "checkpoint-diverged",
            Reason::OtherLineage(_) => "other-lineage",
            Reason::MovedByHand => "moved-by-hand",
        }
    }

    /// Returns what the next start does, as a word for programs.
    pub fn action(&self) -> &'static str {
        match self.start {
            _ if self.stop.is_some() => "stop",
            Start::Resume { .. } => "resume",
            Start::Rebuild { .. } => "rebuild",
            Start::NewLineage => "new-lineage",
        }
    }

    /// Whether checkpoint and group are as a run, or a crash of it, leaves them.
    pub fn is_expected(&self) -> bool {
        let expected =
            matches!(self.reason, Reason::Nothing | Reason::Agree | Reason::FolderAhead(_) | Reason::StartInterrupted);
        expected && self.expired.is_none() && self.stop.is_none()
    }

    /// Returns what the next start does and why, as a sentence without its full stop.
    pub fn text(&self, policy: &Policy) -> String {
        match &self.stop {
            None => self.plan_text(policy),
            Some(stop) => format!("stops with exit code 5, to protect data: {}", stop.text(policy)),
        }
    }

    fn plan_text(&self, policy: &Policy) -> String {
        let start_at = policy.start_at;
        let plan = match &self.reason {
            Reason::Nothing => format!(
                "begins a new lineage at auto_offset_reset = {start_at}: there is neither a checkpoint nor a committed offset"
            ),
            Reason::Agree => "resumes: checkpoint and group agree".to_owned(),
            Reason::FolderAhead(epochs) => format!(
                "completes what is missing in Kafka and resumes: the checkpoint is ahead of the group by {epochs} {}, as during a commit or after a crash",
                if *epochs == 1 { "epoch" } else { "epochs" }
            ),
            Reason::StartInterrupted => {
                "completes a start that was interrupted before its first commit, and resumes".to_owned()
            }
            Reason::GroupMissing => {
                "resumes from the checkpoint: the group has no offsets, and kafka.when_group_is_missing = \"resume\""
                    .to_owned()
            }
            Reason::GroupDeleted => format!(
                "begins a new lineage at auto_offset_reset = {start_at} and moves the checkpoint aside: the group's offsets were deleted"
            ),
            Reason::FolderMissing(epoch) => format!(
                "rebuilds: there is no checkpoint, and the group is at epoch {} of lineage {}; windows come from the topic, episodes from the recovery topic",
                epoch.epoch, epoch.lineage
            ),
            Reason::FolderBehind(epoch) => format!(
                "rebuilds from the group's offsets: the group is at epoch {}, which the checkpoint does not have; it is an older copy, or another instance went on",
                epoch.epoch
            ),
            Reason::FolderDiverged(epoch) => format!(
                "rebuilds from the group's offsets: the group is at epoch {}, and the checkpoint has an epoch of that number with another content; another instance went on",
                epoch.epoch
            ),
            Reason::OtherLineage(epoch) => format!(
                "rebuilds from the group's offsets and moves the checkpoint aside: the group is at epoch {} of another lineage, {}; another instance went on",
                epoch.epoch, epoch.lineage
            ),
            Reason::MovedByHand => {
                "begins a new lineage at the group's offsets, which were set by hand: keys that are over their threshold are alerted again"
                    .to_owned()
            }
        };
        let plan = self.with_topics(plan, policy);
        match self.expired {
            Some(at) => format!("{plan}; the group's offsets count as expired, its last commit was at {at}"),
            None => plan,
        }
    }
}

impl Decision {
    /// Adds the topics that are new for the group, and those that it no longer reads.
    fn with_topics(&self, mut plan: String, policy: &Policy) -> String {
        let names = |lanes: &mut dyn Iterator<Item = i32>| {
            let places: BTreeSet<usize> = lanes.map(place_of).collect();
            let names = policy.topics.names().iter().enumerate().filter(|(place, _)| places.contains(place));
            names.map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let (fresh, kept) = (names(&mut self.fresh.iter().copied()), names(&mut self.kept.keys().copied()));
        if !fresh.is_empty() {
            plan.push_str(&format!(
                "; the group has not read {fresh} before: it begins at auto_offset_reset = {}, without alerts up to the end as it is at the start",
                policy.start_at
            ));
        }
        if !kept.is_empty() {
            plan.push_str(&format!("; {kept} is no longer read, and its offsets are kept"));
        }
        plan
    }
}

impl Stop {
    /// Returns the reason in words, with what to do.
    pub fn text(&self, policy: &Policy) -> String {
        let Policy { group, topics, folder, .. } = policy;
        match self {
            Self::OtherTopic(other) => {
                format!(
                    "{folder} holds the progress of topic {other}, not {}: use another group id or checkpoint.dir",
                    topics.text()
                )
            }
            Self::Mismatch(mismatch) => mismatch.text(topics, folder, ADVICE),
            Self::NotInRecoveryTopic { epoch, found } => format!(
                "the checkpoint folder {folder} does not have epoch {epoch}, which group {group} has committed, and the recovery topic (checkpoint.episodes_topic), from which it could go on, has {}: put the folder back, or begin a new lineage, which alerts again for keys that are over their threshold: tripline offsets reset --shift-by 0 --execute",
                found.as_deref().unwrap_or("nothing of this group")
            ),
        }
    }
}

#[cfg(test)]
mod tests;
