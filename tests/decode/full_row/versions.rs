//! Records without schema of a table whose columns have changed their types.

use tripline::change::debezium::TableSource;
use tripline::change::debezium::full_row::versions::{Between, TableLook, TableVersions};
use tripline::change::debezium::full_row::{FullRowDecoder, FullRowTable};
use tripline::change::full_row::{Cell, FieldType};
use tripline::change::{Decoded, RejectKind};
use tripline::model::Lsn;

use super::{plain, table};
use crate::support::PRECISE;

const LSN: &str = "\"source\":{\"lsn\":";

fn look(at: u64, table: &FullRowTable) -> TableLook {
    let source = TableSource { database: "d".into(), key_is_made_up: false, is_full: false };
    TableLook { server: "7".into(), before: Lsn(at), after: Lsn(at), table: table.clone(), source }
}

/// `price` had two digits after the point up to position 20, and four from 30 on. `n` was an integer, and is a bigint
/// since.
fn decoder(between: Option<Between>) -> FullRowDecoder {
    let of = |price, n| {
        let price = plain(FieldType::Decimal { precision: 12, scale: price });
        table("public.t", &[("id", plain(FieldType::Int64)), ("price", price), ("n", plain(n))])
    };
    let (then, now) = (of(2, FieldType::Int32), of(4, FieldType::Int64));
    let mut versions = TableVersions::default();
    versions.note(&look(10, &then));
    versions.note(&look(20, &then));
    versions.note(&look(30, &now));
    FullRowDecoder::new(Some(&now), PRECISE).with_versions(&versions, PRECISE, between)
}

/// `price` and `n` of a record at this position: the bytes of 15,000, and this number.
fn read(decoder: &mut FullRowDecoder, lsn: u64, n: i64) -> Result<(FieldType, Cell, Cell), RejectKind> {
    let text = format!(
        r#"{{"op":"c",{LSN}{lsn},"txId":7,"schema":"public","table":"t","ts_ms":1}},"after":{{"id":1,"price":"Opg=","n":{n}}}}}"#
    );
    match decoder.decode(None, Some(text.as_bytes())) {
        Ok(Decoded::Change(change)) => {
            assert!(!change.is_described);
            Ok((change.fields[1].ty, change.cells[1].clone(), change.cells[2].clone()))
        }
        Ok(other) => panic!("{other:?}"),
        Err(reject) => Err(reject.kind),
    }
}

#[test]
fn each_is_read_by_what_the_table_was_at_its_position() {
    let price = |scale| FieldType::Decimal { precision: 12, scale };
    let mut decoder = decoder(None);
    let got = |scale, n| Ok((price(scale), Cell::Decimal(15_000), Cell::Int(n)));
    assert_eq!(read(&mut decoder, 5, 1), got(2, 1));
    assert_eq!(read(&mut decoder, 20, 1), got(2, 1));
    assert_eq!(read(&mut decoder, 30, 1), got(4, 1));
    assert_eq!(read(&mut decoder, 21, 1), Err(RejectKind::Between));
    // What only one of the two can have written is that one's.
    assert_eq!(read(&mut decoder, 21, 5_000_000_000), got(4, 5_000_000_000));
    let (mut before, mut after) = (self::decoder(Some(Between::Before)), self::decoder(Some(Between::After)));
    assert_eq!(read(&mut before, 21, 1), got(2, 1));
    assert_eq!(read(&mut after, 21, 1), got(4, 1));
    assert_eq!(read(&mut after, 20, 1), got(2, 1));
}

/// An incremental snapshot has no position: any version may have written it.
#[test]
fn without_a_position_all_versions_have_to_agree() {
    let of = |scale| {
        let price = plain(FieldType::Decimal { precision: 12, scale });
        table("public.t", &[("id", plain(FieldType::Int64)), ("price", price)])
    };
    let mut versions = TableVersions::default();
    for (at, scale) in [(10, 2), (20, 4), (30, 2)] {
        versions.note(&look(at, &of(scale)));
    }
    let mut decoder = FullRowDecoder::new(Some(&of(2)), PRECISE).with_versions(&versions, PRECISE, None);
    let text = r#"{"op":"r","source":{"schema":"public","table":"t","ts_ms":1},"after":{"id":1,"price":"Opg="}}"#;
    let read = decoder.decode(None, Some(text.as_bytes()));
    assert!(read.as_ref().is_err_and(|reject| reject.kind == RejectKind::Between), "{read:?}");
}

#[test]
fn what_says_the_same_by_both_is_no_doubt() {
    let of = |n| table("public.t", &[("id", plain(FieldType::Int64)), ("n", plain(n))]);
    let mut versions = TableVersions::default();
    versions.note(&look(20, &of(FieldType::Int32)));
    versions.note(&look(30, &of(FieldType::Int64)));
    let mut decoder = FullRowDecoder::new(Some(&of(FieldType::Int64)), PRECISE).with_versions(&versions, PRECISE, None);
    let text = format!(r#"{{"op":"c",{LSN}25,"schema":"public","table":"t","ts_ms":1}},"after":{{"id":1,"n":3}}}}"#);
    let Ok(Decoded::Change(change)) = decoder.decode(None, Some(text.as_bytes())) else { panic!() };
    assert_eq!((change.fields[1].ty, &change.cells[1]), (FieldType::Int64, &Cell::Int(3)));
}
