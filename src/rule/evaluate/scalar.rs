//! The values of expressions, and SQL's three-valued logic with a fourth value for what memory cannot calculate.

use std::cmp::Ordering;

use rust_decimal::Decimal;

use super::{floats, times};
use crate::model::{DECIMAL_LIMIT, Double, Timestamp, Value};
use crate::rule::calendar::DAY_MICROS;
use crate::rule::expression::{Arithmetic, Comparison, Type};

/// A value during the evaluation of an expression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    /// NULL
    Null,
    /// A value that memory cannot calculate, so Postgres is asked.
    Unknown,
    Bool(bool),
    Int(i64),
    /// An unscaled decimal, with its digits.
    Decimal(i128, Digits),
    Time(Timestamp),
    /// The length of an interval in microseconds.
    Span(i64),
    Text(&'a str),
    /// `real` and `double precision`.
    Double(f64),
    /// A double in the range between these two, inclusive.
    Between(f64, f64),
}

/// The fraction digits of a decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digits {
    /// The number of digits.
    pub(super) scale: u8,
    /// Whether Postgres has exactly as many. The digits of a quotient depend on that.
    pub(super) is_exact: bool,
}

impl Digits {
    /// Returns digits of which Postgres has exactly as many.
    pub(super) const fn exactly(scale: u8) -> Self {
        Self { scale, is_exact: true }
    }

    fn with(self, other: Self, scale: u8) -> Self {
        Self { scale, is_exact: self.is_exact && other.is_exact }
    }
}

/// The number of fraction digits of a quotient in a window. A quotient with more is unknown.
pub(super) const QUOTIENT_SCALE: u8 = 20;

/// The least number of significant digits of a quotient (NUMERIC_MIN_SIG_DIGITS in numeric.h), and the number of
/// decimal digits in one of Postgres's (DEC_DIGITS).
const MIN_SIGNIFICANT: i32 = 16;
const DIGITS: i32 = 4;

impl<'a> Scalar<'a> {
    /// Returns a row's value. A decimal has these digits.
    #[inline]
    pub(super) fn of(value: &'a Value, digits: Digits) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Decimal(value) => Self::Decimal(*value, digits),
            Value::Time(at) => Self::Time(*at),
            Value::Text(text) => Self::Text(text),
            Value::Opaque => Self::Unknown,
            Value::Double(value) => Self::Double(value.get()),
        }
    }

    pub(super) fn of_decimal(value: Decimal) -> Self {
        u8::try_from(value.scale())
            .map_or(Self::Unknown, |scale| Self::Decimal(value.mantissa(), Digits::exactly(scale)))
    }

    /// Returns the value as windows store it, with decimals in this scale. `is_numeric`: whether all values of the type
    /// are decimals.
    pub(super) fn kept(self, scale: u8, is_numeric: bool) -> Value {
        match self {
            Self::Int(value) if is_numeric => Self::Decimal(i128::from(value), Digits::exactly(0)).kept(scale, true),
            Self::Null => Value::Null,
            Self::Unknown => Value::Opaque,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::Int(value),
            Self::Decimal(value, own) => match rescaled(value, own.scale, scale) {
                Some(value) if value.unsigned_abs() < DECIMAL_LIMIT.unsigned_abs() => Value::Decimal(value),
                _ => Value::Opaque,
            },
            Self::Time(at) => Value::Time(at),
            Self::Double(value) => Double::new(value).map_or(Value::Opaque, Value::Double),
            Self::Span(_) | Self::Between(..) => Value::Opaque,
            Self::Text(text) => Value::Text(text.into()),
        }
    }

    /// Returns the unscaled value and its digits.
    pub(super) fn decimal(self) -> Option<(i128, Digits)> {
        match self {
            Self::Int(value) => Some((i128::from(value), Digits::exactly(0))),
            Self::Decimal(value, digits) => Some((value, digits)),
            _ => None,
        }
    }

    pub(super) fn negated(self, ty: Type) -> Self {
        match self {
            Self::Int(value) => value.checked_neg().map_or(Self::Unknown, |value| within(value, ty)),
            Self::Decimal(value, digits) => value.checked_neg().map_or(Self::Unknown, |v| Self::Decimal(v, digits)),
            Self::Double(_) | Self::Between(..) => floats::negated(self),
            Self::Null => Self::Null,
            _ => Self::Unknown,
        }
    }

    pub(super) fn absolute(self) -> Self {
        match self {
            // Postgres raises an error for the least integer. It is unknown here, so Postgres is asked.
            Self::Int(value) => value.checked_abs().map_or(Self::Unknown, Self::Int),
            Self::Decimal(value, digits) => value.checked_abs().map_or(Self::Unknown, |v| Self::Decimal(v, digits)),
            Self::Double(value) => Self::Double(value.abs()),
            Self::Between(low, _) if low >= 0.0 => self,
            Self::Null => Self::Null,
            _ => Self::Unknown,
        }
    }

    /// Casts to a number's type.
    pub(super) fn cast(self, from: Type, ty: Type) -> Self {
        match (self, ty) {
            (value, ty) if from.is_float() || ty.is_float() => floats::cast(value, from, ty),
            (Self::Int(value), Type::Numeric) => Self::Decimal(i128::from(value), Digits::exactly(0)),
            (Self::Int(value), ty) if ty.is_integer() => within(value, ty),
            (Self::Decimal(value, digits), ty) if ty.is_integer() => {
                // This rounds half away from zero, as numeric_int8 does.
                let rounded = 10_i128.checked_pow(u32::from(digits.scale)).and_then(|power| divided(value, power));
                rounded.and_then(|value| i64::try_from(value).ok()).map_or(Self::Unknown, |value| within(value, ty))
            }
            (other, _) => other,
        }
    }
}

/// Returns an integer in its type. If it does not fit, Postgres raises an error, and the result is unknown.
pub(super) fn within(value: i64, ty: Type) -> Scalar<'static> {
    let fits = match ty {
        Type::Int2 => i16::try_from(value).is_ok(),
        Type::Int4 => i32::try_from(value).is_ok(),
        _ => true,
    };
    if fits { Scalar::Int(value) } else { Scalar::Unknown }
}

/// Calculates `left op right` in this type. If Postgres raises an error, the result is unknown.
pub(super) fn arithmetic(op: Arithmetic, left: Scalar<'_>, right: Scalar<'_>, ty: Type) -> Scalar<'static> {
    match (left, right) {
        (Scalar::Unknown, _) | (_, Scalar::Unknown) => Scalar::Unknown,
        (Scalar::Null, _) | (_, Scalar::Null) => Scalar::Null,
        (Scalar::Int(left), Scalar::Int(right)) if ty.is_integer() => {
            let value = match op {
                Arithmetic::Add => left.checked_add(right),
                Arithmetic::Subtract => left.checked_sub(right),
                Arithmetic::Multiply => left.checked_mul(right),
                Arithmetic::Divide => left.checked_div(right),
                Arithmetic::Remainder if right == -1 => Some(0),
                Arithmetic::Remainder => left.checked_rem(right),
            };
            value.map_or(Scalar::Unknown, |value| within(value, ty))
        }
        (left, right) if ty.is_float() => floats::arithmetic(op, left, right, ty),
        // The difference of dates is in whole days.
        (Scalar::Time(left), Scalar::Time(right)) => match times::between(left, right) {
            Scalar::Span(micros) if ty.is_integer() => within(micros / DAY_MICROS, ty),
            span => span,
        },
        (left, right) => {
            let (Some(left), Some(right)) = (left.decimal(), right.decimal()) else { return Scalar::Unknown };
            decimals(op, left, right).map_or(Scalar::Unknown, |(value, digits)| Scalar::Decimal(value, digits))
        }
    }
}

fn decimals(op: Arithmetic, left: (i128, Digits), right: (i128, Digits)) -> Option<(i128, Digits)> {
    let common = left.1.scale.max(right.1.scale);
    let aligned = || Some((rescaled(left.0, left.1.scale, common)?, rescaled(right.0, right.1.scale, common)?));
    let value = match op {
        Arithmetic::Add => aligned().and_then(|(l, r)| l.checked_add(r))?,
        Arithmetic::Subtract => aligned().and_then(|(l, r)| l.checked_sub(r))?,
        Arithmetic::Remainder => aligned().and_then(|(l, r)| l.checked_rem(r))?,
        Arithmetic::Multiply => {
            let scale = left.1.scale.checked_add(right.1.scale)?;
            return Some((left.0.checked_mul(right.0)?, left.1.with(right.1, scale)));
        }
        Arithmetic::Divide => return quotient(left, right),
    };
    Some((value, left.1.with(right.1, common)))
}

/// Returns a quotient with the scale that Postgres gives it (select_div_scale and div_var in numeric.c). `None` for a
/// division by zero, or if the scale matters and is not known.
pub(super) fn quotient(left: (i128, Digits), right: (i128, Digits)) -> Option<(i128, Digits)> {
    if right.0 == 0 {
        return None;
    }
    let first = |(value, digits): (i128, Digits)| first_digit(value, digits.scale);
    let ((left_weight, left_first), (right_weight, right_first)) = (first(left)?, first(right)?);
    let weight = left_weight - right_weight - i32::from(left_first <= right_first);
    let significant = (MIN_SIGNIFICANT - weight * DIGITS).max(0);
    let scale = significant.max(i32::from(left.1.scale)).max(i32::from(right.1.scale));
    let shift = u32::try_from(scale).ok()? + u32::from(right.1.scale) - u32::from(left.1.scale);
    let numerator = left.0.checked_mul(10_i128.checked_pow(shift)?)?;
    let digits = left.1.with(right.1, u8::try_from(scale).ok()?);
    if !digits.is_exact && scale != significant && numerator.checked_rem(right.0)? != 0 {
        return None;
    }
    Some((divided(numerator, right.0)?, digits))
}

/// Divides and rounds half away from zero.
fn divided(left: i128, right: i128) -> Option<i128> {
    let (whole, rest) = (left.checked_div(right)?, left.checked_rem(right)?);
    let is_half = rest.unsigned_abs() >= right.unsigned_abs() - rest.unsigned_abs();
    let step = if (left < 0) == (right < 0) { 1 } else { -1 };
    if is_half { whole.checked_add(step) } else { Some(whole) }
}

/// Returns the place of the first non-zero digit in Postgres's base 10,000, and the digit.
fn first_digit(value: i128, scale: u8) -> Option<(i32, u128)> {
    if value == 0 {
        return Some((0, 0));
    }
    let value = value.unsigned_abs();
    let digits = i32::try_from(value.ilog10()).ok()? + 1;
    let weight = (digits - 1 - i32::from(scale)).div_euclid(DIGITS);
    let behind = i32::from(scale) + weight * DIGITS;
    let power = |exponent: i32| 10_u128.checked_pow(u32::try_from(exponent).ok()?);
    let first = if behind >= 0 { value / power(behind)? } else { value.checked_mul(power(-behind)?)? };
    Some((weight, first))
}

/// Returns the number with another number of fraction digits. `None` if digits would be lost.
pub(super) fn rescaled(value: i128, from: u8, to: u8) -> Option<i128> {
    if from <= to {
        return value.checked_mul(10_i128.checked_pow(u32::from(to - from))?);
    }
    let power = 10_i128.checked_pow(u32::from(from - to))?;
    (value % power == 0).then(|| value / power)
}

/// Returns the order of two values. `None`: NULL. `Some(None)`: memory does not know it.
pub(super) fn order(left: Scalar<'_>, right: Scalar<'_>) -> Option<Option<Ordering>> {
    Some(match (left, right) {
        (Scalar::Null, Scalar::Unknown) | (Scalar::Unknown, Scalar::Null) => return None,
        (Scalar::Null, _) | (_, Scalar::Null) => return None,
        (Scalar::Unknown, _) | (_, Scalar::Unknown) => None,
        (Scalar::Int(left), Scalar::Int(right)) => Some(left.cmp(&right)),
        (Scalar::Bool(left), Scalar::Bool(right)) => Some(left.cmp(&right)),
        (Scalar::Time(left), Scalar::Time(right)) => Some(left.cmp(&right)),
        (Scalar::Span(left), Scalar::Span(right)) => Some(left.cmp(&right)),
        // Equality is the same for every collation of a watched table. The order is not.
        (Scalar::Text(left), Scalar::Text(right)) => (left == right).then_some(Ordering::Equal),
        (Scalar::Double(_) | Scalar::Between(..), _) | (_, Scalar::Double(_) | Scalar::Between(..)) => {
            floats::order(left, right)
        }
        (left, right) => match (left.decimal(), right.decimal()) {
            (Some(left), Some(right)) => {
                let common = left.1.scale.max(right.1.scale);
                let (l, r) = (rescaled(left.0, left.1.scale, common), rescaled(right.0, right.1.scale, common));
                l.zip(r).map(|(l, r)| l.cmp(&r))
            }
            _ => None,
        },
    })
}

/// Evaluates a comparison.
pub(super) fn compare(comparison: Comparison, left: Scalar<'_>, right: Scalar<'_>) -> Scalar<'static> {
    match order(left, right) {
        None => Scalar::Null,
        Some(Some(order)) => Scalar::Bool(comparison.holds(order)),
        Some(None) => match (comparison, left, right) {
            (Comparison::Equal, Scalar::Text(_), Scalar::Text(_)) => Scalar::Bool(false),
            (Comparison::NotEqual, Scalar::Text(_), Scalar::Text(_)) => Scalar::Bool(true),
            _ => Scalar::Unknown,
        },
    }
}

impl Comparison {
    /// Whether the comparison holds for two values in this order.
    pub(super) fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
        }
    }
}

/// Evaluates `AND`.
pub(super) fn and<'a>(left: Scalar<'a>, right: Scalar<'a>) -> Scalar<'a> {
    match (left, right) {
        (Scalar::Bool(false), _) | (_, Scalar::Bool(false)) => Scalar::Bool(false),
        (Scalar::Bool(true), other) | (other, Scalar::Bool(true)) => other,
        (Scalar::Null, Scalar::Null) => Scalar::Null,
        _ => Scalar::Unknown,
    }
}

/// Evaluates `NOT`.
pub(super) fn not(value: Scalar<'_>) -> Scalar<'_> {
    match value {
        Scalar::Bool(value) => Scalar::Bool(!value),
        other => other,
    }
}

/// Evaluates `OR`.
pub(super) fn or<'a>(left: Scalar<'a>, right: Scalar<'a>) -> Scalar<'a> {
    not(and(not(left), not(right)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_have_the_digits_of_postgres() {
        // select 1/3.0, 100.00/3, 12345.67/30, 2/3.00000, -1/3.0, 1/12345678.0, 99999999/0.0001, 0.00/7, 10000.0/9999
        let check = |left: &str, right: &str, want: &str| {
            let of = |text: &str| Scalar::of_decimal(Decimal::from_str_exact(text).unwrap()).decimal().unwrap();
            let (value, digits) = quotient(of(left), of(right)).unwrap();
            assert_eq!(crate::model::decimal_text(value, digits.scale), want, "{left} / {right}");
        };
        check("1", "3.0", "0.33333333333333333333");
        check("100.00", "3", "33.3333333333333333");
        check("12345.67", "30", "411.5223333333333333");
        check("2", "3.00000", "0.66666666666666666667");
        check("-1", "3.0", "-0.33333333333333333333");
        check("1", "12345678.0", "0.000000081000006642000545");
        check("99999999", "0.0001", "999999990000.00000000");
        check("0.00", "7", "0.00000000000000000000");
        check("10000.0", "9999", "1.0001000100010001");
    }

    #[test]
    fn what_is_not_known_does_not_decide() {
        use Scalar::{Bool, Null, Unknown};
        let check = |left, right, want_and, want_or| {
            assert_eq!((and(left, right), or(left, right)), (want_and, want_or), "{left:?} {right:?}");
            assert_eq!((and(right, left), or(right, left)), (want_and, want_or), "{right:?} {left:?}");
        };
        check(Bool(true), Unknown, Unknown, Bool(true));
        check(Bool(false), Unknown, Bool(false), Unknown);
        check(Bool(true), Null, Null, Bool(true));
        check(Bool(false), Null, Bool(false), Null);
        check(Null, Null, Null, Null);
        check(Null, Unknown, Unknown, Unknown);
    }
}
