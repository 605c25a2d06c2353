//! Invalid records, each with the program's message. `bad_inputs.txt` has the messages as they were last reviewed. Run
//! with BAD_INPUTS=write to write it again.
//!
//! - [`records`]: envelopes, rows, keys, JSON
//! - [`values`]: a column's value by its type
//! - [`avro`]: schemas of Avro and bytes of theirs

mod avro;
mod records;
mod values;

use std::fmt::Write as _;

use tripline::change::debezium::full_row::{Declared, FullRowDecoder, FullRowTable};
use tripline::change::debezium::{Settings, Shape, TableSource};
use tripline::change::full_row::FieldType;
use tripline::change::{Decode, Decoded};
use tripline::model::{ColumnType, Table};

use crate::full_row;
use crate::support::*;

/// Stands for personal data in the inputs. No reason may repeat it.
const SECRET: &str = "4111222233334444";

/// A record that is wrong.
struct Bad {
    name: String,
    settings: Settings,
    key: Option<Vec<u8>>,
    value: Vec<u8>,
}

/// A record with this value.
fn bad(name: &str, value: impl Into<Vec<u8>>) -> Bad {
    Bad { name: name.to_owned(), settings: AUTO, key: None, value: value.into() }
}

/// A record with this key too.
fn keyed(name: &str, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Bad {
    Bad { key: Some(key.into()), ..bad(name, value) }
}

const ROWS: Settings = Settings { shape: Shape::Row, ..AUTO };

fn table_of_all() -> Table {
    table(
        "shop.orders",
        &[
            ("id", ColumnType::Int8),
            ("amount", CENTS),
            ("any", ColumnType::Numeric { scale: None }),
            ("whole", ColumnType::Numeric { scale: Some(0) }),
            ("at", ColumnType::TimestampTz),
            ("ts", ColumnType::Timestamp { precision: 6 }),
            ("ts3", ColumnType::Timestamp { precision: 3 }),
            ("d", ColumnType::Date),
            ("note", ColumnType::Text),
            ("small", ColumnType::Int2),
            ("int", ColumnType::Int4),
            ("flag", ColumnType::Bool),
            ("uuid", ColumnType::Uuid),
        ],
    )
}

fn full_table_of_all() -> FullRowTable {
    let decimal = |precision, scale| full_row::plain(FieldType::Decimal { precision, scale });
    let fraction = |ty, digits| (ty, Declared::Fraction { digits });
    let any = (FieldType::Text, Declared::Number { scale: None });
    full_row::table(
        "shop.orders",
        &[
            ("id", full_row::plain(FieldType::Int64)),
            ("amount", decimal(12, 2)),
            ("any", any),
            ("whole", decimal(10, 0)),
            ("at", full_row::plain(FieldType::TimestampTz)),
            ("ts", fraction(FieldType::Timestamp, 6)),
            ("ts3", fraction(FieldType::Timestamp, 3)),
            ("d", full_row::plain(FieldType::Date)),
            ("note", full_row::plain(FieldType::Text)),
            ("small", full_row::plain(FieldType::Int16)),
            ("int", full_row::plain(FieldType::Int32)),
            ("flag", full_row::plain(FieldType::Bool)),
            ("uuid", full_row::plain(FieldType::Text)),
            ("t", fraction(FieldType::Time, 6)),
            ("b", full_row::plain(FieldType::Bytes)),
            ("f", full_row::plain(FieldType::Float64)),
            ("r", full_row::plain(FieldType::Float32)),
        ],
    )
}

/// The decoder's result for a record.
fn outcome<D: Decode>(mut decoder: D, bad: &Bad) -> String {
    match decoder.decode(bad.key.as_deref(), Some(&bad.value)) {
        Ok(Decoded::Change(_)) => "applied".to_owned(),
        Ok(Decoded::Partial(_, reject)) => format!("applied in part, {}: {}", reject.kind, reject.detail),
        Ok(Decoded::Ignored(why)) => format!("ignored: {why}"),
        Err(reject) => format!("{}: {}", reject.kind, reject.detail),
    }
}

/// Bytes as a line of text may show them.
fn shown(bytes: &[u8]) -> String {
    const MAX: usize = 160;
    let text: String =
        bytes.iter().take(MAX).flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from).collect();
    let text = text.replace("\\\"", "\"").replace("\\'", "'");
    if bytes.len() > MAX { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}

#[test]
fn what_is_said_of_each() {
    let source = TableSource { database: "store".to_owned(), key_is_made_up: false, is_full: false };
    let (table, full) = (table_of_all(), full_table_of_all());
    let (mut text, mut names) = (String::new(), std::collections::BTreeSet::new());
    let mut note = |name: &str, input: &str, lines: &[(&str, String)]| {
        assert!(names.insert(name.to_owned()), "{name} is there twice");
        let _ = writeln!(text, "{name}\n    {input}");
        for (who, line) in lines {
            assert!(!line.contains(&SECRET[..12]), "{name}: {who} repeats a value: {line}");
            assert!(line.len() < 1_200, "{name}: {who}: {} bytes", line.len());
            let _ = writeln!(text, "    {who}: {line}");
        }
    };
    for bad in records::all().into_iter().chain(values::all()) {
        let monitor = outcome(all_columns(&table, bad.settings).of_source(&source), &bad);
        let archive = outcome(FullRowDecoder::new(Some(&full), bad.settings).of_source(&source), &bad);
        let key = bad.key.as_deref().map(|key| format!("{} ↦ ", shown(key))).unwrap_or_default();
        note(&bad.name, &format!("{key}{}", shown(&bad.value)), &[("monitor", monitor), ("archive", archive)]);
    }
    for (name, schema, bytes) in avro::all() {
        let said = avro::outcome(&schema, &bytes);
        note(&name, &format!("{} ↦ {}", shown(schema.as_bytes()), shown(&bytes)), &[("avro", said)]);
    }
    assert!(names.len() >= 150, "{} inputs", names.len());
    let golden = format!("{}/tests/decode/bad_inputs.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var("BAD_INPUTS").is_ok_and(|value| value == "write") {
        std::fs::write(&golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&golden).unwrap());
}
