//! A table of transactions, rules over it, and changes of its rows in few words.

use tripline::change::{Change, Op};
use tripline::model::{Column, ColumnType, Key, Lsn, Position, Table, Timestamp, Value};
use tripline::rule::message::Template;
use tripline::rule::{Confirm, Query, Rule, Time, compile, parse};

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const HOUR: i64 = 3_600 * SECOND;
pub(crate) const DAY: i64 = 24 * HOUR;

/// The columns that rows of these tests hold: user, amount, time, points.
pub(crate) const WANTED: [usize; 4] = [1, 2, 3, 4];

pub(crate) const WEEKLY: &str = "SELECT user_id, COUNT(*) AS transactions, SUM(ABS(amount)) AS total \
     FROM streaming.transactions WHERE timestamp >= NOW() - INTERVAL '7 days' \
     GROUP BY user_id HAVING SUM(ABS(amount)) > 3000";

pub(crate) fn instant(text: &str) -> Timestamp {
    Timestamp(chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros())
}

/// So many microseconds after the instant at which these tests begin.
pub(crate) fn t(micros: i64) -> Timestamp {
    Timestamp(instant("2026-11-22T10:00:00Z").0 + micros)
}

pub(crate) fn transactions(user: ColumnType) -> Table {
    let columns = [
        ("id", ColumnType::Int8),
        ("user_id", user),
        ("amount", ColumnType::Numeric { scale: Some(2) }),
        ("timestamp", ColumnType::TimestampTz),
        ("points", ColumnType::Int8),
    ];
    let column = |(name, ty): (&str, ColumnType)| Column {
        name: name.to_owned(),
        type_name: format!("{ty:?}").to_lowercase(),
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

pub(crate) fn query_on(table: &Table, sql: &str) -> Query {
    compile::compile(&parse::parse(sql).unwrap(), table).unwrap()
}

pub(crate) fn query(sql: &str) -> Query {
    query_on(&transactions(ColumnType::Int8), sql)
}

pub(crate) fn rule_on(table: &Table, sql: &str, time: Time, confirm: Confirm) -> Rule {
    let query = query_on(table, sql);
    Rule {
        name: "weekly-spend".to_owned(),
        version: compile::version(&query, time, confirm),
        severity: "critical".to_owned(),
        message: Template::parse("User {user_id} (${total})", &["user_id", "transactions", "total"]).unwrap(),
        time,
        confirm,
        query,
    }
}

pub(crate) fn row(user: Value, amount: Value, time: Value) -> Box<[Value]> {
    Box::new([user, amount, time, Value::Int(1)])
}

/// A row of an integer user.
pub(crate) fn paid(user: i64, cents: i128, time: Timestamp) -> Box<[Value]> {
    row(Value::Int(user), Value::Decimal(cents), Value::Time(time))
}

pub(crate) fn change(op: Op, id: i64, row: Option<Box<[Value]>>, lsn: Option<u64>) -> Change {
    let pk = (op != Op::Truncate).then_some(Key::Int(id));
    Change {
        op,
        pk,
        row,
        before: None,
        lsn: lsn.map(Lsn),
        tx_id: lsn.map(|_| 757),
        committed_at: None,
        holes: Vec::new(),
    }
}

pub(crate) fn position(offset: i64) -> Position {
    Position { partition: 0, offset }
}
