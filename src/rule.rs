//! A rule is one SQL aggregate query. Pure.
//!
//! - [`parse`]: SQL text → [`parse::Parsed`], names and positions only
//! - [`compile`]: names → columns of the catalog, types checked: [`Query`]
//! - [`evaluate`]: what a row contributes, and whether HAVING holds
//! - [`reach`]: how far back a window reaches, and when that changes what is in it
//! - [`render`]: the same query as SQL again, for Postgres
//! - [`table_row`]: rows of the table as memory holds them
//! - [`message`]: the template of an alert's message

pub mod compile;
pub mod evaluate;
pub mod message;
pub mod parse;
pub mod reach;
pub mod render;
pub mod table_row;

use std::sync::Arc;

use rust_decimal::Decimal;

use crate::model::Table;
use crate::model::zone::Zone;

/// A validated rule: the query and how to alert on it.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Unique among the rules.
    pub name: String,
    /// Hash of what changes its meaning; stands in every alert.
    pub version: String,
    /// Free text, by custom `info`, `warning` or `critical`.
    pub severity: String,
    /// How the alert reads.
    pub message: message::Template,
    /// What NOW() is.
    pub time: Time,
    /// Whether Postgres is asked before an alert.
    pub confirm: Confirm,
    /// The query.
    pub query: Query,
}

/// What NOW() means in a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Time {
    /// The time of day.
    #[default]
    Processing,
    /// The greatest event time seen for the key: for back-tests and replays.
    Event,
}

/// Whether Postgres has to confirm before an alert is raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confirm {
    /// Always.
    #[default]
    Required,
    /// Never; every alert is marked so.
    Off,
}

/// The typed query: an allow-list of what memory and Postgres agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The one table, from the catalog.
    pub table: Table,
    /// GROUP BY columns: indexes into the table's columns.
    pub group_by: Vec<usize>,
    /// The select list, in order.
    pub outputs: Vec<Output>,
    /// The distinct aggregates of select list and HAVING.
    pub aggregates: Vec<Aggregate>,
    /// The lower time bound of WHERE.
    pub bound: Option<TimeBound>,
    /// HAVING.
    pub having: Having,
    /// The time zone of the session that the query is run in.
    pub zone: Arc<Zone>,
}

impl Query {
    /// Whether the query means something else in another time zone: its column holds local times, or it reaches back by days
    /// or months, which a change of the clocks makes longer or shorter.
    pub fn is_zoned(&self) -> bool {
        self.bound.as_ref().is_some_and(|bound| {
            bound.back.is_calendar() || self.table.columns.get(bound.column).is_some_and(|column| column.ty.is_local())
        })
    }
}

/// One entry of the select list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name in the result: the alias, or Postgres's default for the expression.
    pub name: String,
    /// What it is.
    pub expr: OutputExpr,
}

/// What stands in the select list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputExpr {
    /// Index into [`Query::group_by`].
    Key(usize),
    /// Index into [`Query::aggregates`].
    Aggregate(usize),
}

/// An aggregate over the rows of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Aggregate {
    /// COUNT(*)
    CountRows,
    /// SUM(scalar)
    Sum(Scalar),
}

/// An expression over one row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// Index into the table's columns.
    Column(usize),
    /// ABS(scalar)
    Abs(Box<Scalar>),
}

impl Scalar {
    /// The columns that it reads: indexes into the table's columns.
    pub fn columns(&self) -> impl Iterator<Item = usize> {
        let mut scalar = self;
        while let Self::Abs(inner) = scalar {
            scalar = inner;
        }
        match scalar {
            Self::Column(column) => Some(*column),
            Self::Abs(_) => None,
        }
        .into_iter()
    }
}

/// `column >= NOW() - INTERVAL …` (or `>`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeBound {
    /// Index into the table's columns.
    pub column: usize,
    /// `>=` rather than `>`.
    pub inclusive: bool,
    /// How far back.
    pub back: Interval,
}

/// A positive interval as Postgres keeps it. A day is a day of the calendar, in the time zone of the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interval {
    /// Calendar months (a year is 12).
    pub months: u32,
    /// Days.
    pub days: u32,
    /// Microseconds.
    pub micros: i64,
}

impl Interval {
    /// Whether it has months or days, whose length depends on the calendar and the clocks.
    pub fn is_calendar(self) -> bool {
        self.months > 0 || self.days > 0
    }
}

/// HAVING: one comparison of an aggregate with a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Having {
    /// Index into [`Query::aggregates`], the left side.
    pub aggregate: usize,
    /// The operator.
    pub comparison: Comparison,
    /// The right side.
    pub threshold: Decimal,
}

/// A comparison operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
}

impl Comparison {
    /// As SQL writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Equal => "=",
            Self::NotEqual => "<>",
        }
    }
}

/// An error in a rule's text, with the place in its SQL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct RuleError {
    /// Line inside the rule's SQL, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
    /// What is wrong and what is supported instead.
    pub problem: String,
}
