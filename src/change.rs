//! Change records: bytes from Kafka → [`Change`]. Pure.
//!
//! - [`debezium`]: envelopes and rows in JSON, with and without their schema
//! - [`avro`]: converts Avro records to that JSON
//! - [`record`]: records of a topic, decoded or rejected
//! - [`decimal`]: exact numbers from strings and from Kafka Connect's Decimal
//! - [`time`]: every representation of a time that the connector writes
//! - [`full_row`]: changes with every column, for the archive

pub mod avro;
pub mod debezium;
pub mod decimal;
pub mod full_row;
pub mod record;
pub mod time;

use crate::model::text::{one_line, shortened};
use crate::model::{Key, Lsn, Timestamp, Value};

/// The operation of a record on its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `c`
    Create,
    /// `u`
    Update,
    /// `d`
    Delete,
    /// `r`: read by a snapshot, not streamed.
    Read,
    /// `t`
    Truncate,
    /// A record without a value: the key was removed.
    Tombstone,
}

impl Op {
    /// Debezium's letter. A tombstone has none and prints as `tombstone`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "c",
            Self::Update => "u",
            Self::Delete => "d",
            Self::Read => "r",
            Self::Truncate => "t",
            Self::Tombstone => "tombstone",
        }
    }
}

/// A decoded change of one row (of all rows for a truncate).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The operation.
    pub op: Op,
    /// The row's primary key. `None` only for a truncate.
    pub pk: Option<Key>,
    /// The row after the change: the wanted columns, in the decoder's order. `None` for deletes, tombstones and
    /// truncates.
    pub row: Option<Box<[Value]>>,
    /// The row before an update or a delete, with the same columns. It is only read where the table's REPLICA IDENTITY
    /// is FULL and a rule that Postgres evaluates reads the table. It only shows which keys the change touches.
    pub before: Option<Box<[Value]>>,
    /// `source.lsn`. Absent in incremental snapshots and tombstones.
    pub lsn: Option<Lsn>,
    /// `source.txId`, the 32-bit transaction id. Absent like `lsn`.
    pub tx_id: Option<u32>,
    /// Commit time of the transaction: `source.ts_us`, or `source.ts_ms`.
    pub committed_at: Option<Timestamp>,
    /// The columns of `row` whose values are not in the record. They are [`Value::Opaque`] in `row`.
    pub holes: Vec<Hole>,
}

/// A column whose value is not in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The index in [`Change::row`].
    pub slot: usize,
    /// Why the value is not known.
    pub cause: HoleCause,
}

/// Why a column's value is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoleCause {
    /// The value is TOASTed, and the change did not touch it.
    Unchanged,
    /// The value is missing, or cannot be read.
    Unreadable,
}

/// The result of decoding a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<T = Change> {
    /// A change of a row.
    Change(T),
    /// A change of a row without some of its columns, and why. The other columns count.
    Partial(T, Reject),
    /// A record that needs no action. The reason is for a counter.
    Ignored(&'static str),
}

/// Decodes records into changes. Each reader has a copy of its own, which may learn from the records.
pub trait Decode: Clone + Send + 'static {
    /// The type of a decoded change.
    type Change: Send + 'static;

    /// Decodes one Kafka record from its raw key and value.
    ///
    /// # Errors
    /// A [`Reject`] for an invalid record, [bounded](Reject::bounded). It does not affect the next record.
    fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Decoded<Self::Change>, Reject>;

    /// The primary key of a record whose value is invalid, if the record's key has it.
    fn row_of(&mut self, _key: Option<&[u8]>) -> Option<Key> {
        None
    }
}

/// Why a record is invalid. The text has the problem, the place in the record, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Reject {
    /// The kind of problem.
    pub kind: RejectKind,
    /// The explanation.
    pub detail: String,
}

/// The greatest size of a reject's text in bytes. It is logged, and is a header of a dead letter.
const DETAIL_MAX: usize = 1_024;

/// The greatest length of a column's name in bytes: that of Postgres's names.
const NAME_MAX: usize = 63;

impl Reject {
    /// The same reject with a bounded text that is safe for a terminal, for any content of the record.
    #[must_use]
    pub fn bounded(self) -> Self {
        let detail = one_line(&shortened(&self.detail, DETAIL_MAX)).into_owned();
        let kind = match self.kind {
            // The catalog has no such column, now or ever.
            RejectKind::UnknownColumn(name) if name.len() > NAME_MAX => RejectKind::Value,
            kind => kind,
        };
        Self { kind, detail }
    }
}

/// The kind of problem with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RejectKind {
    /// The value is not JSON.
    Json,
    /// The value is not Debezium's envelope.
    Envelope,
    /// A value of a column cannot be read.
    Value,
    /// The record's key cannot be read.
    Key,
    /// The change belongs to another table.
    Table,
    /// The change belongs to another database.
    Database,
    /// A delete whose key the connector has made up.
    Identity,
    /// The record has no schema, and the table's columns are not known. The catalog would help.
    Schemaless,
    /// The record has this unknown column. Reading the catalog again may help.
    UnknownColumn(String),
    /// The record can be read in two ways, because the table was changed at about that time.
    Between,
    /// The record has no envelope, and lacks fields of it that the archive needs.
    Unwrapped,
    /// The Avro value does not fit its schema, or the registry does not have the schema.
    Avro,
}

impl RejectKind {
    /// Whether the record belongs to another table or database, and does not concern this one.
    pub fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Table | Self::Database)
    }

    /// A short name for counters and headers.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Envelope => "envelope",
            Self::Value => "value",
            Self::Key => "key",
            Self::Table => "table",
            Self::Database => "database",
            Self::Identity => "identity",
            Self::Schemaless => "schemaless",
            Self::UnknownColumn(_) => "unknown-column",
            Self::Between => "between",
            Self::Unwrapped => "unwrapped",
            Self::Avro => "avro",
        }
    }
}

impl std::fmt::Display for RejectKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
