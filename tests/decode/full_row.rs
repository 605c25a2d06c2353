//! Changes with every column: captured records, with and without a catalog.

mod shapes;
mod values;
mod versions;

use std::sync::Arc;

use tripline::change::debezium::full_row::{Declared, FullRowColumn, FullRowDecoder, FullRowTable, table_of};
use tripline::change::debezium::{DecimalHandling, Settings, TimePrecision};
use tripline::change::full_row::{Cell, Field, FieldType, FullRowChange};
use tripline::change::{Decoded, Op, Reject, RejectKind};

use crate::support::{AUTO, PRECISE, STRING, records, settings};

pub const MONEY: FieldType = FieldType::Decimal { precision: 10, scale: 2 };
pub const FREE: (FieldType, Declared) = (FieldType::Text, Declared::Number { scale: None });

pub fn plain(ty: FieldType) -> (FieldType, Declared) {
    (ty, Declared::Plain)
}

pub fn table(name: &str, columns: &[(&str, (FieldType, Declared))]) -> FullRowTable {
    let column = |(name, (ty, declared)): &(&str, (FieldType, Declared))| FullRowColumn {
        field: Field { name: (*name).to_owned(), ty: *ty },
        declared: *declared,
    };
    let (schema, name) = name.split_once('.').unwrap();
    let fields = columns.iter().map(column).collect();
    FullRowTable { schema: schema.to_owned(), name: name.to_owned(), fields, primary_key: vec![0] }
}

pub fn orders() -> FullRowTable {
    table(
        "public.orders",
        &[
            ("order_id", plain(FieldType::Int32)),
            ("customer_name", plain(FieldType::Text)),
            ("restaurant_name", plain(FieldType::Text)),
            ("item", plain(FieldType::Text)),
            ("amount", plain(MONEY)),
            ("order_status", plain(FieldType::Text)),
            ("created_at", (FieldType::Timestamp, Declared::Fraction { digits: 6 })),
        ],
    )
}

pub fn amounts() -> FullRowTable {
    let decimal = |precision, scale| plain(FieldType::Decimal { precision, scale });
    table(
        "streaming.amounts",
        &[
            ("id", plain(FieldType::Int64)),
            ("user_id", plain(FieldType::Int64)),
            ("n", FREE),
            ("n12_2", decimal(12, 2)),
            ("n38_18", decimal(38, 18)),
            ("n10_0", decimal(10, 0)),
            ("n5_m2", (FieldType::Text, Declared::Number { scale: Some(2_046) })),
            ("m", (FieldType::Text, Declared::Number { scale: Some(2) })),
            ("cents", plain(FieldType::Int64)),
            ("i", plain(FieldType::Int32)),
            ("dp", plain(FieldType::Float64)),
            ("r", plain(FieldType::Float32)),
        ],
    )
}

pub fn times() -> FullRowTable {
    let digits = |ty, digits| (ty, Declared::Fraction { digits });
    table(
        "streaming.times",
        &[
            ("id", plain(FieldType::Int64)),
            ("user_id", plain(FieldType::Int64)),
            ("amount", plain(FieldType::Decimal { precision: 12, scale: 2 })),
            ("tstz", plain(FieldType::TimestampTz)),
            ("tstz3", plain(FieldType::TimestampTz)),
            ("ts", digits(FieldType::Timestamp, 6)),
            ("ts3", digits(FieldType::Timestamp, 3)),
            ("ts0", digits(FieldType::Timestamp, 0)),
            ("d", plain(FieldType::Date)),
            ("t", digits(FieldType::Time, 6)),
            ("t3", digits(FieldType::Time, 3)),
            ("ttz", plain(FieldType::Text)),
            ("iv", plain(FieldType::Text)),
        ],
    )
}

pub fn toasted(name: &str) -> FullRowTable {
    table(
        name,
        &[
            ("id", plain(FieldType::Int64)),
            ("user_id", plain(FieldType::Int64)),
            ("amount", plain(FieldType::Decimal { precision: 12, scale: 2 })),
            ("note", plain(FieldType::Text)),
            ("payload", plain(FieldType::Bytes)),
            ("meta", plain(FieldType::Text)),
            ("tags", plain(FieldType::Text)),
        ],
    )
}

pub fn text(text: &str) -> Cell {
    Cell::Text(text.into())
}

pub type Outcome = Result<Decoded<FullRowChange>, Reject>;

pub fn replay(decoder: &mut FullRowDecoder, fixture: &str, topic: &str) -> Vec<Outcome> {
    let mine = records(fixture).into_iter().filter(|(name, ..)| name.ends_with(topic));
    let bytes = |text: &Option<String>| text.clone().map(String::into_bytes);
    mine.map(|(_, key, value)| decoder.decode(bytes(&key).as_deref(), bytes(&value).as_deref())).collect()
}

/// All that are no tombstones.
pub fn changes(table: Option<&FullRowTable>, settings: Settings, fixture: &str, topic: &str) -> Vec<FullRowChange> {
    let got = replay(&mut FullRowDecoder::new(table, settings), fixture, topic).into_iter();
    got.filter_map(|got| match got {
        Ok(Decoded::Change(change)) => {
            assert_eq!(change.cells.len(), change.fields.len());
            Some(change)
        }
        Ok(Decoded::Ignored("tombstone")) => None,
        other => panic!("{fixture}: {other:?}"),
    })
    .collect()
}

pub fn cell<'c>(change: &'c FullRowChange, name: &str) -> &'c Cell {
    let at = change.fields.iter().position(|field| field.name == name);
    &change.cells[at.unwrap_or_else(|| panic!("no {name} in {:?}", change.fields))]
}

#[test]
fn the_orders_of_the_default_stack() {
    let table = orders();
    for settings in [AUTO, PRECISE] {
        let got = changes(Some(&table), settings, "orders_plain_precise", "orders_raw");
        let first = &got[0];
        assert_eq!(first.op, Op::Read);
        assert_eq!(first.committed_at.0, 1_795_311_466_448_029);
        assert_eq!((first.lsn.unwrap().0, first.tx_id), (27_402_224, Some(1_017)));
        let row = [
            Cell::Int(1),
            text("Customer 0"),
            text("Burger Junction"),
            text("Burger"),
            Cell::Decimal(22_000),
            text("PLACED"),
            Cell::Int(1_772_359_200_000_000),
        ];
        assert_eq!(*first.cells, row);
        assert!(got.iter().all(|change| Arc::ptr_eq(&change.fields, &first.fields)));
        let deleted = got.iter().find(|change| change.op == Op::Delete).unwrap();
        assert_eq!(deleted.cells[0], Cell::Int(3));
        assert!(deleted.cells[1..].iter().all(|cell| *cell == Cell::Null), "{deleted:?}");
        let nulls = got.iter().find(|change| change.op == Op::Create && change.cells[1] == Cell::Null).unwrap();
        assert!(nulls.cells[1..6].iter().all(|cell| *cell == Cell::Null), "{nulls:?}");
        assert_eq!(nulls.cells[6], Cell::Int(0)); // JsonConverter made the column's default of it
    }
    let (_, key, value) = records("orders_plain_precise").swap_remove(0);
    let value = value.unwrap();
    assert_eq!(table_of(value.as_bytes(), None), Some(("public".into(), "orders".into())));
    let wrapped = format!(r#"{{"schema":null,"payload":{value}}}"#);
    assert_eq!(table_of(wrapped.as_bytes(), None), Some(("public".into(), "orders".into())));
    assert_eq!(table_of(b"{}", None), None);
    assert_eq!(table_of(b"\xff", None), None);
    let mut without = FullRowDecoder::new(None, AUTO);
    let reject = without.decode(key.as_deref().map(str::as_bytes), Some(value.as_bytes())).unwrap_err();
    assert!(reject.kind == RejectKind::Schemaless && reject.detail.contains("postgres.url"), "{reject}");
}

/// Without zeros at the end of the fraction, which the connector drops in objects of scale and value.
fn shortest(number: &Cell) -> String {
    let Cell::Text(number) = number else { return format!("{number:?}") };
    if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        number.to_string()
    }
}

#[test]
fn amounts_are_the_same_in_every_encoding() {
    let table = amounts();
    let of = |table, settings, fixture| {
        let got: Vec<_> = changes(table, settings, fixture, "amounts").into_iter().map(|change| change.cells).collect();
        assert!(got.len() > 10);
        got
    };
    let string = of(Some(&table), STRING, "h_amounts_plain_string");
    assert_eq!(string[0][2], text("123.45"));
    assert_eq!(string[0][3], Cell::Decimal(12_345));
    assert_eq!(string[0][4], Cell::Decimal(123_450_000_000_000_000_000));
    assert_eq!(string[0][5], Cell::Decimal(123));
    let precise = of(Some(&table), PRECISE, "h_amounts_plain_precise");
    for (ours, theirs) in precise.iter().zip(&string) {
        // NaN is null in precise mode; the money of these two captures and NaN of floats are compared elsewhere.
        for at in [0, 1, 3, 4, 5, 6, 8, 9] {
            assert_eq!(ours[at], theirs[at], "column {at}");
        }
        assert!(ours[2] == Cell::Null || shortest(&ours[2]) == shortest(&theirs[2]), "{:?} {:?}", ours[2], theirs[2]);
    }
    let schema = of(Some(&table), AUTO, "h_amounts_schema_precise");
    for (ours, theirs) in schema.iter().zip(&precise) {
        assert_eq!(ours[..10], theirs[..10]);
    }
    let last = schema.last().unwrap();
    assert!(matches!(last[10], Cell::Float(dp) if dp.is_nan()) && last[11] == Cell::Float(f64::INFINITY));

    let alone = changes(None, AUTO, "h_amounts_schema_precise", "amounts");
    let types: Vec<_> = alone[0].fields.iter().map(|field| field.ty).collect();
    let decimal = |precision, scale| FieldType::Decimal { precision, scale };
    assert_eq!(types[2..6], [FieldType::Text, decimal(12, 2), decimal(38, 18), decimal(10, 0)]);
    assert_eq!(types[6..9], [FieldType::Text, decimal(38, 2), FieldType::Int64]);
    assert_eq!(types[10..], [FieldType::Float64, FieldType::Float32]);
    assert!(alone.iter().all(|change| Arc::ptr_eq(&change.fields, &alone[0].fields)));
    let deleted = alone.iter().find(|change| change.op == Op::Delete).unwrap();
    assert_eq!(deleted.cells[0], Cell::Int(2));
    assert!(deleted.cells[1..].iter().all(|cell| *cell == Cell::Null), "{deleted:?}");

    let doubles = replay(&mut FullRowDecoder::new(Some(&table), AUTO), "h_amounts_plain_double", "amounts");
    let reject = doubles[0].as_ref().unwrap_err();
    assert!(reject.kind == RejectKind::Value && reject.detail.contains("decimal.handling.mode"), "{reject}");
}

#[test]
fn times_are_the_same_in_every_mode() {
    let table = times();
    let of = |table, mode, fixture| changes(table, settings(DecimalHandling::Precise, mode), fixture, "times");
    let micros = of(Some(&table), TimePrecision::Microseconds, "f_time_microseconds");
    let first = &micros[0];
    assert_eq!(*cell(first, "tstz"), Cell::Int(1_772_368_496_123_456));
    assert_eq!(*cell(first, "ts"), Cell::Int(1_772_368_496_123_456));
    assert_eq!(*cell(first, "ts3"), Cell::Int(1_772_368_496_123_000));
    assert_eq!(*cell(first, "d"), Cell::Int(20_513));
    assert_eq!(*cell(first, "t"), Cell::Int(45_296_123_456));
    assert_eq!(*cell(first, "t3"), Cell::Int(45_296_123_000));
    assert_eq!(*cell(first, "ttz"), text("07:04:56.123456Z"));
    assert_eq!(*cell(first, "iv"), text("93784500000"));
    let last = micros.last().unwrap();
    assert_eq!((cell(last, "tstz"), cell(last, "tstz3")), (&Cell::Int(i64::MAX), &Cell::Int(i64::MIN)));
    let late = micros.iter().find(|change| change.cells[0] == Cell::Int(8)).unwrap();
    assert_eq!(*cell(late, "tstz3"), Cell::Int(253_402_300_800_000_000));
    assert_eq!(*cell(late, "t"), Cell::Int(86_400_000_000));
    for (table, mode, fixture) in [
        (Some(&table), TimePrecision::Adaptive, "f_time_adaptive"),
        (Some(&table), TimePrecision::AdaptiveTimeMicroseconds, "f_time_adaptive_time_microseconds"),
        (Some(&table), TimePrecision::Isostring, "f_time_adaptive_schema"),
        (None, TimePrecision::Isostring, "f_time_adaptive_schema"),
    ] {
        let got = of(table, mode, fixture);
        assert_eq!(got.len(), micros.len());
        for (ours, theirs) in got.iter().zip(&micros) {
            let wide = |change: &FullRowChange| change.cells[0] == Cell::Int(10); // infinities differ by unit
            assert_eq!(ours.fields, theirs.fields, "{fixture}");
            assert!(ours.cells == theirs.cells || wide(ours), "{fixture}: {ours:?} {theirs:?}");
        }
    }
    // 24:00 is 00:00 in these, and microseconds are cut.
    for (table, mode, fixture) in [
        (Some(&table), TimePrecision::Connect, "f_time_connect"),
        (None, TimePrecision::Adaptive, "f_time_connect_schema"),
        (Some(&table), TimePrecision::Isostring, "f_time_isostring"),
    ] {
        let got = of(table, mode, fixture);
        assert_eq!(got.len(), micros.len());
        for (ours, theirs) in got.iter().zip(&micros) {
            for name in ["tstz", "ts3", "ts0", "ttz", "iv"] {
                assert!(cell(ours, name) == cell(theirs, name) || ours.cells[0] == Cell::Int(10), "{fixture} {name}");
            }
        }
    }
}

#[test]
fn toast_is_kept_as_it_was_written() {
    let table = toasted("streaming.toast_default");
    let got = changes(Some(&table), AUTO, "g_identity_toast", "toast_default");
    let untouched = got.iter().find(|change| *cell(change, "note") == text("__debezium_unavailable_value")).unwrap();
    assert_eq!(*cell(untouched, "payload"), Cell::Bytes(b"__debezium_unavailable_value".as_slice().into()));
    let real = &got[1];
    assert_eq!(*cell(real, "payload"), Cell::Bytes([0, 0xff].into()));
    assert_eq!(*cell(real, "meta"), text("{\"a\": 1.50}"));
    let tags = cell(&got[0], "tags");
    assert_eq!(*tags, text("[\"a\",null,\"b \\\"q\\\"\"]"));

    let mut no_pk = toasted("streaming.no_pk");
    no_pk.primary_key.clear();
    let got = changes(Some(&no_pk), AUTO, "g_identity_toast", "no_pk");
    let deleted = got.iter().filter(|change| change.op == Op::Delete);
    assert!(deleted.flat_map(|change| change.cells.iter()).all(|cell| *cell == Cell::Null));
}

#[test]
fn everything_captured_decodes() {
    for (fixture, topic) in [("a_schema_precise", "transactions"), ("i_metadata_schema", "transactions")] {
        let mut decoder = FullRowDecoder::new(None, AUTO);
        let (mut changes, mut ignored) = (0, 0);
        for got in replay(&mut decoder, fixture, topic) {
            match got {
                Ok(Decoded::Change(_)) => changes += 1,
                Ok(Decoded::Ignored(_)) => ignored += 1,
                Ok(Decoded::Partial(_, reject)) | Err(reject) => panic!("{fixture}: {reject}"),
            }
        }
        assert!(changes > 40, "{fixture}: {changes} {ignored}");
    }
    let unwrapped = replay(&mut FullRowDecoder::new(None, AUTO), "e_unwrap_rewrite", "transactions");
    let reject = unwrapped[0].as_ref().unwrap_err();
    assert_eq!(reject.kind, RejectKind::Schemaless, "{reject}");
    let nan = replay(&mut FullRowDecoder::new(None, AUTO), "h_nan_plain_precise", "nan_amounts");
    assert!(nan.iter().all(|got| got.as_ref().is_err_and(|reject| reject.kind == RejectKind::Schemaless)));
}
