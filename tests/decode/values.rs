//! Values by type and encoding, one line each.

use tripline::change::debezium::{DecimalHandling, Settings, TimePrecision};
use tripline::change::{Decoded, HoleCause, RejectKind};
use tripline::model::{ColumnType, DECIMAL_LIMIT, Double, Key, Value};

use crate::support::*;

/// The row of a create with one column of this type beside the key.
fn check(ty: &ColumnType, settings: Settings, json: &str, expected: Result<Value, &str>) {
    let table = table("s.t", &[("id", ColumnType::Int8), ("x", ty.clone())]);
    let value = format!(r#"{{"after":{{"id":1,"x":{json}}},"op":"c"}}"#);
    match (decode(&table, settings, None, &value), expected) {
        (Ok(Decoded::Change(change)), Ok(expected)) => assert_eq!(change.row.unwrap()[1], expected, "{ty:?} {json}"),
        (Err(reject), Err(part)) => {
            assert!(reject.detail.contains(part), "{ty:?} {json}: {reject} lacks {part:?}");
            assert!(
                reject.kind == RejectKind::Json
                    || reject.detail.contains("no column holds")
                    || reject.detail.contains("column \"x\""),
                "{reject}"
            );
        }
        (got, expected) => panic!("{ty:?} {settings:?} {json}: {got:?}, expected {expected:?}"),
    }
}

#[test]
fn floating_point_blanks_labels_and_addresses() {
    let double = |value: f64| Ok(Value::Double(Double::new(value).unwrap()));
    let (real, float) = (ColumnType::Float4, ColumnType::Float8);
    for (ty, json, expected) in [
        (&float, "0.1", double(0.1)),
        (&float, "5", double(5.0)),
        (&float, "1.7976931348623157E308", double(f64::MAX)),
        // Two of the numbers that a quick reader has one bit too high.
        (&float, "52.52000659999999", double("52.52000659999999".parse().unwrap())),
        (&float, "9007199254740993.5", double(9_007_199_254_740_994.0)),
        (&float, "-0.0", Ok(Value::Opaque)),
        (&float, "\"NaN\"", double(f64::NAN)),
        (&float, "\"-Infinity\"", double(f64::NEG_INFINITY)),
        (&float, "\"5\"", Err("expected a number")),
        (&float, "\"N\"", Err("expected a number")),
        (&float, "true", Err("expected a number")),
        (&real, "0.1", double(f64::from(0.1_f32))),
        (&real, "1e39", Err("a number out of the column's range")),
        (&ColumnType::Char, "\"ab   \"", Ok(text("ab"))),
        (&ColumnType::Char, "\" ab\"", Ok(text(" ab"))),
        (&ColumnType::Enum, "\"open \"", Ok(text("open "))),
        (&ColumnType::Inet, "\"10.0.0.1\"", Ok(text("10.0.0.1"))),
        (&ColumnType::Inet, "\"10.0.0.1/24\"", Ok(text("10.0.0.1/24"))),
        (&ColumnType::Inet, "\"::1.2.3.4\"", Ok(text("::1.2.3.4"))),
        (&ColumnType::Inet, "\"10.0.0.1/32\"", Err("an address in Postgres's spelling")),
        (&ColumnType::Inet, "\"2001:DB8::1\"", Err("an address in Postgres's spelling")),
        (&ColumnType::Inet, "\"home.arpa\"", Err("an address in Postgres's spelling")),
        (&ColumnType::Inet, "\"home\"", Err("an address in Postgres's spelling")),
    ] {
        check(ty, AUTO, json, expected);
    }
}

#[test]
fn values_by_type() {
    let d = |n| Ok(Value::Decimal(n));
    let free = ColumnType::Numeric { scale: None };
    let whole = ColumnType::Numeric { scale: Some(0) };
    let (ts, tz) = (ColumnType::Timestamp { precision: 6 }, ColumnType::TimestampTz);
    let millis = ColumnType::Timestamp { precision: 3 };
    let nanos = settings(DecimalHandling::Auto, TimePrecision::Nanoseconds);
    let long = format!("\"{}\"", "9".repeat(2_000));
    let zeros = format!("\"1.5{}\"", "0".repeat(300));
    for (ty, settings, json, expected) in [
        (ColumnType::Bool, AUTO, "true", Ok(Value::Bool(true))),
        (ColumnType::Bool, AUTO, "1", Err("true or false")),
        (ColumnType::Int2, AUTO, "32767", Ok(Value::Int(32_767))),
        (ColumnType::Int2, AUTO, "32768", Err("range -32768 to 32767")),
        (ColumnType::Int4, AUTO, "-2147483649", Err("range")),
        (ColumnType::Int8, AUTO, "9223372036854775808", Err("range")),
        (ColumnType::Int8, AUTO, "1.0", Err("whole number")),
        (ColumnType::Int8, AUTO, "1e2", Err("whole number")),
        (ColumnType::Int8, AUTO, "\"1\"", Err("whole number")),
        (ColumnType::Int8, AUTO, "[[1],2]", Err("an array")),
        (ColumnType::Int8, AUTO, "{\"a\":{}}", Err("an object")),
        (ColumnType::Int8, AUTO, "null", Ok(Value::Null)),
        (ColumnType::Text, AUTO, r#""a\u00e9\ud83c\udfea""#, Ok(text("aé🏪"))),
        (ColumnType::Text, AUTO, r#""\ud83c""#, Err("not JSON")),
        (ColumnType::Text, AUTO, "5", Err("expected text")),
        (
            ColumnType::Uuid,
            AUTO,
            "\"f47ac10b-58cc-4372-a567-0e02b2c3d479\"",
            Ok(text("f47ac10b-58cc-4372-a567-0e02b2c3d479")),
        ),
        (ColumnType::Uuid, AUTO, "\"0a\"", Err("expected a UUID in Postgres's spelling")),
        (CENTS, AUTO, "\"-0.10\"", d(-10)),
        (CENTS, AUTO, "\"1.500\"", d(150)),
        (CENTS, AUTO, "\"1.505\"", Err("more than the 2 fraction digits")),
        (CENTS, AUTO, "\"0E-18\"", d(0)),
        (CENTS, AUTO, "\"MDk=\"", d(12_345)),
        (CENTS, AUTO, "\"1234\"", d(0xd7_6d_f8 - 0x100_0000)),
        (CENTS, AUTO, "\"123\"", Err("base64")),
        (CENTS, AUTO, "\"\"", Err("base64")),
        (CENTS, AUTO, "12.5", Err("decimal.handling.mode")),
        (CENTS, AUTO, "12", d(1_200)),
        (CENTS, AUTO, "true", Err("a decimal")),
        (CENTS, AUTO, "1e999", Err("a number that no column holds")),
        (CENTS, STRING, "\"1e2\"", d(10_000)),
        (CENTS, STRING, "\"1e200000\"", Err("exponent")),
        (CENTS, STRING, "\"1e2000000000\"", Err("not a decimal number")),
        (CENTS, STRING, "\"1e28\"", Ok(Value::Opaque)),
        (CENTS, STRING, "\"1e300\"", Ok(Value::Opaque)),
        (CENTS, STRING, "\"99999999999999999999999999.99\"", d(DECIMAL_LIMIT - 1)),
        (CENTS, STRING, "\"-100000000000000000000000000.00\"", Ok(Value::Opaque)),
        (CENTS, STRING, "\"NAN\"", Ok(Value::Opaque)),
        (CENTS, AUTO, "\"POSITIVE_INFINITY\"", Ok(Value::Opaque)),
        (CENTS, AUTO, "\"NEGATIVE_INFINITY\"", Ok(Value::Opaque)),
        (CENTS, AUTO, "\"Infinity\"", Ok(Value::Opaque)),
        (CENTS, STRING, "\"\"", Err("not a decimal")),
        (CENTS, STRING, "\".\"", Err("not a decimal")),
        (CENTS, STRING, "\"1.2.3\"", Err("not a decimal")),
        (CENTS, STRING, "\"--1\"", Err("not a decimal")),
        (CENTS, STRING, long.as_str(), Err("too long")),
        (CENTS, PRECISE, "\"/w==\"", d(-1)),
        (CENTS, PRECISE, "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQ==\"", d(1)),
        (CENTS, PRECISE, "\"AIAAAAAAAAAAAAAAAAAAAAA=\"", Ok(Value::Opaque)),
        (whole, PRECISE, "\"ew==\"", d(123)),
        (ColumnType::Numeric { scale: Some(0) }, STRING, "\"123\"", d(123)),
        (ColumnType::Numeric { scale: Some(0) }, AUTO, "\"1234\"", Err("source.decimals")),
        (free.clone(), AUTO, zeros.as_str(), d(1_500_000_000_000)),
        (free.clone(), AUTO, "\"0.0000000000001\"", Ok(Value::Opaque)),
        (free.clone(), AUTO, r#"{"scale":2,"value":"MDk="}"#, d(123_450_000_000_000)),
        (free.clone(), AUTO, r#"{"value":"MDk=","x":[{}],"scale":-2}"#, d(1_234_500_000_000_000_000)),
        (free.clone(), AUTO, r#"{"scale":2147483648,"value":"MDk="}"#, Err("scale")),
        (free.clone(), AUTO, r#"{"scale":2147483647,"value":"MDk="}"#, Err("scale")),
        (free.clone(), AUTO, r#"{"scale":2}"#, Err("scale and a value")),
        (free, PRECISE, "\"12\"", Err("source.decimals")),
        (ts.clone(), AUTO, "-1", Ok(at("1969-12-31T23:59:59.999999Z"))),
        (ts.clone(), nanos, "-1", Ok(at("1969-12-31T23:59:59.999999Z"))),
        (ts.clone(), nanos, "9223372036854775807", Ok(at("infinity"))),
        // As Debezium 2.7 writes infinities.
        (ts.clone(), AUTO, "9223372036825200000", Ok(at("infinity"))),
        (ts.clone(), AUTO, "-9223372036832400000", Ok(at("-infinity"))),
        (millis.clone(), AUTO, "9223372036825200", Ok(at("infinity"))),
        (millis, AUTO, "-9223372036832400", Ok(at("-infinity"))),
        (ColumnType::Date, AUTO, "-622191234", Ok(at("infinity"))),
        (ColumnType::Date, AUTO, "-2147472692", Ok(at("infinity"))),
        (ColumnType::Date, AUTO, "-625821272", Ok(at("-infinity"))),
        (ColumnType::Date, AUTO, "-2147472691", Ok(at("-infinity"))),
        (ts.clone(), AUTO, "1.5", Err("source.times")),
        (ts, AUTO, "\"2026-02-29T00:00:00\"", Err("source.times")),
        (tz.clone(), AUTO, "1", Err("ISO 8601")),
        (tz, AUTO, "\"2026-03-01T12:34:56.1234569Z\"", Ok(at("2026-03-01T12:34:56.123456Z"))),
        (ColumnType::Date, AUTO, "20513", Ok(at("2026-03-01T00:00:00Z"))),
        (ColumnType::Date, AUTO, "\"2026-03-01\"", Ok(at("2026-03-01T00:00:00Z"))),
    ] {
        check(&ty, settings, json, expected);
    }
}

/// A value that cannot be read, or did not come, leaves the rest of its row as it is.
#[test]
fn what_a_record_does_not_say_is_a_hole() {
    use HoleCause::{Unchanged, Unreadable};
    let table = table("s.t", &[("id", ColumnType::Int8), ("x", CENTS), ("y", ColumnType::Text)]);
    let placeholder = r#""__debezium_unavailable_value""#;
    let base64 = r#""X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==""#;
    for (columns, holes, reason) in [
        (format!(r#""x":"1.00","y":{placeholder}"#), vec![(2, Unchanged)], None),
        (format!(r#""x":{base64},"y":"a""#), vec![(1, Unchanged)], None),
        (r#""x":"abc","y":"a""#.to_owned(), vec![(1, Unreadable)], Some("column \"x\"")),
        (r#""y":"a""#.to_owned(), vec![(1, Unreadable)], Some("it is not there")),
        (format!(r#""x":true,"y":{placeholder}"#), vec![(1, Unreadable), (2, Unchanged)], Some("column \"x\"")),
        (String::new() + r#""x":[],"y":7"#, vec![(1, Unreadable), (2, Unreadable)], Some("column \"x\"")),
    ] {
        let value = format!(r#"{{"op":"u","after":{{"id":7,{columns}}}}}"#);
        let decoded = all_columns(&table, AUTO).decode(None, Some(value.as_bytes())).unwrap();
        let (change, why) = match decoded {
            Decoded::Change(change) => (change, None),
            Decoded::Partial(change, reject) => (change, Some(reject.detail)),
            Decoded::Ignored(why) => panic!("{value}: {why}"),
        };
        let found: Vec<_> = change.holes.iter().map(|hole| (hole.slot, hole.cause)).collect();
        assert_eq!((change.pk, found), (Some(Key::Int(7)), holes.clone()), "{value}");
        let row = change.row.unwrap();
        assert!(holes.iter().all(|(slot, _)| row[*slot] == Value::Opaque), "{value}: {row:?}");
        match (reason, why) {
            (None, None) => {}
            (Some(part), Some(why)) if why.contains(part) => {}
            other => panic!("{value}: {other:?}"),
        }
    }
    // Without its key it is nobody's row.
    let value = r#"{"op":"u","after":{"id":"seven","x":"1.00","y":"a"}}"#;
    let reject = all_columns(&table, AUTO).decode(None, Some(value.as_bytes())).unwrap_err();
    assert!(reject.kind == RejectKind::Value && reject.detail.contains("column \"id\""), "{reject}");
}
