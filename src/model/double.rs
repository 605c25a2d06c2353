//! Binary floating-point numbers, as in `real` and `double precision`. Pure.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A `real` or a `double precision` in Postgres's order: NaN equals NaN and is the greatest. −0 is not supported,
/// because Postgres treats it as equal to 0 but shows it differently.
#[derive(Clone, Copy, Debug)]
pub struct Double(f64);

impl Double {
    /// Creates a number. `None` for −0.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        match value {
            _ if value.is_nan() => Some(Self(f64::NAN)),
            _ if value == 0.0 && value.is_sign_negative() => None,
            _ => Some(Self(value)),
        }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }

    /// Parses a number as Postgres and Debezium write it: digits, `NaN`, `Infinity` or `-Infinity`. With `is_real` it
    /// is rounded to a `real`. `None` for a text that is no such number, or is out of range.
    #[must_use]
    pub fn parse(text: &str, is_real: bool) -> Option<f64> {
        let special = match text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        };
        if special.is_some() {
            return special;
        }
        if !text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E')) {
            return None;
        }
        let value = if is_real { f64::from(text.parse::<f32>().ok()?) } else { text.parse::<f64>().ok()? };
        // Postgres refuses what would become 0 or infinite.
        let is_zero =
            text.bytes().take_while(|byte| !matches!(byte, b'e' | b'E')).all(|byte| !matches!(byte, b'1'..=b'9'));
        (value.is_finite() && (value != 0.0 || is_zero)).then_some(value)
    }

    /// Formats the number as Postgres does (`float8out`, `float4out`): the fewest digits that read back as the same
    /// number. An exponent is used below 10⁻⁴ and from 10¹⁵ on, for a `real` from 10⁶ on.
    #[must_use]
    pub fn text(self, is_real: bool) -> String {
        if self.0.is_nan() {
            return "NaN".to_owned();
        }
        if self.0.is_infinite() {
            return if self.0 > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
        }
        #[expect(clippy::cast_possible_truncation, reason = "a real is held as the double of the same value")]
        let shortest = if is_real { format!("{:e}", self.0 as f32) } else { format!("{:e}", self.0) };
        let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        if exponent < -4 || exponent >= if is_real { 6 } else { 15 } {
            let sign = if exponent < 0 { '-' } else { '+' };
            return format!("{mantissa}e{sign}{:02}", exponent.abs());
        }
        let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
        let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
        let whole = usize::try_from(exponent + 1).unwrap_or(0);
        if whole == 0 {
            let zeros = "0".repeat(usize::try_from(-1 - exponent).unwrap_or(0));
            return format!("{sign}0.{zeros}{digits}");
        }
        match digits.split_at_checked(whole) {
            Some((digits, "")) => format!("{sign}{digits}"),
            Some((digits, fraction)) => format!("{sign}{digits}.{fraction}"),
            None => format!("{sign}{digits:0<whole$}"),
        }
    }
}

impl PartialEq for Double {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Double {}

impl PartialOrd for Double {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Double {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Hash for Double {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// Serialized as its bits, because JSON has no NaN.
impl Serialize for Double {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.to_bits().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Double {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bits = u64::deserialize(deserializer)?;
        Self::new(f64::from_bits(bits)).ok_or_else(|| serde::de::Error::custom("a double that is -0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_postgres() {
        // select unnest(array[…]::float8[])::text, ::float4[]
        let check = |value: f64, is_real: bool, want: &str| {
            assert_eq!(Double::new(value).unwrap().text(is_real), want);
        };
        check(0.0, false, "0");
        check(0.1, false, "0.1");
        check(-52.520_008, false, "-52.520008");
        check(100.0, false, "100");
        check(1e14, false, "100000000000000");
        check(1e15, false, "1e+15");
        check(123_456_789_012_345_680.0, false, "1.2345678901234568e+17");
        check(0.0001, false, "0.0001");
        check(0.000_012, false, "1.2e-05");
        check(1e-300, false, "1e-300");
        check(f64::NAN, false, "NaN");
        check(f64::NEG_INFINITY, false, "-Infinity");
        check(f64::from(0.1_f32), true, "0.1");
        check(f64::from(123_456.0_f32), true, "123456");
        check(f64::from(1e6_f32), true, "1e+06");
        check(f64::from(16_777_216.0_f32), true, "1.6777216e+07");
    }

    #[test]
    fn what_is_read_is_what_postgres_takes() {
        let check =
            |text: &str, is_real: bool, want: Option<f64>| assert_eq!(Double::parse(text, is_real), want, "{text}");
        check("1.5e3", false, Some(1500.0));
        check("5", false, Some(5.0));
        check("-Infinity", false, Some(f64::NEG_INFINITY));
        check("inf", false, None);
        check("1e400", false, None);
        check("1e-400", false, None);
        check("0e-400", false, Some(0.0));
        check("0.1", true, Some(f64::from(0.1_f32)));
        check("1e39", true, None);
        check("", false, None);
        assert!(Double::new(-0.0).is_none());
        assert_eq!(Double::new(f64::NAN), Double::new(-f64::NAN));
        assert!(Double::new(f64::NAN) > Double::new(f64::INFINITY));
    }
}
