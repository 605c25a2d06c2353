//! The records of a topic as a source delivers them, each with its position and content. Pure.

use super::{Change, Reject};
use crate::model::{Key, Position, Timestamp};
use crate::progress::{LastRecords, Offsets};

/// A record as it is in a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicRecord {
    /// The partition of the record.
    pub partition: i32,
    /// The offset of the record.
    pub offset: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The timestamp in Kafka.
    pub at: Option<Timestamp>,
    /// The headers that name a schema of a registry.
    pub schema_headers: Vec<(String, Vec<u8>)>,
}

/// The greatest number of records in a batch. It is small enough for frequent turns of the loop, and large enough to be
/// cheap. A full batch means that there is more to read.
pub const BATCH_RECORDS_MAX: usize = 2_048;

/// The bytes at which a batch is also full. Several batches wait for the loop, and records may be large.
pub const BATCH_BYTES_MAX: usize = 8 << 20;

/// The bytes of decoded records waiting for the loop at which reading stops. A record may have megabytes.
pub const BYTES_AHEAD_MAX: usize = 4 * BATCH_BYTES_MAX;

/// The greatest number of bytes of an invalid record's key in its dead letter.
pub const LETTER_KEY_MAX: usize = 64 * 1024;
/// The greatest number of bytes of the value.
pub const LETTER_VALUE_MAX: usize = 768 * 1024;
/// The greatest number of bytes of the headers. A header is kept as a whole or not at all.
pub const LETTER_HEADERS_MAX: usize = 64 * 1024;

/// The records of one poll.
#[derive(Debug)]
pub struct Batch<T = Change> {
    /// The records, in the order of each partition's offsets.
    pub records: Vec<SourceRecord<T>>,
    /// The partitions whose end was reached after these records.
    pub ended: Vec<i32>,
    /// The last record of each partition in the batch.
    pub last_records: LastRecords,
    /// By partition, the offset before which everything has been delivered with this batch. It is set where it has
    /// changed. The last offsets may have no record.
    pub delivered: Option<Offsets>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { records: Vec::new(), ended: Vec::new(), last_records: LastRecords::default(), delivered: None }
    }
}

impl<T> Batch<T> {
    /// Whether the batch has no content.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.ended.is_empty() && self.delivered.is_none()
    }
}

/// One record of the topic.
#[derive(Debug)]
pub struct SourceRecord<T = Change> {
    /// The position of the record. The partition is a lane.
    pub position: Position,
    /// The place of the record's table among the tables whose changes are read.
    pub table: usize,
    /// The timestamp in Kafka in milliseconds since 1970, or -1 if there is none.
    pub timestamp_ms: i64,
    /// The decoded content.
    pub content: Content<T>,
}

/// The decoded content of a record.
#[derive(Clone, Debug)]
pub enum Content<T = Change> {
    /// A change of a row.
    Change(T),
    /// A record of a kind that needs no action.
    Ignored(&'static str),
    /// A change that lacks values of its row, and the whole record for the dead-letter topic.
    Partial(T, Box<DeadLetter>),
    /// An invalid record, for the dead-letter topic.
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
    /// The topic.
    pub topic: String,
    /// The position of the record.
    pub position: Position,
    /// Why it is invalid.
    pub reason: String,
}

/// An invalid record, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The position of the record.
    pub position: Position,
    /// The reason.
    pub reject: Reject,
    /// The primary key of the row, if the record's key contains it.
    pub row: Option<Key>,
    /// The record's key as far as it is kept.
    pub key: Option<Vec<u8>>,
    /// The record's value as far as it is kept.
    pub value: Option<Vec<u8>>,
    /// The record's headers that are kept.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The size of the record before it was cut.
    pub whole: Whole,
}

/// The size of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    /// The bytes of the key.
    pub key: usize,
    /// The bytes of the value.
    pub value: usize,
    /// The number of headers.
    pub headers: usize,
}

/// Returns the approximate bytes of a header in a record.
pub fn header_bytes(name: &str, value: Option<&[u8]>) -> usize {
    const BESIDE: usize = 16;
    name.len() + value.map_or(0, <[u8]>::len) + BESIDE
}

/// The rows to which an invalid record may belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// The row with this primary key.
    Row(Key),
    /// Any row.
    AnyRow,
    /// No row, because the record belongs to another table or database.
    AnotherTable,
}

impl DeadLetter {
    /// Sets the primary key of the row.
    #[must_use]
    pub fn about_row(self, row: Option<Key>) -> Self {
        Self { row, ..self }
    }

    /// Returns the rows to which the record may belong.
    pub fn about(&self) -> About {
        match &self.row {
            Some(row) => About::Row(row.clone()),
            None if self.reject.kind.is_elsewhere() => About::AnotherTable,
            None => About::AnyRow,
        }
    }

    /// Creates a dead letter with as much of the record as may be kept. The rest would only use memory.
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

    /// Returns the approximate bytes of memory.
    pub fn bytes(&self) -> usize {
        let texts = [&self.key, &self.value].into_iter().chain(self.headers.iter().map(|(_, value)| value));
        let names: usize = self.headers.iter().map(|(name, _)| name.len()).sum();
        size_of::<Self>() + names + self.reject.detail.len() + texts.flatten().map(Vec::len).sum::<usize>()
    }
}
