//! What statements have seen of the database. Their answers come back in any order: one that was asked for earlier, and shows
//! less, may come later. So what a window remembers of transactions is forgotten only once every statement under way shows them.

use super::Unit;
use crate::snapshot::Snapshot;

/// The newest snapshots of statements.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of those that have come since the mark.
    newest: Option<Snapshot>,
    /// Of those that had come by then: statements that are older may still be under way.
    marked: Option<Snapshot>,
}

impl Seen {
    /// A statement has seen this much of the database.
    pub(super) fn saw(&mut self, snapshot: &Snapshot) {
        if self.newest.as_ref().is_none_or(|newest| snapshot.is_newer_than(newest)) {
            self.newest = Some(snapshot.clone());
        }
    }
}

impl Unit {
    /// A statement has seen this much of the database.
    pub fn saw(&mut self, snapshot: &Snapshot) {
        self.seen.saw(snapshot);
    }

    /// All statements that were under way when this was last called are answered: what had been seen by then, all that are under
    /// way now show as well.
    pub fn statements_have_passed(&mut self) {
        if let Some(marked) = std::mem::replace(&mut self.seen.marked, self.seen.newest.take()) {
            self.rules.iter_mut().for_each(|state| state.window.saw(&marked));
        }
    }
}
