//! A rule is one SQL aggregate query. Pure.
//!
//! - [`parse`]: SQL text → [`parse::Parsed`], names and positions only
//! - [`compile`]: names → columns of the catalog, types checked: [`Query`]
//! - [`expression`]: what conditions, arguments and outputs are made of
//! - [`calendar`]: intervals, `date_trunc`, `EXTRACT`
//! - [`edges`]: the times that go by NOW(), and what is compared with them
//! - [`evaluate`]: what a row contributes, and whether HAVING holds
//! - [`render`]: the same query as SQL again, for Postgres
//! - [`table_row`]: rows of the table as memory holds them
//! - [`message`]: the template of an alert's message
//! - [`watched`]: the tables whose changes are read

pub mod calendar;
pub mod compile;
pub mod edges;
pub mod evaluate;
pub mod expression;
pub mod message;
pub mod parse;
pub mod render;
pub mod table_row;
pub mod text;
pub mod watched;

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

/// Who evaluates a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evaluate {
    /// The first of the others that can.
    #[default]
    Auto,
    /// Memory, for each change; Postgres confirms.
    Memory,
    /// Postgres, for the keys that a change touches.
    Touched,
    /// Postgres, for all keys at an interval.
    Whole,
}

/// The typed query: an allow-list of what memory and Postgres agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The one table, from the catalog; behind its own columns are the computed ones.
    pub table: Table,
    /// GROUP BY columns: indexes into the table's columns.
    pub group_by: Vec<usize>,
    /// What GROUP BY calculates from a row: the last columns of the table, in their order.
    pub computed: Vec<Expression>,
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
    /// The rule's own text, where Postgres alone evaluates it. Then the computed columns are its key, and all else is empty.
    pub text: Option<Arc<text::Text>>,
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

    /// What a column is calculated from; `None`: it is the table's own.
    pub fn computed(&self, column: usize) -> Option<&Expression> {
        let own = self.table.columns.len().checked_sub(self.computed.len())?;
        self.computed.get(column.checked_sub(own)?)
    }

    /// The columns of the table that the key is made of.
    pub fn key_columns(&self) -> Vec<usize> {
        let of = |column: &usize| self.computed(*column).map_or_else(|| vec![*column], Expression::columns);
        let touched = self.text.iter().flat_map(|text| text.touches.iter().flatten().copied());
        self.group_by.iter().flat_map(of).chain(touched).collect()
    }

    /// Who evaluates it.
    pub fn evaluated_by(&self) -> Evaluate {
        match &self.text {
            None => Evaluate::Memory,
            Some(text) if text.touches_any() => Evaluate::Touched,
            Some(_) => Evaluate::Whole,
        }
    }

    /// Its expressions over a row, but for those of the key.
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
        self.computed = self.computed.into_iter().map(Expression::canonical).collect();
        self.bound = self.bound.map(|bound| TimeBound { edge: bound.edge.canonical(), ..bound });
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
        // Nobody has looked at what is in such a text.
        if self.text.is_some() {
            return true;
        }
        let is_bound_zoned =
            self.bound.as_ref().is_some_and(|bound| bound.edge.is_zoned() || bound.is_widened(&self.table));
        is_bound_zoned || self.all_expressions().any(Expression::is_zoned)
    }

    /// Where there is no time bound: what of a row has to be at a time that goes by NOW(), or after it, and that time. A row
    /// that is far behind need not be held.
    pub fn lower_bound(&self) -> Option<(Expression, Expression)> {
        self.filter.as_ref().filter(|_| self.bound.is_none()).and_then(edges::lower_bound)
    }

    /// Whether NOW() stands elsewhere than in the time bound.
    pub fn has_more_times(&self) -> bool {
        self.all_expressions().any(Expression::has_now)
    }

    /// Its expressions but for the time bound.
    fn all_expressions(&self) -> impl Iterator<Item = &Expression> {
        let outputs = self.outputs.iter().filter_map(|output| match &output.expr {
            OutputExpr::Value(expression, _) => Some(expression),
            OutputExpr::Key(_) => None,
        });
        self.expressions().chain(&self.computed).chain([&self.having]).chain(outputs)
    }

    /// Calls `change` for every time zone that its text names.
    pub fn change_zones(&mut self, change: &mut impl FnMut(&mut Arc<Zone>)) {
        let aggregates = self.aggregates.iter_mut().flat_map(|one| one.argument.iter_mut().chain(&mut one.filter));
        let outputs = self.outputs.iter_mut().filter_map(|output| match &mut output.expr {
            OutputExpr::Value(expression, _) => Some(expression),
            OutputExpr::Key(_) => None,
        });
        let bound = self.bound.iter_mut().map(|bound| &mut bound.edge);
        let all = aggregates
            .chain(outputs)
            .chain(&mut self.computed)
            .chain(&mut self.filter)
            .chain(bound)
            .chain([&mut self.having]);
        all.for_each(|expression| expression.change_zones(change));
    }

    /// The names of the time zones in its text, each once.
    pub fn zone_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        self.clone().change_zones(&mut |zone| {
            if !names.iter().any(|name| name == zone.name()) {
                names.push(zone.name().to_owned());
            }
        });
        names
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

impl Evaluate {
    /// As settings and alerts have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Memory => "memory",
            Self::Touched => "touched",
            Self::Whole => "whole",
        }
    }
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

/// `column >= NOW() - INTERVAL …` (or `>`), or another time that goes by NOW().
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeBound {
    /// Index into the table's columns.
    pub column: usize,
    /// `>=` rather than `>`.
    pub inclusive: bool,
    /// What it is compared with.
    pub edge: Expression,
}

impl TimeBound {
    /// How far back from NOW(), where it is as simple as that.
    pub fn back(&self) -> Option<Interval> {
        match &self.edge {
            Expression::Arithmetic(expression::Arithmetic::Subtract, now, back, _) => match (&**now, &**back) {
                (Expression::Now(_), Expression::Literal(Literal::Interval(back, _))) => Some(*back),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether its column holds local times that are compared with an instant.
    pub fn is_widened(&self, table: &Table) -> bool {
        let is_local = table.columns.get(self.column).is_some_and(|column| column.ty.is_local());
        is_local && edges::type_of(&self.edge) == Type::TimestampTz
    }
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
