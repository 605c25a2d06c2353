//! Operators, functions and names of NOW().

use super::Type;

/// A spelling of NOW().
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NowWord {
    /// `now()`
    Now,
    /// `transaction_timestamp()`
    Transaction,
    /// `statement_timestamp()`
    Statement,
    /// `CURRENT_TIMESTAMP`
    Current,
    /// `CURRENT_DATE`
    Date,
    /// `LOCALTIMESTAMP`
    Local,
}

impl NowWord {
    /// The spelling in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Now => "now()",
            Self::Transaction => "transaction_timestamp()",
            Self::Statement => "statement_timestamp()",
            Self::Current => "CURRENT_TIMESTAMP",
            Self::Date => "CURRENT_DATE",
            Self::Local => "LOCALTIMESTAMP",
        }
    }

    /// The type of the value.
    pub fn ty(self) -> Type {
        match self {
            Self::Now | Self::Transaction | Self::Statement | Self::Current => Type::TimestampTz,
            Self::Date => Type::Date,
            Self::Local => Type::Timestamp,
        }
    }
}

/// An arithmetic operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
}

impl Arithmetic {
    /// The operator in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

/// A test of IS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    /// `IS NULL`
    Null,
    /// `IS TRUE`
    True,
    /// `IS FALSE`
    False,
    /// `IS UNKNOWN`: a condition that is NULL.
    Unknown,
}

/// A function of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// `ABS(number)`
    Abs,
    /// `COALESCE(a, b, …)`
    Coalesce,
    /// `NULLIF(a, b)`
    Nullif,
    /// `GREATEST(a, b, …)`
    Greatest,
    /// `LEAST(a, b, …)`
    Least,
}

impl Function {
    /// The name in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Abs => "abs",
            Self::Coalesce => "coalesce",
            Self::Nullif => "nullif",
            Self::Greatest => "greatest",
            Self::Least => "least",
        }
    }
}

/// A comparison operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
}

impl Comparison {
    /// The operator in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Equal => "=",
            Self::NotEqual => "<>",
        }
    }

    /// The same comparison with its sides exchanged.
    #[must_use]
    pub fn turned(self) -> Self {
        match self {
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Equal => Self::Equal,
            Self::NotEqual => Self::NotEqual,
        }
    }
}
