//! The value of an expression over a row or over a group's aggregates, and the digits of decimals.

use super::aggregates::RunningKind;
use super::like::like;
use super::running::Running;
use super::scalar::{self, Digits, QUOTIENT_SCALE, Scalar};
use super::times;
use crate::change::Hole;
use crate::model::zone::Zone;
use crate::model::{ColumnType, Timestamp, Value};
use crate::rule::expression::{Arithmetic, Case, Comparison, Expression, Function, Like, Literal, Test, Type};
use crate::rule::{Query, calendar};

/// The values of columns, aggregates and edges during the evaluation of an expression.
pub(super) trait Values<'a> {
    fn column(&self, slot: usize) -> Scalar<'a>;
    fn aggregate(&self, index: usize) -> Scalar<'a>;
    fn edge(&self, index: usize) -> Scalar<'a>;
    /// The time zone of the session.
    fn zone(&self) -> &Zone;
}

/// A row. The values of some slots may be unknown.
pub(super) struct RowValues<'a> {
    pub(super) row: &'a [Value],
    pub(super) digits: &'a [Digits],
    pub(super) holes: &'a [Hole],
    /// The edges. `None`: NOW() is not known.
    pub(super) edges: Option<&'a [Timestamp]>,
    pub(super) zone: &'a Zone,
}

impl<'a> Values<'a> for RowValues<'a> {
    #[inline]
    fn column(&self, slot: usize) -> Scalar<'a> {
        if self.holes.iter().any(|hole| hole.slot == slot) {
            return Scalar::Unknown;
        }
        let digits = self.digits.get(slot).copied().unwrap_or(Digits::exactly(0));
        self.row.get(slot).map_or(Scalar::Null, |value| Scalar::of(value, digits))
    }

    fn aggregate(&self, _index: usize) -> Scalar<'a> {
        Scalar::Unknown
    }

    fn edge(&self, index: usize) -> Scalar<'a> {
        self.edges.and_then(|edges| edges.get(index)).map_or(Scalar::Unknown, |at| Scalar::Time(*at))
    }

    fn zone(&self) -> &Zone {
        self.zone
    }
}

/// The aggregates of a group.
pub(super) struct GroupValues<'a> {
    pub(super) aggregates: &'a [RunningKind],
    pub(super) running: &'a Running,
    pub(super) edges: &'a [Timestamp],
    pub(super) zone: &'a Zone,
}

impl<'a> Values<'a> for GroupValues<'a> {
    fn column(&self, _slot: usize) -> Scalar<'a> {
        Scalar::Unknown
    }

    fn aggregate(&self, index: usize) -> Scalar<'a> {
        self.aggregates.get(index).map_or(Scalar::Unknown, |kind| self.running.value(kind))
    }

    fn edge(&self, index: usize) -> Scalar<'a> {
        self.edges.get(index).map_or(Scalar::Unknown, |at| Scalar::Time(*at))
    }

    fn zone(&self) -> &Zone {
        self.zone
    }
}

/// Returns an expression's value.
pub(super) fn evaluate<'a>(expression: &'a Expression, values: &impl Values<'a>) -> Scalar<'a> {
    match expression {
        Expression::Column(slot) => values.column(*slot),
        Expression::Aggregate(index) => values.aggregate(*index),
        // The window evaluates the time bound.
        Expression::Bound => Scalar::Bool(true),
        Expression::Literal(literal) => match literal {
            Literal::Null => Scalar::Null,
            Literal::Bool(value) => Scalar::Bool(*value),
            Literal::Number(value, ty) if ty.is_integer() => {
                i64::try_from(value.mantissa()).map_or(Scalar::Unknown, Scalar::Int)
            }
            Literal::Number(value, _) => Scalar::of_decimal(*value),
            Literal::Float(value, _) => Scalar::Double(value.get()),
            Literal::Text(text, Type::Char) => Scalar::Text(text.trim_end_matches(' ')),
            Literal::Text(text, _) => Scalar::Text(text),
            Literal::Time(at, _) => Scalar::Time(*at),
            Literal::Interval(interval, _) => calendar::span(*interval).map_or(Scalar::Unknown, Scalar::Span),
        },
        Expression::Negate(inner, ty) => evaluate(inner, values).negated(*ty),
        Expression::Arithmetic(op, left, right, ty) if ty.is_time() => {
            times::moved(evaluate(left, values), *op, right, evaluate(right, values), *ty, values.zone())
        }
        Expression::Arithmetic(op, left, right, ty) => {
            scalar::arithmetic(*op, evaluate(left, values), evaluate(right, values), *ty)
        }
        Expression::Compare(comparison, left, right) => {
            scalar::compare(*comparison, evaluate(left, values), evaluate(right, values))
        }
        Expression::Distinct(left, right, negated) => {
            let is_distinct = match (evaluate(left, values), evaluate(right, values)) {
                (Scalar::Null, Scalar::Null) => Scalar::Bool(false),
                (Scalar::Unknown, _) | (_, Scalar::Unknown) => Scalar::Unknown,
                (Scalar::Null, _) | (_, Scalar::Null) => Scalar::Bool(true),
                (left, right) => scalar::compare(Comparison::NotEqual, left, right),
            };
            if *negated { scalar::not(is_distinct) } else { is_distinct }
        }
        Expression::And(left, right) => match evaluate(left, values) {
            Scalar::Bool(false) => Scalar::Bool(false),
            left => scalar::and(left, evaluate(right, values)),
        },
        Expression::Or(left, right) => match evaluate(left, values) {
            Scalar::Bool(true) => Scalar::Bool(true),
            left => scalar::or(left, evaluate(right, values)),
        },
        Expression::Not(inner) => scalar::not(evaluate(inner, values)),
        Expression::Is(inner, test, negated) => {
            let is = match (evaluate(inner, values), test) {
                (Scalar::Unknown, _) => Scalar::Unknown,
                (value, Test::Null | Test::Unknown) => Scalar::Bool(value == Scalar::Null),
                (value, Test::True) => Scalar::Bool(value == Scalar::Bool(true)),
                (value, Test::False) => Scalar::Bool(value == Scalar::Bool(false)),
            };
            if *negated { scalar::not(is) } else { is }
        }
        Expression::In(value, list, negated) => {
            let value = evaluate(value, values);
            let is_in = list.iter().fold(Scalar::Bool(false), |found, item| {
                scalar::or(found, scalar::compare(Comparison::Equal, value, evaluate(item, values)))
            });
            if *negated { scalar::not(is_in) } else { is_in }
        }
        Expression::Between(value, low, high, negated) => {
            let value = evaluate(value, values);
            let is_between = scalar::and(
                scalar::compare(Comparison::GreaterOrEqual, value, evaluate(low, values)),
                scalar::compare(Comparison::LessOrEqual, value, evaluate(high, values)),
            );
            if *negated { scalar::not(is_between) } else { is_between }
        }
        Expression::Like(value, pattern, Like { ignores_case, negated }) => {
            let is_like = match (evaluate(value, values), evaluate(pattern, values)) {
                (Scalar::Text(text), Scalar::Text(pattern)) => like(text, pattern, *ignores_case),
                (Scalar::Null, _) | (_, Scalar::Null) => Scalar::Null,
                _ => Scalar::Unknown,
            };
            if *negated { scalar::not(is_like) } else { is_like }
        }
        Expression::Case(case) => chosen(case, values),
        Expression::Call(function, arguments) => call(*function, arguments, values),
        Expression::Cast(inner, from, to) | Expression::Widen(inner, from, to) if from.is_time() && to.is_time() => {
            times::converted(evaluate(inner, values), *from, *to, values.zone())
        }
        Expression::Cast(inner, from, to) | Expression::Widen(inner, from, to) => {
            evaluate(inner, values).cast(*from, *to)
        }
        Expression::Truncate(unit, inner, zone, ty) => {
            let zone = (*ty == Type::TimestampTz).then(|| zone.as_deref().unwrap_or(values.zone()));
            times::truncated(evaluate(inner, values), *unit, zone)
        }
        Expression::Extract(unit, inner, ty) => times::extracted(evaluate(inner, values), *unit, *ty, values.zone()),
        Expression::AtZone(inner, zone, from) => {
            let to = if *from == Type::TimestampTz { Type::Timestamp } else { Type::TimestampTz };
            times::converted(evaluate(inner, values), *from, to, zone)
        }
        Expression::Edge(index) => values.edge(*index),
        // A compiled program has edges instead.
        Expression::Now(_) => Scalar::Unknown,
    }
}

/// Evaluates CASE: the first branch whose condition is true.
fn chosen<'a>(case: &'a Case, values: &impl Values<'a>) -> Scalar<'a> {
    let operand = case.operand.as_ref().map(|operand| evaluate(operand, values));
    for (when, then) in &case.branches {
        let when = evaluate(when, values);
        let is_true = match operand {
            Some(operand) => scalar::compare(Comparison::Equal, operand, when),
            None => when,
        };
        match is_true {
            Scalar::Bool(true) => return evaluate(then, values),
            Scalar::Unknown => return Scalar::Unknown,
            _ => {}
        }
    }
    case.otherwise.as_ref().map_or(Scalar::Null, |otherwise| evaluate(otherwise, values))
}

fn call<'a>(function: Function, arguments: &'a [Expression], values: &impl Values<'a>) -> Scalar<'a> {
    let mut arguments = arguments.iter().map(|argument| evaluate(argument, values));
    match function {
        Function::Abs => arguments.next().map_or(Scalar::Unknown, Scalar::absolute),
        Function::Coalesce => arguments.find(|value| *value != Scalar::Null).unwrap_or(Scalar::Null),
        Function::Nullif => {
            let (Some(left), Some(right)) = (arguments.next(), arguments.next()) else { return Scalar::Unknown };
            match scalar::compare(Comparison::Equal, left, right) {
                Scalar::Bool(true) => Scalar::Null,
                Scalar::Unknown => Scalar::Unknown,
                _ => left,
            }
        }
        // NULLs are skipped.
        Function::Greatest | Function::Least => arguments.fold(Scalar::Null, |best, value| match (best, value) {
            (Scalar::Unknown, _) | (_, Scalar::Unknown) => Scalar::Unknown,
            (Scalar::Null, other) | (other, Scalar::Null) => other,
            (best, value) => match scalar::order(value, best) {
                Some(Some(order)) if (function == Function::Greatest) == order.is_gt() && order.is_ne() => value,
                Some(Some(_)) => best,
                _ => Scalar::Unknown,
            },
        }),
    }
}

/// Returns the greatest number of digits of an expression's decimals, and whether Postgres has exactly that number for
/// all of them.
pub(super) fn digits_of(expression: &Expression, query: &Query) -> Digits {
    let widest = |parts: &[&Expression]| {
        let parts: Vec<Digits> = parts.iter().map(|part| digits_of(part, query)).collect();
        let scale = parts.iter().map(|digits| digits.scale).max().unwrap_or(0);
        Digits { scale, is_exact: parts.iter().all(|digits| digits.is_exact && digits.scale == scale) }
    };
    match expression {
        Expression::Column(column) => match query.table.columns.get(*column).map(|column| &column.ty) {
            Some(ty) => {
                Digits { scale: ty.scale().unwrap_or(0), is_exact: !matches!(ty, ColumnType::Numeric { scale: None }) }
            }
            None => Digits { scale: 0, is_exact: false },
        },
        Expression::Literal(Literal::Number(value, _)) => {
            u8::try_from(value.scale()).map_or(Digits { scale: 0, is_exact: false }, Digits::exactly)
        }
        Expression::Arithmetic(_, _, _, ty) | Expression::Cast(_, _, ty) if ty.is_integer() => Digits::exactly(0),
        Expression::Extract(unit, _, ty) => Digits::exactly(unit.scale(*ty == Type::Date)),
        Expression::Arithmetic(op, left, right, _) => {
            let (left, right) = (digits_of(left, query), digits_of(right, query));
            let is_exact = left.is_exact && right.is_exact;
            match op {
                Arithmetic::Add | Arithmetic::Subtract | Arithmetic::Remainder => {
                    Digits { scale: left.scale.max(right.scale), is_exact }
                }
                Arithmetic::Multiply => Digits { scale: left.scale.saturating_add(right.scale), is_exact },
                Arithmetic::Divide => Digits { scale: QUOTIENT_SCALE, is_exact: false },
            }
        }
        Expression::Cast(_, from, Type::Numeric) if from.is_float() => {
            Digits { scale: QUOTIENT_SCALE, is_exact: false }
        }
        Expression::Negate(inner, _) | Expression::Cast(inner, _, _) => digits_of(inner, query),
        Expression::Call(Function::Nullif, arguments) => {
            arguments.first().map_or(Digits::exactly(0), |inner| digits_of(inner, query))
        }
        Expression::Call(_, arguments) => widest(&arguments.iter().collect::<Vec<_>>()),
        Expression::Case(case) => {
            let values: Vec<&Expression> = case.branches.iter().map(|(_, then)| then).chain(&case.otherwise).collect();
            widest(&values)
        }
        _ => Digits::exactly(0),
    }
}
