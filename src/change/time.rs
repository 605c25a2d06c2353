//! Times as Debezium writes them: counts since the epoch in four units, and ISO 8601 text.
//!
//! The units and names are those of Debezium's `io.debezium.time.*` and Kafka Connect's
//! `org.apache.kafka.connect.data.*`. `time.precision.mode` determines which one a column has. Every time becomes a
//! [`Timestamp`], microseconds since the epoch in UTC.
//!
//! Times past its range (years -290308 to 294247) become `infinity` or `-infinity`. This includes Debezium's
//! substitutes for Postgres's infinities: in milliseconds, in days and in `isostring` they are dates some 292 million
//! years from now. Debezium 2 has other substitutes, which are recognized too.

use crate::model::Timestamp;

const SECOND_MICROS: i64 = 1_000_000;
const DAY_MICROS: i64 = 86_400 * SECOND_MICROS;

/// The greatest length of a text in bytes. The longest that Debezium writes has 38.
const TEXT_LIMIT: usize = 64;

/// The unit of an encoded time, or text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `io.debezium.time.Timestamp`, `org.apache.kafka.connect.data.Timestamp`.
    Millis,
    /// `io.debezium.time.MicroTimestamp`.
    Micros,
    /// `io.debezium.time.NanoTimestamp`, rounded down to microseconds.
    Nanos,
    /// `io.debezium.time.Date`, `org.apache.kafka.connect.data.Date`.
    Days,
    /// `io.debezium.time.ZonedTimestamp`, `IsoTimestamp`, `IsoDate`: text, never a number.
    Iso,
}

/// The instant `count` units after the epoch. `None` for [`Unit::Iso`], which has no counts.
pub fn from_count(count: i64, unit: Unit) -> Option<Timestamp> {
    Some(match unit {
        Unit::Millis => infinite(Timestamp::from_millis(count)),
        Unit::Micros => infinite(Timestamp(count)),
        // The extremes are Postgres's infinities and stay that.
        Unit::Nanos if count == i64::MAX || count == i64::MIN => Timestamp(count),
        Unit::Nanos => Timestamp(count.div_euclid(1_000)),
        Unit::Days => Timestamp(days_from_count(count).saturating_mul(DAY_MICROS)),
        Unit::Iso => return None,
    })
}

/// Recognizes infinities of Debezium 2, which takes the driver's substitutes, milliseconds, for microseconds.
fn infinite(at: Timestamp) -> Timestamp {
    match at.0 {
        9_223_372_036_825_200_000 => Timestamp::MAX,
        -9_223_372_036_832_400_000 => Timestamp::MIN,
        _ => at,
    }
}

/// Days since the epoch of a date that is written as such a count. `infinity` becomes the greatest `i32`, as in
/// Postgres, and `-infinity` the least.
///
/// Debezium 2 cuts both to 32 bits. In a snapshot it cuts the days of the driver's substitutes, plus or minus one by
/// the time zone of its JVM. In the stream it cuts Postgres's own, moved from 2000 to 1970. No date of Postgres has
/// these counts.
pub fn days_from_count(count: i64) -> i64 {
    match count {
        -622_191_235..=-622_191_233 | -2_147_472_692 => i32::MAX.into(),
        -625_821_273..=-625_821_271 | -2_147_472_691 => i32::MIN.into(),
        days => days,
    }
}

/// Parses ISO 8601 as Debezium writes it:
///
/// - a date (`2026-03-01`, `2026-03-01Z`)
/// - a date and a time with up to nine fraction digits (cut to microseconds) and `Z`, an offset, or nothing for UTC
/// - `infinity` and `-infinity`
///
/// A year has four digits, or a sign and up to nine (`+10000-01-01T00:00:00.000Z`).
///
/// # Errors
///
/// A sentence with the expected form, for any other text and for dates that do not exist.
pub fn from_iso(text: &str) -> Result<Timestamp, String> {
    match text {
        "infinity" => return Ok(Timestamp::MAX),
        "-infinity" => return Ok(Timestamp::MIN),
        _ if text.len() > TEXT_LIMIT => return Err(format!("{} bytes of text are too long for a time", text.len())),
        _ => {}
    }
    let micros = parse(text.as_bytes());
    micros.map(Timestamp).ok_or_else(|| "it is not a time in ISO 8601, such as 2026-03-01T12:34:56.123456Z".to_owned())
}

/// Days since the epoch of a date in ISO 8601 (`2026-03-01`, `2026-03-01Z`). `infinity` becomes the greatest `i32`, as
/// in Postgres, and `-infinity` the least.
///
/// # Errors
/// A sentence, for any other text.
pub fn days_from_iso(text: &str) -> Result<i64, String> {
    match text {
        "infinity" => return Ok(i32::MAX.into()),
        "-infinity" => return Ok(i32::MIN.into()),
        _ => {}
    }
    match date(text.as_bytes()) {
        Some((days, [] | [b'Z'])) if text.len() <= TEXT_LIMIT => Ok(days),
        _ => Err("it is not a date in ISO 8601, such as 2026-03-01".to_owned()),
    }
}

/// Microseconds since midnight of a time in ISO 8601 (`12:34:56.123456Z`, `12:34:56`).
///
/// # Errors
/// A sentence, for any other text.
pub fn of_day_from_iso(text: &str) -> Result<i64, String> {
    time_of_day(text.as_bytes())
        .filter(|micros| text.len() <= TEXT_LIMIT && (0..=DAY_MICROS).contains(micros))
        .ok_or_else(|| "it is not a time of day in ISO 8601, such as 12:34:56.123456".to_owned())
}

/// Microseconds since midnight of a count of these units. `None` outside of the day (24:00 is inside), and for text and
/// days.
pub fn of_day_from_count(count: i64, unit: Unit) -> Option<i64> {
    let micros = match unit {
        Unit::Millis => count.checked_mul(1_000)?,
        Unit::Micros => count,
        Unit::Nanos => count.div_euclid(1_000),
        Unit::Days | Unit::Iso => return None,
    };
    (0..=DAY_MICROS).contains(&micros).then_some(micros)
}

fn parse(text: &[u8]) -> Option<i64> {
    let (days, rest) = date(text)?;
    let of_day = match rest {
        [] | [b'Z'] => 0,
        [b'T', rest @ ..] => time_of_day(rest)?,
        _ => return None,
    };
    let micros = days.checked_mul(DAY_MICROS).and_then(|midnight| midnight.checked_add(of_day));
    Some(micros.unwrap_or(if days > 0 { i64::MAX } else { i64::MIN }))
}

/// Days since the epoch, and the text after the date.
fn date(text: &[u8]) -> Option<(i64, &[u8])> {
    let (year, rest) = match text {
        [b'+', rest @ ..] => long_year(rest)?,
        [b'-', rest @ ..] => long_year(rest).map(|(year, rest)| (-year, rest))?,
        [a, b, c, d, rest @ ..] => (two(*a, *b)? * 100 + two(*c, *d)?, rest),
        _ => return None,
    };
    let [b'-', a, b, b'-', c, d, rest @ ..] = rest else {
        return None;
    };
    let (month, day) = (two(*a, *b)?, two(*c, *d)?);
    if day < 1 || day > days_in_month(year, month)? {
        return None;
    }
    Some((days_from_civil(year, month, day), rest))
}

/// Four to nine digits, and the text after them.
fn long_year(text: &[u8]) -> Option<(i64, &[u8])> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(length)?;
    if !(4..=9).contains(&length) {
        return None;
    }
    Some((digits.iter().fold(0, |year, byte| year * 10 + i64::from(byte - b'0')), rest))
}

/// Microseconds since midnight in UTC. The offset may move the time outside of the day.
fn time_of_day(text: &[u8]) -> Option<i64> {
    let [h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = text else {
        return None;
    };
    let (hour, minute, second) = (two(*h1, *h2)?, two(*m1, *m2)?, two(*s1, *s2)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (micros, rest) = match rest {
        [b'.', rest @ ..] => fraction(rest)?,
        _ => (0, rest),
    };
    let offset_minutes = match rest {
        [] | [b'Z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two(*h1, *h2)?, two(*m1, *m2)?);
            if hours > 18 || minutes > 59 {
                return None;
            }
            let minutes = hours * 60 + minutes;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    Some(((hour * 60 + minute - offset_minutes) * 60 + second) * SECOND_MICROS + micros)
}

/// One to nine digits after the point as microseconds, and the text after them.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    if let [a, b, c, d, e, f, rest @ ..] = text
        && matches!(rest, [] | [b'Z'])
    {
        return Some((two(*a, *b)? * 10_000 + two(*c, *d)? * 100 + two(*e, *f)?, rest));
    }
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(length)?;
    if !(1..=9).contains(&length) {
        return None;
    }
    let padded = digits.iter().copied().chain(std::iter::repeat(b'0'));
    Some((padded.take(6).fold(0, |micros, byte| micros * 10 + i64::from(byte - b'0')), rest))
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
}

fn days_in_month(year: i64, month: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if leap { 29 } else { 28 }),
        _ => None,
    }
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar. The formula is Howard Hinnant's
/// `days_from_civil` (<https://howardhinnant.github.io/date_algorithms.html>): eras of 400 years, years from March. It
/// does not overflow for years of nine digits.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}
