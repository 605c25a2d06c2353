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

/// Decodes messages. Each reader has a copy of its own, with the schemas that it has fetched.
#[derive(Clone)]
pub struct Decoding<D> {
    decoder: D,
    encoding: Encoding,
    schemas: Schemas,
    registry: Option<Arc<Registry>>,
}

impl<D: Decode> Decoding<D> {
    /// Of records in JSON alone.
    pub fn of_json(decoder: D) -> Self {
        Self { decoder, encoding: Encoding::Json, schemas: Schemas::default(), registry: None }
    }

    /// Of records written so, with the schemas of this registry.
    pub fn new(decoder: D, encoding: Encoding, registry: Option<Arc<Registry>>) -> Self {
        Self { decoder, encoding, schemas: Schemas::default(), registry }
    }

    /// The record of a message; or the schema that has to be fetched first.
    pub(super) fn decode<M: Message>(
        &mut self,
        message: &M,
        timestamp_ms: i64,
    ) -> Result<SourceRecord<D::Change>, SchemaId> {
        let position = Position { partition: message.partition(), offset: message.offset() };
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
        let decoded = match (&key, value) {
            (_, Err(JsonError::Unknown(id))) => return Err(id),
            (Err(JsonError::Invalid(reject)), _) => Err(reject.clone()),
            (_, Err(JsonError::Invalid(reject))) => Err(reject),
            (_, Ok(value)) => self.decoder.decode(key_of_row, value.as_deref()),
        };
        let content = match decoded {
            Ok(Decoded::Change(change)) => Content::Change(change),
            Ok(Decoded::Partial(change, reject)) => Content::Partial(change, letter(reject, None)),
            Ok(Decoded::Ignored(reason)) => Content::Ignored(reason),
            Err(reject) => {
                // Another table's key is no row of ours.
                let mine = !reject.kind.is_elsewhere();
                let row = mine.then(|| self.decoder.row_of(key_of_row)).flatten();
                Content::Rejected(letter(reject, row))
            }
        };
        Ok(SourceRecord { position, timestamp_ms, content })
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
