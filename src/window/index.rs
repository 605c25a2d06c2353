//! Look-up of rows by primary key, and of groups by key.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::unseen::Unseen;
use super::{Group, Rows, Window};
use crate::episode::Reason;
use crate::model::{Key, Timestamp};
use crate::rule::evaluate::Evaluation;

/// The number of parts of an index. A full part doubles by itself, so growth never needs the whole index twice.
const PARTS: usize = 64;
/// The lowest bit of a hash that chooses the part. The tables use the lowest and the highest bits.
const PART_SHIFT: u32 = 40;

/// Rows or groups by the hashes of their keys. An entry holds only the index, in four bytes.
#[derive(Debug)]
pub(super) struct Index(Box<[HashTable<u32>]>);

impl Index {
    pub(super) fn new() -> Self {
        Self((0..PARTS).map(|_| HashTable::new()).collect())
    }

    fn part(hash: u64) -> usize {
        usize::try_from(hash >> PART_SHIFT).unwrap_or(0) % PARTS
    }

    /// Returns the entry with this hash for which `is_meant` is true.
    #[inline]
    fn find(&self, hash: u64, is_meant: impl Fn(u32) -> bool) -> Option<u32> {
        self.0.get(Self::part(hash))?.find(hash, |index| is_meant(*index)).copied()
    }

    /// Adds an entry that is not there yet. `hash_of` returns the hash of an existing entry.
    fn insert(&mut self, hash: u64, index: u32, hash_of: impl Fn(u32) -> u64) {
        if let Some(part) = self.0.get_mut(Self::part(hash)) {
            part.insert_unique(hash, index, |index| hash_of(*index));
        }
    }

    pub(super) fn remove(&mut self, hash: u64, index: u32) {
        let part = self.0.get_mut(Self::part(hash));
        if let Some(Ok(entry)) = part.map(|part| part.find_entry(hash, |other| *other == index)) {
            entry.remove();
        }
    }
}

impl Window {
    pub(super) fn index_row(&mut self, index: u32) {
        let (rows, hasher) = (&self.rows, &self.hasher);
        let hash_of = |index: u32| rows.get(index).map_or(0, |row| hasher.hash_one(&*row.pk()));
        self.by_pk.insert(hash_of(index), index, hash_of);
    }

    /// Removes a row from the store and the index. The caller removes it from its group.
    pub(super) fn forget(&mut self, index: u32) {
        if let Some(row) = self.rows.get(index) {
            self.by_pk.remove(self.hasher.hash_one(&*row.pk()), index);
            self.rows.remove(index);
        }
    }

    #[inline]
    pub(super) fn find_row(&self, pk: &Key) -> Option<u32> {
        let is_same = |index: u32| self.rows.get(index).is_some_and(|row| row.has_pk(pk));
        self.by_pk.find(self.hasher.hash_one(pk), is_same)
    }

    #[inline]
    pub(super) fn find_group(&self, key: &Key) -> Option<u32> {
        let is_same = |index: u32| self.groups.get(index).is_some_and(|group| group.key == *key);
        self.by_key.find(self.hasher.hash_one(key), is_same)
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
        self.by_key.insert(hash, index, |other| groups.get(other).map_or(0, |group| hasher.hash_one(&group.key)));
        Some(index)
    }
}
