//! The primary key of a record that has no row: of a delete, of a tombstone, and from the record's key.

use serde_json::value::RawValue;

use super::columns::{ImageSeed, Part};
use super::envelope::WrappingSeed;
use super::rejects::no_key;
use super::{Decoder, FormSource, RECORD_KEY, parse, schema, unreadable, utf8};
use crate::change::{Change, Decoded, Op, Reject, RejectKind};
use crate::model::Key;

impl Decoder {
    /// The primary key of a deleted row: from `before`, whose other columns are made up, or else from the record's key.
    pub(super) fn deleted(
        &mut self,
        before: Option<&RawValue>,
        key: Option<&[u8]>,
        encoding: FormSource,
    ) -> Result<Key, Reject> {
        if let Some(before) = before {
            let there = self
                .read_image(before.get(), encoding, Part::PrimaryKey)
                .map_err(|error| unreadable(&error, "before"))?;
            if there && self.columns.has_key(&self.image) {
                return self.columns.key(&self.image, "before");
            }
        }
        self.record_key(key)?.ok_or_else(no_key)
    }

    pub(super) fn tombstone(&mut self, key: Option<&[u8]>) -> Result<Decoded, Reject> {
        if key.is_none_or(|key| key.trim_ascii() == b"null") {
            return Ok(Decoded::Ignored("tombstone without a key"));
        }
        // Where the topic has another key, the delete before the tombstone named the row.
        Ok(match self.record_key(key)? {
            None => Decoded::Ignored("tombstone of another key"),
            pk => {
                let (row, lsn, tx_id, committed_at, holes) = (None, None, None, None, Vec::new());
                Decoded::Change(Change { op: Op::Tombstone, pk, row, before: None, lsn, tx_id, committed_at, holes })
            }
        })
    }

    /// Reads the primary key from the record's key. `None` if the key lacks some of its columns.
    pub(super) fn record_key(&mut self, key: Option<&[u8]>) -> Result<Option<Key>, Reject> {
        let Some(KeyText { schema, columns }) = key_text(key)? else { return Ok(None) };
        let learnt = match schema {
            Some(schema) => Some(schema::of_key(schema, &self.columns, &self.plain).map_err(unreadable_key)?),
            None => None,
        };
        let forms = learnt.as_deref().unwrap_or(&self.plain);
        let seed = ImageSeed {
            columns: &self.columns,
            forms,
            part: Part::PrimaryKey,
            placeholder: &self.placeholder,
            image: &mut self.image,
        };
        parse(seed, columns).map_err(unreadable_key)?;
        if !self.columns.has_key(&self.image) {
            return Ok(None);
        }
        self.columns.key(&self.image, RECORD_KEY).map(Some)
    }
}

/// A record's key that is an object.
pub(super) struct KeyText<'t> {
    /// The key's schema, if it has one.
    pub(super) schema: Option<&'t str>,
    pub(super) columns: &'t str,
}

/// `None` without a key, and for a bare text or number, as other converters and transforms write it.
pub(super) fn key_text(key: Option<&[u8]>) -> Result<Option<KeyText<'_>>, Reject> {
    let Some(key) = key else { return Ok(None) };
    let text = utf8(key, RECORD_KEY, RejectKind::Key)?;
    if !text.trim_ascii_start().starts_with('{') {
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(unreadable_key)?;
        return Ok(None);
    }
    let wrapping = parse(WrappingSeed, text).map_err(unreadable_key)?;
    // A column may be named payload. It is then not an object.
    let payload = wrapping.payload.map(RawValue::get).filter(|payload| payload.starts_with('{'));
    let schema = wrapping.schema.map(RawValue::get).filter(|schema| payload.is_some() && schema.starts_with('{'));
    Ok(Some(KeyText { schema, columns: payload.unwrap_or(text) }))
}

pub(super) fn unreadable_key(error: serde_json::Error) -> Reject {
    Reject { kind: RejectKind::Key, ..unreadable(&error, RECORD_KEY) }
}
