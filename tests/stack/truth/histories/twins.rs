//! The rules of the histories, each said twice, and rows as the model, memory and Postgres have them.

use std::collections::{BTreeMap, BTreeSet};

use tripline::change::Op;
use tripline::model::{Column, ColumnType, Key, Table, Timestamp, Value};
use tripline::rule::message::Template;
use tripline::rule::{Confirm, Rule, Time, compile, parse};

pub(super) const SECOND: i64 = 1_000_000;
/// 2026-11-22T10:00:00Z
pub(super) const START: i64 = 1_795_341_600 * SECOND;
/// The window of every rule that has one.
pub(super) const WINDOW: i64 = 10 * SECOND;
/// user, amount, time, weight
pub(super) const WANTED: [usize; 4] = [1, 2, 3, 4];

/// A rule, said twice: as SQL, and as a function of the rows inside its window. Nothing is said of no rows.
pub(super) struct Twin {
    pub(super) sql: &'static str,
    /// Whether a row exactly on the edge is inside. `None`: no window.
    pub(super) inclusive: Option<bool>,
    pub(super) holds: fn(&[&Spend]) -> bool,
    /// Memory cannot always judge it, so that only units that ask can run it.
    pub(super) opaque: bool,
}

/// A row of the model. A weight is in units of 10^-13, one digit more than memory keeps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spend {
    pub(super) user: Option<i64>,
    pub(super) cents: Option<i64>,
    pub(super) at: Timestamp,
    pub(super) weight: i128,
}

fn sum(rows: &[&Spend], of: impl Fn(i64) -> i64) -> Option<i64> {
    rows.iter().filter_map(|row| row.cents).map(of).reduce(|a, b| a + b)
}

pub(super) const TWINS: [Twin; 8] = [
    Twin {
        sql: "SELECT user_id, COUNT(*) AS n, SUM(ABS(amount)) AS total FROM streaming.transactions \
              WHERE timestamp >= NOW() - INTERVAL '10 seconds' GROUP BY user_id HAVING SUM(ABS(amount)) > 60",
        inclusive: Some(true),
        holds: |rows| sum(rows, i64::abs).is_some_and(|sum| sum > 6_000),
        opaque: false,
    },
    Twin {
        sql: "SELECT user_id, COUNT(*) AS n, SUM(amount) AS total FROM streaming.transactions \
              WHERE timestamp > NOW() - INTERVAL '10 seconds' GROUP BY user_id HAVING SUM(amount) >= 20",
        inclusive: Some(false),
        holds: |rows| sum(rows, |cents| cents).is_some_and(|sum| sum >= 2_000),
        opaque: false,
    },
    Twin {
        sql: "SELECT user_id, COUNT(*) AS n, SUM(amount) AS total FROM streaming.transactions \
              WHERE timestamp >= NOW() - INTERVAL '10 seconds' GROUP BY user_id HAVING SUM(amount) < 0",
        inclusive: Some(true),
        holds: |rows| sum(rows, |cents| cents).is_some_and(|sum| sum < 0),
        opaque: false,
    },
    Twin {
        sql: "SELECT user_id, COUNT(*) AS n, SUM(amount) AS total FROM streaming.transactions \
              WHERE timestamp > NOW() - INTERVAL '10 seconds' GROUP BY user_id HAVING COUNT(*) < 2",
        inclusive: Some(false),
        holds: |rows| rows.len() < 2,
        opaque: false,
    },
    Twin {
        sql: "SELECT user_id, COUNT(*) AS n, SUM(amount) AS total FROM streaming.transactions \
              WHERE timestamp >= NOW() - INTERVAL '10 seconds' GROUP BY user_id HAVING COUNT(*) = 2",
        inclusive: Some(true),
        holds: |rows| rows.len() == 2,
        opaque: false,
    },
    Twin {
        sql: "SELECT user_id, COUNT(*) AS n, SUM(amount) AS total FROM streaming.transactions \
              GROUP BY user_id HAVING SUM(amount) > 30",
        inclusive: None,
        holds: |rows| sum(rows, |cents| cents).is_some_and(|sum| sum > 3_000),
        opaque: false,
    },
    Twin {
        sql: "SELECT user_id, COUNT(*) AS n, SUM(weight) AS total FROM streaming.transactions \
              WHERE timestamp >= NOW() - INTERVAL '10 seconds' GROUP BY user_id HAVING SUM(weight) < 5",
        inclusive: Some(true),
        holds: |rows| rows.iter().map(|row| row.weight).sum::<i128>() < 50_000_000_000_000,
        opaque: true,
    },
    Twin {
        sql: "SELECT user_id, COUNT(*) AS n, SUM(weight) AS total FROM streaming.transactions \
              WHERE timestamp >= NOW() - INTERVAL '10 seconds' GROUP BY user_id HAVING SUM(weight) > 9",
        inclusive: Some(true),
        holds: |rows| rows.iter().map(|row| row.weight).sum::<i128>() > 90_000_000_000_000,
        opaque: true,
    },
];

fn table() -> Table {
    let columns = [
        ("id", ColumnType::Int8, "bigint"),
        ("user_id", ColumnType::Int8, "bigint"),
        ("amount", ColumnType::Numeric { scale: Some(2) }, "numeric(12,2)"),
        ("timestamp", ColumnType::TimestampTz, "timestamp with time zone"),
        ("weight", ColumnType::Numeric { scale: None }, "numeric"),
    ];
    let column = |(name, ty, type_name): (&str, ColumnType, &str)| Column {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
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

pub(super) fn rule(index: usize, confirm: Confirm) -> Rule {
    let query = compile::compile(&parse::parse(TWINS[index].sql).unwrap(), &table()).unwrap();
    Rule {
        name: format!("rule-{index}"),
        version: compile::version(&query, Time::Processing, confirm),
        severity: "critical".to_owned(),
        message: Template::parse("{user_id}", &["user_id", "n", "total"]).unwrap(),
        time: Time::Processing,
        confirm,
        query,
    }
}

/// The query, as its text reads.
pub(super) fn returns(rows: &BTreeMap<i64, Spend>, twin: &Twin, now: Timestamp) -> BTreeSet<Key> {
    let edge = now.0 - WINDOW;
    let inside =
        |row: &&Spend| twin.inclusive.is_none_or(|inclusive| row.at.0 > edge || (inclusive && row.at.0 == edge));
    let mut groups: BTreeMap<Option<i64>, Vec<&Spend>> = BTreeMap::new();
    for row in rows.values().filter(inside) {
        groups.entry(row.user).or_default().push(row);
    }
    let over = groups.into_iter().filter(|(_, rows)| (twin.holds)(rows));
    over.map(|(user, _)| Key::new(vec![user.map_or(Value::Null, Value::Int)])).collect()
}

/// A weight that memory cannot keep exactly is opaque to it, as it is to the decoder.
pub(super) fn values(row: &Spend) -> Box<[Value]> {
    let weight = if row.weight % 10 == 0 { Value::Decimal(row.weight / 10) } else { Value::Opaque };
    Box::new([
        row.user.map_or(Value::Null, Value::Int),
        row.cents.map_or(Value::Null, |cents| Value::Decimal(i128::from(cents))),
        Value::Time(row.at),
        weight,
    ])
}

pub(super) fn sql(id: i64, op: Op, row: Option<&Spend>) -> String {
    let Some(row) = row else { return format!("DELETE FROM streaming.transactions WHERE id = {id}") };
    let user = row.user.map_or("NULL".to_owned(), |user| user.to_string());
    let amount = row.cents.map_or("NULL".to_owned(), |cents| format!("{cents} / 100.0"));
    let weight = format!("{} * 0.0000000000001", row.weight);
    let at = row.at;
    if op == Op::Create {
        return format!("INSERT INTO streaming.transactions VALUES ({id}, {user}, {amount}, '{at}', {weight})");
    }
    format!(
        "UPDATE streaming.transactions SET user_id = {user}, amount = {amount}, \"timestamp\" = '{at}', \
         weight = {weight} WHERE id = {id}"
    )
}
