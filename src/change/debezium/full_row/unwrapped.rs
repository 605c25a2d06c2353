//! Converts rows that ExtractNewRecordState has unwrapped back to their envelopes. The archive accepts only rows that
//! bring the envelope's fields.

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::image::RowSeed;
use super::layout::Layout;
use super::{FullRowDecoder, is_there, parse};
use crate::change::debezium::envelope::{Envelope, Letter, Wrapping, WrappingSeed};
use crate::change::debezium::rejects::{no_change, reject, unreadable};
use crate::change::debezium::unwrapped::{Added, AddedSeed, is_added};
use crate::change::full_row::FullRowChange;
use crate::change::{Decoded, Op, Reject, RejectKind};

impl FullRowDecoder {
    /// Reads a record that is known to be a row, with or without a schema around it.
    pub(super) fn read_row(&mut self, text: &str, key: Option<&[u8]>) -> Result<Decoded<FullRowChange>, Reject> {
        let place = "the record's value";
        let Wrapping { schema, payload } = parse(WrappingSeed, text).map_err(|error| unreadable(&error, place))?;
        match (schema.filter(|schema| schema.get().starts_with('{')), payload.map(RawValue::get)) {
            (Some(_), Some("null")) => Ok(Decoded::Ignored("tombstone")),
            (Some(schema), Some(payload)) if payload.starts_with('{') => {
                let layout = self.learn(Some(schema))?;
                self.finish_row(payload, key, layout)
            }
            _ => self.finish_row(text, key, self.plain.clone()),
        }
    }

    /// Finishes a row without an envelope. `text` is the row's own text.
    pub(super) fn finish_row(
        &mut self,
        text: &str,
        key: Option<&[u8]>,
        layout: Option<Arc<Layout>>,
    ) -> Result<Decoded<FullRowChange>, Reject> {
        let (schema, table) = self.expected.as_ref().map_or(("", ""), |(schema, table)| (schema, table));
        let seed = AddedSeed { database: self.database.as_deref(), schema, table };
        let added = parse(seed, text).map_err(|error| unreadable(&error, "the row"))?;
        if added.deleted.is_none() || !added.lacks().is_empty() {
            let is_row = added.is_any() || layout.as_deref().is_some_and(|layout| has_key(layout, text));
            return Err(if is_row { incomplete(&added) } else { no_change() });
        }
        let op = added.op();
        let (row, source) = (without_added(text)?, added.source);
        let (before, after) = if op == Letter::Of(Op::Delete) { (Some(&*row), None) } else { (None, Some(&*row)) };
        let (ts_us, ts_ms) = (added.ts_us, added.ts_ms);
        let envelope = Envelope { op, before, after, source, ts_us, ts_ms, schema: None, payload: None };
        self.finish(text, &envelope, key, layout)
    }
}

/// The columns of a row as their JSON, without the added fields.
fn without_added(text: &str) -> Result<Box<RawValue>, Reject> {
    let read = parse(ColumnsSeed, text).and_then(RawValue::from_string);
    read.map_err(|error| unreadable(&error, "the row"))
}

/// Reads an object and writes it without the added fields.
struct ColumnsSeed;

impl<'de> DeserializeSeed<'de> for ColumnsSeed {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<String, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ColumnsSeed {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object: the columns of a row")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut columns: M) -> Result<String, M::Error> {
        let mut row = "{".to_owned();
        while let Some(name) = columns.next_key::<String>()? {
            let value: &RawValue = columns.next_value()?;
            if !is_added(&name) {
                let comma = if row.len() > 1 { "," } else { "" };
                row.push_str(&format!("{comma}{}:{}", serde_json::Value::from(name), value.get()));
            }
        }
        row.push('}');
        Ok(row)
    }
}

/// Whether the text has every column of the primary key, and another column if the table has one.
fn has_key(layout: &Layout, text: &str) -> bool {
    let Some(row) = parse(RowSeed(layout), text).ok().flatten() else { return false };
    let there = row.values.iter().flatten().count();
    let has_more = there > layout.key.len() || layout.fields.len() == layout.key.len();
    !layout.key.is_empty() && has_more && layout.key.iter().all(|&slot| is_there(&row.values, slot))
}

fn incomplete(added: &Added) -> Reject {
    let mut lacks = Vec::new();
    if added.deleted.is_none() {
        lacks.push("delete.tombstone.handling.mode = rewrite, without which deletes leave no row".to_owned());
    }
    let fields = added.lacks();
    if !fields.is_empty() {
        lacks.push(format!("add.fields = op,lsn,txId,source.ts_us, of which {} is not there", fields.join(", ")));
    }
    reject(
        RejectKind::Unwrapped,
        format!(
            "there is no op in the record: it is none of Debezium's envelope, or was unwrapped by ExtractNewRecordState; an archive \
             of unwrapped records needs that transform to have {}",
            lacks.join("; and ")
        ),
    )
}
