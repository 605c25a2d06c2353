//! How far a consumer group has come, as plain values. Pure.
//!
//! - this file: offsets, epochs and their names
//! - [`start`]: where the monitor goes on from
//! - [`lag`]: what is left to read
//! - [`checks`]: whether a topic still is the one that was read, and still holds what comes next

pub mod checks;
pub mod group;
pub mod lag;
pub mod start;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{NextOffset, Timestamp};

/// Next offsets by partition.
pub type Offsets = BTreeMap<i32, NextOffset>;

/// The last record taken from a partition. It identifies the topic: another topic of the same name has another record
/// at this offset, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastRecord {
    /// Offset of the record itself.
    pub offset: i64,
    /// The record's timestamp in Kafka, milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// Last records by partition.
pub type LastRecords = BTreeMap<i32, LastRecord>;

/// What a consumer group has committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Committed {
    /// Next offset of every partition that has one.
    pub offsets: Offsets,
    /// The metadata text of the commit; empty where the partitions do not agree.
    pub metadata: String,
}

impl Committed {
    /// What the group committed; `None` where no partition has an offset.
    pub fn of(partitions: &[PartitionState]) -> Option<Self> {
        let mut offsets = Offsets::new();
        let mut metadata: Option<String> = None;
        for state in partitions {
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

/// An epoch as the metadata of the group's commit names it: `lineage:N:crc`, where `crc` is the checksum of the file
/// `offsets/N`. The commit therefore names the bytes of that file, and a folder with other bytes is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochRef {
    /// Id of the lineage.
    pub lineage: String,
    /// Number of the epoch.
    pub epoch: u64,
    /// CRC-32 of the epoch's file.
    pub crc: u32,
}

impl EpochRef {
    /// Reads the metadata of a commit; `None` when Tripline did not write it.
    pub fn parse(metadata: &str) -> Option<Self> {
        let mut parts = metadata.split(':');
        let (lineage, epoch, crc) = (parts.next()?, parts.next()?, parts.next()?);
        // The lineage is also the name of a folder: no character of it may have a meaning in a path.
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

/// One epoch: a range of offsets, and what was decided in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch<B> {
    /// Counted from 0 in a lineage.
    pub number: u64,
    /// Id of the lineage.
    pub lineage: String,
    /// The topic read.
    pub topic: String,
    /// Next offsets after this epoch.
    pub offsets: Offsets,
    /// The last records taken; empty in an epoch of format 1.
    pub last_records: LastRecords,
    /// NOW() when it was closed.
    pub at: Timestamp,
    /// The settings that it was decided by: for the monitor, each rule's name → version and keys.
    pub conf: BTreeMap<String, String>,
    /// What was decided; its type depends on the job.
    pub body: B,
}

/// How far a group has come; a record of the recovery topic, whose key is the group's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Consumer group.
    pub group: String,
    /// The newest epoch as the metadata of the group's commit names it: [`EpochRef`] as text.
    pub name: String,
    /// The topic read.
    pub topic: String,
    /// Id of the Kafka cluster, where the broker reports one.
    pub cluster: Option<String>,
    /// Next offsets.
    pub offsets: Offsets,
    /// The last record taken from each partition.
    #[serde(rename = "marks")]
    pub last_records: LastRecords,
    /// NOW() when this was written.
    pub at: Timestamp,
}

impl Progress {
    /// As the group's own offsets would say it.
    pub fn committed(&self) -> Committed {
        Committed { offsets: self.offsets.clone(), metadata: self.name.clone() }
    }

    /// The newest epoch.
    pub fn epoch(&self) -> Option<EpochRef> {
        EpochRef::parse(&self.name)
    }
}

/// Where a group starts that has no progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At the first record that the topic still has.
    Earliest,
    /// At the end.
    Latest,
    /// At the first record that is not older.
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

/// One partition of a topic, as the broker and the group know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// Its number.
    pub partition: i32,
    /// What the group committed, with the metadata text.
    pub committed: Option<(NextOffset, String)>,
    /// The oldest offset that can still be read.
    pub low: NextOffset,
    /// The end of the partition when the broker was asked.
    pub high: NextOffset,
}

/// A topic, as the broker and the group know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicState {
    /// Id of the cluster, where the broker reports one.
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

    /// Whether a group that has committed these offsets has committed those of an epoch. Kafka forgets the offsets of
    /// partitions that the topic no longer has.
    pub fn are_committed(&self, epoch: &Offsets, committed: &Offsets) -> bool {
        let kept = epoch.iter().filter(|(partition, _)| self.partition(**partition).is_some());
        kept.eq(committed)
    }

    /// These offsets, and the beginning of every partition that they do not have: it is new to the topic.
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
}
