//! Records in Avro: the same changes as those in JSON with their schema.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use tripline::change::avro::{JsonError, RecordPart, SchemaId, Schemas, WriterSchema, framing};
use tripline::change::debezium::full_row::FullRowDecoder;
use tripline::change::{Change, Decoded, Op, RejectKind};

use crate::support::*;

fn fixture(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The schemas as the registry had them, by id.
fn texts() -> Vec<(u32, String)> {
    let all: serde_json::Value = serde_json::from_str(&fixture("j_avro.schemas.json")).unwrap();
    let all = all.as_object().unwrap().iter();
    all.map(|(id, schema)| (id.parse().unwrap(), schema.to_string())).collect()
}

fn schemas() -> Schemas {
    let mut schemas = Schemas::default();
    for (id, text) in texts() {
        schemas.learn(SchemaId::Short(id), Ok(text));
    }
    schemas
}

type Bytes = Option<Vec<u8>>;

/// Key and value of each record.
fn captured() -> Vec<(Bytes, Bytes)> {
    let part = |record: &serde_json::Value, name: &str| {
        record[name]["b64"].as_str().map(|text| STANDARD.decode(text).unwrap())
    };
    let lines = fixture("j_avro_precise.ndjson");
    let records = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    records.map(|record| (part(&record, "key"), part(&record, "value"))).collect()
}

fn json(schemas: &Schemas, bytes: &Bytes, part: RecordPart) -> Option<Vec<u8>> {
    bytes.as_ref().map(|bytes| schemas.json(bytes, part, std::iter::empty()).unwrap().into_owned())
}

#[test]
fn the_same_changes_as_in_json() {
    let (schemas, table) = (schemas(), transactions());
    let mut decoder = all_columns(&table, AUTO);
    let changes_of_avro: Vec<Change> = captured()
        .iter()
        .map(|(key, value)| {
            let (key, value) = (json(&schemas, key, RecordPart::Key), json(&schemas, value, RecordPart::Value));
            match whole(decoder.decode(key.as_deref(), value.as_deref())) {
                Ok(Decoded::Change(change)) => change,
                other => panic!("{other:?} {:?}", value.map(String::from_utf8)),
            }
        })
        .collect();
    assert!(changes_of_avro.iter().filter(|change| change.op != Op::Tombstone).all(|change| change.lsn.is_some()));
    assert_eq!(essence(changes_of_avro), essence(changes(&table, "a_schema_precise", AUTO)));
}

/// An archive needs no catalog: the schema says each column's type.
#[test]
fn the_same_archive_as_of_json() {
    let schemas = schemas();
    let mut decoder = FullRowDecoder::new(None, AUTO);
    let mut of_avro = Vec::new();
    for (key, value) in captured() {
        let (key, value) = (json(&schemas, &key, RecordPart::Key), json(&schemas, &value, RecordPart::Value));
        match decoder.decode(key.as_deref(), value.as_deref()).unwrap() {
            Decoded::Change(change) => of_avro.push((change.op, change.fields, change.cells)),
            Decoded::Ignored(why) => assert_eq!(why, "tombstone"),
            Decoded::Partial(..) => panic!(),
        }
    }
    let of_json = crate::full_row::changes(None, AUTO, "a_schema_precise", "transactions");
    let of_json: Vec<_> = of_json.into_iter().map(|change| (change.op, change.fields, change.cells)).collect();
    assert_eq!(of_avro, of_json);
}

#[test]
fn where_the_schema_is_named() {
    let none = || std::iter::empty();
    assert_eq!(framing(b"\0\0\0\0\x07ab", RecordPart::Value, none()), Some((SchemaId::Short(7), &b"ab"[..])));
    assert_eq!(framing(b"\0\0\0\0\0\0\0\0\x07ab", RecordPart::Key, none()), Some((SchemaId::Long(7), &b"ab"[..])));
    for bytes in [&b"{\"id\":7}"[..], b"", b"\0", b"\0\0\0\0", b"\0\0\0\0\0", b"null"] {
        assert_eq!(framing(bytes, RecordPart::Value, none()), None, "{bytes:?}");
    }
    let seven = 7_u64.to_be_bytes();
    let headers = || {
        [("apicurio.key.contentId", Some(&seven[..])), ("apicurio.value.globalId", Some(&seven[..])), ("x", None)]
            .into_iter()
    };
    assert_eq!(framing(b"ab", RecordPart::Value, headers()), Some((SchemaId::Global(7), &b"ab"[..])));
    assert_eq!(framing(b"ab", RecordPart::Key, headers()), Some((SchemaId::Content(7), &b"ab"[..])));
    let odd = || [("apicurio.value.globalId", Some(&b"7"[..]))].into_iter();
    assert_eq!(framing(b"ab", RecordPart::Value, odd()), None);
}

#[test]
fn what_is_not_of_its_schema() {
    let schemas = schemas();
    let refused = |bytes: &[u8]| match schemas.json(bytes, RecordPart::Value, std::iter::empty()) {
        Err(JsonError::Invalid(reject)) => {
            assert_eq!(reject.kind, RejectKind::Avro, "{reject}");
            reject.detail
        }
        other => panic!("{other:?}"),
    };
    let value = captured().into_iter().find_map(|(_, value)| value).unwrap();
    assert!(schemas.json(&value, RecordPart::Value, std::iter::empty()).is_ok());
    for length in 5..value.len() {
        assert!(refused(&value[..length]).contains("is not Avro of that schema"), "{length}");
    }
    assert!(refused(&[&value[..], b"x"].concat()).contains("behind the value"));
    let mut other = Schemas::default();
    let id = match framing(&value, RecordPart::Value, std::iter::empty()) {
        Some((id, _)) => id,
        None => panic!(),
    };
    assert_eq!(other.json(&value, RecordPart::Value, std::iter::empty()), Err(JsonError::Unknown(id)));
    for text in ["", "{}", "5", "\"Unknown\"", r#"{"type":"record"}"#, r#"{"type":"record","name":"A","fields":[{}]}"#]
    {
        other.learn(id, Ok(text.to_owned()));
        let got = other.json(&value, RecordPart::Value, std::iter::empty());
        assert!(matches!(got, Err(JsonError::Invalid(_))), "{text}: {got:?}");
    }
    let deep = format!("{}\"long\"{}", r#"{"type":"array","items":"#.repeat(10_000), "}".repeat(10_000));
    other.learn(id, Ok(deep));
    assert!(other.json(&value, RecordPart::Value, std::iter::empty()).is_err());
    other.learn(id, Err("the registry does not have it".to_owned()));
    let got = other.json(&value, RecordPart::Value, std::iter::empty());
    assert!(matches!(&got, Err(JsonError::Invalid(reject)) if reject.detail.ends_with("does not have it")), "{got:?}");
}

#[test]
fn each_type_as_json() {
    let schema = r#"{"type":"record","name":"R","namespace":"n","fields":[
        {"name":"a","type":["null","string"]},{"name":"b","type":"boolean"},{"name":"f","type":"float"},
        {"name":"d","type":"double"},{"name":"y","type":"bytes"},{"name":"e","type":{"type":"enum","name":"E","symbols":["X","Z"]}},
        {"name":"l","type":{"type":"array","items":"int"}},{"name":"m","type":{"type":"map","values":"long"}},
        {"name":"x","type":{"type":"fixed","name":"F","size":2}},{"name":"n","type":["null","n.F"]}]}"#;
    let mut bytes = vec![2, 4, b'"', b'\n', 1];
    bytes.extend(0.1_f32.to_le_bytes());
    bytes.extend(f64::NEG_INFINITY.to_le_bytes());
    bytes.extend([2, 0xff, 2, 4, 2, 4, 0, 2, 2, b'k', 5, 0, 1, 2, 2, 3, 4]);
    let got = WriterSchema::parse(schema).unwrap().to_json(&bytes).unwrap();
    let got: serde_json::Value = serde_json::from_str(&got).unwrap();
    let payload = serde_json::json!({
        "a": "\"\n", "b": true, "f": 0.1, "d": "-Infinity", "y": "/w==", "e": "Z", "l": [1, 2], "m": {"k": -3}, "x": "AQI=",
        "n": "AwQ="
    });
    assert_eq!(got["payload"], payload);
    let types: Vec<_> = got["schema"]["fields"].as_array().unwrap().iter().map(|field| &field["type"]).collect();
    let expected = ["string", "boolean", "float", "double", "bytes", "string", "array", "map", "bytes", "bytes"];
    assert_eq!(types, expected);
}

/// Avro cannot do without a precision, so converters fill in one that means nothing.
#[test]
fn the_precision_of_a_decimal() {
    let check = |more: &str, want: serde_json::Value| {
        let schema = format!(r#"{{"type":"bytes","logicalType":"decimal","scale":2,"precision":64{more}}}"#);
        let got = WriterSchema::parse(&schema).unwrap().to_json(&[2, 1]).unwrap();
        let got: serde_json::Value = serde_json::from_str(&got).unwrap();
        assert_eq!(got["schema"]["parameters"], want, "{more}");
    };
    check("", serde_json::json!({"scale": "2", "connect.decimal.precision": "64"}));
    check(r#","connect.parameters":{"scale":"2"}"#, serde_json::json!({"scale": "2"}));
    let both = r#"{"scale":"2","connect.decimal.precision":"12"}"#;
    check(&format!(r#","connect.parameters":{both}"#), serde_json::from_str(both).unwrap());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(index in 0..captured().len(), at in 5_usize..400, byte: u8, more in proptest::collection::vec(any::<u8>(), 0..40)) {
        let schemas = schemas();
        let (_, value) = captured().swap_remove(index);
        let mut value = value.unwrap_or_else(|| vec![0, 0, 0, 0, 3]);
        let length = value.len();
        if at < length {
            value[at] = byte;
        }
        value.extend(more);
        if let Ok(json) = schemas.json(&value, RecordPart::Value, std::iter::empty()) {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok());
            let _ = all_columns(&transactions(), AUTO).decode(None, Some(&json));
        }
    }
}
