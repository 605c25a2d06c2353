//! Numeric literals, exactly, with the scale that Postgres gives them.

use rust_decimal::Decimal;

/// Numbers with a greater exponent never fit.
const MAX_EXPONENT: i32 = 60;

/// Parses `3000`, `0.5`, `.5`, `3e3`. As in Postgres's `numeric_in`, the scale is the number of fraction digits that
/// remain after the exponent is applied.
///
/// # Errors
/// A text that is no such number, or a number that does not fit a 96-bit integer with at most 28 fraction digits
/// exactly.
pub(super) fn parse(text: &str, negative: bool) -> Result<Decimal, String> {
    exact(text, negative).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        format!("{shown} cannot be kept exactly; numbers have at most 28 digits, such as 3000.50")
    })
}

fn exact(text: &str, negative: bool) -> Option<Decimal> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    if !(-MAX_EXPONENT..=MAX_EXPONENT).contains(&exponent) {
        return None;
    }
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}");
    // Not left to i128's parser, which takes a sign.
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    for _ in scale..0 {
        digits.push('0');
    }
    let unscaled = digits.parse::<i128>().ok()?;
    let unscaled = if negative { unscaled.checked_neg()? } else { unscaled };
    Decimal::try_from_i128_with_scale(unscaled, u32::try_from(scale.max(0)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn numbers_keep_the_scale_that_postgres_gives_them() {
        let cases = [
            ("3000", false, "3000"),
            ("3000.50", false, "3000.50"),
            ("3000.", false, "3000"),
            (".5", true, "-0.5"),
            ("3e3", false, "3000"),
            ("3E+3", false, "3000"),
            ("1.5e1", false, "15"),
            ("1.50e1", true, "-15.0"),
            ("15e-1", false, "1.5"),
            ("0.0", true, "0.0"),
            ("79228162514264337593543950335", false, "79228162514264337593543950335"),
            ("1e28", false, "10000000000000000000000000000"),
            ("1e-28", false, "0.0000000000000000000000000001"),
        ];
        for (text, negative, want) in cases {
            assert_eq!(parse(text, negative).unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn what_is_not_exact_is_refused() {
        let texts = [
            "",
            ".",
            "e3",
            "1e",
            "1e99999999999",
            "1e61",
            "1e29",
            "1e-29",
            "79228162514264337593543950336",
            "0.12345678901234567890123456789",
            "1_000",
            "+1",
            "1.2.3",
            "0x1F",
            "1e1.5",
            "١",
        ];
        for text in texts {
            assert!(parse(text, false).is_err(), "{text}");
        }
    }
}
