//! The types that every stage shares: values, keys, positions, instants. Pure.

pub mod double;
pub mod duration;
pub mod inet;
pub mod text;
pub mod zone;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use double::Double;

/// The next offset to read from a partition: Kafka's convention for committed offsets. "Consumed up to 65" is
/// `NextOffset(66)`. It is never stored or passed on as a bare integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NextOffset(pub i64);

impl NextOffset {
    /// The offset to read after the record at `offset`.
    pub fn after(offset: i64) -> Self {
        Self(offset.saturating_add(1))
    }
}

/// The position of a record in its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Partition number.
    pub partition: i32,
    /// Offset of the record itself, not the next one.
    pub offset: i64,
}

/// An instant in microseconds since 1970-01-01 00:00 UTC, Postgres's resolution. `MIN` and `MAX` stand
/// for `-infinity` and `infinity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Before every instant: Postgres's `-infinity`.
    pub const MIN: Self = Self(i64::MIN);
    /// After every instant: Postgres's `infinity`.
    pub const MAX: Self = Self(i64::MAX);

    /// Converts milliseconds since the epoch, saturating.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Milliseconds since the epoch, rounded down.
    pub fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// The date in UTC. `None` outside of the years 1 to 9999.
    pub fn date(self) -> Option<chrono::NaiveDate> {
        let date = chrono::DateTime::from_timestamp_micros(self.0)?.date_naive();
        (1..=9999).contains(&chrono::Datelike::year(&date)).then_some(date)
    }

    /// Parses RFC 3339, to the microsecond.
    pub fn parse(text: &str) -> Option<Self> {
        chrono::DateTime::parse_from_rfc3339(text).ok().map(|at| Self(at.timestamp_micros()))
    }

    /// Formats as RFC 3339 in UTC, with microseconds if there are any: `2026-11-22T10:00:00Z`. An instant outside of
    /// chrono's range prints as `infinity` or `-infinity`.
    pub fn rfc3339(self) -> String {
        match chrono::DateTime::from_timestamp_micros(self.0) {
            Some(at) => at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
            None if self.0 > 0 => "infinity".to_owned(),
            None => "-infinity".to_owned(),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// A log sequence number of Postgres's write-ahead log, as in Debezium's `source.lsn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The greatest position.
    pub const MAX: Self = Self(u64::MAX);
}

/// A column's value, converted to the column's type in the catalog. The order of values is fixed. It is not the order
/// of SQL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// `boolean`.
    Bool(bool),
    /// `smallint`, `integer`, `bigint`.
    Int(i64),
    /// `numeric`, unscaled, in [`ColumnType::scale`].
    Decimal(#[serde(with = "i128_text")] i128),
    /// `timestamptz`, `timestamp` and `date`. A local time, or a date's midnight, is stored as if it were UTC.
    Time(Timestamp),
    /// `text`, `varchar`, `uuid`, the label of an enum, `char(n)` without trailing blanks, and `inet` in Postgres's
    /// format.
    Text(Box<str>),
    /// A value with which memory cannot calculate exactly: NaN, an infinity, a number past [`DECIMAL_LIMIT`] or with
    /// more digits than the scale kept. Only Postgres can evaluate expressions over it.
    Opaque,
    /// `real`, `double precision`.
    Double(Double),
}

/// The greatest size of a text in a log line, in bytes.
const SHOWN_MAX: usize = 256;

/// The format for logs. It is bounded, because a text may have megabytes.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::Bool(value) => f.debug_tuple("Bool").field(value).finish(),
            Self::Int(value) => f.debug_tuple("Int").field(value).finish(),
            Self::Decimal(value) => f.debug_tuple("Decimal").field(value).finish(),
            Self::Time(value) => f.debug_tuple("Time").field(value).finish(),
            Self::Text(value) => f.debug_tuple("Text").field(&text::shortened(value, SHOWN_MAX)).finish(),
            Self::Opaque => f.write_str("Opaque"),
            Self::Double(value) => f.debug_tuple("Double").field(&value.get()).finish(),
        }
    }
}

/// The limit for the magnitude of unscaled decimals. Below it, no sum overflows an `i128` before ten billion rows.
/// Greater values are [`Value::Opaque`].
pub const DECIMAL_LIMIT: i128 = 10_i128.pow(28);

/// The fraction digits kept of a `numeric` column that is declared without a scale. Values with more digits are
/// [`Value::Opaque`].
pub const UNDECLARED_SCALE: u8 = 12;

/// The values that identify a row (its primary key) or a group (its GROUP BY columns).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// A single integer column: by far the most common case. It needs no allocation.
    Int(i64),
    /// Any other key, in column order.
    Values(Box<[Value]>),
}

impl Key {
    /// Creates a key of these values, in column order.
    pub fn new(values: Vec<Value>) -> Self {
        match values.as_slice() {
            [Value::Int(n)] => Self::Int(*n),
            _ => Self::Values(values.into_boxed_slice()),
        }
    }

    /// The values in column order.
    pub fn values(&self) -> Vec<Value> {
        match self {
            Self::Int(n) => vec![Value::Int(*n)],
            Self::Values(values) => values.to_vec(),
        }
    }
}

/// The type of a column in the Postgres catalog, as far as rules and decoding need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// `boolean`.
    Bool,
    /// `smallint`.
    Int2,
    /// `integer`.
    Int4,
    /// `bigint`.
    Int8,
    /// `numeric(p,s)` with `s` from 0 to 28, or `numeric` without a declared scale.
    Numeric {
        /// Declared scale.
        scale: Option<u8>,
    },
    /// `text` and `varchar(n)` with a deterministic collation.
    Text,
    /// `char(n)` with a deterministic collation.
    Char,
    /// An enum.
    Enum,
    /// `inet`.
    Inet,
    /// `real`.
    Float4,
    /// `double precision`.
    Float8,
    /// `uuid`.
    Uuid,
    /// `timestamp with time zone`.
    TimestampTz,
    /// `timestamp without time zone`: a local time in the rule's time zone.
    Timestamp {
        /// Fraction digits, 0 to 6. Debezium's encoding depends on them.
        precision: u8,
    },
    /// `date`.
    Date,
    /// Any other type. A rule cannot use it.
    Other,
}

impl ColumnType {
    /// The fraction digits of this type's values and sums. `None`: the type is not an exact number.
    pub fn scale(&self) -> Option<u8> {
        match self {
            Self::Int2 | Self::Int4 | Self::Int8 => Some(0),
            Self::Numeric { scale } => Some(scale.unwrap_or(UNDECLARED_SCALE)),
            _ => None,
        }
    }

    /// Whether the values are local times. They are instants only in a time zone.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Timestamp { .. } | Self::Date)
    }
}

/// A column as the catalog describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name, as stored (case-sensitive).
    pub name: String,
    /// Type.
    pub ty: ColumnType,
    /// The type as SQL text, from `format_type`, for casts and messages.
    pub type_name: String,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// Whether the column has a DEFAULT.
    pub has_default: bool,
}

/// A table as the catalog describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Schema name, as stored.
    pub schema: String,
    /// Table name, as stored.
    pub name: String,
    /// Columns in attribute order.
    pub columns: Vec<Column>,
    /// Indexes into `columns` of the primary key, in key order. Never empty.
    pub primary_key: Vec<usize>,
}

impl Table {
    /// Whether the table has this schema and name, as stored.
    pub fn is(&self, schema: &str, name: &str) -> bool {
        self.schema == schema && self.name == name
    }

    /// Returns the index and description of the column with this stored name.
    pub fn column(&self, name: &str) -> Option<(usize, &Column)> {
        self.columns.iter().enumerate().find(|(_, column)| column.name == name)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// Formats an unscaled decimal with `scale` fraction digits: `decimal_text(344150, 2)` is `3441.50`.
pub fn decimal_text(unscaled: i128, scale: u8) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = unscaled.unsigned_abs().to_string();
    let scale = usize::from(scale);
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// 128-bit integers as text in JSON, because most readers support only 64 bits in numbers.
mod i128_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(n: &i128, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(n) } else { n.serialize(serializer) }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            i128::deserialize(deserializer)
        }
    }
}
