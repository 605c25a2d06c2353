//! The numbers of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value as Json;
use uuid::Uuid;

use super::histogram::Histogram;
use crate::model::Timestamp;
use crate::progress::topics::partition_of;
use crate::progress::{LastRecords, Offsets, Progress, Topics};
use crate::unit::audit::AuditStatus;
use crate::unit::events::{RuleCounts, UnitEvents};

/// The phase of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Waits until the group assigns the partitions.
    #[default]
    Joining,
    /// Determines where to continue.
    Recovering,
    /// Reads again the records that the windows lack.
    Rebuilding,
    /// Reads and evaluates.
    Working,
    /// The run has ended.
    Ended,
}

/// Why reading pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Too many candidates wait.
    Candidates,
    /// `limits.max_rows`
    Rows,
    /// `limits.max_rss_mb`
    Memory,
}

impl Pause {
    /// All reasons.
    pub const ALL: [Self; 3] = [Self::Candidates, Self::Rows, Self::Memory];

    /// The reason in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Candidates => "so many candidates wait for Postgres",
            Self::Rows => "limits.max_rows is reached",
            Self::Memory => "limits.max_rss_mb is reached",
        }
    }
}

/// The numbers of a run. Counts belong to this process and never decrease.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StatusSnapshot {
    /// The phase of the run.
    pub phase: Phase,
    /// Consumer group.
    pub group: String,
    /// Topics of the changes, separated by commas.
    pub topic: String,
    /// The topics, with the places by which the partitions' lanes are counted.
    #[serde(skip)]
    pub topics: Option<Topics>,
    /// The time since the start of the process.
    #[serde(serialize_with = "millis")]
    pub uptime: Duration,
    /// Records read for the first time.
    pub read: u64,
    /// Records read again to rebuild windows.
    pub replayed: u64,
    /// Invalid records, by the kind of reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// The rules.
    pub rules: Vec<RuleStatus>,
    /// The partitions by their lanes. In JSON the key is the partition's number. With several topics, the topic and a
    /// slash precede it.
    #[serde(serialize_with = "partitions")]
    pub partitions: BTreeMap<i32, PartitionStatus>,
    /// The age in milliseconds of the last record that was taken, if there are unread records.
    pub lag_millis: Option<i64>,
    /// The number of rows in memory.
    pub rows: usize,
    /// The number of groups in memory.
    pub keys: usize,
    /// The number of candidates that wait for an answer.
    pub waiting: usize,
    /// The status of the audit.
    pub audit: AuditStatus,
    /// Resident memory in MiB.
    pub resident_mb: Option<usize>,
    /// The newest epoch.
    pub epoch: Option<ClosedEpoch>,
    /// The time since an epoch was closed in this process.
    #[serde(serialize_with = "millis_if")]
    pub checkpoint_age: Option<Duration>,
    /// The time from a change's commit to the decision that it caused.
    pub delays: Histogram,
    /// Durations of statements.
    pub statements: Histogram,
    /// Why Postgres did not answer the last statement, if it did not.
    pub postgres: Option<String>,
    /// Whether no broker of Kafka answers, by its client's last report.
    pub cut_off: bool,
    /// Why reading pauses, if it does.
    #[serde(serialize_with = "pause")]
    pub paused: Option<Pause>,
    /// Why there is no progress, and for how long, if there should be.
    #[serde(serialize_with = "stall")]
    pub stalled: Option<(&'static str, Duration)>,
    /// The groups nearest to their threshold, or furthest over it, while the status has viewers.
    pub top: Vec<TopKey>,
    /// The number of listings of the open episodes. Another number means another list.
    pub open_lists: u64,
}

/// A rule and its counts.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RuleStatus {
    /// The name.
    pub name: String,
    /// The version.
    pub version: String,
    /// The severity.
    pub severity: String,
    /// The columns of the key.
    pub key: Vec<String>,
    /// HAVING.
    pub having: String,
    /// The operator of HAVING.
    pub comparison: &'static str,
    /// The right side of HAVING.
    pub threshold: String,
    /// The query.
    pub sql: String,
    /// Whether Postgres confirms.
    pub confirmed_by_postgres: bool,
    /// Whether NOW() is the event time.
    pub event_time: bool,
    /// Open episodes.
    pub open: usize,
    /// Firing alerts that were delivered.
    pub fired: u64,
    /// Resolved alerts that were delivered.
    pub resolved: u64,
    /// Candidates and answers.
    pub counts: RuleCounts,
}

/// The state of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartitionStatus {
    /// The topic. `None` if there is only one.
    #[serde(skip)]
    pub topic: Option<String>,
    /// The number of the partition.
    #[serde(skip)]
    pub number: i32,
    /// The next offset to be read.
    pub next: i64,
    /// The end, by the last report.
    pub end: Option<i64>,
    /// The next offset in the newest `offsets/N`.
    pub logged: Option<i64>,
    /// The group's committed offset.
    pub committed: Option<i64>,
}

/// The newest epoch, which both the folder and the group have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClosedEpoch {
    /// The number.
    pub number: u64,
    /// The lineage.
    pub lineage: String,
    /// The metadata with which the group's offsets are committed: `lineage:N:crc`.
    pub name: String,
    /// NOW() when the epoch was closed.
    pub at: Timestamp,
}

/// A group near its threshold, or over it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopKey {
    /// Name of the rule.
    pub rule: String,
    /// The key's columns.
    pub key: Json,
    /// The key as text.
    pub label: String,
    /// The aggregate that HAVING compares, in memory.
    pub total: String,
    /// The value with which the aggregate is compared.
    pub threshold: String,
    /// Whether HAVING holds in memory.
    pub over: bool,
    /// The number of rows in the window.
    pub rows: u64,
}

/// An open episode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenEpisode {
    /// Name of the rule.
    pub rule: String,
    /// The rule's severity.
    pub severity: String,
    /// The key's columns.
    pub key: Json,
    /// The key as text.
    pub label: String,
    /// When it was decided that it fires.
    pub since: Timestamp,
    /// Id of the alert that opened it.
    pub alert: Uuid,
    /// The message of that alert. `None` where an earlier process delivered it.
    pub message: Option<String>,
}

impl PartitionStatus {
    /// The number of unread records, counted by their offsets.
    pub fn lag(&self) -> u64 {
        self.end.and_then(|end| u64::try_from(end.saturating_sub(self.next)).ok()).unwrap_or(0)
    }
}

impl StatusSnapshot {
    /// The number of unread records in all partitions, counted by their offsets.
    pub fn lag_records(&self) -> u64 {
        self.partitions.values().map(PartitionStatus::lag).sum()
    }

    pub(super) fn count(&mut self, events: &UnitEvents) {
        for (rule, counts) in self.rules.iter_mut().zip(&events.rules) {
            rule.counts.candidates += counts.candidates;
            rule.counts.confirmed += counts.confirmed;
            rule.counts.refuted += counts.refuted;
            rule.counts.undecided += counts.undecided;
            rule.counts.failed += counts.failed;
        }
        events.delays.iter().for_each(|micros| self.delays.observe(*micros));
    }

    /// Stores offsets. Returns whether any has moved.
    pub(super) fn place(
        &mut self,
        offsets: &Offsets,
        last_records: &LastRecords,
        ends: Option<&Offsets>,
        now: Timestamp,
    ) -> bool {
        let mut moved = self.partitions.len() != offsets.len();
        self.partitions.retain(|partition, _| offsets.contains_key(partition));
        let mut oldest = None;
        for (number, next) in offsets {
            let partition = self.partitions.entry(*number).or_insert_with(|| named(&self.topics, *number));
            moved |= std::mem::replace(&mut partition.next, next.0) != next.0;
            if let Some(ends) = ends {
                partition.end = ends.get(number).map(|end| end.0);
            }
            // Records that were read existed, even if the last report of the end is older.
            partition.end = partition.end.map(|end| end.max(next.0));
            if partition.lag() > 0 {
                let written = last_records.get(number).map(|mark| mark.timestamp_ms).filter(|millis| *millis >= 0);
                oldest = [oldest, written].into_iter().flatten().min();
            }
        }
        self.lag_millis = oldest.map(|written| now.millis().saturating_sub(written).max(0));
        moved
    }

    pub(super) fn closed(&mut self, progress: &Progress) {
        for (number, next) in &progress.offsets {
            let partition = self.partitions.entry(*number).or_insert_with(|| named(&self.topics, *number));
            (partition.logged, partition.committed) = (Some(next.0), Some(next.0));
            partition.next = partition.next.max(next.0);
        }
        self.epoch = progress.epoch().map(|named| ClosedEpoch {
            number: named.epoch,
            lineage: named.lineage,
            name: progress.name.clone(),
            at: progress.at,
        });
    }
}

/// Returns a partition of which only the place is known.
fn named(topics: &Option<Topics>, lane: i32) -> PartitionStatus {
    let topic = topics.as_ref().filter(|topics| topics.are_several()).map(|topics| topics.name(lane).to_owned());
    PartitionStatus { topic, number: partition_of(lane), ..PartitionStatus::default() }
}

fn partitions<S: Serializer>(lanes: &BTreeMap<i32, PartitionStatus>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(lanes.values().map(|partition| {
        let number = partition.number;
        (partition.topic.as_ref().map_or(number.to_string(), |topic| format!("{topic}/{number}")), partition)
    }))
}

fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn millis_if<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => millis(duration, serializer),
        None => serializer.serialize_none(),
    }
}

fn pause<S: Serializer>(pause: &Option<Pause>, serializer: S) -> Result<S::Ok, S::Error> {
    match pause {
        Some(why) => serializer.serialize_some(why.as_str()),
        None => serializer.serialize_none(),
    }
}

fn stall<S: Serializer>(stall: &Option<(&str, Duration)>, serializer: S) -> Result<S::Ok, S::Error> {
    match stall {
        Some((why, _)) => serializer.serialize_some(why),
        None => serializer.serialize_none(),
    }
}
