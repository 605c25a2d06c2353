//! Envelopes, schemas and keys in every shape.

use tripline::change::debezium::Decoder;
use tripline::change::{Decoded, RejectKind};
use tripline::model::{ColumnType, Key, Lsn, Table, Timestamp, Value};

use crate::support::*;

const SOURCE: &str = r#"{"ts_ms":5,"schema":"streaming","table":"transactions","txId":-1,"lsn":9223372036854775807}"#;

#[test]
fn envelopes_in_any_shape() {
    let row = r#"{"id":7,"user_id":1,"amount":"1.00","timestamp":"infinity","merchant":null,"status":"x"}"#;
    let bare = r#"{"\u0069d":7}"#;
    let outcome = |value: &str, key: Option<&str>| match decode(&transactions(), AUTO, key, value) {
        Ok(Decoded::Change(change)) => format!("{} {:?} {}", change.op.as_str(), change.pk, change.row.is_some()),
        Ok(Decoded::Ignored(why)) => why.to_owned(),
        Ok(Decoded::Partial(_, reject)) | Err(reject) => format!("{}: {reject}", reject.kind),
    };
    let seven = |op: &str, row| format!("{op} Some(Int(7)) {row}");
    for (value, key, expected) in [
        (format!(r#"{{"op":"c","source":{SOURCE},"after":{row},"before":null}}"#), None, seven("c", true)),
        (format!(r#"{{"after":{row},"op":"r","source":null}}"#), None, seven("r", true)),
        (format!(r#"{{"after":null,"after":{row},"op":"r"}}"#), None, "envelope: the record's value has not".into()),
        (format!(r#" {{ "payload" : {{"op":"u","after":{row}}} , "schema":null }} "#), None, seven("u", true)),
        (format!(r#"{{"op":"d","before":{bare},"after":null}}"#), None, seven("d", false)),
        (r#"{"op":"d","before":null}"#.into(), Some(r#"{"id":7}"#), seven("d", false)),
        (r#"{"op":"d","before":{"user_id":0}}"#.into(), Some(r#"{"payload":{"id":7}}"#), seven("d", false)),
        (r#"{"op":"d"}"#.into(), Some(r#"{"user_id":7}"#), "key: a delete".into()),
        (r#"{"op":"d"}"#.into(), None, "key: a delete".into()),
        (r#"{"op":"d","before":{"id":null}}"#.into(), None, "value: column \"id\"".into()),
        (r#"{"op":"t","source":{"table":"transactions"}}"#.into(), None, "t None false".into()),
        (r#"{"op":"t","source":{"table":"other"}}"#.into(), None, "table: source says".into()),
        (r#"{"op":"c","after":{},"source":{"schema":"public"}}"#.into(), None, "table: source says".into()),
        (r#"{"op":"c","after":{"id":7}}"#.into(), None, "value: column \"user_id\"".into()),
        (r#"{"op":"c","after":null}"#.into(), None, "envelope: op is \"c\"".into()),
        (r#"{"op":"c","after":5}"#.into(), None, "envelope: the record's value".into()),
        (r#"{"op":"x"}"#.into(), None, "envelope: op is \"x\"".into()),
        (r#"{"op":"m"}"#.into(), None, "logical message".into()),
        (format!(r#"{{"op":"c","after":{row},"source":{{"lsn":-1}}}}"#), None, "envelope: source.lsn".into()),
        (format!(r#"{{"op":"c","after":{row},"source":{{"txId":1.5}}}}"#), None, "envelope: source.txId".into()),
        (row.into(), None, seven("u", true)),
        (r#"{"payload":"AP8="}"#.into(), None, "envelope: there is neither op nor".into()),
        ("null".into(), Some(r#"{"id":7}"#), seven("tombstone", false)),
        (r#"{"schema":null,"payload":null}"#.into(), Some(r#"{"id":7}"#), seven("tombstone", false)),
        ("null".into(), Some(r#"{"user_id":7}"#), "tombstone of another key".into()),
        ("null".into(), Some("\"a\""), "tombstone of another key".into()),
        ("null".into(), Some("{\"id\":\"a\"}"), "key: column \"id\" (int8) of the record's key".into()),
        ("null".into(), Some("{"), "key: ".into()),
        ("null".into(), None, "tombstone without a key".into()),
        ("null".into(), Some("null"), "tombstone without a key".into()),
        (String::new(), None, "json: ".into()),
        ("[1]".into(), None, "envelope: ".into()),
        ("{\"op\":\"c\"} x".into(), None, "json: ".into()),
        ("[".repeat(100_000), None, "envelope: ".into()),
        (format!("{{\"op\":{}", "[".repeat(100_000)), None, "envelope: ".into()),
        (format!("{{\"x\":{}", "[".repeat(100_000)), None, "json: ".into()),
    ] {
        let got = outcome(&value, key);
        let short: String = value.chars().take(200).collect();
        assert!(got.starts_with(&expected), "{short}: {got}, expected {expected}");
    }
    let mut decoder = all_columns(&transactions(), AUTO);
    assert_eq!(decoder.decode(None, Some(b"{\"a\":\"\xff\"}")).unwrap_err().kind, RejectKind::Json);
    let value = format!(r#"{{"op":"c","source":{SOURCE},"after":{row}}}"#);
    let Ok(Decoded::Change(change)) = decode(&transactions(), AUTO, None, &value) else { panic!() };
    assert_eq!((change.lsn, change.tx_id), (Some(Lsn(9_223_372_036_854_775_807)), Some(u32::MAX)));
    assert_eq!(change.committed_at, Some(Timestamp(5_000)));
}

#[test]
fn schemas_may_change_between_records() {
    let table = table("s.t", &[("id", ColumnType::Int8), ("x", ColumnType::Numeric { scale: Some(4) })]);
    let mut decoder = all_columns(&table, AUTO);
    let value = |scale: &str, x: &str| {
        let name = "org.apache.kafka.connect.data.Decimal";
        let field = format!(r#"{{"field":"x","type":"bytes","name":"{name}","parameters":{{"scale":"{scale}"}}}}"#);
        let schema = format!(r#"{{"fields":[{{"field":"after","fields":[{field}]}}]}}"#);
        format!(r#"{{"schema":{schema},"payload":{{"after":{{"id":1,"x":"{x}"}},"op":"c"}}}}"#)
    };
    for (scale, x, expected) in [
        ("2", "MDk=", Some(1_234_500)),
        ("2", "ew==", Some(12_300)),
        ("4", "MDk=", Some(12_345)),
        ("5", "MDk=", None),
        ("2", "MDk=", Some(1_234_500)),
        ("x", "MDk=", None),
    ] {
        let got = decoder.decode(None, Some(value(scale, x).as_bytes()));
        let got = got.ok().and_then(|decoded| match decoded {
            Decoded::Change(change) => change.row.map(|row| row[1].clone()),
            Decoded::Ignored(_) | Decoded::Partial(..) => None,
        });
        assert_eq!(got, expected.map(Value::Decimal), "scale {scale}");
    }
    let known = value("2", "MDk=");
    assert!(decoder.decode(None, Some(known.as_bytes())).is_ok());
    assert!(decoder.decode(None, Some(format!("{known}}}").as_bytes())).is_err());
    assert!(decoder.decode(None, Some(&known.as_bytes()[..known.len() - 1])).is_err());
}

#[test]
fn decoders_that_cannot_be() {
    let mut table = transactions();
    let of = |table: &Table, wanted: &[usize]| Decoder::new(table, wanted, AUTO).err().unwrap_or_default();
    assert!(of(&table, &[9]).contains("no column number 9"));
    assert!(of(&table, &[1, 1]).contains("twice"));
    assert_eq!(of(&table, &[]), "");
    table.columns[4].ty = ColumnType::Other;
    assert!(of(&table, &[4]).contains("\"merchant\" has the type"));
    table.columns[0].ty = ColumnType::Other; // an enum, say
    let why = of(&table, &[1]);
    assert!(why.contains("it is of the primary key") && !why.contains("leave it out"), "{why}");
    table.primary_key.clear();
    assert!(of(&table, &[1]).contains("no primary key"));
}

#[test]
fn composite_keys_keep_their_order() {
    let mut table = transactions();
    table.primary_key = vec![5, 0];
    let mut decoder = Decoder::new(&table, &[1, 0], AUTO).unwrap();
    let value = br#"{"op":"c","after":{"id":7,"user_id":1,"status":"x","new":{"a":[1]}}}"#;
    let Ok(Decoded::Change(change)) = decoder.decode(None, Some(value)) else { panic!() };
    assert_eq!(change.row.as_deref(), Some([Value::Int(1), Value::Int(7)].as_slice()));
    assert_eq!(change.pk, Some(Key::Values([text("x"), Value::Int(7)].into())));
}

/// A converter that is applied twice writes the whole record as one JSON text.
#[test]
fn a_reason_does_not_repeat_the_record() {
    let row = r#"{"id":7,"user_id":1,"amount":"1.00","merchant":"Joe's, expected \"here\""}"#;
    let record = format!(r#"{{"op":"c","source":{SOURCE},"after":{row}}}"#);
    let twice = |text: &str| serde_json::to_string(text).unwrap();
    let within = format!(r#"{{"op":"c","source":{SOURCE},"after":{}}}"#, twice(row));
    for (value, key) in
        [(twice(&record), "{\"id\":7}".to_owned()), (within, twice("{\"id\":7}")), ("null".to_owned(), twice(row))]
    {
        match decode(&transactions(), AUTO, Some(&key), &value) {
            Err(reject) => {
                let text = reject.to_string();
                assert!(text.contains("invalid type: string, expected ") && !text.contains("Joe"), "{text}");
            }
            Ok(Decoded::Ignored(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}
