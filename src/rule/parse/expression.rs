//! Expressions: the parser's tree → [`Node`], and messages about what a rule does not support.

use sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DataType, ExactNumberInfo, Expr, ExtractSyntax, Function as FunctionExpr,
    ObjectName, ObjectNamePart, TimezoneInfo, TypedString, UnaryOperator, Value, ValueWithSpan,
};

use super::node::{Kind, Node};
use super::source::{Source, name};
use super::{At, Name, calls, clauses, number};
use crate::model::zone::Zone;
use crate::rule::RuleError;
use crate::rule::calendar::Unit;
use crate::rule::expression::{Arithmetic, Comparison, Like, Literal, Test, Type, natural};

/// The forms that are supported where a value or a condition is expected.
pub(super) const SUPPORTED: &str = "an expression may hold columns, literals, + - * / %, comparisons, AND, OR, NOT, IN, \
     BETWEEN, LIKE, IS NULL, IS DISTINCT FROM, CASE, casts, ABS, COALESCE, NULLIF, GREATEST, LEAST, NOW(), intervals, \
     DATE_TRUNC, EXTRACT and AT TIME ZONE";

/// The context of an expression.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    /// The text.
    pub(super) source: &'a Source,
    /// Schema and name of the table.
    pub(super) table: (&'a Name, &'a Name),
    /// The name that the rule gives the table. It hides the table's own name.
    pub(super) alias: Option<&'a Name>,
    /// Whether aggregates are allowed here.
    pub(super) aggregates: bool,
    /// The number of expressions around this one.
    pub(super) depth: u8,
}

/// The greatest nesting of expressions, because taking them apart recurses. A chain `a AND b AND …` is as deep as it is
/// long.
const MAX_DEPTH: u8 = 100;

/// Removes the parentheses around an expression.
pub(super) fn strip(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

impl Scope<'_> {
    /// The context inside an aggregate.
    pub(super) fn of_rows(self) -> Self {
        Self { aggregates: false, ..self }
    }

    pub(super) fn at(self, expr: &Expr) -> At {
        self.source.at(expr)
    }

    /// Returns the column if the expression is one, else `None`.
    pub(super) fn column(self, expr: &Expr) -> Result<Option<Name>, RuleError> {
        let at = self.at(expr);
        match strip(expr) {
            Expr::Identifier(ident) => name(at, ident).map(Some),
            Expr::CompoundIdentifier(idents) => {
                let names = idents.iter().map(|ident| name(at, ident)).collect::<Result<Vec<_>, _>>()?;
                let (schema, table) = self.table;
                let column = match (names.as_slice(), self.alias) {
                    ([of, column], Some(alias)) if of.text == alias.text => column,
                    ([of, column], None) if of.text == table.text => column,
                    ([first, of, column], None) if first.text == schema.text && of.text == table.text => column,
                    _ => return Err(self.not_of_the_table(at)),
                };
                Ok(Some(column.clone()))
            }
            _ => Ok(None),
        }
    }

    fn not_of_the_table(self, at: At) -> RuleError {
        let (schema, table) = (&self.table.0.text, &self.table.1.text);
        let problem = match self.alias {
            Some(alias) => format!("{schema}.{table} is named {} here", alias.text),
            None => format!("a column of something else than {schema}.{table}"),
        };
        at.error(format!("{problem}; write the column's name alone"))
    }

    /// The context one expression deeper.
    pub(super) fn deeper(self, at: At) -> Result<Self, RuleError> {
        match self.depth.checked_add(1).filter(|depth| *depth <= MAX_DEPTH) {
            Some(depth) => Ok(Self { depth, ..self }),
            None => Err(at.error(format!("nested too deeply: more than {MAX_DEPTH} expressions within each other"))),
        }
    }

    /// Converts an expression.
    pub(super) fn node(self, expr: &Expr) -> Result<Node, RuleError> {
        let at = self.at(expr);
        Ok(Node { at, kind: self.deeper(at)?.kind(expr, at)? })
    }

    pub(super) fn boxed(self, expr: &Expr) -> Result<Box<Node>, RuleError> {
        self.node(expr).map(Box::new)
    }

    fn kind(self, expr: &Expr, at: At) -> Result<Kind, RuleError> {
        if let Some(column) = self.column(expr)? {
            return Ok(Kind::Column(column));
        }
        if let Some(interval) = clauses::interval(self, expr)? {
            return Ok(Kind::Literal(interval));
        }
        Ok(match strip(expr) {
            Expr::Value(value) => Kind::Literal(literal(self.source.at_or(value, at), value, false)?),
            Expr::UnaryOp { op, expr: inner } => self.unary(at, expr, *op, inner)?,
            Expr::BinaryOp { left, op, right } => self.binary(at, left, op, right)?,
            Expr::IsNull(inner) => Kind::Is(self.boxed(inner)?, Test::Null, false),
            Expr::IsNotNull(inner) => Kind::Is(self.boxed(inner)?, Test::Null, true),
            Expr::IsUnknown(inner) => Kind::Is(self.boxed(inner)?, Test::Unknown, false),
            Expr::IsNotUnknown(inner) => Kind::Is(self.boxed(inner)?, Test::Unknown, true),
            Expr::IsTrue(inner) => Kind::Is(self.boxed(inner)?, Test::True, false),
            Expr::IsNotTrue(inner) => Kind::Is(self.boxed(inner)?, Test::True, true),
            Expr::IsFalse(inner) => Kind::Is(self.boxed(inner)?, Test::False, false),
            Expr::IsNotFalse(inner) => Kind::Is(self.boxed(inner)?, Test::False, true),
            Expr::IsDistinctFrom(left, right) => Kind::Distinct(self.boxed(left)?, self.boxed(right)?, false),
            Expr::IsNotDistinctFrom(left, right) => Kind::Distinct(self.boxed(left)?, self.boxed(right)?, true),
            Expr::InList { expr, list, negated } => {
                let list = list.iter().map(|item| self.node(item)).collect::<Result<_, _>>()?;
                Kind::In(self.boxed(expr)?, list, *negated)
            }
            Expr::Between { expr, negated, low, high } => {
                Kind::Between(self.boxed(expr)?, self.boxed(low)?, self.boxed(high)?, *negated)
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char: None } => {
                Kind::Like(self.boxed(expr)?, self.boxed(pattern)?, Like { ignores_case: false, negated: *negated })
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char: None } => {
                Kind::Like(self.boxed(expr)?, self.boxed(pattern)?, Like { ignores_case: true, negated: *negated })
            }
            Expr::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                let branch =
                    |CaseWhen { condition, result }: &CaseWhen| Ok((self.node(condition)?, self.node(result)?));
                let operand = operand.as_deref().map(|operand| self.boxed(operand)).transpose()?;
                let otherwise = else_result.as_deref().map(|otherwise| self.boxed(otherwise)).transpose()?;
                Kind::Case(operand, conditions.iter().map(branch).collect::<Result<_, RuleError>>()?, otherwise)
            }
            Expr::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr: inner, data_type, format: None } => {
                Kind::Cast(self.boxed(inner)?, type_named(at, data_type)?)
            }
            // DATE '2026-01-01'
            Expr::TypedString(TypedString { data_type, value, uses_odbc_syntax: false }) => {
                let inner = Kind::Literal(literal(at, value, false)?);
                Kind::Cast(Box::new(Node { at, kind: inner }), type_named(at, data_type)?)
            }
            Expr::AtTimeZone { timestamp, time_zone } => {
                Kind::AtZone(self.boxed(timestamp)?, zone_name(self, time_zone)?)
            }
            Expr::Extract { field, syntax: ExtractSyntax::From, expr: inner } => {
                let unit = Unit::named(&field.to_string()).ok_or_else(|| {
                    at.error(
                        "EXTRACT takes SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, QUARTER, YEAR, DOW, ISODOW, DOY and EPOCH",
                    )
                })?;
                Kind::Extract(unit, self.boxed(inner)?)
            }
            Expr::Function(function) => calls::call(self, expr, function)?,
            _ => return Err(at.error(format!("{} is not supported; {SUPPORTED}", describe(expr)))),
        })
    }

    fn unary(self, at: At, whole: &Expr, op: UnaryOperator, inner: &Expr) -> Result<Kind, RuleError> {
        match (op, strip(inner)) {
            // A number with its sign is one number, as an analyst reads it.
            (UnaryOperator::Minus | UnaryOperator::Plus, Expr::Value(value)) => {
                let negative = op == UnaryOperator::Minus;
                Ok(Kind::Literal(literal(self.source.at_or(value, at), value, negative)?))
            }
            (UnaryOperator::Minus, _) => Ok(Kind::Negate(self.boxed(inner)?)),
            (UnaryOperator::Plus, _) => self.deeper(at)?.kind(inner, at),
            (UnaryOperator::Not, _) => Ok(Kind::Not(self.boxed(inner)?)),
            _ => Err(at.error(format!("{} is not supported; {SUPPORTED}", describe(whole)))),
        }
    }

    fn binary(self, at: At, left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<Kind, RuleError> {
        let (l, r) = (self.boxed(left)?, self.boxed(right)?);
        if let Some(comparison) = comparison(op) {
            return Ok(Kind::Compare(comparison, l, r));
        }
        Ok(match op {
            BinaryOperator::And => Kind::And(l, r),
            BinaryOperator::Or => Kind::Or(l, r),
            BinaryOperator::Plus => Kind::Arithmetic(Arithmetic::Add, l, r),
            BinaryOperator::Minus => Kind::Arithmetic(Arithmetic::Subtract, l, r),
            BinaryOperator::Multiply => Kind::Arithmetic(Arithmetic::Multiply, l, r),
            BinaryOperator::Divide => Kind::Arithmetic(Arithmetic::Divide, l, r),
            BinaryOperator::Modulo => Kind::Arithmetic(Arithmetic::Remainder, l, r),
            _ => return Err(at.error(format!("an expression with {op} is not supported; {SUPPORTED}"))),
        })
    }
}

/// The comparison that an operator stands for.
pub(super) fn comparison(op: &BinaryOperator) -> Option<Comparison> {
    Some(match op {
        BinaryOperator::Gt => Comparison::Greater,
        BinaryOperator::GtEq => Comparison::GreaterOrEqual,
        BinaryOperator::Lt => Comparison::Less,
        BinaryOperator::LtEq => Comparison::LessOrEqual,
        BinaryOperator::Eq => Comparison::Equal,
        BinaryOperator::NotEq => Comparison::NotEqual,
        _ => return None,
    })
}

fn literal(at: At, value: &ValueWithSpan, negative: bool) -> Result<Literal, RuleError> {
    let ValueWithSpan { value, span: _ } = value;
    Ok(match value {
        Value::Number(text, false) => {
            let value = number::parse(text, negative).map_err(|problem| at.error(problem))?;
            let ty = if text.contains(['.', 'e', 'E']) { Type::Numeric } else { natural(value) };
            Literal::Number(value, ty)
        }
        _ if negative => return Err(at.error(format!("a minus before something that is no number; {SUPPORTED}"))),
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => {
            Literal::Text(text.clone(), Type::Unknown)
        }
        Value::Boolean(value) => Literal::Bool(*value),
        Value::Null => Literal::Null,
        _ => return Err(at.error("a literal is a number, 'a text', TRUE, FALSE or NULL")),
    })
}

/// The text of a literal.
pub(super) fn text_of(expr: &Expr) -> Option<&str> {
    match strip(expr) {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), span: _ }) => Some(text),
        _ => None,
    }
}

/// The name of a time zone from the IANA database. Postgres accepts more names, and some of them mean another zone
/// there.
pub(super) fn zone_name(scope: Scope<'_>, expr: &Expr) -> Result<String, RuleError> {
    let named = text_of(expr).filter(|name| name.contains('/') || Zone::is_utc_name(name));
    named.map(str::to_owned).ok_or_else(|| {
        scope.at(expr).error("a time zone is written by its name in the IANA database: 'Europe/Berlin', or 'UTC'")
    })
}

/// The type that a cast names.
fn type_named(at: At, data_type: &DataType) -> Result<Type, RuleError> {
    Ok(match data_type {
        DataType::Boolean | DataType::Bool => Type::Bool,
        DataType::SmallInt(None) | DataType::Int2(None) => Type::Int2,
        DataType::Integer(None) | DataType::Int(None) | DataType::Int4(None) => Type::Int4,
        DataType::BigInt(None) | DataType::Int8(None) => Type::Int8,
        DataType::Numeric(ExactNumberInfo::None) | DataType::Decimal(ExactNumberInfo::None) => Type::Numeric,
        DataType::Real | DataType::Float4 => Type::Float4,
        DataType::DoublePrecision | DataType::Double(ExactNumberInfo::None) | DataType::Float8 => Type::Float8,
        DataType::Text => Type::Text,
        DataType::Uuid => Type::Uuid,
        DataType::Date => Type::Date,
        DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => Type::Timestamp,
        DataType::Timestamp(None, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => Type::TimestampTz,
        _ => {
            return Err(at.error(
                "this cast is not supported; casts to boolean, smallint, integer, bigint, numeric, real, double precision, text, uuid, \
                 date, timestamp and timestamptz are",
            ));
        }
    })
}

/// Describes an expression in a few words, for an error message. The parser's `Display` is not used: it can be long and
/// wrong.
pub(super) fn describe(expr: &Expr) -> String {
    let words = match strip(expr) {
        Expr::Identifier(ident) => return format!("the name {}", shortened(&ident.value)),
        Expr::CompoundIdentifier(_) => "a column",
        Expr::Value(_) | Expr::TypedString(_) => "a literal",
        Expr::Function(FunctionExpr { name: ObjectName(parts), .. }) => match parts.last() {
            Some(ObjectNamePart::Identifier(ident)) => {
                return format!("{}(…)", shortened(&ident.value.to_uppercase()));
            }
            _ => "a function",
        },
        Expr::BinaryOp { left: _, op: BinaryOperator::And, right: _ } => "AND",
        Expr::BinaryOp { left: _, op: BinaryOperator::Or, right: _ } => "OR",
        Expr::BinaryOp { left: _, op, right: _ } => return format!("an expression with {op}"),
        Expr::UnaryOp { op: UnaryOperator::Not, expr: _ } => "NOT",
        Expr::UnaryOp { op, expr: _ } => return format!("an expression with {op}"),
        Expr::Between { .. } => "BETWEEN",
        Expr::InSubquery { .. } | Expr::InUnnest { .. } => "IN with a subquery or an array",
        Expr::InList { .. } => "IN",
        Expr::Like { .. } | Expr::ILike { .. } => "LIKE with ESCAPE or ANY",
        Expr::SimilarTo { .. } | Expr::RLike { .. } => "a regular expression",
        Expr::AnyOp { .. } | Expr::AllOp { .. } => "ANY or ALL",
        Expr::IsNull(_) | Expr::IsNotNull(_) => "IS NULL",
        Expr::Case { .. } => "CASE",
        Expr::Cast { .. } | Expr::Convert { .. } => "a cast",
        Expr::Subquery(_) | Expr::Exists { .. } => "a subquery",
        Expr::AtTimeZone { .. } => "AT TIME ZONE",
        Expr::Extract { .. } => "EXTRACT",
        Expr::Interval(_) => "an interval",
        Expr::Collate { .. } => "COLLATE",
        Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_) => "ROLLUP, CUBE or GROUPING SETS",
        Expr::Tuple(_) => "a row of several values",
        _ => "this expression",
    };
    words.to_owned()
}

pub(super) fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 63;
    text.chars().take(MAX_CHARS).collect()
}
