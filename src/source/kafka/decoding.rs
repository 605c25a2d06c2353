//! From a message to a decoded record: JSON as it is, Avro by the schemas of a registry.

use std::borrow::Cow;
use std::sync::Arc;

use rdkafka::message::{Headers, Message};

use crate::change::avro::{JsonError, RecordPart, SchemaId, Schemas, framing};
use crate::change::record::{Content, DeadLetter, SourceRecord};
use crate::change::{Decode, Decoded, Reject, RejectKind};
use crate::failure::CallError;
use crate::kafka::registry::Registry;
use crate::model::Position;

/// The encoding of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Each record shows its encoding.
    #[default]
    Auto,
    /// JSON
    Json,
    /// Avro
    Avro,
}

/// Decodes the messages of one topic. Each reader has its own copy, with the schemas that it has fetched.
#[derive(Clone)]
pub struct Decoding<D> {
    /// The decoders of all tables whose changes the topic has, each with the table's place. A record belongs to the
    /// first decoder that does not reject it as a record of another table.
    decoders: Vec<(usize, D)>,
    encoding: Encoding,
    schemas: Schemas,
    registry: Option<Arc<Registry>>,
}

impl<D: Decode> Decoding<D> {
    /// Creates a decoder of records in JSON.
    pub fn of_json(decoder: D) -> Self {
        Self::new(vec![(0, decoder)], Encoding::Json, None)
    }

    /// Creates a decoder of records in this encoding, with the schemas of this registry. `decoders` has a decoder for
    /// each table, with the table's place.
    pub fn new(decoders: Vec<(usize, D)>, encoding: Encoding, registry: Option<Arc<Registry>>) -> Self {
        Self { decoders, encoding, schemas: Schemas::default(), registry }
    }

    /// Returns the record of a message in this lane, or the schema that has to be fetched first.
    pub(super) fn decode<M: Message>(
        &mut self,
        message: &M,
        lane: i32,
        timestamp_ms: i64,
    ) -> Result<SourceRecord<D::Change>, SchemaId> {
        let position = Position { partition: lane, offset: message.offset() };
        let letter = |reject, row| {
            let headers = message.headers().into_iter().flat_map(Headers::iter);
            let headers = headers.map(|header| (header.key, header.value));
            Box::new(DeadLetter::new(position, reject, message.key(), message.payload(), headers).about_row(row))
        };
        let key = self.json(message, message.key(), RecordPart::Key);
        let value = self.json(message, message.payload(), RecordPart::Value);
        if let Err(JsonError::Unknown(id)) = key {
            return Err(id);
        }
        let key_of_row = key.as_ref().ok().and_then(Option::as_deref);
        let (mut place, mut decoded) = (0, Err(no_decoder()));
        let value = match (&key, value) {
            (_, Err(JsonError::Unknown(id))) => return Err(id),
            (Err(JsonError::Invalid(reject)), _) => Err(reject.clone()),
            (_, Err(JsonError::Invalid(reject))) => Err(reject),
            (_, Ok(value)) => Ok(value),
        };
        let are_several = self.decoders.len() > 1;
        for (number, (_, decoder)) in self.decoders.iter_mut().enumerate() {
            (place, decoded) = match &value {
                Err(reject) => (number, Err(reject.clone())),
                // A tombstone does not name its table. The preceding delete of the row does.
                Ok(None) if are_several => (number, Ok(Decoded::Ignored("tombstone in a topic of several tables"))),
                Ok(value) => (number, decoder.decode(key_of_row, value.as_deref())),
            };
            if !matches!(&decoded, Err(reject) if reject.kind == RejectKind::Table) {
                break;
            }
        }
        let content = match decoded {
            Ok(Decoded::Change(change)) => Content::Change(change),
            Ok(Decoded::Partial(change, reject)) => Content::Partial(change, letter(reject, None)),
            Ok(Decoded::Ignored(reason)) => Content::Ignored(reason),
            Err(reject) => {
                // The key of another table is not a row of this one.
                let mine = !reject.kind.is_elsewhere() && !are_several;
                let decoder = self.decoders.get_mut(place).filter(|_| mine);
                let row = decoder.and_then(|(_, decoder)| decoder.row_of(key_of_row));
                Content::Rejected(letter(reject, row))
            }
        };
        let table = self.decoders.get(place).map_or(0, |(table, _)| *table);
        Ok(SourceRecord { position, table, timestamp_ms, content })
    }

    /// Returns a part of a message as JSON.
    fn json<'m, M: Message>(
        &self,
        message: &'m M,
        bytes: Option<&'m [u8]>,
        part: RecordPart,
    ) -> Result<Option<Cow<'m, [u8]>>, JsonError> {
        let Some(bytes) = bytes.filter(|_| self.encoding != Encoding::Json) else {
            return Ok(bytes.map(Cow::Borrowed));
        };
        let headers = message.headers().into_iter().flat_map(Headers::iter).map(|header| (header.key, header.value));
        let refused = |detail: String| Err(JsonError::Invalid(Reject { kind: RejectKind::Avro, detail }));
        match framing(bytes, part, headers) {
            None if self.encoding == Encoding::Avro => refused(
                "it has no id of a schema, neither in front nor in a header: source.format says Avro; is it written by \
                 Confluent's or Apicurio's converter?"
                    .to_owned(),
            ),
            None => Ok(Some(Cow::Borrowed(bytes))),
            Some((id, _)) if self.registry.is_none() => {
                refused(format!("it is Avro of schema {id} in a registry: set source.schema_registry.url"))
            }
            Some((id, body)) => self.schemas.json_of(id, body, part).map(|json| Some(Cow::Owned(json.into_bytes()))),
        }
    }

    /// Forgets which schemas the registry did not have, so that they are asked for again.
    pub(super) fn forget_missing(&mut self) {
        self.schemas.forget_missing();
    }

    /// Reads a schema from the registry. Blocks the thread.
    ///
    /// # Errors
    /// The registry does not answer, or refuses.
    pub(super) fn fetch(&mut self, id: SchemaId) -> Result<(), CallError> {
        if let Some(registry) = &self.registry {
            self.schemas.learn(id, registry.fetch(id)?);
        }
        Ok(())
    }
}

/// Returns the reason for an invalid record without a decoder. Each topic that is read has a decoder.
fn no_decoder() -> Reject {
    Reject { kind: RejectKind::Table, detail: "no table is known for its topic".to_owned() }
}
