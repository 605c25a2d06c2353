//! Tables, fixtures and short names for values.

use tripline::change::debezium::{BinaryHandling, DecimalHandling, Decoder, Settings, Shape, TimePrecision};
use tripline::change::{Change, Decoded, Op, Reject};
use tripline::model::{Column, ColumnType, Key, Table, Timestamp, Value};

pub fn table(name: &str, columns: &[(&str, ColumnType)]) -> Table {
    let column = |(name, ty): &(&str, ColumnType)| Column {
        name: (*name).to_owned(),
        type_name: format!("{ty:?}").to_lowercase(),
        ty: ty.clone(),
        nullable: true,
        has_default: false,
    };
    let (schema, name) = name.split_once('.').unwrap();
    Table {
        schema: schema.to_owned(),
        name: name.to_owned(),
        columns: columns.iter().map(column).collect(),
        primary_key: vec![0],
    }
}

pub const CENTS: ColumnType = ColumnType::Numeric { scale: Some(2) };

pub fn transactions() -> Table {
    table(
        "streaming.transactions",
        &[
            ("id", ColumnType::Int8),
            ("user_id", ColumnType::Int8),
            ("amount", CENTS),
            ("timestamp", ColumnType::TimestampTz),
            ("merchant", ColumnType::Text),
            ("status", ColumnType::Text),
        ],
    )
}

pub fn times() -> Table {
    table(
        "streaming.times",
        &[
            ("id", ColumnType::Int8),
            ("tstz", ColumnType::TimestampTz),
            ("tstz3", ColumnType::TimestampTz),
            ("ts", ColumnType::Timestamp { precision: 6 }),
            ("ts3", ColumnType::Timestamp { precision: 3 }),
            ("ts0", ColumnType::Timestamp { precision: 0 }),
            ("d", ColumnType::Date),
        ],
    )
}

pub fn amounts() -> Table {
    table(
        "streaming.amounts",
        &[
            ("id", ColumnType::Int8),
            ("n", ColumnType::Numeric { scale: None }),
            ("n12_2", CENTS),
            ("n38_18", ColumnType::Numeric { scale: Some(18) }),
            ("n10_0", ColumnType::Numeric { scale: Some(0) }),
            ("cents", ColumnType::Int8),
            ("i", ColumnType::Int4),
        ],
    )
}

pub type Record = (String, Option<String>, Option<String>);

/// Topic, key and value of each record of a fixture.
pub fn records(fixture: &str) -> Vec<Record> {
    let path = format!("{}/tests/fixtures/{fixture}.ndjson", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let field = |record: &serde_json::Value, name| record[name].as_str().map(str::to_owned);
    text.lines()
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            (field(&record, "topic").unwrap(), field(&record, "key"), field(&record, "value"))
        })
        .collect()
}

pub fn all_columns(table: &Table, settings: Settings) -> Decoder {
    let wanted: Vec<usize> = (0..table.columns.len()).collect();
    Decoder::new(table, &wanted, settings).unwrap()
}

pub fn replay(table: &Table, fixture: &str, settings: Settings) -> Vec<Result<Decoded, Reject>> {
    let mut decoder = all_columns(table, settings);
    let topic = format!(".{table}");
    let mine = records(fixture).into_iter().filter(|(name, ..)| name.ends_with(&topic) || !name.contains('.'));
    mine.map(|(_, key, value)| {
        whole(decoder.decode(key.as_deref().map(str::as_bytes), value.as_deref().map(str::as_bytes)))
    })
    .collect()
}

pub fn changes(table: &Table, fixture: &str, settings: Settings) -> Vec<Change> {
    let decoded = replay(table, fixture, settings).into_iter();
    decoded
        .map(|decoded| match decoded {
            Ok(Decoded::Change(change)) => change,
            other => panic!("{fixture}: {other:?}"),
        })
        .collect()
}

pub type Essence = (Op, Option<Key>, Option<Box<[Value]>>);

/// The part of the changes that is the same in two captures of the same SQL.
pub fn essence(changes: Vec<Change>) -> Vec<Essence> {
    changes.into_iter().map(|change| (change.op, change.pk, change.row)).collect()
}

pub fn settings(decimals: DecimalHandling, times: TimePrecision) -> Settings {
    Settings { decimals, times, ..AUTO }
}

pub const PRECISE: Settings = Settings { decimals: DecimalHandling::Precise, ..AUTO };
pub const STRING: Settings = Settings { decimals: DecimalHandling::String, ..AUTO };
pub const AUTO: Settings = Settings {
    decimals: DecimalHandling::Auto,
    times: TimePrecision::Adaptive,
    binary: BinaryHandling::Auto,
    shape: Shape::Auto,
};

pub fn at(text: &str) -> Value {
    Value::Time(match text {
        "infinity" => Timestamp::MAX,
        "-infinity" => Timestamp::MIN,
        _ => Timestamp(text.parse::<chrono::DateTime<chrono::FixedOffset>>().unwrap().timestamp_micros()),
    })
}

pub fn text(text: &str) -> Value {
    Value::Text(text.into())
}

pub fn decode(table: &Table, settings: Settings, key: Option<&str>, value: &str) -> Result<Decoded, Reject> {
    whole(all_columns(table, settings).decode(key.map(str::as_bytes), Some(value.as_bytes())))
}

/// Turns a partial change into an error.
pub fn whole(decoded: Result<Decoded, Reject>) -> Result<Decoded, Reject> {
    match decoded? {
        Decoded::Partial(_, reject) => Err(reject),
        whole => Ok(whole),
    }
}
