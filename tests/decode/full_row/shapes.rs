//! Envelopes, schemas and keys in every shape.

use std::sync::Arc;

use tripline::change::debezium::full_row::{Declared, FullRowDecoder};
use tripline::change::full_row::{Cell, FieldType, FullRowChange};
use tripline::change::{Decoded, Op, RejectKind};
use tripline::model::Timestamp;

use super::{Outcome, cell, orders, plain, table, text};
use crate::support::{AUTO, STRING};

fn decode(decoder: &mut FullRowDecoder, key: Option<&str>, value: &str) -> Outcome {
    decoder.decode(key.map(str::as_bytes), Some(value.as_bytes()))
}

fn change(decoder: &mut FullRowDecoder, key: Option<&str>, value: &str) -> FullRowChange {
    match decode(decoder, key, value) {
        Ok(Decoded::Change(change)) => change,
        other => panic!("{value}: {other:?}"),
    }
}

fn kind(decoder: &mut FullRowDecoder, key: Option<&str>, value: &str) -> &'static str {
    match decode(decoder, key, value) {
        Ok(Decoded::Partial(_, reject)) | Err(reject) => reject.kind.as_str(),
        Ok(Decoded::Ignored(why)) => why,
        Ok(Decoded::Change(_)) => "change",
    }
}

/// A record with its schema: each field as its description and its value.
fn described(fields: &[(&str, &str)], rest: &str) -> String {
    let schemas: Vec<_> = fields.iter().map(|(schema, _)| format!("{{{schema}}}")).collect();
    let values: Vec<_> = fields.iter().map(|(_, value)| (*value).to_owned()).collect();
    let schema = format!(r#"{{"type":"struct","fields":[{{"field":"after","fields":[{}]}}]}}"#, schemas.join(","));
    format!(r#"{{"schema":{schema},"payload":{{"after":{{{}}},"ts_us":7{rest}}}}}"#, values.join(","))
}

const ID: (&str, &str) = (r#""type":"int32","field":"id""#, r#""id":1"#);
const NAME: (&str, &str) = (r#""type":"string","field":"name""#, r#""name":"x""#);

#[test]
fn rejects_by_kind() {
    let table = orders();
    for (key, value, expected) in [
        (None, r#"{"op":"c","ts_ms":1,"after":{}}"#, "change"),
        (None, r#"{"op":"c","after":{}}"#, "envelope"),
        (None, r#"{"op":"c","ts_ms":1,"after":null}"#, "envelope"),
        (None, r#"{"op":"c","ts_ms":1,"after":5}"#, "envelope"),
        (None, r#"{"op":"c","ts_ms":1,"after":{"new":1}}"#, "unknown-column"),
        (None, r#"{"op":"c","ts_ms":1,"after":{},"source":{"table":"other"}}"#, "table"),
        (None, r#"{"op":"c","after":{},"source":{"ts_us":1.5}}"#, "envelope"),
        (None, r#"{"op":"c","after":{},"source":{"ts_us":9223372036854775807}}"#, "envelope"),
        (None, r#"{"op":"c","after":{},"source":{"ts_ms":-99999999999999}}"#, "envelope"),
        (None, r#"{"op":"m","ts_ms":1}"#, "logical message"),
        (None, r#"{"op":"x","ts_ms":1}"#, "envelope"),
        (None, r#"{"order_id":1}"#, "envelope"),
        (None, "null", "tombstone"),
        (None, r#"{"schema":null,"payload":null}"#, "tombstone"),
        (None, "{", "json"),
        (None, r#"{"op":"d","ts_ms":1}"#, "key"),
        (Some("5"), r#"{"op":"d","ts_ms":1}"#, "key"),
        (Some(r#"{"item":"a"}"#), r#"{"op":"d","ts_ms":1}"#, "key"),
        (Some(r#"{"order_id":"a"}"#), r#"{"op":"d","ts_ms":1}"#, "key"),
        (Some("{"), r#"{"op":"d","ts_ms":1}"#, "key"),
        (None, r#"{"op":"d","ts_ms":1,"before":{"order_id":"a"}}"#, "value"),
        (Some(r#"{"order_id":1}"#), r#"{"op":"d","ts_ms":1,"before":{"item":"made up"}}"#, "change"),
    ] {
        assert_eq!(kind(&mut FullRowDecoder::new(Some(&table), AUTO), key, value), expected, "{value}");
    }
    let mut without = FullRowDecoder::new(None, AUTO);
    for (value, expected) in [
        (r#"{"op":"c","ts_ms":1,"after":{"id":1}}"#, "schemaless"),
        (r#"{"op":"d","ts_ms":1,"before":{"id":1}}"#, "schemaless"),
        (r#"{"op":"t","ts_ms":1}"#, "schemaless"),
        (r#"{"op":"m"}"#, "logical message"),
        (r#"{"id":1}"#, "envelope"),
    ] {
        assert_eq!(kind(&mut without, None, value), expected, "{value}");
    }
}

#[test]
fn times_of_commit() {
    let table = orders();
    for (value, micros) in [
        (r#"{"op":"c","after":{},"source":{"ts_us":5,"ts_ms":1},"ts_us":9}"#, 5),
        (r#"{"op":"c","after":{},"source":{"ts_ms":1},"ts_us":9}"#, 1_000),
        (r#"{"op":"c","after":{},"source":{},"ts_us":9,"ts_ms":1}"#, 9),
        (r#"{"op":"c","after":{},"ts_ms":1}"#, 1_000),
    ] {
        let got = change(&mut FullRowDecoder::new(Some(&table), AUTO), None, value);
        assert_eq!(got.committed_at, Timestamp(micros), "{value}");
    }
}

#[test]
fn columns_come_and_go_with_the_schema() {
    let mut decoder = FullRowDecoder::new(None, AUTO);
    let rest = r#","op":"c","source":{"schema":"s","table":"t"}"#;
    let two = described(&[ID, NAME], rest);
    let (first, again) = (change(&mut decoder, None, &two), change(&mut decoder, None, &two));
    assert!(Arc::ptr_eq(&first.fields, &again.fields));
    assert_eq!(*first.cells, [Cell::Int(1), text("x")]);
    let added = (
        r#""type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2"},"field":"n""#,
        r#""n":"MDk=""#,
    );
    let three = change(&mut decoder, None, &described(&[ID, NAME, added], rest));
    assert!(!Arc::ptr_eq(&first.fields, &three.fields));
    assert_eq!(three.fields[2].ty, FieldType::Decimal { precision: 38, scale: 2 });
    assert_eq!(three.cells[2], Cell::Decimal(12_345));
    let one = change(&mut decoder, None, &described(&[ID], rest));
    assert_eq!(one.fields.len(), 1);

    // A schema that differs in something else keeps the list.
    let other = described(&[(r#""type":"int32","optional":true,"field":"id""#, ID.1)], rest);
    assert!(Arc::ptr_eq(&change(&mut decoder, None, &other).fields, &one.fields));

    // Of the table that was seen first, with or without schema.
    assert_eq!(
        kind(&mut decoder, None, &described(&[ID], r#","op":"c","source":{"schema":"s","table":"u"}"#)),
        "table"
    );
    // A truncate without any description has the fields seen last.
    let truncate = change(&mut decoder, None, r#"{"op":"t","ts_ms":1}"#);
    assert!(truncate.op == Op::Truncate && Arc::ptr_eq(&truncate.fields, &one.fields));
    assert_eq!(*truncate.cells, [Cell::Null]);
}

#[test]
fn keys_of_deletes_without_a_catalog() {
    let delete = |before: &str| {
        let fields = format!("{{{}}},{{{}}}", ID.0, NAME.0);
        let schema = format!(r#"{{"fields":[{{"field":"before","fields":[{fields}]}}]}}"#);
        format!(r#"{{"schema":{schema},"payload":{{"op":"d","ts_ms":1,"before":{before}}}}}"#)
    };
    let described = r#"{"schema":{"fields":[{"type":"int32","field":"id"}]},"payload":{"id":4}}"#;
    for (before, key, expected) in [
        (r#"{"id":3,"name":"made up"}"#, Some(r#"{"id":3}"#), Cell::Int(3)),
        (r#"{"id":3,"name":"made up"}"#, Some(described), Cell::Int(3)),
        ("null", Some(r#"{"id":4}"#), Cell::Int(4)),
        ("null", Some(described), Cell::Int(4)),
        (r#"{"id":3}"#, Some("3"), Cell::Null),
        (r#"{"id":3}"#, None, Cell::Null),
    ] {
        let got = change(&mut FullRowDecoder::new(None, AUTO), key, &delete(before));
        assert_eq!(*got.cells, [expected, Cell::Null], "{before} {key:?}");
    }
}

#[test]
fn the_catalog_wins_over_the_schema() {
    let table = table(
        "s.t",
        &[
            ("id", plain(FieldType::Int64)),
            ("amount", plain(FieldType::Decimal { precision: 10, scale: 2 })),
            ("note", plain(FieldType::Text)),
            ("at", (FieldType::Timestamp, Declared::Fraction { digits: 6 })),
        ],
    );
    let amount = (r#""type":"string","field":"amount""#, r#""amount":"1.50""#);
    let note = (r#""type":"int32","field":"note""#, r#""note":5"#);
    let mut decoder = FullRowDecoder::new(Some(&table), AUTO);
    let got = change(&mut decoder, None, &described(&[ID, amount, note], r#","op":"c""#));
    assert_eq!(
        got.fields.iter().map(|field| field.ty).collect::<Vec<_>>(),
        [FieldType::Int64, FieldType::Decimal { precision: 10, scale: 2 }, FieldType::Text]
    );
    assert_eq!(*got.cells, [Cell::Int(1), Cell::Decimal(150), text("5")]);
    let altered = (r#""type":"boolean","field":"at""#, r#""at":true"#);
    let reject = decode(&mut decoder, None, &described(&[ID, altered], r#","op":"c""#)).unwrap_err();
    assert!(reject.kind == RejectKind::Value && reject.detail.contains("altered"), "{reject}");
}

/// The catalog, read anew, would not help: the record itself says which columns it has.
#[test]
fn a_column_that_the_records_own_schema_has_not() {
    let more = (ID.0, r#""id":1,"more":2"#);
    for table in [None, Some(orders())] {
        let mut decoder = FullRowDecoder::new(table.as_ref(), AUTO);
        for _ in 0..2 {
            let reject = decode(&mut decoder, None, &described(&[more], r#","op":"c""#)).unwrap_err();
            assert!(reject.kind == RejectKind::Envelope && reject.detail.contains("\"more\""), "{reject}");
        }
    }
}

#[test]
fn a_real_that_is_none() {
    let real = |value: &'static str| described(&[(r#""type":"float","field":"r""#, value)], r#","op":"c""#);
    let mut decoder = FullRowDecoder::new(None, AUTO);
    for value in [r#""r":3.4028235E38"#, r#""r":-1.17549435E-38"#, r#""r":"Infinity""#, r#""r":1"#] {
        assert_eq!(kind(&mut decoder, None, &real(value)), "change", "{value}");
    }
    for value in [r#""r":1e300"#, r#""r":3.5E38"#] {
        let reject = decode(&mut decoder, None, &real(value)).unwrap_err();
        assert!(
            reject.kind == RejectKind::Value && reject.detail.contains("outside of the column's range"),
            "{reject}"
        );
    }
}

#[test]
fn columns_that_the_table_no_longer_has() {
    let table = orders();
    let whole = r#""customer_name":null,"restaurant_name":null,"item":null,"order_status":null,"created_at":null"#;
    let row = format!(
        r#"{{"op":"c","ts_ms":1,"after":{{"order_id":1,"old":{{"a":1}},"amount":"1.00",{whole},"older":"x"}}}}"#
    );
    let row = row.as_str();
    let mut strict = FullRowDecoder::new(Some(&table), STRING);
    let reject = decode(&mut strict, None, row).unwrap_err();
    assert!(reject.kind == RejectKind::UnknownColumn("old".into()) && reject.detail.contains("\"old\""), "{reject}");
    let mut half = FullRowDecoder::new(Some(&table), STRING).with_dropped(["old".to_owned()]);
    assert_eq!(kind(&mut half, None, row), "unknown-column");

    let mut decoder = FullRowDecoder::new(Some(&table), STRING).with_dropped(["older".to_owned(), "old".to_owned()]);
    let (first, again) = (change(&mut decoder, None, row), change(&mut decoder, None, row));
    assert!(Arc::ptr_eq(&first.fields, &again.fields));
    assert_eq!(first.fields.len(), 9);
    assert_eq!((cell(&first, "old"), cell(&first, "older")), (&text("{\"a\":1}"), &text("x")));
    assert_eq!((cell(&first, "amount"), cell(&first, "item")), (&Cell::Decimal(100), &Cell::Null));
    let newer = format!(r#"{{"op":"c","ts_ms":1,"after":{{"order_id":1,"amount":"1.00",{whole}}}}}"#);
    let newer = change(&mut decoder, None, &newer);
    assert!(Arc::ptr_eq(&newer.fields, &first.fields), "rows with and without go together");
    let twice = format!(r#"{{"op":"c","ts_ms":1,"after":{{"old":1,"order_id":1,"amount":"1.00",{whole},"old":2}}}}"#);
    let twice = decode(&mut decoder, None, &twice).unwrap_err();
    assert!(twice.kind == RejectKind::Envelope && twice.detail.contains("column \"old\" is there twice"), "{twice}");
}
