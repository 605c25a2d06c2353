//! Reads a key's rows in its window as they are in Postgres now, with a running total in the order of time. The page
//! draws them.
//!
//! Traces have a few connections of their own and the confirmation's limits, so that viewers cannot hold up a
//! confirmation.

use std::time::Duration;

use serde::Serialize;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};

use super::ANSWER_MARGIN;
use super::explain::{AS_OF, condition};
use crate::model::Timestamp;
use crate::postgres::{Sees, Session, no_answer, options, query};
use crate::rule::evaluate::Program;
use crate::rule::expression::AggregateFunction;
use crate::rule::render::{Fragments, Times};
use crate::rule::{Expression, Query, Rule, Time, compile};

/// The greatest number of rows that are returned: the latest ones. The totals are over all rows.
pub const POINTS_MAX: u32 = 2_000;
/// The greatest number of connections.
const CONNECTIONS_MAX: u32 = 2;
/// How long to wait for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The number of statements of a trace, each of which may take up to the server's limit.
const STATEMENTS: u32 = 2;
/// How long the answer to a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// The current window of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The window's left edge. `None`: the rule has no time bound.
    pub from: Option<Timestamp>,
    /// NOW() for this window.
    pub to: Timestamp,
    /// The number of rows in the window.
    pub rows: i64,
    /// The value that HAVING compares, over all rows. `None`: a sum over no rows.
    pub total: Option<String>,
    /// The latest rows, in the order of time.
    pub points: Vec<Point>,
}

/// A row, and the running total.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// The primary key as text.
    pub pk: String,
    /// The row's time. `None`: the rule has no time bound.
    pub at: Option<Timestamp>,
    /// The value that the row adds to the total.
    pub value: Option<String>,
    /// The total of the rows up to this one.
    pub total: Option<String>,
}

/// Reads traces of keys.
#[derive(Debug)]
pub struct Tracer {
    pool: PgPool,
    /// A pool of its own for pings, so that viewers of keys cannot delay them.
    pings: PgPool,
    session: Session,
    answer_timeout: Duration,
    rules: Vec<(Rule, Program)>,
}

impl Tracer {
    /// Makes a tracer for these rules. It connects at the first request.
    ///
    /// # Errors
    /// A rule cannot be compiled, or the URL is not valid.
    pub fn new(url: &str, statement_timeout: Duration, rules: &[Rule]) -> Result<Self, String> {
        let options = options(url).map_err(|error| format!("postgres.url: {error}"))?;
        let pool = |max| {
            PgPoolOptions::new()
                .max_connections(max)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .acquire_slow_threshold(ACQUIRE_TIMEOUT) // says nothing of its own: an outage has its three lines
                .idle_timeout(IDLE_TIMEOUT)
                .connect_lazy_with(options.clone())
        };
        let compiled = |rule: &Rule| {
            let wanted = compile::wanted(&[&rule.query]);
            Ok((rule.clone(), Program::new(&rule.query, &wanted)?))
        };
        Ok(Self {
            pool: pool(CONNECTIONS_MAX),
            pings: pool(1),
            session: Session::Reading(statement_timeout),
            answer_timeout: statement_timeout * STATEMENTS + ANSWER_MARGIN,
            rules: rules.iter().map(compiled).collect::<Result<_, String>>()?,
        })
    }

    /// The rule of this name.
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().map(|(rule, _)| rule).find(|rule| rule.name == name)
    }

    /// Checks that Postgres answers.
    ///
    /// # Errors
    /// Why it does not answer.
    pub async fn ping(&self) -> Result<(), String> {
        let asked = sqlx::raw_sql("select 1").execute(&self.pings);
        match tokio::time::timeout(PING_TIMEOUT, asked).await {
            Ok(Ok(_)) => Ok(()),
            // The pool keeps the reason to itself.
            Ok(Err(sqlx::Error::PoolTimedOut)) => Err(format!("no connection within {ACQUIRE_TIMEOUT:?}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {PING_TIMEOUT:?}")),
        }
    }

    /// Reads the window of a key, whose values are given as text in GROUP BY order. `None`: there is no such rule.
    ///
    /// # Errors
    /// The database's error.
    pub async fn trace(&self, name: &str, key: &[Option<String>]) -> Result<Option<Trace>, sqlx::Error> {
        let Some((rule, program)) = self.rules.iter().find(|(rule, _)| rule.name == name) else { return Ok(None) };
        let mut connection = self.pool.acquire().await?;
        match tokio::time::timeout(self.answer_timeout, read(&mut connection, self.session, rule, program, key)).await {
            Ok(trace) => trace.map(Some),
            Err(_) => {
                drop(connection.detach()); // it is closed, and not used again
                Err(no_answer(self.answer_timeout))
            }
        }
    }
}

/// Runs two statements in one transaction with one snapshot.
async fn read(
    connection: &mut PgConnection,
    session: Session,
    rule: &Rule,
    program: &Program,
    key: &[Option<String>],
) -> Result<Trace, sqlx::Error> {
    let begin = session.begin(Sees::Same, rule.query.zone.name());
    let mut transaction = connection.begin_with(AssertSqlSafe(begin)).await?;
    let now = match event_now_sql(rule) {
        Some(sql) => query(AssertSqlSafe(sql)).bind(None::<&str>).bind("").bind(key),
        None => query("select (extract(epoch from now()) * 1000000)::bigint"),
    };
    let to = Timestamp(now.fetch_one(&mut *transaction).await?.try_get(0)?);
    let from = program.left_instant(to);
    let bound = query(AssertSqlSafe(points_sql(rule)));
    let bound = bound.bind(from.map(Timestamp::rfc3339)).bind(to.rfc3339()).bind(key).bind(i64::from(POINTS_MAX));
    let rows = bound.fetch_all(&mut *transaction).await?;
    transaction.rollback().await?;
    let mut points = rows.iter().map(point).collect::<Result<Vec<_>, _>>()?;
    points.reverse();
    let rows = rows.first().map_or(Ok(0), |row| row.try_get("rows_total"))?;
    let total = points.last().and_then(|point| point.total.clone());
    Ok(Trace { from, to, rows, total, points })
}

fn point(row: &PgRow) -> Result<Point, sqlx::Error> {
    let at: Option<i64> = row.try_get("at")?;
    let [pk, value, total] = ["pk", "value", "total"].map(|name| row.try_get::<Option<String>, _>(name));
    Ok(Point { pk: pk?.unwrap_or_default(), at: at.map(Timestamp), value: value?, total: total? })
}

/// The statement for NOW() of a key under event time: the time of its latest row, in microseconds since 1970. Its
/// parameters are those of [`condition`].
fn event_now_sql(rule: &Rule) -> Option<String> {
    let query = &rule.query;
    let bound = query.bound.as_ref().filter(|_| rule.time == Time::Event)?;
    let at = instant(query, bound.column);
    let all = Query { bound: None, filter: query.condition().and_then(Expression::timeless), ..query.clone() };
    Some(format!(
        "select (extract(epoch from coalesce(max({at}), now())) * 1000000)::bigint from {} as r where isfinite({at}) and {}",
        Fragments::of_rows(query).table(),
        condition(&all, Time::Processing)
    ))
}

/// A column's value as an instant. A local time counts in the session's time zone.
fn instant(query: &Query, index: usize) -> String {
    format!("({})::timestamptz", Fragments::of_rows(query).column(index))
}

/// The statement for the points, latest first. Its parameters are those of [`condition`], and `$4 bigint`, the greatest
/// number of rows.
fn points_sql(rule: &Rule) -> String {
    let query = &rule.query;
    let fragments = Fragments::of_rows(query);
    let pk: Vec<String> =
        query.table.primary_key.iter().map(|index| format!("({})::text", fragments.column(*index))).collect();
    let keys = query.table.primary_key.iter().map(|index| fragments.column(*index));
    let time = query.bound.as_ref().map(|bound| instant(query, bound.column));
    let order: Vec<String> = time.clone().into_iter().chain(keys).collect();
    let at = time.map_or("null::bigint".to_owned(), |at| {
        format!("case when isfinite({at}) then (extract(epoch from {at}) * 1000000)::bigint end")
    });
    let (value, total) = added(query);
    format!(
        "select * from (select concat_ws(', ', {}) as pk, {at} as at, ({value})::text as value, \
         {total} as total, count(*) over () as rows_total, row_number() over so_far as place \
         from {} as r where {} window so_far as (order by {} rows unbounded preceding)) as points \
         order by place desc limit ($4)::bigint",
        pk.join(", "),
        Fragments::of_rows(query).table(),
        condition(query, rule.time),
        order.join(", "),
    )
}

/// The value that a row adds to the aggregate that HAVING compares with a number, and the running total. Both are NULL
/// if there is no such comparison.
fn added(query: &Query) -> (String, String) {
    let fragments = Fragments::of_rows(query);
    let none = || ("null".to_owned(), "null::text".to_owned());
    let Some(threshold) = query.threshold() else { return none() };
    let Some(aggregate) = query.aggregates.get(threshold.aggregate) else { return none() };
    let argument =
        aggregate.argument.as_ref().map(|argument: &Expression| fragments.expression(argument, Times::at(AS_OF)));
    let value = match (argument, &aggregate.filter) {
        (argument, None) => argument.unwrap_or_else(|| "1".to_owned()),
        (argument, Some(filter)) => format!(
            "case when {} then {} end",
            fragments.expression(filter, Times::at(AS_OF)),
            argument.unwrap_or_else(|| "1".to_owned())
        ),
    };
    if aggregate.function == AggregateFunction::CountDistinct {
        // Postgres has no window function of it.
        return (value, "null::text".to_owned());
    }
    (value, format!("({} over so_far)::text", fragments.aggregate(threshold.aggregate, Some(AS_OF))))
}
