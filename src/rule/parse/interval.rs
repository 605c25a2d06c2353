//! Parses the text of an interval: a subset of what Postgres's `interval_in` accepts
//! (src/backend/utils/adt/datetime.c), namely positive quantities with units and `HH:MM[:SS]`. Months, days and
//! microseconds remain separate, as in Postgres.

use crate::rule::Interval;
use crate::rule::calendar::{DAY_MICROS, HOUR_MICROS, MINUTE_MICROS, SECOND_MICROS};

/// 100 years of 365.25 days.
const MAX_MICROS: i64 = 36_525 * DAY_MICROS;
const MAX_MONTHS: i64 = 1_200;

const SUPPORTED: &str = "supported are whole numbers of years, months, weeks, days, hours, minutes, seconds, \
     milliseconds and microseconds, fractions of a second, and HH:MM or HH:MM:SS";

/// The unit after the text in `INTERVAL '7' DAY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
}

impl Field {
    /// The keyword in SQL.
    pub(super) fn keyword(self) -> &'static str {
        match self {
            Self::Year => "YEAR",
            Self::Month => "MONTH",
            Self::Day => "DAY",
            Self::Hour => "HOUR",
            Self::Minute => "MINUTE",
            Self::Second => "SECOND",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

/// Postgres's `deltatktbl`, without decades and longer.
fn unit(text: &str) -> Option<Unit> {
    Some(match text.to_ascii_lowercase().as_str() {
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecond" | "microseconds" => Unit::Microsecond,
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecond" | "milliseconds" => Unit::Millisecond,
        "s" | "sec" | "secs" | "second" | "seconds" => Unit::Second,
        "m" | "min" | "mins" | "minute" | "minutes" => Unit::Minute,
        "h" | "hr" | "hrs" | "hour" | "hours" => Unit::Hour,
        "d" | "day" | "days" => Unit::Day,
        "w" | "week" | "weeks" => Unit::Week,
        "mon" | "mons" | "month" | "months" => Unit::Month,
        "y" | "yr" | "yrs" | "year" | "years" => Unit::Year,
        _ => return None,
    })
}

/// Parses the text of an interval. `field` is the unit after the text, if there is one.
///
/// # Errors
/// A text that is no such interval, or an interval that is not positive or longer than 100 years.
pub(super) fn parse(text: &str, field: Option<Field>) -> Result<Interval, String> {
    let mut sum = Sum::default();
    match field {
        Some(field) => sum.add_quantity(text.trim(), field_unit(field)).map_err(|problem| {
            // Postgres would drop whatever is finer than the field.
            format!("{problem}; before {} stands one number", field.keyword())
        })?,
        None => sum.add_text(text)?,
    }
    sum.finish()
}

fn field_unit(field: Field) -> Unit {
    match field {
        Field::Year => Unit::Year,
        Field::Month => Unit::Month,
        Field::Day => Unit::Day,
        Field::Hour => Unit::Hour,
        Field::Minute => Unit::Minute,
        Field::Second => Unit::Second,
    }
}

#[derive(Default)]
struct Sum {
    months: i64,
    days: i64,
    micros: i64,
    seen: Vec<Unit>,
}

impl Sum {
    fn add_text(&mut self, text: &str) -> Result<(), String> {
        let runs = runs(text)?;
        let mut runs = runs.iter();
        while let Some(run) = runs.next() {
            if run.contains(':') {
                self.add_clock(run)?;
                continue;
            }
            if run.chars().any(char::is_alphabetic) {
                return Err(match run.to_ascii_lowercase().as_str() {
                    "ago" => "an interval has to be positive: leave out ago".to_owned(),
                    _ => format!("{run} stands without a number before it; {SUPPORTED}"),
                });
            }
            match runs.next() {
                Some(next) => match unit(next) {
                    Some(unit) => self.add_quantity(run, unit)?,
                    None => return Err(format!("{next} is no unit of time; {SUPPORTED}")),
                },
                None => return Err(format!("{run} has no unit; write for example '{run} days'")),
            }
        }
        Ok(())
    }

    fn add_quantity(&mut self, number: &str, unit: Unit) -> Result<(), String> {
        self.see(unit)?;
        if number.contains('.') {
            if unit != Unit::Second {
                return Err(format!("{number}: fractions are supported for seconds only; use a smaller unit"));
            }
            let micros = seconds(number)?;
            return self.add_micros(micros);
        }
        let n = whole(number)?;
        match unit {
            Unit::Microsecond => self.add_micros(n),
            Unit::Millisecond => self.add_micros(times(n, 1_000)?),
            Unit::Second => self.add_micros(times(n, SECOND_MICROS)?),
            Unit::Minute => self.add_micros(times(n, MINUTE_MICROS)?),
            Unit::Hour => self.add_micros(times(n, HOUR_MICROS)?),
            Unit::Day => self.add_days(n),
            Unit::Week => self.add_days(times(n, 7)?),
            Unit::Month => self.add_months(n),
            Unit::Year => self.add_months(times(n, 12)?),
        }
    }

    /// `HH:MM`, `HH:MM:SS`, `HH:MM:SS.ffffff`
    fn add_clock(&mut self, text: &str) -> Result<(), String> {
        for unit in [Unit::Hour, Unit::Minute, Unit::Second] {
            self.see(unit)?;
        }
        let parts: Vec<&str> = text.split(':').collect();
        let (hours, minutes, seconds_text) = match parts.as_slice() {
            [hours, minutes] => (hours, minutes, "0"),
            [hours, minutes, seconds] => (hours, minutes, *seconds),
            _ => return Err(format!("{text} is no time; write HH:MM or HH:MM:SS")),
        };
        let (hours, minutes, micros) = (whole(hours)?, whole(minutes)?, seconds(seconds_text)?);
        if minutes >= 60 || micros >= MINUTE_MICROS {
            return Err(format!("{text} has 60 or more minutes or seconds"));
        }
        self.add_micros(times(hours, HOUR_MICROS)?)?;
        self.add_micros(times(minutes, MINUTE_MICROS)?)?;
        self.add_micros(micros)
    }

    /// Rejects a unit that appears twice, as Postgres does.
    fn see(&mut self, unit: Unit) -> Result<(), String> {
        if self.seen.contains(&unit) {
            return Err("a unit of the interval comes twice".to_owned());
        }
        self.seen.push(unit);
        Ok(())
    }

    fn add_months(&mut self, n: i64) -> Result<(), String> {
        self.months = self.months.checked_add(n).ok_or_else(too_long)?;
        Ok(())
    }

    fn add_days(&mut self, n: i64) -> Result<(), String> {
        self.days = self.days.checked_add(n).ok_or_else(too_long)?;
        Ok(())
    }

    fn add_micros(&mut self, n: i64) -> Result<(), String> {
        self.micros = self.micros.checked_add(n).ok_or_else(too_long)?;
        Ok(())
    }

    fn finish(&self) -> Result<Interval, String> {
        let months = self.months.checked_mul(30 * DAY_MICROS).ok_or_else(too_long)?;
        let days = self.days.checked_mul(DAY_MICROS).ok_or_else(too_long)?;
        let total = months.checked_add(days).and_then(|sum| sum.checked_add(self.micros)).ok_or_else(too_long)?;
        if total <= 0 {
            return Err("an interval has to be longer than nothing, such as '7 days'".to_owned());
        }
        // A year counts as 360 days above, so that the months need a bound of their own.
        if total > MAX_MICROS || self.months > MAX_MONTHS {
            return Err(too_long());
        }
        let months = u32::try_from(self.months).map_err(|_| too_long())?;
        let days = u32::try_from(self.days).map_err(|_| too_long())?;
        Ok(Interval { months, days, micros: self.micros })
    }
}

/// Splits a text into numbers (with points and colons) and words: `7d 02:00` is `7`, `d`, `02:00`.
fn runs(text: &str) -> Result<Vec<String>, String> {
    let mut runs: Vec<String> = Vec::new();
    let mut last = ' ';
    for c in text.chars() {
        let class = match c {
            '0'..='9' | '.' | ':' => '0',
            'a'..='z' | 'A'..='Z' => 'a',
            ' ' | '\t' | '\n' | '\r' => ' ',
            '-' => return Err("an interval has to be positive: NOW() - INTERVAL '7 days'".to_owned()),
            other => return Err(format!("{other:?} in an interval; {SUPPORTED}")),
        };
        match runs.last_mut() {
            Some(run) if class == last && class != ' ' => run.push(c),
            _ if class != ' ' => runs.push(c.to_string()),
            _ => {}
        }
        last = class;
    }
    Ok(runs)
}

fn whole(text: &str) -> Result<i64, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{text:?} is no whole number"));
    }
    text.parse().map_err(|_| too_long())
}

/// Parses `7` or `7.25` seconds, with at most six fraction digits, into microseconds.
fn seconds(text: &str) -> Result<i64, String> {
    let (whole_text, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.len() > 6 {
        return Err(format!("{text}: a second has at most six fraction digits"));
    }
    let fraction =
        whole(&format!("{}{}", whole_digits(fraction)?, "0".repeat(6_usize.saturating_sub(fraction.len()))))?;
    times(whole(whole_text)?, SECOND_MICROS)?.checked_add(fraction).ok_or_else(too_long)
}

fn whole_digits(text: &str) -> Result<&str, String> {
    whole(text).map(|_| text)
}

fn times(n: i64, factor: i64) -> Result<i64, String> {
    n.checked_mul(factor).ok_or_else(too_long)
}

fn too_long() -> String {
    "an interval may be at most 100 years".to_owned()
}
