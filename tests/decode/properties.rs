//! No input panics, and what is written reads back.

use proptest::prelude::*;
use tripline::change::debezium::Settings;
use tripline::change::debezium::full_row::{Declared, FullRowColumn, FullRowDecoder, FullRowTable, table_of};
use tripline::change::full_row::{Field, FieldType};
use tripline::change::{Decoded, decimal, time};
use tripline::model::{ColumnType, DECIMAL_LIMIT, Table, Timestamp, Value};

use crate::full_row::Outcome;
use crate::support::*;

proptest! {
    #[test]
    fn iso_times_are_those_of_chrono(seconds in -62_000_000_000_i64..250_000_000_000, micros in 0_u32..1_000_000) {
        let when = chrono::DateTime::from_timestamp(seconds, micros * 1_000).unwrap();
        for format in [chrono::SecondsFormat::Micros, chrono::SecondsFormat::AutoSi] {
            let text = when.to_rfc3339_opts(format, true);
            prop_assert_eq!(time::from_iso(&text), Ok(Timestamp(when.timestamp_micros())));
        }
    }

    #[test]
    fn no_text_is_too_odd_for_a_time_or_a_number(text in "[-+0-9TZ:.eE]{0,40}", any in ".{0,40}", scale in any::<i32>()) {
        for text in [&text, &any] {
            let _ = time::from_iso(text);
            let _ = decimal::from_text(text, Some(2));
            let _ = decimal::from_text(text, None);
            let _ = decimal::from_base64(text, scale, None);
        }
    }

    #[test]
    fn decimals_round_trip(unscaled in -DECIMAL_LIMIT + 1..DECIMAL_LIMIT, scale in 0_u8..=28) {
        use base64::Engine as _;
        let text = tripline::model::decimal_text(unscaled, scale);
        prop_assert_eq!(decimal::from_text(&text, Some(scale)), Ok(Value::Decimal(unscaled)));
        let base64 = base64::engine::general_purpose::STANDARD.encode(unscaled.to_be_bytes());
        prop_assert_eq!(decimal::from_base64(&base64, scale.into(), Some(scale)), Ok(Value::Decimal(unscaled)));
        let bytes = unscaled.to_be_bytes();
        let minimal = (0..16).rev().find(|&at| {
            let fill = if unscaled < 0 { 0xff } else { 0 };
            bytes[..at].iter().all(|byte| *byte == fill) && (bytes[at] >= 0x80) == (unscaled < 0)
        });
        let base64 = base64::engine::general_purpose::STANDARD.encode(&bytes[minimal.unwrap()..]);
        prop_assert_eq!(decimal::from_base64(&base64, scale.into(), Some(scale)), Ok(Value::Decimal(unscaled)));
    }

    #[test]
    fn bytes_never_panic(key in any::<Option<Vec<u8>>>(), value in any::<Vec<u8>>()) {
        let _ = all_columns(&transactions(), AUTO).decode(key.as_deref(), Some(&value));
        let _ = all_columns(&transactions(), AUTO).decode(Some(&value), None);
        check_whole(FullRowDecoder::new(None, AUTO).decode(key.as_deref(), Some(&value)));
        let _ = table_of(&value, None);
    }

    #[test]
    fn mutated_records_never_panic(pick in any::<proptest::sample::Index>(), edits in prop::collection::vec(
        (any::<proptest::sample::Index>(), any::<u8>(), 0_u8..4), 1..6)) {
        thread_local!(static ALL: Vec<(Table, Settings, Record)> = mutation_pool());
        ALL.with(|all| {
            let (table, settings, (_, key, value)) = &all[pick.index(all.len())];
            let mut decoder = all_columns(table, *settings);
            let mut bytes = value.clone().or(key.clone()).unwrap_or_default().into_bytes();
            let unharmed = bytes.clone();
            let mut wholes = [full_row_decoder(table, *settings), FullRowDecoder::new(None, *settings)];
            // The unharmed one first, so that a schema is known.
            for whole in &mut wholes {
                check_whole(whole.decode(key.as_deref().map(str::as_bytes), Some(&bytes)));
            }
            let _ = decoder.decode(key.as_deref().map(str::as_bytes), Some(&bytes));
            for (place, byte, edit) in &edits {
                if bytes.is_empty() { break; }
                let place = place.index(bytes.len());
                match edit {
                    0 => bytes[place] ^= 1 << (byte % 8),
                    1 => bytes.insert(place, *byte),
                    2 => bytes[place] = b"{}[]\":,0-9.eE"[usize::from(*byte) % 13],
                    _ => bytes.truncate(place.max(1)),
                }
                let _ = decoder.decode(key.as_deref().map(str::as_bytes), Some(&bytes));
                let _ = decoder.decode(Some(&bytes), None);
                for whole in &mut wholes {
                    check_whole(whole.decode(key.as_deref().map(str::as_bytes), Some(&bytes)));
                    check_whole(whole.decode(Some(&bytes), Some(&unharmed)));
                }
                let _ = table_of(&bytes, None);
            }
        });
    }
}

/// The same table as the archive has it, with all else taken for columns that were dropped.
fn full_row_decoder(table: &Table, settings: Settings) -> FullRowDecoder {
    let columns = table.columns.iter().map(|column| {
        let (ty, declared) = match column.ty {
            ColumnType::Int8 => (FieldType::Int64, Declared::Plain),
            ColumnType::Int4 => (FieldType::Int32, Declared::Plain),
            ColumnType::Numeric { scale: Some(scale) } => {
                (FieldType::Decimal { precision: 38, scale }, Declared::Plain)
            }
            ColumnType::Numeric { scale: None } => (FieldType::Text, Declared::Number { scale: None }),
            ColumnType::TimestampTz => (FieldType::TimestampTz, Declared::Plain),
            ColumnType::Timestamp { precision } => (FieldType::Timestamp, Declared::Fraction { digits: precision }),
            ColumnType::Date => (FieldType::Date, Declared::Plain),
            _ => (FieldType::Text, Declared::Plain),
        };
        FullRowColumn { field: Field { name: column.name.clone(), ty }, declared }
    });
    let (schema, name) = (table.schema.clone(), table.name.clone());
    let whole = FullRowTable { schema, name, fields: columns.collect(), primary_key: table.primary_key.clone() };
    let dropped = ["user_id", "t", "t3", "ttz", "iv", "n5_m2", "m", "dp", "r"].map(str::to_owned);
    FullRowDecoder::new(Some(&whole), settings).with_dropped(dropped)
}

/// A change always has as many values as fields.
fn check_whole(got: Outcome) {
    if let Ok(Decoded::Change(change)) = got {
        assert_eq!(change.fields.len(), change.cells.len());
    }
}

fn mutation_pool() -> Vec<(Table, Settings, Record)> {
    let mut pool = Vec::new();
    for (fixture, table, settings) in [
        ("a_schema_precise", transactions(), AUTO),
        ("c_plain_string", transactions(), AUTO),
        ("h_amounts_plain_precise", amounts(), PRECISE),
        ("h_amounts_plain_string", amounts(), STRING),
        ("f_time_adaptive", times(), AUTO),
        ("f_time_isostring", times(), AUTO),
        ("f_time_connect_schema", times(), AUTO),
        ("i_metadata", transactions(), AUTO),
    ] {
        pool.extend(records(fixture).into_iter().map(|record| (table.clone(), settings, record)));
    }
    pool
}
