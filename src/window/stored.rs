//! A window as `state/N` stores it: group by group, rows in time order. The aggregates are calculated again from the
//! rows when it is read.

use std::cmp::Reverse;

use serde::ser::{Error, SerializeSeq};
use serde::{Deserialize, Serialize, Serializer};

use super::packed::{NewRow, Packed};
use super::{Trigger, Version, Window, time_of};
use crate::episode::Reason;
use crate::model::{Key, Lsn, Timestamp, Value};
use crate::planted;
use crate::rule::Time;
use crate::rule::evaluate::{Evaluation, Program};

/// The stored window of one rule as read from `state/N`. [`Window::stored`] writes the same shape.
#[derive(Debug, Deserialize)]
pub struct StoredWindow {
    floor: Option<Lsn>,
    loaded_at: Option<Lsn>,
    deleted: Vec<(Key, Version)>,
    groups: Vec<StoredGroup>,
}

/// The stored window in format 2.
#[derive(Debug, Deserialize)]
pub struct StoredWindow2 {
    floor: Option<Lsn>,
    groups: Vec<StoredGroup>,
}

impl From<StoredWindow2> for StoredWindow {
    fn from(old: StoredWindow2) -> Self {
        Self { floor: old.floor, loaded_at: None, deleted: Vec::new(), groups: old.groups }
    }
}

#[derive(Debug, Deserialize)]
struct StoredGroup {
    key: Key,
    event_time: Timestamp,
    evaluation: Evaluation,
    evaluated: Evaluation,
    since: Option<Box<Trigger>>,
    unseen: Vec<u32>,
    rows: Vec<StoredRow>,
}

#[derive(Debug, Deserialize)]
struct StoredRow {
    pk: Key,
    time: Timestamp,
    version: Option<Version>,
    args: Vec<Value>,
}

#[derive(Serialize)]
struct WindowOut<'a> {
    floor: Option<Lsn>,
    loaded_at: Option<Lsn>,
    deleted: Vec<(&'a Key, Version)>,
    groups: GroupsOut<'a>,
}

#[derive(Serialize)]
struct GroupOut<'a> {
    key: &'a Key,
    event_time: Timestamp,
    evaluation: Evaluation,
    evaluated: Evaluation,
    since: &'a Option<Box<Trigger>>,
    unseen: &'a [u32],
    rows: Vec<RowOut<'a>>,
}

/// Writes a row as [`StoredRow`] reads it.
struct RowOut<'a>(&'a Packed, u32);

impl Serialize for RowOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(row) = self.0.get(self.1) else { return Err(S::Error::custom("a group has a row that is not held")) };
        (row.pk(), row.time(), row.version(), row.args()).serialize(serializer)
    }
}

/// Serialises group by group, so that no second copy of the windows is in memory.
struct GroupsOut<'a>(&'a Window);

impl Serialize for GroupsOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut groups = serializer.serialize_seq(Some(self.0.groups.len()))?;
        for (_, group) in self.0.groups.iter() {
            groups.serialize_element(&GroupOut {
                key: &group.key,
                event_time: group.event_time,
                evaluation: group.evaluation,
                evaluated: group.evaluated,
                since: &group.since,
                unseen: group.unseen.ids(),
                rows: group.rows.iter().map(|row| RowOut(&self.0.rows, row)).collect(),
            })?;
        }
        groups.end()
    }
}

impl Window {
    /// Returns the window as `state/N` stores it.
    pub fn stored(&self) -> impl Serialize + '_ {
        let mut deleted: Vec<_> = self.deleted.iter().flatten().map(|(pk, version)| (pk, *version)).collect();
        deleted.sort_unstable_by_key(|(pk, _)| *pk);
        WindowOut { floor: self.floor, loaded_at: self.loaded_at, deleted, groups: GroupsOut(self) }
    }

    /// Fills an empty window with the stored one of a rule of the same version.
    pub fn refill(&mut self, stored: StoredWindow) {
        (self.floor, self.loaded_at) = (stored.floor, stored.loaded_at);
        if !stored.deleted.is_empty() {
            self.deleted = Some(stored.deleted.into_iter().collect());
        }
        for group in stored.groups {
            let Some(index) = self.group_for(group.key) else { return };
            for row in group.rows {
                self.restore_row(index, row);
            }
            if let Some(held) = self.groups.get_mut(index) {
                held.event_time = group.event_time;
                (held.evaluation, held.evaluated, held.since) = (group.evaluation, group.evaluated, group.since);
                held.reason = if held.since.is_some() { Reason::Condition } else { Reason::Time };
                held.unseen = group.unseen.into_iter().collect();
                if held.evaluation != held.evaluated || !self.program.is_steady() {
                    held.edge = Some(Timestamp::MIN);
                    self.edges.push(Reverse((Timestamp::MIN, index)));
                }
            }
            if self.time == Time::Event {
                // NOW() is known, so the aggregates become those of the rows inside of the window, as they were.
                self.evict(index, group.event_time);
            }
            // A steady edge keeps its distance from NOW(), whatever NOW() is.
            if !planted::bug("expiry-not-restored") {
                self.schedule(index, Timestamp(0));
            }
        }
    }

    /// Continues with another program of the same query in another time zone, in which the rows' local times are other
    /// instants.
    pub fn exchange_program(&mut self, program: Program) {
        (self.program, self.moments) = (program, None);
        let groups: Vec<u32> = self.groups.iter().map(|(index, _)| index).collect();
        self.others.clear();
        for index in groups {
            let Some(group) = self.groups.get_mut(index) else { continue };
            let held = std::mem::take(&mut group.rows);
            (group.edges, group.running) = (self.program.first_edges(), self.program.start());
            for row in held.iter() {
                let Some(held) = self.rows.get(row) else { continue };
                let args = held.args();
                let time = self.program.held_time(held.time(), &args);
                self.rows.set_time(row, time);
                let at = self.program.position(time);
                if let Some(args) = self.program.contribution(at, &args, &group.edges) {
                    group.running.add(&args);
                }
                group.rows.insert(row, at, time_of(&self.rows, &self.program));
                self.others.insert(index, row, self.program.other_places(&args));
            }
            group.edge = Some(Timestamp::MIN);
            self.edges.push(Reverse((Timestamp::MIN, index)));
        }
    }

    fn restore_row(&mut self, group: u32, row: StoredRow) {
        let is_lost = |value: &Value| *value == Value::Opaque && planted::bug("opaque-lost-in-the-state");
        let args = row.args.into_iter().map(|value| if is_lost(&value) { Value::Null } else { value }).collect();
        let time = self.program.held_time(row.time, &args);
        self.hold(NewRow { pk: &row.pk, group, time, version: row.version, args: &args });
    }
}
