//! Times in expressions. Infinities stay as they are. Times outside of the calendar are unknown.

use super::scalar::{Digits, Scalar};
use crate::model::Timestamp;
use crate::model::zone::Zone;
use crate::rule::calendar::{self, DAY_MICROS, Unit};
use crate::rule::expression::{Arithmetic, Expression, Literal, Type};

fn is_infinite(at: Timestamp) -> bool {
    matches!(at, Timestamp::MIN | Timestamp::MAX)
}

/// Adds an interval literal to a time, or a number of days to a date.
pub(super) fn moved<'a>(
    left: Scalar<'a>,
    op: Arithmetic,
    by: &Expression,
    right: Scalar<'a>,
    ty: Type,
    zone: &Zone,
) -> Scalar<'a> {
    let is_back = op == Arithmetic::Subtract;
    let at = match (left, right) {
        (Scalar::Null, _) | (_, Scalar::Null) => return Scalar::Null,
        (Scalar::Time(at), _) if is_infinite(at) => return left,
        (Scalar::Time(at), Scalar::Int(days)) => {
            let micros = days.checked_mul(DAY_MICROS);
            micros.and_then(|micros| if is_back { at.0.checked_sub(micros) } else { at.0.checked_add(micros) })
        }
        (Scalar::Time(at), Scalar::Span(_)) => match by {
            Expression::Literal(Literal::Interval(by, _)) if ty == Type::TimestampTz => {
                calendar::shifted(at, *by, is_back, zone).map(|at| at.0)
            }
            Expression::Literal(Literal::Interval(by, _)) => calendar::shifted_local(at.0, *by, is_back),
            _ => None,
        },
        _ => None,
    };
    at.map_or(Scalar::Unknown, |at| Scalar::Time(Timestamp(at)))
}

/// Converts a time to another type. A date is its midnight.
pub(super) fn converted<'a>(value: Scalar<'a>, from: Type, to: Type, zone: &Zone) -> Scalar<'a> {
    let Scalar::Time(at) = value else { return value };
    if is_infinite(at) {
        return value;
    }
    let at = match (from, to) {
        (Type::TimestampTz, Type::Timestamp | Type::Date) => Timestamp(zone.local(at)),
        (Type::Timestamp | Type::Date, Type::TimestampTz) => zone.instant(at.0),
        _ => at,
    };
    if to == Type::Date && from != Type::Date {
        return calendar::truncated(at.0, Unit::Day).map_or(Scalar::Unknown, |at| Scalar::Time(Timestamp(at)));
    }
    Scalar::Time(at)
}

/// Evaluates `date_trunc` of an instant in a time zone, or of a local time without one.
pub(super) fn truncated<'a>(value: Scalar<'a>, unit: Unit, zone: Option<&Zone>) -> Scalar<'a> {
    let Scalar::Time(at) = value else { return value };
    if is_infinite(at) {
        return value;
    }
    let cut = match zone {
        Some(zone) => calendar::truncated_instant(at, unit, zone),
        None => calendar::truncated(at.0, unit).map(Timestamp),
    };
    cut.map_or(Scalar::Unknown, Scalar::Time)
}

/// Evaluates `EXTRACT`.
pub(super) fn extracted<'a>(value: Scalar<'a>, unit: Unit, ty: Type, zone: &Zone) -> Scalar<'a> {
    let number = match value {
        Scalar::Null => return Scalar::Null,
        Scalar::Span(micros) if unit == Unit::Epoch => Some(i128::from(micros)),
        // An infinite time in Postgres has no hour, and its year is infinite (timestamp_part_common in timestamp.c).
        Scalar::Time(at) if is_infinite(at) && !matches!(unit, Unit::Year | Unit::Epoch) => return Scalar::Null,
        Scalar::Time(at) if is_infinite(at) => None,
        Scalar::Time(at) if ty == Type::TimestampTz && unit != Unit::Epoch => calendar::extracted(zone.local(at), unit),
        // A date is a number of whole days.
        Scalar::Time(at) if ty == Type::Date && unit == Unit::Epoch => Some(i128::from(at.0 / 1_000_000)),
        Scalar::Time(at) => calendar::extracted(at.0, unit),
        _ => None,
    };
    number.map_or(Scalar::Unknown, |number| Scalar::Decimal(number, Digits::exactly(unit.scale(ty == Type::Date))))
}

/// Returns the difference of two times.
pub(super) fn between<'a>(left: Timestamp, right: Timestamp) -> Scalar<'a> {
    let span = (!is_infinite(left) && !is_infinite(right)).then(|| left.0.checked_sub(right.0)).flatten();
    span.map_or(Scalar::Unknown, Scalar::Span)
}
