//! The progress of a consumer group, as plain values. Pure.
//!
//! - this file: offsets, epochs and their names
//! - [`start`]: where the monitor resumes
//! - [`lag`]: the unread records
//! - [`checks`]: whether a topic is still the one that was read, and still has the next records
//! - [`topics`]: the topics of a run, and lanes, which number their partitions

pub mod checks;
pub mod group;
pub mod lag;
pub mod start;
pub mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{NextOffset, Timestamp};
pub use topics::Topics;

/// Next offsets by lane. With one topic, the lane is the partition.
pub type Offsets = BTreeMap<i32, NextOffset>;

/// The last record taken from a partition. It identifies the topic: another topic of the same name has another record
/// at this offset, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastRecord {
    /// The offset of the record itself.
    pub offset: i64,
    /// The record's timestamp in Kafka, milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// Last records by lane.
pub type LastRecords = BTreeMap<i32, LastRecord>;

/// The offsets and metadata that a consumer group has committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Committed {
    /// The next offset of every partition that has one.
    pub offsets: Offsets,
    /// The metadata text of the commit. Empty where the texts of the partitions differ.
    pub metadata: String,
}

impl Committed {
    /// Returns the group's commit. `None` where no partition has an offset. A topic that was not read for a while has
    /// the text of an earlier epoch and does not count.
    pub fn of(partitions: &[PartitionState]) -> Option<Self> {
        let mut offsets = Offsets::new();
        let mut metadata: Option<String> = None;
        let epochs = epochs_by_topic(partitions);
        // The id of a lineage begins with the time of its beginning.
        let newest = epochs.values().flatten().map(|epoch| (&epoch.lineage, epoch.epoch)).max();
        let is_earlier = |state: &PartitionState| {
            let epoch = epochs.get(&topics::place_of(state.partition)).and_then(Option::as_ref);
            epoch.is_some_and(|epoch| Some((&epoch.lineage, epoch.epoch)) < newest)
        };
        for state in partitions.iter().filter(|state| !is_earlier(state)) {
            if let Some((next, text)) = &state.committed {
                offsets.insert(state.partition, *next);
                // A commit of Tripline has the same text on all partitions. Any other text was set by hand.
                let first = metadata.get_or_insert_with(|| text.clone());
                if first != text {
                    first.clear();
                }
            }
        }
        metadata.map(|metadata| Self { offsets, metadata })
    }
}

/// Returns by the places of topics the epoch with which all partitions of the topic are committed. `None` where they
/// differ.
fn epochs_by_topic(partitions: &[PartitionState]) -> BTreeMap<usize, Option<EpochRef>> {
    let mut texts: BTreeMap<usize, Option<&str>> = BTreeMap::new();
    for state in partitions {
        let Some((_, text)) = &state.committed else { continue };
        let known = texts.entry(topics::place_of(state.partition)).or_insert(Some(text));
        *known = known.filter(|known| known == text);
    }
    texts.into_iter().map(|(place, text)| (place, text.and_then(EpochRef::parse))).collect()
}

/// An epoch as the metadata of the group's commit names it: `lineage:N:crc`, where `crc` is the checksum of the file
/// `offsets/N`. The commit therefore names the bytes of that file, and a folder with other bytes is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochRef {
    /// The id of the lineage.
    pub lineage: String,
    /// The number of the epoch.
    pub epoch: u64,
    /// The CRC-32 of the epoch's file.
    pub crc: u32,
}

impl EpochRef {
    /// Reads the metadata of a commit. `None` if Tripline did not write it.
    pub fn parse(metadata: &str) -> Option<Self> {
        let mut parts = metadata.split(':');
        let (lineage, epoch, crc) = (parts.next()?, parts.next()?, parts.next()?);
        // The lineage is also the name of a folder, so none of its characters may have a meaning in a path.
        let plain = lineage.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if lineage.is_empty() || !plain || parts.next().is_some() {
            return None;
        }
        Some(Self { lineage: lineage.to_owned(), epoch: epoch.parse().ok()?, crc: u32::from_str_radix(crc, 16).ok()? })
    }
}

impl fmt::Display for EpochRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{:08x}", self.lineage, self.epoch, self.crc)
    }
}

/// An epoch: a range of offsets, and the decisions in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch<B> {
    /// The number within the lineage, from 0.
    pub number: u64,
    /// The id of the lineage.
    pub lineage: String,
    /// The topics that are read, and those that were read before in this lineage.
    pub topics: Topics,
    /// The next offsets after this epoch.
    pub offsets: Offsets,
    /// The next offsets of topics that are no longer read.
    pub kept: Offsets,
    /// The last records taken. Empty in an epoch of format 1.
    pub last_records: LastRecords,
    /// NOW() when the epoch was closed.
    pub at: Timestamp,
    /// The settings of the decisions. For the monitor: each rule's name → version and keys.
    pub conf: BTreeMap<String, String>,
    /// The decisions. The type depends on the job.
    pub body: B,
}

/// The progress of a group. It is a record of the recovery topic, with the group's id as the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ProgressRecord", into = "ProgressRecord")]
pub struct Progress {
    /// The consumer group.
    pub group: String,
    /// The newest epoch as the metadata of the group's commit names it: [`EpochRef`] as text.
    pub name: String,
    /// The topics that are read, and those that were read before in this lineage.
    pub topics: Topics,
    /// The id of the Kafka cluster, if the broker reports one.
    pub cluster: Option<String>,
    /// The next offsets.
    pub offsets: Offsets,
    /// The next offsets of topics that are no longer read.
    pub kept: Offsets,
    /// The last record taken from each lane.
    pub last_records: LastRecords,
    /// NOW() when this was written.
    pub at: Timestamp,
}

/// The written form of [`Progress`]. With one topic it is by partition.
#[derive(Serialize, Deserialize)]
struct ProgressRecord {
    group: String,
    name: String,
    topic: String,
    cluster: Option<String>,
    offsets: Offsets,
    #[serde(rename = "marks")]
    last_records: LastRecords,
    at: Timestamp,
    /// All topics in the order of their places. Empty if there is only one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    topics: Vec<String>,
    /// The topics among them that are read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    read: Vec<String>,
    #[serde(default, skip_serializing_if = "Offsets::is_empty")]
    kept: Offsets,
}

impl From<Progress> for ProgressRecord {
    fn from(progress: Progress) -> Self {
        let Progress { group, name, topics, cluster, offsets, kept, last_records, at } = progress;
        let several = topics.are_several();
        Self {
            group,
            name,
            topic: topics.text(),
            cluster,
            offsets,
            last_records,
            at,
            topics: if several { topics.names().to_vec() } else { Vec::new() },
            read: if several { topics.read().map(|(_, name)| name.to_owned()).collect() } else { Vec::new() },
            kept,
        }
    }
}

impl From<ProgressRecord> for Progress {
    fn from(record: ProgressRecord) -> Self {
        let ProgressRecord { group, name, topic, cluster, offsets, last_records, at, topics, read, kept } = record;
        let topics = if topics.is_empty() { Topics::from(topic.as_str()) } else { Topics::new(topics).reading(&read) };
        Self { group, name, topics, cluster, offsets, kept, last_records, at }
    }
}

impl Progress {
    /// Returns the progress in the form of a group's commit.
    pub fn committed(&self) -> Committed {
        Committed { offsets: self.offsets.clone(), metadata: self.name.clone() }
    }

    /// Returns the progress by the lanes of these topics. Other topics are left out.
    #[must_use]
    pub fn in_lanes_of(self, topics: &Topics) -> Self {
        if self.topics == *topics {
            return self;
        }
        let read: Vec<String> = self.topics.read().map(|(_, name)| name.to_owned()).collect();
        Self {
            offsets: topics.of(&self.topics, &self.offsets),
            kept: topics.of(&self.topics, &self.kept),
            last_records: topics.of(&self.topics, &self.last_records),
            topics: topics.reading(&read),
            ..self
        }
    }

    /// Returns the newest epoch.
    pub fn epoch(&self) -> Option<EpochRef> {
        EpochRef::parse(&self.name)
    }
}

/// Where a group without progress starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At the first record that the topic still has.
    Earliest,
    /// At the end.
    Latest,
    /// At the first record that is not older than this.
    Time(Timestamp),
}

impl<'de> Deserialize<'de> for StartAt {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            other => Timestamp::parse(other).map(Self::Time).ok_or_else(|| {
                serde::de::Error::custom(format!(
                    "unknown value `{other}`, expected `earliest`, `latest` or an instant such as 2026-11-22T10:00:00Z"
                ))
            }),
        }
    }
}

impl fmt::Display for StartAt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => out.write_str("earliest"),
            Self::Latest => out.write_str("latest"),
            Self::Time(at) => write!(out, "{at}"),
        }
    }
}

/// A partition of a topic, with facts of the broker and the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// The number of the partition. In a state of several topics it is the lane.
    pub partition: i32,
    /// The group's committed offset, with the metadata text.
    pub committed: Option<(NextOffset, String)>,
    /// The oldest offset that can still be read.
    pub low: NextOffset,
    /// The end of the partition when the broker was asked.
    pub high: NextOffset,
}

/// A topic, or all topics of a run, with facts of the broker and the group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicState {
    /// The id of the cluster, if the broker reports one.
    pub cluster: Option<String>,
    /// Every partition.
    pub partitions: Vec<PartitionState>,
}

impl TopicState {
    /// The oldest offsets that can still be read.
    pub fn lows(&self) -> Offsets {
        self.partitions.iter().map(|state| (state.partition, state.low)).collect()
    }

    /// The ends of the partitions.
    pub fn ends(&self) -> Offsets {
        self.partitions.iter().map(|state| (state.partition, state.high)).collect()
    }

    /// The partition of this number.
    pub fn partition(&self, partition: i32) -> Option<&PartitionState> {
        self.partitions.iter().find(|state| state.partition == partition)
    }

    /// Whether a group with these committed offsets has committed those of an epoch. Partitions that no longer exist do
    /// not count, since Kafka forgets their offsets.
    pub fn are_committed(&self, epoch: &Offsets, committed: &Offsets) -> bool {
        let is_there = |(partition, _): &(&i32, &NextOffset)| self.partition(**partition).is_some();
        epoch.iter().filter(is_there).eq(committed.iter().filter(is_there))
    }

    /// Whether one of the topics has several partitions.
    pub fn has_topic_of_several(&self) -> bool {
        let places: BTreeSet<usize> = self.partitions.iter().map(|state| topics::place_of(state.partition)).collect();
        places.len() < self.partitions.len()
    }

    /// Returns the places of the topics of which these offsets have no partition.
    pub fn topics_beside(&self, offsets: &Offsets) -> BTreeSet<usize> {
        let known: BTreeSet<usize> = offsets.keys().map(|lane| topics::place_of(*lane)).collect();
        self.partitions.iter().map(|state| topics::place_of(state.partition)).filter(|p| !known.contains(p)).collect()
    }

    /// Adds the beginning of every partition that these offsets lack. Such a partition is new in the topic.
    pub fn with_new_partitions(&self, mut offsets: Offsets) -> Offsets {
        for state in &self.partitions {
            offsets.entry(state.partition).or_insert(state.low);
        }
        offsets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_reads_back() {
        let named = EpochRef { lineage: "018f-a".into(), epoch: 7, crc: 0xabc };
        let text = named.to_string();
        assert_eq!(text, "018f-a:7:00000abc");
        assert_eq!(EpochRef::parse(&text), Some(named));
        for other in ["../a:7:0000000c", "", "a", "a:7", ":7:0000000c", "a:-1:0000000c", "a:7:xyz", "a:7:0000000c:1"] {
            assert_eq!(EpochRef::parse(other), None, "{other}");
        }
    }

    #[test]
    fn one_partition_moved_is_the_group_moved() {
        let state = |partition, next, text: &str| PartitionState {
            partition,
            committed: Some((NextOffset(next), text.to_owned())),
            low: NextOffset(0),
            high: NextOffset(100),
        };
        let moved = Committed::of(&[state(0, 70, "a:7:0000abcd"), state(1, 5, "")]);
        let offsets = Offsets::from([(0, NextOffset(70)), (1, NextOffset(5))]);
        assert_eq!(moved, Some(Committed { offsets, metadata: String::new() }));
        assert_eq!(Committed::of(&[]), None);
    }

    #[test]
    fn a_topic_that_was_not_read_for_a_while_does_not_count() {
        let state = |place, next, text: &str| PartitionState {
            partition: topics::lane(place, 0).unwrap(),
            committed: Some((NextOffset(next), text.to_owned())),
            low: NextOffset(0),
            high: NextOffset(100),
        };
        let of = |states: &[PartitionState]| Committed::of(states).map(|found| (found.offsets.len(), found.metadata));
        let (now, earlier) = ("a:7:0000abcd", "a:3:00001234");
        let check = |first: &str, second: &str, want: (usize, &str)| {
            let found = of(&[state(0, 70, first), state(1, 5, second)]);
            assert_eq!(found, Some((want.0, want.1.to_owned())), "{first:?} {second:?}");
        };
        check(now, now, (2, now));
        check(now, earlier, (1, now));
        check(earlier, now, (1, now));
        check("b:1:0000abcd", now, (1, "b:1:0000abcd"));
        check(now, "", (2, ""));
        // One of a topic's partitions was moved manually.
        let mut other = state(0, 3, earlier);
        other.partition = 1;
        assert_eq!(of(&[state(0, 70, now), other]), Some((2, String::new())));
    }
}
