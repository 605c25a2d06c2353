//! Whether a topic still is the one that was read, and still holds what is to be read next. Pure.
//!
//! Offsets mean nothing in another cluster, or in a topic that was deleted and made again under the same name. Reading
//! on from an offset that is gone, or not there yet, would lose or repeat records without a sign.

use std::collections::BTreeMap;
use std::fmt;

use super::{LastRecord, LastRecords, Offsets, TopicState, Topics};
use crate::model::NextOffset;

/// Why the offsets of before cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// Progress is of another Kafka cluster.
    Cluster {
        /// Id of the cluster that was read.
        then: String,
        /// Id of this cluster.
        now: String,
    },
    /// A partition is not the one that was read.
    Recreated {
        /// The partition's lane.
        partition: i32,
        /// A record at this offset was read.
        offset: i64,
        /// What is there instead.
        found: Found,
    },
    /// Records were removed before they were read.
    Removed {
        /// The partition's lane.
        partition: i32,
        /// The next offset to read.
        next: NextOffset,
        /// The oldest offset that is still there.
        low: NextOffset,
    },
}

/// What is there instead of a record that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The topic has no such partition.
    NoPartition,
    /// The partition ends before it.
    End(NextOffset),
    /// A record with another timestamp.
    OtherRecord,
}

impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPartition => out.write_str("there is no such partition"),
            Self::End(end) => write!(out, "the partition ends at offset {}", end.0),
            Self::OtherRecord => out.write_str("another record is there"),
        }
    }
}

/// What to do about a [`Mismatch`], which depends on the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// In another cluster.
    pub cluster: &'static str,
    /// To read what the topic holds now, and what for.
    pub reread: &'static str,
}

impl Mismatch {
    /// In words, with what to do. `place` is where the progress is kept.
    pub fn text(&self, topics: &Topics, place: &str, advice: Advice) -> String {
        let at = |lane: &i32| topics.place_text(*lane);
        match self {
            Self::Cluster { then, now } => {
                format!("{place} holds progress in Kafka cluster {then}, and this is cluster {now}: {}", advice.cluster)
            }
            Self::Recreated { partition, offset, found } => format!(
                "{} is not the one that was read: offset {offset} was read, and {found}; the topic was truncated, or deleted and created again; {}",
                at(partition),
                advice.reread
            ),
            Self::Removed { partition, next, low } => format!(
                "{}: offsets {} to {} were removed by retention before they were read, and it begins at {} now; {}",
                at(partition),
                next.0,
                low.0 - 1,
                low.0,
                advice.reread
            ),
        }
    }
}

/// Compares cluster ids, where both are known.
///
/// # Errors
/// They differ.
pub fn same_cluster(then: Option<&String>, now: Option<&String>) -> Result<(), Mismatch> {
    match (then, now) {
        (Some(then), Some(now)) if then != now => Err(Mismatch::Cluster { then: then.clone(), now: now.clone() }),
        _ => Ok(()),
    }
}

/// The offsets of last records that are still in the topic: their timestamps tell whether it is the same topic.
///
/// # Errors
/// A partition is gone, or ends before its last record.
pub fn to_compare(last_records: &LastRecords, topic: &TopicState) -> Result<BTreeMap<i32, i64>, Mismatch> {
    let mut compared = BTreeMap::new();
    for (&partition, &LastRecord { offset, .. }) in last_records {
        let recreated = |found| Mismatch::Recreated { partition, offset, found };
        let state = topic.partition(partition).ok_or_else(|| recreated(Found::NoPartition))?;
        if offset >= state.high.0 {
            return Err(recreated(Found::End(state.high)));
        }
        if offset >= state.low.0 {
            compared.insert(partition, offset);
        }
    }
    Ok(compared)
}

/// Compares last records with the timestamps found at their offsets, in milliseconds by partition. An offset without a
/// record, as after compaction, says nothing.
///
/// # Errors
/// A record has another timestamp.
pub fn same_records(last_records: &LastRecords, timestamps: &BTreeMap<i32, i64>) -> Result<(), Mismatch> {
    let differs = |(partition, found): (&i32, &i64)| {
        let LastRecord { offset, timestamp_ms } = *last_records.get(partition)?;
        (timestamp_ms != *found).then_some((*partition, offset))
    };
    match timestamps.iter().find_map(differs) {
        Some((partition, offset)) => Err(Mismatch::Recreated { partition, offset, found: Found::OtherRecord }),
        None => Ok(()),
    }
}

/// Whether reading can go on from these offsets.
///
/// # Errors
/// A partition is gone, begins later, or ends before.
pub fn readable(from: &Offsets, topic: &TopicState) -> Result<(), Mismatch> {
    for (&partition, &next) in from {
        let recreated = |found| Mismatch::Recreated { partition, offset: next.0.saturating_sub(1), found };
        let state = topic.partition(partition).ok_or_else(|| recreated(Found::NoPartition))?;
        if next < state.low {
            return Err(Mismatch::Removed { partition, next, low: state.low });
        }
        if next > state.high {
            return Err(recreated(Found::End(state.high)));
        }
    }
    Ok(())
}
