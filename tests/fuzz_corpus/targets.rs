//! The fuzz targets. Each takes any bytes, and panics if the program does or if its answer cannot be right. The
//! programs of `fuzz/` run them on generated inputs, and `cargo test --test fuzz_corpus` on the stored inputs.

use std::path::Path;
use std::sync::Arc;

use tripline::change::avro::WriterSchema;
use tripline::change::debezium::full_row::{Declared, FullRowColumn, FullRowDecoder, FullRowTable, table_of};
use tripline::change::debezium::{BinaryHandling, DecimalHandling, Decoder, Settings, Shape, TimePrecision};
use tripline::change::decimal::{self, exact};
use tripline::change::full_row::{Cell, Field, FieldType, FullRowChange};
use tripline::change::time;
use tripline::change::{Decoded, Reject};
use tripline::checkpoint::disk::Disk;
use tripline::checkpoint::{Folder, file};
use tripline::fakes::disk::MemoryDisk;
use tripline::model::{Column, ColumnType, DECIMAL_LIMIT, Table, Timestamp, Value};
use tripline::rule::message::Template;
use tripline::rule::{Confirm, Rule, Time, compile, parse, render};
use tripline::unit::stored::Decisions;
use tripline::unit::{Unit, UnitSettings};

/// A target's name and what it does with an input.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const TARGETS: [Target; 7] = [
    ("avro", avro),
    ("checkpoint", checkpoint),
    ("decimal", decimal),
    ("envelope", envelope),
    ("archive", archive),
    ("rule", rule),
    ("time", time),
];

/// Between the key and the value of a record, and between a schema and a value: no JSON has it.
const SEPARATOR: u8 = 0x1e;

/// The longest reason, and what `bounded` adds to it when control characters are written out.
const REASON_MAX: usize = 1_024 * 10;

fn table() -> Table {
    let columns = [
        ("id", ColumnType::Int8),
        ("user_id", ColumnType::Int4),
        ("amount", ColumnType::Numeric { scale: Some(2) }),
        ("timestamp", ColumnType::TimestampTz),
        ("merchant", ColumnType::Text),
        ("ts", ColumnType::Timestamp { precision: 3 }),
        ("d", ColumnType::Date),
        ("n", ColumnType::Numeric { scale: None }),
        ("whole", ColumnType::Numeric { scale: Some(0) }),
        ("flag", ColumnType::Bool),
    ];
    let column = |(name, ty): (&str, ColumnType)| Column {
        name: name.to_owned(),
        type_name: format!("{ty:?}"),
        ty,
        nullable: true,
        has_default: false,
    };
    Table {
        schema: "streaming".to_owned(),
        name: "transactions".to_owned(),
        columns: columns.into_iter().map(column).collect(),
        primary_key: vec![0],
    }
}

fn full_row_table() -> FullRowTable {
    let columns = [
        ("id", FieldType::Int64, Declared::Plain),
        ("user_id", FieldType::Int32, Declared::Plain),
        ("amount", FieldType::Decimal { precision: 12, scale: 2 }, Declared::Plain),
        ("timestamp", FieldType::TimestampTz, Declared::Plain),
        ("merchant", FieldType::Text, Declared::Plain),
        ("ts", FieldType::Timestamp, Declared::Fraction { digits: 3 }),
        ("d", FieldType::Date, Declared::Plain),
        ("n", FieldType::Text, Declared::Number { scale: None }),
        ("t", FieldType::Time, Declared::Fraction { digits: 6 }),
        ("b", FieldType::Bytes, Declared::Plain),
        ("f", FieldType::Float64, Declared::Plain),
        ("r", FieldType::Float32, Declared::Plain),
        ("flag", FieldType::Bool, Declared::Plain),
    ];
    let column = |(name, ty, declared): (&str, FieldType, Declared)| FullRowColumn {
        field: Field { name: name.to_owned(), ty },
        declared,
    };
    FullRowTable {
        schema: "streaming".to_owned(),
        name: "transactions".to_owned(),
        fields: columns.into_iter().map(column).collect(),
        primary_key: vec![0],
    }
}

/// The connector's settings, from the bits of a byte.
fn settings(selector: u8) -> Settings {
    Settings {
        decimals: match selector & 3 {
            0 => DecimalHandling::Auto,
            1 => DecimalHandling::String,
            2 => DecimalHandling::Precise,
            _ => DecimalHandling::Double,
        },
        times: match selector >> 2 & 7 {
            0 | 1 => TimePrecision::Adaptive,
            2 => TimePrecision::AdaptiveTimeMicroseconds,
            3 => TimePrecision::Microseconds,
            4 => TimePrecision::Nanoseconds,
            5 => TimePrecision::Connect,
            _ => TimePrecision::Isostring,
        },
        binary: if selector & 0x80 == 0 { BinaryHandling::Auto } else { BinaryHandling::Hex },
        shape: match selector >> 5 & 3 {
            0 | 1 => Shape::Auto,
            2 => Shape::Envelope,
            _ => Shape::Row,
        },
    }
}

/// The bytes before the separator, where there is one, and those behind it.
fn two_parts(bytes: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match bytes.iter().position(|byte| *byte == SEPARATOR) {
        Some(at) => (Some(&bytes[..at]), &bytes[at + 1..]),
        None => (None, bytes),
    }
}

/// A reason is for a log: short, and nothing in it acts on a terminal.
fn check_reason(reject: &Reject) {
    assert!(!reject.detail.is_empty());
    assert!(reject.detail.len() <= REASON_MAX, "{} bytes", reject.detail.len());
    assert!(!reject.detail.contains(tripline::model::text::acts_on_terminal), "{:?}", reject.detail);
}

/// The monitor's decoder. The first byte selects the connector's settings. A key may stand before the value.
pub(crate) fn envelope(data: &[u8]) {
    let Some((selector, rest)) = data.split_first() else { return };
    let (key, value) = two_parts(rest);
    let table = table();
    let wanted: Vec<usize> = (1..table.columns.len()).collect();
    let mut decoder = Decoder::new(&table, &wanted, settings(*selector)).expect("a decoder of this table");
    let first = decoder.decode(key, Some(value));
    // What a decoder has learnt changes nothing.
    assert_eq!(decoder.decode(key, Some(value)), first);
    let _ = decoder.decode(Some(value), None);
    assert_eq!(decoder.decode(key, Some(value)), first);
    match first {
        Ok(Decoded::Change(change)) => {
            assert!(change.holes.iter().all(|hole| change.row.as_ref().is_some_and(|row| hole.slot < row.len())));
            if let Some(row) = &change.row {
                assert_eq!(row.len(), wanted.len());
                row.iter().for_each(check_value);
            }
        }
        Ok(Decoded::Partial(change, reject)) => {
            assert!(!change.holes.is_empty());
            check_reason(&reject);
        }
        Ok(Decoded::Ignored(_)) => {}
        Err(reject) => check_reason(&reject),
    }
}

/// Whether a reason shows the number or the time that it is about. Few digits may be there by chance, and with letters between them
/// they may be taken from the reason itself.
fn repeats(why: &str, text: &str) -> bool {
    let is_sign = |byte: u8| b"+-.:TZeE".contains(&byte);
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let is_value = text.bytes().all(|byte| byte.is_ascii_digit() || is_sign(byte));
    is_value && digits >= 8 && why.contains(text) && !"2026-03-01T12:34:56.123456Z".contains(text)
}

/// Checks a value in memory.
fn check_value(value: &Value) {
    if let Value::Decimal(unscaled) = value {
        assert!(unscaled.unsigned_abs() < DECIMAL_LIMIT.unsigned_abs(), "{unscaled}");
    }
    if let Value::Text(text) = value {
        assert!(!text.contains('\0'));
    }
}

/// The archive's decoder, with the catalog and without.
pub(crate) fn archive(data: &[u8]) {
    let Some((selector, rest)) = data.split_first() else { return };
    let (key, value) = two_parts(rest);
    let table = full_row_table();
    for table in [Some(&table), None] {
        let mut decoder = FullRowDecoder::new(table, settings(*selector));
        let first = decoder.decode(key, Some(value));
        let again = decoder.decode(key, Some(value));
        if table.is_some() {
            // Debug, since a NaN is not equal to itself.
            assert_eq!(format!("{again:?}"), format!("{first:?}"));
        }
        match first {
            Ok(Decoded::Change(change)) => {
                assert_eq!(change.fields.len(), change.cells.len());
                if table.is_some() {
                    check_same(&change, *selector, key, value);
                }
            }
            Ok(Decoded::Partial(_, reject)) | Err(reject) => check_reason(&reject),
            Ok(Decoded::Ignored(_)) => {}
        }
    }
    let _ = table_of(value, None);
}

/// Where the monitor's decoder reads the record as well, both say the same.
fn check_same(whole: &FullRowChange, selector: u8, key: Option<&[u8]>, value: &[u8]) {
    let table = table();
    let wanted: Vec<usize> = (0..table.columns.len()).collect();
    let mut decoder = Decoder::new(&table, &wanted, settings(selector)).expect("a decoder of this table");
    let (Ok(Decoded::Change(change)) | Ok(Decoded::Partial(change, _))) = decoder.decode(key, Some(value)) else {
        return;
    };
    assert_eq!((change.op, change.lsn, change.tx_id), (whole.op, whole.lsn, whole.tx_id));
    let Some(row) = &change.row else { return };
    for (column, value) in table.columns.iter().zip(row) {
        let at = whole.fields.iter().position(|field| field.name == column.name);
        let Some(cell) = at.and_then(|at| whole.cells.get(at)) else { continue };
        let is_same = match (value, cell) {
            (Value::Int(value), Cell::Int(cell)) => value == cell,
            (Value::Decimal(value), Cell::Decimal(cell)) => value == cell,
            (Value::Text(value), Cell::Text(cell)) => value == cell,
            (Value::Bool(value), Cell::Bool(cell)) => value == cell,
            // Days are kept as days, with the ends of 32 bits for infinities.
            (Value::Time(value), Cell::Int(cell)) => value.0 == *cell || column.ty == ColumnType::Date,
            (Value::Null, cell) => *cell == Cell::Null,
            // A number of any scale is text for the archive.
            (Value::Decimal(_), Cell::Text(_)) | (Value::Opaque, _) => true,
            _ => false,
        };
        assert!(is_same, "{}: {value:?}, {cell:?}", column.name);
    }
}

/// An Avro schema, the separator, and bytes of it.
pub(crate) fn avro(data: &[u8]) {
    let (Some(schema), body) = two_parts(data) else { return };
    let Ok(schema) = std::str::from_utf8(schema) else { return };
    match WriterSchema::parse(schema) {
        Err(why) => assert!(!why.is_empty()),
        Ok(schema) => {
            if let Ok(json) = schema.to_json(body) {
                let read: serde_json::Result<Box<serde_json::value::RawValue>> = serde_json::from_str(&json);
                assert!(read.is_ok(), "{read:?}: {json}");
                assert!(json.len() <= 1 << 25, "{} bytes of JSON", json.len());
                envelope(&[&[0], json.as_bytes()].concat());
                archive(&[&[0], json.as_bytes()].concat());
            }
        }
    }
}

/// Two bytes of scale, a byte of declared scale, and text that is a number, or base64 of one.
pub(crate) fn decimal(data: &[u8]) {
    let [high, low, declared, text @ ..] = data else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let scale = i32::from(i16::from_be_bytes([*high, *low])) * 5;
    let declared = declared % 39;
    for read in [
        decimal::from_text(text, Some(declared)),
        decimal::from_text(text, None),
        decimal::from_base64(text, scale, Some(declared)),
        decimal::from_base64(text, scale, None),
    ] {
        match read {
            Ok(value) => check_value(&value),
            Err(why) => assert!(!repeats(&why, text), "{why} repeats {text:?}"),
        }
    }
    // The two readers of one text agree, where both hold its number.
    let same = |summed: Result<Value, String>, exact: Result<i128, String>| {
        if let Ok(exact) = exact {
            match summed {
                Ok(Value::Decimal(summed)) => assert_eq!(summed, exact, "{text:?} {scale} {declared}"),
                Ok(Value::Opaque) => {
                    assert!(
                        exact.unsigned_abs() >= DECIMAL_LIMIT.unsigned_abs(),
                        "{text:?} {scale} {declared}: {exact}"
                    );
                }
                other => panic!("{text:?} {scale} {declared}: {other:?}, {exact}"),
            }
        }
    };
    same(decimal::from_text(text, Some(declared)), exact::from_text(text, 38, declared));
    same(decimal::from_base64(text, scale, Some(declared)), exact::from_base64(text, scale, 38, declared));
    // Base64 as text is the same number.
    if let Ok(shown) = exact::text_of_base64(text, scale)
        && shown.len() <= 1_024
        && text.len() <= 1_024
    {
        let of_text = exact::from_text(&shown, 38, declared);
        assert_eq!(of_text, exact::from_base64(text, scale, 38, declared), "{text:?} {scale} {declared}: {shown}");
    }
}

/// Eight bytes of a count, a byte for its unit, and text.
pub(crate) fn time(data: &[u8]) {
    let Some((count, rest)) = data.split_first_chunk::<8>() else { return };
    let Some((unit, text)) = rest.split_first() else { return };
    let count = i64::from_be_bytes(*count);
    let units = [time::Unit::Millis, time::Unit::Micros, time::Unit::Nanos, time::Unit::Days, time::Unit::Iso];
    let unit = units[usize::from(*unit) % units.len()];
    let at = time::from_count(count, unit);
    assert_eq!(at.is_none(), unit == time::Unit::Iso);
    if let Some(of_day) = time::of_day_from_count(count, unit) {
        assert!((0..=86_400_000_000).contains(&of_day));
    }
    if let Some(at) = at {
        // Never panics, however far away.
        let _ = (at.date(), at.millis());
    }
    let Ok(text) = std::str::from_utf8(text) else { return };
    let read = time::from_iso(text);
    if let Err(why) = &read {
        assert!(!repeats(why, text), "{why} repeats {text:?}");
    }
    if let (Ok(read), Ok(known)) = (&read, text.parse::<chrono::DateTime<chrono::FixedOffset>>())
        && known.timestamp_subsec_nanos() < 1_000_000_000
    {
        assert_eq!(*read, Timestamp(known.timestamp_micros()), "{text}");
    }
    if let Ok(of_day) = time::of_day_from_iso(text) {
        assert!((0..=86_400_000_000).contains(&of_day), "{text}: {of_day}");
    }
    if let (Ok(days), Ok(at)) = (time::days_from_iso(text), &read)
        && at.0.unsigned_abs() < u64::MAX / 4
        && !text.ends_with("infinity")
    {
        assert_eq!(days, at.0.div_euclid(86_400_000_000), "{text}");
    }
}

/// A rule's SQL. What is accepted renders to SQL that means the same.
pub(crate) fn rule(data: &[u8]) {
    let Ok(sql) = std::str::from_utf8(data) else { return };
    let parsed = match parse::parse(sql) {
        Ok(parsed) => parsed,
        Err(error) => {
            assert!(error.line >= 1 && error.column >= 1, "{error}");
            let lines = u64::try_from(sql.split('\n').count()).expect("a number of lines");
            assert!(error.line <= lines, "{error} in {lines} lines");
            assert!(!error.problem.is_empty());
            return;
        }
    };
    let table = table();
    let Ok(query) = compile::compile(&parsed, &table) else { return };
    let rendered = render::original(&query);
    let again = parse::parse(&rendered).unwrap_or_else(|error| panic!("{rendered}: {error}"));
    let again = compile::compile(&again, &table).unwrap_or_else(|error| panic!("{rendered}: {error}"));
    assert_eq!(again.clone().canonical(), query.clone().canonical(), "{rendered}");
    assert_eq!(render::original(&again), rendered);
    for time in [Time::Processing, Time::Event] {
        let _ = (
            render::as_written(&query, &parsed.spelling),
            render::confirmation(&query, time),
            compile::version(&query, time, Confirm::Required),
        );
    }
}

const SQL: &str = "SELECT user_id, COUNT(*) AS n, SUM(ABS(amount)) AS total FROM streaming.transactions \
                   WHERE timestamp >= NOW() - INTERVAL '7 days' GROUP BY user_id HAVING SUM(ABS(amount)) > 3000";

/// A unit with one rule.
pub(crate) fn unit() -> Unit {
    let table = table();
    let query = compile::compile(&parse::parse(SQL).expect("a rule"), &table).expect("a rule of this table");
    let wanted = compile::wanted(&[&query]);
    let rule = Rule {
        name: "weekly".to_owned(),
        version: compile::version(&query, Time::Processing, Confirm::Required),
        severity: "critical".to_owned(),
        message: Template::parse("{user_id}", &["user_id"]).expect("a template"),
        time: Time::Processing,
        confirm: Confirm::Required,
        query,
    };
    let settings = UnitSettings {
        group: "g".to_owned(),
        topics: "t".into(),
        carry_episodes: true,
        audit_period: std::time::Duration::from_secs(3_600),
        max_database_share: 10_000,
    };
    let tables = tripline::rule::watched::Watched::one(std::slice::from_ref(&rule), &wanted);
    Unit::new(settings, vec![rule], &tables).expect("a unit of this rule")
}

/// One file of a checkpoint folder. The first byte selects the file, and whether its checksum is made right. The file's
/// bytes follow, without the checksum in that case.
pub(crate) fn checkpoint(data: &[u8]) {
    let Some((selector, content)) = data.split_first() else { return };
    let name = ["lineage.json", "offsets/4", "state/4", "commits/4", "sources/0"][usize::from(selector & 0x0f) % 5];
    let bytes = match (selector & 0x10 != 0, name) {
        (false, _) => content.to_vec(),
        (true, "state/4") => [content, &crc32fast::hash(content).to_le_bytes()].concat(),
        (true, _) => match String::from_utf8(content.to_vec()) {
            Ok(text) => file::with_checksum(text),
            Err(_) => return,
        },
    };
    let disk = MemoryDisk::default();
    let root = Path::new("/checkpoints/g");
    let folder = Folder::open_at(Arc::new(disk.clone()), root.to_owned()).expect("a new folder");
    disk.create_dir(&root.join("sources")).ok();
    file::replace_unsynced(&disk, &root.join(name), &bytes).expect("a file that is written");
    if let Ok(Some(lineage)) = folder.lineage() {
        folder.begin(&lineage).expect("a lineage that is written");
        assert_eq!(folder.lineage().expect("what was written"), Some(lineage));
    }
    if let Ok(Some((epoch, _))) = folder.logged::<Decisions>(4) {
        let mut unit = unit();
        unit.redo(&epoch);
        let _ = unit.take_over();
        let _ = (folder.newest_epoch::<Decisions>().is_ok(), folder.unfinished::<Decisions>().is_ok());
    }
    let _ = (folder.is_finished(4), folder.source());
    if let Ok(Some((head, body))) = folder.newest_state() {
        restore(&head, &body);
    }
    drop(folder);
    let _ = Folder::open_at(Arc::new(disk), root.to_owned());
}

/// Restores a unit from a stored state.
fn restore(head: &tripline::checkpoint::StateHead, body: &[u8]) {
    let mut unit = unit();
    // Under the rule's own version, so that its windows are taken.
    let versions = if head.rules.is_empty() { Vec::new() } else { unit.versions() };
    if unit.restore(head.format, &versions, body, true).is_err() {
        return;
    }
    let _ = unit.take_over();
    unit.evaluate(Timestamp(1_800_000_000_000_000));
    let mut stored = Vec::new();
    unit.store(&mut stored).expect("a state that is written");
    let mut again = self::unit();
    again.restore(tripline::checkpoint::FORMAT, &versions, &stored, true).expect("a state that was just written");
    let _ = again.take_over();
    assert_eq!((again.rows(), again.keys()), (unit.rows(), unit.keys()));
}
