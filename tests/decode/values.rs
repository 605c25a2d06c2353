//! Values by type and encoding, one line each.

use tripline::change::debezium::{DecimalHandling, Settings, TimePrecision};
use tripline::change::{Decoded, RejectKind};
use tripline::model::{ColumnType, DECIMAL_LIMIT, Value};

use crate::support::*;

/// The row of a create with one column of this type beside the key.
fn check(ty: &ColumnType, settings: Settings, json: &str, expected: Result<Value, &str>) {
    let table = table("s.t", &[("id", ColumnType::Int8), ("x", ty.clone())]);
    let value = format!(r#"{{"after":{{"id":1,"x":{json}}},"op":"c"}}"#);
    match (decode(&table, settings, None, &value), expected) {
        (Ok(Decoded::Change(change)), Ok(expected)) => assert_eq!(change.row.unwrap()[1], expected, "{ty:?} {json}"),
        (Err(reject), Err(part)) => {
            assert!(reject.detail.contains(part), "{ty:?} {json}: {reject} lacks {part:?}");
            assert!(reject.kind == RejectKind::Json || reject.detail.contains("column \"x\""), "{reject}");
        }
        (got, expected) => panic!("{ty:?} {settings:?} {json}: {got:?}, expected {expected:?}"),
    }
}

#[test]
fn values_by_type() {
    let d = |n| Ok(Value::Decimal(n));
    let free = ColumnType::Numeric { scale: None };
    let whole = ColumnType::Numeric { scale: Some(0) };
    let (ts, tz) = (ColumnType::Timestamp { precision: 6 }, ColumnType::TimestampTz);
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
        (ColumnType::Text, AUTO, "\"__debezium_unavailable_value\"", Err("REPLICA IDENTITY FULL")),
        (ColumnType::Uuid, AUTO, "\"0a\"", Ok(text("0a"))),
        (CENTS, AUTO, "\"-0.10\"", d(-10)),
        (CENTS, AUTO, "\"1.500\"", d(150)),
        (CENTS, AUTO, "\"1.505\"", Err("more than the 2 fraction digits")),
        (CENTS, AUTO, "\"0E-18\"", d(0)),
        (CENTS, AUTO, "\"MDk=\"", d(12_345)),
        (CENTS, AUTO, "\"1234\"", d(0xd7_6d_f8 - 0x100_0000)),
        (CENTS, AUTO, "\"123\"", Err("base64")),
        (CENTS, AUTO, "\"\"", Err("base64")),
        (CENTS, AUTO, "\"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==\"", Err("TOAST")),
        (CENTS, AUTO, "12.5", Err("decimal.handling.mode")),
        (CENTS, AUTO, "12", d(1_200)),
        (CENTS, AUTO, "true", Err("a decimal")),
        (CENTS, AUTO, "1e999", Err("not JSON")),
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
