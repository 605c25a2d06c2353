//! Reads a column's value from JSON into a [`Value`], by the column's type and the connector's encoding.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use uuid::Uuid;

use super::named::{NameSeed, Number, NumberSeed, Once, TextSeed};
use super::{DecimalHandling, Settings, TimePrecision, UNAVAILABLE};
use crate::change::decimal;
use crate::change::time::{self, Unit};
use crate::model::{Column, ColumnType, Double, Value, inet};

/// `unavailable.value.placeholder`, for a TOASTed value that the change did not touch.
#[derive(Debug)]
pub(super) struct Placeholder {
    /// The placeholder in a text.
    pub(super) text: Box<str>,
    /// The placeholder for bytes.
    base64: Box<str>,
    hex: Box<str>,
}

impl Placeholder {
    /// Parses the connector's setting: text, or `hex:` and the bytes of the text.
    pub(super) fn new(setting: &str) -> Self {
        let bytes = setting.strip_prefix("hex:").and_then(from_hex);
        let bytes = bytes.unwrap_or_else(|| setting.as_bytes().to_vec());
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { text: String::from_utf8_lossy(&bytes).into(), base64: STANDARD.encode(&bytes).into(), hex: hex.into() }
    }

    /// Whether this text is the placeholder.
    pub(super) fn is(&self, found: &str) -> bool {
        *found == *self.text || self.is_bytes(found)
    }

    /// Whether this encoding of bytes is the placeholder.
    pub(super) fn is_bytes(&self, found: &str) -> bool {
        *found == *self.base64 || *found == *self.hex
    }
}

impl Default for Placeholder {
    fn default() -> Self {
        Self::new(UNAVAILABLE)
    }
}

/// Decodes hexadecimal text in lower case, as the connector writes it.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| Some(digit(high)? << 4 | digit(low)?);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

/// The reason where a value's type has no room for the placeholder.
pub(super) const UNTOUCHED: &str = "the value was not in the change: it is TOASTed and was not touched. A rule on this \
                                    column needs ALTER TABLE … REPLICA IDENTITY FULL";

/// The encoding of a column in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Bool,
    Int {
        min: i64,
        max: i64,
    },
    Text,
    /// `char(n)`
    Blanks,
    Uuid,
    Inet,
    Float {
        is_real: bool,
    },
    Decimal {
        declared: Option<u8>,
        wire: Wire,
    },
    Time(Unit),
    /// A logical type in the record's schema that does not fit the column's type in the catalog.
    Foreign(String),
}

/// The encoding of a decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Text,
    /// Base64, with this scale.
    Binary(i32),
    /// An object with scale and base64.
    Variable,
    /// Text or base64 in the declared scale. A point or a sign shows which.
    Guess(i32),
    /// Text or base64, and nothing shows which: `1234` is both.
    Ambiguous,
    /// Binary floating point. It is rejected, because it may have lost digits.
    Double,
    /// Binary floating point, read as the shortest decimal that it stands for.
    Rounded,
}

/// A field's description in a schema.
#[derive(Clone, Copy, Debug)]
pub(super) struct Described<'a> {
    pub(super) ty: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) scale: Option<&'a str>,
}

impl Described<'_> {
    /// The name, in a reason, of a type that does not fit the column's.
    pub(super) fn foreign(&self) -> String {
        let name = self.name.unwrap_or(self.ty);
        match self.scale {
            Some(scale) if scale.parse::<i32>().is_err() => format!("{name} of a scale that is no whole number"),
            _ => name.to_owned(),
        }
    }
}

impl Form {
    /// The form of a column in records without a schema. The error is for a type that no rule can use.
    pub(super) fn from_catalog(column: &Column, settings: Settings) -> Result<Self, String> {
        Ok(match column.ty {
            ColumnType::Bool => Self::Bool,
            ColumnType::Int2 => Self::Int { min: i16::MIN.into(), max: i16::MAX.into() },
            ColumnType::Int4 => Self::Int { min: i32::MIN.into(), max: i32::MAX.into() },
            ColumnType::Int8 => Self::Int { min: i64::MIN, max: i64::MAX },
            ColumnType::Text | ColumnType::Enum => Self::Text,
            ColumnType::Char => Self::Blanks,
            ColumnType::Inet => Self::Inet,
            ColumnType::Float4 => Self::Float { is_real: true },
            ColumnType::Float8 => Self::Float { is_real: false },
            ColumnType::Uuid => Self::Uuid,
            ColumnType::Numeric { scale } => {
                Self::Decimal { declared: scale, wire: plain_decimal(scale.map(i32::from), settings.decimals) }
            }
            ColumnType::TimestampTz => Self::Time(Unit::Iso),
            ColumnType::Timestamp { precision } => Self::Time(timestamp_unit(settings.times, precision)),
            ColumnType::Date if settings.times == TimePrecision::Isostring => Self::Time(Unit::Iso),
            ColumnType::Date => Self::Time(Unit::Days),
            ColumnType::Other => {
                return Err(format!(
                    "column {:?} has the type {}, which cannot be read",
                    column.name, column.type_name
                ));
            }
        })
    }

    /// The form of a column in records whose schema describes it like this.
    pub(super) fn described(&self, found: Described<'_>) -> Self {
        let foreign = || Self::Foreign(found.foreign());
        match self {
            Self::Decimal { declared, wire } => match decimal_wire(found, declared.map(i32::from)) {
                Some(Wire::Double) if *wire == Wire::Rounded => self.clone(),
                Some(wire) => Self::Decimal { declared: *declared, wire },
                None => foreign(),
            },
            Self::Time(_) => time_unit(found).map_or_else(foreign, Self::Time),
            // An integer with a logical type is a time or an interval. A string is a string under any name.
            Self::Int { .. } | Self::Bool | Self::Float { .. } if found.name.is_some() => foreign(),
            other => other.clone(),
        }
    }
}

pub(super) fn plain_decimal(scale: Option<i32>, handling: DecimalHandling) -> Wire {
    match (handling, scale) {
        (DecimalHandling::String, _) | (DecimalHandling::Auto, None) => Wire::Text,
        (DecimalHandling::Double, _) => Wire::Rounded,
        (DecimalHandling::Precise, Some(scale)) => Wire::Binary(scale),
        (DecimalHandling::Precise, None) => Wire::Variable,
        (DecimalHandling::Auto, Some(..=0)) => Wire::Ambiguous,
        (DecimalHandling::Auto, Some(scale)) => Wire::Guess(scale),
    }
}

pub(super) fn decimal_wire(found: Described<'_>, declared: Option<i32>) -> Option<Wire> {
    Some(match (found.name, found.ty) {
        (Some("org.apache.kafka.connect.data.Decimal"), _) => Wire::Binary(match found.scale {
            Some(scale) => scale.parse().ok()?,
            None => declared?,
        }),
        (Some("io.debezium.data.VariableScaleDecimal"), _) => Wire::Variable,
        (None, "string" | "int16" | "int32" | "int64") => Wire::Text,
        (None, "double" | "float") => Wire::Double,
        _ => return None,
    })
}

/// Debezium's and Kafka Connect's names of temporal types.
pub(super) fn time_unit(found: Described<'_>) -> Option<Unit> {
    Some(match found.name {
        Some("io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp") => Unit::Millis,
        Some("io.debezium.time.MicroTimestamp") => Unit::Micros,
        Some("io.debezium.time.NanoTimestamp") => Unit::Nanos,
        Some("io.debezium.time.Date" | "org.apache.kafka.connect.data.Date") => Unit::Days,
        Some("io.debezium.time.ZonedTimestamp" | "io.debezium.time.IsoTimestamp" | "io.debezium.time.IsoDate") => {
            Unit::Iso
        }
        None if found.ty == "string" => Unit::Iso,
        _ => return None,
    })
}

/// Reads a value in this form. A value that does not fit gives a sentence and not an error of serde's. The record is
/// then read to its end, and the more useful reason can be reported: it may be another table's record.
pub(super) struct ValueSeed<'a>(pub(super) &'a Form, pub(super) &'a Placeholder);

type Read = Result<Value, Unread>;

/// Why a value is not known from its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// The value is TOASTed, and the change did not touch it.
    Unchanged,
    /// The value cannot be read. The text says why.
    Misfit(String),
}

impl From<String> for Unread {
    fn from(why: String) -> Self {
        Self::Misfit(why)
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Read;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Read, D::Error> {
        json.deserialize_any(self)
    }
}

impl ValueSeed<'_> {
    fn misfit(&self, found: impl fmt::Display) -> String {
        let wanted = match self.0 {
            Form::Bool => "true or false",
            Form::Int { .. } => "a whole number",
            Form::Text | Form::Blanks => "text",
            Form::Inet => "an address in Postgres's spelling",
            Form::Float { .. } => "a number",
            Form::Uuid => "a UUID in Postgres's spelling",
            Form::Decimal { .. } => "a decimal",
            Form::Time(Unit::Iso) => "a time in ISO 8601; set source.times to the connector's time.precision.mode",
            Form::Time(_) => "a count since the epoch; set source.times to the connector's time.precision.mode",
            Form::Foreign(name) => {
                return format!(
                    "found {found}, of the type {name:?} in the record's schema, which does not go with the column's; \
                     was the column altered, or is connect.meta.data false in an Avro converter?"
                );
            }
        };
        format!("found {found}, expected {wanted}")
    }

    fn integer(&self, found: i128) -> Read {
        match self.0 {
            Form::Int { min, max } => match i64::try_from(found) {
                Ok(fits) if (*min..=*max).contains(&fits) => Ok(Value::Int(fits)),
                _ => Err(format!("found {WHOLE_NUMBER} outside of the column's range {min} to {max}").into()),
            },
            Form::Float { is_real } => self.float(&found.to_string(), *is_real),
            Form::Decimal { wire, .. } if *wire == Wire::Double => Err(LOSSY.to_owned().into()),
            Form::Decimal { declared, .. } => Ok(decimal::from_integer(found, *declared)),
            Form::Time(unit) => i64::try_from(found)
                .ok()
                .and_then(|count| time::from_count(count, *unit))
                .map(Value::Time)
                .ok_or_else(|| self.misfit(WHOLE_NUMBER).into()),
            _ => Err(self.misfit(WHOLE_NUMBER).into()),
        }
    }

    fn float(&self, found: &str, is_real: bool) -> Read {
        let value = Double::parse(found, is_real).ok_or_else(|| self.misfit("a number out of the column's range"))?;
        Ok(Double::new(value).map_or(Value::Opaque, Value::Double))
    }

    fn text(&self, found: &str) -> Read {
        if self.1.is(found) {
            return Err(Unread::Unchanged);
        }
        match self.0 {
            Form::Text | Form::Blanks if found.contains('\0') => Err(NUL.to_owned().into()),
            Form::Text => Ok(Value::Text(found.into())),
            Form::Blanks => Ok(Value::Text(found.trim_end_matches(' ').into())),
            // Another spelling would be another key.
            Form::Inet if inet::is_shown(found) => Ok(Value::Text(found.into())),
            Form::Float { is_real } if found.starts_with(['N', 'I', '-']) => self.float(found, *is_real),
            // Another spelling would be another key.
            Form::Uuid if Uuid::try_parse(found).is_ok_and(|uuid| uuid.hyphenated().to_string() == found) => {
                Ok(Value::Text(found.into()))
            }
            Form::Decimal { declared, wire } => {
                decimal_text(found, *declared, *wire).map_err(|why| format!("found {}; {why}", shape(found)).into())
            }
            Form::Time(_) => time::from_iso(found).map(Value::Time).map_err(|_| self.misfit(shape(found)).into()),
            _ => Err(self.misfit(shape(found)).into()),
        }
    }
}

/// The unit of a `timestamp` of this precision in a record without schema.
pub(super) fn timestamp_unit(times: TimePrecision, precision: u8) -> Unit {
    match times {
        TimePrecision::Adaptive | TimePrecision::AdaptiveTimeMicroseconds if precision <= 3 => Unit::Millis,
        TimePrecision::Adaptive | TimePrecision::AdaptiveTimeMicroseconds | TimePrecision::Microseconds => Unit::Micros,
        TimePrecision::Nanoseconds => Unit::Nanos,
        TimePrecision::Connect => Unit::Millis,
        TimePrecision::Isostring => Unit::Iso,
    }
}

fn decimal_text(found: &str, declared: Option<u8>, wire: Wire) -> Result<Value, String> {
    const SET: &str = "set source.decimals to \"string\" or \"precise\", as the connector's decimal.handling.mode is";
    match wire {
        Wire::Text => decimal::from_text(found, declared).map_err(|why| format!("{why}; or {SET}")),
        Wire::Binary(scale) => decimal::from_base64(found, scale, declared).map_err(|why| format!("{why}; or {SET}")),
        // The alphabet of base64 has neither a point nor a minus, and a scale of 1 or more always shows one of them.
        Wire::Guess(_) if found.contains(['.', '-']) || decimal::is_special(found) => {
            decimal::from_text(found, declared)
        }
        Wire::Guess(scale) => decimal::from_base64(found, scale, declared),
        Wire::Ambiguous => Err(format!("it may be digits or base64 and the record has no schema to tell: {SET}")),
        Wire::Double | Wire::Rounded if decimal::is_special(found) => Ok(Value::Opaque),
        Wire::Rounded => decimal::from_text(found, declared),
        Wire::Double => Err("text is no binary float".to_owned()),
        Wire::Variable => Err(format!("expected an object of scale and value: {SET}")),
    }
}

/// The reason for a decimal that is written as a number with a fraction.
pub(super) const LOSSY: &str = "found a binary float: decimal.handling.mode=double loses digits, and money is kept exact \
                                here; set the connector's decimal.handling.mode to string or precise";

/// The reason for a text that Postgres cannot hold.
pub(super) const NUL: &str = "found a text with a NUL, which no text of Postgres has; is this topic Debezium's?";

/// The name of a number in a reason. A reason never repeats the value, because readers of the log must not see it.
pub(super) const WHOLE_NUMBER: &str = "a whole number";

/// 2^63. Doubles from there on are integers.
const PAST_64_BITS: f64 = 9_223_372_036_854_775_808.0;

/// The name of a text in a reason.
pub(super) fn shape(text: &str) -> String {
    match text.chars().count() {
        0 => "an empty text".to_owned(),
        1 => "a text of one character".to_owned(),
        count => format!("a text of {count} characters"),
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a column's value")
    }

    fn visit_unit<E>(self) -> Result<Read, E> {
        Ok(Ok(Value::Null))
    }

    fn visit_bool<E>(self, found: bool) -> Result<Read, E> {
        Ok(match self.0 {
            Form::Bool => Ok(Value::Bool(found)),
            _ => Err(self.misfit("a boolean").into()),
        })
    }

    fn visit_i64<E>(self, found: i64) -> Result<Read, E> {
        Ok(self.integer(found.into()))
    }

    fn visit_u64<E>(self, found: u64) -> Result<Read, E> {
        Ok(self.integer(found.into()))
    }

    fn visit_f64<E>(self, found: f64) -> Result<Read, E> {
        Ok(Err(match self.0 {
            Form::Float { is_real } => return Ok(self.float(&found.to_string(), *is_real)),
            Form::Decimal { wire: Wire::Rounded, declared } => {
                let read = decimal::from_text(&found.to_string(), *declared);
                return Ok(read.map_err(|why| format!("found a number with a fraction; {why}").into()));
            }
            Form::Decimal { .. } => LOSSY.to_owned().into(),
            _ if found.abs() >= PAST_64_BITS => self.misfit("a whole number past 64 bits").into(),
            _ => self.misfit("a number with a fraction").into(),
        }))
    }

    fn visit_str<E>(self, found: &str) -> Result<Read, E> {
        Ok(self.text(found))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Read, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Err(self.misfit("an array").into()))
    }

    /// `io.debezium.data.VariableScaleDecimal`: `{"scale":2,"value":"MDk="}`.
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Read, A::Error> {
        let (mut scale, mut value, mut once) = (Number::Absent, None, Once::new(&["", "scale", "value"]));
        while let Some(key) = fields.next_key_seed(NameSeed(|key: &str| match key {
            "scale" => 1,
            "value" => 2,
            _ => 0,
        }))? {
            once.first(key)?;
            match key {
                1 => scale = fields.next_value_seed(NumberSeed)?,
                2 => value = fields.next_value_seed(TextSeed("the value of a decimal"))?,
                _ => _ = fields.next_value::<IgnoredAny>()?,
            }
        }
        let Form::Decimal { declared, wire } = self.0 else {
            return Ok(Err(self.misfit("an object").into()));
        };
        if *wire == Wire::Double {
            return Ok(Err(self.misfit("an object").into()));
        }
        Ok(match (scale.to_i32(), value) {
            (Some(scale), Some(value)) if !self.1.is_bytes(&value) => {
                decimal::from_base64(&value, scale, *declared).map_err(Unread::from)
            }
            (Some(_), Some(value)) => self.text(&value),
            _ => Err("found an object without a scale and a value, expected a decimal".to_owned().into()),
        })
    }
}
