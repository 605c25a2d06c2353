//! Reads the rows behind an alert as they are now: the rows that the alert's window admits for its key, their totals,
//! and the differences from the alert's own numbers. All of it is read in one read-only transaction, so that rows and
//! totals agree.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};

use crate::rule::render::{Fragments, Times};
use crate::rule::{Expression, Output, OutputExpr, Query, Time};

/// The greatest number of rows in the list. The totals are over all rows.
pub const ROWS_MAX: u32 = 1_000;

/// The window and the numbers of an alert.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// The rule's query.
    pub query: &'a Query,
    /// The meaning of NOW() in the query.
    pub time: Time,
    /// The key's values as text, in GROUP BY order.
    pub key: &'a [Option<String>],
    /// The left edge of the alert's window.
    pub from: Option<&'a str>,
    /// NOW() in the alert's confirmation.
    pub as_of: &'a str,
    /// The alert's own numbers, in the order of [`outputs`].
    pub numbers: &'a [Option<String>],
}

/// The current state of an alert's window in Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// `pg_current_snapshot()`.
    pub snapshot: String,
    /// Whether HAVING holds over the rows.
    pub holds: bool,
    /// The number of rows that the window admits.
    pub rows_total: i64,
    /// The outputs, in the order of [`outputs`]. NULL for a sum over no rows.
    pub totals: Vec<Option<String>>,
    /// The outputs minus the alert's numbers. A sum over no rows counts as 0. Empty for an output that is no number.
    pub differences: Vec<String>,
    /// The rows, latest first.
    pub rows: Vec<PresentRow>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentRow {
    /// The columns of [`columns`], as text.
    pub values: Vec<Option<String>>,
    /// The transaction that wrote this version of the row.
    pub xmin: u32,
}

/// The alert's NOW(), as a parameter.
pub(super) const AS_OF: &str = "($2::text)::timestamptz";

/// The outputs over aggregates, in the order of the select list.
pub fn outputs(query: &Query) -> Vec<&Output> {
    query.outputs.iter().filter(|output| matches!(output.expr, OutputExpr::Value(..))).collect()
}

/// The columns to show of a row: primary key, time bound, WHERE, arguments of aggregates. They are indexes into the
/// table's columns.
pub fn columns(query: &Query) -> Vec<usize> {
    let mut columns = query.table.primary_key.clone();
    columns.extend(query.bound.iter().map(|bound| bound.column));
    columns.extend(query.expressions().flat_map(Expression::columns));
    let mut distinct = Vec::new();
    for column in columns {
        if !distinct.contains(&column) {
            distinct.push(column);
        }
    }
    distinct
}

/// Reads the state in one transaction with one snapshot, in the rule's time zone.
///
/// # Errors
/// The database's error.
pub async fn present(connection: &mut PgConnection, subject: &Subject<'_>) -> Result<Present, sqlx::Error> {
    let Subject { query, time, key, from, as_of, numbers } = *subject;
    let bind = |sql: String| crate::postgres::query(AssertSqlSafe(sql)).bind(from).bind(as_of).bind(key);
    let totals = bind(totals_sql(query, time)).bind(numbers).fetch_one(&mut *connection).await?;
    let rows = bind(rows_sql(query, time)).bind(i64::from(ROWS_MAX)).fetch_all(connection).await?;
    let count = outputs(query).len();
    let texts = |start: usize| (start..start + count).map(|index| totals.try_get::<Option<String>, _>(index));
    Ok(Present {
        snapshot: totals.try_get("snapshot")?,
        holds: totals.try_get::<Option<bool>, _>("holds")?.unwrap_or(false),
        rows_total: totals.try_get("rows_total")?,
        totals: texts(3).collect::<Result<_, _>>()?,
        differences: texts(3 + count).map(|text| text.map(Option::unwrap_or_default)).collect::<Result<_, _>>()?,
        rows: rows.iter().map(|row| read(row, columns(query).len())).collect::<Result<_, _>>()?,
    })
}

fn read(row: &PgRow, columns: usize) -> Result<PresentRow, sqlx::Error> {
    let values = (0..columns).map(|index| row.try_get(index)).collect::<Result<_, _>>()?;
    let xmin: &str = row.try_get("xmin")?;
    let xmin = xmin.parse().map_err(|_| sqlx::Error::Protocol(format!("{xmin} is no transaction id")))?;
    Ok(PresentRow { values, xmin })
}

/// The statement for the totals.
///
/// Parameters: `$1 text` is the window's left edge. `$2 text` is NOW(). `$3 text[]` is the key. `$4 text[]` has the
/// alert's numbers. Columns: snapshot, holds, rows_total, then each aggregate and then each difference as text.
fn totals_sql(query: &Query, time: Time) -> String {
    let fragments = Fragments::of_rows(query);
    let mut totals = String::new();
    let mut differences = String::new();
    let mut has_numbers = false;
    for (place, output) in outputs(query).into_iter().enumerate() {
        let OutputExpr::Value(expression, ty) = &output.expr else { continue };
        let (value, number) = (fragments.expression(expression, Times::at(AS_OF)), place + 1);
        totals.push_str(&format!(", ({value})::text"));
        has_numbers |= ty.is_number();
        differences.push_str(&if ty.is_number() {
            format!(", (coalesce({value}, 0) - coalesce((($4::text[])[{number}])::numeric, 0))::text")
        } else {
            ", ''::text".to_owned()
        });
    }
    // A parameter that is nowhere cannot be bound.
    let named = if has_numbers { "" } else { " and ($4::text[] is not null)" };
    format!(
        "select (pg_current_snapshot())::text as snapshot, {} as holds, count(*) as rows_total{totals}{differences} \
         from {} as r where {}{named}",
        fragments.having(Some(AS_OF)),
        fragments.table(),
        condition(query, time),
    )
}

/// The statement for the rows.
///
/// Parameters: the first three of [`totals_sql`], and `$4 bigint`, the greatest number of rows. Columns: those of
/// [`columns`] as text, then xmin.
fn rows_sql(query: &Query, time: Time) -> String {
    let fragments = Fragments::of_rows(query);
    let columns: Vec<String> =
        columns(query).iter().map(|index| format!("({})::text", fragments.column(*index))).collect();
    let latest = query.bound.iter().map(|bound| format!("{} desc", fragments.column(bound.column)));
    let by_key = query.table.primary_key.iter().map(|index| format!("{} desc", fragments.column(*index)));
    let order: Vec<String> = latest.chain(by_key).collect();
    format!(
        "select {}, (r.xmin)::text as xmin from {} as r where {} order by {} limit ($4)::bigint",
        columns.join(", "),
        fragments.table(),
        condition(query, time),
        order.join(", "),
    )
}

/// The condition for the rows of the alert's window and key. NULL equals nothing, so a NULL in the key has a comparison
/// of its own.
pub(super) fn condition(query: &Query, time: Time) -> String {
    let mut conditions = Vec::new();
    // Every parameter is named, as one that is nowhere cannot be bound.
    let fragments = Fragments::of_rows(query);
    let mut left = "($1::text is null or true)".to_owned();
    let mut right = "($2::text is not null)".to_owned();
    if let Some(bound) = &query.bound {
        let (at, operator) = (fragments.column(bound.column), if bound.inclusive { ">=" } else { ">" });
        left = format!("({at} {operator} ($1::text)::timestamptz)");
        if time == Time::Event {
            right = format!("({at} <= ($2::text)::timestamptz)");
        }
    }
    match &query.filter {
        Some(filter) if query.bound.is_some() => {
            conditions.push(fragments.expression(filter, Times { bound: &left, now: Some(AS_OF) }));
        }
        Some(filter) => conditions.extend([left, fragments.expression(filter, Times::at(AS_OF))]),
        None => conditions.push(left),
    }
    conditions.push(right);
    for (place, index) in query.group_by.iter().enumerate() {
        let (at, number) = (fragments.column(*index), place + 1);
        let value = format!("(($3::text[])[{number}])");
        let kind = fragments.type_of(*index);
        conditions.push(format!("({at} = {value}::{kind} or ({at} is null and {value} is null))"));
    }
    conditions.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Column, ColumnType, Table};
    use crate::rule::compile::compile;
    use crate::rule::parse::parse;

    fn query(sql: &str) -> Query {
        let column = |name: &str, ty: ColumnType, type_name: &str| Column {
            name: name.to_owned(),
            ty,
            type_name: type_name.to_owned(),
            nullable: true,
            has_default: false,
        };
        let columns = vec![
            column("id", ColumnType::Int8, "bigint"),
            column("User \"x\"", ColumnType::Numeric { scale: Some(2) }, "numeric(12,2)"),
            column("amount", ColumnType::Numeric { scale: Some(2) }, "numeric(12,2)"),
            column("at", ColumnType::TimestampTz, "timestamp with time zone"),
        ];
        let table = Table { schema: "s".to_owned(), name: "t".to_owned(), columns, primary_key: vec![0] };
        compile(&parse(sql).unwrap(), &table).unwrap()
    }

    const WINDOW: &str = "SELECT \"User \"\"x\"\"\", COUNT(*) AS n, SUM(ABS(amount)) AS total FROM s.t
        WHERE at > NOW() - INTERVAL '7 days' GROUP BY \"User \"\"x\"\"\" HAVING SUM(amount) > -3";

    #[test]
    fn statements() {
        let window = query(WINDOW);
        let key = "(r.\"User \"\"x\"\"\" = (($3::text[])[1])::numeric or (r.\"User \"\"x\"\"\" is null and (($3::text[])[1]) is null))";
        assert_eq!(
            totals_sql(&window, Time::Processing),
            format!(
                "select (pg_current_snapshot())::text as snapshot, (sum(r.\"amount\") > (-3)) as holds, count(*) as rows_total, \
                 (count(*))::text, (sum(abs(r.\"amount\")))::text, \
                 (coalesce(count(*), 0) - coalesce((($4::text[])[1])::numeric, 0))::text, \
                 (coalesce(sum(abs(r.\"amount\")), 0) - coalesce((($4::text[])[2])::numeric, 0))::text \
                 from \"s\".\"t\" as r where (r.\"at\" > ($1::text)::timestamptz) and ($2::text is not null) and {key}"
            )
        );
        assert_eq!(
            rows_sql(&window, Time::Event),
            format!(
                "select (r.\"id\")::text, (r.\"at\")::text, (r.\"amount\")::text, (r.xmin)::text as xmin from \"s\".\"t\" as r \
                 where (r.\"at\" > ($1::text)::timestamptz) and (r.\"at\" <= ($2::text)::timestamptz) and {key} \
                 order by r.\"at\" desc, r.\"id\" desc limit ($4)::bigint"
            )
        );
    }

    #[test]
    fn a_rule_without_a_time_bound_names_every_parameter() {
        let all = query("SELECT amount, COUNT(*) FROM s.t GROUP BY amount HAVING COUNT(*) >= 5");
        let sql = rows_sql(&all, Time::Processing);
        for parameter in ["$1", "$2", "$3", "$4"] {
            assert!(sql.contains(parameter), "{parameter} in {sql}");
        }
        assert!(sql.contains("order by r.\"id\" desc limit"), "{sql}");
    }
}
