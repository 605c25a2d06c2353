//! WHERE and HAVING.

use rust_decimal::Decimal;
use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, DateTimeField, Expr, Interval as IntervalExpr, UnaryOperator, Value,
    ValueWithSpan,
};

use super::expression::{Args, Call, aggregate_or_refuse, call, column, describe, strip};
use super::interval::{self, Field};
use super::source::Source;
use super::{At, Name, ParsedBound, ParsedHaving, Spelling, number};
use crate::rule::{Comparison, Interval, RuleError};

pub(super) const BOUND: &str =
    "WHERE may hold one lower time bound, column >= NOW() - INTERVAL '7 days' (or with >), and nothing else";
pub(super) const HAVING: &str =
    "HAVING may hold one comparison of COUNT(*), SUM(column) or SUM(ABS(column)) with a number";
const INTERVAL: &str = "an interval is written INTERVAL '7 days'";

/// WHERE: the lower time bound, either way round.
pub(super) fn bound(
    source: &Source,
    table: (&Name, &Name),
    expr: &Expr,
    spelling: &mut Spelling,
) -> Result<ParsedBound, RuleError> {
    let at = source.at(expr);
    let refuse = |what: &str| at.error(format!("{what} is not supported; {BOUND}"));
    let Expr::BinaryOp { left, op, right } = strip(expr) else {
        return Err(refuse(&describe(expr)));
    };
    let (time, back, reversed, inclusive) = match op {
        BinaryOperator::Gt => (left, right, false, false),
        BinaryOperator::GtEq => (left, right, false, true),
        BinaryOperator::Lt => (right, left, true, false),
        BinaryOperator::LtEq => (right, left, true, true),
        BinaryOperator::And | BinaryOperator::Or => return Err(refuse(&describe(expr))),
        _ => return Err(refuse(&format!("a comparison with {op}"))),
    };
    let Some(column) = column(source, table, time)? else {
        // The one mistake worth a word of its own: col < NOW() - …, a rule on rows that only ever grow older.
        let upper = matches!(strip(back), Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        return Err(refuse(&if upper { "an upper bound".to_owned() } else { describe(time) }));
    };
    spelling.bound_reversed = reversed;
    let back = moment(source, back, spelling)?;
    Ok(ParsedBound { column, inclusive, back })
}

/// `NOW() - INTERVAL …`
fn moment(source: &Source, expr: &Expr, spelling: &mut Spelling) -> Result<Interval, RuleError> {
    let at = source.at(expr);
    let Expr::BinaryOp { left, op: BinaryOperator::Minus, right } = strip(expr) else {
        return Err(at.error(format!("a bound of {} is not supported; {BOUND}", describe(expr))));
    };
    spelling.current_timestamp = now(source, left)?;
    interval(source, right, spelling)
}

/// Whether it is CURRENT_TIMESTAMP rather than NOW().
fn now(source: &Source, expr: &Expr) -> Result<bool, RuleError> {
    let refuse = |what: String| source.at(expr).error(format!("{what} is not supported here; {BOUND}"));
    let Expr::Function(function) = strip(expr) else {
        return Err(refuse(describe(expr)));
    };
    let Call { name, args } = call(source, expr, function)?;
    match (name.as_str(), args) {
        ("now", Args::Empty) => Ok(false),
        ("current_timestamp", Args::Absent) => Ok(true),
        _ => Err(refuse(describe(expr))),
    }
}

/// `INTERVAL '7 days'`, `INTERVAL '7' DAY`, `'7 days'::interval`.
fn interval(source: &Source, expr: &Expr, spelling: &mut Spelling) -> Result<Interval, RuleError> {
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
    spelling.interval_field = field.map(Field::keyword);
    interval::parse(text, field).map_err(|problem| source.at_or(value.as_ref(), at).error(problem))
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

/// HAVING: one comparison of an aggregate with a number, either way round.
pub(super) fn having(
    source: &Source,
    table: (&Name, &Name),
    expr: &Expr,
    spelling: &mut Spelling,
) -> Result<ParsedHaving, RuleError> {
    let at = source.at(expr);
    let refuse = |what: &str| at.error(format!("{what} is not supported; {HAVING}"));
    let Expr::BinaryOp { left, op, right } = strip(expr) else {
        return Err(refuse(&describe(expr)));
    };
    let comparison = match op {
        BinaryOperator::Gt => Comparison::Greater,
        BinaryOperator::GtEq => Comparison::GreaterOrEqual,
        BinaryOperator::Lt => Comparison::Less,
        BinaryOperator::LtEq => Comparison::LessOrEqual,
        BinaryOperator::Eq => Comparison::Equal,
        BinaryOperator::NotEq => Comparison::NotEqual,
        _ => return Err(refuse(&describe(expr))),
    };
    if let Expr::Identifier(_) | Expr::CompoundIdentifier(_) = strip(left) {
        let problem = format!("HAVING cannot name an output or a column; write the aggregate out. {HAVING}");
        return Err(source.at(left.as_ref()).error(problem));
    }
    let (aggregate, literal, comparison) = match literal(left) {
        Some(literal) => (right, literal, turned(comparison)),
        None => match literal(right) {
            Some(literal) => (left, literal, comparison),
            None => {
                // Whichever side is wrong: the aggregate's own refusal comes first, as it stands first.
                aggregate_or_refuse(source, table, left, HAVING)?;
                let problem = format!("{} is not supported here; {HAVING}", describe(right));
                return Err(source.at(right.as_ref()).error(problem));
            }
        },
    };
    spelling.having_reversed = std::ptr::eq(aggregate, right);
    let aggregate = aggregate_or_refuse(source, table, aggregate, HAVING)?;
    let threshold = threshold(source, at, literal, spelling)?;
    Ok(ParsedHaving { aggregate, comparison, threshold })
}

/// A number with the sign before it.
#[derive(Clone, Copy)]
struct Literal<'a> {
    negative: bool,
    value: &'a ValueWithSpan,
}

fn literal(expr: &Expr) -> Option<Literal<'_>> {
    let (negative, value) = match strip(expr) {
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => (true, strip(expr)),
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => (false, strip(expr)),
        expr => (false, expr),
    };
    match value {
        Expr::Value(value) => Some(Literal { negative, value }),
        _ => None,
    }
}

fn threshold(source: &Source, at: At, literal: Literal<'_>, spelling: &mut Spelling) -> Result<Decimal, RuleError> {
    let at = source.at_or(literal.value, at);
    let ValueWithSpan { value, span: _ } = literal.value;
    let Value::Number(text, false) = value else {
        return Err(at.error(format!("the threshold has to be a number such as 3000 or 0.5; {HAVING}")));
    };
    spelling.numeric_threshold = text.contains(['.', 'e', 'E']);
    number::parse(text, literal.negative).map_err(|problem| at.error(problem))
}

/// The same comparison with its sides exchanged.
fn turned(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Equal => Comparison::Equal,
        Comparison::NotEqual => Comparison::NotEqual,
    }
}
