//! Decimals with every digit: unscaled in a declared precision and scale, or as text of any length.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{EXPONENT_LIMIT, Number, is_special, number_of_base64, number_of_text, power_of_ten};

/// The greatest length of base64 that becomes text, in bytes. The greatest `numeric` of Postgres has 147,455 digits,
/// which are 61,231 bytes.
const BASE64_LIMIT: usize = 61_236 / 3 * 4;
/// The divisor that splits off nine digits at a time: 10^9 fits 32 bits.
const CHUNK: u64 = 1_000_000_000;

/// Parses decimal text in the scale of a `numeric(precision,scale)`. Returns the unscaled value.
///
/// # Errors
/// A sentence: the text is not a number, or needs more digits than declared, before or after the point.
pub fn from_text(text: &str, precision: u8, scale: u8) -> Result<i128, String> {
    if is_special(text) {
        return Err(format!("{text} has no place in numeric({precision},{scale})"));
    }
    in_precision(number_of_text(text)?, precision, scale).ok_or_else(|| misfit(precision, scale))
}

/// Parses base64 of an integer with `written` fraction digits in the scale of a `numeric(precision,scale)`. Returns the
/// unscaled value.
///
/// # Errors
/// A sentence: the text is not base64 of an integer, or needs more digits than declared.
pub fn from_base64(text: &str, written: i32, precision: u8, scale: u8) -> Result<i128, String> {
    in_precision(number_of_base64(text, written)?, precision, scale).ok_or_else(|| misfit(precision, scale))
}

/// Converts base64 of an integer with `scale` fraction digits to decimal text, without an exponent and with all digits.
///
/// # Errors
/// A sentence: the text is not base64 of an integer, is longer than any number of Postgres's, or has a scale past
/// 131072 in either direction.
pub fn text_of_base64(text: &str, scale: i32) -> Result<String, String> {
    if text.len() > BASE64_LIMIT {
        return Err(format!("{} bytes of base64 are too long for a number", text.len()));
    }
    if !(-EXPONENT_LIMIT..=EXPONENT_LIMIT).contains(&scale) {
        return Err(format!("a scale of {scale} is past {EXPONENT_LIMIT}"));
    }
    let bytes = STANDARD.decode(text).map_err(|_| "it is not base64 of an integer".to_owned())?;
    let first = *bytes.first().ok_or_else(|| "it is base64 of nothing".to_owned())?;
    let negative = first >= 0x80;
    let mut digits = digits(magnitude(&bytes, negative));
    let places = usize::try_from(scale.unsigned_abs()).map_err(|error| error.to_string())?;
    if scale < 0 && digits != "0" {
        digits.extend(std::iter::repeat_n('0', places));
    } else if scale > 0 {
        if digits.len() <= places {
            let missing = places.saturating_sub(digits.len()).saturating_add(1);
            digits.insert_str(0, &"0".repeat(missing));
        }
        digits.insert(digits.len().saturating_sub(places), '.');
    }
    if negative {
        digits.insert(0, '-');
    }
    Ok(digits)
}

/// The number in this precision and scale. `None` if a digit would be lost, before or after the point.
fn in_precision(number: Number, precision: u8, scale: u8) -> Option<i128> {
    if number.coefficient == Some(0) {
        return Some(0);
    }
    let shift = number.exponent.checked_add(i32::from(scale))?;
    let unscaled = number.coefficient?.checked_mul(power_of_ten(shift)?)?;
    (unscaled.unsigned_abs() < power_of_ten(i32::from(precision))?.unsigned_abs()).then_some(unscaled)
}

fn misfit(precision: u8, scale: u8) -> String {
    format!("it does not fit numeric({precision},{scale})")
}

/// The magnitude of a big-endian two's-complement integer, in units of 32 bits, most significant first.
fn magnitude(bytes: &[u8], negative: bool) -> Vec<u32> {
    let mut limbs: Vec<u32> = Vec::with_capacity(bytes.len() / 4 + 1);
    for chunk in bytes.rchunks(4) {
        let fill = if negative { u32::MAX } else { 0 };
        limbs.push(chunk.iter().fold(fill, |limb, byte| (limb << 8) | u32::from(*byte)));
    }
    if negative {
        // Two's complement: all bits turned over, and one more.
        let mut carry = true;
        for limb in &mut limbs {
            let (turned, over) = (!*limb).overflowing_add(u32::from(carry));
            (*limb, carry) = (turned, over);
        }
        if carry {
            limbs.push(1);
        }
    }
    limbs.reverse();
    limbs
}

/// Decimal digits, by repeated division.
fn digits(mut limbs: Vec<u32>) -> String {
    let mut chunks = Vec::new();
    let mut start = 0;
    while let Some(rest) = limbs.get_mut(start..)
        && !rest.is_empty()
    {
        if rest.first() == Some(&0) {
            start += 1;
            continue;
        }
        let mut remainder = 0_u64;
        for limb in rest {
            let value = (remainder << 32) | u64::from(*limb);
            // The quotient fits: the remainder is less than the divisor.
            *limb = u32::try_from(value / CHUNK).unwrap_or(u32::MAX);
            remainder = value % CHUNK;
        }
        chunks.push(remainder);
    }
    let mut text = chunks.pop().unwrap_or(0).to_string();
    while let Some(chunk) = chunks.pop() {
        text.push_str(&format!("{chunk:09}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_integers() {
        let check = |bytes: &[u8], scale: i32, want: &str| {
            assert_eq!(text_of_base64(&STANDARD.encode(bytes), scale).as_deref(), Ok(want), "{bytes:?} {scale}");
        };
        check(&[0], 0, "0");
        check(&[0], 2, "0.00");
        check(&[0], -3, "0");
        check(&[0xff], 2, "-0.01");
        check(&[0x30, 0x39], 2, "123.45");
        check(&[0x30, 0x39], 5, "0.12345");
        check(&[0x30, 0x39], -2, "1234500");
        check(&[0x80], 0, "-128");
        check(&[0xff, 0xff, 0xff, 0xff, 0x00], 0, "-256");
        check(&[0x80, 0, 0, 0, 0, 0, 0, 0], 0, "-9223372036854775808");
        check(&[0x80, 0, 0, 0], 0, "-2147483648");
        for value in [i128::MAX, i128::MIN, 10_i128.pow(37), -(10_i128.pow(27)), 4_294_967_296, -4_294_967_296] {
            check(&value.to_be_bytes(), 0, &value.to_string());
        }
        let mut greater = vec![0_u8; 40];
        *greater.first_mut().unwrap() = 1; // 2^312
        let want = "8343699359066055009355553539724812947666814540455674882605631280555545803830627148527195652096";
        check(&greater, 0, want);
        assert!(text_of_base64("", 0).is_err());
        assert!(text_of_base64("AA==", 200_000).is_err());
    }

    #[test]
    fn unscaled_in_their_precision() {
        assert_eq!(from_text("12345678.99", 10, 2), Ok(1_234_567_899));
        assert_eq!(from_text("99999999.99", 10, 2), Ok(9_999_999_999));
        assert_eq!(from_text("1.500", 10, 2), Ok(150));
        assert!(from_text("100000000.00", 10, 2).is_err());
        assert!(from_text("1.505", 10, 2).is_err());
        assert!(from_text("NaN", 10, 2).is_err());
        assert_eq!(from_text(&"9".repeat(38), 38, 0), Ok(10_i128.pow(38) - 1));
        assert!(from_text(&"9".repeat(39), 38, 0).is_err());
        assert_eq!(from_base64("MDk=", 2, 10, 2), Ok(12_345));
        assert_eq!(from_base64("MDk=", 2, 10, 4), Ok(1_234_500));
        assert!(from_base64("MDk=", 2, 4, 2).is_err());
    }
}
