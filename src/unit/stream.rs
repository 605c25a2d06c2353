//! Applying changes: each goes to the rules that read its table.

use super::{RuleState, Unit};
use crate::change::{Change, Op};
use crate::model::{Lsn, NextOffset, Position, Timestamp};
use crate::progress::Offsets;
use crate::rule::Query;
use crate::rule::evaluate::Program;
use crate::rule::watched::Watched;
use crate::window::Applied;

/// Returns the program that takes a query's values from the changes of these tables.
///
/// # Errors
/// A column comes from no decoder.
pub(super) fn program(query: &Query, tables: &[Watched]) -> Result<Program, String> {
    let wanted = |place: usize| {
        let table = tables.iter().find(|table| table.place_in(query) == Some(place));
        table.map(|table| table.wanted.as_slice()).unwrap_or_default()
    };
    let mut program = Program::new(query, wanted(0))?;
    for (place, other) in query.text.iter().flat_map(|text| text.others.iter().enumerate()) {
        program = program.touching(&other.table, &other.touches, wanted(place + 1))?;
    }
    Ok(program)
}

impl RuleState {
    /// Returns the role of the table for the rule.
    pub(super) fn place_of(&self, table: usize) -> Option<usize> {
        self.places.get(table).copied().flatten()
    }
}

impl Unit {
    /// Applies a record's change of the only table to every rule's window.
    pub fn apply(&mut self, change: &Change, position: Position, now: Timestamp) {
        self.apply_of(0, change, position, now);
    }

    /// Applies a record's change of the table at this place to the windows of the rules that read it.
    pub fn apply_of(&mut self, table: usize, change: &Change, position: Position, now: Timestamp) {
        if let Some(lsn) = change.lsn.filter(|_| change.op != Op::Read) {
            let newest = self.streamed_in.entry(position.partition).or_insert(lsn);
            *newest = lsn.max(*newest);
        }
        let Some(lookups) = self.lookups.get_mut(table) else { return };
        let mut applied = Applied::Stale;
        for state in &mut self.rules {
            let Some(place) = state.place_of(table) else { continue };
            applied = applied.max(state.window.apply_of(place, change, position, now));
            if change.op == Op::Truncate {
                state.window.take_in_doubt().iter().for_each(|pk| lookups.add(pk));
            }
        }
        match (applied, &change.pk) {
            (Applied::Stale, _) => tracing::trace!(?position, "duplicate of a newer version"),
            (Applied::Incomplete, Some(pk)) => lookups.add(pk),
            (Applied::Taken, Some(pk)) => lookups.settle(pk),
            (Applied::Taken | Applied::Incomplete, None) => {}
        }
    }

    /// Returns the WAL position up to which the stream has been read in all partitions. A partition has everything up
    /// to its newest change.
    pub(super) fn streamed(&self) -> Lsn {
        let in_each = self.offsets.keys().map(|partition| self.streamed_in.get(partition).copied());
        in_each.min().flatten().unwrap_or(Lsn(0))
    }

    /// Whether a change is a snapshot read from another server than the partition's earlier changes. The WAL positions
    /// of a server only grow, and a snapshot is taken at the newest one. Incremental snapshots have no position.
    pub fn begins_era(&self, change: &Change, position: Position) -> bool {
        if change.op != Op::Read {
            return false;
        }
        let newest = self.streamed_in.get(&position.partition);
        change.lsn.zip(newest.copied()).is_some_and(|(read, newest)| read < newest)
    }

    /// Forgets the versions of rows, because the changes from here on are from another server.
    pub fn begin_era(&mut self) {
        self.streamed_in.clear();
        for state in &mut self.rules {
            state.window.forget_versions();
        }
    }

    /// Sets offsets as done without reading the records before them.
    pub fn skip_to(&mut self, offsets: &Offsets) {
        self.offsets.extend(offsets.iter().map(|(partition, next)| (*partition, *next)));
    }

    /// Starts or stops remembering deleted rows: see [`crate::window::Window::remember_deletes`].
    pub fn remember_deletes(&mut self, remember: bool) {
        for state in &mut self.rules {
            state.window.remember_deletes(remember);
        }
    }

    /// Notes that the record before this offset has been taken.
    pub fn advance(&mut self, partition: i32, next: NextOffset) {
        let held = self.offsets.entry(partition).or_insert(next);
        *held = (*held).max(next);
    }
}
