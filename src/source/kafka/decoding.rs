//! From a message to a decoded record: JSON as it stands, Avro by the schemas of a registry.

use std::borrow::Cow;
use std::sync::Arc;

use rdkafka::message::{Headers, Message};

use crate::change::avro::{JsonError, RecordPart, SchemaId, Schemas, framing};
use crate::change::record::{Content, DeadLetter, SourceRecord};
use crate::change::{Decode, Decoded, Reject, RejectKind};
use crate::failure::CallError;
use crate::kafka::registry::Registry;
use crate::model::Position;

/// How records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Each record shows it.
    #[default]
    Auto,
    /// JSON
    Json,
    /// Avro
    Avro,
}

/// Decodes messages of one topic. Each reader has a copy of its own, with the schemas that it has fetched.
#[derive(Clone)]
pub struct Decoding<D> {
    /// A decoder for each table whose changes the topic has, with the table's place. A record is of the first that does not take it
    /// for another's.
    decoders: Vec<(usize, D)>,
    encoding: Encoding,
    schemas: Schemas,
    registry: Option<Arc<Registry>>,
}

impl<D: Decode> Decoding<D> {
    /// Of records in JSON alone.
    pub fn of_json(decoder: D) -> Self {
        Self::new(vec![(0, decoder)], Encoding::Json, None)
    }

    /// Of records written so, with the schemas of this registry. `decoders`: of each table, with its place.
    pub fn new(decoders: Vec<(usize, D)>, encoding: Encoding, registry: Option<Arc<Registry>>) -> Self {
        Self { decoders, encoding, schemas: Schemas::default(), registry }
    }

    /// The record of a message in this lane; or the schema that has to be fetched first.
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
                // It follows the delete of its row, which says the table; it does not.
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
                // Another table's key is no row of ours.
                let mine = !reject.kind.is_elsewhere() && !are_several;
                let decoder = self.decoders.get_mut(place).filter(|_| mine);
                let row = decoder.and_then(|(_, decoder)| decoder.row_of(key_of_row));
                Content::Rejected(letter(reject, row))
            }
        };
        let table = self.decoders.get(place).map_or(0, |(table, _)| *table);
        Ok(SourceRecord { position, table, timestamp_ms, content })
    }

    /// A part of a message as JSON.
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

    /// Schemas that the registry did not have are asked for again.
    pub(super) fn forget_missing(&mut self) {
        self.schemas.forget_missing();
    }

    /// Asks the registry for a schema. Blocks.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub(super) fn fetch(&mut self, id: SchemaId) -> Result<(), CallError> {
        if let Some(registry) = &self.registry {
            self.schemas.learn(id, registry.fetch(id)?);
        }
        Ok(())
    }
}

/// Why a record is invalid that no decoder is there for; each topic that is read has one.
fn no_decoder() -> Reject {
    Reject { kind: RejectKind::Table, detail: "no table is known for its topic".to_owned() }
}
