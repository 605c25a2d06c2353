//! Captured records against the SQL that made them.

use tripline::change::debezium::{DecimalHandling, Decoder, Settings, TimePrecision};
use tripline::change::{Decoded, Op, RejectKind};
use tripline::model::{ColumnType, Key, Timestamp, Value};

use crate::support::*;

#[test]
fn the_same_sql_decodes_the_same_in_every_encoding() {
    let table = transactions();
    let strings = essence(changes(&table, "c_plain_string", STRING));
    assert_eq!(strings.len(), 54);
    for (fixture, settings) in [
        ("a_schema_precise", AUTO),
        ("a_schema_precise", STRING),
        ("b_plain_precise", PRECISE),
        ("b_plain_precise", AUTO),
        ("c_plain_string", AUTO),
        ("g_full_plain_precise", PRECISE),
        ("g_full_plain_string", AUTO),
    ] {
        assert_eq!(essence(changes(&table, fixture, settings)), strings, "{fixture} {settings:?}");
    }
}

#[test]
fn transactions_are_those_of_the_sql() {
    let got = changes(&transactions(), "a_schema_precise", AUTO);
    let cafe = "Caf\u{e9} \u{2615} \"quoted\" \\ back\nline";
    let rows = [
        (101, 12_050, "2026-03-01T12:34:56.123456Z", Some("Grocer"), "settled"),
        (101, -2_050, "2026-03-01T12:35:00Z", Some("Grocer"), "refunded"),
        (102, 999_999_999_999, "2026-03-01T23:59:59.999999Z", Some("Yacht Co"), "pending"),
        // The converter made the default of the NULL.
        (103, 0, "2026-03-01T00:00:00+05:30", None, "pending"),
        (103, 1, "1969-12-31T23:59:59.5Z", Some(cafe), ""),
        (i64::MAX, 500, "2026-03-01T12:36:00.001Z", Some("max user"), "pending"),
        (104, 123_456_789, "2026-03-01T12:36:01.1Z", Some("Garage"), "settled"),
        (105, -999_999_999_999, "2026-03-01T12:36:02.12Z", Some("Yacht Co"), "refunded"),
        (201, 30_000, "2026-03-02T10:00:00.000001Z", Some("Shop 0"), "pending"),
        (201, 40_025, "2026-03-02T10:00:01.100001Z", Some("Shop 1"), "pending"),
        (201, 25_075, "2026-03-02T10:00:02.200001Z", Some("Shop 2"), "pending"),
        (201, 99_999_999, "2026-03-02T10:00:03.300001Z", Some("Shop 3"), "pending"),
        (202, -7_510, "2026-03-02T10:01:00Z", None, "pending"),
        (202, 999_999_999_999, "2026-03-02T10:01:01.000001Z", Some("日本の店 🏪"), "pending"),
        (203, 4_200, "2026-03-02T10:02:00Z", None, "pending"),
    ];
    for (id, ((user, amount, when, merchant, status), change)) in (1..).zip(rows.into_iter().zip(&got)) {
        let row = vec![
            Value::Int(id),
            Value::Int(user),
            Value::Decimal(amount),
            at(when),
            merchant.map_or(Value::Null, text),
            text(status),
        ];
        assert_eq!(change.row.as_deref(), Some(row.as_slice()));
        assert_eq!((change.op, &change.pk), (if id <= 8 { Op::Read } else { Op::Create }, &Some(Key::Int(id))));
        assert!(change.lsn.is_some() && change.tx_id.is_some() && change.committed_at.is_some());
    }
    let ops: String =
        got.iter().map(|change| if change.op == Op::Tombstone { "-" } else { change.op.as_str() }).collect();
    // Snapshot, inserts, updates, two changes of the primary key, a transaction, an upsert, deletes, a truncate.
    let sql = ["rrrrrrrr", "ccccccc", "uuuuuuuu", "d-cd-c", "cccuud-", "cd-", "cu", "d-d-d-d-", "ccu", "tc"];
    assert_eq!(ops, sql.concat());
}

#[test]
fn times_are_those_of_the_sql() {
    let (none, forever, ever) = (["null"; 6], "infinity", "-infinity");
    let day = "2026-03-01T00:00:00Z";
    let micro = "2026-03-01T12:34:56.123456Z";
    let (milli, second) = ("2026-03-01T12:34:56.123Z", "2026-03-01T12:34:56Z");
    let rows = [
        [micro, milli, micro, milli, second, day],
        [second, second, second, second, second, day],
        none,
        ["2026-03-01T12:34:56.123456+05:30", "2026-03-01T12:34:56.123+05:30", micro, milli, second, day],
        [
            "2026-03-01T12:34:56.999999Z",
            "2026-03-01T12:34:57Z",
            "2026-03-01T12:34:56.999999Z",
            "2026-03-01T12:34:57Z",
            "2026-03-01T12:34:57Z",
            day,
        ],
        [
            "1969-12-31T23:59:59.999999Z",
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999Z",
            "1970-01-01T00:00:00Z",
            "1970-01-01T00:00:00Z",
            "1969-12-31T00:00:00Z",
        ],
        ["0001-01-01T00:00:00Z"; 6],
        [
            "9999-12-31T23:59:59.999999Z",
            "+10000-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999Z",
            "+10000-01-01T00:00:00Z",
            "+10000-01-01T00:00:00Z",
            "9999-12-31T00:00:00Z",
        ],
        none,
        ["2026-03-01T12:34:56.123457Z", milli, "2026-03-01T12:34:56.123457Z", milli, second, day],
        [forever, ever, forever, ever, forever, forever],
    ];
    for (fixture, precision) in [
        ("f_time_adaptive", TimePrecision::Adaptive),
        ("f_time_adaptive_time_microseconds", TimePrecision::Adaptive),
        ("f_time_connect", TimePrecision::Connect),
        ("f_time_isostring", TimePrecision::Isostring),
        ("f_time_microseconds", TimePrecision::Microseconds),
        ("f_time_adaptive_schema", TimePrecision::Isostring),
        ("f_time_connect_schema", TimePrecision::Microseconds),
    ] {
        let got = changes(&times(), fixture, settings(DecimalHandling::Auto, precision));
        let got: Vec<_> = got.into_iter().filter_map(|change| change.row).collect();
        assert_eq!(got.len(), rows.len(), "{fixture}");
        for (number, (row, got)) in rows.iter().zip(&got).enumerate() {
            for (column, (cell, got)) in row.iter().zip(got.iter().skip(1)).enumerate() {
                let expected = if *cell == "null" { Value::Null } else { at(cell) };
                let expected = match expected {
                    // Connect's milliseconds cut what timestamp has below them.
                    Value::Time(when) if fixture.contains("connect") && column == 2 && when.0.abs() < i64::MAX - 1 => {
                        Value::Time(Timestamp::from_millis(when.millis()))
                    }
                    other => other,
                };
                assert_eq!(got, &expected, "{fixture}, row {number}, column {column}");
            }
        }
    }
}

#[test]
fn amounts_are_those_of_the_sql() {
    let d = Value::Decimal;
    let (e18, limit) = (10_i128.pow(18), 9_999_999_999_i128);
    let opaque = Value::Opaque;
    let rows = [
        Some([d(123_450_000_000_000), d(12_345), d(12_345 * e18 / 100), d(123), Value::Int(12_345), Value::Int(123)]),
        Some([d(-100_000_000_000), d(-10), d(-e18 / 10), d(-1), Value::Int(-10), Value::Int(-1)]),
        Some([d(0), d(0), d(0), d(0), Value::Int(0), Value::Int(0)]),
        Some([d(100_000_000_000_000), d(10_000), d(100 * e18), d(100), Value::Int(10_000), Value::Int(100)]),
        Some([
            opaque.clone(),
            d(999_999_999_999),
            opaque.clone(),
            d(limit),
            Value::Int(i64::MAX),
            Value::Int(2_147_483_647),
        ]),
        Some([opaque.clone(), d(1), d(1), d(1), Value::Int(1), Value::Int(1)]),
        Some([opaque, d(-999_999_999_999), d(-e18), d(-limit), Value::Int(i64::MIN), Value::Int(-2_147_483_648)]),
        Some([d(1_100_000_000_000), d(110), d(11 * e18 / 10), d(1), Value::Int(110), Value::Int(1)]),
        None,
        Some([d(124_450_000_000_000), d(12_445), d(12_345 * e18 / 100), d(123), Value::Int(12_445), Value::Int(123)]),
        None,
    ];
    for (fixture, settings) in [
        ("h_amounts_schema_precise", AUTO),
        ("h_amounts_schema_precise", STRING),
        ("h_amounts_plain_precise", PRECISE),
        ("h_amounts_plain_string", STRING),
    ] {
        let got = changes(&amounts(), fixture, settings);
        let got: Vec<_> = got.into_iter().filter_map(|change| change.row).collect();
        assert_eq!(got.len(), rows.len(), "{fixture}");
        for (row, got) in rows.iter().zip(&got) {
            let expected = row.clone().unwrap_or([const { Value::Null }; 6]);
            assert_eq!(&got[1..], expected, "{fixture}");
        }
    }
}

#[test]
fn records_that_lose_or_hide_digits_are_refused() {
    for (name, fixture, settings, reason) in [
        ("amounts", "h_amounts_plain_double", AUTO, "decimal.handling.mode=double"),
        ("amounts", "h_amounts_plain_precise", AUTO, "source.decimals"),
        ("amounts", "h_amounts_plain_string", AUTO, "source.decimals"),
        ("transactions", "d_plain_double", AUTO, "decimal.handling.mode=double"),
        ("transactions", "d_plain_double", PRECISE, "string or precise"),
        ("transactions", "b_plain_precise", STRING, "source.decimals"),
        ("transactions", "c_plain_string", PRECISE, "source.decimals"),
    ] {
        let table = if name == "amounts" { amounts() } else { transactions() };
        let got = replay(&table, fixture, settings);
        let refused = got.iter().filter(|got| matches!(got, Err(reject) if reject.detail.contains(reason))).count();
        assert!(refused >= 9, "{fixture} {settings:?}: {got:#?}");
        for change in got.into_iter().flatten() {
            let Decoded::Change(change) = change else { panic!("{fixture}: {change:?}") };
            // Rows of NULLs alone hide nothing.
            let row = change.row.unwrap_or_default();
            assert!(
                row.iter().filter(|value| **value == Value::Null).count() >= 4 || row.is_empty(),
                "{fixture} {row:?}"
            );
        }
    }
}

/// Where it is said that doubles come, they are taken for what they stand for: of these amounts nothing is lost.
#[test]
fn doubles_are_read_where_told_so() {
    let double = Settings { decimals: DecimalHandling::Double, ..AUTO };
    let table = transactions();
    assert_eq!(essence(changes(&table, "d_plain_double", double)), essence(changes(&table, "c_plain_string", STRING)));
    let one = |amount: &str| {
        let row =
            format!(r#"{{"id":1,"user_id":1,"amount":{amount},"timestamp":"infinity","merchant":null,"status":"x"}}"#);
        match decode(&table, double, None, &format!(r#"{{"op":"c","after":{row}}}"#)) {
            Ok(Decoded::Change(change)) => Ok(change.row.unwrap()[2].clone()),
            Ok(other) => panic!("{other:?}"),
            Err(reject) => Err(reject.detail),
        }
    };
    assert_eq!(one("0.1"), Ok(Value::Decimal(10)));
    assert_eq!(one("-12"), Ok(Value::Decimal(-1_200)));
    assert_eq!(one("1.5E3"), Ok(Value::Decimal(150_000)));
    assert_eq!(one("\"NaN\""), Ok(Value::Opaque));
}

#[test]
fn nan_and_infinities_are_opaque() {
    let table = table(
        "streaming.nan_amounts",
        &[("id", ColumnType::Int8), ("amount", CENTS), ("n", ColumnType::Numeric { scale: None })],
    );
    let precise = changes(&table, "h_nan_plain_precise", PRECISE);
    // Debezium made NULL of them, and the converter the default of NULL.
    assert_eq!(precise[3].row.as_deref(), Some([Value::Int(4), Value::Decimal(300), Value::Null].as_slice()));
    let mut only_n = Decoder::new(&table, &[2], AUTO).unwrap();
    for (_, key, value) in &records("h_nan_plain_double")[3..6] {
        let got = only_n.decode(key.as_deref().map(str::as_bytes), value.as_deref().map(str::as_bytes)).unwrap();
        let Decoded::Change(change) = got else { panic!("{got:?}") };
        assert_eq!(change.row.as_deref(), Some([Value::Opaque].as_slice()));
    }
}

#[test]
fn toast_is_refused_only_where_it_is_wanted() {
    let columns =
        [("id", ColumnType::Int8), ("user_id", ColumnType::Int8), ("amount", CENTS), ("note", ColumnType::Text)];
    for (name, refused) in [("toast_default", 3), ("toast_full", 0), ("toast_index", 2)] {
        let table = table(&format!("streaming.{name}"), &columns);
        let got = replay(&table, "g_identity_toast", PRECISE);
        assert_eq!(got.len(), 11);
        let toasted = got.iter().filter(|got| matches!(got, Err(reject) if reject.detail.contains("REPLICA IDENTITY")));
        assert!(toasted.count() == got.iter().filter(|got| got.is_err()).count());
        assert!(got.iter().filter(|got| got.is_err()).count() <= refused, "{name}: {got:#?}");
        let mut narrow = Decoder::new(&table, &[1, 2], PRECISE).unwrap();
        for (_, key, value) in records("g_identity_toast").iter().filter(|record| record.0.ends_with(name)) {
            let got = narrow.decode(key.as_deref().map(str::as_bytes), value.as_deref().map(str::as_bytes));
            assert!(matches!(got, Ok(Decoded::Change(_))), "{got:?}");
        }
    }
}

#[test]
fn snapshots_messages_and_other_topics() {
    for fixture in ["i_metadata", "i_metadata_schema"] {
        let (mut incremental, mut total) = (0, 0);
        for change in changes(&transactions(), fixture, AUTO) {
            total += 1;
            incremental += usize::from(change.op == Op::Read && change.lsn.is_none() && change.tx_id.is_none());
            assert!(change.committed_at.is_some() || change.op == Op::Tombstone);
        }
        assert!(incremental > 0 && total > 20, "{fixture}: {incremental} of {total}");
        let mut decoder = all_columns(&transactions(), AUTO);
        for (topic, key, value) in records(fixture) {
            let got = decoder.decode(key.as_deref().map(str::as_bytes), value.as_deref().map(str::as_bytes));
            match topic.rsplit('.').next().unwrap() {
                "message" => assert_eq!(got, Ok(Decoded::Ignored("logical message"))),
                "debezium_signal" => {
                    assert!(value.is_none() || got.is_err_and(|reject| reject.kind == RejectKind::Table))
                }
                "transactions" => assert!(got.is_ok()),
                "transaction" => assert_eq!(got, Ok(Decoded::Ignored("transaction boundary"))),
                _ => assert_eq!(got, Ok(Decoded::Ignored("heartbeat")), "{topic}"),
            }
        }
    }
}

#[test]
fn orders_decode() {
    let table = table(
        "public.orders",
        &[
            ("order_id", ColumnType::Int4),
            ("customer_name", ColumnType::Text),
            ("amount", CENTS),
            ("created_at", ColumnType::Timestamp { precision: 6 }),
        ],
    );
    let got = changes(&table, "orders_plain_precise", AUTO);
    assert_eq!(got.len(), 42);
    let row = [Value::Int(2), text("Customer 1"), Value::Decimal(45_050), at("2026-03-02T11:00:00.000001Z")];
    assert_eq!(got[1].row.as_deref(), Some(row.as_slice()));
}
