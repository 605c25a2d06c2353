//! Records of a topic as a source hands them over: where each stands, and what it turned out to be. Pure.

use super::{Change, Reject, RejectKind};
use crate::model::{Key, Position, Timestamp};
use crate::progress::LastRecords;

/// A record as it is in a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicRecord {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its timestamp in Kafka.
    pub at: Option<Timestamp>,
}

/// Records of a batch at most: small enough that the loop looks up often, large enough to be cheap. A full
/// batch means that there is more to read right now.
pub const BATCH_RECORDS_MAX: usize = 2_048;

/// Bytes of a batch, after which it is full as well: several batches wait for the loop, whatever the size of a record.
pub const BATCH_BYTES_MAX: usize = 8 << 20;

/// The records of one poll.
#[derive(Debug)]
pub struct Batch<T = Change> {
    /// In the order of each partition's offsets.
    pub records: Vec<SourceRecord<T>>,
    /// Partitions whose end was reached after these records.
    pub ended: Vec<i32>,
    /// The last record of each partition in the batch.
    pub last_records: LastRecords,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { records: Vec::new(), ended: Vec::new(), last_records: LastRecords::default() }
    }
}

/// One record of the topic.
#[derive(Debug)]
pub struct SourceRecord<T = Change> {
    /// Where it stands.
    pub position: Position,
    /// Its timestamp in Kafka, milliseconds since 1970; -1 where it has none.
    pub timestamp_ms: i64,
    /// What it turned out to be.
    pub content: Content<T>,
}

/// What a record turned out to be.
#[derive(Clone, Debug)]
pub enum Content<T = Change> {
    /// A change of a row.
    Change(T),
    /// Nothing to do, by its nature.
    Ignored(&'static str),
    /// A change that does not say all of its row: what it says, and all of it for the dead-letter topic.
    Partial(T, Box<DeadLetter>),
    /// Invalid: all of it, for the dead-letter topic.
    Rejected(Box<DeadLetter>),
}

/// An invalid record that stops the run: `source.on_bad_record = "stop"`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{topic} partition {} offset {}: {reason}; source.on_bad_record = \"stop\", so the run stops before this record",
    position.partition,
    position.offset
)]
pub struct BadRecord {
    /// Topic.
    pub topic: String,
    /// Where it stands.
    pub position: Position,
    /// Why it is invalid.
    pub reason: String,
}

/// An invalid record, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it stood.
    pub position: Position,
    /// Why.
    pub reject: Reject,
    /// The primary key of the row that it is about, where the record's key tells.
    pub row: Option<Key>,
    /// The record's key, as it was.
    pub key: Option<Vec<u8>>,
    /// The record's value, as it was.
    pub value: Option<Vec<u8>>,
    /// The record's headers, as they were.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Which rows an invalid record may be about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// The one of this primary key.
    Row(Key),
    /// Any one.
    AnyRow,
    /// None of this table's.
    AnotherTable,
}

impl DeadLetter {
    /// Which rows it may be about.
    pub fn about(&self) -> About {
        match &self.row {
            Some(row) => About::Row(row.clone()),
            None if self.reject.kind == RejectKind::Table => About::AnotherTable,
            None => About::AnyRow,
        }
    }

    /// The memory that it takes, about.
    pub fn bytes(&self) -> usize {
        let texts = [&self.key, &self.value].into_iter().chain(self.headers.iter().map(|(_, value)| value));
        let names: usize = self.headers.iter().map(|(name, _)| name.len()).sum();
        size_of::<Self>() + names + self.reject.detail.len() + texts.flatten().map(Vec::len).sum::<usize>()
    }
}
