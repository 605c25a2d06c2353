//! Exact decimals from text and from Kafka Connect's Decimal, in the scale of their column.
//!
//! Kafka Connect's `org.apache.kafka.connect.data.Decimal` is the unscaled value as a big-endian two's-complement
//! integer, in base64 in JSON. The scale is in the schema. In Debezium's `io.debezium.data.VariableScaleDecimal` it is
//! beside the value. Text is the output of Java's `BigDecimal`. Nothing is ever rounded.
//!
//! - this file: for sums, with a bound on the magnitude
//! - [`exact`]: every digit, for the archive

pub mod exact;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::model::{DECIMAL_LIMIT, UNDECLARED_SCALE, Value};

/// The greatest length of a text that is read as a number, in bytes.
const TEXT_LIMIT: usize = 1_024;

/// The greatest exponent or scale, positive or negative. No `numeric` of Postgres has more digits before its point.
/// Greater ones are rejected before any arithmetic.
const EXPONENT_LIMIT: i32 = 131_072;

/// 10 to this power. `None` if it does not fit an `i128`.
fn power_of_ten(exponent: i32) -> Option<i128> {
    10_i128.checked_pow(u32::try_from(exponent).ok()?)
}

/// Parses decimal text such as `-120.50`, `0E-18` or `1.5e3` as a value of a `numeric` column whose declared scale is
/// `declared`.
///
/// The names of NaN and the infinities, in every spelling of Debezium's, become [`Value::Opaque`]. So do numbers that
/// memory cannot hold: those from [`DECIMAL_LIMIT`] on (unscaled) and, without a declared scale, those with more than
/// [`UNDECLARED_SCALE`] fraction digits.
///
/// # Errors
///
/// A sentence. The text is not a number, is longer than 1 KiB, has an exponent past 131072, or has more fraction digits
/// than declared.
pub fn from_text(text: &str, declared: Option<u8>) -> Result<Value, String> {
    if is_special(text) {
        return Ok(Value::Opaque);
    }
    in_scale(number_of_text(text)?, declared).ok_or_else(|| misfit(declared))
}

/// Parses base64 of a two's-complement integer with `scale` fraction digits as a value of a `numeric` column whose
/// declared scale is `declared`. Numbers that memory cannot hold become [`Value::Opaque`], as in [`from_text`].
///
/// # Errors
///
/// A sentence. The text is not (padded, standard) base64 of at least one byte, is longer than 1 KiB, has a scale past
/// 131072 in either direction, or has more fraction digits than declared.
pub fn from_base64(text: &str, scale: i32, declared: Option<u8>) -> Result<Value, String> {
    in_scale(number_of_base64(text, scale)?, declared).ok_or_else(|| misfit(declared))
}

fn number_of_text(text: &str) -> Result<Number, String> {
    if text.len() > TEXT_LIMIT {
        return Err(format!("{} bytes of text are too long for a number", text.len()));
    }
    let number = scan(text.as_bytes()).ok_or("it is not a decimal number")?;
    if number.exponent.abs() > EXPONENT_LIMIT {
        return Err(format!("its exponent is past {EXPONENT_LIMIT}"));
    }
    Ok(number)
}

fn number_of_base64(text: &str, scale: i32) -> Result<Number, String> {
    if text.len() > TEXT_LIMIT {
        return Err(format!("{} bytes of text are too long for a number", text.len()));
    }
    if !(-EXPONENT_LIMIT..=EXPONENT_LIMIT).contains(&scale) {
        return Err(format!("a scale of {scale} is past {EXPONENT_LIMIT}"));
    }
    let bad = || "it is not base64 of an integer".to_owned();
    // Four characters are three bytes, so 24 bytes hold any i128. Longer values are rare and may allocate.
    let mut short = [0_u8; 24];
    let long;
    let bytes = if text.len() <= 32 {
        let length = STANDARD.decode_slice(text, &mut short).map_err(|_| bad())?;
        short.get(..length).ok_or_else(bad)?
    } else {
        long = STANDARD.decode(text).map_err(|_| bad())?;
        long.as_slice()
    };
    let first = *bytes.first().ok_or_else(bad)?;
    Ok(match integer(bytes, first >= 0x80) {
        Some(unscaled) => Number::of(unscaled, -scale),
        None => Number { coefficient: None, exponent: -scale },
    })
}

/// The integer `whole` as a value of a `numeric` column whose declared scale is `declared`.
pub fn from_integer(whole: i128, declared: Option<u8>) -> Value {
    // Whole numbers need no fraction digits, so only their size can be too much.
    in_scale(Number::of(whole, 0), declared).unwrap_or(Value::Opaque)
}

/// Whether `text` is a name of NaN or of an infinity, in the spelling of `decimal.handling.mode` string or double.
pub fn is_special(text: &str) -> bool {
    matches!(text, "NAN" | "NaN" | "POSITIVE_INFINITY" | "NEGATIVE_INFINITY" | "Infinity" | "-Infinity" | "+Infinity")
}

/// Whether `text` is a number in the format of `decimal.handling.mode` string, of any length: digits, optionally with a
/// sign, a point and an exponent.
pub fn is_decimal(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    are_digits(whole)
        && are_digits(fraction)
        && whole.len().saturating_add(fraction.len()) > 0
        && exponent.is_none_or(|exponent| scan_exponent(exponent.as_bytes()).is_some())
}

/// `coefficient` × 10^`exponent`. The coefficient has no factor 10. `None` is a coefficient that exceeds an `i128`.
struct Number {
    coefficient: Option<i128>,
    exponent: i32,
}

impl Number {
    fn of(mut coefficient: i128, mut exponent: i32) -> Self {
        // At most 38 rounds. Only where digits may have to go does it matter that zeros at the end went first.
        while exponent < 0 && coefficient != 0 && coefficient % 10 == 0 {
            coefficient /= 10;
            exponent += 1;
        }
        Self { coefficient: Some(coefficient), exponent }
    }
}

/// Scans `[+-]digits[.digits][e[+-]digits]` with at least one digit. The length is bounded by the caller.
fn scan(text: &[u8]) -> Option<Number> {
    let (negative, mut rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let mut digits = Digits::default();
    let mut point = false;
    let mut exponent = 0_i32;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'0'..=b'9' => {
                digits.push(byte - b'0');
                exponent -= i32::from(point);
            }
            b'.' if !point => point = true,
            b'e' | b'E' => {
                exponent = exponent.checked_add(scan_exponent(rest)?)?;
                break;
            }
            _ => return None,
        }
    }
    if !digits.any {
        return None;
    }
    let magnitude = digits.value.and_then(|value| i128::try_from(value).ok());
    if magnitude == Some(0) {
        return Some(Number { coefficient: Some(0), exponent: exponent.clamp(-EXPONENT_LIMIT, EXPONENT_LIMIT) });
    }
    let coefficient = if negative { magnitude.map(i128::wrapping_neg) } else { magnitude };
    Some(Number { coefficient, exponent: exponent.checked_add(digits.zeros)? })
}

/// A number that is read digit by digit. Trailing zeros are counted separately.
struct Digits {
    any: bool,
    value: Option<u128>,
    zeros: i32,
}

impl Default for Digits {
    fn default() -> Self {
        Self { any: false, value: Some(0), zeros: 0 }
    }
}

impl Digits {
    fn push(&mut self, digit: u8) {
        self.any = true;
        if digit == 0 {
            self.zeros = self.zeros.saturating_add(1);
            return;
        }
        let power = power_of_ten(self.zeros.saturating_add(1));
        self.zeros = 0;
        // Leading zeros shift nothing, however many there are.
        if self.value == Some(0) {
            self.value = Some(u128::from(digit));
            return;
        }
        self.value = match (self.value, power) {
            (Some(value), Some(power)) => {
                value.checked_mul(power.unsigned_abs()).and_then(|value| value.checked_add(u128::from(digit)))
            }
            _ => None,
        };
    }
}

/// One to six digits with or without a sign.
fn scan_exponent(text: &[u8]) -> Option<i32> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 6 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0, |value, byte| value * 10 + i32::from(byte - b'0'));
    Some(if negative { -value } else { value })
}

/// A big-endian two's-complement integer. `None` if it exceeds an `i128`.
fn integer(bytes: &[u8], negative: bool) -> Option<i128> {
    let fill = if negative { 0xff } else { 0 };
    // Needless sign bytes first, but never the one that the sign is read from.
    let mut bytes = bytes;
    while let [first, rest @ ..] = bytes
        && bytes.len() > 16
        && *first == fill
    {
        bytes = rest;
    }
    if bytes.len() > 16 || bytes.first().is_some_and(|first| (*first >= 0x80) != negative) {
        return None;
    }
    let start = if negative { -1_i128 } else { 0 };
    Some(bytes.iter().fold(start, |value, byte| (value << 8) | i128::from(*byte)))
}

/// The number in the declared scale. `None` if it has more fraction digits.
fn in_scale(number: Number, declared: Option<u8>) -> Option<Value> {
    if number.coefficient == Some(0) {
        return Some(Value::Decimal(0));
    }
    let scale = declared.unwrap_or(UNDECLARED_SCALE);
    let shift = number.exponent.saturating_add(i32::from(scale));
    if shift < 0 {
        // Digits would be lost: never declared so, or nothing that memory keeps.
        return declared.is_none().then_some(Value::Opaque);
    }
    let unscaled = match (number.coefficient, power_of_ten(shift)) {
        (Some(coefficient), Some(power)) => coefficient.checked_mul(power),
        _ => None,
    };
    Some(match unscaled {
        Some(unscaled) if unscaled.unsigned_abs() < DECIMAL_LIMIT.unsigned_abs() => Value::Decimal(unscaled),
        _ => Value::Opaque,
    })
}

fn misfit(declared: Option<u8>) -> String {
    let scale = declared.unwrap_or(UNDECLARED_SCALE);
    format!("it has more than the {scale} fraction digits that the column is declared with")
}
