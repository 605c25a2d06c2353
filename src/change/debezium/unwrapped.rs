//! Reads what ExtractNewRecordState adds to an unwrapped row. The row's columns stand at the top level and are skipped here.
//! Beside them stand the fields of `add.fields`, and `__deleted` where the delete handling mode rewrites deletes. Only the
//! default prefix `__` is recognized.
//! Source: <https://debezium.io/documentation/reference/stable/transformations/event-flattening.html>.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::envelope::{Letter, Source, letter, other};
use super::named::{NameSeed, Number, NumberSeed, Once, TextSeed};

/// The default of `add.fields.prefix`.
const PREFIX: &str = "__";

/// How many fields an archive needs beside the columns.
const NEEDED: usize = 3;

/// Whether a field of this name is none of the row's columns.
pub(super) fn is_added(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The fields of an unwrapped record beside its columns. Each field is absent unless `add.fields` lists it.
#[derive(Default)]
pub(super) struct Added {
    /// `__deleted`, which only the rewriting modes of `delete.tombstone.handling.mode` write.
    pub(super) deleted: Option<bool>,
    /// `__op`
    pub(super) op: Letter,
    /// Whether `__table` is there.
    pub(super) names_table: bool,
    /// `__lsn`, `__txId`, `__source_ts_us`, `__source_ts_ms`, `__db`, `__schema`, `__table`
    pub(super) source: Source,
    /// `__ts_us` and `__ts_ms`: when the connector wrote it.
    pub(super) ts_us: Number,
    pub(super) ts_ms: Number,
}

impl Added {
    /// The operation: without `__op`, an update, which inserts a row that is not there.
    pub(super) fn op(&self) -> Letter {
        match (self.deleted, &self.op) {
            (Some(true), _) => Letter::Of(crate::change::Op::Delete),
            (_, Letter::Absent) => Letter::Of(crate::change::Op::Update),
            (_, Letter::Of(op)) => Letter::Of(*op),
            (_, Letter::Message) => Letter::Message,
            (_, Letter::Unknown(op)) => Letter::Unknown(op.clone()),
        }
    }

    /// Whether there is anything beside the columns.
    pub(super) fn is_any(&self) -> bool {
        self.deleted.is_some() || self.lacks().len() < NEEDED
    }

    /// Which of `add.fields` a complete history needs and this record lacks.
    pub(super) fn lacks(&self) -> Vec<&'static str> {
        let there = |number: Number| number != Number::Absent;
        let fields: [(&str, bool); NEEDED] = [
            ("op", self.op != Letter::Absent),
            ("lsn", there(self.source.lsn)),
            ("source.ts_us", there(self.source.ts_us) || there(self.source.ts_ms)),
        ];
        fields.into_iter().filter(|(_, is_there)| !is_there).map(|(name, _)| name).collect()
    }
}

/// Reads what was added to a row. Names are those expected of the table.
pub(super) struct AddedSeed<'a> {
    pub(super) database: Option<&'a str>,
    pub(super) schema: &'a str,
    pub(super) table: &'a str,
}

#[derive(Clone, Copy)]
enum Name {
    Other,
    Deleted,
    Op,
    Lsn,
    TxId,
    SourceMicros,
    SourceMillis,
    Micros,
    Millis,
    Database,
    Schema,
    Table,
}

impl Name {
    const NAMES: [&str; 12] = [
        "",
        "__deleted",
        "__op",
        "__lsn",
        "__txId",
        "__source_ts_us",
        "__source_ts_ms",
        "__ts_us",
        "__ts_ms",
        "__db",
        "__schema",
        "__table",
    ];
}

impl<'de> DeserializeSeed<'de> for AddedSeed<'_> {
    type Value = Added;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Added, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for AddedSeed<'_> {
    type Value = Added;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object: the columns of a row")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut fields: M) -> Result<Added, M::Error> {
        let (mut added, mut once) = (Added::default(), Once::new(&Name::NAMES));
        while let Some(name) = fields.next_key_seed(NameSeed(name))? {
            once.first(name as usize)?;
            let source = &mut added.source;
            match name {
                Name::Deleted => {
                    let value: &RawValue = fields.next_value()?;
                    added.deleted = match value.get() {
                        "true" | "\"true\"" => Some(true),
                        "false" | "\"false\"" => Some(false),
                        "null" => None,
                        _ => return Err(M::Error::custom("__deleted is neither true nor false")),
                    };
                }
                Name::Op => added.op = letter(fields.next_value_seed(TextSeed("__op"))?.as_deref()),
                Name::Lsn => source.lsn = fields.next_value_seed(NumberSeed)?,
                Name::TxId => source.tx_id = fields.next_value_seed(NumberSeed)?,
                Name::SourceMicros => source.ts_us = fields.next_value_seed(NumberSeed)?,
                Name::SourceMillis => source.ts_ms = fields.next_value_seed(NumberSeed)?,
                Name::Micros => added.ts_us = fields.next_value_seed(NumberSeed)?,
                Name::Millis => added.ts_ms = fields.next_value_seed(NumberSeed)?,
                Name::Database => {
                    let found = fields.next_value_seed(TextSeed("__db"))?;
                    source.other_database = self.database.and_then(|expected| other(found.as_deref(), expected));
                }
                Name::Schema => {
                    source.other_schema = other(fields.next_value_seed(TextSeed("__schema"))?.as_deref(), self.schema)
                }
                Name::Table => {
                    added.names_table = true;
                    source.other_table = other(fields.next_value_seed(TextSeed("__table"))?.as_deref(), self.table)
                }
                Name::Other => _ = fields.next_value::<IgnoredAny>()?,
            }
        }
        Ok(added)
    }
}

/// `add.fields` without the name of a structure takes `op` and `ts_ms` of the envelope, and everything else of `source`.
fn name(name: &str) -> Name {
    match name.strip_prefix(PREFIX).unwrap_or_default() {
        "deleted" => Name::Deleted,
        "op" => Name::Op,
        "lsn" | "source_lsn" => Name::Lsn,
        "txId" | "source_txId" => Name::TxId,
        "source_ts_us" => Name::SourceMicros,
        "source_ts_ms" => Name::SourceMillis,
        "ts_us" => Name::Micros,
        "ts_ms" => Name::Millis,
        "db" | "source_db" => Name::Database,
        "schema" | "source_schema" => Name::Schema,
        "table" | "source_table" => Name::Table,
        _ => Name::Other,
    }
}
