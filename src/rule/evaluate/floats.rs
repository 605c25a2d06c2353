//! Binary floating point as in Postgres, and sums of it, for which memory knows the bounds.

#![expect(clippy::float_arithmetic, reason = "Postgres calculates with doubles too; nothing else of Tripline does")]

use std::cmp::Ordering;

use super::scalar::{Digits, Scalar, within};
use crate::model::{Double, decimal_text};
use crate::rule::expression::{Arithmetic, Type};

/// Rounds a value to the type.
#[expect(clippy::cast_possible_truncation, reason = "that is what rounding to a real is")]
fn rounded(value: f64, ty: Type) -> f64 {
    if ty == Type::Float4 { f64::from(value as f32) } else { value }
}

/// Calculates `left op right` in this type. If Postgres raises an error, the result is unknown: a division by zero, or
/// a result that becomes infinite or zero.
pub(super) fn arithmetic(op: Arithmetic, left: Scalar<'_>, right: Scalar<'_>, ty: Type) -> Scalar<'static> {
    match (left, right) {
        (Scalar::Double(left), Scalar::Double(right)) => {
            calculated(op, left, right, ty).map_or(Scalar::Unknown, Scalar::Double)
        }
        (left, right) => {
            let (Some((left_low, left_high)), Some((right_low, right_high))) = (bounds(left), bounds(right)) else {
                return Scalar::Unknown;
            };
            if op == Arithmetic::Divide && right_low <= 0.0 && right_high >= 0.0 {
                return Scalar::Unknown;
            }
            // Rounding keeps the order, so a value between two numbers gives a result between theirs.
            let corners =
                [(left_low, right_low), (left_low, right_high), (left_high, right_low), (left_high, right_high)];
            let mut all = corners.into_iter().map(|(left, right)| calculated(op, left, right, ty));
            let Some(first) = all.next().flatten() else { return Scalar::Unknown };
            all.try_fold((first, first), |(low, high), value| value.map(|value| (value.min(low), value.max(high))))
                .map_or(Scalar::Unknown, |(low, high)| Scalar::Between(low, high))
        }
    }
}

/// Returns `-x`.
pub(super) fn negated(value: Scalar<'_>) -> Scalar<'_> {
    match value {
        Scalar::Double(value) => Scalar::Double(-value),
        Scalar::Between(low, high) => Scalar::Between(-high, -low),
        other => other,
    }
}

/// Returns the bounds of a finite number.
fn bounds(value: Scalar<'_>) -> Option<(f64, f64)> {
    match value {
        Scalar::Double(value) => Some((value, value)),
        Scalar::Between(low, high) => Some((low, high)),
        _ => None,
    }
    .filter(|(low, high)| low.is_finite() && high.is_finite())
}

fn calculated(op: Arithmetic, left: f64, right: f64, ty: Type) -> Option<f64> {
    let exact = match op {
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide if right == 0.0 => return None,
        Arithmetic::Divide => left / right,
        Arithmetic::Remainder => return None,
    };
    let value = rounded(exact, ty);
    let is_product = matches!(op, Arithmetic::Multiply | Arithmetic::Divide);
    let overflows = value.is_infinite() && left.is_finite() && right.is_finite();
    let underflows = is_product && value == 0.0 && left != 0.0 && right.is_finite();
    let is_zero = op == Arithmetic::Multiply && right == 0.0;
    (!overflows && (!underflows || is_zero)).then_some(value)
}

/// Casts to or from floating point.
pub(super) fn cast(value: Scalar<'_>, from: Type, to: Type) -> Scalar<'_> {
    match value {
        Scalar::Double(value) if to.is_float() => {
            let cast = rounded(value, to);
            let is_lost = cast.is_infinite() != value.is_infinite() || (cast == 0.0) != (value == 0.0);
            if is_lost { Scalar::Unknown } else { Scalar::Double(cast) }
        }
        Scalar::Between(low, high) if to.is_float() => Scalar::Between(rounded(low, to), rounded(high, to)),
        Scalar::Double(value) if to.is_integer() => whole(value, to),
        Scalar::Double(value) => numeric(value, from == Type::Float4).unwrap_or(Scalar::Unknown),
        Scalar::Between(..) => Scalar::Unknown,
        Scalar::Int(_) | Scalar::Decimal(..) => double(value, to).map_or(Scalar::Unknown, Scalar::Double),
        other => other,
    }
}

/// The powers of ten that a double represents exactly, for the usual digits of amounts.
const POWERS: [f64; 9] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8];

/// Returns the nearest floating-point number to an exact one.
fn double(value: Scalar<'_>, to: Type) -> Option<f64> {
    let (unscaled, digits) = value.decimal()?;
    // Both are exact, so one division rounds once.
    if let (Ok(unscaled), Some(power), Type::Float8) =
        (i32::try_from(unscaled), POWERS.get(usize::from(digits.scale)), to)
    {
        return Some(f64::from(unscaled) / power);
    }
    Double::parse(&decimal_text(unscaled, digits.scale), to == Type::Float4)
}

/// Rounds half to even, as `dtoi8` does.
#[expect(clippy::cast_possible_truncation, reason = "bounded before")]
fn whole(value: f64, to: Type) -> Scalar<'static> {
    let value = value.round_ties_even();
    let is_within = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value);
    if is_within { within(value as i64, to) } else { Scalar::Unknown }
}

/// Returns a decimal with the digits of `float8_numeric` and `float4_numeric`: 15 and 6.
fn numeric(value: f64, is_real: bool) -> Option<Scalar<'static>> {
    if !value.is_finite() {
        return None;
    }
    let text = format!("{value:.*e}", if is_real { 5 } else { 14 });
    let (mantissa, exponent) = text.split_once('e')?;
    let (whole, fraction) = mantissa.split_once('.')?;
    let fraction = fraction.trim_end_matches('0');
    let unscaled: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent.parse().ok()?)?;
    let unscaled = unscaled.checked_mul(10_i128.checked_pow(u32::try_from((-scale).max(0)).ok()?)?)?;
    Some(Scalar::Decimal(unscaled, Digits::exactly(u8::try_from(scale.max(0)).ok()?)))
}

/// Returns the order of two numbers, at least one of which is floating point. `None`: memory does not know it.
pub(super) fn order(left: Scalar<'_>, right: Scalar<'_>) -> Option<Ordering> {
    if let (Scalar::Double(left), Scalar::Double(right)) = (left, right) {
        // NaN equals NaN and is the greatest. −0 equals 0.
        return Some(left.partial_cmp(&right).unwrap_or_else(|| left.is_nan().cmp(&right.is_nan())));
    }
    let ((left_low, left_high), (right_low, right_high)) = (bounds(left)?, bounds(right)?);
    if left_high < right_low {
        Some(Ordering::Less)
    } else if left_low > right_high {
        Some(Ordering::Greater)
    } else {
        None
    }
}

/// The number of parts of one in which sums are stored. It covers doubles down to 10⁻¹⁸, and a total of up to 10²⁰.
const PARTS: f64 = (1_i64 << 60) as f64;

/// A number past this limit is not summed.
const LIMIT: f64 = (1_i64 << 52) as f64;

/// Multiples of 1/1024 are summed without rounding while their total is below 2⁴³.
const COARSE: f64 = 1024.0;

/// Returns a double's contribution to a sum in parts of one, and whether it is a multiple of 1/1024.
#[expect(clippy::cast_possible_truncation, reason = "bounded before")]
pub(super) fn parts(value: Double) -> Option<(i128, bool)> {
    let value = value.get();
    (value.abs() < LIMIT).then(|| ((value * PARTS) as i128, (value * COARSE).fract() == 0.0))
}

/// The rows of a sum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summed {
    /// The sum in parts of one.
    pub(super) total: i128,
    /// The sum of the absolute values.
    pub(super) size: i128,
    /// The number of values that are not multiples of 1/1024.
    pub(super) fine: u64,
    pub(super) rows: u64,
}

impl Summed {
    /// Returns the sum as Postgres may have calculated it, in any order. `sum(real)` is calculated in reals.
    #[expect(clippy::cast_precision_loss, reason = "the bounds are wider than what is lost")]
    pub(super) fn sum(self, is_real: bool) -> Scalar<'static> {
        let (sum, size, rows) = (self.total as f64 / PARTS, self.size as f64 / PARTS, self.rows as f64);
        let (unit, exact) =
            if is_real { (f64::from(f32::EPSILON), 16_384.0) } else { (f64::EPSILON, 8_796_093_022_208.0) };
        if self.fine == 0 && size < exact {
            return Scalar::Double(sum);
        }
        // Each addition rounds by up to half a unit of the running sum. `parts` has cut off up to rows × 2⁻⁶⁰.
        let bound = (rows + 2.0) * unit * size + (rows + 1.0) / PARTS;
        Scalar::Between(sum - bound, sum + bound)
    }

    /// Returns the average. It is calculated in doubles for every type.
    #[expect(clippy::cast_precision_loss, reason = "a count of rows is below 2^53")]
    pub(super) fn average(self) -> Scalar<'static> {
        let rows = Scalar::Double(self.rows as f64);
        arithmetic(Arithmetic::Divide, self.sum(false), rows, Type::Float8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_round_as_postgres_does() {
        let check = |value: f64, from: Type, to: Type, want: Scalar<'_>| {
            assert_eq!(cast(Scalar::Double(value), from, to), want, "{value} to {}", to.name());
        };
        // select 2.5::float8::int, 3.5::float8::int, 1e10::float8::int, 0.1::float8::numeric, 0.1::float4::numeric, 1e20::float8::numeric
        check(2.5, Type::Float8, Type::Int4, Scalar::Int(2));
        check(3.5, Type::Float8, Type::Int4, Scalar::Int(4));
        check(1e10, Type::Float8, Type::Int4, Scalar::Unknown);
        check(0.1, Type::Float8, Type::Numeric, Scalar::Decimal(1, Digits::exactly(1)));
        check(f64::from(0.1_f32), Type::Float4, Type::Numeric, Scalar::Decimal(1, Digits::exactly(1)));
        check(f64::from(0.1_f32), Type::Float4, Type::Float8, Scalar::Double(f64::from(0.1_f32)));
        check(1e20, Type::Float8, Type::Numeric, Scalar::Decimal(10_i128.pow(20), Digits::exactly(0)));
        check(1e300, Type::Float8, Type::Float4, Scalar::Unknown);
        check(f64::NAN, Type::Float8, Type::Numeric, Scalar::Unknown);
        let cents = Scalar::Decimal(-123_456_789, Digits::exactly(2));
        assert_eq!(cast(cents, Type::Numeric, Type::Float8), Scalar::Double(-1_234_567.89));
        let third = Scalar::Decimal(1, Digits::exactly(1));
        assert_eq!(cast(third, Type::Numeric, Type::Float8), Scalar::Double(0.1));
        assert_eq!(cast(Scalar::Int(i64::MAX), Type::Int8, Type::Float8), Scalar::Double(9_223_372_036_854_775_807.0));
    }

    #[test]
    fn what_raises_an_error_is_unknown() {
        let check = |op: Arithmetic, left: f64, right: f64, ty: Type, want: Scalar<'_>| {
            assert_eq!(
                arithmetic(op, Scalar::Double(left), Scalar::Double(right), ty),
                want,
                "{left} {} {right}",
                op.as_str()
            );
        };
        check(Arithmetic::Add, 0.1, 0.2, Type::Float8, Scalar::Double(0.1 + 0.2));
        check(Arithmetic::Add, 16_777_216.0, 1.0, Type::Float4, Scalar::Double(16_777_216.0));
        check(Arithmetic::Divide, 1.0, 0.0, Type::Float8, Scalar::Unknown);
        check(Arithmetic::Multiply, 1e200, 1e200, Type::Float8, Scalar::Unknown);
        check(Arithmetic::Multiply, 1e-200, 1e-200, Type::Float8, Scalar::Unknown);
        check(Arithmetic::Multiply, 1e-200, 0.0, Type::Float8, Scalar::Double(0.0));
        check(Arithmetic::Multiply, 1e200, 1e200, Type::Float4, Scalar::Unknown);
    }

    #[test]
    fn sums_are_exact_or_between_bounds() {
        let summed = |values: &[f64]| {
            let mut sum = Summed { total: 0, size: 0, fine: 0, rows: 0 };
            for value in values {
                let (n, is_coarse) = parts(Double::new(*value).unwrap()).unwrap();
                sum = Summed {
                    total: sum.total + n,
                    size: sum.size + n.abs(),
                    fine: sum.fine + u64::from(!is_coarse),
                    rows: sum.rows + 1,
                };
            }
            sum
        };
        assert_eq!(summed(&[100.0, 0.5, -3.25]).sum(false), Scalar::Double(97.25));
        assert_eq!(summed(&[1.0, 2.0]).average(), Scalar::Double(1.5));
        assert!(parts(Double::new(1e16).unwrap()).is_none());
        let values = [0.1; 1000];
        let one_by_one: f64 = values.iter().sum();
        let Scalar::Between(low, high) = summed(&values).sum(false) else { panic!("it is not exact") };
        assert!(low < one_by_one && one_by_one < high && high - low < 1e-9, "{low} {one_by_one} {high}");
        assert_eq!(order(Scalar::Between(low, high), Scalar::Double(100.1)), Some(Ordering::Less));
        assert_eq!(order(Scalar::Between(low, high), Scalar::Double(100.0)), None);
    }
}
