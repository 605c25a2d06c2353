//! Whether a topic is still the one that was read, and still has the records to read next. Pure.
//!
//! Offsets have no meaning in another cluster, or in a topic that was deleted and created again under the same name.
//! Reading from an offset that no longer exists, or does not exist yet, would silently lose or repeat records.

use std::collections::BTreeMap;
use std::fmt;

use super::{LastRecord, LastRecords, Offsets, TopicState, Topics};
use crate::model::NextOffset;

/// Why the previous offsets cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The progress is from another Kafka cluster.
    Cluster {
        /// The id of the cluster that was read.
        then: String,
        /// The id of this cluster.
        now: String,
    },
    /// A partition is not the one that was read.
    Recreated {
        /// The partition's lane.
        partition: i32,
        /// The offset of a record that was read.
        offset: i64,
        /// The current content of the topic at that offset.
        found: Found,
    },
    /// Records were removed before they were read.
    Removed {
        /// The partition's lane.
        partition: i32,
        /// The next offset to read.
        next: NextOffset,
        /// The oldest offset that still exists.
        low: NextOffset,
    },
}

/// The current content of the topic at the offset of a record that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The topic has no such partition.
    NoPartition,
    /// The end of the partition, which is before the record.
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

/// Advice about a [`Mismatch`]. It depends on the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Advice for another cluster.
    pub cluster: &'static str,
    /// How to read the topic's current records, and for what purpose.
    pub reread: &'static str,
}

impl Mismatch {
    /// Returns the mismatch in words, with what to do. `place` is where the progress is kept.
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

/// Compares the cluster ids, if both are known.
///
/// # Errors
/// They differ.
pub fn same_cluster(then: Option<&String>, now: Option<&String>) -> Result<(), Mismatch> {
    match (then, now) {
        (Some(then), Some(now)) if then != now => Err(Mismatch::Cluster { then: then.clone(), now: now.clone() }),
        _ => Ok(()),
    }
}

/// Returns the offsets of last records that still exist. Their timestamps show whether the topic is the same.
///
/// # Errors
/// A partition no longer exists, or ends before its last record.
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

/// Compares last records with the timestamps at their offsets, in milliseconds by partition. An offset may have no
/// record, for example after compaction. It is then not compared.
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

/// Whether reading can continue from these offsets.
///
/// # Errors
/// A partition no longer exists, begins later, or ends earlier.
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
