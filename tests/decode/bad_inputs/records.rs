//! Envelopes, rows without one, keys, and JSON that is none.

use super::{Bad, ROWS, SECRET, bad, keyed};

const SOURCE: &str =
    r#""source":{"db":"store","schema":"shop","table":"orders","lsn":5,"txId":7,"ts_us":1700000000000000}"#;
const ROW: &str = r#"{"id":1,"amount":"1.00","any":"1","whole":null,"at":"2026-03-01T00:00:00Z","ts":1,"ts3":1,"d":1,"note":"x","small":1,"int":1,"flag":true,"uuid":null}"#;

/// An envelope of these parts.
fn of(parts: &str) -> String {
    format!("{{{SOURCE},{parts}}}")
}

/// A good envelope but for its source.
fn from(source: &str) -> String {
    format!(r#"{{"op":"c","source":{source},"after":{ROW}}}"#)
}

/// A good source with these fields more or instead.
fn with(fields: &str) -> String {
    from(&format!(r#"{{"db":"store","schema":"shop","table":"orders",{fields}}}"#))
}

/// A good envelope with a schema around it.
fn wrapped(schema: &str, payload: &str) -> String {
    format!(r#"{{"schema":{schema},"payload":{payload}}}"#)
}

pub(super) fn all() -> Vec<Bad> {
    [json(), envelopes(), sources(), schemas(), rows(), keys()].into_iter().flatten().collect()
}

fn json() -> Vec<Bad> {
    let good = of(&format!(r#""op":"c","after":{ROW}"#));
    vec![
        bad("no bytes", ""),
        bad("white space", " \n\t"),
        bad("zero bytes", "\0\0\0\0\0"),
        bad("a byte order mark", [b"\xef\xbb\xbf", good.as_bytes()].concat()),
        bad("UTF-16", good.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()),
        bad("no UTF-8 in a value", [b"{\"op\":\"", &b"\xff\xfe"[..], b"\"}"].concat()),
        bad("an overlong character", b"{\"op\":\"\xc0\xaf\"}".to_vec()),
        bad("a surrogate in UTF-8", b"{\"op\":\"\xed\xa0\x80\"}".to_vec()),
        bad("a number", "7"),
        bad("a text", format!("\"{SECRET}\"")),
        bad("true", "true"),
        bad("a list", "[1]"),
        bad("a comment", format!("/* x */{good}")),
        bad("single quotes", "{'op':'c'}"),
        bad("a name without quotes", "{op:\"c\"}"),
        bad("a comma at the end", "{\"op\":\"c\",}"),
        bad("no comma", "{\"op\":\"c\" \"after\":null}"),
        bad("no colon", "{\"op\" \"c\"}"),
        bad("a line break in a text", "{\"op\":\"\n\"}"),
        bad("an escape that is none", r#"{"op":"\x"}"#),
        bad("half a surrogate in an operation", r#"{"op":"\ud800"}"#),
        bad("half a surrogate in a value", of(r#""op":"c","after":{"id":1,"note":"\ud800"}"#)),
        bad("half a surrogate in a name", of(r#""op":"c","after":{"id":1,"\udc00":1}"#)),
        bad("a record that is cut", &good[..good.len() - 1]),
        bad("a record that is cut in a text", &good[..good.len() / 2]),
        bad("another record behind it", format!("{good}{good}")),
        bad("a bracket behind it", format!("{good}}}")),
        bad("a zero byte behind it", format!("{good}\0")),
        bad("100,000 lists", "[".repeat(100_000)),
        bad("100,000 lists that end", format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))),
        bad("100,000 objects", "{\"a\":".repeat(100_000)),
        bad("100,000 lists in an unread part", of(&format!(r#""op":"c","after":{ROW},"x":{}"#, "[".repeat(100_000)))),
        bad("100,000 lists in a row", of(&format!(r#""op":"c","after":{}"#, "[".repeat(100_000)))),
        bad("100,000 lists in a value", of(&format!(r#""op":"c","after":{{"id":1,"amount":{}"#, "[".repeat(100_000)))),
        bad("100,000 lists in the source", from(&format!(r#"{{"lsn":{}"#, "[".repeat(100_000)))),
        bad("100,000 objects in a schema", wrapped(&r#"{"fields":[{"fields":["#.repeat(50_000), "null")),
        bad("NaN", of(r#""op":"c","after":{"id":1,"amount":NaN}"#)),
        bad("Infinity", of(r#""op":"c","after":{"id":1,"amount":-Infinity}"#)),
        bad("a number with a leading zero", of(r#""op":"c","after":{"id":01}"#)),
        bad("a number with a plus", of(r#""op":"c","after":{"id":+1}"#)),
        bad("a number with an empty exponent", of(r#""op":"c","after":{"id":1e}"#)),
        bad("a number past a double", of(r#""op":"c","after":{"id":1e999}"#)),
        bad("a number of 100,000 digits", of(&format!(r#""op":"c","after":{{"id":{}}}"#, "9".repeat(100_000)))),
    ]
}

fn envelopes() -> Vec<Bad> {
    let long = "x".repeat(100_000);
    vec![
        bad("an empty object", "{}"),
        bad("nothing of an envelope", format!(r#"{{"card":"{SECRET}"}}"#)),
        bad("a source alone", format!("{{{SOURCE}}}")),
        bad("an operation that is none", of(r#""op":"x""#)),
        bad("an operation in a capital letter", of(&format!(r#""op":"C","after":{ROW}"#))),
        bad("an empty operation", of(r#""op":"""#)),
        bad("an operation in words", of(&format!(r#""op":"{SECRET}","after":{ROW}"#))),
        bad("a very long operation", of(&format!(r#""op":"{long}","after":{ROW}"#))),
        bad("an operation that acts on a terminal", of(r#""op":"\u001b""#)),
        bad("an operation that is a number", of(&format!(r#""op":{SECRET},"after":{ROW}"#))),
        bad("an operation that is null", of(&format!(r#""op":null,"after":{ROW}"#))),
        bad("an operation that is an object", of(r#""op":{}"#)),
        bad("two operations", of(&format!(r#""op":"c","op":"d","after":{ROW}"#))),
        bad("two rows after", of(&format!(r#""op":"c","after":{ROW},"after":{ROW}"#))),
        bad("two rows before", of(r#""op":"d","before":{"id":1},"before":{"id":2}"#)),
        bad("two sources", format!(r#"{{{SOURCE},{SOURCE},"op":"c","after":{ROW}}}"#)),
        bad("two names, one escaped", of(&format!(r#""op":"c","\u006fp":"d","after":{ROW}"#))),
        bad("two payloads", r#"{"schema":{},"payload":null,"payload":{}}"#),
        bad("an insert without a row", of(r#""op":"c","before":{"id":1}"#)),
        bad("an update with a null row", of(r#""op":"u","after":null"#)),
        bad("a read with a null row", of(r#""op":"r","after":null"#)),
        bad("a row that is a text", of(&format!(r#""op":"c","after":"{SECRET}""#))),
        bad("a row that is a number", of(&format!(r#""op":"c","after":{SECRET}"#))),
        bad("a row that is a list", of(r#""op":"c","after":[1]"#)),
        bad("a row that is true", of(r#""op":"c","after":true"#)),
        bad("an empty row", of(r#""op":"c","after":{}"#)),
        bad("a row without its key", of(r#""op":"c","after":{"amount":"1.00"}"#)),
        bad("a row with a null key", of(r#""op":"c","after":{"id":null}"#)),
        bad("a row with half of its columns", of(r#""op":"c","after":{"id":1,"amount":"1.00"}"#)),
        bad("a column twice", of(&format!(r#""op":"c","after":{},"amount":"2.00"}}"#, &ROW[..ROW.len() - 1]))),
        bad("a column twice, once wrong", of(&format!(r#""op":"c","after":{},"amount":"x"}}"#, &ROW[..ROW.len() - 1]))),
        bad("the key twice", of(&format!(r#""op":"c","after":{},"id":2}}"#, &ROW[..ROW.len() - 1]))),
        bad("a delete of nothing", of(r#""op":"d""#)),
        bad("a delete with both null", of(r#""op":"d","before":null,"after":null"#)),
        bad("a delete whose row is a text", of(&format!(r#""op":"d","before":"{SECRET}""#))),
        bad("a delete with a null key", of(r#""op":"d","before":{"id":null}"#)),
        bad("a delete with a key of text", of(&format!(r#""op":"d","before":{{"id":"{SECRET}"}}"#))),
        bad("a payload in a payload", wrapped("{}", &wrapped("{}", "{}"))),
        bad("a payload that is a text", wrapped("{}", &format!("\"{SECRET}\""))),
        bad("a payload that is a list", wrapped("{}", "[]")),
        bad("a whole envelope as a text", serde_json::to_string(&of(&format!(r#""op":"c","after":{ROW}"#))).unwrap()),
    ]
}

fn sources() -> Vec<Bad> {
    vec![
        bad("no source", format!(r#"{{"op":"c","after":{ROW}}}"#)),
        bad("a source that is null", from("null")),
        bad("a source that is a text", from(&format!("\"{SECRET}\""))),
        bad("a source that is a list", from("[]")),
        bad("a source that is a number", from("5")),
        bad("an empty source", from("{}")),
        bad("another table", from(r#"{"db":"store","schema":"shop","table":"users","ts_us":1}"#)),
        bad("another schema", from(r#"{"db":"store","schema":"public","table":"orders","ts_us":1}"#)),
        bad("another database", from(r#"{"db":"other","schema":"shop","table":"orders","ts_us":1}"#)),
        bad("a table with a long name", from(&format!(r#"{{"table":"{}"}}"#, "t".repeat(100_000)))),
        bad("a table that acts on a terminal", from(r#"{"table":"\u001b[2J\u202e"}"#)),
        bad("a table that is a number", from(&format!(r#"{{"table":{SECRET}}}"#))),
        bad("a schema of a table that is a list", from(r#"{"schema":["shop"]}"#)),
        bad("a position below zero", with(r#""lsn":-1,"ts_us":1"#)),
        bad("a position of 2^63", with(r#""lsn":9223372036854775808,"ts_us":1"#)),
        bad("a position of 2^64", with(r#""lsn":18446744073709551616,"ts_us":1"#)),
        bad("a position as text", with(&format!(r#""lsn":"{SECRET}","ts_us":1"#))),
        bad("a position in Postgres's spelling", with(r#""lsn":"16/B374D848","ts_us":1"#)),
        bad("a position with a fraction", with(r#""lsn":1.5,"ts_us":1"#)),
        bad("a position with an exponent", with(r#""lsn":1e3,"ts_us":1"#)),
        bad("a position that is true", with(r#""lsn":true,"ts_us":1"#)),
        bad("a position that is an object", with(r#""lsn":{},"ts_us":1"#)),
        bad("two positions", with(r#""lsn":1,"lsn":2,"ts_us":1"#)),
        bad("a transaction as text", with(r#""lsn":1,"txId":"7","ts_us":1"#)),
        bad("a transaction with a fraction", with(r#""lsn":1,"txId":0.5,"ts_us":1"#)),
        bad("a transaction of 2^64", with(r#""lsn":1,"txId":18446744073709551616,"ts_us":1"#)),
        bad("a transaction past 32 bits", with(r#""lsn":1,"txId":4294967296,"ts_us":1"#)),
        bad("a transaction below 32 bits", with(r#""lsn":1,"txId":-2147483649,"ts_us":1"#)),
        bad("a time of commit as text", with(&format!(r#""lsn":1,"ts_us":"{SECRET}""#))),
        bad("a time of commit with a fraction", with(r#""lsn":1,"ts_us":1.5"#)),
        bad("a time of commit after the year 9999", with(r#""lsn":1,"ts_us":411122223333444455"#)),
        bad("a time of commit before the year 1", with(r#""lsn":1,"ts_us":-9223372036854775808"#)),
        bad("a time of commit of 2^63", with(r#""lsn":1,"ts_us":9223372036854775808"#)),
        bad("milliseconds past microseconds", with(r#""lsn":1,"ts_ms":9223372036854775807"#)),
        bad("milliseconds as text", with(r#""lsn":1,"ts_ms":"1""#)),
        bad("no time at all", with(r#""lsn":1"#)),
    ]
}

fn schemas() -> Vec<Bad> {
    let after = |fields: &str| format!(r#"{{"fields":[{{"field":"after","fields":[{fields}]}}]}}"#);
    let payload = of(&format!(r#""op":"c","after":{ROW}"#));
    let decimal = "org.apache.kafka.connect.data.Decimal";
    let scale = |scale: &str| {
        let field =
            format!(r#"{{"field":"amount","type":"bytes","name":"{decimal}","parameters":{{"scale":{scale}}}}}"#);
        wrapped(&after(&field), &of(r#""op":"c","after":{"id":1,"amount":"MDk="}"#))
    };
    vec![
        bad("a schema that is a text", wrapped(&format!("\"{SECRET}\""), &payload)),
        bad("a schema that is a list", wrapped("[]", &payload)),
        bad("a schema of nothing", wrapped("{}", &payload)),
        bad("a schema whose fields are a text", wrapped(&format!(r#"{{"fields":"{SECRET}"}}"#), &payload)),
        bad("a schema whose field is a number", wrapped(r#"{"fields":[4111222233334444]}"#, &payload)),
        bad("a schema whose name is a number", wrapped(&after(r#"{"field":4111222233334444}"#), &payload)),
        bad("a schema whose type is an object", wrapped(&after(r#"{"field":"id","type":{}}"#), &payload)),
        bad("a schema with a field twice", wrapped(r#"{"fields":[],"fields":[]}"#, &payload)),
        bad(
            "a schema that nests 1,000 deep",
            wrapped(
                &format!(
                    "{}{}",
                    r#"{"fields":[{"field":"after","fields":[{"fields":["#.repeat(1_000),
                    "]}]}]}".repeat(1_000)
                ),
                &payload,
            ),
        ),
        bad(
            "a schema with another type",
            wrapped(&after(r#"{"field":"amount","type":"struct","name":"io.debezium.data.geometry.Point"}"#), &payload),
        ),
        bad(
            "a schema with a very long type",
            wrapped(&after(&format!(r#"{{"field":"amount","type":"x","name":"{}"}}"#, "n".repeat(100_000))), &payload),
        ),
        bad(
            "a schema of an altered column",
            wrapped(&after(r#"{"field":"id","type":"int64","name":"io.debezium.time.MicroTime"}"#), &payload),
        ),
        bad("a scale as a number", scale("2")),
        bad("a scale in words", scale(&format!("\"{SECRET}\""))),
        bad("a scale past an int", scale("\"99999999999\"")),
        bad("a scale of 2,000,000,000", scale("\"2000000000\"")),
        bad("a scale of -2,000,000,000", scale("\"-2000000000\"")),
        bad("a scale of 3 in a column of 2", scale("\"3\"")),
    ]
}

fn rows() -> Vec<Bad> {
    let added = r#""__op":"u","__deleted":"false","__lsn":5,"__source_ts_us":1,"__table":"orders""#;
    let row = |settings, name: &str, text: String| Bad { settings, ..bad(name, text) };
    let of_row = |more: &str| format!("{},{more}}}", &ROW[..ROW.len() - 1]);
    vec![
        row(ROWS, "a row of nothing", "{}".to_owned()),
        row(ROWS, "a row that is a text alone", format!("\"{SECRET}\"")),
        row(ROWS, "a row that is cut", of_row(added)[..60].to_owned()),
        row(ROWS, "a row with a null key alone", r#"{"id":null}"#.to_owned()),
        row(ROWS, "a row with a key of text", format!(r#"{{"id":"{SECRET}",{added}}}"#)),
        row(ROWS, "a row without its lsn", of_row(r#""__op":"u","__deleted":"false","__source_ts_us":1"#)),
        row(ROWS, "a row of another table", of_row(&added.replace("orders", "users"))),
        row(ROWS, "a row with an operation that is none", of_row(&added.replace("\"u\"", "\"z\""))),
        row(ROWS, "a row with an operation that is a number", of_row(&added.replace("\"u\"", SECRET))),
        row(ROWS, "a row with a position as text", of_row(&added.replace('5', &format!("\"{SECRET}\"")))),
        row(ROWS, "a row with a position below zero", of_row(&added.replace('5', "-5"))),
        row(ROWS, "a row whose deletion is a text", of_row(&added.replace("\"false\"", "\"maybe\""))),
        row(ROWS, "a row whose deletion is a number", of_row(&added.replace("\"false\"", "1"))),
        row(ROWS, "a row with its operation twice", of_row(&format!("{added},\"__op\":\"d\""))),
        row(ROWS, "a row with a column twice", of_row(&format!("{added},\"amount\":\"2.00\""))),
        row(ROWS, "an envelope where rows are expected", of(&format!(r#""op":"c","after":{ROW}"#))),
        row(ROWS, "a row behind a schema that is cut", wrapped("{\"fields\":[", &of_row(added))),
        bad("a row by its looks, with a wrong value", r#"{"id":1,"amount":{}}"#.to_owned()),
    ]
}

fn keys() -> Vec<Bad> {
    let delete = of(r#""op":"d","before":null"#);
    let key = |name: &str, key: &str| keyed(name, key, delete.clone());
    vec![
        key("a key that is null", "null"),
        key("a key of no bytes", ""),
        key("a key that is a number", SECRET),
        key("a key that is a text", &format!("\"{SECRET}\"")),
        key("a key that is a list", "[1]"),
        key("a key that is no JSON", SECRET.get(..3).map_or("", |_| "id=4111222233334444")),
        key("a key that is cut", r#"{"id":"#),
        keyed("a key that is no UTF-8", b"\xff\xfe{\"id\":1}", delete.clone()),
        key("a key without the primary key", r#"{"user":1}"#),
        key("a key with a null in it", r#"{"id":null}"#),
        key("a key with a text in it", &format!(r#"{{"id":"{SECRET}"}}"#)),
        key("a key with a fraction in it", r#"{"id":1.5}"#),
        key("a key past 64 bits", r#"{"id":9223372036854775808}"#),
        key("a key with the column twice", r#"{"id":1,"id":2}"#),
        key("a key with an object in it", r#"{"id":{}}"#),
        key("a key behind a schema that is a text", &wrapped("\"x\"", r#"{"user":1}"#)),
        key("a key behind a schema of nonsense", &wrapped(r#"{"fields":7}"#, r#"{"id":1}"#)),
        key("a key with something behind it", r#"{"id":1} x"#),
        key("a key of 100,000 lists", &format!("{{\"id\":{}", "[".repeat(100_000))),
        keyed("a tombstone with a key of text", format!(r#"{{"id":"{SECRET}"}}"#), "null"),
        keyed("a tombstone with a key that is cut", "{", "null"),
        keyed("a tombstone of another key", r#"{"user":1}"#, "null"),
    ]
}
