//! Converts Debezium's Avro records to the JSON of Kafka Connect's JsonConverter, schema and payload, which the
//! decoders read. Pure: the caller provides the schemas.
//!
//! - this file: the schema with which a record was written, and the records themselves
//! - [`connect`]: Kafka Connect's types in an Avro schema
//!
//! Formats: <https://avro.apache.org/docs/1.12.0/specification/#binary-encoding>,
//! <https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format>,
//! <https://www.apicur.io/registry/docs/apicurio-registry/3.0.x/getting-started/assembly-configuring-kafka-client-serdes.html>.

mod connect;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_avro_fast::Schema;
use serde_avro_fast::de::DeserializerState;
use serde_avro_fast::de::read::{Read as _, SliceRead};

use super::{Reject, RejectKind};
use crate::model::text::without_value;

/// The byte before a schema's id in front of the value.
const MAGIC: u8 = 0;
/// Headers of Apicurio's serializers, for a key and a value.
const GLOBAL_ID: [&str; 2] = ["apicurio.key.globalId", "apicurio.value.globalId"];
const CONTENT_ID: [&str; 2] = ["apicurio.key.contentId", "apicurio.value.contentId"];

/// The id of a schema in a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchemaId {
    /// 4 bytes in front of the value: Confluent's, and Apicurio's current format.
    Short(u32),
    /// 8 bytes in front of the value: Apicurio's former format.
    Long(u64),
    /// From the header `apicurio.….globalId`.
    Global(u64),
    /// From the header `apicurio.….contentId`.
    Content(u64),
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(id) => write!(f, "{id}"),
            Self::Long(id) => write!(f, "{id} (8 bytes)"),
            Self::Global(id) => write!(f, "{id} (globalId)"),
            Self::Content(id) => write!(f, "{id} (contentId)"),
        }
    }
}

/// A part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordPart {
    /// The record's key.
    Key,
    /// The record's value.
    Value,
}

/// Whether a header of this name holds the id of a schema.
pub fn names_schema(header: &str) -> bool {
    GLOBAL_ID.contains(&header) || CONTENT_ID.contains(&header)
}

/// Returns the id of the schema with which bytes were written, and the bytes of the value itself. `None`: the bytes are
/// not Avro with a registry.
pub fn framing<'r, 'b>(
    bytes: &'b [u8],
    part: RecordPart,
    headers: impl Iterator<Item = (&'r str, Option<&'r [u8]>)>,
) -> Option<(SchemaId, &'b [u8])> {
    let index = usize::from(part == RecordPart::Value);
    for (name, value) in headers {
        let id = || Some(u64::from_be_bytes(value?.try_into().ok()?));
        if GLOBAL_ID.get(index) == Some(&name) {
            return Some((SchemaId::Global(id()?), bytes));
        }
        if CONTENT_ID.get(index) == Some(&name) {
            return Some((SchemaId::Content(id()?), bytes));
        }
    }
    let (&MAGIC, rest) = bytes.split_first()? else { return None };
    let (short, body) = rest.split_first_chunk::<4>()?;
    match u32::from_be_bytes(*short) {
        // No registry gives this one: these are the first four bytes of eight.
        0 => {
            let (long, body) = rest.split_first_chunk::<8>()?;
            Some((SchemaId::Long(u64::from_be_bytes(*long)), body))
        }
        id => Some((SchemaId::Short(id), body)),
    }
}

/// The greatest size of a schema's text in bytes. A table of 1,600 columns, the most that Postgres allows, needs a
/// tenth of that.
pub const SCHEMA_MAX: usize = 4 << 20;

/// The greatest size in bytes of the JSON for a value of this many bytes. A null takes one byte and is written with the
/// name of its column, which has at most 63. Only types that take no bytes, such as lists of nulls, become longer.
fn json_max(bytes: usize) -> usize {
    const MIB: usize = 1 << 20;
    let small = bytes.saturating_mul(128).saturating_add(MIB);
    small.min(bytes.saturating_mul(8).saturating_add(128 * MIB))
}

/// The schema with which records were written.
pub struct WriterSchema {
    avro: Schema,
    /// Kafka Connect's form of the schema, as JSON.
    connect: String,
}

impl fmt::Debug for WriterSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriterSchema").field("connect", &self.connect).finish_non_exhaustive()
    }
}

impl WriterSchema {
    /// Parses the text of an Avro schema.
    ///
    /// # Errors
    /// A sentence: the text is not an Avro schema.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > SCHEMA_MAX {
            return Err(format!("its schema has {} bytes, and at most {SCHEMA_MAX} are read", text.len()));
        }
        let tree: serde_json::Result<serde_json::Value> = serde_json::from_str(text);
        let mut tree = tree.map_err(|error| format!("its schema is not JSON: {error}"))?;
        let connect = connect::of_avro(&tree)?.to_string();
        // Values are wanted as they were written.
        connect::without_logical_types(&mut tree);
        let avro: Result<Schema, _> = tree.to_string().parse();
        let avro =
            avro.map_err(|error| format!("its schema is no Avro schema: {}", without_value(&error.to_string())))?;
        Ok(Self { avro, connect })
    }

    /// Converts a value to the JSON that JsonConverter would have written, with its schema.
    ///
    /// # Errors
    /// A sentence: the bytes do not fit this schema.
    pub fn to_json(&self, bytes: &[u8]) -> Result<String, String> {
        let mut json = String::with_capacity(self.connect.len().saturating_add(bytes.len().saturating_mul(4)));
        json.push_str("{\"schema\":");
        json.push_str(&self.connect);
        json.push_str(",\"payload\":");
        let mut state = DeserializerState::new(SliceRead::new(bytes), &self.avro);
        let end = json.len().saturating_add(json_max(bytes.len()));
        ToJson { json: &mut json, end }
            .deserialize(state.deserializer())
            .map_err(|error| in_words(&error.to_string()))?;
        if state.into_reader().skip_bytes(1).is_ok() {
            return Err("there are bytes behind the value".to_owned());
        }
        json.push('}');
        Ok(json)
    }
}

/// Explains an error in words that repeat no data.
fn in_words(error: &str) -> String {
    let known = [
        ("decoding varint", "it ends within a number, or a number has more bytes than its type"),
        ("max sequence size", "a list or a map claims more elements than any has"),
        ("end of slice", "it ends before its last value does"),
        ("IO error", "it ends before its last value does"),
        ("Invalid buffer length", "a text claims a length that is none"),
        ("Invalid block length", "a list claims a length that is none"),
        ("not valid utf-8", "a text is not UTF-8"),
        ("union discriminant", "it names a branch that its union does not have"),
        ("enum discriminant", "it names a symbol that its enum does not have"),
        ("Discriminant is too large", "it names a branch or a symbol below zero"),
        ("deserializing boolean", "a boolean is neither 0 nor 1"),
    ];
    let found = known.iter().find(|(part, _)| error.contains(part));
    found.map_or_else(|| without_value(error), |(_, words)| (*words).to_owned())
}

/// The known schemas by id. An error says why there is none.
#[derive(Clone, Debug, Default)]
pub struct Schemas(HashMap<SchemaId, Result<Arc<WriterSchema>, String>>);

/// Why bytes could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// The schema is not known yet.
    Unknown(SchemaId),
    /// The bytes are invalid.
    Invalid(Reject),
}

impl Schemas {
    /// Stores a schema's text, or the reason why there is none.
    pub fn learn(&mut self, id: SchemaId, text: Result<String, String>) {
        let schema = text.and_then(|text| WriterSchema::parse(&text).map(Arc::new));
        self.0.insert(id, schema);
    }

    /// Forgets the missing schemas, so that they are requested again. A registry of several servers may have one a
    /// moment later.
    pub fn forget_missing(&mut self) {
        self.0.retain(|_, schema| schema.is_ok());
    }

    /// Converts the bytes of a record to JSON. Bytes that are not Avro with a registry are returned unchanged.
    ///
    /// # Errors
    /// The schema is not known, or does not fit.
    pub fn json<'r, 'b>(
        &self,
        bytes: &'b [u8],
        part: RecordPart,
        headers: impl Iterator<Item = (&'r str, Option<&'r [u8]>)>,
    ) -> Result<Cow<'b, [u8]>, JsonError> {
        match framing(bytes, part, headers) {
            None => Ok(Cow::Borrowed(bytes)),
            Some((id, body)) => self.json_of(id, body, part).map(|json| Cow::Owned(json.into_bytes())),
        }
    }

    /// Converts a value that was written with this schema to JSON.
    ///
    /// # Errors
    /// Those of [`Schemas::json`].
    pub fn json_of(&self, id: SchemaId, body: &[u8], part: RecordPart) -> Result<String, JsonError> {
        let what = if part == RecordPart::Key { "the record's key" } else { "the record's value" };
        let invalid = |why: &str| {
            JsonError::Invalid(
                Reject { kind: RejectKind::Avro, detail: format!("{what}, of schema {id}: {why}") }.bounded(),
            )
        };
        match self.0.get(&id) {
            None => Err(JsonError::Unknown(id)),
            Some(Err(why)) => Err(invalid(why)),
            Some(Ok(schema)) => {
                schema.to_json(body).map_err(|why| invalid(&format!("it is not Avro of that schema: {why}")))
            }
        }
    }
}

/// Appends a value to a text, as JSON.
struct ToJson<'a> {
    json: &'a mut String,
    /// The greatest length of the text in bytes.
    end: usize,
}

impl<'de> DeserializeSeed<'de> for ToJson<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl ToJson<'_> {
    fn again(&mut self) -> ToJson<'_> {
        ToJson { json: self.json, end: self.end }
    }

    fn write<E: Error>(self, shown: impl fmt::Display) -> Result<(), E> {
        use fmt::Write as _;
        let _ = write!(self.json, "{shown}");
        self.bounded()
    }

    /// Rejects a text that becomes much longer than its bytes.
    fn bounded<E: Error>(&self) -> Result<(), E> {
        if self.json.len() > self.end {
            return Err(E::custom("it stands for far more values than it has bytes"));
        }
        Ok(())
    }

    /// Writes a number's digits. NaN and the infinities are written like JsonConverter does.
    fn number<E: Error>(self, found: f64, digits: impl fmt::Display) -> Result<(), E> {
        match found {
            f64::INFINITY => self.text("Infinity"),
            f64::NEG_INFINITY => self.text("-Infinity"),
            _ if found.is_nan() => self.text("NaN"),
            _ => self.write(digits),
        }
    }

    /// Closes a list, and removes the comma after its last element.
    fn close<E: Error>(self, bracket: char) -> Result<(), E> {
        if self.json.ends_with(',') {
            self.json.pop();
        }
        self.json.push(bracket);
        self.bounded()
    }

    fn text<E: Error>(self, text: &str) -> Result<(), E> {
        // Quotes and escapes as JSON has them.
        self.write(serde_json::Value::from(text))
    }
}

impl<'de> Visitor<'de> for ToJson<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of Avro")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.write("null")
    }

    fn visit_bool<E: Error>(self, found: bool) -> Result<(), E> {
        self.write(found)
    }

    fn visit_i32<E: Error>(self, found: i32) -> Result<(), E> {
        self.write(found)
    }

    fn visit_i64<E: Error>(self, found: i64) -> Result<(), E> {
        self.write(found)
    }

    fn visit_f32<E: Error>(self, found: f32) -> Result<(), E> {
        // By its own digits: as a double it would have more.
        self.number(found.into(), format_args!("{found:?}"))
    }

    fn visit_f64<E: Error>(self, found: f64) -> Result<(), E> {
        self.number(found, format_args!("{found:?}"))
    }

    fn visit_str<E: Error>(self, found: &str) -> Result<(), E> {
        self.text(found)
    }

    fn visit_bytes<E: Error>(self, found: &[u8]) -> Result<(), E> {
        self.json.push('"');
        STANDARD.encode_string(found, self.json);
        self.json.push('"');
        self.bounded()
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.json.push('[');
        while items.next_element_seed(self.again())?.is_some() {
            self.json.push(',');
        }
        self.close(']')
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<(), A::Error> {
        self.json.push('{');
        while fields.next_key_seed(self.again())?.is_some() {
            self.json.push(':');
            fields.next_value_seed(self.again())?;
            self.json.push(',');
        }
        self.close('}')
    }
}
