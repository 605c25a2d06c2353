//! WHERE: conditions on a row, one of which may be the time bound.

use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, DateTimeField, Expr, Interval as IntervalExpr, Value, ValueWithSpan,
};

use super::calls;
use super::expression::{NOW, Scope, comparison, describe, strip};
use super::interval::{self, Field};
use super::node::{Kind, Node};
use super::{At, ParsedBound, Spelling};
use crate::rule::expression::Comparison;
use crate::rule::{Interval, RuleError};

const INTERVAL: &str = "an interval is written INTERVAL '7 days'";

/// WHERE: conditions joined with AND, one of which may be the time bound.
pub(super) struct Where<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) bound: Option<ParsedBound>,
    pub(super) spelling: &'a mut Spelling,
}

impl Where<'_> {
    /// A condition, or several joined with AND.
    pub(super) fn node(&mut self, expr: &Expr) -> Result<Node, RuleError> {
        let at = self.scope.at(expr);
        let Expr::BinaryOp { left, op, right } = strip(expr) else { return self.scope.node(expr) };
        if *op == BinaryOperator::And {
            let outside = self.scope;
            self.scope = outside.deeper(at)?;
            let (left, right) = (Box::new(self.node(left)?), Box::new(self.node(right)?));
            self.scope = outside;
            return Ok(Node { at, kind: Kind::And(left, right) });
        }
        match comparison(op) {
            Some(comparison) if is_moment(at, left)? || is_moment(at, right)? => {
                let bound = self.time_bound(at, left, comparison, right)?;
                if self.bound.replace(bound).is_some() {
                    return Err(at.error(format!("a second time bound is not supported; {NOW}")));
                }
                Ok(Node { at, kind: Kind::Bound })
            }
            _ => self.scope.node(expr),
        }
    }

    /// The lower time bound, either way round.
    fn time_bound(
        &mut self,
        at: At,
        left: &Expr,
        comparison: Comparison,
        right: &Expr,
    ) -> Result<ParsedBound, RuleError> {
        let refuse = |what: &str| at.error(format!("{what} is not supported; {NOW}"));
        let (time, back, reversed, inclusive) = match comparison {
            Comparison::Greater => (left, right, false, false),
            Comparison::GreaterOrEqual => (left, right, false, true),
            Comparison::Less => (right, left, true, false),
            Comparison::LessOrEqual => (right, left, true, true),
            Comparison::Equal | Comparison::NotEqual => {
                return Err(refuse(&format!("a comparison with {}", comparison.as_str())));
            }
        };
        let Some(column) = self.scope.column(time)? else {
            // The one mistake worth a word of its own: col < NOW() - …, a rule on rows that only ever grow older.
            let upper = matches!(strip(back), Expr::Identifier(_) | Expr::CompoundIdentifier(_));
            return Err(refuse(&if upper { "an upper bound".to_owned() } else { describe(time) }));
        };
        self.spelling.bound_reversed = reversed;
        let back = self.moment(back)?;
        Ok(ParsedBound { column, inclusive, back })
    }

    /// `NOW() - INTERVAL …`
    fn moment(&mut self, expr: &Expr) -> Result<Interval, RuleError> {
        let at = self.scope.at(expr);
        let Expr::BinaryOp { left, op: BinaryOperator::Minus, right } = strip(expr) else {
            return Err(at.error(format!("a bound of {} is not supported; {NOW}", describe(expr))));
        };
        let Some(current_timestamp) = now(at, left)? else {
            return Err(self.scope.at(left).error(format!("{} is not supported here; {NOW}", describe(left))));
        };
        self.spelling.current_timestamp = current_timestamp;
        self.interval(right)
    }
}

/// Whether NOW() is in it, where a time bound has it.
fn is_moment(at: At, expr: &Expr) -> Result<bool, RuleError> {
    match strip(expr) {
        Expr::BinaryOp { left, op: BinaryOperator::Minus | BinaryOperator::Plus, right: _ } => is_moment(at, left),
        expr => Ok(now(at, expr)?.is_some()),
    }
}

/// Whether it is NOW(), and if so whether it is CURRENT_TIMESTAMP.
fn now(at: At, expr: &Expr) -> Result<Option<bool>, RuleError> {
    match strip(expr) {
        Expr::Function(function) => calls::reads_clock(at, function),
        _ => Ok(None),
    }
}

impl Where<'_> {
    /// `INTERVAL '7 days'`, `INTERVAL '7' DAY`, `'7 days'::interval`.
    fn interval(&mut self, expr: &Expr) -> Result<Interval, RuleError> {
        let source = self.scope.source;
        let at = source.at(expr);
        let (value, field) = match strip(expr) {
            Expr::Interval(IntervalExpr {
                value,
                leading_field,
                leading_precision: None,
                last_field: None,
                fractional_seconds_precision: None,
            }) => (value, leading_field.as_ref()),
            Expr::Interval(_) => {
                return Err(at.error("an interval of a range or precision is not supported; INTERVAL '7 days' is"));
            }
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr: value,
                data_type: DataType::Interval { fields: None, precision: None },
                format: None,
            } => (value, None),
            _ => return Err(at.error(format!("{} is not supported here; {INTERVAL}", describe(expr)))),
        };
        let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), span: _ }) = value.as_ref() else {
            return Err(source.at_or(value.as_ref(), at).error(format!("the interval's text is missing; {INTERVAL}")));
        };
        let field = field.map(|field| interval_field(at, field)).transpose()?;
        self.spelling.interval_field = field.map(Field::keyword);
        interval::parse(text, field).map_err(|problem| source.at_or(value.as_ref(), at).error(problem))
    }
}

fn interval_field(at: At, field: &DateTimeField) -> Result<Field, RuleError> {
    match field {
        DateTimeField::Year => Ok(Field::Year),
        DateTimeField::Month => Ok(Field::Month),
        DateTimeField::Day => Ok(Field::Day),
        DateTimeField::Hour => Ok(Field::Hour),
        DateTimeField::Minute => Ok(Field::Minute),
        DateTimeField::Second => Ok(Field::Second),
        _ => Err(at.error("after INTERVAL '7' Postgres takes YEAR, MONTH, DAY, HOUR, MINUTE or SECOND")),
    }
}
