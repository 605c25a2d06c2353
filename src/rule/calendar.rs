//! Calendar arithmetic that agrees with Postgres: intervals, `date_trunc`, `EXTRACT`. A local time is the number of
//! microseconds since 1970 as if it were UTC. Pure.

use chrono::{DateTime, Datelike, Months, NaiveDate};

use super::Interval;
use crate::model::Timestamp;
use crate::model::zone::Zone;

pub(super) const SECOND_MICROS: i64 = 1_000_000;
pub(super) const MINUTE_MICROS: i64 = 60 * SECOND_MICROS;
pub(super) const HOUR_MICROS: i64 = 60 * MINUTE_MICROS;
pub(super) const DAY_MICROS: i64 = 24 * HOUR_MICROS;

/// A unit of `date_trunc` or `EXTRACT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Seconds. EXTRACT returns six fraction digits.
    Second,
    /// Minutes.
    Minute,
    /// Hours.
    Hour,
    /// Days.
    Day,
    /// Weeks, from Monday. EXTRACT numbers them by ISO 8601.
    Week,
    /// Months.
    Month,
    /// Quarters.
    Quarter,
    /// Years.
    Year,
    /// Days of the week from Sunday, 0.
    DayOfWeek,
    /// Days of the week from Monday, 1.
    IsoDayOfWeek,
    /// Days of the year from 1.
    DayOfYear,
    /// Seconds since 1970, with six fraction digits.
    Epoch,
}

/// Units and names, as in Postgres's `datetktbl` and `deltatktbl`.
const UNITS: [(Unit, &str); 12] = [
    (Unit::Second, "second"),
    (Unit::Minute, "minute"),
    (Unit::Hour, "hour"),
    (Unit::Day, "day"),
    (Unit::Week, "week"),
    (Unit::Month, "month"),
    (Unit::Quarter, "quarter"),
    (Unit::Year, "year"),
    (Unit::DayOfWeek, "dow"),
    (Unit::IsoDayOfWeek, "isodow"),
    (Unit::DayOfYear, "doy"),
    (Unit::Epoch, "epoch"),
];

impl Unit {
    /// Finds the unit of this name. Case does not matter.
    pub fn named(name: &str) -> Option<Self> {
        UNITS.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(unit, _)| *unit)
    }

    /// The name in SQL.
    pub fn as_str(self) -> &'static str {
        UNITS.iter().find(|(unit, _)| *unit == self).map_or("epoch", |(_, name)| name)
    }

    /// Whether `date_trunc` accepts the unit.
    pub fn is_cut_to(self) -> bool {
        !matches!(self, Self::DayOfWeek | Self::IsoDayOfWeek | Self::DayOfYear | Self::Epoch)
    }

    /// The number of fraction digits in the result of EXTRACT. A date has none.
    pub fn scale(self, is_date: bool) -> u8 {
        if matches!(self, Self::Second | Self::Epoch) && !is_date { 6 } else { 0 }
    }

    /// Whether truncation keeps the instant's offset from UTC. Postgres does this for units shorter than a day.
    pub(super) fn keeps_offset(self) -> bool {
        matches!(self, Self::Second | Self::Minute | Self::Hour)
    }
}

/// Adds an interval to a local time, or subtracts it: first the months, clipped to the last day of the month, then the
/// days, then the time. `None`: the result is outside of the calendar.
pub(super) fn shifted_local(local: i64, by: Interval, is_back: bool) -> Option<i64> {
    let at = months_away(local, by.months, is_back)?;
    let rest = i64::from(by.days).checked_mul(DAY_MICROS)?.checked_add(by.micros)?;
    if is_back { at.checked_sub(rest) } else { at.checked_add(rest) }
}

/// Adds an interval to an instant in a time zone, or subtracts it. Months and days are steps of local time, the rest is
/// not. `None`: the result is outside of the calendar.
pub(super) fn shifted(at: Timestamp, by: Interval, is_back: bool, zone: &Zone) -> Option<Timestamp> {
    let Interval { months, days, micros } = by;
    let mut at = at;
    if months > 0 {
        at = zone.instant(months_away(zone.local(at), months, is_back)?);
    }
    if days > 0 {
        at = zone.instant(shifted_local(zone.local(at), Interval { months: 0, days, micros: 0 }, is_back)?);
    }
    let micros = if is_back { at.0.checked_sub(micros)? } else { at.0.checked_add(micros)? };
    Some(Timestamp(micros))
}

/// The length of an interval in microseconds, as comparisons take it: a month has 30 days, a day 24 hours
/// (`interval_cmp_value`).
pub(super) fn span(interval: Interval) -> Option<i64> {
    let days = i64::from(interval.months).checked_mul(30)?.checked_add(i64::from(interval.days))?;
    days.checked_mul(DAY_MICROS)?.checked_add(interval.micros)
}

/// Adds calendar months to a local time, or subtracts them. The day is clipped to the last day of the month.
pub(super) fn months_away(local: i64, months: u32, is_back: bool) -> Option<i64> {
    if months == 0 {
        return Some(local);
    }
    let (at, months) = (DateTime::from_timestamp_micros(local)?, Months::new(months));
    let moved = if is_back { at.checked_sub_months(months) } else { at.checked_add_months(months) };
    Some(moved?.timestamp_micros())
}

/// `date_trunc(unit, local)`
pub(super) fn truncated(local: i64, unit: Unit) -> Option<i64> {
    let cut = |micros: i64| local - local.rem_euclid(micros);
    let date = || DateTime::from_timestamp_micros(local).map(|at| at.date_naive());
    Some(match unit {
        Unit::Second => cut(SECOND_MICROS),
        Unit::Minute => cut(MINUTE_MICROS),
        Unit::Hour => cut(HOUR_MICROS),
        Unit::Day => cut(DAY_MICROS),
        Unit::Week => cut(DAY_MICROS) - i64::from(date()?.weekday().num_days_from_monday()) * DAY_MICROS,
        Unit::Month => first_of(date()?.year(), date()?.month())?,
        Unit::Quarter => first_of(date()?.year(), date()?.month0() / 3 * 3 + 1)?,
        Unit::Year => first_of(date()?.year(), 1)?,
        Unit::DayOfWeek | Unit::IsoDayOfWeek | Unit::DayOfYear | Unit::Epoch => return None,
    })
}

/// `date_trunc(unit, at)` in a time zone (`timestamptz_trunc_internal`).
pub(super) fn truncated_instant(at: Timestamp, unit: Unit, zone: &Zone) -> Option<Timestamp> {
    let local = zone.local(at);
    let cut = truncated(local, unit)?;
    Some(if unit.keeps_offset() { Timestamp(at.0 - (local - cut)) } else { zone.instant(cut) })
}

/// The first later local time with a different truncated value.
pub(super) fn next_cut(local: i64, unit: Unit) -> Option<i64> {
    let cut = truncated(local, unit)?;
    match unit {
        Unit::Second => cut.checked_add(SECOND_MICROS),
        Unit::Minute => cut.checked_add(MINUTE_MICROS),
        Unit::Hour => cut.checked_add(HOUR_MICROS),
        Unit::Day => cut.checked_add(DAY_MICROS),
        Unit::Week => cut.checked_add(7 * DAY_MICROS),
        Unit::Month => months_away(cut, 1, false),
        Unit::Quarter => months_away(cut, 3, false),
        _ => months_away(cut, 12, false),
    }
}

fn first_of(year: i32, month: u32) -> Option<i64> {
    Some(NaiveDate::from_ymd_opt(year, month, 1)?.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
}

/// `EXTRACT(unit FROM local)` of a timestamp, unscaled, with [`Unit::scale`] fraction digits. `None`: the result is
/// outside of the calendar, or a year or week outside of the years 1 to 9999.
pub(super) fn extracted(local: i64, unit: Unit) -> Option<i128> {
    let date = match unit {
        // Postgres counts the years before 1 otherwise.
        Unit::Year | Unit::Week => Timestamp(local).date()?,
        _ => DateTime::from_timestamp_micros(local)?.date_naive(),
    };
    let micros = local.rem_euclid(DAY_MICROS);
    Some(match unit {
        Unit::Second => (micros % MINUTE_MICROS).into(),
        Unit::Minute => (micros % HOUR_MICROS / MINUTE_MICROS).into(),
        Unit::Hour => (micros / HOUR_MICROS).into(),
        Unit::Day => date.day().into(),
        Unit::Week => date.iso_week().week().into(),
        Unit::Month => date.month().into(),
        Unit::Quarter => (date.month0() / 3 + 1).into(),
        Unit::Year => date.year().into(),
        Unit::DayOfWeek => date.weekday().num_days_from_sunday().into(),
        Unit::IsoDayOfWeek => date.weekday().number_from_monday().into(),
        Unit::DayOfYear => date.ordinal().into(),
        Unit::Epoch => local.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        Timestamp::parse(text).unwrap().0
    }

    #[test]
    fn cut_to_units() {
        let check = |unit: Unit, text: &str, want: &str, next: &str| {
            let local = at(text);
            assert_eq!(truncated(local, unit), Some(at(want)), "{unit:?} of {text}");
            assert_eq!(next_cut(local, unit), Some(at(next)), "after {unit:?} of {text}");
        };
        check(Unit::Second, "2026-03-05T07:08:09.5Z", "2026-03-05T07:08:09Z", "2026-03-05T07:08:10Z");
        check(Unit::Hour, "2026-03-05T07:08:09Z", "2026-03-05T07:00:00Z", "2026-03-05T08:00:00Z");
        check(Unit::Day, "2026-12-31T23:59:59.999999Z", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z");
        check(Unit::Week, "2026-11-29T12:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z");
        check(Unit::Month, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z");
        check(Unit::Quarter, "2026-11-29T12:00:00Z", "2026-10-01T00:00:00Z", "2027-01-01T00:00:00Z");
        check(Unit::Year, "1969-06-01T00:00:00Z", "1969-01-01T00:00:00Z", "1970-01-01T00:00:00Z");
    }

    #[test]
    fn an_hour_that_comes_twice_is_cut_in_its_own_offset() {
        let change = |text: &str| at(text) / SECOND_MICROS;
        let zone = Zone::new(
            "Europe/Berlin",
            3_600,
            [(change("2026-03-29T01:00:00Z"), 7_200), (change("2026-10-25T01:00:00Z"), 3_600)],
        );
        // select date_trunc(..., timestamptz '2026-10-25 00:30+00', 'Europe/Berlin') and so on
        let check = |unit: Unit, instant: &str, want: &str| {
            assert_eq!(
                truncated_instant(Timestamp(at(instant)), unit, &zone),
                Some(Timestamp(at(want))),
                "{unit:?} {instant}"
            );
        };
        check(Unit::Hour, "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z");
        check(Unit::Hour, "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z");
        check(Unit::Day, "2026-10-25T00:30:00Z", "2026-10-24T22:00:00Z");
        check(Unit::Day, "2026-10-25T12:30:00Z", "2026-10-24T22:00:00Z");
        check(Unit::Month, "2026-10-25T12:30:00Z", "2026-09-30T22:00:00Z");
    }

    #[test]
    fn extracted_units() {
        // select extract(... from timestamp '2026-11-29 07:08:09.25'), which is a Sunday
        let local = at("2026-11-29T07:08:09.25Z");
        let check = |unit: Unit, want: i128| assert_eq!(extracted(local, unit), Some(want), "{unit:?}");
        check(Unit::Second, 9_250_000);
        check(Unit::Minute, 8);
        check(Unit::Hour, 7);
        check(Unit::Day, 29);
        check(Unit::Week, 48);
        check(Unit::Quarter, 4);
        check(Unit::DayOfWeek, 0);
        check(Unit::IsoDayOfWeek, 7);
        check(Unit::DayOfYear, 333);
        check(Unit::Epoch, i128::from(local));
    }
}
