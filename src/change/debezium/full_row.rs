//! Debezium's change events with every column, for the archive. Types come from the catalog, or else from the schema in
//! the record. A record is rejected if there is neither.
//!
//! - this file: the decoder
//! - [`layout`]: the columns of a record, and their forms
//! - [`value`]: one column's value
//! - [`image`]: the columns of `before`, `after` or a key, still as JSON
//! - [`unwrapped`]: rows without an envelope
//! - [`versions`]: the table's columns at different positions

mod image;
mod layout;
mod unwrapped;
mod value;
pub mod versions;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use self::image::{RowSeed, Unread};
use self::layout::Layout;
use self::versions::{Between, TableVersions, either};
use super::envelope::{After, Envelope, EnvelopeSeed, Letter, Source};
use super::unwrapped::{AddedSeed, is_added};
use super::value::Placeholder;
use super::{
    KeyText, MESSAGE, RECORD_KEY, Settings, Shape, TableSource, behind_schema, key_text, parse, reject, schema,
    unreadable, unreadable_key, utf8,
};
use crate::change::full_row::{Cell, Field, FullRowChange};
use crate::change::{Decode, Decoded, Op, Reject, RejectKind};
use crate::model::Lsn;

/// A table's description from the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullRowTable {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Columns, in order.
    pub fields: Vec<FullRowColumn>,
    /// The primary key's columns, as indexes into `fields`. Empty: there is no primary key.
    pub primary_key: Vec<usize>,
}

/// A column of a [`FullRowTable`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullRowColumn {
    /// Name and type.
    pub field: Field,
    /// The declaration, as far as the encoding depends on it.
    pub declared: Declared,
}

/// The part of a column's declaration, beside its type, on which the encoding depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Declared {
    /// The encoding depends on the type alone.
    Plain,
    /// A number that is kept as text: `money`, and a `numeric` without a scale or beyond 38 digits.
    Number {
        /// The connector's number of fraction digits. `None` for a `numeric` without a scale.
        scale: Option<i32>,
    },
    /// Fraction digits of a `timestamp` or `time`.
    Fraction {
        /// 0 to 6.
        digits: u8,
    },
}

/// Decodes the records of one table into changes with every column.
#[derive(Clone, Debug)]
pub struct FullRowDecoder {
    /// The table's schema and name: from the catalog, or from the first record.
    expected: Option<(String, String)>,
    table: Option<Arc<FullRowTable>>,
    /// The layout of records without a schema. `None` without a catalog.
    plain: Option<Arc<Layout>>,
    /// The table's versions at other positions in the WAL.
    versions: TableVersions,
    /// The layout of each version.
    by_version: Vec<Arc<Layout>>,
    /// The version for a change that lies between two versions.
    between: Option<Between>,
    /// The text of the last schema, and its layout.
    learnt: Option<(Box<str>, Arc<Layout>)>,
    /// The columns of the last record that did not have all of the table's.
    narrow: Option<Arc<Layout>>,
    /// The columns that some records lacked.
    missing: BTreeSet<String>,
    /// The database from which changes must come, if it is known.
    database: Option<String>,
    /// Whether the key of a delete is made up because the replica identity lacks the primary key.
    key_is_made_up: bool,
    placeholder: Arc<Placeholder>,
    shape: Shape,
    /// The columns of the previous change.
    seen: Option<Arc<[Field]>>,
}

/// Keeps `after` as its JSON text.
struct Kept;

impl<'de> After<'de> for Kept {
    type Read = Option<&'de RawValue>;
    const TIMES: bool = true;

    fn read<D: Deserializer<'de>>(&mut self, json: D) -> Result<Self::Read, D::Error> {
        Deserialize::deserialize(json)
    }
}

/// A row: columns and values.
type Row = (Arc<[Field]>, Box<[Cell]>);
/// The content of a record's key: its columns, and a row with their values.
type NameSeed = (Vec<usize>, Box<[Cell]>);
type Whole<'t> = Envelope<'t, Option<&'t RawValue>>;

impl FullRowDecoder {
    /// Creates a decoder for this table's records. Without a table, it decodes records that bring their schema.
    pub fn new(table: Option<&FullRowTable>, settings: Settings) -> Self {
        Self {
            expected: table.map(|table| (table.schema.clone(), table.name.clone())),
            table: table.map(|table| Arc::new(table.clone())),
            plain: table.map(|table| Arc::new(Layout::of_table(table, settings))),
            versions: TableVersions::default(),
            by_version: Vec::new(),
            between: None,
            learnt: None,
            narrow: None,
            missing: BTreeSet::new(),
            database: None,
            key_is_made_up: false,
            placeholder: Arc::default(),
            shape: settings.shape,
            seen: None,
        }
    }

    /// Rejects changes of another database, and made-up primary keys of deletes.
    #[must_use]
    pub fn of_source(mut self, source: &TableSource) -> Self {
        self.database = Some(source.database.clone());
        self.key_is_made_up = source.key_is_made_up;
        self
    }

    /// Sets the connector's `unavailable.value.placeholder`.
    #[must_use]
    pub fn with_placeholder(mut self, setting: &str) -> Self {
        let placeholder = Arc::new(Placeholder::new(setting));
        self.plain = self.plain.as_ref().map(|plain| Arc::new(plain.with_placeholder(&placeholder)));
        self.placeholder = placeholder;
        self
    }

    /// Accepts records with these columns, which the table no longer has. They become text columns after the table's
    /// own. All rows then have them, so that rows with and without them can share a file.
    #[must_use]
    pub fn with_dropped(mut self, names: impl IntoIterator<Item = String>) -> Self {
        let names: Vec<String> = names.into_iter().collect();
        if let Some(plain) = self.plain.as_ref().filter(|_| !names.is_empty()) {
            self.plain = Some(Arc::new(plain.with_texts(&names)));
        }
        self
    }

    /// Decodes records without a schema by the columns that the table had at their position. The newest version is the
    /// table of this decoder.
    #[must_use]
    pub fn with_versions(mut self, versions: &TableVersions, settings: Settings, between: Option<Between>) -> Self {
        let (Some(plain), [older @ .., _]) = (&self.plain, versions.versions()) else { return self };
        for version in older {
            let layout = Layout::of_table(&version.table, settings).with_placeholder(&self.placeholder);
            let is_new = |field: &&Field| layout.fields.iter().all(|known| known.name != field.name);
            let more: Vec<String> = plain.fields.iter().filter(is_new).map(|field| field.name.clone()).collect();
            self.by_version.push(Arc::new(layout.with_texts(&more)));
        }
        self.by_version.push(Arc::clone(plain));
        (self.versions, self.between) = (versions.clone(), between);
        self
    }

    /// Decodes one Kafka record from its raw key and value.
    ///
    /// # Errors
    /// A [`Reject`] for a record that is not an exactly readable change of this table. The kind `schemaless` means that
    /// a catalog is needed, and `unknown-column` that it has to be read again.
    pub fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Decoded<FullRowChange>, Reject> {
        self.read_record(key, value).map_err(Reject::bounded)
    }

    fn read_record(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Decoded<FullRowChange>, Reject> {
        const TOMBSTONE: Decoded<FullRowChange> = Decoded::Ignored("tombstone");
        let Some(value) = value.filter(|value| value.trim_ascii() != b"null") else { return Ok(TOMBSTONE) };
        let text = utf8(value, "the record's value", RejectKind::Json)?;
        if self.shape == Shape::Row {
            return self.read_row(text, key);
        }
        if let Some((schema, layout)) = &self.learnt
            && let Some(payload) = behind_schema(schema, text)
            && let Ok(envelope) = self.read(payload)
        {
            let layout = Arc::clone(layout);
            return self.finish(payload, &envelope, key, Some(layout));
        }
        let envelope = self.read(text).map_err(|error| unreadable(&error, "the record's value"))?;
        match envelope.payload.filter(|_| envelope.op == Letter::Absent) {
            Some(payload) if payload.get() == "null" && envelope.schema.is_some() => Ok(TOMBSTONE),
            Some(payload) if payload.get().starts_with('{') => {
                let layout = self.learn(envelope.schema)?;
                let envelope = self.read(payload.get()).map_err(|error| unreadable(&error, "the payload"))?;
                self.finish(payload.get(), &envelope, key, layout)
            }
            _ => self.finish(text, &envelope, key, self.plain.clone()),
        }
    }

    fn read<'t>(&self, text: &'t str) -> serde_json::Result<Whole<'t>> {
        let expected = self.expected.as_ref();
        let (schema, table) = expected.map_or(("", ""), |(schema, table)| (schema, table));
        parse(EnvelopeSeed { database: self.database.as_deref(), schema, table, after: Kept }, text)
    }

    /// The layout of records with this schema. If the schema describes no row, the layout of records without a schema.
    fn learn(&mut self, schema: Option<&RawValue>) -> Result<Option<Arc<Layout>>, Reject> {
        let Some(text) = schema::text_of(schema)? else { return Ok(self.plain.clone()) };
        if let Some((known, layout)) = &self.learnt
            && known.as_ref() == text
        {
            return Ok(Some(Arc::clone(layout)));
        }
        let unreadable = |error| reject(RejectKind::Envelope, super::schema_unreadable(&error));
        let described = match schema::of_images(text).map_err(unreadable)? {
            Some(images) => images,
            None if self.shape == Shape::Envelope => return Ok(self.plain.clone()),
            None => {
                let mut described = schema::of_struct(text).map_err(unreadable)?;
                described.retain(|field| !field.field.as_deref().is_some_and(is_added));
                described
            }
        };
        let mut layout = Layout::of_schema(&described, self.table.as_deref(), &self.placeholder)?;
        if let Some((_, before)) = &self.learnt {
            layout.keep(before); // schemas differ in more than columns
        }
        let layout = Arc::new(layout);
        self.learnt = Some((text.into(), Arc::clone(&layout)));
        Ok(Some(layout))
    }

    /// Finishes an envelope, whose text is `text`.
    fn finish(
        &mut self,
        text: &str,
        envelope: &Whole<'_>,
        key: Option<&[u8]>,
        layout: Option<Arc<Layout>>,
    ) -> Result<Decoded<FullRowChange>, Reject> {
        if let Some(what) = super::beside::of_no_table(&envelope.op, text) {
            return Ok(Decoded::Ignored(what));
        }
        if envelope.op == Letter::Absent && self.shape == Shape::Auto {
            return self.finish_row(text, key, layout);
        }
        let Some(op) = super::operation(&envelope.op)? else { return Ok(Decoded::Ignored(MESSAGE)) };
        if let Some((schema, table)) = &self.expected {
            super::source::check_table(self.database.as_deref(), (schema, table), &envelope.source)?;
        }
        if op == Op::Delete && self.key_is_made_up {
            return Err(super::made_up_key());
        }
        let (lsn, tx_id) = (super::source::lsn(&envelope.source)?, super::source::tx_id(&envelope.source)?);
        let is_described = layout.as_ref().is_some_and(|layout| layout.described);
        let by_version = if is_described { Vec::new() } else { self.layouts_at(lsn) };
        let (fields, cells) = match by_version.as_slice() {
            [] => self.columns(op, envelope, key, layout.as_ref())?,
            [first, later @ ..] => {
                let read = self.columns(op, envelope, key, Some(first));
                later.iter().fold(read, |read, layout| either(read, self.columns(op, envelope, key, Some(layout))))?
            }
        };
        let committed_at = match super::source::committed_at(envelope.source.ts_us, envelope.source.ts_ms)? {
            Some(at) => at,
            None => super::source::committed_at(envelope.ts_us, envelope.ts_ms)?.ok_or_else(|| {
                let detail = "neither source nor the envelope has ts_us or ts_ms: when it was committed is not known";
                reject(RejectKind::Envelope, detail)
            })?,
        };
        if let (None, Some(schema), Some(table)) =
            (&self.expected, &envelope.source.other_schema, &envelope.source.other_table)
        {
            self.expected = Some((schema.clone(), table.clone()));
        }
        self.seen = Some(Arc::clone(&fields));
        Ok(Decoded::Change(FullRowChange { op, lsn, tx_id, committed_at, is_described, fields, cells }))
    }

    /// The possible layouts of a record without a schema at this position. Empty if there is only one.
    fn layouts_at(&self, lsn: Option<Lsn>) -> Vec<Arc<Layout>> {
        if self.by_version.is_empty() {
            return Vec::new();
        }
        let versions = self.versions.at(lsn);
        let versions = match self.between {
            Some(Between::Before) => *versions.start()..=*versions.start(),
            Some(Between::After) => *versions.end()..=*versions.end(),
            None => versions,
        };
        self.by_version.get(versions).map(<[_]>::to_vec).unwrap_or_default()
    }

    /// The columns of a record with this layout.
    fn columns(
        &mut self,
        op: Op,
        envelope: &Whole<'_>,
        key: Option<&[u8]>,
        layout: Option<&Arc<Layout>>,
    ) -> Result<Row, Reject> {
        match (op, layout, &self.seen) {
            (Op::Truncate | Op::Tombstone, Some(layout), _) => Ok((Arc::clone(&layout.fields), layout.nulls())),
            (Op::Truncate | Op::Tombstone, None, Some(seen)) => {
                Ok((Arc::clone(seen), seen.iter().map(|_| Cell::Null).collect()))
            }
            (_, None, _) => Err(reject(
                RejectKind::Schemaless,
                "the record comes without its schema, so the types of its columns are not known: give postgres.url, so \
                 that they can be read from the catalog",
            )),
            (Op::Delete, Some(layout), _) => self.deleted(layout, envelope.before, key),
            (_, Some(layout), _) => self.row(layout, envelope.after.ok_or_else(|| super::no_row(op))?),
        }
    }

    /// The layout of a record with these values, without the table's columns that the record lacks. NULL for them would
    /// be made up.
    fn narrowed(&mut self, layout: &Arc<Layout>, values: &[Option<&RawValue>]) -> Option<Arc<Layout>> {
        let mut narrow = layout.without(values).filter(|_| !layout.described)?;
        let missing = layout.fields.iter().filter(|field| !narrow.fields.contains(field)).map(|field| &field.name);
        let new: Vec<&str> = missing.filter(|name| !self.missing.contains(*name)).map(String::as_str).collect();
        if !new.is_empty() {
            tracing::warn!(
                columns = new.join(", "),
                "records come without these columns of the table, which are left out of their files: they are older than \
                 the columns, or the connector does not send them (column.exclude.list, a generated column, a type that \
                 it does not know)"
            );
            let new: Vec<String> = new.into_iter().map(str::to_owned).collect();
            self.missing.extend(new);
        }
        match &self.narrow {
            Some(known) if known.fields == narrow.fields => narrow.keep(known),
            _ => {}
        }
        let narrow = Arc::new(narrow);
        self.narrow = Some(Arc::clone(&narrow));
        Some(narrow)
    }

    /// A row with all of its columns.
    fn row(&mut self, layout: &Arc<Layout>, after: &RawValue) -> Result<Row, Reject> {
        let read = parse(RowSeed(layout), after.get()).map_err(|error| unreadable(&error, "after"))?;
        let row = read.ok_or_else(|| reject(RejectKind::Envelope, "after is null; the row is needed"))?;
        if let Some(name) = row.unknown.as_ref().filter(|_| layout.described) {
            return Err(reject(
                RejectKind::Envelope,
                format!("after has a column {name:?} that the record's own schema has not"),
            ));
        }
        if let Some(name) = row.unknown {
            let detail = format!(
                "column {name:?} of after is not in the table's description: it was added since that was read, or has been dropped since the change"
            );
            return Err(reject(RejectKind::UnknownColumn(name), detail));
        }
        let Some(narrow) = self.narrowed(layout, &row.values) else {
            return Ok((Arc::clone(&layout.fields), layout.cells(&row.values, "after", RejectKind::Value)?));
        };
        let values = in_order_of(&narrow, layout, &row.values);
        Ok((Arc::clone(&narrow.fields), narrow.cells(&values, "after", RejectKind::Value)?))
    }

    /// The primary key of a deleted row: from `before`, whose other columns are made up, or else from the record's key.
    fn deleted(&mut self, layout: &Arc<Layout>, before: Option<&RawValue>, key: Option<&[u8]>) -> Result<Row, Reject> {
        let before = match before {
            Some(before) => parse(RowSeed(layout), before.get()).map_err(|error| unreadable(&error, "before"))?,
            None => None,
        };
        let before = before.map(|before| before.values).unwrap_or_default();
        let narrow = if before.is_empty() { None } else { self.narrowed(layout, &before) };
        let Some(narrow) = narrow else {
            return Ok((Arc::clone(&layout.fields), self.deleted_of(layout, &before, key)?));
        };
        let before = in_order_of(&narrow, layout, &before);
        Ok((Arc::clone(&narrow.fields), self.deleted_of(&narrow, &before, key)?))
    }

    /// The primary key of a deleted row, by the layout of `before`.
    fn deleted_of(
        &self,
        layout: &Layout,
        before: &[Option<&RawValue>],
        key: Option<&[u8]>,
    ) -> Result<Box<[Cell]>, Reject> {
        if !layout.key.is_empty() && layout.key.iter().all(|&slot| is_there(before, slot)) {
            return layout.identified(layout.some_cells(&layout.key, before, "before")?);
        }
        // Without a catalog, it is the record's key that names the columns.
        let Some((named, from_key)) = self.record_key(layout, key)? else {
            return if layout.key.is_empty() { Ok(layout.nulls()) } else { Err(super::rejects::no_key()) };
        };
        if layout.key.is_empty() && named.iter().all(|&slot| is_there(before, slot)) {
            return layout.some_cells(&named, before, "before");
        }
        if layout.key.iter().all(|slot| named.contains(slot)) {
            layout.identified(from_key)
        } else {
            Err(super::rejects::no_key())
        }
    }

    /// The columns in the record's key (only those of the primary key, if it is known), and a row with their values.
    fn record_key(&self, layout: &Layout, key: Option<&[u8]>) -> Result<Option<NameSeed>, Reject> {
        let Some(KeyText { schema, columns }) = key_text(key)? else { return Ok(None) };
        let described = match schema {
            Some(schema) => {
                let fields = schema::of_struct(schema).map_err(unreadable_key)?;
                Some(Layout::of_schema(&fields, self.table.as_deref(), &self.placeholder)?)
            }
            None => None,
        };
        let in_key = described.as_ref().unwrap_or(layout);
        let Some(row): Option<Unread<'_>> = parse(RowSeed(in_key), columns).map_err(unreadable_key)? else {
            return Ok(None);
        };
        let (mut named, mut cells) = (Vec::new(), layout.nulls());
        for (at, (field, value)) in in_key.fields.iter().zip(&row.values).enumerate() {
            let slot = layout.fields.iter().position(|known| known == field);
            if let (Some(slot), Some(_)) = (slot, value)
                && (layout.key.is_empty() || layout.key.contains(&slot))
                && let Some(cell) = cells.get_mut(slot)
            {
                *cell = in_key.cell(at, *value, RECORD_KEY, RejectKind::Key)?;
                named.push(slot);
            }
        }
        Ok((!named.is_empty()).then_some((named, cells)))
    }
}

impl Decode for FullRowDecoder {
    type Change = FullRowChange;

    fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Decoded<FullRowChange>, Reject> {
        Self::decode(self, key, value)
    }
}

/// Reorders values from the columns of `layout` to those of `narrow`, which has some of them.
fn in_order_of<'t>(narrow: &Layout, layout: &Layout, values: &[Option<&'t RawValue>]) -> Vec<Option<&'t RawValue>> {
    let (mut ordered, mut next) = (Vec::with_capacity(narrow.fields.len()), 0);
    for field in narrow.fields.iter() {
        let slot = layout.find(&field.name, &mut next);
        ordered.push(slot.and_then(|slot| values.get(slot).copied().flatten()));
    }
    ordered
}

fn is_there(values: &[Option<&RawValue>], slot: usize) -> bool {
    values.get(slot).is_some_and(Option::is_some)
}

/// The schema and name of the table that a record names, with or without a schema around the record. `otherwise` for a
/// row that does not name it.
pub fn table_of(value: &[u8], otherwise: Option<&(String, String)>) -> Option<(String, String)> {
    let read = |text| parse(EnvelopeSeed { database: None, schema: "", table: "", after: Kept }, text).ok();
    let text = std::str::from_utf8(value).ok()?;
    let envelope: Option<Whole<'_>> = read(text);
    let payload = envelope.as_ref().filter(|envelope| envelope.op == Letter::Absent).and_then(|whole| whole.payload);
    let (text, source) = match payload {
        Some(payload) => (payload.get(), read(payload.get()).map(|envelope| envelope.source)),
        None => (text, envelope.map(|envelope| envelope.source)),
    };
    if let Some(Source { other_schema: Some(schema), other_table: Some(table), .. }) = source {
        return Some((schema, table));
    }
    let added = parse(AddedSeed { database: None, schema: "", table: "" }, text).ok()?;
    match (&added.source.other_schema, &added.source.other_table) {
        (Some(schema), Some(table)) => Some((schema.clone(), table.clone())),
        _ => otherwise.filter(|_| added.is_any()).cloned(),
    }
}
