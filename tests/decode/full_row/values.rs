//! Values by type and encoding, one line each.

use tripline::change::debezium::full_row::{Declared, FullRowDecoder};
use tripline::change::debezium::{DecimalHandling, Settings, TimePrecision};
use tripline::change::full_row::{Cell, FieldType};
use tripline::change::{Decoded, Reject, RejectKind};

use super::{FREE, MONEY, plain, table, text};
use crate::support::{AUTO, PRECISE, STRING, settings};

fn check(ty: (FieldType, Declared), settings: Settings, json: &str, expected: Result<Cell, &str>) {
    let table = table("s.t", &[("id", plain(FieldType::Int64)), ("x", ty)]);
    let value = format!(r#"{{"after":{{"id":1,"x":{json}}},"op":"c","ts_ms":1}}"#);
    match (FullRowDecoder::new(Some(&table), settings).decode(None, Some(value.as_bytes())), expected) {
        (Ok(Decoded::Change(change)), Ok(expected)) => assert_eq!(change.cells[1], expected, "{ty:?} {json}"),
        (Err(Reject { kind, detail }), Err(part)) => {
            assert!(detail.contains(part), "{ty:?} {json}: {detail} lacks {part:?}");
            assert!(kind == RejectKind::Value && detail.contains("column \"x\""), "{kind} {detail}");
        }
        (got, expected) => panic!("{ty:?} {settings:?} {json}: {got:?}, expected {expected:?}"),
    }
}

#[test]
fn values_by_type() {
    let d = |n| Ok(Cell::Decimal(n));
    let int = |n| Ok(Cell::Int(n));
    let t = |s| Ok(text(s));
    let money = plain(MONEY);
    let whole = plain(FieldType::Decimal { precision: 38, scale: 0 });
    let coins = (FieldType::Text, Declared::Number { scale: Some(2) });
    let ts = (FieldType::Timestamp, Declared::Fraction { digits: 6 });
    let (nines, tens) = (format!("\"{}\"", "9".repeat(38)), format!("\"1{}\"", "0".repeat(38)));
    let nanos = settings(DecimalHandling::Auto, TimePrecision::Nanoseconds);
    let time = |digits| (FieldType::Time, Declared::Fraction { digits });
    for (ty, settings, json, expected) in [
        (plain(FieldType::Bool), AUTO, "false", Ok(Cell::Bool(false))),
        (plain(FieldType::Bool), AUTO, "1", Err("true or false")),
        (plain(FieldType::Int16), AUTO, "-32768", int(-32_768)),
        (plain(FieldType::Int16), AUTO, "32768", Err("range -32768 to 32767")),
        (plain(FieldType::Int64), AUTO, "9223372036854775807", int(i64::MAX)),
        (plain(FieldType::Int64), AUTO, "9223372036854775808", Err("range")),
        (plain(FieldType::Int64), AUTO, "1.0", Err("whole number")),
        (plain(FieldType::Int32), AUTO, "\"1\"", Err("whole number")),
        (plain(FieldType::Int32), AUTO, "null", Ok(Cell::Null)),
        (plain(FieldType::Float64), AUTO, "0.1", Ok(Cell::Float(0.1))),
        (plain(FieldType::Float64), AUTO, "1.7976931348623157E308", Ok(Cell::Float(f64::MAX))),
        (plain(FieldType::Float32), AUTO, "5", Ok(Cell::Float(5.0))),
        (plain(FieldType::Float32), AUTO, "\"-Infinity\"", Ok(Cell::Float(f64::NEG_INFINITY))),
        (plain(FieldType::Float32), AUTO, "\"x\"", Err("a number")),
        (plain(FieldType::Text), AUTO, r#""a\u00e9\ud83c\udfea""#, t("aé🏪")),
        (plain(FieldType::Text), AUTO, "5.00", t("5.00")),
        (plain(FieldType::Text), AUTO, "true", t("true")),
        (plain(FieldType::Text), AUTO, r#"{"a": [1, null]}"#, t(r#"{"a": [1, null]}"#)),
        (plain(FieldType::Bytes), AUTO, "\"AP8=\"", Ok(Cell::Bytes([0, 255].into()))),
        (plain(FieldType::Bytes), AUTO, "\"\"", Ok(Cell::Bytes([].into()))),
        (plain(FieldType::Bytes), AUTO, "\"00f\"", Err("binary.handling.mode")),
        (plain(FieldType::Bytes), AUTO, "[1]", Err("an array")),
        (money, STRING, "\"-120.50\"", d(-12_050)),
        (money, STRING, "\"1.505\"", Err("does not fit numeric(10,2)")),
        (money, STRING, "\"100000000.00\"", Err("does not fit numeric(10,2)")),
        (money, STRING, "\"NAN\"", Err("NAN has no place in numeric(10,2)")),
        (money, STRING, "\"POSITIVE_INFINITY\"", Err("no place")),
        (money, STRING, "\"MDk=\"", Err("source.decimals")),
        (money, PRECISE, "\"MDk=\"", d(12_345)),
        (money, PRECISE, "\"120.50\"", Err("source.decimals")),
        (money, AUTO, "\"MDk=\"", d(12_345)),
        (money, AUTO, "\"-0.10\"", d(-10)),
        (money, AUTO, "1.5", Err("decimal.handling.mode")),
        (money, AUTO, "12", d(1_200)),
        (money, AUTO, "\"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==\"", Err("TOAST")),
        (whole, STRING, nines.as_str(), d(10_i128.pow(38) - 1)),
        (whole, STRING, tens.as_str(), Err("does not fit")),
        (whole, AUTO, "\"1234\"", Err("source.decimals")),
        (FREE, AUTO, "\"1.50\"", t("1.50")),
        (FREE, AUTO, "\"NAN\"", t("NAN")),
        (FREE, AUTO, r#"{"scale":2,"value":"MDk="}"#, t("123.45")),
        (FREE, AUTO, r#"{"scale":-2,"value":"MDk="}"#, t("1234500")),
        (FREE, AUTO, r#"{"scale":2147483647,"value":"MDk="}"#, Err("scale")),
        (FREE, AUTO, r#"{"scale":2}"#, Err("scale and a value")),
        (FREE, AUTO, "1.5", Err("decimal.handling.mode")),
        (FREE, PRECISE, "\"12\"", Err("source.decimals")),
        (coins, PRECISE, "\"MDk=\"", t("123.45")),
        (coins, AUTO, "\"123.45\"", t("123.45")),
        (plain(FieldType::Date), AUTO, "-719162", int(-719_162)),
        (plain(FieldType::Date), AUTO, "\"2026-03-01Z\"", int(20_513)),
        (plain(FieldType::Date), AUTO, "\"infinity\"", int(i32::MAX.into())),
        (plain(FieldType::Date), AUTO, "2147483648", Err("count")),
        // As Debezium 2.7 writes infinities.
        (plain(FieldType::Date), AUTO, "-622191234", int(i32::MAX.into())),
        (plain(FieldType::Date), AUTO, "-2147472692", int(i32::MAX.into())),
        (plain(FieldType::Date), AUTO, "-625821272", int((-i32::MAX).into())),
        (plain(FieldType::Date), AUTO, "-2147472691", int((-i32::MAX).into())),
        (ts, AUTO, "-9223372036832400000", int(i64::MIN)),
        (time(6), AUTO, "86399999999", int(86_399_999_999)),
        (time(3), AUTO, "86399999", int(86_399_999_000)),
        (time(6), nanos, "1999", int(1)),
        (time(6), AUTO, "-1", Err("midnight")),
        (time(6), AUTO, "86400000001", Err("midnight")),
        (time(0), AUTO, "\"12:34:56Z\"", int(45_296_000_000)),
        (ts, AUTO, "-1", int(-1)),
        (ts, nanos, "-1", int(-1)),
        (ts, AUTO, "9223372036854775807", int(i64::MAX)),
        (ts, AUTO, "1.5", Err("source.times")),
        (plain(FieldType::TimestampTz), AUTO, "\"infinity\"", int(i64::MAX)),
        (plain(FieldType::TimestampTz), AUTO, "\"-infinity\"", int(i64::MIN)),
        (plain(FieldType::TimestampTz), AUTO, "\"+10000-01-01T00:00:00.000Z\"", int(253_402_300_800_000_000)),
        (plain(FieldType::TimestampTz), AUTO, "1", Err("ISO 8601")),
    ] {
        check(ty, settings, json, expected);
    }
}

/// Without a schema, hexadecimal text and base64 may look alike: nothing is guessed.
#[test]
fn bytes_by_encoding() {
    use tripline::change::debezium::BinaryHandling::{Auto, Base64, Hex};
    let b = |bytes: &[u8]| Ok(Cell::Bytes(bytes.into()));
    for (binary, text, expected) in [
        (Auto, "deadbeef", Err("source.binary")),
        (Auto, "3q2+7w==", b(b"\xde\xad\xbe\xef")),
        (Auto, "deadbe", b(b"\xde\xad\xbe")),
        (Auto, "", b(b"")),
        (Auto, "3q2-7w==", b(b"\xde\xad\xbe\xef")),
        (Auto, "xyz", Err("neither hexadecimal text nor base64")),
        (Hex, "deadbeef", b(b"\xde\xad\xbe\xef")),
        (Hex, "3q2+7w==", Err("source.binary")),
        (Base64, "deadbeef", b(&[0x75, 0xe6, 0x9d, 0x6d, 0xe7, 0x9f])),
        (Base64, "deadbe", Err("source.binary")),
    ] {
        check(plain(FieldType::Bytes), Settings { binary, ..AUTO }, &format!("\"{text}\""), expected);
    }
}
