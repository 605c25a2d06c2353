//! Debezium's records in Avro → the JSON of Kafka Connect's JsonConverter, schema and payload, which the decoders read.
//! Pure: schemas come from elsewhere.
//!
//! - this file: which schema a record was written with, and the records themselves
//! - [`connect`]: what an Avro schema says of Kafka Connect's types
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
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_avro_fast::Schema;
use serde_avro_fast::de::DeserializerState;
use serde_avro_fast::de::read::{Read as _, SliceRead};

use super::{Reject, RejectKind};

/// Before the schema's id where that stands in front of the value.
const MAGIC: u8 = 0;
/// Headers of Apicurio's serializers, for a key and a value.
const GLOBAL_ID: [&str; 2] = ["apicurio.key.globalId", "apicurio.value.globalId"];
const CONTENT_ID: [&str; 2] = ["apicurio.key.contentId", "apicurio.value.contentId"];

/// The name of a schema in a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchemaId {
    /// Of 4 bytes in front of the value: Confluent's, and Apicurio's of today.
    Short(u32),
    /// Of 8 bytes in front of the value: Apicurio's of before.
    Long(u64),
    /// In the header `apicurio.….globalId`.
    Global(u64),
    /// In the header `apicurio.….contentId`.
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
    /// Its key.
    Key,
    /// Its value.
    Value,
}

/// Whether a header of this name holds the id of a schema.
pub fn names_schema(header: &str) -> bool {
    GLOBAL_ID.contains(&header) || CONTENT_ID.contains(&header)
}

/// The id of the schema that bytes were written with, and the bytes of the value itself. `None`: they are no Avro of a
/// registry.
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

/// A schema that records were written with.
pub struct WriterSchema {
    avro: Schema,
    /// Kafka Connect's schema of it, in JSON.
    connect: String,
}

impl fmt::Debug for WriterSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriterSchema").field("connect", &self.connect).finish_non_exhaustive()
    }
}

impl WriterSchema {
    /// Reads the text of an Avro schema.
    ///
    /// # Errors
    /// A sentence: it is no Avro schema.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tree: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let connect = connect::of_avro(&tree)?.to_string();
        // Values are wanted as they were written.
        connect::without_logical_types(&mut tree);
        let avro: Schema = tree.to_string().parse().map_err(|error| format!("{error}"))?;
        Ok(Self { avro, connect })
    }

    /// One value as JsonConverter would have written it, with its schema.
    ///
    /// # Errors
    /// A sentence: the bytes are not of this schema.
    pub fn to_json(&self, bytes: &[u8]) -> Result<String, String> {
        let mut json = String::with_capacity(self.connect.len().saturating_add(bytes.len().saturating_mul(4)));
        json.push_str("{\"schema\":");
        json.push_str(&self.connect);
        json.push_str(",\"payload\":");
        let mut state = DeserializerState::new(SliceRead::new(bytes), &self.avro);
        ToJson(&mut json).deserialize(state.deserializer()).map_err(|error| error.to_string())?;
        if state.into_reader().skip_bytes(1).is_ok() {
            return Err("there are bytes behind the value".to_owned());
        }
        json.push('}');
        Ok(json)
    }
}

/// The schemas that are known, by id.
#[derive(Clone, Debug, Default)]
pub struct Schemas(HashMap<SchemaId, Result<Arc<WriterSchema>, String>>);

/// Why bytes could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// This schema is not known yet.
    Unknown(SchemaId),
    /// They are invalid.
    Invalid(Reject),
}

impl Schemas {
    /// Takes note of a schema's text, or of why there is none.
    pub fn learn(&mut self, id: SchemaId, text: Result<String, String>) {
        let schema = text.and_then(|text| WriterSchema::parse(&text).map(Arc::new));
        self.0.insert(id, schema);
    }

    /// Forgets which schemas there are not, so that they are asked for again: registries of several servers may have one a
    /// moment later.
    pub fn forget_missing(&mut self) {
        self.0.retain(|_, schema| schema.is_ok());
    }

    /// Bytes of a record as JSON: as they are, unless they are Avro of a registry.
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

    /// A value that was written with this schema as JSON.
    ///
    /// # Errors
    /// As of [`Schemas::json`].
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

/// Writes a value at the end of a text, as JSON.
struct ToJson<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for ToJson<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl ToJson<'_> {
    fn write<E>(self, shown: impl fmt::Display) -> Result<(), E> {
        use fmt::Write as _;
        let _ = write!(self.0, "{shown}");
        Ok(())
    }

    /// A number by its digits; what is no number as JsonConverter writes it.
    fn number<E>(self, found: f64, digits: impl fmt::Display) -> Result<(), E> {
        match found {
            f64::INFINITY => self.text("Infinity"),
            f64::NEG_INFINITY => self.text("-Infinity"),
            _ if found.is_nan() => self.text("NaN"),
            _ => self.write(digits),
        }
    }

    /// Ends a list, after the comma behind its last element.
    fn close(self, bracket: char) {
        if self.0.ends_with(',') {
            self.0.pop();
        }
        self.0.push(bracket);
    }

    fn text<E>(self, text: &str) -> Result<(), E> {
        // Quotes and escapes as JSON has them.
        self.write(serde_json::Value::from(text))
    }
}

impl<'de> Visitor<'de> for ToJson<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of Avro")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.push_str("null");
        Ok(())
    }

    fn visit_bool<E>(self, found: bool) -> Result<(), E> {
        self.write(found)
    }

    fn visit_i32<E>(self, found: i32) -> Result<(), E> {
        self.write(found)
    }

    fn visit_i64<E>(self, found: i64) -> Result<(), E> {
        self.write(found)
    }

    fn visit_f32<E>(self, found: f32) -> Result<(), E> {
        // By its own digits: as a double it would have more.
        self.number(found.into(), format_args!("{found:?}"))
    }

    fn visit_f64<E>(self, found: f64) -> Result<(), E> {
        self.number(found, format_args!("{found:?}"))
    }

    fn visit_str<E>(self, found: &str) -> Result<(), E> {
        self.text(found)
    }

    fn visit_bytes<E>(self, found: &[u8]) -> Result<(), E> {
        self.0.push('"');
        STANDARD.encode_string(found, self.0);
        self.0.push('"');
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.push('[');
        while items.next_element_seed(ToJson(self.0))?.is_some() {
            self.0.push(',');
        }
        self.close(']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        self.0.push('{');
        while fields.next_key_seed(ToJson(self.0))?.is_some() {
            self.0.push(':');
            fields.next_value_seed(ToJson(self.0))?;
            self.0.push(',');
        }
        self.close('}');
        Ok(())
    }
}
