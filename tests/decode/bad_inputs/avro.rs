//! Schemas of Avro that are none or too much, and bytes that are not of their schema. None takes memory ahead of the bytes that are
//! there: a claim of 2^60 elements is refused at once, or ends with the bytes.

use tripline::change::avro::{JsonError, RecordPart, SchemaId, Schemas, WriterSchema};

use super::SECRET;

/// The message about these bytes with this schema.
pub(super) fn outcome(schema: &str, bytes: &[u8]) -> String {
    let mut schemas = Schemas::default();
    schemas.learn(SchemaId::Short(7), Ok(schema.to_owned()));
    let framed = [&[0, 0, 0, 0, 7], bytes].concat();
    match schemas.json(&framed, RecordPart::Value, std::iter::empty()) {
        Ok(json) => format!("read as {} bytes of JSON", json.len()),
        Err(JsonError::Invalid(reject)) => format!("{}: {}", reject.kind, reject.detail),
        Err(JsonError::Unknown(id)) => format!("schema {id} is asked for"),
    }
}

/// A number as Avro has it.
fn long(number: i64) -> Vec<u8> {
    let mut left = (number << 1 ^ number >> 63).cast_unsigned();
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
        left >>= 7;
    }
    bytes.push(u8::try_from(left).unwrap());
    bytes
}

/// A record with one field of this type.
fn record(ty: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{{"name":"a","type":{ty}}}]}}"#)
}

pub(super) fn all() -> Vec<(String, String, Vec<u8>)> {
    let schemas = schemas().into_iter().map(|(name, schema)| (format!("Avro schema: {name}"), schema, vec![0]));
    let bytes = bytes().into_iter().map(|(name, schema, bytes)| (format!("Avro bytes: {name}"), schema, bytes));
    schemas.chain(bytes).collect()
}

fn schemas() -> Vec<(&'static str, String)> {
    let deep = |open: &str, close: &str| format!("{}\"long\"{}", open.repeat(1_000), close.repeat(1_000));
    // Each type has the one before it twice.
    let mut doubling = r#"{"type":"record","name":"R0","fields":[]}"#.to_owned();
    for level in 1..40 {
        let before = level - 1;
        doubling = format!(
            r#"{{"type":"record","name":"R{level}","fields":[{{"name":"a","type":{doubling}}},{{"name":"b","type":"R{before}"}}]}}"#
        );
    }
    vec![
        ("no bytes", String::new()),
        ("no JSON", format!("record {SECRET}")),
        ("JSON that is cut", r#"{"type":"record""#.to_owned()),
        ("a number", SECRET.to_owned()),
        ("null", "null".to_owned()),
        ("an empty object", "{}".to_owned()),
        ("an empty list", "[]".to_owned()),
        ("a type that is none", format!("\"{SECRET}\"")),
        ("a type that is a number", format!(r#"{{"type":{SECRET}}}"#)),
        ("a record without a name", r#"{"type":"record","fields":[]}"#.to_owned()),
        ("a record without fields", r#"{"type":"record","name":"R"}"#.to_owned()),
        ("fields that are a text", format!(r#"{{"type":"record","name":"R","fields":"{SECRET}"}}"#)),
        ("a field without a name", r#"{"type":"record","name":"R","fields":[{"type":"int"}]}"#.to_owned()),
        ("a field without a type", r#"{"type":"record","name":"R","fields":[{"name":"a"}]}"#.to_owned()),
        ("a field that is a number", r#"{"type":"record","name":"R","fields":[7]}"#.to_owned()),
        ("a name that is not defined", record("\"Other\"")),
        ("a record in itself", record("\"R\"")),
        ("a record in a union with itself", record(r#"["null","R"]"#)),
        ("a record in a list of itself", record(r#"{"type":"array","items":"R"}"#)),
        ("a name twice", record(r#"{"type":"record","name":"R","fields":[]}"#)),
        ("types that double with each", doubling),
        ("1,000 lists", deep(r#"{"type":"array","items":"#, "}")),
        ("1,000 records", deep(r#"{"type":"record","name":"R","fields":[{"name":"a","type":"#, "}]}")),
        ("100,000 brackets", "[".repeat(100_000)),
        ("10 MB", record(&format!("\"{}\"", "x".repeat(10_000_000)))),
        ("a list without items", r#"{"type":"array"}"#.to_owned()),
        ("a map without values", r#"{"type":"map"}"#.to_owned()),
        ("an enum without symbols", r#"{"type":"enum","name":"E"}"#.to_owned()),
        ("fixed bytes without a size", r#"{"type":"fixed","name":"F"}"#.to_owned()),
        ("fixed bytes of a size below zero", r#"{"type":"fixed","name":"F","size":-1}"#.to_owned()),
        ("fixed bytes of 2^60", record(r#"{"type":"fixed","name":"F","size":1152921504606846976}"#)),
        ("fixed bytes of 2^64", record(r#"{"type":"fixed","name":"F","size":18446744073709551616}"#)),
        ("a union in a union", record(r#"["null",["int"]]"#)),
        (
            "a decimal of 2^60 digits",
            record(r#"{"type":"bytes","logicalType":"decimal","precision":1152921504606846976,"scale":2}"#),
        ),
        (
            "a decimal of a scale below zero",
            record(r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":-5}"#),
        ),
        (
            "a decimal of a scale in words",
            record(r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":"4111222233334444"}"#),
        ),
        ("a decimal that is a text", record(r#"{"type":"string","logicalType":"decimal"}"#)),
        ("a logical type that is none", record(r#"{"type":"long","logicalType":"4111222233334444"}"#)),
    ]
}

fn bytes() -> Vec<(&'static str, String, Vec<u8>)> {
    let (string, list) = ("\"string\"".to_owned(), r#"{"type":"array","items":"long"}"#.to_owned());
    let nulls = r#"{"type":"array","items":"null"}"#.to_owned();
    let nothing = r#"{"type":"array","items":{"type":"record","name":"R","fields":[]}}"#.to_owned();
    let map = r#"{"type":"map","values":"long"}"#.to_owned();
    let union = r#"["null","long"]"#.to_owned();
    let symbol = format!(r#"{{"type":"enum","name":"E","symbols":["{}"]}}"#, "x".repeat(100_000));
    let symbols = format!(r#"{{"type":"array","items":{symbol}}}"#);
    let great = 1_i64 << 60;
    let then = |first: Vec<u8>, more: &[u8]| [&first[..], more].concat();
    vec![
        ("none", "\"long\"".to_owned(), vec![]),
        ("a number that is cut", "\"long\"".to_owned(), vec![0x80]),
        ("a number of eleven bytes", "\"long\"".to_owned(), [&[0xff; 10][..], &[1]].concat()),
        ("a number of ten bytes past 64 bits", "\"long\"".to_owned(), [&[0xff; 9][..], &[0x7f]].concat()),
        ("an int past 32 bits", "\"int\"".to_owned(), long(1 << 40)),
        ("a boolean of 2", "\"boolean\"".to_owned(), vec![2]),
        ("a float that is cut", "\"float\"".to_owned(), vec![0, 0, 0]),
        ("a double that is cut", "\"double\"".to_owned(), vec![0; 7]),
        ("a text that is cut", string.clone(), then(long(16), b"4111222233")),
        ("a text of 2^60 bytes", string.clone(), then(long(great), b"x")),
        ("a text of a length below zero", string.clone(), then(long(-1), b"x")),
        ("a text of the least length", string.clone(), then(long(i64::MIN), b"x")),
        ("a text that is no UTF-8", string.clone(), then(long(2), b"\xff\xfe")),
        ("bytes of 2^60", "\"bytes\"".to_owned(), then(long(great), b"x")),
        ("a list of 2^60 numbers", list.clone(), then(long(great), &[2, 2])),
        ("a list of 2^62 nulls", nulls.clone(), then(long(1 << 62), &[0])),
        ("a list of 900,000,000 nulls", nulls.clone(), then(long(900_000_000), &[0])),
        ("a list of -900,000,000 nulls", nulls, [long(-900_000_000), long(0), vec![0]].concat()),
        ("a list of 900,000,000 records of nothing", nothing, then(long(900_000_000), &[0])),
        (
            "a list of blocks below zero",
            list.clone(),
            [long(-1), long(1), vec![2], long(-2), long(2), vec![2, 2, 0]].concat(),
        ),
        ("a list of the least block", list.clone(), then(long(i64::MIN), &[0, 2, 0])),
        ("a block that is cut", list, then(long(3), &[2])),
        ("a map of 2^60 values", map.clone(), then(long(great), &[2, b'k', 2])),
        ("a map with a key that is cut", map.clone(), then(long(1), &[8, b'k'])),
        ("a map with a key that is no UTF-8", map.clone(), then(long(1), &[2, 0xff, 2, 0])),
        ("a map with a key twice", map, then(long(2), &[2, b'k', 2, 2, b'k', 4, 0])),
        ("a branch that is not there", union.clone(), vec![4]),
        ("a branch below zero", union.clone(), vec![1]),
        ("a branch of 2^60", union, long(great)),
        ("a symbol that is not there", r#"{"type":"enum","name":"E","symbols":["X"]}"#.to_owned(), vec![2]),
        ("a symbol below zero", r#"{"type":"enum","name":"E","symbols":["X"]}"#.to_owned(), vec![1]),
        ("2,000 symbols of 100,000 characters", symbols, [long(2_000), vec![0; 2_000], vec![0]].concat()),
        ("fixed bytes that are cut", r#"{"type":"fixed","name":"F","size":4}"#.to_owned(), vec![1, 2]),
        ("something behind the value", "\"long\"".to_owned(), vec![2, 2]),
    ]
}

/// The bytes in front of an Avro value.
#[test]
fn a_schema_that_is_not_known_is_asked_for() {
    let schemas = Schemas::default();
    let check = |bytes: &[u8], want: Result<(), SchemaId>| {
        let got = schemas.json(bytes, RecordPart::Value, std::iter::empty());
        match (want, got) {
            (Ok(()), Ok(same)) => assert_eq!(same, bytes, "it is no Avro, and goes on as it is"),
            (Err(want), Err(JsonError::Unknown(id))) => assert_eq!(id, want),
            (want, got) => panic!("{bytes:?}: {got:?}, expected {want:?}"),
        }
    };
    check(&[0, 0, 0, 0, 9, 1], Err(SchemaId::Short(9)));
    check(&[0, 0xff, 0xff, 0xff, 0xff], Err(SchemaId::Short(u32::MAX)));
    check(&[&[0][..], &[0xff; 9]].concat(), Err(SchemaId::Short(u32::MAX)));
    check(&[1, 0, 0, 0, 9, 1], Ok(()));
    check(&[0, 0, 0], Ok(()));
    assert!(WriterSchema::parse("\"long\"").is_ok());
}
