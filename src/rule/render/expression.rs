//! Expressions as SQL. Every operator stands in parentheses.

use super::Fragments;
use super::fragments::{Times, interval_text};
use crate::model::Timestamp;
use crate::planted;
use crate::rule::expression::{Aggregate, AggregateFunction, Expression, Like, Literal, Test, Type, natural};

impl Fragments<'_> {
    /// Writes an expression as SQL. `times` says how to write the times in it.
    pub fn expression(&self, expression: &Expression, times: Times<'_>) -> String {
        let write = |part: &Expression| self.expression(part, times);
        let list = |parts: &[Expression]| parts.iter().map(write).collect::<Vec<_>>().join(", ");
        let not = |negated: bool| if negated { "NOT " } else { "" };
        match expression {
            Expression::Column(index) => self.column(*index),
            Expression::Aggregate(index) => self.aggregate(*index, times.now),
            Expression::Bound => times.bound.to_owned(),
            // A statement of ours needs no field behind the interval.
            Expression::Literal(Literal::Interval(by, _)) if times.now.is_some() => {
                literal(&Literal::Interval(*by, None))
            }
            Expression::Literal(value) => literal(value),
            Expression::Negate(inner, _) => format!("(- {})", write(inner)),
            Expression::Arithmetic(op, left, right, _) => {
                let mut right = write(right);
                if op.as_str() == "-" && planted::bug("subtrahend-not-in-parentheses") {
                    right = bare(&right);
                }
                format!("({} {} {right})", write(left), op.as_str())
            }
            Expression::Compare(comparison, left, right) => {
                format!("({} {} {})", write(left), comparison.as_str(), write(right))
            }
            Expression::Distinct(left, right, negated) => {
                format!("({} IS {}DISTINCT FROM {})", write(left), not(*negated), write(right))
            }
            Expression::And(left, right) => format!("({} AND {})", write(left), write(right)),
            Expression::Or(left, right) => {
                let text = format!("({} OR {})", write(left), write(right));
                if planted::bug("or-not-in-parentheses") { bare(&text) } else { text }
            }
            Expression::Not(inner) => {
                let text = format!("(NOT {})", write(inner));
                if planted::bug("not-not-in-parentheses") { bare(&text) } else { text }
            }
            Expression::Is(inner, test, negated) => {
                let test = match test {
                    Test::Null => "NULL",
                    Test::True => "TRUE",
                    Test::False => "FALSE",
                    Test::Unknown => "UNKNOWN",
                };
                format!("({} IS {}{test})", write(inner), not(*negated))
            }
            Expression::In(value, items, negated) => {
                format!("({} {}IN ({}))", write(value), not(*negated), list(items))
            }
            Expression::Between(value, low, high, negated) => {
                format!("({} {}BETWEEN {} AND {})", write(value), not(*negated), write(low), write(high))
            }
            Expression::Like(value, pattern, Like { ignores_case, negated }) => {
                let operator = if *ignores_case { "ILIKE" } else { "LIKE" };
                format!("({} {}{operator} {})", write(value), not(*negated), write(pattern))
            }
            Expression::Case(case) => {
                let operand = case.operand.as_ref().map(|operand| format!(" {}", write(operand))).unwrap_or_default();
                let branches: String = case
                    .branches
                    .iter()
                    .map(|(when, then)| format!(" WHEN {} THEN {}", write(when), write(then)))
                    .collect();
                let otherwise = case.otherwise.as_ref().map(|value| format!(" ELSE {}", write(value)));
                format!("(CASE{operand}{branches}{} END)", otherwise.unwrap_or_default())
            }
            Expression::Call(function, arguments) => format!("{}({})", function.as_str(), list(arguments)),
            Expression::Cast(inner, _, ty) => match &**inner {
                // A literal takes its type from where it stands.
                Expression::Literal(Literal::Time(at, from)) => {
                    format!("({}::{})", quote_literal(&time_text(*at, *from)), ty.name())
                }
                inner => format!("(({})::{})", write(inner), ty.name()),
            },
            Expression::Widen(inner, _, _) => write(inner),
            Expression::Now(clock) => match (times.now, clock.ty()) {
                (None, _) => clock.as_str().to_owned(),
                (Some(now), Type::TimestampTz) => now.to_owned(),
                (Some(now), ty) => format!("(({now})::{})", ty.name()),
            },
            Expression::Truncate(unit, inner, zone, _) => {
                let zone = zone.as_ref().map(|zone| format!(", {}", quote_literal(zone.name()))).unwrap_or_default();
                format!("date_trunc('{}', {}{zone})", unit.as_str(), write(inner))
            }
            Expression::Extract(unit, inner, _) => format!("EXTRACT({} FROM {})", unit.as_str(), write(inner)),
            Expression::AtZone(inner, zone, _) => {
                format!("({} AT TIME ZONE {})", write(inner), quote_literal(zone.name()))
            }
            Expression::Edge(index) => format!("\"edge {index}\""),
        }
    }

    /// Writes an aggregate of the query. `now` is written for NOW().
    pub fn aggregate(&self, index: usize, now: Option<&str>) -> String {
        let times = Times { bound: "true", now };
        let Some(Aggregate { function, argument, filter, over: _, ty: _ }) = self.query.aggregates.get(index) else {
            return format!("\"aggregate {index} is missing\"");
        };
        let argument = argument.as_ref().map_or("*".to_owned(), |argument| self.expression(argument, times));
        let distinct = if *function == AggregateFunction::CountDistinct { "DISTINCT " } else { "" };
        let filter = filter.as_ref().map(|filter| format!(" FILTER (WHERE {})", self.expression(filter, times)));
        format!("{}({distinct}{argument}){}", function.as_str(), filter.unwrap_or_default())
    }
}

fn literal(literal: &Literal) -> String {
    match literal {
        Literal::Null => "NULL".to_owned(),
        Literal::Bool(true) => "true".to_owned(),
        Literal::Bool(false) => "false".to_owned(),
        // A number without a point would be an integer to Postgres.
        Literal::Number(value, ty) if natural(*value) == *ty => format!("({value})"),
        Literal::Number(value, ty) => format!("(({value})::{})", ty.name()),
        Literal::Float(value, ty) => format!("('{}'::{})", value.text(*ty == Type::Float4), ty.name()),
        // An enum's label takes its type from what it is compared with.
        Literal::Text(text, Type::Text | Type::Enum | Type::Unknown) => quote_literal(text),
        Literal::Text(text, ty) => format!("({}::{})", quote_literal(text), ty.name()),
        Literal::Time(at, ty) => format!("({}::{})", quote_literal(&time_text(*at, *ty)), ty.name()),
        Literal::Interval(interval, field) => {
            let field = field.map(|field| format!(" {field}")).unwrap_or_default();
            format!("INTERVAL '{}'{field}", interval_text(*interval))
        }
    }
}

/// The same text without its outer parentheses. Only a planted bug uses it.
fn bare(text: &str) -> String {
    text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(text).to_owned()
}

/// A time as a literal's text. An instant has its offset from UTC.
fn time_text(at: Timestamp, ty: Type) -> String {
    let format = match ty {
        Type::Date => "%Y-%m-%d",
        Type::TimestampTz => "%Y-%m-%d %H:%M:%S%.6f+00",
        _ => "%Y-%m-%d %H:%M:%S%.6f",
    };
    chrono::DateTime::from_timestamp_micros(at.0).map_or("infinity".to_owned(), |at| at.format(format).to_string())
}

/// A text in single quotes, which reads the same whatever `standard_conforming_strings` is.
fn quote_literal(text: &str) -> String {
    let quoted = if planted::bug("quotes-not-doubled") { text.to_owned() } else { text.replace('\'', "''") };
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// HAVING as an analyst would write it.
pub fn having_text(query: &crate::rule::Query) -> String {
    if query.text.is_some() {
        return "its query returns a row".to_owned();
    }
    Fragments { query, prefix: "" }.shown(&query.having, false)
}

impl Fragments<'_> {
    /// Writes an expression for people: names without quotes, functions in capitals, as few parentheses as possible.
    fn shown(&self, expression: &Expression, is_inner: bool) -> String {
        let inner = |part: &Expression| self.shown(part, true);
        let list =
            |parts: &[Expression]| parts.iter().map(|part| self.shown(part, false)).collect::<Vec<_>>().join(", ");
        let text = match expression {
            Expression::Column(index) => return self.shown_column(*index),
            Expression::Aggregate(index) => return self.shown_aggregate(*index),
            Expression::Literal(Literal::Number(value, _)) => return value.to_string(),
            Expression::Literal(Literal::Float(value, ty)) => return value.text(*ty == Type::Float4),
            Expression::Call(function, arguments) => {
                return format!("{}({})", function.as_str().to_uppercase(), list(arguments));
            }
            Expression::Cast(inner, _, ty) => return format!("{}::{}", self.shown(inner, true), ty.name()),
            Expression::Widen(inner, _, _) => return self.shown(inner, is_inner),
            Expression::Now(clock) => return clock.as_str().to_uppercase(),
            Expression::Truncate(unit, of, zone, _) => {
                let zone = zone.as_ref().map(|zone| format!(", '{}'", zone.name())).unwrap_or_default();
                return format!("DATE_TRUNC('{}', {}{zone})", unit.as_str(), self.shown(of, false));
            }
            Expression::Extract(unit, of, _) => {
                return format!("EXTRACT({} FROM {})", unit.as_str().to_uppercase(), self.shown(of, false));
            }
            Expression::AtZone(of, zone, _) => format!("{} AT TIME ZONE '{}'", inner(of), zone.name()),
            Expression::Arithmetic(op, left, right, _) => format!("{} {} {}", inner(left), op.as_str(), inner(right)),
            Expression::Compare(comparison, left, right) => {
                format!("{} {} {}", inner(left), comparison.as_str(), inner(right))
            }
            Expression::And(left, right) => format!("{} AND {}", self.joined(left), self.joined(right)),
            Expression::Literal(Literal::Text(text, _)) => return quote_literal(text),
            Expression::Or(left, right) => format!("{} OR {}", inner(left), inner(right)),
            other => return self.expression(other, Times::AS_WRITTEN),
        };
        if is_inner { format!("({text})") } else { text }
    }

    /// Writes an operand of AND. A comparison needs no parentheses there.
    fn joined(&self, expression: &Expression) -> String {
        let binds = matches!(expression, Expression::And(..) | Expression::Compare(..));
        self.shown(expression, !binds)
    }

    fn shown_column(&self, index: usize) -> String {
        self.query.table.columns.get(index).map(|column| column.name.clone()).unwrap_or_default()
    }

    fn shown_aggregate(&self, index: usize) -> String {
        let Some(aggregate) = self.query.aggregates.get(index) else { return String::new() };
        let argument = aggregate.argument.as_ref().map_or("*".to_owned(), |argument| self.shown(argument, false));
        let distinct = if aggregate.function == AggregateFunction::CountDistinct { "DISTINCT " } else { "" };
        let filter = aggregate.filter.as_ref().map(|filter| format!(" FILTER (WHERE {})", self.shown(filter, false)));
        let function = aggregate.function.as_str().to_uppercase();
        format!("{function}({distinct}{argument}){}", filter.unwrap_or_default())
    }
}
