//! Rows exchanged at once: a group's, taken from the table instead of the stream, and all of them, by a truncate.

use std::collections::HashMap;

use super::{Trigger, Version, Window};
use crate::change::Change;
use crate::model::{Key, Position, Timestamp, Value};

impl Window {
    /// Holds these rows of a group instead of its own: the database's word against the stream's. Rows keep the
    /// version that they had, so that what the stream brings later applies as ever.
    pub fn reload<'a>(&mut self, key: &Key, rows: impl Iterator<Item = (&'a Key, &'a [Value])>, now: Timestamp) {
        let mut kept: HashMap<Key, Option<Version>> = HashMap::new();
        let group = self.find_group(key);
        let held: Vec<u32> = group
            .and_then(|group| self.groups.get(group))
            .map(|group| group.rows.iter().map(|(_, row)| *row).collect())
            .unwrap_or_default();
        for index in held {
            if let Some(row) = self.rows.get(index) {
                kept.insert(row.pk.clone(), row.version);
            }
            self.take_out(index);
        }
        for (pk, row) in rows {
            // It may stand in another group: the database says where it belongs.
            let elsewhere = self.find_row(pk);
            let version = elsewhere.and_then(|row| self.rows.get(row)).and_then(|row| row.version);
            if let Some(left) = elsewhere.and_then(|row| self.take_out(row)) {
                self.list(left);
            }
            let version = version.or(kept.get(pk).copied().flatten());
            self.put_in(pk, row, version, now, None);
        }
        if let Some(group) = self.find_group(key) {
            self.schedule(group);
            self.list(group);
        }
    }

    /// Holds a row as the table has it. It keeps the version that it had, so that what the stream brings later applies as
    /// ever.
    pub fn load(&mut self, pk: &Key, row: &[Value], now: Timestamp) {
        let held = self.find_row(pk);
        let version = held.and_then(|row| self.rows.get(row)).and_then(|row| row.version);
        if let Some(left) = held.and_then(|row| self.take_out(row)) {
            self.list(left);
        }
        if let Some(group) = self.put_in(pk, row, version, now, None) {
            self.schedule(group);
            self.list(group);
        }
    }

    /// Everything is gone: a truncate.
    pub(super) fn truncate(&mut self, change: &Change, position: Position, now: Timestamp) {
        self.floor = self.floor.max(change.lsn);
        self.rows.clear();
        self.by_pk.clear();
        let groups: Vec<u32> = self.groups.iter().map(|(group, _)| group).collect();
        for index in groups {
            if let Some(group) = self.groups.get_mut(index) {
                group.rows.clear();
                group.running = self.program.start();
            }
            self.settle(index, now, change.tx_id, &|| Trigger::new(change, position, None));
        }
    }
}
