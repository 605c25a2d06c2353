//! Rows in and out of their groups and aggregates.

use super::packed::{NewRow, Packed};
use super::{Version, Window};
use crate::model::{Key, Timestamp};
use crate::rule::Time;
use crate::rule::evaluate::{Parts, Program};

/// How far a row may be dated ahead of its commit under event time; one dated further ahead is not in
/// the window, neither here nor in the confirmation, whose NOW() it cannot reach.
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

    /// Whether the window takes a row of this time.
    fn is_admitted(&mut self, time: Timestamp, now: Timestamp, committed_at: Option<Timestamp>) -> bool {
        match self.time {
            Time::Processing => {
                let edges = self.moments_at(now).edges();
                self.program.holds(&edges, self.program.position(time))
            }
            // One row dated 2999 must not carry NOW() there.
            Time::Event => committed_at
                .is_none_or(|then| self.program.instant(time).0 <= then.0.saturating_add(EVENT_TIME_LEAD_MICROS)),
        }
    }

    /// Exchanges what a row contributes, where it goes on to stand in the same group at the same time: nothing else of it is moved.
    /// Its group, for evaluating; `None` where it is not so.
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

    /// Puts a row into its group and its aggregates.
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

    /// Removes a row; its group, for evaluating.
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

/// Where rows stand in the time of their group.
pub(super) fn time_of<'a>(rows: &'a Packed, program: &'a Program) -> impl Fn(u32) -> Timestamp + Copy + use<'a> {
    |row| rows.get(row).map_or(Timestamp::MIN, |row| program.position(row.time()))
}
