//! Columns whose names `field.name.adjustment.mode` has changed: found by either mode's name, as by their own.

use tripline::change::debezium::full_row::{FullRowColumn, FullRowDecoder, FullRowTable};
use tripline::change::full_row::{Cell, Field, FieldType};
use tripline::change::{Decoded, RejectKind};
use tripline::model::{ColumnType, Key, Value};

use crate::full_row::plain;
use crate::support::*;

const COLUMNS: [&str; 5] = ["the-id", "my-col", "1st", "größe", "user_id"];
const NAMES: [[&str; 5]; 3] = [
    COLUMNS,
    ["the_id", "my_col", "_1st", "gr__e", "user_id"],
    ["the_u002did", "my_u002dcol", "_u0031st", "gr_u00f6_u00dfe", "user_u005fid"],
];

fn rule_table(columns: &[&str]) -> tripline::model::Table {
    let columns: Vec<_> = columns.iter().map(|name| (*name, ColumnType::Int8)).collect();
    table("public.odd", &columns)
}

fn archive_table(columns: &[&str]) -> FullRowTable {
    let (ty, declared) = plain(FieldType::Int64);
    let column = |name: &&str| FullRowColumn { field: Field { name: (*name).to_owned(), ty }, declared };
    let fields = columns.iter().map(column).collect();
    FullRowTable { schema: "public".to_owned(), name: "odd".to_owned(), fields, primary_key: vec![0] }
}

/// An envelope with these names, with or without its schema, and the record's key.
fn record(names: &[&str], op: &str, with_schema: bool) -> (String, String) {
    let image: Vec<String> = names.iter().enumerate().map(|(at, name)| format!("{name:?}:{}", at + 7)).collect();
    let image = format!("{{{}}}", image.join(","));
    let images = if op == "d" { "\"before\":null" } else { &format!("\"after\":{image}") };
    let source = r#"{"schema":"public","table":"odd","lsn":5,"txId":6,"ts_us":8}"#;
    let payload = format!("{{{images},\"source\":{source},\"op\":{op:?}}}");
    let key = format!("{{{:?}:7}}", names[0]);
    if !with_schema {
        return (key, payload);
    }
    let field = |name: &&str| format!("{{\"field\":{name:?},\"type\":\"int64\"}}");
    let fields: Vec<String> = names.iter().map(field).collect();
    let schema = |name: &str, fields: &str| format!("{{\"field\":{name:?},\"type\":\"struct\",\"fields\":[{fields}]}}");
    let (row, id) = (schema("after", &fields.join(",")), schema("key", &fields[0]));
    let key = format!("{{\"schema\":{id},\"payload\":{key}}}");
    (key, format!("{{\"schema\":{},\"payload\":{payload}}}", schema("envelope", &row)))
}

#[test]
fn a_column_is_found_by_each_of_its_names() {
    for names in NAMES {
        for with_schema in [false, true] {
            let (rules, archive) = (rule_table(&COLUMNS), archive_table(&COLUMNS));
            let (_, value) = record(&names, "c", with_schema);
            let Ok(Decoded::Change(change)) = decode(&rules, AUTO, None, &value) else { panic!("{names:?}") };
            assert_eq!(change.row.as_deref(), Some(&[7, 8, 9, 10, 11].map(Value::Int)[..]), "{names:?}");
            let mut decoder = FullRowDecoder::new(Some(&archive), AUTO);
            let Ok(Decoded::Change(change)) = decoder.decode(None, Some(value.as_bytes())) else { panic!("{names:?}") };
            let found: Vec<&str> = change.fields.iter().map(|field| field.name.as_str()).collect();
            assert_eq!(
                (found, &change.cells[..]),
                (COLUMNS.to_vec(), &[7, 8, 9, 10, 11].map(Cell::Int)[..]),
                "{names:?}"
            );

            // Of a deleted row the record's key alone.
            let (key, value) = record(&names, "d", with_schema);
            let deleted = decode(&rules, AUTO, Some(&key), &value);
            let Ok(Decoded::Change(change)) = deleted else { panic!("{names:?}: {deleted:?}") };
            assert_eq!(change.pk, Some(Key::Int(7)), "{names:?}");
            let deleted = decoder.decode(Some(key.as_bytes()), Some(value.as_bytes()));
            let Ok(Decoded::Change(change)) = deleted else { panic!("{names:?}: {deleted:?}") };
            assert_eq!(change.cells[..2], [Cell::Int(7), Cell::Null], "{names:?}");
        }
    }
}

/// Where a name may stand for two columns, neither is read.
#[test]
fn a_name_of_two_columns_is_refused() {
    let columns = ["id", "a-b", "a+b"];
    for with_schema in [false, true] {
        let (_, value) = record(&["id", "a_b"], "c", with_schema);
        let reject = decode(&rule_table(&columns), AUTO, None, &value).unwrap_err();
        assert_eq!(reject.kind, RejectKind::Value, "{reject:?}");
        assert!(reject.detail.contains("may stand for column \"a-b\" or \"a+b\""), "{reject:?}");
        let archive = archive_table(&columns);
        let refused = FullRowDecoder::new(Some(&archive), AUTO).decode(None, Some(value.as_bytes())).unwrap_err();
        assert!(refused.kind == RejectKind::Envelope && refused.detail.contains("rename one of them"), "{refused:?}");
        // Their own names are still their own, as is that of a column which is called like an adjusted one.
        for columns in [columns, ["id", "a-b", "a_b"]] {
            let (_, value) = record(&columns, "c", with_schema);
            let read = decode(&rule_table(&columns), AUTO, None, &value);
            let Ok(Decoded::Change(change)) = read else { panic!("{columns:?}: {read:?}") };
            assert_eq!(change.row.as_deref(), Some(&[7, 8, 9].map(Value::Int)[..]));
        }
    }
}
