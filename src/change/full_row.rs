//! A change with every column of its row, as an archive wants it: rules read a few columns into numbers that can be
//! summed; an archive keeps all of them, each in its own type. Pure.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Op;
use crate::model::{Lsn, Timestamp};

/// A column of a table: its name there, and what its values are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Name, as stored in the catalog.
    pub name: String,
    /// Type.
    pub ty: FieldType,
}

/// What a column's values are. Types of Postgres that are none of these are kept as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FieldType {
    /// `boolean`.
    Bool,
    /// `smallint`.
    Int16,
    /// `integer`.
    Int32,
    /// `bigint`.
    Int64,
    /// `real`.
    Float32,
    /// `double precision`.
    Float64,
    /// `numeric(precision,scale)`; one without them, or beyond 38 digits, is text.
    Decimal {
        /// Digits at most, 1 to 38.
        precision: u8,
        /// Digits after the point, at most `precision`.
        scale: u8,
    },
    /// `date`: days since 1970-01-01.
    Date,
    /// `time`: microseconds of the day.
    Time,
    /// `timestamp`: microseconds since 1970-01-01 00:00, without a zone.
    Timestamp,
    /// `timestamptz`: microseconds since 1970-01-01 00:00 UTC.
    TimestampTz,
    /// Text, and everything that is kept as text.
    Text,
    /// `bytea`.
    Bytes,
}

/// As Postgres calls it.
impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "boolean",
            Self::Int16 => "smallint",
            Self::Int32 => "integer",
            Self::Int64 => "bigint",
            Self::Float32 => "real",
            Self::Float64 => "double precision",
            Self::Decimal { precision, scale } => return write!(f, "numeric({precision},{scale})"),
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::TimestampTz => "timestamptz",
            Self::Text => "text",
            Self::Bytes => "bytea",
        })
    }
}

/// One value, in the form that its [`FieldType`] says.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// SQL NULL, or not in the change.
    Null,
    /// Of `Bool`.
    Bool(bool),
    /// Of the integers, dates and times, in their units.
    Int(i64),
    /// Of the binary floats.
    Float(f64),
    /// Of `Decimal`: unscaled.
    Decimal(i128),
    /// Of `Text`.
    Text(Box<str>),
    /// Of `Bytes`.
    Bytes(Box<[u8]>),
}

impl Cell {
    /// Whether this value of one type says the same as another value of another type.
    pub(crate) fn says_the_same(&self, ty: FieldType, other: &Self, other_ty: FieldType) -> bool {
        match (self, other) {
            (Self::Decimal(one), Self::Decimal(two)) => {
                let scale = |ty| if let FieldType::Decimal { scale, .. } = ty { u32::from(scale) } else { 0 };
                let (scale, other_scale) = (scale(ty), scale(other_ty));
                let most = scale.max(other_scale);
                let at_scale = |value: i128, scale: u32| value.checked_mul(10_i128.checked_pow(most - scale)?);
                matches!((at_scale(*one, scale), at_scale(*two, other_scale)), (Some(one), Some(two)) if one == two)
            }
            (Self::Int(one), Self::Int(two)) => {
                let is_number = |ty| matches!(ty, FieldType::Int16 | FieldType::Int32 | FieldType::Int64);
                one == two && (ty == other_ty || is_number(ty) && is_number(other_ty))
            }
            (one, two) => one == two,
        }
    }
}

/// One change of one row, with every column.
#[derive(Clone, Debug, PartialEq)]
pub struct FullRowChange {
    /// What was done; never a tombstone.
    pub op: Op,
    /// `source.lsn`; absent in incremental snapshots.
    pub lsn: Option<Lsn>,
    /// `source.txId`; absent like `lsn`.
    pub tx_id: Option<u32>,
    /// Commit time of the transaction: `source.ts_us`, or `source.ts_ms`.
    pub committed_at: Timestamp,
    /// Whether the record brought its schema, rather than being read by what the catalog says.
    pub is_described: bool,
    /// The columns; the same list as long as records agree.
    pub fields: Arc<[Field]>,
    /// Their values. Of a delete only the primary key is there, of a truncate nothing.
    pub cells: Box<[Cell]>,
}
