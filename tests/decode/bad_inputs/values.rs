//! One column's value that is wrong, by its type and by what the connector is set to.

use tripline::change::debezium::{BinaryHandling, DecimalHandling, Settings, TimePrecision};

use super::{Bad, SECRET, bad};
use crate::support::*;

const SOURCE: &str =
    r#""source":{"db":"store","schema":"shop","table":"orders","lsn":5,"txId":7,"ts_us":1700000000000000}"#;

/// The other columns.
const ROW: [(&str, &str); 13] = [
    ("id", "1"),
    ("amount", "null"),
    ("any", "null"),
    ("whole", "null"),
    ("at", "null"),
    ("ts", "null"),
    ("ts3", "null"),
    ("d", "null"),
    ("note", "null"),
    ("small", "null"),
    ("int", "null"),
    ("flag", "null"),
    ("uuid", "null"),
];

/// A row with this value in one of its columns.
fn of(settings: Settings, column: &str, json: &str, name: &str) -> Bad {
    let others = ROW.iter().filter(|(name, _)| *name != column).map(|(name, value)| format!(",\"{name}\":{value}"));
    let others: String = others.collect();
    let value = format!(r#"{{"op":"c",{SOURCE},"after":{{"{column}":{json}{others}}}}}"#);
    Bad { settings, ..bad(&format!("{column}: {name}"), value) }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

pub(super) fn all() -> Vec<Bad> {
    [numbers(), decimals(), times(), others()].into_iter().flatten().collect()
}

fn numbers() -> Vec<Bad> {
    let of = |column, json: &str, name| of(AUTO, column, json, name);
    vec![
        of("small", "32768", "past 16 bits"),
        of("small", "-32769", "below 16 bits"),
        of("int", "2147483648", "past 32 bits"),
        of("int", "4111222233334444", "far past 32 bits"),
        of("id", "9223372036854775808", "past 64 bits"),
        of("id", "1.0", "with a fraction"),
        of("id", "1e3", "with an exponent"),
        of("id", "-0.0", "minus zero"),
        of("id", "true", "a boolean"),
        of("id", &quoted(SECRET), "a text"),
        of("id", "[1]", "a list"),
        of("id", "{\"a\":1}", "an object"),
        of("int", "18446744073709551616", "past a double's integers"),
        of("f", "\"one\"", "a text that is no number"),
        of("f", "true", "a boolean for a double"),
        of("r", "1e39", "past a float"),
        of("flag", "1", "a number for a boolean"),
        of("flag", "\"true\"", "a text for a boolean"),
        of("flag", "[]", "a list for a boolean"),
    ]
}

fn decimals() -> Vec<Bad> {
    let with = |decimals, column: &str, json: &str, name: &str| {
        let mode = format!("{decimals:?}").to_lowercase();
        of(Settings { decimals, ..AUTO }, column, json, &format!("{name} ({mode})"))
    };
    use DecimalHandling::{Auto, Double, Precise, String};
    let variable = |scale: &str, value: &str| format!(r#"{{"scale":{scale},"value":{value}}}"#);
    vec![
        with(Precise, "amount", "\"!!!\"", "no base64"),
        with(Precise, "amount", "\"MDk\"", "base64 without its padding"),
        with(Precise, "amount", "\"MDk=MDk=\"", "base64 with padding inside"),
        with(Precise, "amount", "\"-_8=\"", "base64 for URLs"),
        with(Precise, "amount", "\"\"", "an empty text"),
        with(Precise, "amount", "\" MDk=\"", "base64 behind a space"),
        with(Precise, "amount", &quoted(&"QUJD".repeat(1 << 18)), "a MiB of base64"),
        with(Precise, "any", &variable("0", &quoted(&"QUJD".repeat(1 << 18))), "a MiB of base64"),
        with(Precise, "amount", "12.50", "a binary float"),
        with(Precise, "any", "\"MDk=\"", "a text where an object is written"),
        with(Precise, "any", "{}", "an empty object"),
        with(Precise, "any", &variable("2", "null"), "an object with a null value"),
        with(Precise, "any", &variable("\"2\"", "\"MDk=\""), "a scale as text"),
        with(Precise, "any", &variable("-2147483648", "\"MDk=\""), "the least scale"),
        with(Precise, "any", &variable("2147483647", "\"MDk=\""), "the greatest scale"),
        with(Precise, "any", &variable("131073", "\"MDk=\""), "a scale past Postgres's"),
        with(Precise, "any", &variable("1e3", "\"MDk=\""), "a scale with an exponent"),
        with(Precise, "any", &variable("2", "\"*\""), "an object whose value is no base64"),
        with(String, "amount", "\"1,000.00\"", "a comma"),
        with(String, "amount", "\"1.2.3\"", "two points"),
        with(String, "amount", "\"--1\"", "two signs"),
        with(String, "amount", "\".\"", "a point alone"),
        with(String, "amount", "\" 1\"", "a space"),
        with(String, "amount", "\"$5\"", "a currency"),
        with(String, "amount", "\"0x1F\"", "hexadecimal"),
        with(String, "amount", "\"٣\"", "digits of another script"),
        with(String, "amount", "\"1e999999999\"", "an exponent of nine digits"),
        with(String, "amount", "\"1e200000\"", "an exponent past Postgres's"),
        with(String, "amount", "\"-1e-200000\"", "an exponent below Postgres's"),
        with(String, "amount", "\"1e\"", "an empty exponent"),
        with(String, "amount", &quoted(&format!("{SECRET}.123")), "three digits after the point"),
        with(String, "amount", &quoted(&"9".repeat(2_000)), "2,000 digits"),
        with(String, "amount", "\"NaN\"", "NaN"),
        with(String, "amount", "\"-Infinity\"", "minus infinity"),
        with(String, "amount", "\"nan\"", "nan in small letters"),
        with(String, "any", "\"4111222233334444 EUR\"", "a number with a unit"),
        with(String, "any", &quoted(&format!("{}x", "9".repeat(2_000))), "2,000 digits and a letter"),
        with(String, "whole", "\"1.5\"", "a fraction in a column of none"),
        with(Auto, "amount", "\"MDk\"", "base64 without its padding"),
        with(Auto, "whole", "\"1234\"", "digits or base64"),
        with(Auto, "amount", "true", "a boolean"),
        with(Auto, "amount", "[1]", "a list"),
        with(Auto, "amount", "12345678901234567890123456789012345678901", "an integer past 128 bits"),
        with(Auto, "amount", "4111222233334444.5", "a binary float"),
        with(Double, "amount", "1e300", "a great double"),
        with(Double, "amount", "0.001", "a small double"),
        with(Double, "amount", "\"4111222233334444\"", "a text"),
    ]
}

fn times() -> Vec<Bad> {
    let with = |times, column: &str, json: &str, name: &str| {
        let mode = format!("{times:?}").to_lowercase();
        of(Settings { times, ..AUTO }, column, json, &format!("{name} ({mode})"))
    };
    use TimePrecision::{Adaptive, AdaptiveTimeMicroseconds, Connect, Isostring, Microseconds, Nanoseconds};
    let mut all = Vec::new();
    for (times, column) in [
        (Adaptive, "ts"),
        (Adaptive, "ts3"),
        (AdaptiveTimeMicroseconds, "t"),
        (Microseconds, "ts"),
        (Nanoseconds, "ts"),
        (Connect, "ts"),
        (Connect, "d"),
        (Isostring, "ts"),
        (Isostring, "d"),
    ] {
        for (json, name) in [
            ("9223372036854775808", "2^63"),
            ("-9223372036854775809", "below -2^63"),
            ("1.5", "a fraction"),
            ("true", "a boolean"),
            ("{}", "an object"),
            ("\"4111222233334444\"", "digits in a text"),
        ] {
            all.push(with(times, column, json, name));
        }
    }
    for (text, name) in [
        ("", "an empty text"),
        ("2026-03-01T12:00:00+25:00", "an offset of 25 hours"),
        ("2026-03-01T24:00:00Z", "hour 24"),
        ("2026-03-01T12:60:00Z", "minute 60"),
        ("2026-03-01T12:00:60Z", "second 60"),
        ("2026-02-29T12:00:00Z", "a day that is not there"),
        ("2026-13-01T12:00:00Z", "month 13"),
        ("2026-00-01T12:00:00Z", "month 0"),
        ("2026-03-01 12:00:00+00", "Postgres's own spelling"),
        ("2026-03-01T12:00:00.Z", "a point without digits"),
        ("2026-03-01T12:00:00.1234567890Z", "ten fraction digits"),
        ("2026-3-1T12:00:00Z", "one digit"),
        ("2026-03-01T12:00:00ZZ", "something behind it"),
        ("20260301T120000Z", "no separators"),
        ("Infinity", "infinity in a capital letter"),
        ("+1234567890-01-01T00:00:00Z", "a year of ten digits"),
        ("٢٠٢٦-03-01T12:00:00Z", "digits of another script"),
    ] {
        all.push(with(Adaptive, "at", &quoted(text), name));
    }
    all.push(with(Adaptive, "at", "1700000000000", "a count"));
    all.push(with(Adaptive, "at", &quoted(&"2".repeat(1 << 20)), "a MiB of text"));
    all.push(with(Adaptive, "t", "86400000001", "a microsecond past midnight"));
    all.push(with(Adaptive, "t", "-1", "a microsecond before midnight"));
    all.push(with(Adaptive, "t", "\"25:00:00\"", "hour 25"));
    all
}

fn others() -> Vec<Bad> {
    let binary = |binary, json: &str, name: &str| of(Settings { binary, ..AUTO }, "b", json, name);
    let mut all = vec![
        of(AUTO, "note", "5", "a number for a text"),
        of(AUTO, "note", "{\"a\":1}", "an object for a text"),
        of(AUTO, "note", "[]", "a list for a text"),
        of(AUTO, "note", "\"4111222233334444\\u0000\"", "a zero byte in a text"),
        of(AUTO, "note", "\"__debezium_unavailable_value\"", "a value that is not in the record"),
        of(AUTO, "amount", "\"__debezium_unavailable_value\"", "a value that is not in the record"),
        of(AUTO, "uuid", "\"4111222233334444\"", "a text that is no UUID"),
        of(AUTO, "uuid", "\"F47AC10B-58CC-4372-A567-0E02B2C3D479\"", "a UUID in capital letters"),
        of(AUTO, "uuid", "\"{f47ac10b-58cc-4372-a567-0e02b2c3d479}\"", "a UUID in braces"),
        of(AUTO, "any", "{\"scale\":1,\"scale\":2,\"value\":\"MDk=\"}", "an object with two scales"),
        of(AUTO, "4111", "1", "a column that the table does not have"),
        binary(BinaryHandling::Hex, "\"4111222233334444x\"", "no hexadecimal"),
        binary(BinaryHandling::Base64, "\"4111222233334444x\"", "no base64"),
        binary(BinaryHandling::Auto, "\"4111222233334444\"", "hexadecimal or base64"),
        binary(BinaryHandling::Auto, "5", "a number for bytes"),
    ];
    all.iter_mut().for_each(|bad| bad.name = format!("other {}", bad.name));
    all
}
