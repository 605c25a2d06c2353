//! Whose record it is, what it leaves unsaid, and what is said of one that cannot be read.

use tripline::change::debezium::full_row::FullRowDecoder;
use tripline::change::debezium::{BinaryHandling, Decoder, Settings, TableSource};
use tripline::change::full_row::{Cell, FieldType};
use tripline::change::{Decode, Decoded, RejectKind};
use tripline::model::{ColumnType, Key, Value};

use crate::full_row;
use crate::support::*;

/// `s.t (id, x text)`, for rules and for the archive.
fn both(source: &TableSource) -> (Decoder, FullRowDecoder) {
    let narrow = table("s.t", &[("id", ColumnType::Int8), ("x", ColumnType::Text)]);
    let plain = full_row::plain;
    let whole = full_row::table("s.t", &[("id", plain(FieldType::Int64)), ("x", plain(FieldType::Text))]);
    let whole = FullRowDecoder::new(Some(&whole), AUTO).of_source(source);
    (all_columns(&narrow, AUTO).of_source(source), whole)
}

fn shop(key_is_made_up: bool) -> TableSource {
    TableSource { database: "shop".to_owned(), key_is_made_up, is_full: false }
}

/// The results of both decoders for a record.
fn outcomes(decoders: &mut (Decoder, FullRowDecoder), key: &str, value: &str) -> [String; 2] {
    fn of<D: Decode>(decoder: &mut D, key: &str, value: &str) -> String {
        match decoder.decode(Some(key.as_bytes()), Some(value.as_bytes())) {
            Ok(Decoded::Change(_)) => "change".to_owned(),
            Ok(Decoded::Ignored(why)) => why.to_owned(),
            Ok(Decoded::Partial(_, reject)) | Err(reject) => format!("{}: {reject}", reject.kind),
        }
    }
    [of(&mut decoders.0, key, value), of(&mut decoders.1, key, value)]
}

#[test]
fn records_are_of_this_table_and_say_so() {
    let record = |op: &str, source: &str| {
        let row = r#""before":{"id":0,"x":""},"after":{"id":1,"x":"a"}"#;
        format!(r#"{{{row},"op":"{op}","ts_ms":1,"source":{{"schema":"s","table":"t"{source}}}}}"#)
    };
    let schema = r#"{"type":"struct","fields":[{"type":"int64","field":"ts_ms"}],"name":"Heartbeat"}"#;
    for (value, made_up, expected) in [
        (record("c", r#","db":"shop""#), false, "change"),
        (record("c", ""), false, "change"),
        (record("c", r#","db":"copy""#), false, "database: source says that this is a change of database \"copy\""),
        (record("c", r#","db":"shop""#).replace(r#""table":"t""#, r#""table":"t_2026""#), false, "table: source says"),
        (record("d", ""), false, "change"),
        (record("d", ""), true, "identity: a delete of a table whose REPLICA IDENTITY is an index"),
        (record("u", ""), true, "change"),
        (record("c", r#","lsn":9223372036854775807"#), false, "change"),
        (record("c", r#","lsn":9223372036854775808"#), false, "envelope: source.lsn"),
        (r#"{"ts_ms":1790000000000}"#.to_owned(), false, "heartbeat"),
        (format!(r#"{{"schema":{schema},"payload":{{"ts_ms":1}}}}"#), false, "heartbeat"),
        (
            r#"{"status":"BEGIN","id":"1:2","event_count":null,"data_collections":null,"ts_ms":1}"#.to_owned(),
            false,
            "transaction boundary",
        ),
        (r#"{"status":"PAID","id":"1:2","ts_ms":1}"#.to_owned(), false, "envelope: there is neither op nor"),
    ] {
        for outcome in outcomes(&mut both(&shop(made_up)), r#"{"id":1}"#, &value) {
            assert!(outcome.starts_with(expected), "{value}: {outcome}, expected {expected}");
        }
    }
    // A row without an envelope is enough for a rule, and not for an archive.
    let [rule, archive] = outcomes(&mut both(&shop(false)), r#"{"id":1}"#, r#"{"id":1,"x":"a"}"#);
    assert!(rule == "change" && archive.starts_with("unwrapped: there is no op"), "{rule} {archive}");
}

/// A reason goes into the log: it says what is wrong, never what the record holds.
#[test]
fn reasons_repeat_no_value_and_are_bounded() {
    let secret = "s3cr3t".repeat(2_000);
    let quoted = serde_json::to_string(&serde_json::json!({"op": "c", "after": {"id": 1, "x": secret}})).unwrap();
    let long = "9".repeat(300_000);
    for value in [
        serde_json::to_string(&quoted).unwrap(), // encoded twice
        format!(r#"{{"op":"c","ts_ms":1,"after":"{secret}\u001b]0;x\u0007"}}"#),
        format!(r#"{{"op":"c","ts_ms":1,"after":{{"id":"{secret}","x":"a"}}}}"#),
        format!(r#"{{"op":"c","ts_ms":1,"after":{{"id":{long},"x":"a"}}}}"#),
        format!(r#"{{"op":"{secret}"}}"#),
        format!(r#"{{"op":"c","ts_ms":1,"after":{{"id":1,"x":"a"}},"source":"{secret}"}}"#),
        format!(r#"{{"op":"c","ts_ms":1,"after":{{"id":1,"x":"a","{long}":1}},"source":{{"lsn":1.5}}}}"#),
        format!(r#"{{"schema":{{"fields":"{secret}"}},"payload":{{"op":"c","after":null}}}}"#),
    ] {
        for outcome in outcomes(&mut both(&shop(false)), "{}", &value) {
            let start: String = value.chars().take(60).collect();
            assert!(outcome.contains(": "), "{start}: {outcome}");
            assert!(outcome.len() < 1_200 && outcome.matches("s3cr3t").count() < 12, "{start}: {outcome}");
            assert!(!outcome.contains("99999999999999999999999") || outcome.contains("column"), "{outcome}");
            assert!(!outcome.chars().any(char::is_control), "{start}: {outcome}");
        }
    }
    // No text of Postgres has one: it would be refused by the table of alerts, at every start.
    let nul = r#"{"op":"c","ts_ms":1,"after":{"id":1,"x":"a\u0000b"}}"#;
    assert!(outcomes(&mut both(&shop(false)), "{}", nul)[0].starts_with("value: column \"x\""));
}

/// `unavailable.value.placeholder` of another connector.
#[test]
fn the_placeholder_may_be_another() {
    let check = |setting: &str, found: &str, unchanged: bool| {
        let narrow = table("s.t", &[("id", ColumnType::Int8), ("x", ColumnType::Text), ("y", CENTS)]);
        let value = format!(r#"{{"op":"u","ts_ms":1,"after":{{"id":1,"x":"{found}","y":"1.00"}}}}"#);
        let mut decoder = all_columns(&narrow, AUTO).with_placeholder(setting);
        let Ok(Decoded::Change(change)) = decoder.decode(None, Some(value.as_bytes())) else { panic!("{value}") };
        assert_eq!(change.holes.len(), usize::from(unchanged), "{setting} {found}");
    };
    check("__GONE__", "__GONE__", true);
    check("__GONE__", "X19HT05FX18=", true);
    check("__GONE__", "5f5f474f4e455f5f", true);
    check("__GONE__", "__debezium_unavailable_value", false);
    check("hex:5f5f474f4e455f5f", "__GONE__", true);
    check("__debezium_unavailable_value", "__debezium_unavailable_value", true);
    check("__debezium_unavailable_value", "__GONE__", false);

    let whole =
        full_row::table("s.t", &[("id", full_row::plain(FieldType::Int64)), ("x", full_row::plain(FieldType::Bytes))]);
    for (binary, found) in [(BinaryHandling::Auto, "X19HT05FX18="), (BinaryHandling::Hex, "5f5f474f4e455f5f")] {
        let value = format!(r#"{{"op":"u","ts_ms":1,"after":{{"id":1,"x":"{found}"}}}}"#);
        let settings = Settings { binary, ..AUTO };
        let mut decoder = FullRowDecoder::new(Some(&whole), settings).with_placeholder("__GONE__");
        let Ok(Decoded::Change(change)) = decoder.decode(None, Some(value.as_bytes())) else { panic!("{value}") };
        assert_eq!(change.cells[1], Cell::Bytes(b"__GONE__".as_slice().into()));
    }
}

/// NULL would be made up: a column that a record does not have is left out.
#[test]
fn columns_that_records_come_without_are_left_out() {
    let (_, mut decoder) = both(&shop(false));
    let mut read = |value: &str| match decoder.decode(None, Some(value.as_bytes())) {
        Ok(Decoded::Change(change)) => change,
        other => panic!("{value}: {other:?}"),
    };
    let names = |change: &tripline::change::full_row::FullRowChange| {
        change.fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>()
    };
    let without = read(r#"{"op":"c","ts_ms":1,"after":{"id":1}}"#);
    assert_eq!((names(&without), &*without.cells), (vec!["id".to_owned()], [Cell::Int(1)].as_slice()));
    let gone = read(r#"{"op":"d","ts_ms":1,"before":{"id":1}}"#);
    assert_eq!((names(&gone), &*gone.cells), (names(&without), &*without.cells));
    assert!(std::sync::Arc::ptr_eq(&without.fields, &gone.fields), "they go into one file");
    assert_eq!(names(&read(r#"{"op":"c","ts_ms":1,"after":{"id":1,"x":null}}"#)), ["id", "x"]);
    assert_eq!(names(&read(r#"{"op":"d","ts_ms":1,"before":{"x":"","id":1}}"#)), ["id", "x"]);
}

#[test]
fn a_decoder_goes_on_after_what_is_no_change() {
    let (mut decoder, _) = both(&shop(false));
    assert!(decoder.decode(None, Some(br#"{"ts_ms":1}"#)).is_ok());
    let value = r#"{"op":"c","after":{"id":1,"x":"a"},"source":{"db":"shop"}}"#;
    let Ok(Decoded::Change(change)) = decoder.decode(None, Some(value.as_bytes())) else { panic!() };
    assert_eq!(change.pk, Some(Key::Int(1)));
    let reject = decoder.decode(None, Some(br#"{"op":"c","source":{"db":"x"}}"#)).unwrap_err();
    assert_eq!(reject.kind, RejectKind::Database);
}

/// The row before a change is read where that is asked for, and only if all of it can be.
#[test]
fn the_row_before_a_change() {
    let narrow = table("s.t", &[("id", ColumnType::Int8), ("x", ColumnType::Text)]);
    let record = |op: &str, before: &str, after: &str| {
        format!(r#"{{"before":{before},"after":{after},"op":"{op}","source":{{"schema":"s","table":"t"}}}}"#)
    };
    let read = |reads: bool, record: &str| {
        let mut decoder = all_columns(&narrow, AUTO).with_before(reads);
        match decoder.decode(Some(br#"{"id":1}"#), Some(record.as_bytes())).unwrap() {
            Decoded::Change(change) => (change.pk.unwrap(), change.before, change.row),
            other => panic!("{other:?}"),
        }
    };
    let row = |text: &str| Some(Box::from([Value::Int(1), Value::Text(text.into())]));
    let (whole, after) = (r#"{"id":1,"x":"a"}"#, r#"{"id":1,"x":"b"}"#);
    assert_eq!(read(true, &record("u", whole, after)), (Key::Int(1), row("a"), row("b")));
    assert_eq!(read(true, &record("d", whole, "null")), (Key::Int(1), row("a"), None));
    assert_eq!(read(false, &record("u", whole, after)), (Key::Int(1), None, row("b")));
    assert_eq!(read(false, &record("d", whole, "null")), (Key::Int(1), None, None));
    for before in ["null", r#"{"id":1}"#, r#"{"id":1,"x":7}"#, r#"{"id":"?","x":"a"}"#] {
        assert_eq!(read(true, &record("u", before, after)), (Key::Int(1), None, row("b")), "{before}");
    }
}
