//! Aggregates.

use super::{Expression, Type};

/// An aggregate over the rows of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Aggregate {
    /// The aggregate function.
    pub function: AggregateFunction,
    /// The argument. `None` for COUNT(*).
    pub argument: Option<Expression>,
    /// `FILTER (WHERE …)`
    pub filter: Option<Expression>,
    /// The type of the argument.
    pub over: Type,
    /// The type of the result.
    pub ty: Type,
}

impl Aggregate {
    /// COUNT(*) over all rows.
    pub const COUNT_ROWS: Self =
        Self { function: AggregateFunction::Count, argument: None, filter: None, over: Type::Int8, ty: Type::Int8 };

    /// Whether the aggregate counts. Its value without rows is then 0.
    pub fn is_count(&self) -> bool {
        self.function.is_count()
    }

    /// The expressions that read a row: argument and filter.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.argument.iter().chain(&self.filter)
    }
}

/// An aggregate function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateFunction {
    /// `COUNT(*)`, `COUNT(x)`
    Count,
    /// `COUNT(DISTINCT x)`
    CountDistinct,
    /// `SUM(x)`
    Sum,
    /// `AVG(x)`
    Avg,
    /// `MIN(x)`
    Min,
    /// `MAX(x)`
    Max,
    /// `BOOL_AND(x)`
    BoolAnd,
    /// `BOOL_OR(x)`
    BoolOr,
}

impl AggregateFunction {
    /// Whether the function counts.
    pub fn is_count(self) -> bool {
        matches!(self, Self::Count | Self::CountDistinct)
    }

    /// The name in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count | Self::CountDistinct => "count",
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::BoolAnd => "bool_and",
            Self::BoolOr => "bool_or",
        }
    }
}
