//! Rows of which the stream lacks values. They are read from the table by their primary keys. Pure.

use std::collections::BTreeSet;

use crate::model::{Key, Timestamp};

/// The wait after a failure.
const AGAIN_AFTER_MICROS: i64 = 1_000_000;

/// The primary keys of rows to read from the table.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    waiting: BTreeSet<Key>,
    asking: BTreeSet<Key>,
    /// Whether a statement is under way. This may be the case even if the stream has brought all its rows meanwhile.
    is_asking: bool,
    not_before: Option<Timestamp>,
}

impl Lookups {
    /// Adds a row to read.
    pub(super) fn add(&mut self, pk: &Key) {
        // An answer under way may be older than the record that has just come.
        self.asking.remove(pk);
        self.waiting.insert(pk.clone());
    }

    /// Removes a row, because the stream has brought all of its values.
    pub(super) fn settle(&mut self, pk: &Key) {
        if !self.waiting.is_empty() || !self.asking.is_empty() {
            self.waiting.remove(pk);
            self.asking.remove(pk);
        }
    }

    /// The number of rows to read.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.asking.len()
    }

    /// Returns up to `limit` rows to read now, or none while a statement is under way.
    pub(super) fn next(&mut self, now: Timestamp, limit: usize) -> Vec<Key> {
        if self.is_asking || self.not_before.is_some_and(|at| now < at) {
            return Vec::new();
        }
        let next: Vec<Key> = self.waiting.iter().take(limit).cloned().collect();
        self.is_asking = !next.is_empty();
        for pk in &next {
            self.waiting.remove(pk);
            self.asking.insert(pk.clone());
        }
        next
    }

    /// Takes the keys of the statement that was answered, without those for which a record has come meanwhile.
    pub(super) fn answered(&mut self) -> BTreeSet<Key> {
        (self.not_before, self.is_asking) = (None, false);
        std::mem::take(&mut self.asking)
    }

    /// Notes that there was no answer.
    pub(super) fn failed(&mut self, now: Timestamp) {
        self.is_asking = false;
        self.waiting.append(&mut self.asking);
        self.not_before = Some(Timestamp(now.0.saturating_add(AGAIN_AFTER_MICROS)));
    }

    /// All keys in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.waiting.union(&self.asking)
    }
}

impl FromIterator<Key> for Lookups {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        Self { waiting: keys.into_iter().collect(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_only_for_rows_that_have_not_changed_since() {
        let mut lookups = Lookups::default();
        (1..=3).for_each(|pk| lookups.add(&Key::Int(pk)));
        assert_eq!(lookups.next(Timestamp(0), 2), [Key::Int(1), Key::Int(2)]);
        assert_eq!(lookups.next(Timestamp(0), 2), [], "one statement at a time");
        lookups.settle(&Key::Int(1));
        lookups.add(&Key::Int(2));
        assert_eq!(lookups.answered(), BTreeSet::new());
        assert_eq!(lookups.next(Timestamp(0), 9), [Key::Int(2), Key::Int(3)]);
        // An answer belongs to its own question, so no other one is asked before it has come.
        lookups.settle(&Key::Int(2));
        lookups.settle(&Key::Int(3));
        lookups.add(&Key::Int(4));
        assert_eq!(lookups.next(Timestamp(0), 9), []);
        assert_eq!(lookups.answered(), BTreeSet::new());
        assert_eq!(lookups.next(Timestamp(0), 9), [Key::Int(4)]);
        lookups.add(&Key::Int(2));
        lookups.failed(Timestamp(5));
        assert_eq!((lookups.next(Timestamp(6), 9), lookups.len()), (vec![], 2));
        assert_eq!(lookups.next(Timestamp(1_000_005), 9).len(), 2);
    }
}
