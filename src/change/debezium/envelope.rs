//! Reads Debezium's envelope in one pass: `before`, `after`, `source`, `op`, or the `schema` and `payload` around it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::named::{NameSeed, Number, NumberSeed, Once, TextSeed};
use super::value::shape;
use crate::change::Op;

/// The `op` of an envelope.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Letter {
    #[default]
    Absent,
    Of(Op),
    /// `m`: a logical message, which belongs to no table.
    Message,
    /// Any other value, as it is named in a reason.
    Unknown(String),
}

/// The deserializer for `after`.
pub(super) trait After<'de> {
    /// The result. The default if `after` is missing.
    type Read: Default;
    /// Whether the times of the envelope itself are read.
    const TIMES: bool;

    fn read<D: Deserializer<'de>>(&mut self, json: D) -> Result<Self::Read, D::Error>;
}

struct AfterSeed<'a, A>(&'a mut A);

impl<'de, A: After<'de>> DeserializeSeed<'de> for AfterSeed<'_, A> {
    type Value = A::Read;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<A::Read, D::Error> {
        self.0.read(json)
    }
}

/// The fields of an envelope.
#[derive(Default)]
pub(super) struct Envelope<'de, A> {
    pub(super) op: Letter,
    /// The JSON of `before`. Only a delete needs it, and `op` follows it.
    pub(super) before: Option<&'de RawValue>,
    pub(super) after: A,
    pub(super) source: Source,
    /// When the connector wrote the record, if the times are read.
    pub(super) ts_us: Number,
    pub(super) ts_ms: Number,
    pub(super) schema: Option<&'de RawValue>,
    pub(super) payload: Option<&'de RawValue>,
}

/// The origin of a change.
#[derive(Default)]
pub(super) struct Source {
    pub(super) lsn: Number,
    pub(super) tx_id: Number,
    pub(super) ts_us: Number,
    pub(super) ts_ms: Number,
    /// The database's name, if it is not the expected one.
    pub(super) other_database: Option<String>,
    /// The schema's name, if it is not the expected one.
    pub(super) other_schema: Option<String>,
    pub(super) other_table: Option<String>,
}

/// The deserializer for an envelope.
pub(super) struct EnvelopeSeed<'a, A> {
    pub(super) database: Option<&'a str>,
    pub(super) schema: &'a str,
    pub(super) table: &'a str,
    pub(super) after: A,
}

#[derive(Clone, Copy)]
enum Field {
    Other,
    Before,
    After,
    Source,
    Op,
    Schema,
    Payload,
    Micros,
    Millis,
}

impl Field {
    const NAMES: [&str; 9] = ["", "before", "after", "source", "op", "schema", "payload", "ts_us", "ts_ms"];
}

impl<'de, A: After<'de>> DeserializeSeed<'de> for EnvelopeSeed<'_, A> {
    type Value = Envelope<'de, A::Read>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de, A: After<'de>> Visitor<'de> for EnvelopeSeed<'_, A> {
    type Value = Envelope<'de, A::Read>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object: Debezium's envelope")
    }

    fn visit_map<M: MapAccess<'de>>(mut self, mut fields: M) -> Result<Self::Value, M::Error> {
        let (mut envelope, mut once) = (Envelope::default(), Once::new(&Field::NAMES));
        while let Some(part) = fields.next_key_seed(NameSeed(|name: &str| match name {
            "before" => Field::Before,
            "after" => Field::After,
            "source" => Field::Source,
            "op" => Field::Op,
            "schema" => Field::Schema,
            "payload" => Field::Payload,
            "ts_us" if A::TIMES => Field::Micros,
            "ts_ms" if A::TIMES => Field::Millis,
            _ => Field::Other,
        }))? {
            once.first(part as usize)?;
            match part {
                Field::Before => envelope.before = fields.next_value()?,
                Field::After => envelope.after = fields.next_value_seed(AfterSeed(&mut self.after))?,
                Field::Source => {
                    let Self { database, schema, table, .. } = self;
                    envelope.source = fields.next_value_seed(SourceSeed { database, schema, table })?;
                }
                Field::Op => envelope.op = letter(fields.next_value_seed(TextSeed("op"))?.as_deref()),
                Field::Schema => envelope.schema = Some(fields.next_value()?),
                Field::Payload => envelope.payload = Some(fields.next_value()?),
                Field::Micros => envelope.ts_us = fields.next_value_seed(NumberSeed)?,
                Field::Millis => envelope.ts_ms = fields.next_value_seed(NumberSeed)?,
                Field::Other => _ = fields.next_value::<IgnoredAny>()?,
            }
        }
        Ok(envelope)
    }
}

pub(super) fn letter(op: Option<&str>) -> Letter {
    match op {
        None => Letter::Absent,
        Some("c") => Letter::Of(Op::Create),
        Some("u") => Letter::Of(Op::Update),
        Some("d") => Letter::Of(Op::Delete),
        Some("r") => Letter::Of(Op::Read),
        Some("t") => Letter::Of(Op::Truncate),
        Some("m") => Letter::Message,
        Some(other) => Letter::Unknown(shape_of_letter(other)),
    }
}

/// The name of an unknown operation in a reason. A single letter is shown. A longer text may be anything, such as a
/// column's value.
fn shape_of_letter(found: &str) -> String {
    let mut characters = found.chars();
    match (characters.next(), characters.next()) {
        (Some(_), None) => format!("{found:?}"),
        _ => shape(found),
    }
}

struct SourceSeed<'a> {
    database: Option<&'a str>,
    schema: &'a str,
    table: &'a str,
}

impl<'de> DeserializeSeed<'de> for SourceSeed<'_> {
    type Value = Source;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Source, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for SourceSeed<'_> {
    type Value = Source;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object: the source of the change")
    }

    fn visit_unit<E>(self) -> Result<Source, E> {
        Ok(Source::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Source, A::Error> {
        let names = [
            "",
            "source.lsn",
            "source.txId",
            "source.ts_us",
            "source.ts_ms",
            "source.schema",
            "source.table",
            "source.db",
        ];
        let (mut source, mut once) = (Source::default(), Once::new(&names));
        while let Some(field) = fields.next_key_seed(NameSeed(|name: &str| match name {
            "lsn" => 1,
            "txId" => 2,
            "ts_us" => 3,
            "ts_ms" => 4,
            "schema" => 5,
            "table" => 6,
            "db" => 7,
            _ => 0,
        }))? {
            once.first(field)?;
            match field {
                1 => source.lsn = fields.next_value_seed(NumberSeed)?,
                2 => source.tx_id = fields.next_value_seed(NumberSeed)?,
                3 => source.ts_us = fields.next_value_seed(NumberSeed)?,
                4 => source.ts_ms = fields.next_value_seed(NumberSeed)?,
                5 => {
                    source.other_schema =
                        other(fields.next_value_seed(TextSeed("source.schema"))?.as_deref(), self.schema)
                }
                6 => {
                    source.other_table = other(fields.next_value_seed(TextSeed("source.table"))?.as_deref(), self.table)
                }
                7 => {
                    let found = fields.next_value_seed(TextSeed("source.db"))?;
                    source.other_database = self.database.and_then(|expected| other(found.as_deref(), expected));
                }
                _ => _ = fields.next_value::<IgnoredAny>()?,
            }
        }
        Ok(source)
    }
}

/// The name that was found, if it is not the expected one.
pub(super) fn other(found: Option<&str>, expected: &str) -> Option<String> {
    found.filter(|found| *found != expected).map(|found| found.chars().take(64).collect())
}

/// A record's key, or an envelope of which only `schema` and `payload` are read.
#[derive(Default)]
pub(super) struct Wrapping<'de> {
    pub(super) schema: Option<&'de RawValue>,
    pub(super) payload: Option<&'de RawValue>,
}

/// Reads a [`Wrapping`] from an object.
pub(super) struct WrappingSeed;

impl<'de> DeserializeSeed<'de> for WrappingSeed {
    type Value = Wrapping<'de>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Wrapping<'de>, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WrappingSeed {
    type Value = Wrapping<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of the key's columns")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Wrapping<'de>, A::Error> {
        let mut wrapping = Wrapping::default();
        while let Some(field) = fields.next_key_seed(NameSeed(|name: &str| match name {
            "schema" => 1,
            "payload" => 2,
            _ => 0,
        }))? {
            match field {
                1 => wrapping.schema = Some(fields.next_value()?),
                2 => wrapping.payload = Some(fields.next_value()?),
                _ => _ = fields.next_value::<IgnoredAny>()?,
            }
        }
        Ok(wrapping)
    }
}
