//! Where the monitor goes on from: the checkpoint folder, the consumer group and the recovery topic, compared. Pure.
//!
//! One function decides, for the run and for every command that shows what the next start does. What it needs to know
//! and was not asked for yet it names as a [`Lookup`]: the caller asks for that, and calls again.

mod from;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::checks::{self, Advice, Mismatch};
use super::topics::place_of;
use super::{Committed, EpochRef, LastRecords, Offsets, Progress, StartAt, TopicState, Topics};
use crate::model::Timestamp;
use from::{From, from};

/// What to do where the topic is not the one that was read.
pub const ADVICE: Advice = Advice {
    cluster: "use a new group id, or move the folder away to go by what the group has committed here",
    reread: "to read what is there now from its beginning: tripline offsets reset --to-earliest --execute, or a new group id",
};

/// What the settings say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Consumer group.
    pub group: String,
    /// The topics to read.
    pub topics: Topics,
    /// Where the checkpoint folder is.
    pub folder: String,
    /// `kafka.auto_offset_reset`
    pub start_at: StartAt,
    /// `kafka.when_group_is_missing = "resume"`
    pub resume_without_group: bool,
}

/// What the checkpoint folder says. A folder without an epoch has had no effect and counts as none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderState {
    /// Id of the lineage.
    pub lineage: String,
    /// The topics that were read.
    pub topics: Topics,
    /// Id of the Kafka cluster, where it is known.
    pub cluster: Option<String>,
    /// What the group had committed when the lineage came into this folder.
    pub origin: Option<Committed>,
    /// Number of the newest epoch.
    pub epoch: u64,
    /// Next offsets after it.
    pub offsets: Offsets,
    /// Next offsets of topics that were no longer read.
    pub kept: Offsets,
    /// The last records taken.
    pub last_records: LastRecords,
    /// When it was closed.
    pub at: Timestamp,
    /// The newest epoch is the folder's first, and is not finished: a start was interrupted.
    pub is_starting: bool,
}

/// Something that a decision depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// What the recovery topic has of this group: [`Answers::recovery`].
    Recovery,
    /// How long the broker keeps the offsets of a group without members: [`Answers::retention`].
    Retention,
    /// The folder's epoch of this number: [`Answers::logged`].
    Logged(u64),
    /// The timestamps of the records at these offsets by partition: [`Answers::timestamps`].
    Timestamps(BTreeMap<i32, i64>),
    /// The first offset of each partition that is not older than this: [`Answers::since`].
    Since(Timestamp),
}

/// Answers to [`Lookup`]s; `None`: not asked yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// The group's progress; `Some(None)` where the topic has none.
    pub recovery: Option<Option<Progress>>,
    /// The retention; `Some(None)` where the broker does not report it.
    pub retention: Option<Option<Duration>>,
    /// Checksum and next offsets of the epoch; `Some(None)` where the folder has no such epoch.
    pub logged: Option<Option<(u32, Offsets)>>,
    /// In milliseconds since 1970. Offsets without a record are left out.
    pub timestamps: Option<BTreeMap<i32, i64>>,
    /// Offsets by partition.
    pub since: Option<Offsets>,
}

/// Everything that is known at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What the settings say.
    pub policy: Policy,
    /// What the folder says; `None` without an epoch.
    pub folder: Option<FolderState>,
    /// What the broker says of topic and group.
    pub topic: TopicState,
    /// The present instant.
    pub now: Timestamp,
    /// What was looked up.
    pub answers: Answers,
}

/// What the start does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Goes on after the folder's newest epoch. `committed`: the epoch that the group has, where it has any.
    Resume {
        /// The newest epoch that Kafka has; `None` where the group has no offsets of this lineage.
        committed: Option<u64>,
    },
    /// Goes on from the group's offsets in the same lineage; windows and episodes come from elsewhere.
    Rebuild {
        /// The group's epoch.
        epoch: EpochRef,
        /// The group's progress in the recovery topic; `None` where it has another epoch, and the start stops.
        progress: Option<Progress>,
    },
    /// Begins a new lineage.
    NewLineage,
}

/// Why it does that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is neither a checkpoint nor an offset.
    Nothing,
    /// The group is at the folder's newest epoch.
    Agree,
    /// The folder has this many epochs that the group does not have yet.
    FolderAhead(u64),
    /// The first start of this lineage here was interrupted before its commit.
    StartInterrupted,
    /// The group has no offsets, and the settings say to go on from the folder.
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
    /// The group's offsets were set by hand.
    MovedByHand,
}

/// Why the start stops, to protect data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The folder holds progress in these other topics.
    OtherTopic(String),
    /// The topic is not the one that was read, or no longer holds what comes next.
    Mismatch(Mismatch),
    /// The recovery topic has this name instead of the group's epoch, or nothing of the group.
    NotInRecoveryTopic {
        /// The epoch that the group has committed.
        epoch: EpochRef,
        /// What the recovery topic has.
        found: Option<String>,
    },
}

/// What the next start does, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What it does.
    pub start: Start,
    /// Why.
    pub reason: Reason,
    /// Where reading goes on in each lane, after the windows have been rebuilt.
    pub from: Offsets,
    /// Of these, the lanes of topics that the group has never read while it has progress in others. Up to their ends as they are at
    /// the start they only fill windows.
    pub fresh: BTreeSet<i32>,
    /// Next offsets of topics that are no longer read.
    pub kept: Offsets,
    /// What the group has committed; or had, where the offsets have expired.
    pub committed: Option<Committed>,
    /// The group's offsets have expired, or are taken for expired: this was the last commit.
    pub expired: Option<Timestamp>,
    /// Why it stops instead.
    pub stop: Option<Stop>,
}

/// Decides where to go on from.
///
/// # Errors
/// What has to be looked up first.
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

/// What the group has committed. Offsets that were set by hand for a topic that the folder does not know say nothing of the others.
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

/// The group has no offsets. What they were, if they have expired rather than been deleted, or are to be taken for it.
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
        // The text of a commit of Tripline with other numbers: somebody else set them.
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

/// Whether going on would lose or repeat something.
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
    /// The relation of checkpoint and group, as a word for programs.
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

    /// What the next start does, as a word for programs.
    pub fn action(&self) -> &'static str {
        match self.start {
            _ if self.stop.is_some() => "stop",
            Start::Resume { .. } => "resume",
            Start::Rebuild { .. } => "rebuild",
            Start::NewLineage => "new-lineage",
        }
    }

    /// Whether checkpoint and group are as a run leaves them, or a crash of it.
    pub fn is_expected(&self) -> bool {
        let expected =
            matches!(self.reason, Reason::Nothing | Reason::Agree | Reason::FolderAhead(_) | Reason::StartInterrupted);
        expected && self.expired.is_none() && self.stop.is_none()
    }

    /// What the next start does and why, as a sentence without its full stop.
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
    /// With the topics that come to the group, and those that it no longer reads.
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
    /// In words, with what to do.
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
