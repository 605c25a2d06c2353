//! Records of a topic as a source hands them over: where each stands, and what it turned out to be. Pure.

use super::{Change, Reject};
use crate::model::{Key, Position, Timestamp};
use crate::progress::{LastRecords, Offsets};

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
    /// Its headers that name a schema of a registry.
    pub schema_headers: Vec<(String, Vec<u8>)>,
}

/// Records of a batch at most: small enough that the loop looks up often, large enough to be cheap. A full
/// batch means that there is more to read right now.
pub const BATCH_RECORDS_MAX: usize = 2_048;

/// Bytes of a batch, after which it is full as well: several batches wait for the loop, whatever the size of a record.
pub const BATCH_BYTES_MAX: usize = 8 << 20;

/// Bytes of records that were decoded and wait for the loop, above which no more are read: a record may have megabytes.
pub const BYTES_AHEAD_MAX: usize = 4 * BATCH_BYTES_MAX;

/// How much of an invalid record is kept for its dead letter, in bytes.
pub const LETTER_KEY_MAX: usize = 64 * 1024;
/// The same of its value.
pub const LETTER_VALUE_MAX: usize = 768 * 1024;
/// The same of its headers, which are kept whole or not at all.
pub const LETTER_HEADERS_MAX: usize = 64 * 1024;

/// The records of one poll.
#[derive(Debug)]
pub struct Batch<T = Change> {
    /// In the order of each partition's offsets.
    pub records: Vec<SourceRecord<T>>,
    /// Partitions whose end was reached after these records.
    pub ended: Vec<i32>,
    /// The last record of each partition in the batch.
    pub last_records: LastRecords,
    /// By partition, everything before this has come with this batch or before; where that is news. The last offsets may
    /// hold no record.
    pub delivered: Option<Offsets>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { records: Vec::new(), ended: Vec::new(), last_records: LastRecords::default(), delivered: None }
    }
}

impl<T> Batch<T> {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.ended.is_empty() && self.delivered.is_none()
    }
}

/// One record of the topic.
#[derive(Debug)]
pub struct SourceRecord<T = Change> {
    /// Where it stands; its partition is a lane.
    pub position: Position,
    /// The place of its table among those whose changes are read.
    pub table: usize,
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
    /// The primary key of the row that it is about, where the record's key says.
    pub row: Option<Key>,
    /// The record's key, as much of it as is kept.
    pub key: Option<Vec<u8>>,
    /// The record's value, as much of it as is kept.
    pub value: Option<Vec<u8>>,
    /// The record's headers, those that are kept.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// What the record was before it was cut.
    pub whole: Whole,
}

/// The size of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    /// Bytes of its key.
    pub key: usize,
    /// Bytes of its value.
    pub value: usize,
    /// How many headers it has.
    pub headers: usize,
}

/// What a header takes in a record, about.
pub fn header_bytes(name: &str, value: Option<&[u8]>) -> usize {
    const BESIDE: usize = 16;
    name.len() + value.map_or(0, <[u8]>::len) + BESIDE
}

/// Which rows an invalid record may be about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// The one of this primary key.
    Row(Key),
    /// Any one.
    AnyRow,
    /// None: it is of another table or database.
    AnotherTable,
}

impl DeadLetter {
    /// The same, about the row of this primary key.
    #[must_use]
    pub fn about_row(self, row: Option<Key>) -> Self {
        Self { row, ..self }
    }

    /// Which rows it may be about.
    pub fn about(&self) -> About {
        match &self.row {
            Some(row) => About::Row(row.clone()),
            None if self.reject.kind.is_elsewhere() => About::AnotherTable,
            None => About::AnyRow,
        }
    }

    /// Keeps as much of a record as a dead letter may have: the rest of it would only take memory.
    pub fn new<'a>(
        position: Position,
        reject: Reject,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Self {
        let cut = |bytes: &[u8], max: usize| bytes.get(..max).unwrap_or(bytes).to_vec();
        let (mut kept, mut count, mut left) = (Vec::new(), 0, LETTER_HEADERS_MAX);
        for (name, value) in headers {
            count += 1;
            if let Some(rest) = left.checked_sub(header_bytes(name, value)) {
                left = rest;
                kept.push((name.to_owned(), value.map(<[u8]>::to_vec)));
            }
        }
        Self {
            position,
            reject,
            row: None,
            key: key.map(|key| cut(key, LETTER_KEY_MAX)),
            value: value.map(|value| cut(value, LETTER_VALUE_MAX)),
            headers: kept,
            whole: Whole { key: key.map_or(0, <[u8]>::len), value: value.map_or(0, <[u8]>::len), headers: count },
        }
    }

    /// The memory that it takes, about.
    pub fn bytes(&self) -> usize {
        let texts = [&self.key, &self.value].into_iter().chain(self.headers.iter().map(|(_, value)| value));
        let names: usize = self.headers.iter().map(|(name, _)| name.len()).sum();
        size_of::<Self>() + names + self.reject.detail.len() + texts.flatten().map(Vec::len).sum::<usize>()
    }
}
