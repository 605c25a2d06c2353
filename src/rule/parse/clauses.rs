//! WHERE, with its conditions on a row and its time bound, and intervals.

use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, DateTimeField, Expr, Interval as IntervalExpr, Value, ValueWithSpan,
};

use super::expression::{Scope, describe, strip};
use super::interval::{self, Field};
use super::node::{Kind, Node};
use super::{At, ParsedBound, Spelling};
use crate::rule::RuleError;
use crate::rule::expression::{Comparison, Literal};

const INTERVAL: &str = "an interval is written INTERVAL '7 days'";

/// WHERE: conditions joined with AND, one of which may be the time bound.
pub(super) struct Where<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) bound: Option<ParsedBound>,
    pub(super) spelling: &'a mut Spelling,
}

impl Where<'_> {
    /// Converts a condition, or several that AND joins.
    pub(super) fn node(&mut self, expr: &Expr) -> Result<Node, RuleError> {
        let at = self.scope.at(expr);
        if let Expr::BinaryOp { left, op: BinaryOperator::And, right } = strip(expr) {
            let outside = self.scope;
            self.scope = outside.deeper(at)?;
            let (left, right) = (Box::new(self.node(left)?), Box::new(self.node(right)?));
            self.scope = outside;
            return Ok(Node { at, kind: Kind::And(left, right) });
        }
        let node = self.scope.node(expr)?;
        Ok(if self.bound.is_none() { self.with_bound(node) } else { node })
    }

    /// Takes the node out if it is the lower time bound, with the column on either side.
    fn with_bound(&mut self, node: Node) -> Node {
        let at = node.at;
        let (column, inclusive, edge, reversed) = match node.kind {
            Kind::Compare(op @ (Comparison::Greater | Comparison::GreaterOrEqual), left, right)
                if is_column(&left) && right.goes_by_now() =>
            {
                (left, op == Comparison::GreaterOrEqual, right, false)
            }
            Kind::Compare(op @ (Comparison::Less | Comparison::LessOrEqual), left, right)
                if is_column(&right) && left.goes_by_now() =>
            {
                (right, op == Comparison::LessOrEqual, left, true)
            }
            // Postgres takes it for two comparisons, too.
            Kind::Between(value, low, high, false) if is_column(&value) && low.goes_by_now() => {
                let upper = Kind::Compare(Comparison::LessOrEqual, value.clone(), high);
                let lower = Node { at, kind: Kind::Compare(Comparison::GreaterOrEqual, value, low) };
                let lower = Box::new(self.with_bound(lower));
                return Node { at, kind: Kind::And(lower, Box::new(Node { at, kind: upper })) };
            }
            kind => return Node { at, kind },
        };
        let Kind::Column(column) = column.kind else { return Node { at, kind: Kind::Bound } };
        self.bound = Some(ParsedBound { column, inclusive, edge: *edge });
        self.spelling.bound_reversed = reversed;
        Node { at, kind: Kind::Bound }
    }
}

fn is_column(node: &Node) -> bool {
    matches!(node.kind, Kind::Column(_))
}

/// Parses `INTERVAL '7 days'`, `INTERVAL '7' DAY` or `'7 days'::interval`. `None`: the expression is no interval.
pub(super) fn interval(scope: Scope<'_>, expr: &Expr) -> Result<Option<Literal>, RuleError> {
    let source = scope.source;
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
        _ => return Ok(None),
    };
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), span: _ }) = value.as_ref() else {
        let problem = format!("an interval of {} is not supported; {INTERVAL}", describe(value));
        return Err(source.at_or(value.as_ref(), at).error(problem));
    };
    let field = field.map(|field| interval_field(at, field)).transpose()?;
    let read = interval::parse(text, field).map_err(|problem| source.at_or(value.as_ref(), at).error(problem))?;
    Ok(Some(Literal::Interval(read, field.map(Field::keyword))))
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
