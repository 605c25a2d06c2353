//! Replacing rows: those of a group by the table's, and all of them by a truncate.

use std::collections::{BTreeSet, HashMap};

use super::{Trigger, Version, Window};
use crate::change::{Change, Op};
use crate::episode::Reason;
use crate::model::{Key, Lsn, Position, Timestamp, Value};
use crate::planted;
use crate::rule::Time;

impl Window {
    /// Replaces the rows of a group by those of the table, which is right where the two differ. Rows keep their
    /// versions, so that later records of the stream apply as usual.
    pub fn reload<'a>(&mut self, key: &Key, rows: impl Iterator<Item = (&'a Key, &'a [Value])>, now: Timestamp) {
        let mut kept: HashMap<Key, Option<Version>> = HashMap::new();
        let group = self.find_group(key);
        let held: Vec<u32> =
            group.and_then(|group| self.groups.get(group)).map(|group| group.rows.iter().collect()).unwrap_or_default();
        for index in held {
            if let Some(row) = self.rows.get(index) {
                kept.insert(row.pk().into_owned(), row.version());
            }
            self.take_out(index);
        }
        if let Some(group) = group.and_then(|group| self.groups.get_mut(group)) {
            // The aggregates may be wrong, so they start from no rows.
            group.running = self.program.start();
        }
        for (pk, row) in rows {
            // The row may be held in another group. The database says where it belongs.
            let elsewhere = self.find_row(pk);
            let version = elsewhere.and_then(|row| self.rows.get(row)).and_then(|row| row.version());
            if let Some(left) = elsewhere.and_then(|row| self.take_out(row)) {
                self.exchanged(left, now);
            }
            let version = version.or(kept.get(pk).copied().flatten());
            self.put_in(pk, self.program.parts(row), version, now, None);
        }
        if let Some(group) = self.find_group(key) {
            self.exchanged(group, now);
        }
    }

    /// Evaluates a group after its rows were replaced. No change is named as the cause.
    fn exchanged(&mut self, index: u32, now: Timestamp) {
        let now = match self.time {
            Time::Processing => now,
            Time::Event => self.groups.get(index).map_or(now, |group| group.event_time),
        };
        self.evict(index, now);
        self.schedule(index, now);
        if let Some(group) = self.groups.get_mut(index) {
            let evaluation = self.program.evaluate(&group.running, &group.edges);
            if evaluation != group.evaluation {
                (group.evaluation, group.since, group.reason) = (evaluation, None, Reason::Healed);
            }
        }
        self.list(index);
        if self.time == Time::Event {
            let transition = self.evaluate_now(index);
            self.transitions.extend(transition);
        }
    }

    /// Stores a row as the table has it. The row keeps its version, so that later records of the stream apply as usual.
    pub fn load(&mut self, pk: &Key, row: &[Value], now: Timestamp) {
        let held = self.find_row(pk);
        let version = held.and_then(|row| self.rows.get(row)).and_then(|row| row.version());
        let left = held.and_then(|row| self.take_out(row));
        let joined = self.put_in(pk, self.program.parts(row), version, now, None);
        for group in left.into_iter().filter(|left| joined != Some(*left)).chain(joined) {
            self.exchanged(group, now);
        }
    }

    /// Whether one of these rows may belong to a group: it is held there, or is not held at all.
    pub fn may_have_any<'a>(&self, key: &Key, mut pks: impl Iterator<Item = &'a Key>) -> bool {
        let group = self.find_group(key);
        let group_of = |pk| self.find_row(pk).and_then(|row| self.rows.get(row)).map(|row| row.group());
        pks.any(|pk| group_of(pk).is_none_or(|held| Some(held) == group))
    }

    /// Whether a change was written before the truncate.
    pub(super) fn is_truncated(&self, version: Version) -> bool {
        self.floor.is_some_and(|floor| version.lsn() < floor) && !planted::bug("truncate-floor-ignored")
    }

    /// Whether an incremental snapshot may have read a row that a truncate has removed. Such a read has no position,
    /// and the two records may be in different partitions. `held`: the version of the previous row.
    pub(super) fn may_be_truncated(&self, change: &Change, held: Option<Version>) -> bool {
        let has_position = change.lsn.is_some() || held.is_some();
        change.op == Op::Read && !has_position && self.floor.is_some() && self.deleted.is_some()
    }

    /// Whether the table was read after a change had been written. If the table did not have the row then, although the
    /// row is inside of the window, it was deleted or truncated. The record of that may already have been read from
    /// another partition.
    pub(super) fn is_older_than_table(&self, version: Version) -> bool {
        self.deleted.is_some() && self.loaded_at.is_some_and(|at| version.lsn() <= at)
    }

    /// Forgets the versions of all rows, and what was deleted or truncated.
    pub fn forget_versions(&mut self) {
        (self.floor, self.loaded_at) = (None, None);
        if let Some(deleted) = &mut self.deleted {
            deleted.clear();
        }
        self.rows.forget_versions();
    }

    /// Records that rows were loaded from the table, which was read after this WAL position.
    pub fn loaded(&mut self, at: Lsn) {
        self.loaded_at = self.loaded_at.max(Some(at));
    }

    /// Takes the rows that have to be read from the table, each once.
    pub fn take_in_doubt(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.in_doubt)
    }

    /// Removes a row that the table no longer has.
    pub fn remove(&mut self, pk: &Key, now: Timestamp) {
        if let Some(left) = self.find_row(pk).and_then(|row| self.take_out(row)) {
            self.exchanged(left, now);
        }
    }

    /// Applies a truncate: removes everything that was written before it. Rows of other partitions may be newer.
    pub(super) fn truncate(&mut self, change: &Change, position: Position, now: Timestamp) {
        self.floor = self.floor.max(change.lsn);
        if let Some(tx_id) = change.tx_id {
            self.truncates.push(tx_id, self.seen.as_ref());
        }
        let (floor, loaded_at) = (change.lsn, self.loaded_at);
        let from_table =
            |floor| loaded_at.is_some_and(|loaded_at| floor <= loaded_at) && !planted::bug("table-watermark-ignored");
        let mut gone = Vec::new();
        for (index, row) in self.rows.iter() {
            match (row.version(), floor) {
                (Some(version), Some(floor)) if version.lsn() > floor => {}
                (None, Some(floor)) if from_table(floor) => {}
                // An incremental snapshot read it, from another partition, before the truncate or after it.
                (None, Some(_)) if self.deleted.is_some() => self.in_doubt.push(row.pk().into_owned()),
                _ => gone.push(index),
            }
        }
        let groups: BTreeSet<u32> = gone.into_iter().filter_map(|index| self.take_out(index)).collect();
        for index in groups {
            self.settle(index, now, change.tx_id, &|| Trigger::new(change, position, None));
        }
    }
}
