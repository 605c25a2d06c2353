//! A rule is one SQL aggregate query. Pure.
//!
//! - [`parse`]: SQL text → [`parse::Parsed`], names and positions only
//! - [`compile`]: names → columns of the catalog, types checked: [`Query`]
//! - [`expression`]: what conditions, arguments and outputs are made of
//! - [`evaluate`]: what a row contributes, and whether HAVING holds
//! - [`reach`]: how far back a window reaches, and when that changes what is in it
//! - [`render`]: the same query as SQL again, for Postgres
//! - [`table_row`]: rows of the table as memory holds them
//! - [`message`]: the template of an alert's message

pub mod compile;
pub mod evaluate;
pub mod expression;
pub mod message;
pub mod parse;
pub mod reach;
pub mod render;
pub mod table_row;

use std::sync::Arc;

use rust_decimal::Decimal;

pub use expression::{Aggregate, Comparison, Expression, Literal, Type};

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
    /// WHERE, in which [`Expression::Bound`] stands for the time bound.
    pub filter: Option<Expression>,
    /// The lower time bound of WHERE.
    pub bound: Option<TimeBound>,
    /// HAVING.
    pub having: Expression,
    /// The time zone of the session that the query is run in.
    pub zone: Arc<Zone>,
}

/// What HAVING compares with a number, where it does: what a bar is drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// Index into [`Query::aggregates`].
    pub aggregate: usize,
    /// The operator, the aggregate being on its left.
    pub comparison: Comparison,
    /// The number.
    pub value: Decimal,
}

impl Query {
    /// The first comparison of an aggregate with a number among those that HAVING joins with AND.
    pub fn threshold(&self) -> Option<Threshold> {
        threshold(&self.having)
    }

    /// Its expressions over a row.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.aggregates.iter().flat_map(Aggregate::expressions).chain(&self.filter)
    }

    /// Whether an output is a count alone, which alerts show as a number.
    pub fn is_count(&self, output: &Output) -> bool {
        output.aggregate().and_then(|index| self.aggregates.get(index)).is_some_and(Aggregate::is_count)
    }

    /// WHERE without the time bound, if there is more in it.
    pub fn condition(&self) -> Option<&Expression> {
        self.filter.as_ref().filter(|filter| !filter.is_bound())
    }

    /// The same query in one spelling.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        self.filter = self.filter.map(Expression::canonical);
        self.having = self.having.canonical();
        for aggregate in &mut self.aggregates {
            aggregate.argument = aggregate.argument.take().map(Expression::canonical);
            aggregate.filter = aggregate.filter.take().map(Expression::canonical);
        }
        for output in &mut self.outputs {
            if let OutputExpr::Value(expression, _) = &mut output.expr {
                let old = std::mem::replace(expression, Expression::Bound);
                *expression = old.canonical();
            }
        }
        self
    }

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputExpr {
    /// Index into [`Query::group_by`].
    Key(usize),
    /// An expression over aggregates, and its type.
    Value(Expression, Type),
}

impl Output {
    /// The aggregate that it is, alone: an index into [`Query::aggregates`].
    pub fn aggregate(&self) -> Option<usize> {
        match self.expr {
            OutputExpr::Value(Expression::Aggregate(index), _) => Some(index),
            _ => None,
        }
    }
}

fn threshold(having: &Expression) -> Option<Threshold> {
    match having {
        Expression::And(left, right) => threshold(left).or_else(|| threshold(right)),
        Expression::Compare(comparison, left, right) => match (&**left, &**right) {
            (Expression::Aggregate(aggregate), Expression::Literal(Literal::Number(value, _))) => {
                Some(Threshold { aggregate: *aggregate, comparison: *comparison, value: *value })
            }
            (Expression::Literal(Literal::Number(value, _)), Expression::Aggregate(aggregate)) => {
                Some(Threshold { aggregate: *aggregate, comparison: comparison.turned(), value: *value })
            }
            _ => None,
        },
        _ => None,
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
