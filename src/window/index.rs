//! Rows by primary key and groups by key.

use std::hash::BuildHasher;

use super::unseen::Unseen;
use super::{Group, Row, Rows, Window};
use crate::episode::Reason;
use crate::model::{Key, Timestamp};
use crate::rule::evaluate::Evaluation;

impl Window {
    pub(super) fn index_row(&mut self, index: u32) {
        let (rows, hasher) = (&self.rows, &self.hasher);
        let hash = |index: &u32| rows.get(*index).map_or(0, |row| hasher.hash_one(&row.pk));
        self.by_pk.insert_unique(hash(&index), index, hash);
    }

    pub(super) fn forget(&mut self, index: u32) -> Option<Row> {
        let row = self.rows.remove(index)?;
        if let Ok(entry) = self.by_pk.find_entry(self.hasher.hash_one(&row.pk), |other| *other == index) {
            entry.remove();
        }
        Some(row)
    }

    #[inline]
    pub(super) fn find_row(&self, pk: &Key) -> Option<u32> {
        let same = |index: &u32| self.rows.get(*index).is_some_and(|row| row.pk == *pk);
        self.by_pk.find(self.hasher.hash_one(pk), same).copied()
    }

    #[inline]
    pub(super) fn find_group(&self, key: &Key) -> Option<u32> {
        let same = |index: &u32| self.groups.get(*index).is_some_and(|group| group.key == *key);
        self.by_key.find(self.hasher.hash_one(key), same).copied()
    }

    pub(super) fn group_for(&mut self, key: Key) -> Option<u32> {
        if let Some(group) = self.find_group(&key) {
            return Some(group);
        }
        let hash = self.hasher.hash_one(&key);
        let index = self.groups.insert(Group {
            key,
            rows: Rows::default(),
            edges: self.program.first_edges(),
            running: self.program.start(),
            event_time: Timestamp::MIN,
            evaluation: Evaluation::Fails,
            evaluated: Evaluation::Fails,
            since: None,
            reason: Reason::Time,
            touched: false,
            watched: false,
            edge: None,
            unseen: Unseen::default(),
        })?;
        let (groups, hasher) = (&self.groups, &self.hasher);
        self.by_key.insert_unique(hash, index, |other| groups.get(*other).map_or(0, |g| hasher.hash_one(&g.key)));
        Some(index)
    }
}
