//! Every capture in one table: the number of its records, and the results of a rule and an archive. `captures.txt` has
//! the results as they were last reviewed. Run with CAPTURES=write to write it again.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tripline::change::avro::{RecordPart, SchemaId, Schemas};
use tripline::change::debezium::full_row::{FullRowDecoder, FullRowTable};
use tripline::change::debezium::{DecimalHandling, Settings, TimePrecision};
use tripline::change::full_row::FieldType;
use tripline::change::{Decode, Decoded};
use tripline::model::{ColumnType, Table};

use crate::full_row;
use crate::support::*;

/// Of a record, as JSON.
type KeyAndValue = (Option<Vec<u8>>, Option<Vec<u8>>);

fn path(name: &str) -> String {
    format!("{}/tests/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The connector's settings that records do not show.
fn settings_of(fixture: &str) -> Settings {
    let decimals = match fixture {
        name if name.contains("double") => DecimalHandling::Double,
        "h_amounts_plain_string" => DecimalHandling::String,
        "h_amounts_plain_precise" => DecimalHandling::Precise,
        _ => DecimalHandling::Auto,
    };
    let times = match fixture {
        name if name.contains("isostring") => TimePrecision::Isostring,
        name if name.contains("connect") => TimePrecision::Connect,
        name if name.ends_with("time_microseconds") && name.contains("adaptive") => {
            TimePrecision::AdaptiveTimeMicroseconds
        }
        name if name.contains("microseconds") => TimePrecision::Microseconds,
        _ => TimePrecision::Adaptive,
    };
    settings(decimals, times)
}

/// The tables of a topic, for a rule and for an archive.
fn tables_of(topic: &str) -> Option<(Table, Option<FullRowTable>)> {
    let (_, name) = topic.rsplit_once('.').unwrap_or(("", topic));
    let toast = |name: &str| {
        let columns =
            [("id", ColumnType::Int8), ("user_id", ColumnType::Int8), ("amount", CENTS), ("note", ColumnType::Text)];
        table(&format!("streaming.{name}"), &columns)
    };
    Some(match name {
        "transactions" => {
            let decimal = full_row::plain(FieldType::Decimal { precision: 12, scale: 2 });
            let text = || full_row::plain(FieldType::Text);
            let id = || full_row::plain(FieldType::Int64);
            let time = full_row::plain(FieldType::TimestampTz);
            let columns = [
                ("id", id()),
                ("user_id", id()),
                ("amount", decimal),
                ("timestamp", time),
                ("merchant", text()),
                ("status", text()),
                ("channel", text()),
            ];
            (transactions(), Some(full_row::table("streaming.transactions", &columns)))
        }
        "times" => (times(), Some(full_row::times())),
        "amounts" => (amounts(), Some(full_row::amounts())),
        "nan_amounts" => {
            let columns = [("id", ColumnType::Int8), ("amount", CENTS), ("n", ColumnType::Numeric { scale: None })];
            (table("streaming.nan_amounts", &columns), None)
        }
        "toast_default" | "toast_full" | "toast_index" => {
            (toast(name), Some(full_row::toasted(&format!("streaming.{name}"))))
        }
        "2025em1100102_food_orders_raw" => {
            let columns = [("order_id", ColumnType::Int4), ("amount", CENTS), ("order_status", ColumnType::Text)];
            (table("public.orders", &columns), Some(full_row::orders()))
        }
        _ => return None,
    })
}

/// `40 applied, 8 ignored (tombstone), 6 refused (value: …)`
fn outcome<D: Decode>(decoder: &mut D, records: &[KeyAndValue]) -> String {
    let mut found: BTreeMap<(u8, String), usize> = BTreeMap::new();
    for (key, value) in records {
        let what = match decoder.decode(key.as_deref(), value.as_deref()) {
            Ok(Decoded::Change(_)) => (0, "applied".to_owned()),
            Ok(Decoded::Partial(_, reject)) => (1, format!("applied in part ({}: {})", reject.kind, reject.detail)),
            Ok(Decoded::Ignored(why)) => (2, format!("ignored ({why})")),
            Err(reject) => (3, format!("refused ({}: {})", reject.kind, reject.detail)),
        };
        *found.entry(what).or_default() += 1;
    }
    let parts: Vec<String> = found.into_iter().map(|((_, what), count)| format!("{count} {what}")).collect();
    parts.join("\n      ")
}

#[test]
fn what_becomes_of_each_record() {
    let mut schemas = Schemas::default();
    let all: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path("fixtures/j_avro.schemas.json")).unwrap()).unwrap();
    for (id, schema) in all.as_object().unwrap() {
        schemas.learn(SchemaId::Short(id.parse().unwrap()), Ok(schema.to_string()));
    }
    let mut names: Vec<String> = std::fs::read_dir(path("fixtures"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".ndjson").map(str::to_owned))
        .collect();
    names.sort();
    let mut text = String::new();
    for name in names {
        let mut topics: BTreeMap<String, Vec<KeyAndValue>> = BTreeMap::new();
        for line in std::fs::read_to_string(path(&format!("fixtures/{name}.ndjson"))).unwrap().lines() {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            let part = |field: &str, part| match &record[field] {
                serde_json::Value::Null => None,
                serde_json::Value::String(text) => Some(text.clone().into_bytes()),
                bytes => {
                    let bytes = STANDARD.decode(bytes["b64"].as_str().unwrap()).unwrap();
                    Some(schemas.json(&bytes, part, std::iter::empty()).unwrap().into_owned())
                }
            };
            let both = (part("key", RecordPart::Key), part("value", RecordPart::Value));
            topics.entry(record["topic"].as_str().unwrap().to_owned()).or_default().push(both);
        }
        for (topic, records) in topics {
            let Some((narrow, whole)) = tables_of(&topic) else { continue };
            let settings = settings_of(&name);
            let rule = outcome(&mut all_columns(&narrow, settings), &records);
            // Where the capture has its schema, or the catalog's columns are at hand.
            let archive = outcome(&mut FullRowDecoder::new(whole.as_ref(), settings), &records);
            let _ = writeln!(
                text,
                "{name} {topic}: {} records\n  rule\n      {rule}\n  archive\n      {archive}",
                records.len()
            );
        }
    }
    let golden = path("decode/captures.txt");
    if std::env::var("CAPTURES").is_ok_and(|value| value == "write") {
        std::fs::write(&golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&golden).unwrap());
}
