//! A rule is one SQL aggregate query. Pure.
//!
//! - [`parse`]: SQL text → [`parse::Parsed`], names and positions only
//! - [`compile`]: names → columns of the catalog, types checked: [`Query`]
//! - [`expression`]: conditions, arguments and outputs
//! - [`calendar`]: intervals, `date_trunc`, `EXTRACT`
//! - [`edges`]: the times that depend on NOW(), and the comparisons with them
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
    /// A hash of everything that changes the rule's meaning. Every alert contains it.
    pub version: String,
    /// Free text. By custom `info`, `warning` or `critical`.
    pub severity: String,
    /// The template of the alert's message.
    pub message: message::Template,
    /// The meaning of NOW().
    pub time: Time,
    /// Whether Postgres is asked before an alert.
    pub confirm: Confirm,
    /// The query.
    pub query: Query,
}

/// The meaning of NOW() in a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Time {
    /// The time of day.
    #[default]
    Processing,
    /// The greatest event time seen for the key. For back-tests and replays.
    Event,
}

/// Whether Postgres has to confirm before an alert is raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confirm {
    /// Always.
    #[default]
    Required,
    /// Never. Every alert is marked as not confirmed.
    Off,
}

/// The evaluator of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evaluate {
    /// The first of the other variants that can evaluate the rule.
    #[default]
    Auto,
    /// Memory evaluates each change, and Postgres confirms.
    Memory,
    /// Postgres evaluates the keys that a change touches.
    Touched,
    /// Postgres evaluates all keys at an interval.
    Whole,
}

/// The typed query. It contains only constructs on which memory and Postgres agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The table, from the catalog. The computed columns follow its own.
    pub table: Table,
    /// GROUP BY columns: indexes into the table's columns.
    pub group_by: Vec<usize>,
    /// The expressions that GROUP BY calculates from a row. They are the last columns of the table, in order.
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
    /// The time zone of the session that runs the query.
    pub zone: Arc<Zone>,
    /// The rule's own text, where Postgres alone evaluates it. The computed columns are then the key, and the other
    /// fields are empty.
    pub text: Option<Arc<text::Text>>,
}

/// A comparison of an aggregate with a number in HAVING. The page draws a bar for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// Index into [`Query::aggregates`].
    pub aggregate: usize,
    /// The operator. The aggregate is on its left.
    pub comparison: Comparison,
    /// The number.
    pub value: Decimal,
}

impl Query {
    /// Returns the first comparison of an aggregate with a number among those that HAVING joins with AND.
    pub fn threshold(&self) -> Option<Threshold> {
        threshold(&self.having)
    }

    /// The expression of a computed column. `None`: the column is one of the table's own.
    pub fn computed(&self, column: usize) -> Option<&Expression> {
        let own = self.table.columns.len().checked_sub(self.computed.len())?;
        self.computed.get(column.checked_sub(own)?)
    }

    /// The indexes of the table's columns that the key depends on.
    pub fn key_columns(&self) -> Vec<usize> {
        let of = |column: &usize| self.computed(*column).map_or_else(|| vec![*column], Expression::columns);
        let touched = self.text.iter().flat_map(|text| text.touches.iter().flatten().copied());
        self.group_by.iter().flat_map(of).chain(touched).collect()
    }

    /// The evaluator of this query.
    pub fn evaluated_by(&self) -> Evaluate {
        match &self.text {
            None => Evaluate::Memory,
            Some(text) if text.touches_any() => Evaluate::Touched,
            Some(_) => Evaluate::Whole,
        }
    }

    /// The expressions over a row, without those of the key.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.aggregates.iter().flat_map(Aggregate::expressions).chain(&self.filter)
    }

    /// Whether an output is a count and nothing more. Alerts show it as a number.
    pub fn is_count(&self, output: &Output) -> bool {
        output.aggregate().and_then(|index| self.aggregates.get(index)).is_some_and(Aggregate::is_count)
    }

    /// WHERE, unless it consists of the time bound alone.
    pub fn condition(&self) -> Option<&Expression> {
        self.filter.as_ref().filter(|filter| !filter.is_bound())
    }

    /// Returns the canonical spelling of the query.
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

    /// Whether the query depends on the session's time zone: the time column holds local times, or the bound goes back
    /// by days or months, whose length a change of the clocks changes.
    pub fn is_zoned(&self) -> bool {
        // Nobody has looked at what is in such a text.
        if self.text.is_some() {
            return true;
        }
        let is_bound_zoned =
            self.bound.as_ref().is_some_and(|bound| bound.edge.is_zoned() || bound.is_widened(&self.table));
        is_bound_zoned || self.all_expressions().any(Expression::is_zoned)
    }

    /// For a query without a time bound: the value of a row that must be at some edge or after it, and the edge. Memory
    /// need not hold rows that are far behind it.
    pub fn lower_bound(&self) -> Option<(Expression, Expression)> {
        self.filter.as_ref().filter(|_| self.bound.is_none()).and_then(edges::lower_bound)
    }

    /// Whether NOW() is used outside of the time bound.
    pub fn has_more_times(&self) -> bool {
        self.all_expressions().any(Expression::has_now)
    }

    /// All expressions, without the time bound.
    fn all_expressions(&self) -> impl Iterator<Item = &Expression> {
        let outputs = self.outputs.iter().filter_map(|output| match &output.expr {
            OutputExpr::Value(expression, _) => Some(expression),
            OutputExpr::Key(_) => None,
        });
        self.expressions().chain(&self.computed).chain([&self.having]).chain(outputs)
    }

    /// Calls `change` for every time zone that the query names.
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

    /// The distinct names of the time zones in the query.
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
    /// The name in the result: the alias, or Postgres's default for the expression.
    pub name: String,
    /// The key's column or the expression.
    pub expr: OutputExpr,
}

/// The content of a select-list entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutputExpr {
    /// Index into [`Query::group_by`].
    Key(usize),
    /// An expression over aggregates, and its type.
    Value(Expression, Type),
}

impl Evaluate {
    /// The name in settings and alerts.
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
    /// The index into [`Query::aggregates`], if the expression is an aggregate and nothing more.
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

/// `column >= NOW() - INTERVAL …` (or `>`), or a comparison with another time that depends on NOW().
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeBound {
    /// Index into the table's columns.
    pub column: usize,
    /// `>=` rather than `>`.
    pub inclusive: bool,
    /// The time that the column is compared with.
    pub edge: Expression,
}

impl TimeBound {
    /// The interval of a bound of the form `NOW() - INTERVAL …`. `None` for another form.
    pub fn back(&self) -> Option<Interval> {
        match &self.edge {
            Expression::Arithmetic(expression::Arithmetic::Subtract, now, back, _) => match (&**now, &**back) {
                (Expression::Now(_), Expression::Literal(Literal::Interval(back, _))) => Some(*back),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the column holds local times that are compared with an instant.
    pub fn is_widened(&self, table: &Table) -> bool {
        let is_local = table.columns.get(self.column).is_some_and(|column| column.ty.is_local());
        is_local && edges::type_of(&self.edge) == Type::TimestampTz
    }
}

/// A positive interval as Postgres stores it. A day is a calendar day in the time zone of the query.
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
    /// Whether it has months or days. Their length depends on the calendar and the clocks.
    pub fn is_calendar(self) -> bool {
        self.months > 0 || self.days > 0
    }
}

/// An error in a rule's text, with its position in the SQL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct RuleError {
    /// Line in the rule's SQL, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
    /// What is wrong, and what is supported instead.
    pub problem: String,
}
