//! Expressions of a query: over a row (WHERE, arguments and filters of aggregates) and over the aggregates of a group (HAVING,
//! outputs). Typed by [`compile`](super::compile), evaluated by [`evaluate`](super::evaluate), written as SQL by
//! [`render`](super::render). Pure.

mod aggregate;
mod operators;

use std::sync::Arc;

use rust_decimal::Decimal;

use super::Interval;
use super::calendar::Unit;
use crate::model::zone::Zone;
use crate::model::{ColumnType, Double, Timestamp};

pub use aggregate::{Aggregate, AggregateFunction};
pub use operators::{Arithmetic, Comparison, Function, NowWord, Test};

/// A typed expression. Columns are indexes into the table's columns. In a compiled program they are indexes into a
/// decoded row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expression {
    /// A column of the row.
    Column(usize),
    /// An aggregate: an index into [`Query::aggregates`](super::Query::aggregates).
    Aggregate(usize),
    /// The time bound, [`Query::bound`](super::Query::bound). It appears once in WHERE, and is true for every row
    /// inside a window.
    Bound,
    /// A constant.
    Literal(Literal),
    /// `-x`
    Negate(Box<Expression>, Type),
    /// `left op right`, calculated in this type.
    Arithmetic(Arithmetic, Box<Expression>, Box<Expression>, Type),
    /// `left = right` and so on.
    Compare(Comparison, Box<Expression>, Box<Expression>),
    /// `left IS [NOT] DISTINCT FROM right`. The flag is true with NOT.
    Distinct(Box<Expression>, Box<Expression>, bool),
    /// `AND`
    And(Box<Expression>, Box<Expression>),
    /// `OR`
    Or(Box<Expression>, Box<Expression>),
    /// `NOT`
    Not(Box<Expression>),
    /// `x IS [NOT] NULL` and so on. The flag is true with NOT.
    Is(Box<Expression>, Test, bool),
    /// `x [NOT] IN (…)`
    In(Box<Expression>, Vec<Expression>, bool),
    /// `x [NOT] BETWEEN low AND high`
    Between(Box<Expression>, Box<Expression>, Box<Expression>, bool),
    /// `x [NOT] LIKE pattern`, or ILIKE.
    Like(Box<Expression>, Box<Expression>, Like),
    /// `CASE`
    Case(Box<Case>),
    /// A function of values.
    Call(Function, Vec<Expression>),
    /// `x::type`, and the type of `x`.
    Cast(Box<Expression>, Type, Type),
    /// An implicit conversion of a time, from one type to another, for a comparison of two types of times.
    Widen(Box<Expression>, Type, Type),
    /// NOW(), or one of its synonyms.
    Now(NowWord),
    /// `date_trunc(unit, x [, zone])` of a time of this type.
    Truncate(Unit, Box<Expression>, Option<Arc<Zone>>, Type),
    /// `EXTRACT(unit FROM x)` of a time of this type, or of an interval.
    Extract(Unit, Box<Expression>, Type),
    /// `x AT TIME ZONE zone`, and the type of `x`.
    AtZone(Box<Expression>, Arc<Zone>, Type),
    /// A time that depends on NOW(), by its number. Only in a compiled program.
    Edge(usize),
}

/// `CASE [operand] WHEN … THEN … [ELSE …] END`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    /// The value that each WHEN is compared with. `None`: each WHEN is a condition.
    pub operand: Option<Expression>,
    /// The pairs of WHEN and THEN.
    pub branches: Vec<(Expression, Expression)>,
    /// ELSE.
    pub otherwise: Option<Expression>,
}

/// A constant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Literal {
    /// `NULL`
    Null,
    /// `TRUE`, `FALSE`
    Bool(bool),
    /// A number. The type is the one that Postgres gives it.
    Number(Decimal, Type),
    /// A `real` or a `double precision`.
    Float(Double, Type),
    /// A text, or a value of another type that is written as a text.
    Text(String, Type),
    /// A time. A local time is stored as if it were UTC.
    Time(Timestamp, Type),
    /// An interval. The field is the one of `INTERVAL '7' DAY`.
    Interval(Interval, Option<&'static str>),
}

/// A variant of LIKE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Like {
    /// Whether it is ILIKE.
    pub ignores_case: bool,
    /// Whether it has NOT.
    pub negated: bool,
}

/// The type of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// `boolean`
    Bool,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `numeric`
    Numeric,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `text`, `varchar`
    Text,
    /// `char(n)`
    Char,
    /// An enum.
    Enum,
    /// `inet`
    Inet,
    /// `uuid`
    Uuid,
    /// `date`
    Date,
    /// `timestamp`
    Timestamp,
    /// `timestamptz`
    TimestampTz,
    /// `interval`: a literal, or the difference of two times.
    Interval,
    /// A literal whose type depends on its place: NULL, or a text.
    Unknown,
}

impl Type {
    /// The type of a column's values. `None` where expressions do not support the column's type.
    pub fn of(column: &ColumnType) -> Option<Self> {
        Some(match column {
            ColumnType::Bool => Self::Bool,
            ColumnType::Int2 => Self::Int2,
            ColumnType::Int4 => Self::Int4,
            ColumnType::Int8 => Self::Int8,
            ColumnType::Numeric { .. } => Self::Numeric,
            ColumnType::Float4 => Self::Float4,
            ColumnType::Float8 => Self::Float8,
            ColumnType::Text => Self::Text,
            ColumnType::Char => Self::Char,
            ColumnType::Enum => Self::Enum,
            ColumnType::Inet => Self::Inet,
            ColumnType::Uuid => Self::Uuid,
            ColumnType::Date => Self::Date,
            ColumnType::Timestamp { .. } => Self::Timestamp,
            ColumnType::TimestampTz => Self::TimestampTz,
            ColumnType::Other => return None,
        })
    }

    /// The name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::Int2 => "smallint",
            Self::Int4 => "integer",
            Self::Int8 => "bigint",
            Self::Numeric => "numeric",
            Self::Float4 => "real",
            Self::Float8 => "double precision",
            Self::Text => "text",
            // `character` alone would be one of one character.
            Self::Char => "bpchar",
            Self::Enum => "an enum",
            Self::Inet => "inet",
            Self::Uuid => "uuid",
            Self::Date => "date",
            Self::Timestamp => "timestamp without time zone",
            Self::TimestampTz => "timestamp with time zone",
            Self::Interval => "interval",
            Self::Unknown => "unknown",
        }
    }

    /// Whether this is an integer type.
    pub fn is_integer(self) -> bool {
        matches!(self, Self::Int2 | Self::Int4 | Self::Int8)
    }

    /// Whether this is a numeric type.
    pub fn is_number(self) -> bool {
        self.is_integer() || self == Self::Numeric || self.is_float()
    }

    /// Whether this is a binary floating-point type.
    pub fn is_float(self) -> bool {
        matches!(self, Self::Float4 | Self::Float8)
    }

    /// Whether this is a type of times.
    pub fn is_time(self) -> bool {
        matches!(self, Self::Date | Self::Timestamp | Self::TimestampTz)
    }
}

impl Expression {
    /// The direct operands.
    pub fn parts(&self) -> Vec<&Expression> {
        match self {
            Self::Column(_) | Self::Aggregate(_) | Self::Bound | Self::Literal(_) | Self::Now(_) | Self::Edge(_) => {
                Vec::new()
            }
            Self::Negate(inner, _)
            | Self::Not(inner)
            | Self::Is(inner, _, _)
            | Self::Cast(inner, _, _)
            | Self::Widen(inner, _, _)
            | Self::Truncate(_, inner, _, _)
            | Self::Extract(_, inner, _)
            | Self::AtZone(inner, _, _) => vec![inner],
            Self::Arithmetic(_, left, right, _)
            | Self::Compare(_, left, right)
            | Self::Distinct(left, right, _)
            | Self::And(left, right)
            | Self::Or(left, right)
            | Self::Like(left, right, _) => vec![left, right],
            Self::Between(value, low, high, _) => vec![value, low, high],
            Self::In(value, list, _) => std::iter::once(&**value).chain(list).collect(),
            Self::Call(_, arguments) => arguments.iter().collect(),
            Self::Case(case) => {
                let branches = case.branches.iter().flat_map(|(when, then)| [when, then]);
                case.operand.iter().chain(branches).chain(&case.otherwise).collect()
            }
        }
    }

    pub(in crate::rule) fn parts_mut(&mut self) -> Vec<&mut Expression> {
        match self {
            Self::Column(_) | Self::Aggregate(_) | Self::Bound | Self::Literal(_) | Self::Now(_) | Self::Edge(_) => {
                Vec::new()
            }
            Self::Negate(inner, _)
            | Self::Not(inner)
            | Self::Is(inner, _, _)
            | Self::Cast(inner, _, _)
            | Self::Widen(inner, _, _)
            | Self::Truncate(_, inner, _, _)
            | Self::Extract(_, inner, _)
            | Self::AtZone(inner, _, _) => vec![inner],
            Self::Arithmetic(_, left, right, _)
            | Self::Compare(_, left, right)
            | Self::Distinct(left, right, _)
            | Self::And(left, right)
            | Self::Or(left, right)
            | Self::Like(left, right, _) => vec![left, right],
            Self::Between(value, low, high, _) => vec![value, low, high],
            Self::In(value, list, _) => std::iter::once(&mut **value).chain(list).collect(),
            Self::Call(_, arguments) => arguments.iter_mut().collect(),
            Self::Case(case) => {
                let Case { operand, branches, otherwise } = &mut **case;
                let branches = branches.iter_mut().flat_map(|(when, then)| [when, then]);
                operand.iter_mut().chain(branches).chain(otherwise).collect()
            }
        }
    }

    /// The columns that the expression reads, in order of appearance. A column can appear twice.
    pub fn columns(&self) -> Vec<usize> {
        match self {
            Self::Column(column) => vec![*column],
            _ => self.parts().into_iter().flat_map(Self::columns).collect(),
        }
    }

    /// Whether the expression contains an aggregate.
    pub fn has_aggregate(&self) -> bool {
        matches!(self, Self::Aggregate(_)) || self.parts().into_iter().any(Self::has_aggregate)
    }

    /// Whether the expression contains NOW().
    pub fn has_now(&self) -> bool {
        matches!(self, Self::Now(_) | Self::Edge(_)) || self.parts().into_iter().any(Self::has_now)
    }

    /// Whether the result depends on the session's time zone.
    pub fn is_zoned(&self) -> bool {
        let here = match self {
            Self::Now(clock) => clock.ty() != Type::TimestampTz,
            Self::Cast(_, from, to) | Self::Widen(_, from, to) => {
                from.is_time() && to.is_time() && (*from == Type::TimestampTz) != (*to == Type::TimestampTz)
            }
            Self::Arithmetic(_, _, right, Type::TimestampTz) => {
                matches!(&**right, Self::Literal(Literal::Interval(interval, _)) if interval.is_calendar())
            }
            Self::Arithmetic(Arithmetic::Subtract, _, _, Type::Interval) => false,
            Self::Truncate(_, _, None, ty) | Self::Extract(_, _, ty) => *ty == Type::TimestampTz,
            _ => false,
        };
        here || self.parts().into_iter().any(Self::is_zoned)
    }

    /// The conditions, joined with AND, that do not depend on NOW(). The time bound is kept. `None`: there are none.
    pub fn timeless(&self) -> Option<Self> {
        match self {
            Self::And(left, right) => match (left.timeless(), right.timeless()) {
                (Some(left), Some(right)) => Some(Self::And(Box::new(left), Box::new(right))),
                (one, other) => one.or(other),
            },
            other => (!other.has_now()).then(|| other.clone()),
        }
    }

    /// Calls `change` for every time zone that the expression names.
    pub fn change_zones(&mut self, change: &mut impl FnMut(&mut Arc<Zone>)) {
        match self {
            Self::Truncate(_, _, Some(zone), _) | Self::AtZone(_, zone, _) => change(zone),
            _ => {}
        }
        self.parts_mut().into_iter().for_each(|part| part.change_zones(change));
    }

    /// `NOW() - INTERVAL …`
    pub fn ago(back: Interval) -> Self {
        let interval = Self::Literal(Literal::Interval(back, None));
        Self::Arithmetic(Arithmetic::Subtract, Box::new(Self::Now(NowWord::Now)), Box::new(interval), Type::TimestampTz)
    }

    /// Whether this is the time bound and nothing more. It rejects no row that a window holds.
    pub fn is_bound(&self) -> bool {
        *self == Self::Bound
    }

    /// Calls `change` for every column.
    ///
    /// # Errors
    /// The first error of `change`.
    pub fn change_columns<X>(&mut self, change: &mut impl FnMut(&mut usize) -> Result<(), X>) -> Result<(), X> {
        match self {
            Self::Column(column) => change(column),
            _ => self.parts_mut().into_iter().try_for_each(|part| part.change_columns(change)),
        }
    }

    /// Returns the canonical spelling of the same meaning: a number stands on the right of a comparison, without
    /// trailing zeros.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        for part in self.parts_mut() {
            let old = std::mem::replace(part, Self::Bound);
            *part = old.canonical();
        }
        match self {
            Self::Compare(comparison, left, right) => {
                let turned = match (&*left, &*right) {
                    (Self::Literal(_), other) => !matches!(other, Self::Literal(_)),
                    (left, right) => left.has_now() && !right.has_now(),
                };
                let (comparison, left, right) =
                    if turned { (comparison.turned(), right, left) } else { (comparison, left, right) };
                Self::Compare(comparison, left, Box::new(right.without_digits()))
            }
            Self::Now(clock) if clock.ty() == Type::TimestampTz => Self::Now(NowWord::Now),
            Self::Literal(Literal::Interval(interval, _)) => Self::Literal(Literal::Interval(interval, None)),
            other => other,
        }
    }

    fn without_digits(self) -> Self {
        match self {
            Self::Literal(Literal::Number(value, _)) => {
                let value = value.normalize();
                Self::Literal(Literal::Number(value, natural(value)))
            }
            other => other,
        }
    }
}

/// The type that Postgres gives a number literal.
pub fn natural(value: Decimal) -> Type {
    if value.scale() > 0 {
        return Type::Numeric;
    }
    match value.mantissa() {
        n if i32::try_from(n).is_ok() => Type::Int4,
        n if i64::try_from(n).is_ok() => Type::Int8,
        _ => Type::Numeric,
    }
}
