//! Expressions as they are written: names, literals and their positions, without types.

use super::{At, Name};
use crate::rule::calendar::Unit;
use crate::rule::expression::{
    AggregateFunction, Arithmetic, Comparison, Function, Like, Literal, NowWord, Test, Type,
};

/// An expression and its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The position of its first character.
    pub at: At,
    /// The expression itself.
    pub kind: Kind,
}

/// An expression without types. The variants are those of [`Expression`](crate::rule::expression::Expression).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A column.
    Column(Name),
    /// An aggregate.
    Aggregate(Box<AggregateNode>),
    /// The time bound of WHERE.
    Bound,
    /// A constant.
    Literal(Literal),
    /// `-x`
    Negate(Box<Node>),
    /// `NOT x`
    Not(Box<Node>),
    /// Arithmetic.
    Arithmetic(Arithmetic, Box<Node>, Box<Node>),
    /// A comparison.
    Compare(Comparison, Box<Node>, Box<Node>),
    /// IS \[NOT\] DISTINCT FROM
    Distinct(Box<Node>, Box<Node>, bool),
    /// AND
    And(Box<Node>, Box<Node>),
    /// OR
    Or(Box<Node>, Box<Node>),
    /// IS \[NOT\] NULL and so on
    Is(Box<Node>, Test, bool),
    /// \[NOT\] IN
    In(Box<Node>, Vec<Node>, bool),
    /// \[NOT\] BETWEEN
    Between(Box<Node>, Box<Node>, Box<Node>, bool),
    /// \[NOT\] LIKE, ILIKE
    Like(Box<Node>, Box<Node>, Like),
    /// CASE: operand, branches, ELSE.
    Case(Option<Box<Node>>, Vec<(Node, Node)>, Option<Box<Node>>),
    /// A function of values.
    Call(Function, Vec<Node>),
    /// A cast.
    Cast(Box<Node>, Type),
    /// NOW() or a synonym.
    Now(NowWord),
    /// date_trunc, with the name of a time zone if there is one.
    Truncate(Unit, Box<Node>, Option<String>),
    /// EXTRACT
    Extract(Unit, Box<Node>),
    /// AT TIME ZONE
    AtZone(Box<Node>, String),
}

/// An aggregate over untyped expressions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregateNode {
    /// The aggregate function.
    pub function: AggregateFunction,
    /// The argument. `None` for COUNT(*).
    pub argument: Option<Node>,
    /// FILTER
    pub filter: Option<Node>,
}

impl Node {
    /// Whether this is a time that depends on NOW() alone.
    pub(super) fn goes_by_now(&self) -> bool {
        match &self.kind {
            Kind::Now(_) => true,
            Kind::Cast(inner, _) | Kind::Truncate(_, inner, _) | Kind::AtZone(inner, _) => inner.goes_by_now(),
            Kind::Arithmetic(_, left, right) => left.goes_by_now() && matches!(right.kind, Kind::Literal(_)),
            _ => false,
        }
    }

    /// The name that Postgres gives an output without an alias (FigureColname in parse_target.c).
    pub(in crate::rule) fn default_name(&self) -> &str {
        match &self.kind {
            Kind::Column(name) => &name.text,
            Kind::Aggregate(aggregate) => aggregate.function.as_str(),
            Kind::Call(function, _) => function.as_str(),
            // CURRENT_DATE and its like are no functions to the parser.
            Kind::Now(NowWord::Now) => "now",
            Kind::Now(NowWord::Transaction) => "transaction_timestamp",
            Kind::Now(NowWord::Statement) => "statement_timestamp",
            Kind::Now(NowWord::Current) => "current_timestamp",
            Kind::Now(NowWord::Date) => "current_date",
            Kind::Now(NowWord::Local) => "localtimestamp",
            Kind::Truncate(..) => "date_trunc",
            Kind::Extract(..) => "extract",
            Kind::AtZone(..) => "timezone",
            Kind::Case(_, _, otherwise) => match otherwise.as_deref().map(Self::default_name) {
                Some(name) if name != UNNAMED => name,
                _ => "case",
            },
            Kind::Cast(inner, ty) => match inner.default_name() {
                UNNAMED => short_name(*ty),
                name => name,
            },
            _ => UNNAMED,
        }
    }
}

const UNNAMED: &str = "?column?";

/// A type's name in the catalog.
fn short_name(ty: Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::Int2 => "int2",
        Type::Int4 => "int4",
        Type::Int8 => "int8",
        Type::Timestamp => "timestamp",
        Type::TimestampTz => "timestamptz",
        other => other.name(),
    }
}
