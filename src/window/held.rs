//! Adding rows to groups and aggregates, and removing them.

use super::packed::{NewRow, Packed};
use super::{Version, Window};
use crate::model::{Key, Timestamp};
use crate::rule::Time;
use crate::rule::evaluate::{Parts, Program};

/// How far a row's time may be ahead of its commit under event time. A row with a later time is not in the window. It
/// is not in the confirmation either, whose NOW() cannot reach it.
const EVENT_TIME_LEAD_MICROS: i64 = 60_000_000;

impl Window {
    pub(super) fn put_in(
        &mut self,
        pk: &Key,
        parts: Parts,
        version: Option<Version>,
        now: Timestamp,
        committed_at: Option<Timestamp>,
    ) -> Option<u32> {
        let Parts { key, time, args } = parts;
        let time = time?;
        if !self.is_admitted(time, now, committed_at) {
            Self::row_left(&mut self.quiet, &key);
            return None;
        }
        let group = self.group_for(key)?;
        let held = self.groups.get_mut(group)?;
        held.event_time = held.event_time.max(self.program.instant(time));
        self.hold(NewRow { pk, group, time, version, args: &args })?;
        Some(group)
    }

    /// Whether the window takes a row with this time.
    fn is_admitted(&mut self, time: Timestamp, now: Timestamp, committed_at: Option<Timestamp>) -> bool {
        match self.time {
            Time::Processing => {
                let edges = self.moments_at(now).edges();
                self.program.holds(&edges, self.program.position(time))
            }
            // One row dated 2999 must not advance NOW() to that year.
            Time::Event => committed_at
                .is_none_or(|then| self.program.instant(time).0 <= then.0.saturating_add(EVENT_TIME_LEAD_MICROS)),
        }
    }

    /// Replaces a row's contribution in place, if the row stays in the same group at the same time. Nothing else of the
    /// row moves. Returns the group, which has to be evaluated. `None`: the row does not stay there.
    pub(super) fn amend(
        &mut self,
        index: u32,
        pk: &Key,
        parts: &Parts,
        version: Option<Version>,
        now: Timestamp,
        committed_at: Option<Timestamp>,
    ) -> Option<u32> {
        let row = self.rows.get(index).filter(|row| parts.time == Some(row.time()) && self.program.is_simple())?;
        let (group, time, before) = (row.group(), row.time(), row.args());
        if self.groups.get(group)?.key != parts.key || !self.is_admitted(time, now, committed_at) {
            return None;
        }
        let (at, held) = (self.program.position(time), self.groups.get_mut(group)?);
        if self.program.is_inside(at, &held.edges) {
            held.running.remove(&before);
            held.running.add(&parts.args);
        }
        self.rows.exchange(index, NewRow { pk, group, time, version, args: &parts.args });
        Some(group)
    }

    /// Adds a row to its group and aggregates.
    pub(super) fn hold(&mut self, row: NewRow<'_>) -> Option<()> {
        let (group, at, args) = (row.group, self.program.position(row.time), row.args);
        let index = self.rows.insert(row)?;
        let held = self.groups.get_mut(group)?;
        if let Some(args) = self.program.contribution(at, args, &held.edges) {
            held.running.add(&args);
        }
        held.rows.insert(index, at, time_of(&self.rows, &self.program));
        self.others.insert(group, index, self.program.other_places(args));
        self.index_row(index);
        Some(())
    }

    /// Removes a row. Returns its group, which has to be evaluated.
    pub(super) fn take_out(&mut self, index: u32) -> Option<u32> {
        let row = self.rows.get(index)?;
        let (group, at, args) = (row.group(), self.program.position(row.time()), row.args());
        self.forget(index);
        let held = self.groups.get_mut(group)?;
        held.rows.remove(index, at);
        self.others.remove(group, index, self.program.other_places(&args));
        if let Some(args) = self.program.contribution(at, &args, &held.edges) {
            held.running.remove(&args);
        }
        Some(group)
    }
}

/// Returns the function from a row to its place in the time order of its group.
pub(super) fn time_of<'a>(rows: &'a Packed, program: &'a Program) -> impl Fn(u32) -> Timestamp + Copy + use<'a> {
    |row| rows.get(row).map_or(Timestamp::MIN, |row| program.position(row.time()))
}
