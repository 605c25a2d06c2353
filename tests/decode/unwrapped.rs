//! Rows that ExtractNewRecordState has unwrapped, in every delete mode: the same changes as those of the envelope.

use tripline::change::debezium::{Settings, Shape};
use tripline::change::{Decoded, Op, RejectKind};
use tripline::model::{Key, Lsn, Timestamp};

use crate::support::*;

const ROW: Settings = Settings { shape: Shape::Row, ..STRING };
const ENVELOPE: Settings = Settings { shape: Shape::Envelope, ..STRING };

/// The changes of the same SQL in envelopes. The transform drops truncates, and a tombstone repeats the delete before
/// it.
fn expected() -> Vec<Essence> {
    let mut changes = essence(changes(&transactions(), "c_plain_string", STRING));
    changes.retain(|(op, ..)| !matches!(op, Op::Truncate | Op::Tombstone));
    changes
}

fn unwrapped(fixture: &str, settings: Settings) -> Vec<Essence> {
    let mut changes = essence(changes(&transactions(), fixture, settings));
    if fixture != "e_unwrap_delete_to_tombstone" {
        changes.retain(|(op, ..)| *op != Op::Tombstone);
    }
    changes
}

#[test]
fn every_delete_mode() {
    for settings in [STRING, ROW] {
        assert_eq!(unwrapped("e_unwrap_rewrite", settings), expected());
        assert_eq!(unwrapped("e_unwrap_rewrite_with_tombstone", settings), expected());
        let mut tombstones = expected();
        for (op, ..) in tombstones.iter_mut().filter(|(op, ..)| *op == Op::Delete) {
            *op = Op::Tombstone;
        }
        assert_eq!(unwrapped("e_unwrap_delete_to_tombstone", settings), tombstones);
        let mut kept = expected();
        kept.retain(|(op, ..)| *op != Op::Delete);
        assert_eq!(unwrapped("e_unwrap_drop", settings), kept);
    }
    // Whoever says that there are envelopes wants to know.
    let refused = replay(&transactions(), "e_unwrap_rewrite", ENVELOPE);
    assert!(refused.iter().all(|got| got.as_ref().is_err_and(|reject| reject.kind == RejectKind::Envelope)));
}

#[test]
fn what_add_fields_brings() {
    let row = r#""id":7,"user_id":1,"amount":"1.00","timestamp":"infinity","merchant":null,"status":"x""#;
    let outcome = |more: &str| match decode(&transactions(), AUTO, None, &format!("{{{row}{more}}}")) {
        Ok(Decoded::Change(change)) => {
            format!(
                "{} {:?} {:?} {:?} {:?}",
                change.op.as_str(),
                change.pk,
                change.lsn,
                change.tx_id,
                change.committed_at
            )
        }
        Ok(Decoded::Ignored(why)) => why.to_owned(),
        Ok(Decoded::Partial(_, reject)) | Err(reject) => format!("{}: {reject}", reject.kind),
    };
    let all = |op: &str, lsn: Option<u64>, tx: Option<u32>, at: Option<i64>| {
        format!("{op} {:?} {:?} {tx:?} {:?}", Some(Key::Int(7)), lsn.map(Lsn), at.map(Timestamp))
    };
    for (more, expected) in [
        ("", all("u", None, None, None)),
        (r#","__deleted":"false""#, all("u", None, None, None)),
        (r#","__deleted":"true""#, all("d", None, None, None)),
        (r#","__deleted":true,"__op":"d""#, all("d", None, None, None)),
        (r#","__op":"d""#, all("d", None, None, None)),
        (r#","__op":"c","__lsn":9,"__txId":8,"__source_ts_ms":7"#, all("c", Some(9), Some(8), Some(7_000))),
        (r#","__op":"r","__source_lsn":9,"__source_txId":8,"__source_ts_us":7"#, all("r", Some(9), Some(8), Some(7))),
        // When the connector wrote it is not when it was committed.
        (r#","__op":"u","__ts_ms":7,"__lsn":null,"__else":[{}]"#, all("u", None, None, None)),
        (r#","__table":"transactions","__schema":"streaming""#, all("u", None, None, None)),
        (r#","__table":"other""#, "table: source says".to_owned()),
        (r#","__op":"x""#, "envelope: op is \"x\"".to_owned()),
        (r#","__op":5"#, "envelope: the row has not the form".to_owned()),
        (r#","__lsn":"9""#, "envelope: source.lsn".to_owned()),
    ] {
        let got = outcome(more);
        assert!(got.starts_with(&expected), "{more}: {got}, expected {expected}");
    }
}

/// A table may have columns that are called as the parts of an envelope.
#[test]
fn columns_that_are_called_like_an_envelope() {
    use tripline::model::ColumnType;
    let names = ["id", "op", "after", "source", "before", "payload", "schema"];
    let column = |name: &&'static str| (*name, if *name == "id" { ColumnType::Int8 } else { ColumnType::Text });
    let columns: Vec<_> = names.iter().map(column).collect();
    let table = table("s.t", &columns);
    let value =
        r#"{"id":1,"op":"c","after":"a","source":"s","before":"b","payload":"p","schema":"{}","__deleted":"false"}"#;
    let check = |settings: Settings, value: &str| {
        let Ok(Decoded::Change(change)) = decode(&table, settings, None, value) else {
            panic!("{:?}", decode(&table, settings, None, value))
        };
        let row = change.row.unwrap();
        assert_eq!((change.op, &row[1], &row[6]), (Op::Update, &text("c"), &text("{}")));
    };
    check(ROW, value);
    check(AUTO, value);
    let fields: Vec<String> = names
        .iter()
        .map(|name| format!(r#"{{"field":"{name}","type":"{}"}}"#, if *name == "id" { "int64" } else { "string" }))
        .collect();
    let schema = format!(r#"{{"type":"struct","fields":[{}]}}"#, fields.join(","));
    check(ROW, &format!(r#"{{"schema":{schema},"payload":{value}}}"#));
}

/// A row that lacks columns may be of another table in the same topic: nothing is taken away for it, and the reason names the fields to add.
#[test]
fn a_row_that_may_be_another_tables() {
    let outcome = |row: &str| match decode(&transactions(), ROW, None, row) {
        Ok(Decoded::Change(change)) => change.op.as_str().to_owned(),
        Ok(Decoded::Partial(change, reject)) => format!("{} {}", change.op.as_str(), reject.detail),
        Ok(Decoded::Ignored(why)) => why.to_owned(),
        Err(reject) => reject.detail,
    };
    let whole = r#""id":7,"user_id":1,"amount":"1.00","timestamp":"2026-03-01T00:00:00Z","merchant":null,"status":"x""#;
    let deleted = r#""__deleted":"true","__op":"d","__lsn":9"#;
    assert_eq!(outcome(&format!("{{{whole},{deleted}}}")), "d");
    assert_eq!(outcome(&format!(r#"{{"id":7,"name":"y",{deleted}}}"#)), "tombstone");
    assert_eq!(outcome(&format!(r#"{{"id":7,"name":"y",{deleted},"__table":"transactions"}}"#)), "d");
    let (hint, row) = ("add source.schema and source.table", r#""id":7,"name":"y","__op":"c","__lsn":9"#);
    let said = outcome(&format!("{{{row}}}"));
    assert!(said.contains("\"user_id\"") && said.contains(hint), "{said}");
    let said = outcome(&format!(r#"{{{row},"__table":"transactions"}}"#));
    assert!(said.contains("\"user_id\"") && !said.contains(hint), "{said}");
}
