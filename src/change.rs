//! Change records: bytes of Kafka → [`Change`]. Pure.
//!
//! - [`debezium`]: envelopes and rows in JSON, with and without their schema
//! - [`avro`]: the same in Avro, as that JSON
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

/// What a record did to its row.
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
    /// A record without a value: the key is gone.
    Tombstone,
}

impl Op {
    /// Debezium's letter; a tombstone has none and prints as `tombstone`.
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

/// One decoded change of one row (or, for a truncate, of all).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What was done.
    pub op: Op,
    /// Primary key of the row; `None` for a truncate only.
    pub pk: Option<Key>,
    /// The row after the change: the wanted columns, in the order the decoder was given; `None` for
    /// deletes, tombstones and truncates.
    pub row: Option<Box<[Value]>>,
    /// `source.lsn`; absent in incremental snapshots and tombstones.
    pub lsn: Option<Lsn>,
    /// `source.txId`, the 32-bit transaction id; absent like `lsn`.
    pub tx_id: Option<u32>,
    /// Commit time of the transaction: `source.ts_us`, or `source.ts_ms`.
    pub committed_at: Option<Timestamp>,
    /// The columns of `row` whose values the record does not say; they are [`Value::Opaque`] there.
    pub holes: Vec<Hole>,
}

/// A column whose value a record does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Its place in [`Change::row`].
    pub slot: usize,
    /// Why.
    pub cause: HoleCause,
}

/// Why a record does not say a column's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoleCause {
    /// The change left it as it was, and it is TOASTed.
    Unchanged,
    /// It is missing, or cannot be read.
    Unreadable,
}

/// What a record turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<T = Change> {
    /// A change of a row.
    Change(T),
    /// A change of a row that does not say all of its columns, and why. What it does say counts.
    Partial(T, Reject),
    /// Nothing to do, by its nature: the reason, for a counter.
    Ignored(&'static str),
}

/// Makes changes of records. Each reader has a copy of its own, which may learn as it goes.
pub trait Decode: Clone + Send + 'static {
    /// What a record that changes a row becomes.
    type Change: Send + 'static;

    /// Decodes one record of Kafka's, its key and value as they came.
    ///
    /// # Errors
    /// A [`Reject`] for what is not understood, [bounded](Reject::bounded). The next record is read as if this one had not been.
    fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Decoded<Self::Change>, Reject>;

    /// The primary key of the row that a record is about whose value is not understood, where its key says.
    fn row_of(&mut self, _key: Option<&[u8]>) -> Option<Key> {
        None
    }
}

/// Why a record is invalid. The text says what was found, where in the record, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Reject {
    /// What is wrong.
    pub kind: RejectKind,
    /// The explanation.
    pub detail: String,
}

/// Bytes of a reject's text at most: it is logged, and is a header of a dead letter.
const DETAIL_MAX: usize = 1_024;

/// Bytes of a column's name at most: those of Postgres's own names.
const NAME_MAX: usize = 63;

impl Reject {
    /// The same with a text that is bounded and does nothing to a terminal, whatever the record holds.
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

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RejectKind {
    /// It is not JSON.
    Json,
    /// It is not Debezium's envelope.
    Envelope,
    /// A value of a column cannot be read.
    Value,
    /// The record's key cannot be read.
    Key,
    /// It is a change of another table.
    Table,
    /// It is a change of another database.
    Database,
    /// It is a delete whose key the connector has made up.
    Identity,
    /// It has no schema, and the table is not known: the catalog would help.
    Schemaless,
    /// It has this column, which is not known: reading the catalog again may help.
    UnknownColumn(String),
    /// It can be read in two ways: the table was changed at about its time.
    Between,
    /// It has no envelope, and lacks what an archive needs of one.
    Unwrapped,
    /// Its Avro cannot be read by its schema, or the registry does not have that.
    Avro,
}

impl RejectKind {
    /// Whether the record is a change of another table or database, and says nothing of this one.
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
