//! A time zone as the database has it: the offsets of its local time, and when they change. Pure.
//!
//! Memory converts between local time and instants with the offsets that Postgres returned, and by Postgres's rules.
//! There is no second copy of the time zone database that could differ from the server's.

use std::fmt;

use super::Timestamp;

const SECOND_MICROS: i64 = 1_000_000;
const DAY_MICROS: i64 = 86_400 * SECOND_MICROS;

/// Names that mean UTC on every server. They need no offsets.
const UTC_NAMES: [&str; 9] =
    ["UTC", "Etc/UTC", "GMT", "Etc/GMT", "UCT", "Etc/UCT", "Zulu", "Etc/Zulu", "Etc/Universal"];

/// A change of a zone's offset. Offsets are microseconds east of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    at: i64,
    before: i64,
    after: i64,
}

/// A time zone.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone {
    name: String,
    first: i64,
    changes: Vec<Change>,
}

impl Default for Zone {
    /// UTC.
    fn default() -> Self {
        Self { name: "UTC".to_owned(), first: 0, changes: Vec::new() }
    }
}

impl std::hash::Hash for Zone {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Zone({}, {} changes)", self.name, self.changes.len())
    }
}

impl Zone {
    /// Creates a zone from its first offset and its changes in order. A change is an instant in seconds since 1970, and
    /// the offset from then on. Offsets are seconds east of UTC.
    pub fn new(name: impl Into<String>, first: i64, changes: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let first = first.saturating_mul(SECOND_MICROS);
        let mut before = first;
        let mut kept = Vec::new();
        for (at, after) in changes {
            let (at, after) = (at.saturating_mul(SECOND_MICROS), after.saturating_mul(SECOND_MICROS));
            if after != before {
                kept.push(Change { at, before, after });
            }
            before = after;
        }
        Self { name: name.into(), first, changes: kept }
    }

    /// Whether a name means UTC on every server.
    pub fn is_utc_name(name: &str) -> bool {
        UTC_NAMES.iter().any(|utc| utc.eq_ignore_ascii_case(name))
    }

    /// The name, as a session's `TimeZone` accepts it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is UTC, under any name.
    pub fn is_utc(&self) -> bool {
        self.first == 0 && self.changes.is_empty()
    }

    /// The greatest change of the offset, in microseconds.
    pub fn greatest_step(&self) -> i64 {
        self.changes.iter().map(|change| (change.after - change.before).abs()).max().unwrap_or(0)
    }

    fn offset(&self, at: i64) -> i64 {
        let passed = self.changes.partition_point(|change| change.at <= at);
        passed.checked_sub(1).and_then(|last| self.changes.get(last)).map_or(self.first, |change| change.after)
    }

    /// The local time at an instant, in microseconds as if it were UTC.
    pub fn local(&self, at: Timestamp) -> i64 {
        at.0.saturating_add(self.offset(at.0))
    }

    /// The instant of a local time, by Postgres's rules (`DetermineTimeZoneOffset` in its `datetime.c`). A time that
    /// occurs twice is the later instant. A time that is skipped counts from the previous offset. The infinities are
    /// kept.
    pub fn instant(&self, local: i64) -> Timestamp {
        if local == i64::MIN || local == i64::MAX || self.is_utc() {
            return Timestamp(local);
        }
        // Postgres looks at the first change after a day before, and at no later one.
        let previous = local.saturating_sub(DAY_MICROS);
        let next = self.changes.partition_point(|change| change.at <= previous);
        let Some(change) = self.changes.get(next) else {
            return Timestamp(local.saturating_sub(self.offset(previous)));
        };
        let (before, after) = (local.saturating_sub(change.before), local.saturating_sub(change.after));
        let is_before = before < change.at && after < change.at;
        let is_after = before > change.at && after >= change.at;
        Timestamp(if is_before || (!is_after && before > after) { before } else { after })
    }

    /// The time from an instant to the next change of the offset, in microseconds.
    pub(crate) fn until_change(&self, at: i64) -> Option<i64> {
        let next = self.changes.partition_point(|change| change.at <= at);
        self.changes.get(next).map(|change| change.at.saturating_sub(at))
    }

    /// The time in microseconds from a local time to the next one from which on [`Zone::instant`] uses another offset.
    pub(crate) fn until_other_offset(&self, local: i64) -> Option<i64> {
        // Changes are further apart than offsets differ, so few lie within two days.
        let near = self.changes.partition_point(|change| change.at <= local.saturating_sub(2 * DAY_MICROS));
        let starts = self.changes.iter().skip(near).map(|change| {
            // Postgres looks one day back, so its choice of the offset changes there too.
            [change.at.saturating_add(change.after), change.at.saturating_add(DAY_MICROS)]
        });
        starts.take(4).flatten().filter(|start| *start > local).min().map(|start| start.saturating_sub(local))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600 * SECOND_MICROS;

    fn at(text: &str) -> i64 {
        Timestamp::parse(text).unwrap().0
    }

    /// Berlin in 2026: forward on 29 March, back on 25 October, both at 01:00 UTC.
    fn berlin() -> Zone {
        let change = |text: &str| at(text) / SECOND_MICROS;
        Zone::new(
            "Europe/Berlin",
            3_600,
            [(change("2026-03-29T01:00:00Z"), 7_200), (change("2026-10-25T01:00:00Z"), 3_600)],
        )
    }

    #[test]
    fn a_time_that_comes_twice_is_the_later_instant_and_a_skipped_one_counts_from_before() {
        let check = |local: &str, instant: &str| {
            assert_eq!(berlin().instant(at(local)).rfc3339(), instant, "{local}");
        };
        check("2026-01-01T12:00:00Z", "2026-01-01T11:00:00Z");
        check("2026-03-29T01:59:59Z", "2026-03-29T00:59:59Z");
        check("2026-03-29T02:30:00Z", "2026-03-29T01:30:00Z");
        check("2026-03-29T03:00:00Z", "2026-03-29T01:00:00Z");
        check("2026-10-25T01:59:59Z", "2026-10-24T23:59:59Z");
        check("2026-10-25T02:00:00Z", "2026-10-25T01:00:00Z");
        check("2026-10-25T02:30:00.5Z", "2026-10-25T01:30:00.500Z");
        check("2026-10-25T03:00:00Z", "2026-10-25T02:00:00Z");
        assert_eq!(berlin().instant(i64::MAX), Timestamp::MAX);
    }

    #[test]
    fn local_times() {
        let check = |instant: &str, offset: i64| {
            assert_eq!(berlin().local(Timestamp(at(instant))), at(instant) + offset * HOUR, "{instant}");
        };
        check("2026-03-29T00:59:59.999999Z", 1);
        check("2026-03-29T01:00:00Z", 2);
        check("2026-10-25T00:59:59Z", 2);
        check("2026-10-25T01:00:00Z", 1);
        assert_eq!(berlin().greatest_step(), HOUR);
        assert!(Zone::default().is_utc() && !berlin().is_utc() && Zone::is_utc_name("etc/utc"));
    }
}
