//! A change with every column of its row, for the archive. Rules read a few columns as numbers that can be summed. The
//! archive keeps all columns, each in its own type. Pure.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Op;
use crate::model::{Lsn, Timestamp};

/// A column of a table: its name and the type of its values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Name, as stored in the catalog.
    pub name: String,
    /// Type.
    pub ty: FieldType,
}

/// The type of a column's values. Other Postgres types are kept as text.
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
    /// `numeric(precision,scale)`. A `numeric` without them, or with more than 38 digits, is text.
    Decimal {
        /// The greatest number of digits, 1 to 38.
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
    /// Text, and all other types.
    Text,
    /// `bytea`.
    Bytes,
}

/// Postgres's name of the type.
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

/// A value. The variant and its unit depend on the [`FieldType`].
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// SQL NULL, or a value that is not in the change.
    Null,
    /// A value of `Bool`.
    Bool(bool),
    /// An integer, date or time, in the unit of its type.
    Int(i64),
    /// A binary floating-point number.
    Float(f64),
    /// An unscaled value of `Decimal`.
    Decimal(i128),
    /// A value of `Text`.
    Text(Box<str>),
    /// A value of `Bytes`.
    Bytes(Box<[u8]>),
}

impl Cell {
    /// Whether two values of different types have the same meaning.
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
    /// The operation. Never a tombstone.
    pub op: Op,
    /// `source.lsn`. Absent in incremental snapshots.
    pub lsn: Option<Lsn>,
    /// `source.txId`. Absent like `lsn`.
    pub tx_id: Option<u32>,
    /// Commit time of the transaction: `source.ts_us`, or `source.ts_ms`.
    pub committed_at: Timestamp,
    /// Whether the record brought its schema. Otherwise it was decoded by the catalog's columns.
    pub is_described: bool,
    /// The columns. Records with equal columns share the list.
    pub fields: Arc<[Field]>,
    /// The values of the columns. A delete has only those of the primary key, and a truncate has none.
    pub cells: Box<[Cell]>,
}
