//! The rows of the writer come back through the reader of the crate `parquet`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use parquet::basic::Encoding;
use parquet::data_type::{ByteArray, Decimal};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field as Read;
use proptest::prelude::*;
use tripline::archive::parquet::{FileWriter, OWN_COLUMNS, WriteError, column_names, footer};
use tripline::change::Op;
use tripline::change::full_row::{Cell, Field, FieldType, FullRowChange};
use tripline::model::{Lsn, Timestamp};

const TOPIC: &str = "food.public.orders";
const PARTITION: i32 = 3;

/// Every type, decimals at the borders of their three representations.
const TYPES: [(&str, FieldType); 18] = [
    ("bool", FieldType::Bool),
    ("int16", FieldType::Int16),
    ("int32", FieldType::Int32),
    ("int64", FieldType::Int64),
    ("float32", FieldType::Float32),
    ("float64", FieldType::Float64),
    ("decimal9", FieldType::Decimal { precision: 9, scale: 2 }),
    ("decimal10", FieldType::Decimal { precision: 10, scale: 2 }),
    ("decimal18", FieldType::Decimal { precision: 18, scale: 18 }),
    ("decimal19", FieldType::Decimal { precision: 19, scale: 0 }),
    ("decimal28", FieldType::Decimal { precision: 28, scale: 4 }),
    ("decimal38", FieldType::Decimal { precision: 38, scale: 10 }),
    ("day", FieldType::Date),
    ("time", FieldType::Time),
    ("timestamp", FieldType::Timestamp),
    ("timestamptz", FieldType::TimestampTz),
    ("text", FieldType::Text),
    ("bytes", FieldType::Bytes),
];

fn fields(fields: &[(&str, FieldType)]) -> Arc<[Field]> {
    fields.iter().map(|(name, ty)| Field { name: (*name).to_owned(), ty: *ty }).collect()
}

fn change(fields: &Arc<[Field]>, cells: Vec<Cell>) -> FullRowChange {
    FullRowChange {
        op: Op::Update,
        lsn: Some(Lsn(22_270_736)),
        tx_id: Some(758),
        committed_at: Timestamp(1_795_311_413_880_123),
        is_described: false,
        fields: Arc::clone(fields),
        cells: cells.into(),
    }
}

fn writer(fields: &Arc<[Field]>) -> FileWriter {
    FileWriter::new(TOPIC, PARTITION, Arc::clone(fields)).unwrap()
}

fn on_disk(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn reader(bytes: &[u8]) -> SerializedFileReader<File> {
    SerializedFileReader::new(on_disk(bytes)).unwrap()
}

fn rows(bytes: &[u8]) -> Vec<Vec<(String, Read)>> {
    reader(bytes).get_row_iter(None).unwrap().map(|row| row.unwrap().into_columns()).collect()
}

/// The reader's value for a cell.
fn as_read(cell: &Cell, ty: FieldType) -> Read {
    match (cell, ty) {
        (Cell::Null, _) => Read::Null,
        (Cell::Bool(value), _) => Read::Bool(*value),
        (Cell::Int(n), FieldType::Int16) => Read::Short((*n).try_into().unwrap()),
        (Cell::Int(n), FieldType::Int32) => Read::Int((*n).try_into().unwrap()),
        (Cell::Int(n), FieldType::Int64) => Read::Long(*n),
        (Cell::Int(n), FieldType::Date) => Read::Date((*n).try_into().unwrap()),
        (Cell::Int(n), FieldType::Time) => Read::TimeMicros(*n),
        (Cell::Int(n), _) => Read::TimestampMicros(*n),
        (Cell::Float(value), FieldType::Float32) => Read::Float(*value as f32),
        (Cell::Float(value), _) => Read::Double(*value),
        (Cell::Decimal(value), FieldType::Decimal { precision, scale }) => Read::Decimal(match precision {
            ..=9 => Decimal::from_i32((*value).try_into().unwrap(), precision.into(), scale.into()),
            10..=18 => Decimal::from_i64((*value).try_into().unwrap(), precision.into(), scale.into()),
            _ => {
                let width = [9, 9, 9, 10, 10, 11, 11, 11, 12, 12, 13, 13, 13, 14, 14, 15, 15, 16, 16, 16];
                let bytes = value.to_be_bytes()[16 - width[usize::from(precision - 19)]..].to_vec();
                Decimal::from_bytes(ByteArray::from(bytes), precision.into(), scale.into())
            }
        }),
        (Cell::Text(text), _) => Read::Str(text.to_string()),
        (Cell::Bytes(bytes), _) => Read::Bytes(bytes.to_vec().into()),
        other => panic!("{other:?}"),
    }
}

/// The row that a change is to come back as.
fn expected(offset: i64, change: &FullRowChange) -> Vec<(String, Read)> {
    let long = |value: Option<i64>| value.map_or(Read::Null, Read::Long);
    let table = column_names(&change.fields).into_iter();
    let table = table.zip(change.cells.iter().zip(change.fields.iter()).map(|(cell, field)| as_read(cell, field.ty)));
    let own = [
        Read::Str(change.op.as_str().to_owned()),
        long(change.lsn.map(|lsn| lsn.0.try_into().unwrap())),
        long(change.tx_id.map(i64::from)),
        Read::Str(TOPIC.to_owned()),
        Read::Int(PARTITION),
        Read::Long(offset),
        Read::TimestampMicros(change.committed_at.0),
    ];
    table.chain(OWN_COLUMNS.map(str::to_owned).into_iter().zip(own)).collect()
}

/// Rows as text: NaN equals NaN there.
fn assert_read_back(bytes: &[u8], changes: &[(i64, FullRowChange)]) {
    let found = rows(bytes);
    assert_eq!(found.len(), changes.len());
    for (row, (offset, change)) in found.iter().zip(changes) {
        assert_eq!(format!("{row:?}"), format!("{:?}", expected(*offset, change)));
    }
    assert_eq!(footer(&on_disk(bytes)).unwrap().rows, changes.len() as u64);
}

#[test]
fn every_type_has_its_own_in_parquet() {
    let bytes = writer(&fields(&TYPES)).finish(&[]).unwrap();
    let mut schema = Vec::new();
    parquet::schema::printer::print_schema(&mut schema, reader(&bytes).metadata().file_metadata().schema());
    let wanted = "message change {
  OPTIONAL BOOLEAN bool;
  OPTIONAL INT32 int16 (INTEGER(16,true));
  OPTIONAL INT32 int32 (INTEGER(32,true));
  OPTIONAL INT64 int64 (INTEGER(64,true));
  OPTIONAL FLOAT float32;
  OPTIONAL DOUBLE float64;
  OPTIONAL INT32 decimal9 (DECIMAL(9,2));
  OPTIONAL INT64 decimal10 (DECIMAL(10,2));
  OPTIONAL INT64 decimal18 (DECIMAL(18,18));
  OPTIONAL FIXED_LEN_BYTE_ARRAY (9) decimal19 (DECIMAL(19,0));
  OPTIONAL FIXED_LEN_BYTE_ARRAY (12) decimal28 (DECIMAL(28,4));
  OPTIONAL FIXED_LEN_BYTE_ARRAY (16) decimal38 (DECIMAL(38,10));
  OPTIONAL INT32 day (DATE);
  OPTIONAL INT64 time (TIME(MICROS,false));
  OPTIONAL INT64 timestamp (TIMESTAMP(MICROS,false));
  OPTIONAL INT64 timestamptz (TIMESTAMP(MICROS,true));
  OPTIONAL BYTE_ARRAY text (STRING);
  OPTIONAL BYTE_ARRAY bytes;
  REQUIRED BYTE_ARRAY op (STRING);
  OPTIONAL INT64 lsn (INTEGER(64,true));
  OPTIONAL INT64 txId (INTEGER(64,true));
  REQUIRED BYTE_ARRAY topic (STRING);
  REQUIRED INT32 partition (INTEGER(32,true));
  REQUIRED INT64 offset (INTEGER(64,true));
  REQUIRED INT64 event_time (TIMESTAMP(MICROS,true));
}
";
    assert_eq!(String::from_utf8(schema).unwrap(), wanted);
}

/// Least, greatest and odd values of a type.
fn extremes(ty: FieldType) -> Vec<Cell> {
    let ints = |values: &[i64]| values.iter().copied().map(Cell::Int).collect();
    match ty {
        FieldType::Bool => vec![Cell::Bool(false), Cell::Bool(true)],
        FieldType::Int16 => ints(&[i16::MIN.into(), i16::MAX.into(), 0]),
        FieldType::Int32 | FieldType::Date => ints(&[i32::MIN.into(), i32::MAX.into(), -1]),
        FieldType::Int64 => ints(&[i64::MIN, i64::MAX, -1, 0]),
        FieldType::Timestamp | FieldType::TimestampTz => ints(&[-i64::MAX, i64::MAX, -1, 0]),
        FieldType::Time => ints(&[0, 86_400_000_000]),
        FieldType::Float32 => [0.1, -0.0, f32::MAX.into(), f32::MIN_POSITIVE.into(), f64::NAN, f64::NEG_INFINITY]
            .map(Cell::Float)
            .to_vec(),
        FieldType::Float64 => {
            [0.1, -0.0, f64::MAX, f64::MIN_POSITIVE, f64::NAN, f64::INFINITY].map(Cell::Float).to_vec()
        }
        FieldType::Decimal { precision, .. } => {
            let greatest = 10_i128.pow(precision.into()) - 1;
            [greatest, -greatest, 0, -1, 128, -129].map(Cell::Decimal).to_vec()
        }
        FieldType::Text => ["", "\0", "Łódź 🍕", &"long ".repeat(210_000)].map(|text| Cell::Text(text.into())).to_vec(),
        FieldType::Bytes => [&[][..], &[0, 255], &[255; 1 << 20]].map(|bytes| Cell::Bytes(bytes.into())).to_vec(),
    }
}

#[test]
fn extremes_come_back() {
    let fields = fields(&TYPES);
    let columns: Vec<Vec<Cell>> = TYPES.iter().map(|(_, ty)| extremes(*ty)).collect();
    let mut file = writer(&fields);
    let mut changes = Vec::new();
    for n in 0..8_usize {
        let cells = columns.iter().map(|values| values.get(n).cloned().unwrap_or(Cell::Null)).collect();
        let ops = [Op::Create, Op::Update, Op::Delete, Op::Read, Op::Truncate];
        let change = FullRowChange {
            op: ops[n % ops.len()],
            lsn: [None, Some(Lsn(i64::MAX as u64)), Some(Lsn(0))][n % 3],
            tx_id: [Some(u32::MAX), None][n % 2],
            committed_at: [Timestamp::MIN, Timestamp::MAX, Timestamp(0)][n % 3],
            ..change(&fields, cells)
        };
        let offset = [i64::MAX, 0, 7][n % 3];
        file.push(offset, &change).unwrap();
        changes.push((offset, change));
    }
    assert_read_back(&file.finish(&[]).unwrap(), &changes);
}

#[test]
fn rows_become_groups_when_told_to() {
    let fields = fields(&[("id", FieldType::Int64), ("note", FieldType::Text)]);
    let mut file = writer(&fields);
    file.flush().unwrap();
    let mut changes = Vec::new();
    for offset in 0..50_i64 {
        let note = if offset % 3 == 0 { Cell::Null } else { Cell::Text(format!("note {offset}").into()) };
        let change = change(&fields, vec![Cell::Int(offset), note]);
        file.push(offset, &change).unwrap();
        changes.push((offset, change));
        if offset % 10 == 9 {
            assert!(file.pending() > 10 * 40 && file.memory() > file.pending(), "{}", file.pending());
            file.flush().unwrap();
            file.flush().unwrap();
            assert_eq!(file.pending(), 0);
            assert!(file.memory() > 0, "what is encoded is held");
        }
        assert_eq!(file.rows(), changes.len() as u64);
    }
    let bytes = file.finish(&[]).unwrap();
    assert_eq!(reader(&bytes).metadata().num_row_groups(), 5);
    assert_read_back(&bytes, &changes);
}

#[test]
fn rows_become_groups_by_themselves_when_they_are_many() {
    let fields = fields(&[]);
    let mut file = writer(&fields);
    let change = change(&fields, vec![]);
    for offset in 0..131_073 {
        file.push(offset, &change).unwrap();
    }
    let bytes = file.finish(&[]).unwrap();
    let reader = reader(&bytes);
    let groups: Vec<i64> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(groups, [131_072, 1]);
    assert_eq!(footer(&on_disk(&bytes)).unwrap().rows, 131_073);
    assert!(bytes.len() < 200_000, "{} bytes for rows that hardly differ", bytes.len());
}

#[test]
fn rows_become_groups_by_themselves_when_they_are_big() {
    let fields = fields(&[("menu", FieldType::Text)]);
    let mut file = writer(&fields);
    let change = change(&fields, vec![Cell::Text("x".repeat(1 << 20).into())]);
    let mut most = 0;
    for offset in 0..130 {
        file.push(offset, &change).unwrap();
        most = most.max(file.pending());
        assert!(file.memory() < 200 << 20, "{}", file.memory());
    }
    assert!((63 << 20..64 << 20).contains(&most), "{most}");
    let bytes = file.finish(&[]).unwrap();
    assert_eq!(reader(&bytes).metadata().num_row_groups(), 3);
    assert_read_back(&bytes, &(0..130).map(|offset| (offset, change.clone())).collect::<Vec<_>>());
}

#[test]
fn a_table_without_columns_and_a_file_without_rows() {
    let none = fields(&[]);
    let mut file = writer(&none);
    let change = FullRowChange { op: Op::Truncate, lsn: None, tx_id: None, ..change(&none, vec![]) };
    file.push(5, &change).unwrap();
    assert_read_back(&file.finish(&[]).unwrap(), &[(5, change)]);
    assert_read_back(&writer(&fields(&TYPES)).finish(&[]).unwrap(), &[]);
}

#[test]
fn names_that_are_taken_get_underscores() {
    let check = |names: &[&str], wanted: &[&str]| {
        let fields: Vec<(&str, FieldType)> = names.iter().map(|name| (*name, FieldType::Text)).collect();
        let fields = self::fields(&fields);
        assert_eq!(column_names(&fields), wanted, "{names:?}");
        let bytes = writer(&fields).finish(&[]).unwrap();
        let metadata = reader(&bytes).metadata().file_metadata().schema_descr_ptr();
        let found: Vec<&str> = metadata.columns().iter().map(|column| column.name()).collect();
        assert_eq!(found, [wanted, &OWN_COLUMNS].concat());
    };
    check(&["id", "status"], &["id", "status"]);
    check(&["op", "lsn", "txId", "topic"], &["_op", "_lsn", "_txId", "_topic"]);
    check(&["partition", "offset", "event_time", "date"], &["_partition", "_offset", "_event_time", "_date"]);
    check(&["OP", "txid", "Date"], &["_OP", "_txid", "_Date"]);
    check(&["op", "_op", "__op"], &["_op", "__op", "___op"]);
    check(&["_op", "op"], &["_op", "__op"]);
    check(&["Name", "name", "NAME"], &["Name", "_name", "__NAME"]);
    check(&["op.kind", "a b", "x\"y", "größe", "date "], &["op.kind", "a b", "x\"y", "größe", "date "]);
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_the_file_as_it_was() {
    let fields = fields(&TYPES);
    let fitting = change(&fields, TYPES.iter().map(|(_, ty)| extremes(*ty).swap_remove(0)).collect());
    let mut file = writer(&fields);
    file.push(0, &fitting).unwrap();
    let pending = file.pending();
    let mut refused = |change: &FullRowChange, wanted: &str| {
        let Err(error @ WriteError::Misfit { offset: 7, .. }) = file.push(7, change) else {
            panic!("{wanted}: not refused");
        };
        let wanted = format!("the change at offset 7 of {TOPIC}-3 does not fit its archive file: {wanted}");
        assert_eq!(error.to_string(), wanted);
        assert_eq!((file.rows(), file.pending()), (1, pending));
    };
    let int = Cell::Int;
    for (column, cell, wanted) in [
        ("bool", int(1), "an integer in a column of Bool"),
        ("int16", int(32_768), "32768 does not fit smallint"),
        ("int32", int(-2_147_483_649), "-2147483649 does not fit integer"),
        ("int32", Cell::Decimal(1), "a decimal in a column of Int32"),
        ("int64", Cell::Text("1".into()), "a text in a column of Int64"),
        ("float32", Cell::Float(3.5e38), "3.5e38 does not fit real"),
        ("float64", int(1), "an integer in a column of Float64"),
        ("decimal9", Cell::Decimal(1_000_000_000), "10000000.00 does not fit numeric(9,2)"),
        ("decimal10", int(5), "an integer in a column of Decimal { precision: 10, scale: 2 }"),
        ("decimal18", Cell::Decimal(-10_i128.pow(18)), "-1.000000000000000000 does not fit numeric(18,18)"),
        (
            "decimal38",
            Cell::Decimal(i128::MIN),
            "-17014118346046923173168730371.5884105728 does not fit numeric(38,10)",
        ),
        ("day", int(i64::MAX), "9223372036854775807 days from 1970-01-01 are past every date"),
        ("time", int(86_400_000_001), "86400000001 microseconds are no time of a day"),
        ("time", int(-1), "-1 microseconds are no time of a day"),
        ("timestamptz", Cell::Float(0.0), "a float in a column of TimestampTz"),
        ("text", Cell::Bytes([1].into()), "bytes in a column of Text"),
        ("bytes", Cell::Text("a".into()), "a text in a column of Bytes"),
    ] {
        let mut change = fitting.clone();
        let at = TYPES.iter().position(|(name, _)| *name == column).unwrap();
        change.cells[at] = cell;
        refused(&change, &format!("column {column:?}: {wanted}"));
    }
    refused(&change(&fields, vec![Cell::Null]), "1 values for 18 columns");
    refused(&change(&self::fields(&TYPES[1..]), vec![]), "its table has other columns than the file");
    refused(&FullRowChange { op: Op::Tombstone, ..fitting.clone() }, "a tombstone is no row");
    refused(&FullRowChange { lsn: Some(Lsn(1 << 63)), ..fitting.clone() }, "LSN 9223372036854775808 is past 2^63");
    let same = FullRowChange { fields: self::fields(&TYPES), ..fitting.clone() };
    file.push(1, &same).unwrap();
    assert_read_back(&file.finish(&[]).unwrap(), &[(0, fitting), (1, same)]);
}

#[test]
fn a_decimal_that_parquet_does_not_have_is_refused() {
    for (precision, scale) in [(0, 0), (39, 0), (4, 5), (255, 255)] {
        let fields = fields(&[("price", FieldType::Decimal { precision, scale })]);
        let Err(error) = FileWriter::new(TOPIC, 0, fields) else { panic!("numeric({precision},{scale})") };
        let wanted = format!(
            "column \"price\" cannot be archived: numeric({precision},{scale}) is no decimal of Parquet; it would have to be text"
        );
        assert_eq!(error.to_string(), wanted);
    }
}

#[test]
fn the_footer_says_what_it_was_given() {
    let about = [("tripline.epoch", "17"), ("tripline.lineage", "019"), ("empty", "")];
    let bytes = writer(&fields(&TYPES)).finish(&about).unwrap();
    let wanted: BTreeMap<String, String> = about.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let found = footer(&on_disk(&bytes)).unwrap();
    assert_eq!((found.rows, found.about), (0, wanted));
    let by = reader(&bytes).metadata().file_metadata().created_by().map(str::to_owned);
    assert_eq!(by.as_deref(), Some(concat!("tripline version ", env!("CARGO_PKG_VERSION"))));
    for length in 0..bytes.len() {
        assert!(footer(&on_disk(&bytes[..length])).is_err(), "cut at {length}");
    }
}

#[test]
fn columns_are_encoded_by_what_they_hold() {
    let fields = fields(&[("id", FieldType::Int64), ("code", FieldType::Text), ("status", FieldType::Text)]);
    let mut file = writer(&fields);
    for offset in 0..5_000 {
        let code = Cell::Text(format!("code {offset}").into());
        let status = Cell::Text((if offset % 2 == 0 { "placed" } else { "delivered" }).into());
        file.push(offset, &change(&fields, vec![Cell::Int(offset * 7), code, status])).unwrap();
    }
    let bytes = file.finish(&[]).unwrap();
    let reader = reader(&bytes);
    let group = reader.metadata().row_group(0);
    for (at, wanted) in [
        Encoding::DELTA_BINARY_PACKED, // id
        Encoding::PLAIN,               // code
        Encoding::RLE_DICTIONARY,      // status
        Encoding::RLE_DICTIONARY,      // op
        Encoding::DELTA_BINARY_PACKED, // lsn
        Encoding::DELTA_BINARY_PACKED, // txId
        Encoding::RLE_DICTIONARY,      // topic
        Encoding::RLE_DICTIONARY,      // partition
        Encoding::DELTA_BINARY_PACKED, // offset
        Encoding::DELTA_BINARY_PACKED, // event_time
    ]
    .into_iter()
    .enumerate()
    {
        let column = group.column(at);
        let dictionary = column.dictionary_page_offset().is_some();
        assert!(column.encodings().any(|encoding| encoding == wanted), "{}", column.column_path());
        assert_eq!(dictionary, wanted == Encoding::RLE_DICTIONARY, "{}", column.column_path());
        assert!(column.statistics().is_some_and(|found| found.min_bytes_opt().is_some()), "{}", column.column_path());
        assert!(column.column_index_range().is_some(), "{}", column.column_path());
    }
}

fn cell(ty: FieldType) -> BoxedStrategy<Cell> {
    let some = match ty {
        FieldType::Bool => any::<bool>().prop_map(Cell::Bool).boxed(),
        FieldType::Int16 => any::<i16>().prop_map(|n| Cell::Int(n.into())).boxed(),
        FieldType::Int32 | FieldType::Date => any::<i32>().prop_map(|n| Cell::Int(n.into())).boxed(),
        FieldType::Time => (0_i64..86_400_000_000).prop_map(Cell::Int).boxed(),
        FieldType::Int64 | FieldType::Timestamp | FieldType::TimestampTz => any::<i64>().prop_map(Cell::Int).boxed(),
        FieldType::Float32 => any::<f32>().prop_map(|value| Cell::Float(value.into())).boxed(),
        FieldType::Float64 => any::<f64>().prop_map(Cell::Float).boxed(),
        FieldType::Decimal { precision, .. } => {
            any::<i128>().prop_map(move |n| Cell::Decimal(n % 10_i128.pow(precision.into()))).boxed()
        }
        FieldType::Text => ".{0,20}".prop_map(|text| Cell::Text(text.into())).boxed(),
        FieldType::Bytes => any::<Vec<u8>>().prop_map(|bytes| Cell::Bytes(bytes.into())).boxed(),
    };
    prop_oneof![1 => Just(Cell::Null), 3 => some].boxed()
}

/// Columns of any types, and rows with any values of these.
fn table() -> impl Strategy<Value = (Vec<FieldType>, Vec<Vec<Cell>>)> {
    let decimal = (1_u8..=38, 0_u8..=38)
        .prop_map(|(precision, scale)| FieldType::Decimal { precision, scale: scale.min(precision) });
    let ty = prop_oneof![3 => prop::sample::select(TYPES.map(|(_, ty)| ty).to_vec()), 1 => decimal];
    prop::collection::vec(ty, 0..6).prop_flat_map(|types| {
        let row: Vec<BoxedStrategy<Cell>> = types.iter().map(|ty| cell(*ty)).collect();
        (Just(types), prop::collection::vec(row, 0..40))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_rows_come_back((types, rows) in table(), every in 1_usize..40) {
        let named: Vec<(String, FieldType)> = types.into_iter().enumerate().map(|(n, ty)| (format!("c{n}"), ty)).collect();
        let named: Vec<(&str, FieldType)> = named.iter().map(|(name, ty)| (name.as_str(), *ty)).collect();
        let fields = fields(&named);
        let changes: Vec<(i64, FullRowChange)> = (0..).zip(rows.into_iter().map(|cells| change(&fields, cells))).collect();
        let write = || {
            let mut file = writer(&fields);
            for (n, (offset, change)) in changes.iter().enumerate() {
                file.push(*offset, change).unwrap();
                if n % every == 0 {
                    file.flush().unwrap();
                }
            }
            file.finish(&[]).unwrap()
        };
        let bytes = write();
        assert_read_back(&bytes, &changes);
        prop_assert!(bytes == write(), "the same rows, other bytes");
    }

    #[test]
    fn a_damaged_footer_is_an_error_or_another_footer(at in 0_usize..10_000, byte in any::<u8>()) {
        let fields = fields(&TYPES);
        let mut file = writer(&fields);
        file.push(0, &change(&fields, TYPES.iter().map(|(_, ty)| extremes(*ty).swap_remove(0)).collect())).unwrap();
        let mut bytes = file.finish(&[("tripline.epoch", "17")]).unwrap();
        let at = bytes.len() - 1 - at % bytes.len();
        bytes[at] = byte;
        let _ = footer(&on_disk(&bytes));
    }
}
