//! The types of times, of intervals and of expressions over them.

use std::sync::Arc;

use chrono::{NaiveDate, NaiveDateTime};

use crate::model::Timestamp;
use crate::model::zone::Zone;
use crate::rule::RuleError;
use crate::rule::calendar::Unit;
use crate::rule::expression::{Arithmetic, Expression, Literal, Type};
use crate::rule::parse::At;

type Typed = (Expression, Type);

/// Converts a value to the type in which it is compared.
pub(super) fn widened(expression: Expression, from: Type, to: Type) -> Expression {
    if from == to || !from.is_time() || !to.is_time() {
        return expression;
    }
    Expression::Widen(Box::new(expression), from, to)
}

/// Types the arithmetic of times. `None`: neither side is a time or an interval.
pub(super) fn arithmetic(at: At, op: Arithmetic, [left, right]: &[Typed; 2]) -> Option<Result<Typed, RuleError>> {
    let is_timed = |ty: Type| ty.is_time() || ty == Type::Interval;
    if !is_timed(left.1) && !is_timed(right.1) {
        return None;
    }
    let made = |left: Expression, right: Expression, ty: Type| {
        Some(Ok((Expression::Arithmetic(op, Box::new(left), Box::new(right), ty), ty)))
    };
    let (l, r) = (left.0.clone(), right.0.clone());
    match (op, left.1, right.1) {
        (Arithmetic::Add | Arithmetic::Subtract, ty, Type::Interval)
            if ty.is_time() && matches!(r, Expression::Literal(_)) =>
        {
            let to = if ty == Type::Date { Type::Timestamp } else { ty };
            made(widened(l, ty, to), r, to)
        }
        (Arithmetic::Add | Arithmetic::Subtract, Type::Date, ty) if ty.is_integer() => made(l, r, Type::Date),
        (Arithmetic::Subtract, Type::Date, Type::Date) => made(l, r, Type::Int4),
        (Arithmetic::Subtract, a, b) if a.is_time() && b.is_time() => {
            let has_zone = a == Type::TimestampTz || b == Type::TimestampTz;
            let common = if has_zone { Type::TimestampTz } else { Type::Timestamp };
            made(widened(l, a, common), widened(r, b, common), Type::Interval)
        }
        (_, a, b) => {
            let problem = format!("{} {} {} is not supported", a.name(), op.as_str(), b.name());
            Some(Err(at.error(format!(
                "{problem}; a time and INTERVAL '7 days', a date and a number of days, and the difference of two times are"
            ))))
        }
    }
}

/// `date_trunc`
pub(super) fn truncate(at: At, unit: Unit, of: Typed, zone: Option<&str>) -> Result<Typed, RuleError> {
    let (inner, ty) = of;
    // Postgres takes a date for the instant of its midnight here.
    let to = match (ty, zone) {
        (Type::Timestamp, None) => Type::Timestamp,
        (ty, _) if ty.is_time() => Type::TimestampTz,
        _ => return Err(at.error(format!("DATE_TRUNC takes a time, and this is {}", ty.name()))),
    };
    let zone = zone.map(named);
    Ok((Expression::Truncate(unit, Box::new(widened(inner, ty, to)), zone, to), to))
}

/// `EXTRACT`
pub(super) fn extract(at: At, unit: Unit, of: Typed) -> Result<Typed, RuleError> {
    let (inner, ty) = of;
    let fits = match ty {
        Type::Timestamp | Type::TimestampTz => true,
        Type::Date => !matches!(unit, Unit::Second | Unit::Minute | Unit::Hour),
        Type::Interval => unit == Unit::Epoch,
        _ => false,
    };
    if !fits {
        return Err(at.error(format!("EXTRACT({} …) of {} is not supported", unit.as_str(), ty.name())));
    }
    Ok((Expression::Extract(unit, Box::new(inner), ty), Type::Numeric))
}

/// `AT TIME ZONE`
pub(super) fn at_zone(at: At, of: Typed, zone: &str) -> Result<Typed, RuleError> {
    let (inner, ty) = of;
    let (from, to) = match ty {
        Type::Timestamp => (Type::Timestamp, Type::TimestampTz),
        Type::Date | Type::TimestampTz => (Type::TimestampTz, Type::Timestamp),
        _ => return Err(at.error(format!("AT TIME ZONE takes a time, and this is {}", ty.name()))),
    };
    Ok((Expression::AtZone(Box::new(widened(inner, ty, from)), named(zone), from), to))
}

/// A time zone of which only the name is known yet.
fn named(name: &str) -> Arc<Zone> {
    Arc::new(Zone::new(name, 0, []))
}

/// Parses a time literal in ISO 8601.
pub(super) fn time_of(text: &str, ty: Type) -> Result<Expression, String> {
    let bad = || format!("'{text}' is no {}; write it as 2026-01-31 or 2026-01-31 12:00:00", ty.name());
    let text = text.trim();
    let date = |text: &str| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let local = |text: &str| {
        let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
        let timed = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
        timed.or_else(|| date(text)?.and_hms_opt(0, 0, 0)).map(|at| Timestamp(at.and_utc().timestamp_micros()))
    };
    let literal = |at: Timestamp, ty: Type| Expression::Literal(Literal::Time(at, ty));
    let four_digits =
        text.get(..5).is_some_and(|year| year.ends_with('-') && year.bytes().take(4).all(|c| c.is_ascii_digit()));
    if !four_digits
        || text
            .rsplit_once('.')
            .is_some_and(|(_, fraction)| fraction.bytes().take_while(u8::is_ascii_digit).count() > 6)
    {
        return Err(bad());
    }
    match ty {
        Type::Date => date(text)
            .and_then(|date| date.and_hms_opt(0, 0, 0))
            .map_or_else(|| Err(bad()), |at| Ok(literal(Timestamp(at.and_utc().timestamp_micros()), ty))),
        Type::Timestamp => local(text).map(|at| literal(at, ty)).ok_or_else(bad),
        _ => {
            if let Some(at) = local(text) {
                // The session's time zone gives the offset.
                return Ok(Expression::Cast(Box::new(literal(at, Type::Timestamp)), Type::Timestamp, ty));
            }
            let formats = ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z"];
            let text = text.strip_suffix(['Z', 'z']).map_or(text.to_owned(), |text| format!("{text}+00"));
            let parsed = formats.iter().find_map(|format| chrono::DateTime::parse_from_str(&text, format).ok());
            parsed.map(|at| literal(Timestamp(at.timestamp_micros()), ty)).ok_or_else(bad)
        }
    }
}
