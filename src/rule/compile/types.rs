//! The types of expressions, as Postgres finds them: [`Node`] → [`Expression`].

use rust_decimal::Decimal;
use uuid::Uuid;

use super::times::{self, time_of};
use super::{find, unsupported};
use crate::model::{ColumnType, Double, Table, inet};
use crate::rule::RuleError;
use crate::rule::expression::{
    Aggregate, AggregateFunction, Arithmetic, Case, Expression, Function, Literal, Test, Type,
};
use crate::rule::parse::node::{AggregateNode, Kind, Node};
use crate::rule::parse::{self, At};

/// Resolves the names in an expression to columns and aggregates.
pub(super) struct Types<'a> {
    pub(super) table: &'a Table,
    /// The distinct aggregates so far.
    pub(super) aggregates: &'a mut Vec<Aggregate>,
    /// Whether columns are allowed: in expressions over a row, but not over a group.
    pub(super) columns: bool,
}

type Typed = (Expression, Type);

impl Types<'_> {
    /// Types a condition.
    pub(super) fn condition(&mut self, node: &Node, what: &str) -> Result<Expression, RuleError> {
        let (expression, ty) = self.typed(node)?;
        match ty {
            Type::Bool => Ok(expression),
            Type::Unknown if expression == Expression::Literal(Literal::Null) => Ok(expression),
            _ => Err(node.at.error(format!("{what} has to be a condition, and this is {}", ty.name()))),
        }
    }

    /// Types an expression.
    pub(super) fn typed(&mut self, node: &Node) -> Result<Typed, RuleError> {
        let at = node.at;
        Ok(match &node.kind {
            Kind::Bound => (Expression::Bound, Type::Bool),
            Kind::Column(name) => {
                let (index, column) = find(self.table, name)?;
                if !self.columns {
                    let problem = format!(
                        "{:?} differs from row to row of a group: take an aggregate of it, or ask for it in WHERE",
                        name.text
                    );
                    return Err(name.at.error(problem));
                }
                let ty = Type::of(&column.ty).ok_or_else(|| {
                    unsupported(
                        name.at,
                        column,
                        "expressions take boolean, smallint, integer, bigint, numeric, real, double precision, text, varchar, char, \
                         uuid, inet, enums, date, timestamp and timestamptz",
                    )
                })?;
                (Expression::Column(index), ty)
            }
            Kind::Aggregate(aggregate) => self.aggregate(at, aggregate)?,
            Kind::Literal(literal) => (Expression::Literal(literal.clone()), type_of(literal)),
            Kind::Negate(inner) => {
                let (inner, ty) = self.number(inner, "minus")?;
                (Expression::Negate(Box::new(inner), ty), ty)
            }
            Kind::Not(inner) => (Expression::Not(Box::new(self.condition(inner, "NOT")?)), Type::Bool),
            Kind::And(left, right) => {
                let (left, right) = (self.condition(left, "AND")?, self.condition(right, "AND")?);
                (Expression::And(Box::new(left), Box::new(right)), Type::Bool)
            }
            Kind::Or(left, right) => {
                let (left, right) = (self.condition(left, "OR")?, self.condition(right, "OR")?);
                (Expression::Or(Box::new(left), Box::new(right)), Type::Bool)
            }
            Kind::Arithmetic(op, left, right) => self.arithmetic(at, *op, left, right)?,
            Kind::Compare(comparison, left, right) => {
                let (left, right) = self.pair(at, left, right)?;
                (Expression::Compare(*comparison, Box::new(left), Box::new(right)), Type::Bool)
            }
            Kind::Distinct(left, right, negated) => {
                let (left, right) = self.pair(at, left, right)?;
                (Expression::Distinct(Box::new(left), Box::new(right), *negated), Type::Bool)
            }
            Kind::Is(inner, test, negated) => {
                let inner = match test {
                    Test::Null => self.typed(inner)?.0,
                    _ => self.condition(inner, "IS TRUE, IS FALSE or IS UNKNOWN")?,
                };
                (Expression::Is(Box::new(inner), *test, *negated), Type::Bool)
            }
            Kind::In(value, list, negated) => {
                // Postgres finds one type for all items of a longer list. It compares with a single item.
                let nodes: Vec<&Node> = std::iter::once(&**value).chain(list).collect();
                let common = if list.len() > 1 { chosen_type } else { common_type };
                let (mut all, _) = self.alike(at, &nodes, common)?;
                let value = all.remove(0);
                (Expression::In(Box::new(value), all, *negated), Type::Bool)
            }
            Kind::Between(value, low, high, negated) => {
                let (all, _) = self.alike(at, &[value, low, high], common_type)?;
                let Ok([value, low, high]) = <[Expression; 3]>::try_from(all) else {
                    return Err(at.error("BETWEEN without its bounds"));
                };
                (Expression::Between(Box::new(value), Box::new(low), Box::new(high), *negated), Type::Bool)
            }
            Kind::Like(value, pattern, like) => {
                let (value, pattern) = (self.text(value, "LIKE")?, self.text(pattern, "LIKE")?);
                (Expression::Like(Box::new(value), Box::new(pattern), *like), Type::Bool)
            }
            Kind::Case(operand, branches, otherwise) => {
                self.case(at, operand.as_deref(), branches, otherwise.as_deref())?
            }
            Kind::Call(function, arguments) => self.call(at, *function, arguments)?,
            Kind::Cast(inner, ty) => self.cast(at, inner, *ty)?,
            Kind::Now(clock) => (Expression::Now(*clock), clock.ty()),
            Kind::Truncate(unit, inner, zone) => times::truncate(inner.at, *unit, self.typed(inner)?, zone.as_deref())?,
            Kind::Extract(unit, inner) => times::extract(inner.at, *unit, self.typed(inner)?)?,
            Kind::AtZone(inner, zone) => times::at_zone(inner.at, self.typed(inner)?, zone)?,
        })
    }

    fn number(&mut self, node: &Node, what: &str) -> Result<Typed, RuleError> {
        let (expression, ty) = self.typed(node)?;
        if ty.is_number() {
            return Ok((expression, ty));
        }
        Err(node.at.error(format!("{what} takes numbers, and this is {}", ty.name())))
    }

    fn text(&mut self, node: &Node, what: &str) -> Result<Expression, RuleError> {
        let (expression, ty) = self.typed(node)?;
        match ty {
            Type::Text => Ok(expression),
            Type::Char => Err(node.at.error(format!(
                "{what} of char(n) looks at the blanks at its end too, which memory does not hold; cast it to text"
            ))),
            Type::Unknown => literal_of(node.at, expression, Type::Text),
            _ => Err(node.at.error(format!("{what} takes text, and this is {}", ty.name()))),
        }
    }

    fn arithmetic(&mut self, at: At, op: Arithmetic, left: &Node, right: &Node) -> Result<Typed, RuleError> {
        let typed = [self.typed(left)?, self.typed(right)?];
        if let Some(result) = times::arithmetic(at, op, &typed) {
            return result;
        }
        let (all, ty) = alike(at, typed.into(), &[left, right], common_type)?;
        let Ok([left, right]) = <[Expression; 2]>::try_from(all) else { return Err(at.error("an operator alone")) };
        if !ty.is_number() {
            return Err(at.error(format!("{} takes numbers, and this is {}", op.as_str(), ty.name())));
        }
        if ty.is_float() && op == Arithmetic::Remainder {
            return Err(at.error("% takes whole numbers and numeric, and this is floating point; cast it to numeric"));
        }
        Ok((Expression::Arithmetic(op, Box::new(left), Box::new(right), ty), ty))
    }

    fn pair(&mut self, at: At, left: &Node, right: &Node) -> Result<(Expression, Expression), RuleError> {
        let (all, _) = self.alike(at, &[left, right], common_type)?;
        let [left, right] = <[Expression; 2]>::try_from(all).map_err(|_| at.error("a comparison of one side"))?;
        Ok((left, right))
    }

    /// Types expressions that are compared, or one of which is chosen, and finds the type that Postgres gives them all.
    fn alike(&mut self, at: At, nodes: &[&Node], common: Common) -> Result<(Vec<Expression>, Type), RuleError> {
        let typed = nodes.iter().map(|node| self.typed(node)).collect::<Result<Vec<_>, _>>()?;
        alike(at, typed, nodes, common)
    }

    fn case(
        &mut self,
        at: At,
        operand: Option<&Node>,
        branches: &[(Node, Node)],
        otherwise: Option<&Node>,
    ) -> Result<Typed, RuleError> {
        let (operand, conditions) = match operand {
            None => {
                let condition = |(when, _): &(Node, Node)| self.condition(when, "WHEN");
                (None, branches.iter().map(condition).collect::<Result<Vec<_>, _>>()?)
            }
            Some(operand) => {
                let nodes: Vec<&Node> = std::iter::once(operand).chain(branches.iter().map(|(when, _)| when)).collect();
                let (mut all, _) = self.alike(at, &nodes, common_type)?;
                (Some(all.remove(0)), all)
            }
        };
        let values: Vec<&Node> = branches.iter().map(|(_, then)| then).chain(otherwise).collect();
        let (mut values, ty) = self.alike(at, &values, chosen_type)?;
        let otherwise = otherwise.and_then(|_| values.pop());
        let branches = conditions.into_iter().zip(values).collect();
        Ok((Expression::Case(Box::new(Case { operand, branches, otherwise })), ty))
    }

    fn call(&mut self, at: At, function: Function, arguments: &[Node]) -> Result<Typed, RuleError> {
        let nodes: Vec<&Node> = arguments.iter().collect();
        let typed = nodes.iter().map(|node| self.typed(node)).collect::<Result<Vec<_>, _>>()?;
        let first = typed.first().map(|(_, ty)| *ty);
        let common = if function == Function::Nullif { common_type } else { chosen_type };
        let (arguments, ty) = alike(at, typed, &nodes, common)?;
        match function {
            Function::Abs if !ty.is_number() => Err(at.error(format!("ABS takes a number, and this is {}", ty.name()))),
            Function::Greatest | Function::Least if matches!(ty, Type::Text | Type::Char) => {
                Err(at.error("GREATEST and LEAST of text are not supported: their order is that of a collation"))
            }
            Function::Greatest | Function::Least if matches!(ty, Type::Enum | Type::Inet) => {
                Err(at.error(format!("GREATEST and LEAST of {} are not supported", ty.name())))
            }
            // An integer that is compared with a wider one keeps its type. If Postgres has no comparison of two types
            // of numbers, it converts the first.
            Function::Nullif if ty.is_float() && first != Some(ty) => {
                Err(at.error("NULLIF of floating point takes two of one type; cast one of them"))
            }
            Function::Nullif if ty.is_integer() => {
                let ty = first.filter(|first| first.is_integer()).unwrap_or(ty);
                Ok((Expression::Call(function, arguments), ty))
            }
            _ => Ok((Expression::Call(function, arguments), ty)),
        }
    }

    fn cast(&mut self, at: At, inner: &Node, to: Type) -> Result<Typed, RuleError> {
        let (expression, from) = self.typed(inner)?;
        let expression = match (from, to) {
            // A literal of that type.
            (Type::Unknown, _) if expression != Expression::Literal(Literal::Null) => {
                return Ok((literal_of(inner.at, expression, to)?, to));
            }
            (Type::Unknown, _) => expression,
            (from, to) if from == to || from.is_number() && to.is_number() => match expression {
                Expression::Literal(Literal::Number(value, _)) if to == Type::Numeric => {
                    return Ok((Expression::Literal(Literal::Number(value, to)), to));
                }
                expression => expression,
            },
            (from, to) if from.is_time() && to.is_time() => expression,
            (Type::Uuid | Type::Char | Type::Enum, Type::Text) => expression,
            _ => {
                let problem = format!("a cast of {} to {} is not supported", from.name(), to.name());
                return Err(at.error(format!(
                    "{problem}; numbers are cast to other numbers, times to other times, literals to any type, and char(n), uuid and \
                     enums to text"
                )));
            }
        };
        Ok((Expression::Cast(Box::new(expression), from, to), to))
    }

    /// The aggregate's index among the distinct ones. A new one is added.
    fn aggregate(&mut self, at: At, node: &AggregateNode) -> Result<Typed, RuleError> {
        let mut row = Types { table: self.table, aggregates: &mut Vec::new(), columns: true };
        let argument = node.argument.as_ref().map(|argument| row.typed(argument)).transpose()?;
        let filter = node.filter.as_ref().map(|filter| row.condition(filter, "FILTER")).transpose()?;
        let given = argument.as_ref().map(|(_, ty)| *ty);
        let place = node.argument.as_ref().map_or(at, |argument| argument.at);
        let ty = result_of(node.function, given).map_err(|problem| place.error(problem))?;
        let aggregate = Aggregate {
            function: node.function,
            argument: argument.map(|(argument, _)| argument),
            filter,
            over: given.unwrap_or(Type::Int8),
            ty,
        };
        let index = match self.aggregates.iter().position(|other| *other == aggregate) {
            Some(index) => index,
            None => {
                self.aggregates.push(aggregate);
                self.aggregates.len().saturating_sub(1)
            }
        };
        Ok((Expression::Aggregate(index), ty))
    }
}

/// Like [`Types::alike`], for expressions that are typed already. `nodes` has their positions. Expressions nest, so each
/// is typed only once.
fn alike(at: At, mut typed: Vec<Typed>, nodes: &[&Node], of_two: Common) -> Result<(Vec<Expression>, Type), RuleError> {
    let mut common = Type::Unknown;
    for ((_, ty), node) in typed.iter().zip(nodes) {
        common = of_two(common, *ty).ok_or_else(|| {
            let problem = format!("{} and {} are not compared here", common.name(), ty.name());
            node.at.error(format!("{problem}; what is compared has to be of one type"))
        })?;
    }
    if common == Type::Unknown {
        let is_null = |(expression, _): &Typed| *expression == Expression::Literal(Literal::Null);
        if typed.iter().all(is_null) {
            return Err(at.error("NULL alone has no type"));
        }
        common = Type::Text;
    }
    for ((expression, ty), node) in typed.iter_mut().zip(nodes) {
        let given = std::mem::replace(expression, Expression::Bound);
        *expression = match *ty {
            Type::Unknown => literal_of(node.at, given, common)?,
            from if common.is_float() => as_float(given, from, common),
            from => times::widened(given, from, common),
        };
    }
    Ok((typed.into_iter().map(|(expression, _)| expression).collect(), common))
}

/// The type of an aggregate over a type (pg_aggregate.dat).
fn result_of(function: AggregateFunction, argument: Option<Type>) -> Result<Type, String> {
    use AggregateFunction as F;
    let Some(argument) = argument else { return Ok(Type::Int8) };
    let refuse = |takes: &str| {
        Err(format!("{} takes {takes}, and this is {}", function.as_str().to_uppercase(), argument.name()))
    };
    match (function, argument) {
        (_, Type::Unknown) => Err("a literal alone has no type; cast it".to_owned()),
        (_, Type::Interval) => Err("aggregates of intervals are not supported".to_owned()),
        (F::Count | F::CountDistinct, _) => Ok(Type::Int8),
        (F::Sum, Type::Int2 | Type::Int4) => Ok(Type::Int8),
        (F::Sum | F::Avg, Type::Int2 | Type::Int4 | Type::Int8 | Type::Numeric) => Ok(Type::Numeric),
        (F::Sum, Type::Float4) => Ok(Type::Float4),
        (F::Sum, Type::Float8) | (F::Avg, Type::Float4 | Type::Float8) => Ok(Type::Float8),
        (F::Sum | F::Avg, _) => refuse("numbers"),
        (F::Min | F::Max, Type::Text | Type::Char | Type::Enum) => Ok(argument),
        (F::Min | F::Max, ty) if ty.is_number() || ty.is_time() => Ok(ty),
        (F::Min | F::Max, _) => refuse("numbers, times, text and enums"),
        (F::BoolAnd | F::BoolOr, Type::Bool) => Ok(Type::Bool),
        (F::BoolAnd | F::BoolOr, _) => refuse("conditions"),
    }
}

fn type_of(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Unknown,
        Literal::Bool(_) => Type::Bool,
        Literal::Number(_, ty) | Literal::Float(_, ty) | Literal::Text(_, ty) | Literal::Time(_, ty) => *ty,
        Literal::Interval(..) => Type::Interval,
    }
}

/// Finds the type that two types have in common.
type Common = fn(Type, Type) -> Option<Type>;

/// The type in which an operator compares or calculates: the wider number or time. A literal without a type takes the
/// other side's. A `real` and another number become doubles.
fn common_type(left: Type, right: Type) -> Option<Type> {
    let is_mixed = left != right && left.is_number() && right.is_number();
    match (left, right) {
        (Type::Float4, _) | (_, Type::Float4) if is_mixed => Some(Type::Float8),
        _ => chosen_type(left, right),
    }
}

/// The type of a choice between two values, by CASE or COALESCE. Like [`common_type`], but `real` counts as wider than
/// an exact number.
fn chosen_type(left: Type, right: Type) -> Option<Type> {
    let rank = |ty: Type| match ty {
        Type::Int2 => Some(0),
        Type::Int4 => Some(1),
        Type::Int8 => Some(2),
        Type::Numeric => Some(3),
        Type::Float4 => Some(4),
        Type::Float8 => Some(5),
        Type::Date => Some(10),
        Type::Timestamp => Some(11),
        Type::TimestampTz => Some(12),
        _ => None,
    };
    match (left, right) {
        (Type::Unknown, other) | (other, Type::Unknown) => Some(other),
        (left, right) if left == right => Some(left),
        (left, right) if left.is_time() != right.is_time() => None,
        (left, right) => Some(if rank(left)? >= rank(right)? { left } else { right }),
    }
}

/// Converts a number to floating point.
fn as_float(expression: Expression, from: Type, to: Type) -> Expression {
    let float = match &expression {
        Expression::Literal(Literal::Number(value, _)) => {
            Double::parse(&value.to_string(), to == Type::Float4).and_then(Double::new)
        }
        _ => None,
    };
    match float {
        Some(value) => Expression::Literal(Literal::Float(value, to)),
        None if from == to => expression,
        None => Expression::Widen(Box::new(expression), from, to),
    }
}

/// Gives a literal the type that its place requires: a text that reads as a number, and so on.
fn literal_of(at: At, expression: Expression, ty: Type) -> Result<Expression, RuleError> {
    let Expression::Literal(Literal::Text(text, _)) = &expression else { return Ok(expression) };
    let bad = || at.error(format!("'{text}' is no {}", ty.name()));
    let literal = match ty {
        Type::Text | Type::Char | Type::Enum => Literal::Text(text.clone(), ty),
        Type::Inet => Literal::Text(inet::canonical(text.trim()).ok_or_else(bad)?, Type::Inet),
        Type::Float4 | Type::Float8 => {
            let value = Double::parse(text.trim(), ty == Type::Float4).and_then(Double::new).ok_or_else(bad)?;
            Literal::Float(value, ty)
        }
        Type::Uuid => Literal::Text(Uuid::try_parse(text.trim()).map_err(|_| bad())?.to_string(), Type::Uuid),
        Type::Bool => match text.trim().to_ascii_lowercase().as_str() {
            "t" | "true" | "yes" | "on" | "1" => Literal::Bool(true),
            "f" | "false" | "no" | "off" | "0" => Literal::Bool(false),
            _ => return Err(bad()),
        },
        Type::Int2 | Type::Int4 | Type::Int8 => {
            let number = text.trim().parse::<i64>().map(Decimal::from).map_err(|_| bad())?;
            let fits = match ty {
                Type::Int2 => i16::try_from(number.mantissa()).is_ok(),
                Type::Int4 => i32::try_from(number.mantissa()).is_ok(),
                _ => true,
            };
            if !fits {
                return Err(bad());
            }
            Literal::Number(number, ty)
        }
        Type::Numeric => Literal::Number(Decimal::from_str_exact(text.trim()).map_err(|_| bad())?, Type::Numeric),
        Type::Date | Type::Timestamp | Type::TimestampTz => {
            return time_of(text, ty).map_err(|problem| at.error(problem));
        }
        Type::Interval => Literal::Interval(
            parse::interval_of(text).map_err(|problem| at.error(format!("'{text}': {problem}")))?,
            None,
        ),
        Type::Unknown => return Err(at.error(format!("'{text}' has no type here; cast it"))),
    };
    Ok(Expression::Literal(literal))
}

/// Whether grouping by this type in Postgres has the same result as in memory.
pub(super) fn is_key(ty: &ColumnType) -> bool {
    matches!(
        ty,
        ColumnType::Bool
            | ColumnType::Int2
            | ColumnType::Int4
            | ColumnType::Int8
            | ColumnType::Text
            | ColumnType::Char
            | ColumnType::Enum
            | ColumnType::Inet
            | ColumnType::Uuid
            | ColumnType::Numeric { scale: Some(_) }
    )
}
