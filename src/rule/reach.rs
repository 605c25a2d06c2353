//! How far back a window reaches, and when that changes what is in it. Pure.
//!
//! The left edge does not only go forward: 29, 30 and 31 March less a month are all 28 February, and where clocks are put
//! back the same hours come again. So a row that has left may come back. It is held until no later edge can admit it.

use std::sync::Arc;

use chrono::{DateTime, Datelike, Months};

use super::{Interval, TimeBound};
use crate::model::Timestamp;
use crate::model::zone::Zone;

const DAY_MICROS: i64 = 86_400_000_000;
/// How far months take an edge back: the days by which the longest month outlasts the shortest.
const CLIPPED_DAYS: i64 = 3;
/// How often local time is converted on the way from NOW() to the edge.
const CONVERSIONS: i64 = 4;

/// The left edge of a window: rows before it are out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftEdge {
    at: Timestamp,
    inclusive: bool,
}

impl LeftEdge {
    /// The edge of a rule without a time bound: every row is in.
    pub const NONE: Self = Self { at: Timestamp::MIN, inclusive: true };

    /// Whether a row at this instant is inside.
    pub fn admits(self, at: Timestamp) -> bool {
        if self.inclusive { at >= self.at } else { at > self.at }
    }

    /// The instant of the edge.
    pub fn at(self) -> Timestamp {
        self.at
    }
}

/// A rule's time bound, in the time zone of its query.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    back: Interval,
    inclusive: bool,
    /// Whether the column holds local times.
    is_local: bool,
    zone: Arc<Zone>,
    /// The edge of a later NOW() is at most so far before an earlier one.
    slack: i64,
}

impl Reach {
    pub(super) fn new(bound: &TimeBound, is_local: bool, zone: Arc<Zone>) -> Self {
        let TimeBound { column: _, inclusive, back } = *bound;
        let clipped = if back.months > 0 { CLIPPED_DAYS * DAY_MICROS } else { 0 };
        let steps = if back.is_calendar() { CONVERSIONS.saturating_mul(zone.greatest_step()) } else { 0 };
        Self { back, inclusive, is_local, zone, slack: clipped.saturating_add(steps) }
    }

    /// The instant of a row's time.
    pub(super) fn instant(&self, time: Timestamp) -> Timestamp {
        if self.is_local { self.zone.instant(time.0) } else { time }
    }

    /// The left edge at `now`: NOW() − interval as Postgres calculates it: months of the local calendar, clipped to the last
    /// day of the month, then days of the local calendar, then the time.
    pub(super) fn left_edge(&self, now: Timestamp) -> LeftEdge {
        LeftEdge { at: self.walk(now).0, inclusive: self.inclusive }
    }

    /// Whether a row that stands at this instant is inside of this edge, or may be inside of a later one.
    pub(super) fn holds(&self, edge: LeftEdge, at: Timestamp) -> bool {
        edge.admits(at) || (self.slack > 0 && at.0 >= edge.at.0.saturating_sub(self.slack))
    }

    /// Whether the edge keeps its distance from NOW() for ever.
    pub(super) fn is_steady(&self) -> bool {
        self.slack == 0
    }

    /// When a group is to be looked at again, if no row comes or goes: the first of its rows inside leaves, the first of those
    /// that are held outside need not be held any longer, or the edge does not go on steadily.
    pub(super) fn next_look(
        &self,
        now: Timestamp,
        inside: Option<Timestamp>,
        outside: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let (edge, steady) = self.walk(now);
        let from_edge =
            |at: Timestamp, more: i64| now.0.saturating_add(at.0.saturating_sub(edge.0)).saturating_add(more);
        let leaves = inside.filter(|at| *at != Timestamp::MAX).map(|at| from_edge(at, i64::from(self.inclusive)));
        let forgotten = outside.map(|at| from_edge(at, self.slack.saturating_add(1)));
        let next = leaves.into_iter().chain(forgotten).min()?;
        Some(Timestamp(next.min(now.0.saturating_add(steady))))
    }

    /// The edge at `now`, and for how long it keeps its distance.
    fn walk(&self, now: Timestamp) -> (Timestamp, i64) {
        let Interval { months, days, micros } = self.back;
        let mut steady = i64::MAX;
        if now == Timestamp::MAX || now == Timestamp::MIN {
            return (now, steady);
        }
        let zone = &self.zone;
        let mut at = now;
        if months > 0 {
            let local = zone.local(at);
            let Some(earlier) = months_before(local, months) else { return (Timestamp::MIN, steady) };
            steady = steady.min(until_clip(local)).min(self.steady_for(at, earlier));
            at = zone.instant(earlier);
        }
        if days > 0 {
            let earlier = zone.local(at).saturating_sub(i64::from(days).saturating_mul(DAY_MICROS));
            steady = steady.min(self.steady_for(at, earlier));
            at = zone.instant(earlier);
        }
        (Timestamp(at.0.saturating_sub(micros)), steady)
    }

    /// For how long the way from an instant to its local time, and from another local time back, adds up to the same.
    fn steady_for(&self, at: Timestamp, local: i64) -> i64 {
        if self.zone.is_utc() {
            return i64::MAX;
        }
        let changes = self.zone.until_change(at.0).into_iter().chain(self.zone.until_other_offset(local));
        changes.min().unwrap_or(i64::MAX)
    }
}

/// So many months of the calendar earlier, clipped to the last day of the month.
fn months_before(local: i64, months: u32) -> Option<i64> {
    let earlier = DateTime::from_timestamp_micros(local)?.checked_sub_months(Months::new(months))?;
    Some(earlier.timestamp_micros())
}

/// How far it is to the next midnight at which clipping may begin or end: of the 29th, 30th, 31st or 1st.
fn until_clip(local: i64) -> i64 {
    let day = DateTime::from_timestamp_micros(local).map_or(28, |at| at.day());
    let midnights = i64::from(28_u32.saturating_sub(day)) + 1;
    midnights * DAY_MICROS - local.rem_euclid(DAY_MICROS)
}
