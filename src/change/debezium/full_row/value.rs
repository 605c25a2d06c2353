//! Reads a column's value from JSON into a [`Cell`], by the column's type and the connector's encoding.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Deserialize;

use super::{Declared, FullRowColumn};
use crate::change::debezium::named::TextSeed;
use crate::change::debezium::value::{
    Described, LOSSY, NUL, Placeholder, UNTOUCHED, WHOLE_NUMBER, Wire, decimal_wire, from_hex, plain_decimal, shape,
    time_unit, timestamp_unit,
};
use crate::change::debezium::{BinaryHandling, Settings, TimePrecision, parse, schema};
use crate::change::decimal::{exact, is_decimal, is_special};
use crate::change::full_row::{Cell, FieldType};
use crate::change::time::{self, Unit};

/// The fix for an unexpected encoding of decimals.
const SET: &str = "set source.decimals to \"string\" or \"precise\", as the connector's decimal.handling.mode is";

/// The encoding of a column in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Bool,
    Int {
        min: i64,
        max: i64,
    },
    /// `real`
    Single,
    /// `double precision`
    Double,
    Decimal {
        precision: u8,
        scale: u8,
        wire: Wire,
    },
    /// A number that is kept as text.
    Number(Wire),
    Date(Unit),
    TimeOfDay(Unit),
    Instant(Unit),
    Text,
    Bytes(BinaryHandling),
    /// A type in the record's schema that does not fit the column's type in the catalog.
    Foreign(String),
}

/// `io.debezium.data.VariableScaleDecimal`
#[derive(Deserialize)]
struct Variable {
    scale: i32,
    value: String,
}

impl Form {
    /// The form of a column in records without a schema.
    pub(super) fn of_catalog(column: &FullRowColumn, settings: Settings) -> Self {
        let form = Self::of_type(column.field.ty, column.declared);
        let digits = match column.declared {
            Declared::Fraction { digits } => digits,
            Declared::Plain | Declared::Number { .. } => 6,
        };
        match (form, column.declared) {
            (Self::Decimal { precision, scale, .. }, _) => {
                let wire = plain_decimal(Some(scale.into()), settings.decimals);
                Self::Decimal { precision, scale, wire }
            }
            (Self::Number(_), Declared::Number { scale }) => Self::Number(plain_decimal(scale, settings.decimals)),
            (Self::Bytes(_), _) => Self::Bytes(settings.binary),
            (Self::Date(_), _) if settings.times == TimePrecision::Isostring => Self::Date(Unit::Iso),
            (Self::Instant(_), _) if column.field.ty == FieldType::Timestamp => {
                Self::Instant(timestamp_unit(settings.times, digits))
            }
            (Self::TimeOfDay(_), _) => Self::TimeOfDay(match settings.times {
                TimePrecision::AdaptiveTimeMicroseconds => Unit::Micros,
                times => timestamp_unit(times, digits),
            }),
            (form, _) => form,
        }
    }

    /// The form of a column, as far as its type determines it.
    pub(super) fn of_type(ty: FieldType, declared: Declared) -> Self {
        match ty {
            FieldType::Bool => Self::Bool,
            FieldType::Int16 => Self::Int { min: i16::MIN.into(), max: i16::MAX.into() },
            FieldType::Int32 => Self::Int { min: i32::MIN.into(), max: i32::MAX.into() },
            FieldType::Int64 => Self::Int { min: i64::MIN, max: i64::MAX },
            FieldType::Float32 => Self::Single,
            FieldType::Float64 => Self::Double,
            FieldType::Decimal { precision, scale } => {
                Self::Decimal { precision, scale, wire: Wire::Binary(scale.into()) }
            }
            FieldType::Date => Self::Date(Unit::Days),
            FieldType::Time => Self::TimeOfDay(Unit::Micros),
            FieldType::Timestamp => Self::Instant(Unit::Micros),
            FieldType::TimestampTz => Self::Instant(Unit::Iso),
            FieldType::Text if matches!(declared, Declared::Number { .. }) => Self::Number(Wire::Text),
            FieldType::Text => Self::Text,
            FieldType::Bytes => Self::Bytes(BinaryHandling::Base64),
        }
    }

    /// The type and form of a catalog column in a record whose schema describes it like this.
    pub(super) fn described(ty: FieldType, declared: Declared, field: &schema::Field) -> (FieldType, Self) {
        let found = field.described();
        let foreign = || Self::Foreign(found.foreign());
        let form = match Self::of_type(ty, declared) {
            Self::Decimal { precision, scale, .. } => match decimal_wire(found, Some(scale.into())) {
                Some(wire) => Self::Decimal { precision, scale, wire },
                None => foreign(),
            },
            Self::Number(_) => {
                let Declared::Number { scale } = declared else { return (ty, foreign()) };
                decimal_wire(found, scale).map_or_else(foreign, Self::Number)
            }
            Self::Instant(_) => time_unit(found).map_or_else(foreign, Self::Instant),
            Self::Date(_) => match time_unit(found) {
                Some(unit @ (Unit::Days | Unit::Iso)) => Self::Date(unit),
                _ => foreign(),
            },
            Self::TimeOfDay(_) => day_unit(found).map_or_else(foreign, Self::TimeOfDay),
            // An integer with a logical type is a time or an interval.
            Self::Int { .. } | Self::Bool if found.name.is_some() => foreign(),
            // How the bytes were made text is not said: base64, or hexadecimal.
            Self::Bytes(_) if found.ty == "string" => return (FieldType::Text, Self::Text),
            Self::Text if found.ty == "bytes" => return Self::of_schema(field),
            form => form,
        };
        (ty, form)
    }

    /// The type and form by the record's schema alone.
    pub(super) fn of_schema(field: &schema::Field) -> (FieldType, Self) {
        const CONNECT: &str = "org.apache.kafka.connect.data.";
        const TIMES: &str = "io.debezium.time.";
        let found = field.described();
        let name = found.name.unwrap_or_default();
        if let Some(wire @ (Wire::Binary(_) | Wire::Variable)) = decimal_wire(found, None) {
            return decimal_of_schema(wire, field.precision());
        }
        let short = name.strip_prefix(TIMES).or_else(|| name.strip_prefix(CONNECT)).unwrap_or_default();
        let ty = match (short, found.ty) {
            ("Date" | "IsoDate", _) => FieldType::Date,
            ("Time" | "MicroTime" | "NanoTime" | "IsoTime", _) => FieldType::Time,
            ("Timestamp" | "MicroTimestamp" | "NanoTimestamp" | "IsoTimestamp", _) => FieldType::Timestamp,
            ("ZonedTimestamp", _) => FieldType::TimestampTz,
            // Times with a zone, and intervals.
            _ if name.starts_with(TIMES) => FieldType::Text,
            (_, "boolean") => FieldType::Bool,
            (_, "int8" | "int16") => FieldType::Int16,
            (_, "int32") => FieldType::Int32,
            (_, "int64") => FieldType::Int64,
            (_, "float" | "float32") => FieldType::Float32,
            (_, "double" | "float64") => FieldType::Float64,
            (_, "bytes") => FieldType::Bytes,
            _ => FieldType::Text,
        };
        let form = match Self::of_type(ty, Declared::Plain) {
            Self::Instant(unit) => Self::Instant(time_unit(found).unwrap_or(unit)),
            Self::Date(unit) => Self::Date(time_unit(found).unwrap_or(unit)),
            Self::TimeOfDay(unit) => Self::TimeOfDay(day_unit(found).unwrap_or(unit)),
            form => form,
        };
        (ty, form)
    }

    /// Reads a value, which may be `placeholder`.
    pub(super) fn read(&self, json: &str, placeholder: &Placeholder) -> Result<Cell, String> {
        match json.as_bytes().first() {
            Some(b'n') => Ok(Cell::Null),
            Some(b'"') => {
                let text = parse(TextSeed("it"), json).map_err(|error| format!("it is not text: {error}"))?;
                self.text(text.as_deref().unwrap_or_default(), placeholder)
            }
            Some(b't' | b'f') => match self {
                Self::Bool => Ok(Cell::Bool(json == "true")),
                Self::Text => Ok(Cell::Text(json.into())),
                _ => Err(self.misfit("a boolean")),
            },
            Some(b'{' | b'[') => match self {
                Self::Text => Ok(Cell::Text(json.into())),
                Self::Decimal { .. } | Self::Number(_) => self.variable(json, placeholder),
                _ => Err(self.misfit(if json.starts_with('[') { "an array" } else { "an object" })),
            },
            _ => self.number(json),
        }
    }

    fn number(&self, json: &str) -> Result<Cell, String> {
        let whole = || json.parse::<i64>().map_err(|_| self.misfit(number_shape(json)));
        match self {
            Self::Int { min, max } => match json.parse::<i64>() {
                Ok(fits) if (*min..=*max).contains(&fits) => Ok(Cell::Int(fits)),
                Err(_) if json.contains(['.', 'e', 'E']) => Err(self.misfit(number_shape(json))),
                _ => Err(format!("found a whole number outside of the column's range {min} to {max}")),
            },
            Self::Single => match json.parse::<f32>() {
                Ok(found) if found.is_finite() => Ok(Cell::Float(found.into())),
                _ => Err("found a number outside of the column's range".to_owned()),
            },
            Self::Double => match json.parse::<f64>() {
                Ok(found) if found.is_finite() => Ok(Cell::Float(found)),
                _ => Err(self.misfit(number_shape(json))),
            },
            Self::Decimal { wire: Wire::Double | Wire::Rounded, .. } | Self::Number(Wire::Double | Wire::Rounded) => {
                Err(LOSSY.to_owned())
            }
            Self::Decimal { .. } | Self::Number(_) if json.contains(['.', 'e', 'E']) => Err(LOSSY.to_owned()),
            Self::Decimal { precision, scale, .. } => exact::from_text(json, *precision, *scale)
                .map(Cell::Decimal)
                .map_err(|why| format!("found a whole number; {why}")),
            Self::Date(Unit::Iso) => Err(self.misfit(number_shape(json))),
            Self::Date(_) => match i32::try_from(time::days_from_count(whole()?)) {
                Ok(days) => Ok(Cell::Int(date(days).into())),
                Err(_) => Err(self.misfit(number_shape(json))),
            },
            Self::TimeOfDay(unit) => {
                time::of_day_from_count(whole()?, *unit).map(Cell::Int).ok_or_else(|| self.misfit(number_shape(json)))
            }
            Self::Instant(unit) => {
                let at = time::from_count(whole()?, *unit).ok_or_else(|| self.misfit(number_shape(json)))?;
                Ok(Cell::Int(at.0))
            }
            Self::Text | Self::Number(_) => Ok(Cell::Text(json.into())),
            Self::Bool | Self::Bytes(_) | Self::Foreign(_) => Err(self.misfit(number_shape(json))),
        }
    }

    fn text(&self, found: &str, placeholder: &Placeholder) -> Result<Cell, String> {
        let untouched = placeholder.is(found);
        match self {
            Self::Text if found.contains('\0') => Err(NUL.to_owned()),
            Self::Text => Ok(Cell::Text(found.into())),
            // The placeholder itself, however the connector writes it.
            Self::Bytes(_) if untouched => Ok(Cell::Bytes(placeholder.text.as_bytes().into())),
            Self::Bytes(handling) => bytes_of(found, *handling).map(|bytes| Cell::Bytes(bytes.into())),
            Self::Number(_) if untouched => Ok(Cell::Text(placeholder.text.clone())),
            _ if untouched => Err(UNTOUCHED.to_owned()),
            Self::Number(wire) => number_text(found, *wire).map(|text| Cell::Text(text.into())),
            Self::Decimal { precision, scale, wire } => decimal_text(found, *precision, *scale, *wire)
                .map(Cell::Decimal)
                .map_err(|why| format!("found {}; {why}", shape(found))),
            Self::Single | Self::Double => match found {
                "NaN" | "NAN" => Ok(Cell::Float(f64::NAN)),
                "Infinity" | "POSITIVE_INFINITY" => Ok(Cell::Float(f64::INFINITY)),
                "-Infinity" | "NEGATIVE_INFINITY" => Ok(Cell::Float(f64::NEG_INFINITY)),
                _ => Err(self.misfit(&shape(found))),
            },
            Self::Date(_) => match time::days_from_iso(found).map(i32::try_from) {
                Ok(Ok(days)) => Ok(Cell::Int(date(days).into())),
                _ => Err(self.misfit(&shape(found))),
            },
            Self::TimeOfDay(_) => time::of_day_from_iso(found).map(Cell::Int).map_err(|_| self.misfit(&shape(found))),
            Self::Instant(_) => match time::from_iso(found) {
                Ok(at) => Ok(Cell::Int(at.0)),
                Err(_) => Err(self.misfit(&shape(found))),
            },
            Self::Bool | Self::Int { .. } | Self::Foreign(_) => Err(self.misfit(&shape(found))),
        }
    }

    /// Reads an object with scale and base64.
    fn variable(&self, json: &str, placeholder: &Placeholder) -> Result<Cell, String> {
        let Ok(Variable { scale: written, value }) = serde_json::from_str(json) else {
            return Err("found what is no object of a scale and a value, expected a decimal".to_owned());
        };
        match self {
            Self::Number(_) if placeholder.is_bytes(&value) => Ok(Cell::Text(placeholder.text.clone())),
            Self::Number(_) => exact::text_of_base64(&value, written).map(|text| Cell::Text(text.into())),
            Self::Decimal { .. } if placeholder.is_bytes(&value) => Err(UNTOUCHED.to_owned()),
            Self::Decimal { precision, scale, .. } => {
                exact::from_base64(&value, written, *precision, *scale).map(Cell::Decimal)
            }
            _ => Err(self.misfit("an object")),
        }
    }

    fn misfit(&self, found: &str) -> String {
        let wanted = match self {
            Self::Bool => "true or false",
            Self::Int { .. } => "a whole number",
            Self::Single | Self::Double => "a number",
            Self::Decimal { .. } | Self::Number(_) => "a decimal",
            Self::Date(Unit::Iso) | Self::TimeOfDay(Unit::Iso) | Self::Instant(Unit::Iso) => {
                "a time in ISO 8601; set source.times to the connector's time.precision.mode"
            }
            Self::TimeOfDay(_) => {
                "a count from midnight to midnight; set source.times to the connector's time.precision.mode"
            }
            Self::Date(_) | Self::Instant(_) => {
                "a count since the epoch; set source.times to the connector's time.precision.mode"
            }
            Self::Text => "text",
            Self::Bytes(_) => "base64 or hexadecimal text",
            Self::Foreign(name) => {
                return format!(
                    "found {found}, of the type {name:?} in the record's schema, which does not go with the column's; \
                     was the column altered, or is connect.meta.data false in an Avro converter?"
                );
            }
        };
        format!("found {found}, expected {wanted}")
    }
}

/// The name of a number in a reason.
fn number_shape(json: &str) -> &'static str {
    if json.contains(['.', 'e', 'E']) { "a number with a fraction" } else { WHOLE_NUMBER }
}

fn decimal_of_schema(wire: Wire, precision: Option<u8>) -> (FieldType, Form) {
    let scale = match wire {
        Wire::Binary(scale) => u8::try_from(scale).ok(),
        _ => None,
    };
    // Without a precision (money, or an older connector), the greatest there is.
    match (scale, precision.unwrap_or(38)) {
        (Some(scale), precision @ 1..=38) if scale <= 38 => {
            // 0.00012 is a numeric(2,5) in Postgres. Elsewhere the scale's digits are part of the precision.
            let precision = precision.max(scale);
            (FieldType::Decimal { precision, scale }, Form::Decimal { precision, scale, wire })
        }
        _ => (FieldType::Text, Form::Number(wire)),
    }
}

/// Decodes the connector's text for bytes.
fn bytes_of(found: &str, handling: BinaryHandling) -> Result<Vec<u8>, String> {
    const SET: &str = "set source.binary to \"hex\" or \"base64\", as the connector's binary.handling.mode is";
    let base64 = || if found.contains(['-', '_']) { URL_SAFE.decode(found) } else { STANDARD.decode(found) };
    match (handling, from_hex(found), base64()) {
        (BinaryHandling::Auto, Some(_), Ok(_)) if !found.is_empty() => {
            Err(format!("it may be hexadecimal text or base64 and the record has no schema to tell: {SET}"))
        }
        (BinaryHandling::Auto | BinaryHandling::Base64, _, Ok(bytes))
        | (BinaryHandling::Auto | BinaryHandling::Hex, Some(bytes), _) => Ok(bytes),
        (BinaryHandling::Auto, None, Err(_)) => Err(format!(
            "found {}, which is neither hexadecimal text nor base64, as every binary.handling.mode writes bytes",
            shape(found)
        )),
        (BinaryHandling::Base64, _, Err(_)) => Err(format!("found {}, which is not base64; {SET}", shape(found))),
        (BinaryHandling::Hex, None, _) => Err(format!("found {}, which is not hexadecimal; {SET}", shape(found))),
    }
}

/// Debezium's and Kafka Connect's names of times of the day.
fn day_unit(found: Described<'_>) -> Option<Unit> {
    Some(match found.name {
        Some("io.debezium.time.Time" | "org.apache.kafka.connect.data.Time") => Unit::Millis,
        Some("io.debezium.time.MicroTime") => Unit::Micros,
        Some("io.debezium.time.NanoTime") => Unit::Nanos,
        Some("io.debezium.time.IsoTime") => Unit::Iso,
        None if found.ty == "string" => Unit::Iso,
        _ => return None,
    })
}

fn decimal_text(found: &str, precision: u8, scale: u8, wire: Wire) -> Result<i128, String> {
    if is_special(found) && !matches!(wire, Wire::Binary(_)) {
        return exact::from_text(found, precision, scale);
    }
    match written(found, wire)? {
        None => exact::from_text(found, precision, scale),
        Some(written) => exact::from_base64(found, written, precision, scale),
    }
    .map_err(|why| format!("{why}; or {SET}"))
}

fn number_text(found: &str, wire: Wire) -> Result<String, String> {
    if is_special(found) && !matches!(wire, Wire::Binary(_)) {
        return Ok(found.to_owned());
    }
    let why = match written(found, wire) {
        Ok(None) if is_decimal(found) => return Ok(found.to_owned()),
        Ok(None) => format!("it is not a decimal number; or {SET}"),
        Ok(Some(scale)) => match exact::text_of_base64(found, scale) {
            Ok(text) => return Ok(text),
            Err(why) => format!("{why}; or {SET}"),
        },
        Err(why) => why,
    };
    Err(format!("found {}; {why}", shape(found)))
}

/// The scale of a base64 value. `None` for decimal text.
fn written(found: &str, wire: Wire) -> Result<Option<i32>, String> {
    match wire {
        Wire::Text => Ok(None),
        Wire::Binary(scale) => Ok(Some(scale)),
        // The alphabet of base64 has neither a point nor a minus, and a scale of 1 or more always shows one of them.
        Wire::Guess(_) if found.contains(['.', '-']) => Ok(None),
        Wire::Guess(scale) => Ok(Some(scale)),
        Wire::Ambiguous => Err(format!("it may be digits or base64 and the record has no schema to tell: {SET}")),
        Wire::Double | Wire::Rounded => Err("text is no binary float".to_owned()),
        Wire::Variable => Err(format!("expected an object of scale and value: {SET}")),
    }
}

/// Days since 1970-01-01. Days past Postgres's own dates (5874897-12-31, and 4714-11-24 BC) are the connector's
/// encoding of an infinity. Readers of Parquet that support infinite dates have them at the ends of 32 bits.
fn date(days: i32) -> i32 {
    const LAST: i32 = 2_145_042_905;
    const FIRST: i32 = -2_440_588;
    match days {
        ..FIRST => -i32::MAX,
        FIRST..=LAST => days,
        _ => i32::MAX,
    }
}
