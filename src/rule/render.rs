//! [`Query`] → SQL for Postgres. Pure.
//!
//! Rendered from the typed query and never by the parser's `Display`, which is not safe to send (it writes `- -x`
//! as a comment). Every expression stands in parentheses, every name in quotes; values come in as parameters.

use rust_decimal::Decimal;

use super::parse::Spelling;
use super::{Aggregate, Comparison, Interval, OutputExpr, Query, Scalar, Time, TimeBound};
use crate::model::ColumnType;

/// A statement that asks Postgres about keys, and what it returns.
///
/// Columns of its result, in order: `ord` (bigint, from 1, the place of the asked key), `snapshot` (text, of
/// `pg_current_snapshot()`), `in_recovery` (boolean), `holds` (boolean, HAVING; false where it is NULL and where the
/// key has no rows), then one text column per name in [`Confirmation::outputs`]. One row for every asked key, in
/// order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// The statement.
    pub sql: String,
    /// Names of the outputs that are aggregates, in select-list order. Each column is text: `count` is `0` for a
    /// key without rows, `sum` is NULL.
    pub outputs: Vec<String>,
}

/// A name in double quotes, with quotes inside doubled.
pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The plain query with `now()`, in its canonical spelling.
pub fn original(query: &Query) -> String {
    as_written(query, &Spelling::default())
}

/// The plain query, in the spelling of the text it came from: its `EXPLAIN (VERBOSE, COSTS OFF)` equals that of
/// the text. [`original`] means the same, but EXPLAIN tells `3000 < SUM(x)` from `SUM(x) > 3000`.
pub fn as_written(query: &Query, spelling: &Spelling) -> String {
    let names = Names { query, prefix: "" };
    let outputs: Vec<String> = query
        .outputs
        .iter()
        .map(|output| {
            let expr = match output.expr {
                OutputExpr::Key(index) => names.key(index),
                OutputExpr::Aggregate(index) => names.aggregate(index),
            };
            format!("{expr} AS {}", quote_ident(&output.name))
        })
        .collect();
    let now = if spelling.current_timestamp { "CURRENT_TIMESTAMP" } else { "now()" };
    let bound = query.bound.as_ref().map(|bound| format!(" WHERE {}", names.bound(bound, now, spelling)));
    let keys: Vec<String> = (0..query.group_by.len()).map(|index| names.key(index)).collect();
    format!(
        "SELECT {} FROM {}{} GROUP BY {} HAVING {}",
        outputs.join(", "),
        names.table(),
        bound.unwrap_or_default(),
        keys.join(", "),
        names.having(spelling),
    )
}

/// The statement that asks about many keys at once, none of them NULL.
///
/// Parameters: `$1 text[]`, the keys as text. [`Time::Processing`]: `$2 text`, the one instant that is NOW(), as text.
/// [`Time::Event`]: `$2 text[]`, each key's own instant, as text, in the order of the keys; rows later than it
/// are left out too. Both kinds of text need an offset (`…Z`) or a session in UTC.
pub fn confirmation(query: &Query, time: Time) -> Confirmation {
    keyed(query, time, false)
}

/// The same with two columns more, for an audit: `rows` (bigint, the rows inside of the window) and `times` (text, the sum
/// of their times in microseconds since 1970, infinities left out; 0 without a time bound).
pub fn comparison(query: &Query, time: Time) -> Confirmation {
    keyed(query, time, true)
}

fn keyed(query: &Query, time: Time, with_rows: bool) -> Confirmation {
    let names = Names { query, prefix: ROW };
    let key = names.key(0);
    let key_type = names.key_type();
    let (columns, outputs) = names.answered(with_rows);
    let (asked, instant, join, answer) = match time {
        Time::Processing => (
            "unnest($1::text[]) WITH ORDINALITY AS asked(key, ord)",
            // Named even by a query without a time bound: a parameter that is nowhere cannot be bound.
            "($2::text)::timestamptz AS t, ",
            format!("answer.key = (asked.key)::{key_type}"),
            names.answer(
                time,
                "($2::text)::timestamptz",
                &format!("({key} = ANY (($1::text[])::{key_type}[]))"),
                with_rows,
            ),
        ),
        Time::Event => (
            ASKED_AT,
            "",
            "answer.ord = asked.ord".to_owned(),
            names.answer_each("(asked.t)::timestamptz", &format!("({key} = (asked.key)::{key_type})"), with_rows),
        ),
    };
    let sql = format!(
        "SELECT asked.ord AS ord, seen.snapshot AS snapshot, seen.in_recovery AS in_recovery, \
         COALESCE(answer.holds, false) AS holds{columns} \
         FROM (SELECT {instant}pg_current_snapshot()::text AS snapshot, pg_is_in_recovery() AS in_recovery) AS seen \
         CROSS JOIN {asked} \
         LEFT JOIN ({answer}) AS answer ON {join} \
         ORDER BY asked.ord"
    );
    Confirmation { sql, outputs }
}

/// The statement that asks about the NULL key, which equals nothing and so needs one of its own.
///
/// Parameter: `$1 text`, the instant that is NOW(). Returns one row, with `ord` 1.
pub fn confirmation_null(query: &Query, time: Time) -> Confirmation {
    null(query, time, false)
}

/// The same with the columns of [`comparison`].
pub fn comparison_null(query: &Query, time: Time) -> Confirmation {
    null(query, time, true)
}

fn null(query: &Query, time: Time, with_rows: bool) -> Confirmation {
    let names = Names { query, prefix: ROW };
    let condition = format!("({} IS NULL)", names.key(0));
    let answer = names.answer(time, "($1::text)::timestamptz", &condition, with_rows);
    let (columns, outputs) = names.answered(with_rows);
    let sql = format!(
        "SELECT 1::bigint AS ord, seen.snapshot AS snapshot, seen.in_recovery AS in_recovery, \
         COALESCE(answer.holds, false) AS holds{columns} \
         FROM (SELECT ($1::text)::timestamptz AS t, pg_current_snapshot()::text AS snapshot, \
         pg_is_in_recovery() AS in_recovery) AS seen \
         LEFT JOIN ({answer}) AS answer ON true"
    );
    Confirmation { sql, outputs }
}

/// The statement that reads a group's rows inside of the window, and those that may come back into it: the primary key's
/// columns as text, then the wanted ones. Times are microseconds since 1970 in UTC, or the infinities by name.
///
/// Parameters: `$1 text`, the key, or NULL; `$2 text`, the instant that is NOW().
pub fn rows(query: &Query, wanted: &[usize]) -> String {
    let names = Names { query, prefix: ROW };
    let columns: Vec<String> = query.table.primary_key.iter().chain(wanted).map(|index| names.text(*index)).collect();
    format!(
        "SELECT {} FROM {} AS r CROSS JOIN (SELECT ($2::text)::timestamptz AS t) AS asked \
         WHERE ({} IS NOT DISTINCT FROM ($1::text)::{}){}",
        columns.join(", "),
        names.table(),
        names.key(0),
        names.key_type(),
        names.held("asked.t"),
    )
}

/// The statement that reads the rows of many groups, as [`rows`] does for one; under event time, where each group has a
/// window of its own, all rows of these groups.
///
/// Parameters: `$1 text[]`, the keys, none of them NULL; `$2 text`, the instant that is NOW().
pub fn rows_of(query: &Query, wanted: &[usize], time: Time) -> String {
    let names = Names { query, prefix: ROW };
    format!(
        "{} AND ({} = ANY (($1::text[])::{}[]))",
        all_rows_at(query, wanted, time, "$2"),
        names.key(0),
        names.key_type()
    )
}

/// The statement that reads the keys of the groups inside of the window in their order, as text; under event time, of all
/// groups.
///
/// Parameters: `$1 text`, the instant that is NOW(); `$2 bigint`, how many at most; `$3 text`, with `after`: those after
/// this key.
pub fn keys(query: &Query, time: Time, after: bool) -> String {
    let names = Names { query, prefix: ROW };
    let bounded = match time {
        Time::Processing => names.bounded("asked.t"),
        Time::Event => String::new(),
    };
    let after =
        if after { format!(" AND ({} > ($3::text)::{})", names.key(0), names.key_type()) } else { String::new() };
    format!(
        "SELECT (page.key)::text AS key FROM (SELECT DISTINCT {key} AS key FROM {} AS r \
         CROSS JOIN (SELECT ($1::text)::timestamptz AS t) AS asked \
         WHERE ({key} IS NOT NULL){bounded}{after} ORDER BY {key} LIMIT $2::bigint) AS page ORDER BY page.key",
        names.table(),
        key = names.key(0),
    )
}

/// The statement that reads rows by their primary keys, whatever their time: columns as of [`rows`].
///
/// Parameters: `$1 text[]`, `$2 text[]` …, the keys' columns as text, each in the order of the keys.
pub fn rows_by_key(query: &Query, wanted: &[usize]) -> String {
    let names = Names { query, prefix: ROW };
    let primary_key = &query.table.primary_key;
    let columns: Vec<String> = primary_key.iter().chain(wanted).map(|index| names.text(*index)).collect();
    let arrays: Vec<String> = (1..=primary_key.len()).map(|index| format!("${index}::text[]")).collect();
    let parts: Vec<String> = (1..=primary_key.len()).map(|index| format!("k{index}")).collect();
    let equal = primary_key
        .iter()
        .zip(&parts)
        .map(|(index, part)| format!("({} = (asked.{part})::{})", names.column(*index), names.type_of(*index)));
    format!(
        "SELECT {} FROM unnest({}) AS asked({}) JOIN {} AS r ON {}",
        columns.join(", "),
        arrays.join(", "),
        parts.join(", "),
        names.table(),
        equal.collect::<Vec<_>>().join(" AND "),
    )
}

/// The statement that reads the rows of all groups inside of the window, as [`rows`] does for one; under event time,
/// where each group has a window of its own, all rows.
///
/// Parameter: `$1 text`, the instant that is NOW().
pub fn all_rows(query: &Query, wanted: &[usize], time: Time) -> String {
    all_rows_at(query, wanted, time, "$1")
}

/// The same, of the rows in some blocks of the table.
///
/// Parameters: `$1 text`, as there; `$2 text` and `$3 text`, the physical places (`ctid`) of the first row and of the first one
/// after the last.
pub fn all_rows_in(query: &Query, wanted: &[usize], time: Time) -> String {
    format!("{} AND (r.ctid >= ($2::text)::tid) AND (r.ctid < ($3::text)::tid)", all_rows(query, wanted, time))
}

fn all_rows_at(query: &Query, wanted: &[usize], time: Time, instant: &str) -> String {
    let names = Names { query, prefix: ROW };
    let columns: Vec<String> = query.table.primary_key.iter().chain(wanted).map(|index| names.text(*index)).collect();
    let bounded = match time {
        Time::Processing => names.held("asked.t"),
        Time::Event => String::new(),
    };
    format!(
        "SELECT {} FROM {} AS r CROSS JOIN (SELECT ({instant}::text)::timestamptz AS t) AS asked WHERE true{bounded}",
        columns.join(", "),
        names.table(),
    )
}

/// The statement that runs the whole rule: the keys, as text, of the groups that HAVING holds for.
///
/// Parameter: `$1 text`, the instant that is NOW().
pub fn holding(query: &Query) -> String {
    let names = Names { query, prefix: ROW };
    format!(
        "SELECT ({key})::text AS key FROM {} AS r CROSS JOIN (SELECT ($1::text)::timestamptz AS t) AS asked \
         WHERE true{} GROUP BY {key} HAVING {}",
        names.table(),
        names.bounded("asked.t"),
        names.having(&Spelling::default()),
        key = names.key(0),
    )
}

/// The keys that are asked for under event time, each with its instant.
const ASKED_AT: &str = "unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked(key, t, ord)";

/// By so much a later edge may be before an earlier one, and more: months are clipped by three days, and clocks were put
/// back by one day at most.
const MAY_COME_BACK_DAYS: u32 = 8;

/// The table's alias in confirmations. Columns carry it, so that none of them, and no table named `asked`, can be
/// taken for one of the statement's own names.
const ROW: &str = "r.";

/// Names and expressions of one query, columns after `prefix`.
struct Names<'a> {
    query: &'a Query,
    prefix: &'static str,
}

impl Names<'_> {
    fn table(&self) -> String {
        format!("{}.{}", quote_ident(&self.query.table.schema), quote_ident(&self.query.table.name))
    }

    /// An index that no column has becomes a name that Postgres refuses, rather than a panic or another query.
    fn column(&self, index: usize) -> String {
        let name = match self.query.table.columns.get(index) {
            Some(column) => quote_ident(&column.name),
            None => format!("\"column {index} is missing\""),
        };
        format!("{}{name}", self.prefix)
    }

    fn key(&self, index: usize) -> String {
        self.column(self.query.group_by.get(index).copied().unwrap_or(usize::MAX))
    }

    /// The type that a key's text is cast to. Without length or scale: with them a cast cuts off or rounds, and a
    /// key would be taken for another one.
    fn key_type(&self) -> String {
        self.type_of(self.query.group_by.first().copied().unwrap_or(usize::MAX))
    }

    fn type_of(&self, index: usize) -> String {
        match self.query.table.columns.get(index).map(|column| (&column.ty, &column.type_name)) {
            Some((ColumnType::Bool, _)) => "boolean".to_owned(),
            Some((ColumnType::Int2, _)) => "smallint".to_owned(),
            Some((ColumnType::Int4, _)) => "integer".to_owned(),
            Some((ColumnType::Int8, _)) => "bigint".to_owned(),
            Some((ColumnType::Numeric { scale: _ }, _)) => "numeric".to_owned(),
            Some((ColumnType::Uuid, _)) => "uuid".to_owned(),
            Some((ColumnType::Text, _)) | None => "text".to_owned(),
            Some((
                ColumnType::TimestampTz | ColumnType::Timestamp { precision: _ } | ColumnType::Date | ColumnType::Other,
                type_name,
            )) => type_name.clone(),
        }
    }

    fn aggregate(&self, index: usize) -> String {
        match self.query.aggregates.get(index) {
            Some(Aggregate::CountRows) => "count(*)".to_owned(),
            Some(Aggregate::Sum(scalar)) => format!("sum({})", self.scalar(scalar)),
            None => format!("\"aggregate {index} is missing\""),
        }
    }

    fn scalar(&self, scalar: &Scalar) -> String {
        match scalar {
            Scalar::Column(index) => self.column(*index),
            Scalar::Abs(inner) => format!("abs({})", self.scalar(inner)),
        }
    }

    fn bound(&self, bound: &TimeBound, now: &str, spelling: &Spelling) -> String {
        let column = self.column(bound.column);
        let field = spelling.interval_field.map(|field| format!(" {field}")).unwrap_or_default();
        let edge = format!("({now} - INTERVAL '{}'{field})", interval_text(bound.back));
        match (spelling.bound_reversed, bound.inclusive) {
            (false, true) => format!("({column} >= {edge})"),
            (false, false) => format!("({column} > {edge})"),
            (true, true) => format!("({edge} <= {column})"),
            (true, false) => format!("({edge} < {column})"),
        }
    }

    /// The time bound as a further condition.
    fn bounded(&self, now: &str) -> String {
        let bound = self.query.bound.as_ref().map(|bound| self.bound(bound, now, &Spelling::default()));
        bound.map(|bound| format!(" AND {bound}")).unwrap_or_default()
    }

    /// The time bound as a further condition, which also admits what a later edge may admit again.
    fn held(&self, now: &str) -> String {
        let comes_back = self.query.bound.as_ref().is_some_and(|bound| bound.back.is_calendar());
        let now = if comes_back { format!("({now} - INTERVAL '{MAY_COME_BACK_DAYS} days')") } else { now.to_owned() };
        self.bounded(&now)
    }

    /// A column's value as text that reads back exactly.
    fn text(&self, index: usize) -> String {
        let column = self.column(index);
        match self.query.table.columns.get(index).map(|column| &column.ty) {
            Some(ColumnType::TimestampTz | ColumnType::Timestamp { precision: _ } | ColumnType::Date) => format!(
                "CASE WHEN isfinite({column}) THEN (extract(epoch FROM {column}) * 1000000)::bigint::text \
                 ELSE ({column})::text END"
            ),
            _ => format!("({column})::text"),
        }
    }

    fn having(&self, spelling: &Spelling) -> String {
        let having = &self.query.having;
        let aggregate = self.aggregate(having.aggregate);
        let threshold = threshold_text(having.threshold, spelling.numeric_threshold);
        let (symbol, turned) = match having.comparison {
            Comparison::Greater => (">", "<"),
            Comparison::GreaterOrEqual => (">=", "<="),
            Comparison::Less => ("<", ">"),
            Comparison::LessOrEqual => ("<=", ">="),
            Comparison::Equal => ("=", "="),
            Comparison::NotEqual => ("<>", "<>"),
        };
        if spelling.having_reversed {
            format!("({threshold} {turned} {aggregate})")
        } else {
            format!("({aggregate} {symbol} {threshold})")
        }
    }

    /// The rule's own query for some keys, with `t` for NOW() and HAVING as a column.
    fn answer(&self, time: Time, t: &str, condition: &str, with_rows: bool) -> String {
        let key = self.key(0);
        format!(
            "SELECT {key} AS key, {} FROM {} AS r WHERE {} GROUP BY {key}",
            self.holds_and_outputs(with_rows),
            self.table(),
            self.conditions(time, t, condition),
        )
    }

    /// The same for keys that each have an instant of their own. A join, so that without an index on the key the table is
    /// read once for all of them.
    fn answer_each(&self, t: &str, condition: &str, with_rows: bool) -> String {
        format!(
            "SELECT asked.ord AS ord, {} FROM {ASKED_AT} JOIN {} AS r ON {} GROUP BY asked.ord",
            self.holds_and_outputs(with_rows),
            self.table(),
            self.conditions(Time::Event, t, condition),
        )
    }

    fn holds_and_outputs(&self, with_rows: bool) -> String {
        let outputs = self.aggregate_outputs().enumerate();
        let columns: String =
            outputs.map(|(ordinal, (index, _))| format!(", ({})::text AS o{ordinal}", self.aggregate(index))).collect();
        let proof = if with_rows { format!(", count(*) AS rows, {} AS times", self.times()) } else { String::new() };
        format!("{} AS holds{columns}{proof}", self.having(&Spelling::default()))
    }

    fn conditions(&self, time: Time, t: &str, condition: &str) -> String {
        let spelling = Spelling::default();
        let mut conditions = Vec::new();
        if let Some(bound) = &self.query.bound {
            conditions.push(self.bound(bound, t, &spelling));
            if time == Time::Event {
                // A row dated past the key's event time is not there yet.
                conditions.push(format!("({} <= {t})", self.column(bound.column)));
            }
        }
        conditions.push(condition.to_owned());
        conditions.join(" AND ")
    }

    /// The sum of the rows' times, as text.
    fn times(&self) -> String {
        let Some(bound) = &self.query.bound else { return "'0'".to_owned() };
        let column = self.column(bound.column);
        format!(
            "COALESCE(sum((extract(epoch FROM {column}) * 1000000)::numeric) FILTER (WHERE isfinite({column})), 0)::numeric(1000, 0)::text"
        )
    }

    /// Columns that hand on what [`Self::answer`] gives, and the names of the outputs.
    fn answered(&self, with_rows: bool) -> (String, Vec<String>) {
        let mut columns = String::new();
        let mut outputs = Vec::new();
        for (ordinal, (index, name)) in self.aggregate_outputs().enumerate() {
            let column = match self.query.aggregates.get(index) {
                Some(Aggregate::CountRows) => format!(", COALESCE(answer.o{ordinal}, '0') AS o{ordinal}"),
                Some(Aggregate::Sum(_)) | None => format!(", answer.o{ordinal} AS o{ordinal}"),
            };
            columns.push_str(&column);
            outputs.push(name.to_owned());
        }
        if with_rows {
            columns.push_str(", COALESCE(answer.rows, 0) AS rows, COALESCE(answer.times, '0') AS times");
        }
        (columns, outputs)
    }

    fn aggregate_outputs(&self) -> impl Iterator<Item = (usize, &str)> {
        self.query.outputs.iter().filter_map(|output| match output.expr {
            OutputExpr::Key(_) => None,
            OutputExpr::Aggregate(index) => Some((index, output.name.as_str())),
        })
    }
}

/// `1 mon 7 days 26:00:00.5`, which Postgres reads back as the same three numbers. Hours are not carried into days;
/// `HH:MM:SS` rather than microseconds, as releases before 15 take no more than 32 bits of those.
fn interval_text(interval: Interval) -> String {
    let Interval { months, days, micros } = interval;
    let mut parts = Vec::new();
    if months > 0 {
        parts.push(format!("{months} mons"));
    }
    if days > 0 {
        parts.push(format!("{days} days"));
    }
    if micros != 0 || parts.is_empty() {
        let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
        let (minutes, second) = (seconds.div_euclid(60), seconds.rem_euclid(60));
        let (hours, minute) = (minutes.div_euclid(60), minutes.rem_euclid(60));
        let fraction = if fraction > 0 { format!(".{fraction:06}") } else { String::new() };
        parts.push(format!("{hours:02}:{minute:02}:{second:02}{fraction}"));
    }
    parts.join(" ")
}

/// A number without a point would be an integer to Postgres.
fn threshold_text(threshold: Decimal, numeric: bool) -> String {
    if numeric && threshold.scale() == 0 { format!("(({threshold})::numeric)") } else { format!("({threshold})") }
}

#[cfg(test)]
mod tests;
