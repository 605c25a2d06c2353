//! The snapshots that statements have seen. Answers come back in any order, so an older answer, which shows less, may
//! come later. A window therefore forgets transactions only when every statement under way shows them.

use super::Unit;
use crate::snapshot::Snapshot;

/// The newest snapshots of statements.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The newest snapshot since the mark.
    newest: Option<Snapshot>,
    /// The newest snapshot before the mark. Older statements may still be under way.
    marked: Option<Snapshot>,
}

impl Seen {
    /// Notes a snapshot that a statement has seen.
    pub(super) fn saw(&mut self, snapshot: &Snapshot) {
        if self.newest.as_ref().is_none_or(|newest| snapshot.is_newer_than(newest)) {
            self.newest = Some(snapshot.clone());
        }
    }
}

impl Unit {
    /// Notes a snapshot that a statement has seen.
    pub fn saw(&mut self, snapshot: &Snapshot) {
        self.seen.saw(snapshot);
    }

    /// Notes that all statements which were under way at the last call are answered. Every statement that is under way
    /// now shows what had been seen by then.
    pub fn statements_have_passed(&mut self) {
        if let Some(marked) = std::mem::replace(&mut self.seen.marked, self.seen.newest.take()) {
            self.rules.iter_mut().for_each(|state| state.window.saw(&marked));
        }
    }
}
