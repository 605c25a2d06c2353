//! Debezium's change events in JSON, with their schema (`schemas.enable=true`) or without. Pure.
//!
//! A record is read in one pass over its text, and only the wanted parts are kept. A value that cannot be read becomes
//! a [`Reject`], never a guess. Skipped parts are only checked to be JSON, at any depth, because skipping needs no
//! stack. The format is that of Debezium's connector for PostgreSQL:
//! <https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-events>.
//!
//! - [`envelope`]: `before`, `after`, `source`, `op`
//! - [`source`]: the origin of a change, [`beside`]: records that are not changes
//! - [`unwrapped`]: rows without an envelope
//! - [`columns`]: the columns that are read from an image
//! - [`value`]: one column's value by its type and encoding
//! - [`schema`]: encodings from the schema of a record
//! - [`adjusted`]: columns whose names the connector has changed for Avro
//! - [`record_key`]: the primary key of a record without a row
//! - [`named`], [`rejects`]: small pieces of parsing, and reasons
//! - [`full_row`]: the same records with every column, for the archive

mod adjusted;
mod beside;
mod columns;
mod envelope;
pub mod full_row;
mod named;
mod record_key;
mod rejects;
mod schema;
mod source;
mod unwrapped;
mod value;

use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeSeed;
use serde_json::value::RawValue;

pub use self::adjusted::own_names;
use self::beside::of_no_table;
use self::columns::{Columns, Image, ImageSeed, Part, Row};
use self::envelope::{Envelope, EnvelopeSeed, Letter, Source, Wrapping, WrappingSeed};
use self::record_key::{KeyText, key_text, unreadable_key};
use self::rejects::{MAY_BE_ANOTHERS, made_up_key, no_change, no_row, reject, schema_unreadable, unreadable, utf8};
use self::source::{check_table, committed_at, lsn, tx_id};
use self::unwrapped::AddedSeed;
use self::value::{Form, Placeholder};
use super::{Change, Decode, Decoded, Op, Reject, RejectKind};
use crate::model::{Key, Table, Value};

/// Debezium's default of `unavailable.value.placeholder`, for a TOASTed value that the change did not touch.
pub const UNAVAILABLE: &str = "__debezium_unavailable_value";

/// Why a logical message is ignored.
const MESSAGE: &str = "logical message";
/// The name of the record's key in a reject.
const RECORD_KEY: &str = "the record's key";

/// Debezium's `decimal.handling.mode`. Needed for records without a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecimalHandling {
    /// Detected from each value where possible: `numeric` with a scale of 1 or more, or without a declared one.
    #[default]
    Auto,
    /// Decimal text.
    String,
    /// Base64 of the unscaled value, in the column's scale.
    Precise,
    /// Binary floating point with 15 to 17 digits. A value is read as the shortest decimal that it stands for.
    Double,
}

/// Debezium's `time.precision.mode`. Needed for records without a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimePrecision {
    /// `timestamp` and `time` in milliseconds up to 3 fraction digits, else in microseconds.
    #[default]
    Adaptive,
    /// Like `Adaptive`, but `time` always in microseconds.
    AdaptiveTimeMicroseconds,
    /// `timestamp` in microseconds.
    Microseconds,
    /// `timestamp` in nanoseconds.
    Nanoseconds,
    /// `timestamp` in milliseconds.
    Connect,
    /// `timestamp` and `date` as text in ISO 8601.
    Isostring,
}

/// Debezium's `binary.handling.mode`. Needed for records without a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BinaryHandling {
    /// Detected from each value where possible.
    #[default]
    Auto,
    /// `bytes` (base64 in JSON), `base64` and `base64-url-safe`.
    Base64,
    /// Hexadecimal text.
    Hex,
}

/// Whether records are Debezium's envelopes, or rows unwrapped by ExtractNewRecordState.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// Detected from each record: an envelope has `op`, a row has the columns of the primary key.
    #[default]
    Auto,
    /// The envelope.
    Envelope,
    /// The row.
    Row,
}

/// The connector's settings that its records do not show themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The encoding of `numeric`.
    pub decimals: DecimalHandling,
    /// The encoding of `timestamp` and `date`.
    pub times: TimePrecision,
    /// The encoding of `bytea`.
    pub binary: BinaryHandling,
    /// Whether rows have an envelope.
    pub shape: Shape,
}

/// The catalog's facts about the changes that Postgres writes for a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSource {
    /// The database.
    pub database: String,
    /// Whether the replica identity is an index without the primary key. The connector then makes up the key of a
    /// delete.
    pub key_is_made_up: bool,
    /// Whether the replica identity is FULL, so that `before` is the whole row.
    pub is_full: bool,
}

/// Decodes the records of one table.
#[derive(Clone)]
pub struct Decoder {
    /// The database from which changes must come, if it is known.
    database: Option<String>,
    table_schema: String,
    table_name: String,
    /// Whether the key of a delete is made up because the replica identity lacks the primary key.
    key_is_made_up: bool,
    /// Whether the row before a change is read.
    reads_before: bool,
    placeholder: Arc<Placeholder>,
    shape: Shape,
    columns: Columns,
    /// The encodings of records without a schema.
    plain: Vec<Form>,
    /// The text of the last schema, and its encodings.
    learnt: Option<(Box<str>, Vec<Form>)>,
    image: Image,
}

/// The encodings of a record.
#[derive(Clone, Copy)]
enum FormSource {
    Plain,
    Learnt,
}

impl Decoder {
    /// Creates a decoder for this table's records. `wanted` are indexes into `table.columns`, in the order of
    /// [`Change::row`]. A `numeric` whose encoding cannot be detected only causes errors in its records, because they
    /// may bring their schema.
    ///
    /// # Errors
    ///
    /// A sentence: the table has no primary key, an index is invalid or appears twice, or a wanted column or one of the
    /// primary key has a type that cannot be read.
    pub fn new(table: &Table, wanted: &[usize], settings: Settings) -> Result<Self, String> {
        let (columns, plain) = Columns::new(table, wanted, settings)?;
        Ok(Self {
            database: None,
            table_schema: table.schema.clone(),
            table_name: table.name.clone(),
            key_is_made_up: false,
            reads_before: false,
            placeholder: Arc::default(),
            shape: settings.shape,
            columns,
            plain,
            learnt: None,
            image: Image::default(),
        })
    }

    /// Rejects changes of another database, and made-up primary keys of deletes.
    #[must_use]
    pub fn of_source(mut self, source: &TableSource) -> Self {
        self.database = Some(source.database.clone());
        self.key_is_made_up = source.key_is_made_up;
        self
    }

    /// Reads the row before a change as well. Only with the replica identity FULL is it complete, see
    /// [`TableSource::is_full`].
    #[must_use]
    pub fn with_before(mut self, reads: bool) -> Self {
        self.reads_before = reads;
        self
    }

    /// Sets the connector's `unavailable.value.placeholder`.
    #[must_use]
    pub fn with_placeholder(mut self, setting: &str) -> Self {
        self.placeholder = Arc::new(Placeholder::new(setting));
        self
    }

    /// Decodes one Kafka record from its raw key and value.
    ///
    /// # Errors
    ///
    /// A [`Reject`] for a record that is not an exactly readable change of this table. It does not affect the next
    /// record.
    pub fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Decoded, Reject> {
        match self.read_record(key, value) {
            Ok(Decoded::Partial(change, reject)) => Ok(Decoded::Partial(change, reject.bounded())),
            Ok(decoded) => Ok(decoded),
            Err(reject) => Err(reject.bounded()),
        }
    }

    fn read_record(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Decoded, Reject> {
        // Unwrapping connectors and some copying tools write a null as its four letters.
        let Some(value) = value.filter(|value| value.trim_ascii() != b"null") else {
            return self.tombstone(key);
        };
        let text = utf8(value, "the record's value", RejectKind::Json)?;
        if self.shape == Shape::Row {
            return self.read_row(text, key);
        }
        if let Some((schema, _)) = &self.learnt
            && let Some(payload) = behind_schema(schema, text)
            && let Ok(envelope) = self.read(payload, FormSource::Learnt)
        {
            return self.finish(payload, envelope, key, FormSource::Learnt);
        }
        // Also after a failure of the short way, for the position in the whole text.
        let envelope = match self.read(text, FormSource::Plain) {
            Ok(envelope) => envelope,
            Err(error) => {
                // A row may have a column that is called op, or source.
                let row = if self.shape == Shape::Auto { self.read_row(text, key).ok() } else { None };
                return row.ok_or_else(|| unreadable(&error, "the record's value"));
            }
        };
        match envelope.payload.filter(|_| envelope.op == Letter::Absent) {
            Some(payload) if payload.get() == "null" && envelope.schema.is_some() => self.tombstone(key),
            Some(payload) if payload.get().starts_with('{') => {
                let encoding = self.learn(envelope.schema)?;
                let envelope = self.read(payload.get(), encoding).map_err(|error| unreadable(&error, "the payload"))?;
                self.finish(payload.get(), envelope, key, encoding)
            }
            _ => self.finish(text, envelope, key, FormSource::Plain),
        }
    }

    fn learn(&mut self, schema: Option<&RawValue>) -> Result<FormSource, Reject> {
        let Some(schema) = schema::text_of(schema)? else { return Ok(FormSource::Plain) };
        if self.learnt.as_ref().is_none_or(|(known, _)| known.as_ref() != schema) {
            let forms = schema::of_value(schema, &self.columns, &self.plain)
                .map_err(|error| reject(RejectKind::Envelope, schema_unreadable(&error)))?;
            self.learnt = Some((schema.into(), forms));
        }
        Ok(FormSource::Learnt)
    }

    fn read<'t>(&mut self, text: &'t str, encoding: FormSource) -> serde_json::Result<Envelope<'t, bool>> {
        let forms = forms(&self.plain, self.learnt.as_ref(), encoding);
        let (schema, table) = (self.table_schema.as_str(), self.table_name.as_str());
        let after = ImageSeed {
            columns: &self.columns,
            forms,
            part: Part::All,
            placeholder: &self.placeholder,
            image: &mut self.image,
        };
        parse(EnvelopeSeed { database: self.database.as_deref(), schema, table, after }, text)
    }

    /// Finishes an envelope, whose text is `text`.
    fn finish(
        &mut self,
        text: &str,
        envelope: Envelope<'_, bool>,
        key: Option<&[u8]>,
        encoding: FormSource,
    ) -> Result<Decoded, Reject> {
        if let Some(what) = of_no_table(&envelope.op, text) {
            return Ok(Decoded::Ignored(what));
        }
        if envelope.op == Letter::Absent && self.shape == Shape::Auto {
            return self.finish_row(text, encoding);
        }
        let Some(op) = operation(&envelope.op)? else { return Ok(Decoded::Ignored(MESSAGE)) };
        check_table(self.database.as_deref(), (&self.table_schema, &self.table_name), &envelope.source)?;
        let (pk, row) = match op {
            Op::Delete if self.key_is_made_up => return Err(made_up_key()),
            Op::Delete => (Some(self.deleted(envelope.before, key, encoding)?), None),
            Op::Truncate | Op::Tombstone => (None, None),
            Op::Create | Op::Update | Op::Read if envelope.after => {
                let pk = self.columns.key(&self.image, "after")?;
                (Some(pk), Some(self.columns.row(&mut self.image, "after")))
            }
            Op::Create | Op::Update | Op::Read => return Err(no_row(op)),
        };
        let before = envelope.before.filter(|_| self.reads_before && matches!(op, Op::Update | Op::Delete));
        let before = before.and_then(|before| self.row_before(before, encoding));
        change(op, pk, row, before, &envelope.source)
    }

    /// Reads a row's columns into the image. Returns whether there is a row.
    fn read_image(&mut self, text: &str, encoding: FormSource, part: Part) -> serde_json::Result<bool> {
        let forms = forms(&self.plain, self.learnt.as_ref(), encoding);
        let (columns, placeholder) = (&self.columns, &self.placeholder);
        parse(ImageSeed { columns, forms, part, placeholder, image: &mut self.image }, text)
    }

    /// The row before a change. `None` if it cannot be read completely: it is a hint.
    fn row_before(&mut self, before: &RawValue, encoding: FormSource) -> Option<Box<[Value]>> {
        let there = self.read_image(before.get(), encoding, Part::All).ok()?;
        let row = there.then(|| self.columns.row(&mut self.image, "before"))?;
        row.reject.is_none().then_some(row.values)
    }

    /// Reads a record that is known to be a row, with or without a schema around it.
    fn read_row(&mut self, text: &str, key: Option<&[u8]>) -> Result<Decoded, Reject> {
        let place = "the record's value";
        let Wrapping { schema, payload } = parse(WrappingSeed, text).map_err(|error| unreadable(&error, place))?;
        // A column may be called payload, or schema: it is no object then.
        match (schema.filter(|schema| schema.get().starts_with('{')), payload.map(RawValue::get)) {
            (Some(_), Some("null")) => self.tombstone(key),
            (Some(schema), Some(payload)) if payload.starts_with('{') => {
                let encoding = self.learn(Some(schema))?;
                self.finish_row(payload, encoding)
            }
            _ => self.finish_row(text, FormSource::Plain),
        }
    }

    /// Finishes a row, whose text is `text`.
    fn finish_row(&mut self, text: &str, encoding: FormSource) -> Result<Decoded, Reject> {
        self.read_image(text, encoding, Part::All).map_err(|error| unreadable(&error, "the row"))?;
        let (schema, table) = (self.table_schema.as_str(), self.table_name.as_str());
        let seed = AddedSeed { database: self.database.as_deref(), schema, table };
        let added = parse(seed, text).map_err(|error| unreadable(&error, "the row"))?;
        check_table(self.database.as_deref(), (schema, table), &added.source)?;
        if !self.columns.has_key(&self.image) {
            return match of_no_table(&Letter::Absent, text) {
                Some(what) => Ok(Decoded::Ignored(what)),
                None => Err(no_change()),
            };
        }
        let Some(op) = operation(&added.op())? else { return Ok(Decoded::Ignored(MESSAGE)) };
        if op == Op::Delete && self.key_is_made_up {
            return Err(made_up_key());
        }
        // A record without a key of the table's is taken for a row only where it is known to be one.
        let is_row = self.shape == Shape::Row || added.is_any();
        let pk = self.columns.key(&self.image, "the row").map_err(|error| if is_row { error } else { no_change() })?;
        // All but the key of a deleted row may be made up.
        let mut row = (op != Op::Delete).then(|| self.columns.row(&mut self.image, "the row"));
        if let Some(Row { reject: Some(reject), lacks_column: true, .. }) = row.as_mut().filter(|_| !added.names_table)
        {
            reject.detail.push_str(MAY_BE_ANOTHERS);
        }
        // Of another table, perhaps: as a tombstone, it only has this one asked whether the row of this key is gone.
        let is_doubtful = op == Op::Delete && !added.names_table && !self.columns.is_whole(&self.image);
        change(if is_doubtful { Op::Tombstone } else { op }, Some(pk), row, None, &added.source)
    }
}

impl Decode for Decoder {
    type Change = Change;

    fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Decoded, Reject> {
        Self::decode(self, key, value)
    }

    fn row_of(&mut self, key: Option<&[u8]>) -> Option<Key> {
        self.record_key(key).ok().flatten()
    }
}

/// The payload, if the text starts with the last schema. Comparing is some fifty times faster than skipping those 3,000
/// bytes as JSON, and as safe, because the schema was a complete JSON object.
fn behind_schema<'t>(schema: &str, text: &'t str) -> Option<&'t str> {
    let rest = text.strip_prefix("{\"schema\":")?.strip_prefix(schema)?;
    rest.strip_prefix(",\"payload\":")?.trim_ascii_end().strip_suffix('}')
}

fn forms<'a>(plain: &'a [Form], learnt: Option<&'a (Box<str>, Vec<Form>)>, encoding: FormSource) -> &'a [Form] {
    match (encoding, learnt) {
        (FormSource::Learnt, Some((_, forms))) => forms,
        _ => plain,
    }
}

fn parse<'t, S: DeserializeSeed<'t>>(seed: S, text: &'t str) -> serde_json::Result<S::Value> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = seed.deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}

/// The operation. `None` for a logical message.
fn operation(letter: &Letter) -> Result<Option<Op>, Reject> {
    match letter {
        Letter::Of(op) => Ok(Some(*op)),
        Letter::Message => Ok(None),
        Letter::Absent => Err(no_change()),
        Letter::Unknown(op) => {
            let detail = format!("op is {op}, which is none of c, u, d, r, t and m; is this topic Debezium's?");
            Err(reject(RejectKind::Envelope, detail))
        }
    }
}

/// A change of a row, or of all.
fn change(
    op: Op,
    pk: Option<Key>,
    row: Option<Row>,
    before: Option<Box<[Value]>>,
    source: &Source,
) -> Result<Decoded, Reject> {
    let (row, holes, reject) = match row {
        None => (None, Vec::new(), None),
        Some(Row { values, holes, reject, .. }) => (Some(values), holes, reject),
    };
    let (lsn, tx_id) = (lsn(source)?, tx_id(source)?);
    let committed_at = committed_at(source.ts_us, source.ts_ms)?;
    let change = Change { op, pk, row, before, lsn, tx_id, committed_at, holes };
    Ok(match reject {
        None => Decoded::Change(change),
        Some(reject) => Decoded::Partial(change, reject),
    })
}
